package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafka-sni-proxy/internal/harness"
	"kafka-sni-proxy/internal/harness/procfs"
	terminal "kafka-sni-proxy/internal/progress"
)

// patience is how long things may take to work again once a fault is undone.
// More is a hang.
const patience = 30 * time.Second

// experiment is one run.
type experiment struct {
	line *terminal.Line
	*environment
	traffic   *traffic
	problems  *problems
	results   map[string]*result
	strength  float64
	authority int   // that signed the proxy's certificate
	peak      int64 // of the proxy's memory, in bytes resident after a fault
	// afterwards, when not nil, is what a fault wants done after the recovery.
	afterwards func()
}

// result is what became of a fault.
type result struct {
	lost, duplicated int
	recovery         []time.Duration // one for each time
}

// problems is what has been found to be wrong.
type problems struct {
	mu    sync.Mutex
	list  []string
	more  int
	found chan struct{} // closed with the first
}

// maxProblems is how many are remembered: what is wrong once is wrong often.
const maxProblems = 20

func (p *problems) add(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.list) == maxProblems {
		p.more++
		return
	}
	p.list = append(p.list, fmt.Sprintf(format, args...))
	if len(p.list) == 1 {
		close(p.found)
	}
}

func (p *problems) any() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.list) > 0
}

// chaos is the whole run.
func chaos(ctx context.Context, s settings, out io.Writer) error {
	line, out := terminal.On(out)
	defer line.Done()
	fmt.Fprintf(out, "chaos: seed %d, %v of faults\n", s.seed, s.duration)
	if err := adoptOrphans(); err != nil {
		return fmt.Errorf("this needs Linux: %w", err)
	}
	env, err := newEnvironment(ctx, s, out)
	if err != nil {
		return err
	}
	found := &problems{found: make(chan struct{})}
	e := &experiment{
		environment: env,
		traffic:     &traffic{client: env.client, problems: found},
		problems:    found,
		results:     map[string]*result{},
		line:        line,
	}
	defer env.close()
	defer e.traffic.close()

	if err := env.startProxy(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, endOf(e.logFile()))
	}
	base, err := e.base(ctx)
	if err != nil {
		return err
	}
	e.tell("the proxy, before: %v", base)
	if err := e.traffic.start(ctx); err != nil {
		return err
	}
	took, err := e.traffic.recovered(ctx, patience)
	if err != nil {
		return fmt.Errorf("without any fault: %w\n%s", err, endOf(e.logFile()))
	}
	e.tell("records flow, after %v", took.Round(time.Millisecond))

	e.rounds(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	e.line.Set("waiting until everything has settled")
	e.settle(ctx, base)
	line.Done()
	e.report()
	if e.problems.any() {
		env.keep = true
		return e.verdict()
	}
	if env.keep {
		fmt.Fprintf(out, "\nThe proxy's log is in %s\n", env.logFile())
	}
	fmt.Fprintf(out, "\nOK\n")
	return nil
}

// base is how the proxy is when nothing has happened yet.
func (e *experiment) base(ctx context.Context) (base vitals, err error) {
	err = e.proxy.Await(ctx, 10*time.Second, "the proxy is not at rest", func() error {
		if base, err = e.proxy.vitals(); err == nil && base.Connections > 0 {
			err = fmt.Errorf("it has %d connections", base.Connections)
		}
		return err
	})
	return base, err
}

// rounds injects every fault once in each round, until the time is over or
// something is wrong.
func (e *experiment) rounds(ctx context.Context) {
	began := time.Now()
	for round := 0; ; round++ {
		// The first round is a quick one: every fault should have had its turn.
		e.strength = min(0.4+0.3*float64(round), 1.5)
		chosen := e.chosen()
		e.rand.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
		for _, f := range chosen {
			past := time.Since(began)
			if past > e.duration || ctx.Err() != nil || e.problems.any() {
				return
			}
			if f.restarts && past > e.duration*2/3 && e.results[f.name] != nil {
				continue
			}
			e.line.Set(fmt.Sprintf("%s; %v of faults left, since the start", f.name, (e.duration - past).Round(time.Second)))
			e.try(ctx, f)
		}
	}
}

// try injects a fault once, and waits until everything works again.
func (e *experiment) try(ctx context.Context, f fault) {
	lost, duplicated := e.traffic.counts()
	did, err := f.inject(ctx, e)
	var took time.Duration
	if err == nil {
		took, err = e.traffic.recovered(ctx, patience)
	}
	if e.afterwards != nil {
		e.afterwards()
		e.afterwards = nil
	}
	if err == nil {
		err = e.proxy.Alive()
	}
	if memory, err := procfs.ReadMemory(e.proxy.PID()); err == nil {
		e.peak = max(e.peak, memory.Resident)
	}
	if err == nil {
		err = e.dialer.Err() // a name of the cluster has got through
	}
	if ctx.Err() != nil {
		return
	}
	r := e.results[f.name]
	if r == nil {
		r = &result{}
		e.results[f.name] = r
	}
	lostNow, duplicatedNow := e.traffic.counts()
	r.lost += lostNow - lost
	r.duplicated += duplicatedNow - duplicated
	r.recovery = append(r.recovery, took)
	if err != nil {
		e.tell("%-20s  %s  FAILED", f.name, did)
		e.problems.add("%s (%s; %s): %v", f.name, f.what, did, err)
		e.proxy.abort() // where everybody waits
		return
	}
	e.tell("%-20s  recovered in %-6s  %s", f.name, took.Round(time.Millisecond), did)
}

