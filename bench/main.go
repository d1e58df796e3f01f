// Command bench measures what kafka-sni-proxy costs, side by side with other
// targets, which lead from a Kafka client to a broker as it does, in one run on
// one machine:
//
//	direct    no proxy at all
//	naive     io.Copy between two crypto/tls connections
//	haproxy   HAProxy with TLS on both sides, when it is installed
//	ours      kafka-sni-proxy, built from the source next to it
//	ours-50   the same with a file of fifty clusters, on request; the load goes through one
//
// A load client and a broker stand-in, each a process of its own, speak real
// Kafka frames over TLS 1.3. Rounds are interleaved: every round measures
// everything, one target after the other, so that whatever else the machine does
// meets them all alike. Medians and their spread over the rounds are reported.
//
//	go run ./bench            everything, within ten minutes; results go to docs/benchmarks
//	go run ./bench --quick    a rough picture, within a minute
//
// All traffic stays on the loopback interface and is bounded in amount and time.
// Measuring is possible on Linux only, because of /proc.
//
// Reading order: plan.go says how much is measured; targets.go starts what is
// measured; round.go runs the themes, each of which has a file: bulk.go,
// requests.go, latency.go, handshake.go, memory.go, growth.go, stall.go and frugal.go;
// results.go keeps the samples, goals.go judges them, and report.go and plots.go
// write them down. The two ends are in bench/peer.
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"kafka-sni-proxy/bench/peer"
	"kafka-sni-proxy/internal/harness"
)

var program = harness.Program{Name: "bench", Do: func(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) > 0 && roles[args[0]] != nil {
		return roles[args[0]](args[1:])
	}
	s, err := parse(args, stdout)
	if err != nil {
		return err
	}
	return measure(ctx, s, stdout)
}}

func main() { program.Main() }

// roles are what this program does as a child of its own.
var roles = map[string]func(args []string) error{
	"broker": func(args []string) error {
		var o peer.BrokerOptions
		fs := flag.NewFlagSet("broker", flag.ContinueOnError)
		fs.StringVar(&o.Dir, "dir", "", "")
		fs.StringVar(&o.Address, "address", "127.0.0.1:0", "")
		fs.IntVar(&o.Buffer, "buffer", 256<<10, "")
		return errors.Join(fs.Parse(args), peer.RunBroker(o, os.Stdin, os.Stdout))
	},
	"load": func(args []string) error {
		var o peer.LoadOptions
		fs := flag.NewFlagSet("load", flag.ContinueOnError)
		fs.StringVar(&o.Dir, "dir", "", "")
		fs.IntVar(&o.Buffer, "buffer", 256<<10, "")
		return errors.Join(fs.Parse(args), peer.RunLoad(o, os.Stdin, os.Stdout))
	},
	"relay": func(args []string) error {
		var o peer.RelayOptions
		fs := flag.NewFlagSet("relay", flag.ContinueOnError)
		fs.StringVar(&o.Dir, "dir", "", "")
		fs.StringVar(&o.Upstream.Address, "upstream", "", "")
		fs.StringVar(&o.Upstream.ServerName, "name", "", "")
		fs.BoolVar(&o.Plain, "plain", false, "")
		return errors.Join(fs.Parse(args), peer.RunRelay(o, os.Stdin, os.Stdout))
	},
}

type settings struct {
	quick   bool
	plan    plan
	out     string
	binary  string
	targets []string
	themes  []string
	extra   []extraTarget
	dir     string
	broker  string
}

// extraTarget is a target given on the command line.
type extraTarget struct {
	kind, name, value string // kind is the flag: other, command or build
}

func parse(args []string, stdout io.Writer) (settings, error) {
	var s settings
	var targets, themes string
	var rounds int
	var limit time.Duration
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.BoolVar(&s.quick, "quick", false, "a rough picture within a minute: fewer and shorter samples")
	fs.StringVar(&s.out, "out", "", "`folder` for results.json, README.md and the plots (default: docs/benchmarks; with --quick none are written)")
	fs.IntVar(&rounds, "rounds", 0, "`number` of rounds (default: 5, with --quick 3)")
	fs.DurationVar(&limit, "limit", 0, "`time` after which no round may end: one that would is not begun (default: 9m45s, with --quick 55s)")
	fs.StringVar(&targets, "targets", strings.Join(defaultTargets, ","), "`list` of the targets to measure, of "+strings.Join(knownTargets, ", "))
	fs.StringVar(&themes, "themes", "", "`list` of the themes to measure, of "+strings.Join(themeNames(), ", ")+" (default: all)")
	fs.StringVar(&s.binary, "binary", "", "`path` of a kafka-sni-proxy that is built already (default: build it)")
	for kind, usage := range map[string]string{
		"build":   "`name=path` of another build of kafka-sni-proxy, measured beside the others; may be repeated",
		"command": "`name=command` that starts another proxy; {port} is where it listens, {broker}, {brokerhost}, {brokerport}, {ca}, {cert}, {key}, {hosts} and {suffix} what it needs; may be repeated",
		"other":   "`name=address,pid,sni` of a proxy that runs already, before the broker at --broker with the certificates in --dir; may be repeated",
	} {
		fs.Func(kind, usage, func(v string) error {
			name, value, ok := strings.Cut(v, "=")
			if !ok || name == "" || value == "" {
				return errors.New("it must be name=value")
			}
			s.extra = append(s.extra, extraTarget{kind, name, value})
			return nil
		})
	}
	fs.StringVar(&s.dir, "dir", "", "`folder` for certificates and logs, which stays; certificates in it are used again (default: a temporary one)")
	fs.StringVar(&s.broker, "broker", "127.0.0.1:0", "`address` of the broker stand-in")
	if err := harness.ParseFlags(fs, "Measures kafka-sni-proxy side by side with other proxies, and without any.", args, stdout); err != nil {
		return s, err
	}
	s.plan = fullPlan
	if s.quick {
		s.plan = quickPlan
	} else if s.out == "" {
		s.out = filepath.Join("docs", "benchmarks")
	}
	if rounds > 0 {
		s.plan.Rounds = rounds
	}
	if limit > 0 {
		s.plan.Limit = limit
	}
	s.targets = strings.Split(targets, ",")
	for _, name := range s.targets {
		if !slices.Contains(knownTargets, name) {
			return s, harness.Usagef("--targets: %q is none of %s", name, strings.Join(knownTargets, ", "))
		}
	}
	if themes != "" {
		s.themes = strings.Split(themes, ",")
	}
	for _, name := range s.themes {
		if !slices.Contains(themeNames(), name) {
			return s, harness.Usagef("--themes: %q is none of %s", name, strings.Join(themeNames(), ", "))
		}
	}
	return s, nil
}
