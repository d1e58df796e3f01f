// Package preflight tries what a proxy will do before clients depend on it, and says of each
// thing whether it will work, and if not, what to do.
//
// [Cluster.Run] goes the way out: to each bootstrap server, and, if the cluster tells of
// them, to each broker. [Listener.Run] looks at what clients will be shown and have to
// resolve. [Client.Run] goes the way in, through a proxy that runs, as a client would. [Show]
// only looks at what a broker shows of itself.
//
// Nothing is changed anywhere: the requests that are sent are ApiVersions, Metadata for no
// topics, and SASL when there is a login for it. What is said of settings is in terms of
// flags.
package preflight

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
)

// Level is what came of a check.
type Level int

// The levels, in order of severity.
const (
	OK      Level = iota
	Note          // it could not be checked, or is worth knowing
	Warning       // it may not work for all clients, or not for long
	Failed        // it would not work
)

var levels = [...]string{"ok", "note", "warning", "failed"}

func (l Level) String() string { return levels[l] }

// MarshalText implements encoding.TextMarshaler.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Result is what came of one check.
type Result struct {
	Subject string `json:"subject"` // of several checks: a listener, a cluster
	What    string `json:"what"`    // was checked: a file, an address, a name
	Level   Level  `json:"level"`
	Result  string `json:"result"`           // what was found
	Remedy  string `json:"remedy,omitempty"` // what to do about it
}

// Report collects results. Its methods may be called concurrently. The zero value is ready
// to use.
type Report struct {
	// Progress, if set, is told what is being checked.
	Progress func(what string)
	// Until, if set, is when checking is given up: what is found then is left out.
	Until context.Context

	words func(text string) string // what is said is written with; nil: as it is
	into  *Report                  // gets the results; nil: this one

	mu      sync.Mutex
	results []Result
}

// Add adds a result.
func (r *Report) Add(results ...Result) {
	if r.into != nil {
		for _, result := range results {
			result.Result, result.Remedy = r.words(result.Result), r.words(result.Remedy)
			r.into.Add(result)
		}
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Until == nil || r.Until.Err() == nil {
		r.results = append(r.results, results...)
	}
}

// End adds a last result, also after Until.
func (r *Report) End(last Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results = append(r.results, last)
}

// In returns a report that adds to this one what it is told, in other words.
func (r *Report) In(words func(text string) string) *Report {
	return &Report{Progress: r.Progress, words: words, into: r}
}

// Results returns what there is so far.
func (r *Report) Results() []Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.results
}

// Count returns how many results are of a level.
func (r *Report) Count(l Level) (n int) {
	for _, result := range r.Results() {
		if result.Level == l {
			n++
		}
	}
	return n
}

// Works reports whether nothing was found that would not work.
func (r *Report) Works() bool { return r.Count(Failed) == 0 }

// MarshalJSON implements json.Marshaler: {"works": true, "results": […]}.
func (r *Report) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Works   bool     `json:"works"`
		Results []Result `json:"results"`
	}{r.Works(), r.Results()})
}

func (r *Report) progress(format string, args ...any) {
	if r.Progress != nil {
		r.Progress(fmt.Sprintf(format, args...))
	}
}

// atOnce is how many brokers are tried at the same time.
const atOnce = 16

// each calls f for the numbers below n, several at a time, and adds the results in order.
func (r *Report) each(ctx context.Context, n int, f func(ctx context.Context, i int) []Result) {
	results := make([][]Result, n)
	slots := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	var mu sync.Mutex
	done, next := make([]bool, n), 0
	for i := range n {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			some := f(ctx, i)
			mu.Lock()
			defer mu.Unlock()
			results[i], done[i] = some, true
			for ; next < n && done[next]; next++ { // at once, should somebody stop the rest
				r.Add(results[next]...)
			}
		})
	}
	all.Wait()
}
