package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// topic is a group of flags in --help, the manual page and docs/flags.md.
type topic struct {
	title string
	flags []string
}

// topics are all flags of the start, in the order in which they are shown.
var topics = []topic{
	{"Start", []string{"config", "generate-certs", "force", saveUpstreamCA, "yes", "help", "version"}},
	{"Clients and names", []string{"sni-suffix", "bind", "advertised-port", "broker-mapping-rule", "allow-missing-sni"}},
	{"TLS with clients", []string{"cert", "key", "mtls-enable", "mtls-disable", "ca-certs", "crl"}},
	{"The Kafka cluster", []string{"upstream", "upstream-ca-certs", "trust-upstream-certs", "upstream-cert", "upstream-key", "hosts-file", "routes-file"}},
	{"Limits", []string{"max-connections", "max-handshakes-per-address", "max-frame-bytes"}},
	{"Timeouts", []string{"handshake-timeout", "dial-timeout", "idle-timeout", "max-connection-age", "tcp-user-timeout", "drain-timeout"}},
	{"Log, status, metrics, traces and health", []string{"log-level", "log-format", "access-log", "admin-bind", "admin-token-file", "admin-cert", "admin-key", "admin-client-ca-certs", "admin-pprof", "trace-endpoint", "trace-connections", "trace-requests"}},
}

// flagHelp shows the flags by topic, each with what it does in short.
func flagHelp(fs *pflag.FlagSet) string {
	var b strings.Builder
	for _, t := range topics {
		group := newFlagSet()
		group.SortFlags = false
		for _, name := range t.flags {
			flag := *fs.Lookup(name)
			flag.Usage = short(flag.Usage)
			group.AddFlag(&flag)
		}
		fmt.Fprintf(&b, "%s:\n%s\n", t.title, group.FlagUsagesWrapped(100))
	}
	return b.String()
}

// short is the first thing that is said of a flag, and its default where that is no value.
func short(usage string) string {
	first, rest, cut := strings.Cut(usage, "; ")
	if !cut {
		return usage
	}
	for _, end := range []string{"(default", "(required)"} {
		if i := strings.LastIndex(rest, end); i >= 0 {
			return first + " " + rest[i:]
		}
	}
	return first
}
