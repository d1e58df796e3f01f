package harness

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// Program is one of the programs that use this package.
type Program struct {
	Name string
	// Do does what the program is for. Its context ends at an interrupt.
	Do func(ctx context.Context, args []string, stdout io.Writer) error
}

// Main runs the program with the process's arguments and ends the process.
func (p Program) Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := p.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Run runs the program and returns its exit code: 0 when all went well and after
// --help, 2 for a mistake in the flags, and 1 otherwise.
func (p Program) Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := p.Do(ctx, args, stdout)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case isUsage(err):
		fmt.Fprintf(stderr, "%s: %v\nSee --help.\n", p.Name, err)
		return 2
	case ctx.Err() != nil:
		err = errors.New("interrupted")
	}
	fmt.Fprintf(stderr, "\n%s: %v\n", p.Name, err)
	return 1
}

// Usagef returns an error that is a mistake of the one who called the program.
func Usagef(format string, args ...any) error { return usage{fmt.Errorf(format, args...)} }

type usage struct{ error }

func isUsage(err error) bool {
	_, ok := errors.AsType[usage](err)
	return ok
}

// ParseFlags parses arguments that are flags and nothing else. --help prints what
// the program is about and its flags to stdout and returns [flag.ErrHelp]; every
// other error is a mistake of the caller, to be reported by [Program.Run].
func ParseFlags(fs *flag.FlagSet, about string, args []string, stdout io.Writer) error {
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		help(fs, about, stdout)
		return err
	case err != nil:
		if name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); unknown {
			return Usagef("there is no flag --%s", strings.TrimPrefix(name, "-"))
		}
		return usage{err}
	case fs.NArg() > 0:
		return Usagef("%q is not a flag: this program takes flags only", fs.Arg(0))
	}
	return nil
}

func help(fs *flag.FlagSet, about string, to io.Writer) {
	fmt.Fprintf(to, "Usage: go run ./%s [flags]\n\n%s\n\nFlags:\n", fs.Name(), about)
	fs.VisitAll(func(f *flag.Flag) {
		value, text := flag.UnquoteUsage(f)
		name := "--" + f.Name
		if value != "" {
			name += " " + strings.ToUpper(value)
		}
		fmt.Fprintf(to, "  %s\n        %s", name, text)
		if !slices.Contains([]string{"", "false", "0", "0s"}, f.DefValue) && !strings.Contains(text, "(default") {
			fmt.Fprintf(to, " (default %s)", f.DefValue)
		}
		fmt.Fprintln(to)
	})
}
