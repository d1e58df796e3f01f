package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"kafka-sni-proxy/internal/config"
	"kafka-sni-proxy/internal/suggest"
)

// siftArgs reads a command line the way pflag does, but goes on after an error, so that
// all that is wrong is said at once. It returns the arguments in which nothing is wrong;
// nil, when there is no use in looking at the rest of the configuration.
//
// A flag that is not known is taken for the one that was meant, where that is clear, so
// that nobody is told that the other one is missing.
// known are the flags that there are; values are tried on them.
func siftArgs(args []string, known *pflag.FlagSet) (good []string, wrong usageErrors) {
	if len(args) == 1 && args[0] == "help" {
		return []string{"--help"}, nil
	}
	s := sift(args, known)
	if s.given[saveUpstreamCA] { // the only flag with a word beside it
		return slices.Concat(s.good, []string{"--"}, s.words), s.wrong
	}
	if len(s.words) > 0 {
		s.wrong = append(s.wrong, errWords(s.words, s.known))
	}
	if len(s.words) == len(args) { // somebody has looked for a command: what a start needs is no help
		return nil, s.wrong
	}
	return s.good, s.wrong
}

// siftWords is siftArgs for a command that takes words beside its flags.
func siftWords(args []string, known *pflag.FlagSet) (good, words []string, wrong usageErrors) {
	if len(args) == 1 && args[0] == "help" {
		return []string{"--help"}, nil, nil
	}
	s := sift(args, known)
	return s.good, s.words, s.wrong
}

func sift(args []string, known *pflag.FlagSet) *sifter {
	s := &sifter{good: []string{}, known: known, given: map[string]bool{}}
	for s.rest = args; len(s.rest) > 0; {
		arg := s.rest[0]
		s.rest = s.rest[1:]
		switch {
		case arg == "--":
			s.words = append(s.words, s.rest...)
			s.rest = nil
		case strings.HasPrefix(arg, "--"):
			s.flag(arg[2:])
		case arg == "-h", arg == "-v":
			s.good = append(s.good, arg)
		case len(arg) > 1 && arg[0] == '-':
			s.singleDash(arg)
		default:
			s.words = append(s.words, arg)
		}
	}
	return s
}

type sifter struct {
	known *pflag.FlagSet
	rest  []string // arguments still to be read
	good  []string
	words []string // that belong to no flag
	given map[string]bool
	wrong usageErrors
}

// flag reads a flag that was written with two dashes, and its value.
func (s *sifter) flag(text string) {
	name, value, hasValue := strings.Cut(text, "=")
	flag := s.known.Lookup(name)
	if flag == nil {
		flag = s.meant(name)
		if flag == nil {
			if !hasValue && len(s.rest) > 0 && !strings.HasPrefix(s.rest[0], "-") {
				s.rest = s.rest[1:] // which looks like its value
			}
			return
		}
	}
	switch {
	case hasValue:
	case flag.NoOptDefVal != "": // a switch
		value = flag.NoOptDefVal
	case len(s.rest) == 0:
		s.wrong = append(s.wrong, fmt.Errorf("--%s: needs a value: %s", flag.Name, example(flag)))
		return
	default:
		value, s.rest = s.rest[0], s.rest[1:]
	}
	if s.given[flag.Name] && flag.Value.Type() != "stringSlice" {
		s.wrong = append(s.wrong, fmt.Errorf("--%s: is given twice: leave one of them out", flag.Name))
		return
	}
	s.given[flag.Name] = true
	if err := flag.Value.Set(value); err != nil {
		s.wrong = append(s.wrong, fmt.Errorf("--%s: %w", flag.Name, valueError(flag, value)))
		return
	}
	s.good = append(s.good, "--"+flag.Name+"="+value)
}

// meant notes that a flag is not known, and returns the one that was probably meant.
func (s *sifter) meant(name string) *pflag.Flag {
	near := suggest.To(name)
	s.known.VisitAll(func(f *pflag.Flag) { near.Compare(f.Name) })
	if near.Best() == "" {
		s.wrong = append(s.wrong, fmt.Errorf("--%s: there is no such flag", name))
		return nil
	}
	s.wrong = append(s.wrong, fmt.Errorf("--%s: there is no such flag: did you mean --%s?", name, near.Best()))
	return s.known.Lookup(near.Best())
}

// singleDash reads what begins with one dash and is no shorthand.
func (s *sifter) singleDash(arg string) {
	name, _, _ := strings.Cut(arg[1:], "=")
	if flag := s.known.Lookup(name); flag != nil {
		s.wrong = append(s.wrong, fmt.Errorf("%s: flags are written with two dashes: --%s", arg, name))
		s.flag(arg[1:])
		return
	}
	s.wrong = append(s.wrong, fmt.Errorf("%s: there is no such flag: the short ones are -h for --help and -v for --version", arg))
}

// errWords is of arguments that belong to no flag.
func errWords(words []string, known *pflag.FlagSet) error {
	near := suggest.To(words[0])
	for _, command := range commands {
		near.Compare(command)
	}
	text := fmt.Sprintf("%q: there is no such command, and no flag before it", strings.Join(words, " "))
	known.VisitAll(func(f *pflag.Flag) { near.Compare(f.Name) })
	switch best := near.Best(); {
	case slices.Contains(commands, best):
		return fmt.Errorf("%s: did you mean kafka-sni-proxy %s?", text, best)
	case best != "":
		return fmt.Errorf("%s: did you mean --%s?", text, best)
	}
	return errors.New(text + ": values that contain spaces want quotes")
}

// valueError says why a value is not one for a flag.
func valueError(flag *pflag.Flag, value string) error {
	switch flag.Value.Type() {
	case "duration":
		_, err := config.ParseDuration(value)
		return err
	case "int", "int64":
		return fmt.Errorf("%q is not a whole number", value)
	case "bool":
		return fmt.Errorf("%q is neither true nor false: leave the value out for true", value)
	}
	return fmt.Errorf("%q is not a %s", value, flag.Value.Type())
}

// example says what a flag's value looks like.
func example(flag *pflag.Flag) string {
	what, _ := pflag.UnquoteUsage(flag)
	if flag.Value.Type() == "duration" {
		return "a time, such as 30s"
	}
	return "--" + flag.Name + " " + what
}
