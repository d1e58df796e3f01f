package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"kafka-sni-proxy/bench/peer"
	"kafka-sni-proxy/internal/harness/procfs"
	"kafka-sni-proxy/internal/progress"
)

// bench is one run of the program.
type bench struct {
	launcher
	plan    plan
	targets []*target
	results *results
	out     io.Writer
	line    *progress.Line // what is left, on a terminal
	began   time.Time

	// front are the ends that throughput and latency are measured between, and
	// background the load client that keeps a proxy busy meanwhile.
	front      *ends
	background *peer.Client
	// back are the ends that hold the idle connections. They are others, so that
	// theirs need no attention while front's are measured.
	back *ends
}

// measure is the whole run.
func measure(ctx context.Context, s settings, out io.Writer) error {
	line, out := progress.On(out)
	defer line.Done()
	b := &bench{plan: s.plan, launcher: launcher{life: ctx, dir: s.dir}, out: out, line: line, began: time.Now()}
	if b.dir == "" {
		dir, err := os.MkdirTemp("", "kafka-sni-proxy-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		b.dir = dir
	} else if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return err
	}
	files, err := procfs.MaxFiles()
	if errors.Is(err, errors.ErrUnsupported) {
		return errors.New("measuring needs /proc: it is possible on Linux only")
	} else if err != nil {
		return err
	}
	if err := prepare(b.dir); err != nil {
		return err
	}
	b.limitIdle(files)
	if b.targets, err = findTargets(ctx, s, &b.launcher, b.tell); err != nil {
		return err
	}
	b.results = newResults(b.plan, b.targets, s.quick)

	if b.front, err = b.startEnds(s.broker, 256<<10); err != nil {
		return err
	}
	defer b.front.stop()
	load, background, err := b.startLoad()
	if err != nil {
		return err
	}
	defer load.Kill()
	b.background = background
	if b.back, err = b.startEnds("127.0.0.1:0", 32<<10); err != nil {
		return err
	}
	defer b.back.stop()

	if err := b.rounds(ctx, s.themes); err != nil {
		return err
	}
	b.results.Seconds = time.Since(b.began).Seconds()
	return b.report(s)
}

// limitIdle leaves out the numbers of connections for which a proxy may not open enough
// files: two for each connection.
func (b *bench) limitIdle(files int) {
	b.plan.Idle = slices.DeleteFunc(slices.Clone(b.plan.Idle), func(n int) bool {
		if 2*n+200 <= files {
			return false
		}
		b.tell("%d idle connections need more than the %d open files that are allowed (ulimit -Hn); going on without them", n, files)
		return true
	})
}

// themes in the order in which a round runs them. Idle connections come first: their
// memory is read again at the end of the round, when they have been idle for
// the time that the rest takes.
var themes = []struct {
	name string
	run  func(*round, context.Context)
}{
	{"memory", (*round).memory},
	{"bulk", (*round).bulk},
	{"requests", (*round).requests},
	{"latency", (*round).latency},
	{"handshakes", (*round).handshakes},
	{"growth", (*round).growth},
	{"stalls", (*round).stalls},
	{"frugality", (*round).frugality},
}

func themeNames() []string {
	var names []string
	for _, t := range themes {
		names = append(names, t.name)
	}
	return names
}

// rounds runs the themes, all of them when none are named.
func (b *bench) rounds(ctx context.Context, wanted []string) error {
	b.tell("%s", b.results.Machine)
	longest := map[string]time.Duration{} // that a theme has taken
	for n := range b.plan.Rounds {
		var expected time.Duration
		for theme, d := range longest {
			if theme != "memory" || b.plan.hasIdle(n) {
				expected += d
			}
		}
		if n > 0 && time.Since(b.began)+expected > b.plan.Limit {
			b.tell("another round would not end within %v: there are %d instead of %d", b.plan.Limit, n, b.plan.Rounds)
			return nil
		}
		r := &round{bench: b, n: n, took: map[string]time.Duration{}}
		if err := r.run(ctx, wanted); err != nil {
			return err
		}
		b.results.Rounds = n + 1
		for theme, d := range r.took {
			longest[theme] = max(longest[theme], d)
		}
	}
	return nil
}

// round measures everything once, with processes of its own.
type round struct {
	*bench
	n     int
	cells int
	live  []*running
	took  map[string]time.Duration // by theme
	// later is done at the end of the round.
	later []func(context.Context)
}

func (r *round) run(ctx context.Context, wanted []string) error {
	begin := time.Now()
	lap := func(what string) {
		r.took[what] = time.Since(begin)
		begin = time.Now()
	}
	for _, w := range r.targets {
		live, err := w.run(ctx, r.front.upstream)
		if err != nil {
			return fmt.Errorf("%s: %w", w.Name, err)
		}
		defer live.stop()
		r.live = append(r.live, live)
	}
	lap("starting")
	for _, t := range themes {
		if len(wanted) == 0 || slices.Contains(wanted, t.name) {
			t.run(r, ctx)
			lap(t.name)
		}
		if ctx.Err() != nil {
			break
		}
	}
	for _, f := range r.later {
		f(ctx)
	}
	lap("ending")
	return ctx.Err()
}

// each measures one cell of a theme on every target that it is for, in an order
// that changes from cell to cell. What goes wrong counts against the target and
// does not end the run.
func (r *round) each(ctx context.Context, cell string, targets []*running, sample func(context.Context, *running) (string, error)) {
	r.cells++
	said := make([]string, len(targets))
	for i := range targets {
		at := (i + r.n + r.cells) % len(targets)
		w := targets[at]
		if ctx.Err() != nil {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, sampleLimit)
		figure, err := sample(ctx, w)
		cancel()
		if err != nil {
			figure = "FAILED"
			err = errors.Join(err, w.alive())
			r.tell("%s, %s: %v", w.target.Name, cell, err)
			r.results.fail(w.target, r.n, cell, err)
		}
		said[at] = fmt.Sprintf("%s %s", w.target.Name, figure)
	}
	line := ""
	for _, s := range said {
		line += fmt.Sprintf("  %-22s", s)
	}
	r.tell("%-36s%s", cell, line)
}

// sampleLimit is longer than any sample takes, stalled ones included.
const sampleLimit = time.Minute

// proxies returns the targets that are proxies.
func (r *round) proxies() []*running {
	var targets []*running
	for _, w := range r.live {
		if w.pid != 0 {
			targets = append(targets, w)
		}
	}
	return targets
}

// tell shows progress.
func (b *bench) tell(format string, args ...any) {
	fmt.Fprintf(b.out, "%s  %s\n", clock(time.Since(b.began)), fmt.Sprintf(format, args...))
}

func (r *round) tell(format string, args ...any) {
	r.bench.tell("%d/%d  %s", r.n+1, r.plan.Rounds, fmt.Sprintf(format, args...))
	r.line.Set(fmt.Sprintf("round %d of %d; all ends within %v", r.n+1, r.plan.Rounds, max(0, r.plan.Limit-time.Since(r.began)).Round(time.Second)))
}

func clock(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%2d:%02d", s/60, s%60)
}
