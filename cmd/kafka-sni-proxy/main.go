// Kafka-sni-proxy lets Kafka clients reach a cluster that speaks TLS through
// one port: the name that a client asks for in the TLS handshake says which
// broker it wants. Run it with --help for its flags.
//
// The files of this package follow the start of the program: flags.go (the
// command line and the environment), then either generate.go (--generate-certs),
// saveca.go (--save-upstream-ca) or wiring.go with listen.go, tls.go, dial.go and routes.go (everything checked
// and made ready), serve.go (until a signal), with reload.go (files that change),
// admin.go (metrics and health) and systemd.go in the background; handover.go and
// handover_unix.go have another process go on. hints.go says what to do about
// failures, in terms of flags. check.go, healthcheck.go and ask.go (status, routes, sessions,
// top), passwd.go are commands of their own; adminport.go says where they ask; help.go has the topics of
// --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// The exit codes; --help documents them.
const (
	exitOK      = 0
	exitRuntime = 1
	exitUsage   = 2
)

// run is the program. It ends when its work is done, on a signal, or, as if by
// the first signal, when ctx ends; and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	args, wrong := siftCommand(args)
	if args == nil && wrong != nil {
		fmt.Fprint(stderr, wrong.report())
		return exitUsage
	}
	cmd := newCommand(wrong, stdout, stderr)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)

	var usage usageErrors
	switch {
	case err == nil:
		return exitOK
	case err == errWarned, err == errWouldFail, err == errWrong:
		return exitRuntime
	case errors.As(err, &usage):
		fmt.Fprint(stderr, usage.report())
		return exitUsage
	default:
		fmt.Fprintf(stderr, "kafka-sni-proxy: %v\n", err)
		return exitRuntime
	}
}

// siftCommand reads the command line of the program, or of one of its commands that have
// flags: see siftArgs.
func siftCommand(args []string) ([]string, usageErrors) {
	if len(args) == 0 {
		return siftArgs(args, startFlags())
	}
	var known *pflag.FlagSet
	switch args[0] {
	case "check":
		known = newCheckFlags().flagSet()
	case "healthcheck":
		known = newHealthFlags().flagSet()
	case "passwd":
		good, words, wrong := siftWords(args[1:], new(passwdFlags).flagSet())
		return slices.Concat(args[:1], good, []string{"--"}, words), wrong
	default:
		if c := findAsking(args[0]); c != nil {
			_, known = c.new()
			break
		}
		if slices.Contains(slices.Concat(commands, internalCommands), args[0]) {
			return args, nil
		}
		return siftArgs(args, startFlags())
	}
	rest, wrong := siftArgs(args[1:], known)
	if rest == nil && wrong != nil {
		return nil, wrong
	}
	return append(args[:1:1], rest...), wrong
}

// newCommand returns the program as a command. wrong is what siftArgs has found.
func newCommand(wrong usageErrors, stdout, stderr io.Writer) *cobra.Command {
	f := newFlags()
	f.errors = wrong
	cmd := &cobra.Command{
		Use:   "kafka-sni-proxy --sni-suffix domain --upstream host:port [flags]",
		Short: "Reach a Kafka cluster that speaks TLS through one port",
		Long: `Kafka-sni-proxy stands between Kafka clients and a cluster that speaks TLS.
Clients connect with TLS to one port; the name they ask for in the handshake
(SNI) says which broker they want. Clients bootstrap from bootstrap.<suffix>
and see the brokers as b0.<suffix>, b1.<suffix> and so on: let all of them
(*.<suffix>) resolve to the machine this program runs on.`,
		Example: `  kafka-sni-proxy --sni-suffix kafka.example.com --generate-certs
  kafka-sni-proxy --sni-suffix kafka.example.com --upstream lkc-abcde.confluent.cloud:9092`,
		Args:                  cobra.ArbitraryArgs, // siftArgs has refused those that belong to no flag
		SilenceErrors:         true,                // run reports them
		SilenceUsage:          true,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, words []string) error {
			if show, _ := cmd.Flags().GetBool("version"); show {
				_, err := fmt.Fprintln(stdout, "kafka-sni-proxy", versionText())
				return err
			}
			f.readEnvironment(cmd.Flags(), os.Environ())
			f.checkFlagsWithConfig(cmd.Flags())
			switch {
			case cmd.Flags().Changed(saveUpstreamCA):
				return saveAuthority(cmd.Context(), f, words, os.Stdin, stdout, stderr)
			case f.generateCerts:
				return generate(f, stdout)
			}
			return start(cmd.Context(), f, stdout, stderr)
		},
	}
	f.define(cmd.Flags())
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.SetHelpCommand(&cobra.Command{Hidden: true, Use: "no-help"}) // --help is enough
	cmd.AddCommand(newCheckCommand(wrong, stdout, stderr), newCompletion(stdout), newConfigCommand(stdout, stderr), newHealthcheckCommand(wrong, stdout),
		newPasswdCommand(wrong, os.Stdin, stdout, stderr))
	for i := range askings {
		cmd.AddCommand(newAskCommand(&askings[i], wrong, stdout, stderr))
	}
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageErrors{err} })
	// Not as templates: those would link a quarter more into the program, and
	// keep it resident.
	cmd.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		if c := findAsking(cmd.Name()); c != nil {
			io.WriteString(stdout, c.help())
			return
		}
		if cmd.HasParent() {
			io.WriteString(stdout, map[string]string{"check": checkHelp(), "completion": completionHelp, "config": configHelp, "healthcheck": healthHelp(), "passwd": passwdHelp()}[cmd.Name()])
			return
		}
		fmt.Fprintf(stdout, "%s\n\nUsage:\n  %s\n  kafka-sni-proxy --config FILE\n  kafka-sni-proxy --save-upstream-ca HOST:PORT FILE [--yes]\n  kafka-sni-proxy COMMAND\n\nExamples:\n%s\n\n%s\n%s%s",
			cmd.Long, cmd.UseLine(), cmd.Example, commandHelp, flagHelp(cmd.LocalFlags()), helpEnd)
	})
	return cmd
}

