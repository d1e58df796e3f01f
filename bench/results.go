package main

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// metric is one thing that is measured, in several cases, on several targets.
type metric struct {
	name, title, unit string
}

var (
	cpuPerGB   = metric{"cpu-per-gb", "CPU time of the proxy per gigabyte carried", "s/GB"}
	throughput = metric{"throughput", "Throughput flat out", "MB/s"}
	paceKept   = metric{"pace-kept", "How much of the asked rate was carried", "%"}
	waitsPerGB = metric{"waits-per-gb", "Times that threads of the proxy waited, per gigabyte", "/GB"}

	systemShare = metric{"system-share", "Share of the proxy's CPU time that is the kernel's", "%"}
	endsPerGB   = metric{"ends-cpu-per-gb", "CPU time of load client and broker stand-in per gigabyte", "s/GB"}

	roundTrip     = metric{"round-trip", "Round trip of a small request", "ms"}
	cpuPerRequest = metric{"cpu-per-request", "CPU time of the proxy per small request", "µs"}

	requestTime = metric{"request-time", "Time from a Produce request to its answer", "µs"}

	handshakeRate   = metric{"handshakes", "Short connections per second, four at a time", "/s"}
	cpuPerHandshake = metric{"cpu-per-handshake", "CPU time of the proxy per short connection, both sides' handshakes", "ms"}
	resumedShare    = metric{"resumed-share", "Short connections whose TLS session was resumed", "%"}

	perConnection = metric{"memory-per-connection", "Resident memory per idle connection", "KiB"}
	resident      = metric{"memory-resident", "Resident memory (VmRSS)", "MiB"}
	private       = metric{"memory-private", "Private memory (smaps_rollup)", "MiB"}
	idleTime      = metric{"idle-time", "How long the connections had been idle", "s"}

	growthPerGB    = metric{"growth-cpu-per-gb", "CPU time of the proxy per gigabyte, as there is more of something (fetch, 100 MB/s)", "s/GB"}
	metadataTime   = metric{"metadata-time", "Round trip of a Metadata request", "µs"}
	cpuPerMetadata = metric{"cpu-per-metadata", "CPU time of the proxy per Metadata request", "µs"}

	stallsEnded = metric{"stalls", "Runs flat out with slow and fast readers that ended", "runs per round"}
	frugal      = metric{"frugality", "Inside this project's proxy", ""}
)

// metrics in the order of the report.
var metrics = []metric{
	cpuPerGB, throughput, roundTrip, cpuPerRequest, requestTime, handshakeRate, cpuPerHandshake, resumedShare,
	perConnection, resident, private, idleTime, growthPerGB, metadataTime, cpuPerMetadata, frugal, stallsEnded,
	paceKept, waitsPerGB, systemShare, endsPerGB,
}

// results is all that a run has found. It is written as JSON.
type results struct {
	Date    string     `json:"date"`
	Quick   bool       `json:"quick"`
	Rounds  int        `json:"rounds"`
	Seconds float64    `json:"seconds"`
	Machine machine    `json:"machine"`
	Plan    plan       `json:"plan"`
	Targets []*target  `json:"targets"`
	Metrics []measured `json:"metrics"`
	Goals   []goal     `json:"goals"`
	// HalfLoad is what "half load" was, in MB/s.
	HalfLoad float64   `json:"half_load,omitempty"`
	Failures []failure `json:"failures"`

	half  int
	cases map[string][]string                             // by metric, in the order of the first sample
	all   map[string]map[string]map[string]map[int]sample // by metric, case, target and round
}

// sample is one figure. There may be several of one thing in a round; then
// their mean counts.
type sample struct {
	sum float64
	n   int
}

// measured is one metric as it is written to JSON.
type measured struct {
	Metric string       `json:"metric"`
	Title  string       `json:"title"`
	Unit   string       `json:"unit"`
	Cases  []caseResult `json:"cases"`
}

type caseResult struct {
	Case    string             `json:"case"`
	Targets map[string]summary `json:"targets"`
}

// failure is a sample that could not be taken.
type failure struct {
	Target string `json:"target"`
	Round  int    `json:"round"`
	Case   string `json:"case"`
	Error  string `json:"error"`
}

func newResults(p plan, targets []*target, quick bool) *results {
	return &results{
		Date: time.Now().UTC().Format("2006-01-02"), Quick: quick,
		Machine: describeMachine(), Plan: p, Targets: targets, Failures: []failure{},
		cases: map[string][]string{}, all: map[string]map[string]map[string]map[int]sample{},
	}
}

func (r *results) add(m metric, name string, w *target, round int, value float64) {
	if r.all[m.name] == nil {
		r.all[m.name] = map[string]map[string]map[int]sample{}
	}
	if r.all[m.name][name] == nil {
		r.all[m.name][name] = map[string]map[int]sample{}
		r.cases[m.name] = append(r.cases[m.name], name)
	}
	targets := r.all[m.name][name]
	if targets[w.Name] == nil {
		targets[w.Name] = map[int]sample{}
	}
	s := targets[w.Name][round]
	targets[w.Name][round] = sample{s.sum + value, s.n + 1}
}

// fail notes a sample that could not be taken. Only the first line of the error
// is kept: what follows is from logs, and of this machine.
func (r *results) fail(w *target, round int, name string, err error) {
	first, _, _ := strings.Cut(err.Error(), "\n")
	r.Failures = append(r.Failures, failure{w.Name, round + 1, name, first})
}

// rounds returns the figures of each round that has one.
func (r *results) rounds(m metric, name, target string) map[int]float64 {
	figures := map[int]float64{}
	for round, s := range r.all[m.name][name][target] {
		figures[round] = s.sum / float64(s.n)
	}
	return figures
}

// summary returns what all rounds say.
func (r *results) summary(m metric, name, target string) summary {
	rounds := r.rounds(m, name, target)
	var samples []float64
	for _, round := range slices.Sorted(maps.Keys(rounds)) {
		samples = append(samples, rounds[round])
	}
	return summarize(samples)
}

// ratio compares two targets: within each round, where both met the same
// machine, and then over the rounds.
func (r *results) ratio(m metric, name, target, to string) summary {
	a, b := r.rounds(m, name, target), r.rounds(m, name, to)
	var ratios []float64
	for _, round := range slices.Sorted(maps.Keys(a)) {
		if other, ok := b[round]; ok && other != 0 {
			ratios = append(ratios, a[round]/other)
		}
	}
	return summarize(ratios)
}

// fill puts what was measured where JSON finds it.
func (r *results) fill() {
	r.Metrics = nil
	for _, m := range metrics {
		if len(r.cases[m.name]) == 0 {
			continue
		}
		one := measured{m.name, m.title, m.unit, nil}
		for _, name := range r.cases[m.name] {
			c := caseResult{name, map[string]summary{}}
			for _, w := range r.Targets {
				if s := r.summary(m, name, w.Name); s.ok() {
					c.Targets[w.Name] = s
				}
			}
			one.Cases = append(one.Cases, c)
		}
		r.Metrics = append(r.Metrics, one)
	}
}
