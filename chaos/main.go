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
// Reading order: environment.go is what runs; link.go the network; traffic.go the
// records and how they are checked; faults.go the faults; run.go the order of
// events; scale.go the other mode.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"time"

	"kafka-sni-proxy/internal/harness"
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

var program = harness.Program{Name: "chaos", Do: func(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) == 2 && args[0] == standInRole { // started by scale
		return standIn(args[1], os.Stdin, stdout)
	}
	s, err := parse(args, stdout)
	switch {
	case err != nil:
		return err
	case s.list:
		for _, f := range faults {
			fmt.Fprintf(stdout, "%-22s %s\n", f.name, f.what)
		}
		return nil
	case s.scale:
		return scale(ctx, s, stdout)
	default:
		return chaos(ctx, s, stdout)
	}
}}

func main() { program.Main() }

func parse(args []string, stdout io.Writer) (s settings, err error) {
	var pattern string
	fs := flag.NewFlagSet("chaos", flag.ContinueOnError)
	fs.DurationVar(&s.duration, "duration", 10*time.Minute, "`time` for which to inject faults; the checks before and after come on top")
	fs.Uint64Var(&s.seed, "seed", 0, "`number` that decides order and strength of the faults (default: a random one, which is shown)")
	fs.StringVar(&pattern, "faults", "", "inject only those whose whole name matches this `regexp`")
	fs.BoolVar(&s.scale, "scale", false, "instead of faults, try thousands of connections: idle ones, busy ones, and a burst of handshakes")
	fs.BoolVar(&s.list, "list", false, "list the faults")
	fs.StringVar(&s.binary, "binary", "", "`path` of a kafka-sni-proxy that is built already (default: build it)")
	fs.BoolVar(&s.race, "race", false, "build it with the race detector (needs a C compiler)")
	fs.BoolVar(&s.keep, "keep", false, "keep the folder with the proxy's log after a good run, too")
	if err := harness.ParseFlags(fs, "Breaks everything around kafka-sni-proxy and checks that nothing is lost.", args, stdout); err != nil {
		return s, err
	}
	if s.duration <= 0 {
		return s, harness.Usagef("--duration must be more than nothing, such as 60s")
	}
	if s.faults, err = regexp.Compile("^(?:" + pattern + ")$"); err != nil {
		return s, harness.Usagef("--faults: %v", err)
	}
	if pattern == "" {
		s.faults = regexp.MustCompile("")
	}
	if len(s.chosen()) == 0 {
		return s, harness.Usagef("--faults: none is called %s; --list shows them", pattern)
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
