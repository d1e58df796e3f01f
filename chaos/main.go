// Command chaos breaks everything around kafka-sni-proxy, over and over, and
// sees to it that no record is lost, repeated or out of order.
//
//	clients ─ link ─ kafka-sni-proxy ─ links ─ brokers
//
// The proxy is the real binary in a process of its own, built from the source
// next to it. The links are TCP forwarders that can cut, delay, throttle, split,
// damage, half-close or lose connections, or hold them still. The cluster is
// franz-go's kfake behind TLS; its brokers come and go and hand over their
// partitions. Idempotent producers with acks=all write numbered records at a
// steady rate; a consumer and a consumer group compare each of them with what
// was sent. One fault after the other, in rounds of random order:
//
//	inject it → let it be for a moment → undo it → how long until records that
//	were produced from then on come through in every partition?
//
// Restarts of the proxy are left out in the last third, so that the last life
// is a long one. In the end everything produced must be in the cluster once, in
// order; the proxy must have no more goroutines and descriptors, and little more
// memory, than before; its log must be free of panics; and it must end with 0.
//
//	go run ./chaos                       ten minutes
//	go run ./chaos --duration 60s        one
//	go run ./chaos --faults 'broker-.*'  some faults only
//	go run ./chaos --seed 42             the same order of faults again
//	go run ./chaos --scale               many connections instead of faults
//
// It needs Go and Linux (for the limit on descriptors and /proc). All traffic
// stays on the loopback interface and is bounded in amount and time.
//
// Reading order: stage.go is what runs; link.go the network; traffic.go the
// records and how they are checked; faults.go the faults; run.go the order of
// events; scale.go the other mode.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

type settings struct {
	duration time.Duration
	seed     uint64
	faults   *regexp.Regexp
	binary   string
	race     bool
	keep     bool
	list     bool
	scale    bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 2 && args[0] == standInRole { // started by scale
		if err := standIn(args[1], os.Stdin, stdout); err != nil {
			fmt.Fprintf(stderr, "chaos %s: %v\n", standInRole, err)
			return 1
		}
		return 0
	}
	s, err := parse(args, stdout, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case s.list:
		for _, f := range faults {
			fmt.Fprintf(stdout, "%-22s %s\n", f.name, f.what)
		}
		return 0
	}
	do := chaos
	if s.scale {
		do = scale
	}
	if err := do(ctx, s, stdout); err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		fmt.Fprintf(stderr, "\nchaos: %v\n", err)
		return 1
	}
	return 0
}

func parse(args []string, stdout, stderr io.Writer) (settings, error) {
	var s settings
	var pattern string
	fs := flag.NewFlagSet("chaos", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.DurationVar(&s.duration, "duration", 10*time.Minute, "how long to inject faults; the checks before and after come on top")
	fs.Uint64Var(&s.seed, "seed", 0, "order and strength of the faults (default: a random one, which is shown)")
	fs.StringVar(&pattern, "faults", "", "inject only those whose name matches this regular expression, as a whole")
	fs.BoolVar(&s.scale, "scale", false, "instead of faults, try thousands of connections: idle ones, busy ones, and a burst of handshakes")
	fs.BoolVar(&s.list, "list", false, "list the faults")
	fs.StringVar(&s.binary, "binary", "", "a kafka-sni-proxy that is built already (default: build it)")
	fs.BoolVar(&s.race, "race", false, "build it with the race detector (needs a C compiler)")
	fs.BoolVar(&s.keep, "keep", false, "keep the folder with the proxy's log in any case, and not only when something was wrong")
	fs.Usage = func() {
		fmt.Fprint(stdout, "Usage: chaos [flags]\n\nBreaks everything around kafka-sni-proxy and checks that nothing is lost.\n\n")
		fs.SetOutput(stdout)
		fs.PrintDefaults()
		fs.SetOutput(stderr)
	}
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	complain := func(format string, args ...any) error {
		err := fmt.Errorf(format, args...)
		fmt.Fprintf(stderr, "chaos: %v\nSee --help.\n", err)
		return err
	}
	if fs.NArg() > 0 {
		return s, complain("%q is not a flag", fs.Arg(0))
	}
	if s.duration <= 0 {
		return s, complain("--duration must be more than nothing")
	}
	var err error
	if s.faults, err = regexp.Compile("^(?:" + pattern + ")$"); err != nil {
		return s, complain("--faults: %v", err)
	}
	if pattern == "" {
		s.faults = regexp.MustCompile("")
	}
	if len(s.chosen()) == 0 {
		return s, complain("--faults: none is called %s; --list shows them", pattern)
	}
	if s.seed == 0 {
		s.seed = rand.Uint64N(1_000_000) + 1
	}
	return s, nil
}

func (s settings) chosen() (chosen []fault) {
	for _, f := range faults {
		if s.faults.MatchString(f.name) {
			chosen = append(chosen, f)
		}
	}
	return chosen
}
