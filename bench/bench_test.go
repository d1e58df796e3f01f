package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary be its own children, as the program is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		program.Main()
	}
	os.Exit(m.Run())
}

// tinyPlan has one of everything, too short to mean anything.
var tinyPlan = plan{
	Rounds: 1, Limit: time.Minute,
	Warmup: 5 * time.Millisecond, Bulk: 30 * time.Millisecond,
	Rates: []int{150}, PacedConnections: 4, Connections: []int{1, 4},
	Requests: 10 * time.Millisecond, RequestRate: 1000, RequestConnections: 4,
	RoundTrips: 10 * time.Millisecond, Handshakes: 20 * time.Millisecond,
	Idle: []int{20}, Settle: time.Millisecond,
	Growth: 20 * time.Millisecond, GrowthConnections: []int{8}, GrowthPartitions: []int{100}, GrowthBrokers: []int{100},
	Frugality: 10 * time.Millisecond, StallRuns: 5, Stall: 10 * time.Millisecond,
}

// TestAWholeRun measures everything with real processes, and looks at what is
// written down.
func TestAWholeRun(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("measuring needs /proc")
	}
	if testing.Short() {
		t.Skip("it builds the proxy")
	}
	s := settings{quick: true, plan: tinyPlan, out: t.TempDir(), targets: append(slices.Clone(defaultTargets), ours50), broker: "127.0.0.1:0"}
	var out bytes.Buffer
	if err := measure(t.Context(), s, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	t.Logf("%s", &out)
	content, err := os.ReadFile(filepath.Join(s.out, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r results
	if err := json.Unmarshal(content, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Failures) > 0 {
		t.Errorf("failures: %+v\n%s", r.Failures, &out)
	}
	if r.Rounds != 1 {
		t.Errorf("%d rounds", r.Rounds)
	}
	for _, m := range metrics {
		i := slices.IndexFunc(r.Metrics, func(one measured) bool { return one.Metric == m.name })
		if i < 0 {
			if m != systemShare {
				t.Errorf("nothing was measured of %s", m.name)
			}
			continue
		}
		if m == systemShare {
			continue // samples are too short for it, most of them
		}
		for _, c := range r.Metrics[i].Cases {
			if many, ok := c.Targets[ours50]; !ok && slices.Contains([]metric{cpuPerGB, cpuPerRequest, requestTime, perConnection}, m) {
				t.Errorf("%s, %s, with fifty clusters: %+v", m.name, c.Case, many)
			}
			s, ok := c.Targets[ours]
			// Nothing can be resumed at first, the ends use CPU with any target.
			if !ok || len(s.Samples) != 1 || s.Low > s.Median || s.Median > s.High || (s.Median <= 0 && m != resumedShare && m != frugal && m != perConnection) {
				t.Errorf("%s, %s: %+v", m.name, c.Case, s)
			}
		}
	}
	_, noHAProxy := findHAProxy()
	for _, g := range r.Goals {
		if noHAProxy != nil && strings.Contains(g.Goal, haproxy) {
			continue
		}
		if g.Verdict == notMeasured && !strings.Contains(g.Goal, "1000 idle connections") {
			t.Errorf("not measured: %s", g.Goal)
		}
	}
	plots, err := filepath.Glob(filepath.Join(s.out, "*.svg"))
	if err != nil || len(plots) < 8 {
		t.Errorf("%d plots, %v", len(plots), err)
	}
	for _, file := range plots {
		svg, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := xml.Unmarshal(svg, new(struct{})); err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
	}
	page, err := os.ReadFile(filepath.Join(s.out, "README.md"))
	if err != nil || !strings.Contains(string(page), "cpu-fetch.svg") {
		t.Errorf("README.md shows no plots: %v", err)
	}
	host, _ := os.Hostname()
	for name, text := range map[string]string{"results.json": string(content), "README.md": string(page)} {
		for _, private := range []string{host, os.TempDir() + "/", "/home/"} {
			if len(private) > 3 && strings.Contains(text, private) {
				t.Errorf("%s tells %q of this machine", name, private)
			}
		}
	}
}

func TestMistakesAreNamed(t *testing.T) {
	for _, args := range [][]string{
		{"--targets", "direct,nothing"},
		{"--themes", "nothing"},
		{"--other", "name"},
		{"surplus"},
		{"--rounds", "many"},
	} {
		var stderr bytes.Buffer
		if code := program.Run(t.Context(), args, io.Discard, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%q: exit code %d, %q", args, code, &stderr)
		}
	}
}

func TestPercentiles(t *testing.T) {
	thousand := make([]int64, 1000)
	for i := range thousand {
		thousand[i] = int64(i + 1)
	}
	for share, want := range map[float64]int64{0: 1, 0.5: 500, 0.99: 990, 0.999: 999, 1: 1000} {
		if got := percentile(thousand, share); got != want {
			t.Errorf("%v of 1 to 1000 is %d, not %d", share, got, want)
		}
	}
	for _, share := range []float64{0, 0.5, 0.999} {
		if got := percentile([]int64{7}, share); got != 7 {
			t.Errorf("%v of one value is %d", share, got)
		}
	}
	if got := percentile([]int64{1, 2, 3}, 0.5); got != 2 {
		t.Errorf("the median of 1, 2, 3 is %d", got)
	}
	if got := percentile(nil, 0.5); got != 0 {
		t.Errorf("of nothing: %d", got)
	}
}

func TestSummaries(t *testing.T) {
	s := summarize([]float64{5, 1, 3})
	if s.Median != 3 || s.Low != 1 || s.High != 5 || !slices.Equal(s.Samples, []float64{5, 1, 3}) {
		t.Errorf("%+v", s)
	}
	if s := summarize([]float64{4, 1}); s.Median != 2.5 {
		t.Errorf("%+v", s)
	}
	if s := summarize(nil); s.ok() {
		t.Errorf("%+v", s)
	}
}

func testResults() *results {
	r := newResults(fullPlan, []*target{{Name: naive}, {Name: haproxy}, {Name: ours}}, false)
	return r
}

// TestRatiosAreTakenWithinARound has the machine be twice as slow in one
// round, and a round in which one of the two failed.
func TestRatiosAreTakenWithinARound(t *testing.T) {
	r := testResults()
	m := cpuPerGB
	for round, slow := range []float64{1, 2, 1} {
		r.add(m, "case", r.Targets[0], round, 2*slow)
		r.add(m, "case", r.Targets[2], round, 1*slow)
	}
	r.add(m, "case", r.Targets[2], 3, 100)
	s := r.ratio(m, "case", ours, naive)
	if len(s.Samples) != 3 || s.Low != 0.5 || s.High != 0.5 {
		t.Errorf("%+v", s)
	}
	if s := r.ratio(m, "case", ours, haproxy); s.ok() {
		t.Errorf("a ratio to nothing: %+v", s)
	}
}

func TestSeveralSamplesOfARoundCountOnce(t *testing.T) {
	r := testResults()
	for _, v := range []float64{1, 3} {
		r.add(resident, atRest, r.Targets[2], 0, v)
	}
	r.add(resident, atRest, r.Targets[2], 1, 10)
	if s := r.summary(resident, atRest, ours); !slices.Equal(s.Samples, []float64{2, 10}) {
		t.Errorf("%+v", s)
	}
}

func TestGoalsAreJudged(t *testing.T) {
	verdict := func(r *results, prefix string) string {
		r.judge()
		for _, g := range r.Goals {
			if strings.HasPrefix(g.Goal, prefix) {
				return g.Verdict
			}
		}
		t.Fatalf("no goal %q", prefix)
		return ""
	}
	const cpu = "CPU per GB, fetch, 150 MB/s: ≤ 0.85 × naive"
	load := pacedCase("fetch", 150)
	for _, c := range []struct {
		ours float64
		want string
	}{{0, notMeasured}, {0.84, reached}, {0.86, notReached}} {
		r := testResults()
		r.add(cpuPerGB, load, r.Targets[0], 0, 1)
		if c.ours > 0 {
			r.add(cpuPerGB, load, r.Targets[2], 0, c.ours)
		}
		if got := verdict(r, cpu); got != c.want {
			t.Errorf("%v of the naive relay's: %s", c.ours, got)
		}
	}

	const faster = "throughput, produce, flat out, 1 connection: ≥ 1.10 × naive"
	for _, c := range []struct {
		ours float64
		want string
	}{{109, notReached}, {111, reached}} {
		r := testResults()
		r.add(throughput, flatOutCase("produce", 1), r.Targets[0], 0, 100)
		r.add(throughput, flatOutCase("produce", 1), r.Targets[2], 0, c.ours)
		if got := verdict(r, faster); got != c.want {
			t.Errorf("%v MB/s: %s", c.ours, got)
		}
	}

	r := testResults()
	r.add(stallsEnded, "runs that ended", r.Targets[2], 0, 10)
	if got := verdict(r, "nothing stalls"); got != reached {
		t.Errorf("ten runs ended: %s", got)
	}
	r.fail(r.Targets[0], 0, "anything", io.EOF) // the others may fail as they like
	if got := verdict(r, "nothing stalls"); got != reached {
		t.Errorf("the naive relay failed: %s", got)
	}
	r.fail(r.Targets[2], 0, "anything", io.EOF)
	if got := verdict(r, "nothing stalls"); got != notReached {
		t.Errorf("one sample failed: %s", got)
	}
}

func TestGaugesAreFound(t *testing.T) {
	text := []byte("# TYPE go_goroutines gauge\ngo_goroutines_total 9\ngo_goroutines 12\ngo_memstats_mallocs_total 1.5e+06\n")
	if v, err := gauge(text, "go_goroutines"); err != nil || v != 12 {
		t.Errorf("%v, %v", v, err)
	}
	if v, err := gauge(text, "go_memstats_mallocs_total"); err != nil || v != 1.5e6 {
		t.Errorf("%v, %v", v, err)
	}
	if _, err := gauge(text, "go_threads"); err == nil {
		t.Error("a missing gauge is no error")
	}
}

func TestTablesLineUp(t *testing.T) {
	lines := strings.Split(text([][]string{{"", "a", "ours ÷ naive"}, {"µs", "1", "2"}, {"case", "123", ""}}), "\n")
	if at := strings.Index(lines[0], "a"); []rune(lines[1])[at] != '1' || lines[2][at] != '1' {
		t.Errorf("%q", lines)
	}
}

func TestRewritingIsTimed(t *testing.T) {
	took, err := timeRewriting(10)
	if err != nil || took <= 0 || took > time.Second {
		t.Errorf("%v, %v", took, err)
	}
}