const commandHelp = `Commands:
  check FLAGS                  try what these flags, or --config FILE, would do, and say what would not work
  check --as-client HOST:PORT  go the way of a client, through a proxy that runs
  healthcheck                  ask the proxy that runs on this machine whether it is well
  status                       ask it how it is: what is wrong first, load, clusters, certificates, failures
  routes                       ask it where brokers are, and whether they can be reached
  sessions                     ask it for the connections of clients
  top                          watch it live
  support-bundle               gather what a report of a bug needs into one file
  config check FILE            say what is wrong with a configuration file, or what would be served
  config show FILE             print what is in force: defaults filled in, secrets as ***
  config from-flags FLAGS      print the file that means the same as these flags
  passwd FILE USER             set the password with which a user logs in at the proxy
  completion bash|zsh|fish     print a script for a shell's completion
  Each has a --help of its own.
`

const helpEnd = `Environment:
  Each flag but --help, --version, --save-upstream-ca and --yes is also read from a variable:
  KAFKA_SNI_PROXY_ and its name in capitals, with underscores. For example,
  KAFKA_SNI_PROXY_SNI_SUFFIX=kafka.example.com is --sni-suffix kafka.example.com. The flag wins; an empty variable counts as not set. NO_COLOR turns
  the colours of reports on a terminal off.

Signals:
  SIGTERM, SIGINT   accept no new connections, wait for requests in flight, and exit;
                    a second signal, or the end of --drain-timeout, exits at once
  SIGHUP            read the configuration file, certificates, authorities, revocation lists and hosts
                    files again, as also happens when they change; connections go on, new ones use
                    what is new; open the access log anew
  SIGUSR2           start the program anew, with the same flags, and hand its ports over; connections are
                    closed one by one over half of --drain-timeout

Exit codes:
  0   done: certificates written, an authority saved, or ended by a signal with every request answered
  1   runtime error, or ended by force with requests in flight; of config check: there are warnings;
      of check: something would not work; of healthcheck: it is not well; of status, routes, sessions
      and top: no answer; of passwd: nothing was written; of --save-upstream-ca: nothing was written,
      or the proxy would refuse the broker with what is in the file
  2   usage: an error in the flags, the environment or the files they name; nothing was started

All that there is to say of each flag: man kafka-sni-proxy, docs/flags.md
`

// version is set by "make build". Without it, what the Go tool knows of the
// source is shown.
var version string

// versionOnly is the version without that of Go.
func versionOnly() string {
	v, _, _ := strings.Cut(versionText(), " ")
	return v
}

func versionText() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version
	}
	v := version
	if v == "" {
		v = info.Main.Version
	}
	return v + " (" + info.GoVersion + ")"
}

// usageErrors is all that is wrong with a configuration, each with what to do.
type usageErrors []error

func (e usageErrors) Error() string { return errors.Join(e...).Error() }

// add notes what is wrong with a setting; err may join several errors.
func (e *usageErrors) add(path string, err error) {
	e.addAs(flagName(path), err)
}

// addAs is add for several flags.
func (e *usageErrors) addAs(flags string, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		*e = append(*e, fmt.Errorf("%s: %s", flags, line))
	}
}

// firstLines is all that is wrong, for a log.
func (e usageErrors) firstLines() (all usageErrors) {
	for _, err := range e {
		all = append(all, errors.New(firstLine(err.Error())))
	}
	return all
}

// report is what the user gets to see.
func (e usageErrors) report() string {
	var b strings.Builder
	if len(e) == 1 {
		fmt.Fprintf(&b, "kafka-sni-proxy: %v\n", e[0])
	} else {
		fmt.Fprintf(&b, "kafka-sni-proxy: %d mistakes in the configuration:\n", len(e))
		for _, err := range e {
			fmt.Fprintf(&b, "  - %v\n", err)
		}
	}
	b.WriteString("Nothing was started. All flags: kafka-sni-proxy --help\n")
	return b.String()
}
