// Interop runs real Kafka clients through the proxy against a real Apache
// Kafka cluster of three brokers, and prints a table of what worked.
//
// The brokers advertise names that only the proxy can resolve, and the
// clients can resolve only the proxy's names: an address that slips through
// unchanged breaks the client that follows it. On top of that, what clients
// print and log, and every byte they are sent, is searched for upstream names.
//
//	go run ./interop                 everything
//	go run ./interop --run 'sasl'    some scenarios
//	go run ./interop --direct        the same clients without the proxy: is it the proxy, or the test?
//
// It needs Go, a JDK (17 or later), Maven and OpenSSL, and for the librdkafka
// clients Python 3 with pip and a C compiler, for KafkaJS Node.js with npm; what
// else it needs it fetches from Maven Central, the Python package index and the
// npm registry once and keeps in interop/.cache.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"kafka-sni-proxy/internal/harness"
	"kafka-sni-proxy/internal/progress"
)

var program = harness.Program{Name: "interop", Do: func(ctx context.Context, args []string, stdout io.Writer) error {
	o, err := parse(args, stdout)
	if err != nil {
		return err
	}
	if o.list {
		for _, s := range scenarios {
			fmt.Fprintln(stdout, s.name)
		}
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("the run took longer than --timeout %s", o.timeout))
	defer cancel()
	ctx = endWithParent(ctx)
	work, err := os.MkdirTemp("", "kafka-sni-proxy-interop-")
	if err != nil {
		return err
	}
	if err := interop(ctx, o, work); err != nil {
		return fmt.Errorf("%w\n\nlogs are in %s", err, work)
	}
	if o.keep {
		fmt.Fprintln(stdout, "logs are in", work)
		return nil
	}
	return os.RemoveAll(work)
}}

func main() { program.Main() }

// options are the command line.
type options struct {
	filter  *regexp.Regexp
	skip    *regexp.Regexp // nil: nothing
	list    bool
	timeout time.Duration
	keep    bool
	direct  bool
	records int
	rounds  int
}

func parse(args []string, stdout io.Writer) (o options, err error) {
	fs := flag.NewFlagSet("interop", flag.ContinueOnError)
	pattern := fs.String("run", "", "run only the scenarios whose name matches this `regexp`")
	skip := fs.String("skip", "", "leave out the scenarios whose name matches this `regexp`")
	fs.BoolVar(&o.list, "list", false, "list the scenarios and end")
	fs.DurationVar(&o.timeout, "timeout", 40*time.Minute, "end the whole run after this `time`")
	fs.BoolVar(&o.keep, "keep", false, "keep the work folder, with all logs, after a good run, too")
	fs.BoolVar(&o.direct, "direct", false, "connect clients to the brokers instead of the proxy")
	fs.IntVar(&o.records, "perf-records", 1_000_000, "`number` of records of 1000 bytes that the perf tools send and read")
	fs.IntVar(&o.rounds, "event-rounds", 1, "how many `times` everything happens in the events-… scenarios")
	if err := harness.ParseFlags(fs, "Runs real Kafka clients through kafka-sni-proxy against a real Apache Kafka cluster.", args, stdout); err != nil {
		return o, err
	}
	if o.filter, err = regexp.Compile(*pattern); err != nil {
		return o, harness.Usagef("--run: %v", err)
	}
	if *skip != "" {
		if o.skip, err = regexp.Compile(*skip); err != nil {
			return o, harness.Usagef("--skip: %v", err)
		}
	}
	return o, nil
}

// endWithParent ends the run when the program that started it is gone: `go
// run` and make, when they are terminated, do not tell their children.
func endWithParent(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	parent := os.Getppid()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
				if os.Getppid() != parent {
					cancel(errors.New("the program that started this run has ended"))
				}
			}
		}
	}()
	return ctx
}

// interop prepares the environment, runs the scenarios and prints the table.
func interop(ctx context.Context, o options, work string) (err error) {
	begin := time.Now()
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	chosen := choose(o)
	if len(chosen) == 0 {
		return errors.New("--run matches no scenario; --list shows them")
	}
	fmt.Println("logs:", work)
	s, err := newEnvironment(ctx, o, root, work)
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	if err != nil {
		return err
	}
	fmt.Printf("cluster and proxies are up after %s\n\n", time.Since(begin).Round(time.Second))

	var results table
	line := progress.New(os.Stdout)
	defer line.Done()
	for i, one := range chosen {
		if ctx.Err() != nil {
			results.add(row{name: one.name, err: context.Cause(ctx)})
			continue
		}
		name := fmt.Sprintf("%-22s ", one.name)
		if line == nil { // a log shows what runs when it ends
			fmt.Print(name)
			name = ""
		}
		line.Set(fmt.Sprintf("%s, %d of %d scenarios left after it, since the start", one.name, len(chosen)-i-1, len(chosen)))
		result := s.run(ctx, one, filepath.Join(work, "scenarios", one.name))
		line.Clear()
		fmt.Println(name + result.String())
		results.add(result)
	}
	line.Done()
	fmt.Printf("\n%s%s", &results, s.recoveries)
	fmt.Printf("\n%s in all\n", time.Since(begin).Round(time.Second))
	return results.verdict()
}

func choose(o options) []scenario {
	var chosen []scenario
	for _, s := range scenarios {
		if o.filter.MatchString(s.name) && !(o.skip != nil && o.skip.MatchString(s.name)) && !(o.direct && s.needsProxy) {
			chosen = append(chosen, s)
		}
	}
	return chosen
}

func moduleRoot(ctx context.Context) (string, error) {
	output, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	file := strings.TrimSpace(string(output))
	if err != nil || filepath.Base(file) != "go.mod" {
		return "", fmt.Errorf("run this inside the module: go env GOMOD says %q: %w", file, err)
	}
	return filepath.Dir(file), nil
}
