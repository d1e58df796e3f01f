package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"kafka-sni-proxy/internal/config"
	"kafka-sni-proxy/internal/suggest"
)

const configHelp = `Work with configuration files: --config FILE starts the proxy with one.

Usage:
  kafka-sni-proxy config check FILE        say what is wrong with a file, or what would be served
  kafka-sni-proxy config show FILE         print what is in force: defaults filled in, secrets as ***
  kafka-sni-proxy config from-flags FLAGS  print the file that means the same as these flags

Examples:
` + configExample + `

A FILE of - is standard input. Variables in the file (${VAR}) are those of the environment.

Exit codes of check:
  0   the proxy would start with this file
  1   nothing is wrong with the file, but there are warnings, or files that it names cannot be
      used on this machine
  2   the file is wrong, or cannot be read
`

const configExample = `  kafka-sni-proxy config check proxy.yaml
  kafka-sni-proxy config show proxy.yaml
  kafka-sni-proxy config from-flags --sni-suffix kafka.example --upstream lkc-abcde.confluent.cloud:9092 > proxy.yaml`

var configCommands = []string{"check", "show", "from-flags"}

// warned is the error of a check that has found nothing wrong, and has warned.
var errWarned = errors.New("there are warnings")

func newConfigCommand(stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:       "config check|show|from-flags",
		Short:     "Check or show a configuration file, or make one of flags",
		ValidArgs: configCommands,
		Args:      cobra.ArbitraryArgs,
		// The flags are those of the start, and read by from-flags itself.
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] == "help" || slices.Contains(args, "--help") || slices.Contains(args, "-h") {
				_, err := io.WriteString(stdout, configHelp)
				return err
			}
			switch args[0] {
			case "check":
				return withFile(args, func(path string) error { return checkConfig(path, stdout, stderr) })
			case "show":
				return withFile(args, func(path string) error { return showConfig(path, stdout) })
			case "from-flags":
				return configFromFlags(args[1:], stdout)
			}
			near := suggest.To(args[0])
			for _, c := range configCommands {
				near.Compare(c)
			}
			if best := near.Best(); best != "" {
				return usageErrors{fmt.Errorf("config %s: there is no such command: did you mean config %s?", args[0], best)}
			}
			return usageErrors{fmt.Errorf("config %s: there is no such command: there are check, show and from-flags", args[0])}
		},
	}
	return cmd
}

// withFile calls f with the only argument of a command.
func withFile(args []string, f func(path string) error) error {
	switch {
	case len(args) == 1:
		return usageErrors{fmt.Errorf("config %s: needs a FILE, or - for standard input", args[0])}
	case len(args) > 2:
		return usageErrors{fmt.Errorf("config %s: takes one FILE, not %q", args[0], args[1:])}
	case strings.HasPrefix(args[1], "--"):
		return usageErrors{fmt.Errorf("config %s: %s: takes a FILE and no flags", args[0], args[1])}
	}
	return f(args[1])
}

// checkConfig says what is wrong with a file, or what would be served.
func checkConfig(path string, stdout, stderr io.Writer) error {
	c := readConfiguration(path, os.Stdin)
	if c.validate(); len(c.wrong) > 0 {
		return c.wrong
	}
	a := &app{file: path, log: slog.New(slog.DiscardHandler)}
	wrong := &mistakes{text: c.text}
	s := a.load(c.config, nil, wrong)
	c.file.Sort(wrong.found)
	warnings := c.warnings
	for _, err := range wrong.errors() {
		warnings = append(warnings, a.inTerms(err.Error()))
	}
	if !wrong.any() {
		warnings = append(warnings, a.fileWarnings(s)...)
	}
	describeConfig(c.config, stdout)
	if len(warnings) == 0 {
		fmt.Fprintln(stdout, "\nNothing is wrong.")
		return nil
	}
	for _, warning := range warnings {
		fmt.Fprintf(stderr, "warning: %s\n", warning)
	}
	return errWarned
}