// hold lets a fault be for a moment.
func (e *experiment) hold(ctx context.Context) error {
	select {
	case <-time.After(time.Duration(e.strength * float64(e.between(500*time.Millisecond, 2500*time.Millisecond)))):
		return nil
	case <-e.problems.found:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *experiment) between(least, most time.Duration) time.Duration {
	return least + time.Duration(e.rand.Int64N(int64(most-least)))
}

// settle has everything come to its end, and compares what there is with what
// there ought to be.
func (e *experiment) settle(ctx context.Context, base vitals) {
	fail := func(err error) bool {
		if err != nil {
			e.problems.add("%v", err)
		}
		return err != nil
	}
	if e.proxy.Alive() == nil && fail(e.traffic.finish(ctx, 2*patience)) {
		e.proxy.abort()
	}
	e.traffic.close()
	sum := e.traffic.progress()
	e.tell("%d records produced, %d acknowledged; %d read by the consumer, %d by the group, which was given %d again",
		sum.sent, sum.acked, sum.read[direct], sum.read[grouped], e.traffic.again)
	fail(e.auditLog(ctx))
	if !e.proxy.aborted && !fail(e.proxy.Alive()) {
		fail(e.rest(ctx, base))
		fail(e.proxy.Stop(drainPatience))
	}
	fail(e.dialer.Err())
	fail(e.panics())
}

// auditLog reads the cluster's log around the proxy.
func (e *experiment) auditLog(ctx context.Context) error {
	client, err := e.directClient(kgo.ConsumePartitions(fromStart()))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("a minute is over"))
	defer cancel()
	if err := e.traffic.audit(ctx, "the audit", client, nil); err != nil {
		return err
	}
	e.tell("the cluster's own log has every record that was acknowledged, once and in order")
	return nil
}

// What the proxy may have more of in the end. Memory that the system is slow to
// take back, and what has been learned, are not a leak.
const (
	spareGoroutines  = 3
	spareDescriptors = 3
	spareMemory      = 24 << 20
)

// rest waits until the proxy is as it was before.
func (e *experiment) rest(ctx context.Context, base vitals) error {
	// It gives memory back after half a minute without traffic.
	return e.proxy.Await(ctx, 75*time.Second, "the proxy does not come to rest", func() error {
		now, err := e.proxy.vitals()
		switch {
		case err != nil:
			return err
		case now.Connections > 0,
			now.Goroutines > base.Goroutines+spareGoroutines,
			now.Descriptors > base.Descriptors+spareDescriptors,
			!e.race && now.Resident > base.Resident+spareMemory:
			return fmt.Errorf("it had %v, and has %v", base, now)
		}
		e.tell("the proxy, after: %v; %.0f MiB was the most after a fault", now, float64(e.peak)/(1<<20))
		return nil
	})
}

// panics looks for what must not be in the proxy's log.
func (e *experiment) panics() error {
	log, err := os.ReadFile(e.logFile())
	if err != nil {
		return err
	}
	if m := regexp.MustCompile(`(?m)^(panic:|fatal error:|WARNING: DATA RACE|.*\bpanic\b).*$`).Find(log); m != nil && !bytes.Contains(log, []byte("SIGQUIT")) {
		return fmt.Errorf("the proxy's log has %q", m)
	}
	return nil
}

// report is the table of what happened, in Markdown.
func (e *experiment) report() {
	var times, lost, duplicated int
	w := func(format string, args ...any) { fmt.Fprintf(e.out, format, args...) }
	w("\n| %-20s | %5s | %4s | %10s | %12s | %8s | what happens |\n", "fault", "times", "lost", "duplicated", "recovery p50", "max")
	w("|:%s|%s:|%s:|%s:|%s:|%s:|---|\n", strings.Repeat("-", 21), strings.Repeat("-", 6), strings.Repeat("-", 5), strings.Repeat("-", 11), strings.Repeat("-", 13), strings.Repeat("-", 9))
	var never []string
	for _, f := range e.chosen() {
		r := e.results[f.name]
		if r == nil {
			never = append(never, f.name)
			continue
		}
		slices.Sort(r.recovery)
		n := len(r.recovery)
		w("| %-20s | %5d | %4d | %10d | %10.2f s | %6.2f s | %s |\n", f.name, n, r.lost, r.duplicated,
			r.recovery[(n-1)/2].Seconds(), r.recovery[n-1].Seconds(), f.what)
		times, lost, duplicated = times+n, lost+r.lost, duplicated+r.duplicated
	}
	w("| %-20s | %5d | %4d | %10d | %12s | %8s | |\n", "all", times, lost, duplicated, "", "")
	if len(never) > 0 {
		w("\nNot injected for want of time: %s\n", strings.Join(never, ", "))
	}
}

// verdict says what was wrong, and how to see it again.
func (e *experiment) verdict() error {
	var b strings.Builder
	e.problems.mu.Lock()
	defer e.problems.mu.Unlock()
	b.WriteString("something is wrong:\n")
	for _, p := range e.problems.list {
		fmt.Fprintf(&b, "  - %s\n", p)
	}
	if e.problems.more > 0 {
		fmt.Fprintf(&b, "  - and %d more of the kind\n", e.problems.more)
	}
	fmt.Fprintf(&b, "\n%s\nThe same order of faults again: go run ./chaos --seed %d --duration %v --faults '%s'", endOf(e.logFile()), e.seed, e.duration, e.faults)
	return errors.New(b.String())
}

// endOf shows the end of the proxy's log.
func endOf(file string) string {
	return fmt.Sprintf("The end of the proxy's log, %s:\n%s", file, harness.Tail(file, 12))
}
