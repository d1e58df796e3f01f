// Command demo shows kafka-sni-proxy at work on this machine alone: a Kafka
// cluster of three brokers in memory, behind TLS and under names that nothing
// on this machine resolves; the real proxy, built from the source next to it;
// and a producer and a consumer group that know one name, the proxy's.
//
//	go run ./demo          runs for some seconds, reports, and ends: 0 when everything held
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
	"os"
	"os/signal"
	"syscall"
	"time"
)

// limit is how long the demo may take once the proxy is built. A run takes a
// third of it; the rest is for slow machines.
const limit = 28 * time.Second

type settings struct {
	keep       bool
	binary     string
	suffix     string
	port       int
	brokerPort int
	records    int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s, err := parse(args, stdout, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	p := &printer{w: stdout}
	if err := demo(ctx, s, p); err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		p.flush()
		fmt.Fprintf(stderr, "\ndemo: %v\n", err)
		return 1
	}
	return 0
}

func parse(args []string, stdout, stderr io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&s.keep, "keep", false, "stay up afterwards, and say how to connect a client of your own")
	flags.IntVar(&s.port, "port", 19092, "loopback port of the proxy; 0 takes any free one")
	flags.IntVar(&s.brokerPort, "broker-port", 29092, "loopback port of the first broker, the others follow; 0 takes any free ones")
	flags.StringVar(&s.suffix, "suffix", "kafka.example", "domain under which clients see the brokers")
	flags.IntVar(&s.records, "records", 150_000, "how many records of 1 KiB to send through, at most: after 10 s it is enough")
	flags.StringVar(&s.binary, "binary", "", "a kafka-sni-proxy that is built already (default: build it)")
	flags.Usage = func() {} // for --help alone: a mistake is better seen without it
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			usage(stdout, flags)
		} else {
			fmt.Fprintln(stderr, "See --help.")
		}
		return s, err
	}
	var problem string
	switch {
	case flags.NArg() > 0:
		problem = fmt.Sprintf("unexpected argument %q", flags.Arg(0))
	case s.records < 1:
		problem = "--records must be at least 1"
	case s.port < 0 || s.port > 65535 || s.brokerPort < 0 || s.brokerPort > 65535-brokers+1:
		problem = "ports are from 1 to 65535, or 0 for any free one"
	default:
		return s, nil
	}
	fmt.Fprintf(stderr, "%s\nSee --help.\n", problem)
	return s, errors.New(problem)
}

func usage(w io.Writer, flags *flag.FlagSet) {
	fmt.Fprint(w, `Usage: go run ./demo [flags]

Shows kafka-sni-proxy between a Kafka cluster and its clients, on this machine alone.

Flags:
`)
	flags.VisitAll(func(f *flag.Flag) {
		fmt.Fprintf(w, "  --%-12s %s", f.Name, f.Usage)
		if f.DefValue != "" && f.DefValue != "false" {
			fmt.Fprintf(w, " (default %s)", f.DefValue)
		}
		fmt.Fprintln(w)
	})
}

// demo is the whole story: set the stage, send records through, look at what
// the clients were told, and say so.
func demo(ctx context.Context, s settings, p *printer) error {
	p.title("kafka-sni-proxy: a demo on this machine alone")
	st, err := newStage(ctx, s)
	if err != nil {
		return err
	}
	defer st.close()

	p.step("The proxy and its certificates")
	if err := st.build(ctx, p); err != nil {
		return err
	}
	began := time.Now()
	bounded, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done after %v: this machine may be too busy; try fewer --records", limit))
	defer cancel()
	if err := st.generateCerts(bounded, p); err != nil {
		return because(bounded, err)
	}
	p.step("A Kafka cluster that only speaks TLS, under names that resolve nowhere")
	if err := st.startCluster(p); err != nil {
		return err
	}
	p.step("The proxy in front of it")
	if err := st.startProxy(bounded, p); err != nil {
		return because(bounded, err)
	}
	bounded, cancelAtOnce := st.endEarly(bounded)
	defer cancelAtOnce()
	p.step("A producer and a consumer group of two, through the proxy by SNI")
	l := newLoad(st, s.records)
	if err := l.run(bounded, p); err != nil {
		return st.explain(because(bounded, st.leaked(err)))
	}
	p.step("What happened")
	if err := report(bounded, st, l, p); err != nil {
		return st.explain(because(bounded, st.leaked(err)))
	}
	if s.keep {
		cancel()
		p.step("Your own client")
		return st.explain(keep(ctx, st, p))
	}
	if err := st.stopProxy(); err != nil {
		return st.explain(err)
	}
	p.line("")
	p.line("OK. Every byte went through the proxy, in %.1f s.", time.Since(began).Seconds())
	return nil
}

// because prefers the reason why a context has ended to what came of it.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}
