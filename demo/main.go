// Command demo shows kafka-sni-proxy at work on this machine alone: a Kafka
// cluster of three brokers in memory, behind TLS and under names that nothing
// on this machine resolves; the real proxy, built from the source next to it;
// and a producer and a consumer group that know one name, the proxy's.
//
//	go run ./demo          runs for some seconds, reports, and ends: 0 when everything held
//	go run ./demo --config the same with a configuration file, and a second cluster behind the same port
//	go run ./demo --keep   stays up afterwards and says how to connect a client of your own
//
// It needs Go and nothing else: no root, no DNS, no Kafka. What it writes is in
// a temporary folder that it takes away again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"kafka-sni-proxy/internal/harness"
)

// limit is how long the demo may take once the proxy is built. A run takes a
// third of it; the rest is for slow machines.
const limit = 28 * time.Second

type settings struct {
	keep       bool
	config     bool // with a file, and a second cluster
	binary     string
	suffix     string
	port       int
	brokerPort int
	records    int
}

var program = harness.Program{Name: "demo", Do: func(ctx context.Context, args []string, stdout io.Writer) error {
	s, err := parse(args, stdout)
	if err != nil {
		return err
	}
	p := &printer{w: stdout}
	defer p.flush()
	return demo(ctx, s, p)
}}

func main() { program.Main() }

func parse(args []string, stdout io.Writer) (s settings, err error) {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.BoolVar(&s.keep, "keep", false, "stay up afterwards, and say how to connect a client of your own")
	flags.BoolVar(&s.config, "config", false, "start the proxy with a configuration file, for two clusters behind one port")
	flags.IntVar(&s.port, "port", 19092, "loopback `port` of the proxy; 0 takes any free one")
	flags.IntVar(&s.brokerPort, "broker-port", 29092, "loopback `port` of the first broker, the others follow; 0 takes any free ones")
	flags.StringVar(&s.suffix, "suffix", "kafka.example", "`domain` under which clients see the brokers")
	flags.IntVar(&s.records, "records", 150_000, "greatest `number` of records of 1 KiB to send through; after 10 s no more are sent")
	flags.StringVar(&s.binary, "binary", "", "`path` of a kafka-sni-proxy that is built already (default: build it)")
	const about = "Shows kafka-sni-proxy between a Kafka cluster and its clients, on this machine alone."
	if err := harness.ParseFlags(flags, about, args, stdout); err != nil {
		return s, err
	}
	switch {
	case s.records < 1:
		return s, harness.Usagef("--records must be at least 1")
	case s.port < 0 || s.port > 65535 || s.brokerPort < 0 || s.brokerPort > 65535-brokers+1:
		return s, harness.Usagef("ports are from 1 to 65535, or 0 for any free one")
	}
	return s, nil
}

// demo is the whole story: set the environment up, send records through, look at what
// the clients were told, and say so.
func demo(ctx context.Context, s settings, p *printer) error {
	p.title("kafka-sni-proxy: a demo on this machine alone")
	env, err := newEnvironment(s)
	if err != nil {
		return err
	}
	defer env.close()

	p.step("The proxy and its certificates")
	if err := env.build(ctx, p); err != nil {
		return err
	}
	began := time.Now()
	bounded, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done after %v: this machine may be too busy; try fewer --records", limit))
	defer cancel()
	certificates := func() error { return causeOr(bounded, env.generateCerts(bounded, p)) }
	if !s.config { // else they are for the names of a file
		if err := certificates(); err != nil {
			return err
		}
	}
	p.step("A Kafka cluster that only speaks TLS, under names that resolve nowhere")
	if err := env.startCluster(p); err != nil {
		return err
	}
	if s.config {
		p.step("A configuration file for both clusters, and certificates for its names")
		if err := errors.Join(env.writeConfig(p), certificates()); err != nil {
			return err
		}
	}
	p.step("The proxy in front of it")
	if err := env.startProxy(ctx, bounded, p); err != nil {
		return causeOr(bounded, err)
	}
	bounded, cancelAtOnce := env.endEarly(bounded)
	defer cancelAtOnce()
	p.step("A producer and a consumer group of two, through the proxy by SNI")
	l := newLoad(env, s.records)
	if err := l.run(bounded, p); err != nil {
		return env.explain(causeOr(bounded, env.leaked(err)))
	}
	if s.config {
		if err := env.useAudit(bounded, l, p); err != nil {
			return env.explain(causeOr(bounded, env.leaked(err)))
		}
	}
	p.step("What happened")
	if err := report(bounded, env, l, p); err != nil {
		return env.explain(causeOr(bounded, env.leaked(err)))
	}
	if s.keep {
		cancel()
		p.step("Your own client")
		return env.explain(keep(ctx, env, p))
	}
	if err := env.stopProxy(); err != nil {
		return env.explain(err)
	}
	p.line("")
	p.line("OK. Every byte went through the proxy, in %.1f s.", time.Since(began).Seconds())
	return nil
}

// causeOr prefers the reason why a context has ended to what came of it.
func causeOr(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}
