package main

import (
	"strings"

	"kafka-sni-proxy/bench/plot"
)

// picture is a plot and the file that it goes to.
type picture struct {
	file string
	bars plot.Bars
}

const (
	less = "less is better; bars are medians, lines the spread over the rounds"
	more = "more is better; bars are medians, lines the spread over the rounds"
)

// pictures draws what the README shows.
func (r *results) pictures() []picture {
	var all []picture
	draw := func(file, title, note string, m metric, cases []string, short func(string) string) {
		b := plot.Bars{Title: title, Note: note, Unit: m.unit}
		for _, name := range cases {
			b.Groups = append(b.Groups, short(name))
		}
		for _, w := range r.Targets {
			s := plot.Series{Name: w.Name, Strong: w.Name == ours}
			found := false
			for _, name := range cases {
				v := plot.None
				if sum := r.summary(m, name, w.Name); sum.ok() {
					v, found = plot.Value{Mid: sum.Median, Low: sum.Low, High: sum.High}, true
				}
				s.Values = append(s.Values, v)
			}
			if found {
				b.Series = append(b.Series, s)
			}
		}
		if len(b.Series) > 0 {
			all = append(all, picture{file + ".svg", b})
		}
	}

	for _, d := range directions {
		var cases, flat []string
		for _, rate := range r.Plan.Rates {
			cases = append(cases, pacedCase(d.name, rate))
		}
		for _, n := range r.Plan.Connections {
			flat = append(flat, flatOutCase(d.name, n))
		}
		behind := func(name string) string { return strings.TrimPrefix(name, d.name+", ") }
		draw("cpu-"+d.name, "CPU time of the proxy per gigabyte, "+d.name, less, cpuPerGB, append(cases, flat...), behind)
		draw("throughput-"+d.name, "Throughput flat out, "+d.name, more, throughput, flat, func(name string) string {
			return strings.TrimPrefix(behind(name), "flat out, ")
		})
	}
	for _, load := range []struct{ name, file, title string }{
		{alone, "round-trip", "Round trip of a small request"},
		{busy, "round-trip-busy", "Round trip of a small request, while the target carries half load"},
	} {
		draw(load.file, load.title, less, roundTrip, []string{load.name + ", p50", load.name + ", p99", load.name + ", p99.9"},
			func(name string) string { return strings.TrimPrefix(name, load.name+", ") })
	}
	draw("cpu-per-request", "CPU time of the proxy per small request", less, cpuPerRequest, r.cases[cpuPerRequest.name], same)
	for _, load := range []struct{ name, file string }{{alone, "requests"}, {r.Plan.atRate(), "requests-at-rate"}} {
		var cases []string
		for _, size := range requestSizes {
			name := requestCase(size, load.name)
			cases = append(cases, name+", p50", name+", p99")
		}
		draw(load.file, "Time to the answer of a Produce request, "+load.name, less, requestTime, cases, func(name string) string {
			return strings.Replace(name, ", "+load.name, "", 1)
		})
	}
	draw("handshakes", "Short connections per second", more, handshakeRate, r.cases[handshakeRate.name], same)
	draw("handshake-cpu", "CPU time of the proxy per short connection", less, cpuPerHandshake, r.cases[cpuPerHandshake.name], same)
	draw("memory", "Resident memory per idle connection", less, perConnection, r.cases[perConnection.name], func(name string) string {
		return strings.Replace(name, " idle connections", "", 1)
	})
	draw("growth", "CPU time of the proxy per gigabyte, fetch at 100 MB/s", less, growthPerGB, r.cases[growthPerGB.name], same)
	draw("metadata", "CPU time of the proxy per Metadata request", less, cpuPerMetadata, r.cases[cpuPerMetadata.name], same)
	return all
}

func same(name string) string { return name }
