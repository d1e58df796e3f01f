package main

import (
	"fmt"
	"strings"
)

// goal is one of the project's goals for speed, and whether this run reached
// it.
type goal struct {
	Goal string `json:"goal"`
	// Figure is what was measured.
	Figure  string `json:"figure"`
	Verdict string `json:"verdict"`
}

const (
	reached     = "reached"
	notReached  = "NOT REACHED"
	notMeasured = "not measured"
)

// judge compares what was measured with the goals. A limit is held by the
// median.
func (r *results) judge() {
	r.Goals = nil
	four := r.Plan.PacedConnections

	var loads []string
	for _, d := range directions {
		loads = append(loads, pacedCase(d.name, 150), flatOutCase(d.name, four))
	}
	for _, limit := range []struct {
		to  string
		max float64
	}{{naive, 0.85}, {haproxy, 0.8}} {
		for _, load := range loads {
			r.atMost("CPU per GB, "+load, cpuPerGB, load, limit.to, limit.max)
		}
	}
	for _, load := range loads {
		s := r.summary(cpuPerGB, load, ours)
		r.goal(fmt.Sprintf("CPU per GB, %s: ≤ 1.15 s/GB (further)", load), s, "s/GB", s.Median <= 1.15)
	}
	for _, d := range directions {
		r.atLeast("throughput, "+flatOutCase(d.name, 1), throughput, flatOutCase(d.name, 1), naive, 1.1)
		r.atLeast("throughput, "+flatOutCase(d.name, four), throughput, flatOutCase(d.name, four), haproxy, 1)
	}
	r.stallGoal()
	for _, load := range []string{alone, busy} {
		r.atMost("round trip "+load+", p50", roundTrip, load+", p50", naive, 1.1)
		r.atMost("round trip "+load+", p99", roundTrip, load+", p99", haproxy, 1)
	}
	for _, state := range []string{opened, carried, rested} {
		name := idleCase(1000, state)
		s := r.summary(perConnection, name, ours)
		text := "memory per connection, " + name
		holds := s.Median <= 30
		if idle := r.summary(idleTime, name, ours); idle.ok() {
			text += fmt.Sprintf(" for %.0f s", idle.Median)
			if holds && idle.Low < 60 {
				text += " (a minute is meant)"
			}
		}
		r.goal(text+": ≤ 30 KiB", s, "KiB", holds)
	}
	rest := r.summary(resident, atRest, ours)
	r.goal("memory at rest: ≤ 12 MiB", rest, "MiB", rest.Median <= 12)
	each := r.summary(frugal, goroutinesEach, ours)
	// What answers /metrics has goroutines, too: a few for all connections.
	r.goal("goroutines: ≤ 2 per connection", each, "", each.Median <= 2.05)
	for _, name := range []string{smallAllocs, mediumAllocs} {
		s := r.summary(frugal, name, ours)
		// One for every frame would be 1; this is what cannot be told from 0.
		r.goal(name+": 0 (below 0.1)", s, "", s.Median < 0.1)
	}
	rewriting := r.summary(frugal, rewriteMetadata, ours)
	r.goal("rewriting Metadata of 1000 brokers: < 100 µs", rewriting, "µs", rewriting.Median < 100)
}

func (r *results) goal(text string, s summary, unit string, holds bool) {
	g := goal{text, spread(s, unit), notReached}
	switch {
	case !s.ok():
		g.Verdict, g.Figure = notMeasured, ""
	case holds:
		g.Verdict = reached
	}
	r.Goals = append(r.Goals, g)
}

func (r *results) atMost(text string, m metric, name, to string, limit float64) {
	s := r.ratio(m, name, ours, to)
	r.goal(fmt.Sprintf("%s: ≤ %s × %s", text, figure(limit), to), s, "×", s.Median <= limit)
}

func (r *results) atLeast(text string, m metric, name, to string, limit float64) {
	s := r.ratio(m, name, ours, to)
	r.goal(fmt.Sprintf("%s: ≥ %s × %s", text, figure(limit), to), s, "×", s.Median >= limit)
}

// stallGoal wants every run to have ended, those of slow readers and all
// others.
func (r *results) stallGoal() {
	ended := 0.0
	for _, n := range r.rounds(stallsEnded, "runs that ended", ours) {
		ended += n
	}
	failed := 0
	for _, f := range r.Failures {
		if f.Target == ours {
			failed++
		}
	}
	g := goal{Goal: "nothing stalls: all runs with slow and fast readers end, and nothing else fails", Verdict: notReached}
	g.Figure = fmt.Sprintf("%.0f runs ended, %s", ended, count(failed, "failure"))
	switch {
	case failed > 0:
	case ended > 0:
		g.Verdict = reached
	default:
		g.Verdict, g.Figure = notMeasured, ""
	}
	r.Goals = append(r.Goals, g)
}

// spread writes a median with the least and the greatest figure.
func spread(s summary, unit string) string {
	if !s.ok() {
		return "–"
	}
	text := figure(s.Median)
	if len(s.Samples) > 1 {
		text += fmt.Sprintf(" (%s–%s)", figure(s.Low), figure(s.High))
	}
	return strings.TrimSpace(text + " " + unit)
}