// describeConfig says what would be served.
func describeConfig(c *config.Config, w io.Writer) {
	for _, l := range c.Listeners {
		fmt.Fprintf(w, "listener %s at %s: %s\n", l.Label(), l.Bind, strings.Join(traits(l), ", "))
		for _, name := range c.Served(l) {
			fmt.Fprintf(w, "  cluster %s: clients bootstrap from %s\n", name, bootstrapOf(c, l, name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Clusters)) {
		target, called := c.Clusters[name].ActiveTarget(), "cluster "+name
		if active := c.Clusters[name].Active; active != "" {
			called += " (target " + active + ")"
		}
		fmt.Fprintf(w, "%s is at %s, %s\n", called, strings.Join(target.Upstream, ", "), strings.Join(ways(target), ", "))
	}
	if c.Admin.Bind != "" {
		fmt.Fprintf(w, "metrics and health checks at %s\n", c.Admin.Bind)
	}
}

// ways are how a target is reached, and with which files.
func ways(t *config.Target) []string {
	how := []string{"with TLS"}
	switch {
	case t.UpstreamPlaintext:
		how[0] = "in plaintext"
	case t.UpstreamTLS.TrustAny:
		how[0] = "with TLS, NOT VERIFIED"
	case t.UpstreamTLS.CACerts != "":
		how[0] = "with TLS, verified by " + t.UpstreamTLS.CACerts
	}
	if t.UpstreamTLS.Cert != "" {
		how = append(how, "with the client certificate "+t.UpstreamTLS.Cert)
	}
	if t.Via != "" {
		how = append(how, "through "+redacted(t.Via))
	}
	if t.HostsFile != "" {
		how = append(how, "with the hosts file "+t.HostsFile)
	}
	if t.RoutesFile != "" {
		how = append(how, "with the routes file "+t.RoutesFile)
	}
	return how
}

// traits are how a listener serves its clients.
func traits(l *config.Listener) []string {
	how := []string{"by server name"}
	if l.Ports != nil {
		how[0] = fmt.Sprintf("by port, of brokers %d to %d at %s:%s", l.Ports.FirstNodeID, int(l.Ports.FirstNodeID)+l.Ports.Brokers.Len()-1, l.Ports.AdvertisedHost, l.Ports.Brokers)
	}
	if l.Plaintext {
		how = append(how, "in plaintext")
	} else {
		var files []string
		for _, pair := range l.Certificates {
			files = append(files, pair.Cert)
		}
		how = append(how, "with TLS ("+strings.Join(files, ", ")+")")
	}
	if m := l.ClientCertificates; m.Require {
		how = append(how, "client certificates by "+m.CACerts+" required")
	}
	if p := l.ProxyProtocol; p != nil {
		var from []string
		for _, n := range p.From {
			from = append(from, n.String())
		}
		how = append(how, "with a PROXY protocol header from "+strings.Join(from, ", "))
	}
	return how
}

// bootstrapOf is the address that clients of a cluster know, at a listener.
func bootstrapOf(c *config.Config, l *config.Listener, name string) string {
	_, port, _ := strings.Cut(l.Bind[strings.LastIndex(l.Bind, ":"):], ":")
	if l.Ports != nil {
		return l.Ports.AdvertisedHost + ":" + port
	}
	cl := c.Clusters[name]
	for _, advertised := range []int{cl.AdvertisedPort, l.AdvertisedPort} {
		if advertised != 0 {
			port = fmt.Sprint(advertised)
		}
	}
	if names := cl.NamesOf(); len(names) > 0 {
		return names[0] + ":" + port
	}
	return "(no name) :" + port
}

// showConfig prints what is in force.
func showConfig(path string, stdout io.Writer) error {
	c := readConfiguration(path, os.Stdin)
	if c.validate(); len(c.wrong) > 0 {
		return c.wrong
	}
	text, err := c.config.Show()
	if err == nil {
		_, err = stdout.Write(text)
	}
	return err
}

// configFromFlags prints the file that means the same as flags, and as the environment.
func configFromFlags(args []string, stdout io.Writer) error {
	args, wrong := siftArgs(args, startFlags())
	f, fs := newFlags(), newFlagSet()
	f.define(fs)
	if err := fs.Parse(args); err != nil {
		return usageErrors{err}
	}
	f.errors = wrong
	f.readEnvironment(fs, os.Environ())
	if f.configFile != "" {
		f.errors = append(f.errors, errors.New("--config: names a file already: leave it out"))
		f.configFile = ""
	}
	if f.generateCerts {
		f.errors = append(f.errors, errors.New("--generate-certs: is no setting: leave it out"))
	}
	if f.saveCA != "" {
		f.errors = append(f.errors, errors.New("--save-upstream-ca: is no setting: leave it out"))
	}
	c := f.configuration()
	if len(c.wrong) > 0 {
		return c.wrong
	}
	text, err := c.config.Short()
	if err == nil {
		_, err = fmt.Fprintf(stdout, "# kafka-sni-proxy --config FILE starts with this file.\n%s", text)
	}
	return err
}
