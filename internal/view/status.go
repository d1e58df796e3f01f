package view

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"kafka-sni-proxy/internal/api"
)

// mostFailures is how many of the last failures a status has.
const mostFailures = 10

// Status returns lines about the process as a whole, what is wrong first.
func Status(s *api.Status, c *api.Clusters, f *api.Failures, style Style) []string {
	var all []string
	all = append(all, style.whole(fmt.Sprintf("kafka-sni-proxy %s (%s) on %s, process %d, started %s (%s)", s.Version, s.Go, s.Host, s.PID, clock(s.Started, s.Now), ago(s.Started, s.Now)))...)
	findings := Findings(s, c)
	if len(findings) == 0 {
		all = append(all, style.colour(green, "nothing is wrong"))
	}
	for _, finding := range findings {
		all = append(all, finding.lines(s.Now, style)...)
	}
	all = append(all, "")
	for _, fact := range facts(s) {
		all = append(all, style.labelled(fact[0], fact[1])...)
	}
	sections := []struct {
		title string
		table *Table
	}{
		{"Clusters", clusters(c, s.Now)},
		{"Listeners", listeners(s)},
		{"Certificates", certificates(s)},
		{"Last failures", Failures(f, s.Now, mostFailures)},
	}
	for _, section := range sections {
		if len(section.table.Rows) > 0 {
			all = append(all, "", style.colour(bold, section.title))
			all = append(all, section.table.Lines(style)...)
		}
	}
	if left := len(f.Failures) - mostFailures; left > 0 {
		all = append(all, fmt.Sprintf("and %d more: kafka-sni-proxy top (f), or GET %sfailures", left, api.Prefix))
	}
	return all
}

// whole returns a text, cleaned, in lines that fit.
func (s Style) whole(text string) []string { return wrap(Clean(text), s.Width) }

// label is the width of what stands before a text.
const label = 14

// labelled returns a text in lines that fit, with a label before the first.
func (s Style) labelled(name, text string) []string {
	width := 0
	if s.Width > 0 {
		width = max(s.Width-label, 20)
	}
	lines := wrap(Clean(text), width)
	for i := range lines {
		lines[i] = fmt.Sprintf("%-*s", label, name) + lines[i]
		name = ""
	}
	return lines
}

// lines shows a finding: level, what, text; and below what to do.
func (f Finding) lines(now time.Time, s Style) []string {
	width := 0
	if s.Width > 0 {
		width = max(s.Width-9, 20)
	}
	text := f.What + ": " + f.Text
	if !strings.Contains(f.Text, "since") {
		text += since(f.Since, now)
	}
	lines := wrap(Clean(text), width)
	for i := range lines {
		level := strings.Repeat(" ", 9)
		if i == 0 {
			level = s.colour(f.Level.colour(), f.Level.String()) + level[len(f.Level.String()):]
		}
		lines[i] = level + lines[i]
	}
	if f.Remedy != "" {
		for i, line := range wrap(Clean(f.Remedy), width-2) {
			arrow := "  "
			if i == 0 {
				arrow = "→ "
			}
			lines = append(lines, strings.Repeat(" ", 9)+arrow+line)
		}
	}
	return lines
}

// facts are the lines about a process that is well, each with a label.
func facts(s *api.Status) [][2]string {
	all := [][2]string{{"state", orNone(s.State) + since(s.StateSince, s.Now)}}
	if s.Configuration != "" {
		all = append(all, [2]string{"configuration", s.Configuration})
	}
	c := s.Connections
	open := Count(float64(c.Open)) + " open"
	if c.Most > 0 {
		open += " of " + Count(float64(c.Most))
	}
	all = append(all,
		[2]string{"connections", list(open, counted(c.Accepted, "accepted", nil), counted(sum(c.Refused), "refused", c.Refused), counted(sum(c.Retired), "retired", c.Retired),
			counted(c.AcceptErrors, "not accepted", nil), Count(float64(c.InFlight))+" requests in flight")},
		[2]string{"failed", list(counted(sum(c.Failed), "since the start", c.Failed))},
		[2]string{"traffic", list(Count(float64(s.Traffic.Requests))+" requests", Bytes(float64(s.Traffic.RequestBytes))+" to brokers", Bytes(float64(s.Traffic.ResponseBytes))+" to clients",
			Count(float64(s.Traffic.Rewritten))+" responses rewritten", counted(s.Traffic.Throttled, "throttled by brokers", nil))})
	if r := s.Rates; r != nil {
		all = append(all, [2]string{"now", list(Rates(r)...)})
		if times := Latencies(r); len(times) > 0 {
			all = append(all, [2]string{"latency", strings.Join(times, "; ")})
		}
	}
	return append(all, [2]string{"files", reloads(s)}, [2]string{"process", process(s)})
}

// Rates returns texts about what happens now.
func Rates(r *api.Rates) []string {
	return []string{Count(r.Requests) + " requests/s", Bytes(r.RequestBytes) + "/s to brokers", Bytes(r.ResponseBytes) + "/s to clients",
		Count(r.Opened) + " connections/s", Count(r.Failed) + " failures/s"}
}

// Latencies returns texts about how long requests take, and what of it the proxy adds.
func Latencies(r *api.Rates) (all []string) {
	if q := r.Latency; q != nil {
		all = append(all, "p50 "+Seconds(q.P50)+", p99 "+Seconds(q.P99))
	}
	if q := r.Added; q != nil {
		all = append(all, "of that added by the proxy p50 "+Seconds(q.P50)+", p99 "+Seconds(q.P99))
	}
	return all
}

// reloads says what became of reading files again.
func reloads(s *api.Status) string {
	r := s.Reload
	text := list(counted(r.Changed, "new", nil), counted(r.Failed, "failed", nil))
	if text == "none" {
		text = "not changed since the start"
	} else {
		text = "read again: " + text
	}
	if !r.LastGood.IsZero() {
		text += "; all good at " + clock(r.LastGood, s.Now)
	}
	if len(r.Events) > 0 {
		e := r.Events[0]
		text += "; last " + clock(e.Time, s.Now) + ": " + strings.Join(append(slices.Clone(e.Changed), marked(e.Failed, " failed")...), ", ")
	}
	return text
}

func marked(texts []string, mark string) (all []string) {
	for _, text := range texts {
		all = append(all, text+mark)
	}
	return all
}

// process says what the process uses.
func process(s *api.Status) string {
	p := s.Process
	var all []string
	if p.ResidentBytes > 0 {
		all = append(all, Bytes(float64(p.ResidentBytes))+" of memory")
	}
	if p.CPUSeconds > 0 {
		all = append(all, Seconds(p.CPUSeconds)+" of CPU time")
	}
	if p.OpenDescriptors > 0 {
		open := fmt.Sprintf("%d open files", p.OpenDescriptors)
		if p.MostDescriptors > 0 {
			open += fmt.Sprintf(" of %d", p.MostDescriptors)
		}
		all = append(all, open)
	}
	return strings.Join(append(all, fmt.Sprintf("%d goroutines", p.Goroutines)), ", ")
}

// counted is a number and what it counts, with its parts; "" when it is 0.
func counted(n int64, what string, parts map[string]int64) string {
	if n == 0 {
		return ""
	}
	text := Count(float64(n)) + " " + what
	var each []string
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		if parts[name] > 0 {
			each = append(each, name+" "+Count(float64(parts[name])))
		}
	}
	if len(each) > 0 {
		text += " (" + strings.Join(each, ", ") + ")"
	}
	return text
}

func sum(parts map[string]int64) (n int64) {
	for _, part := range parts {
		n += part
	}
	return n
}

// list joins what is not empty.
func list(texts ...string) string {
	texts = slices.DeleteFunc(texts, func(text string) bool { return text == "" })
	if len(texts) == 0 {
		return "none"
	}
	return strings.Join(texts, ", ")
}

// health is the colour of a state of health.
func health(value string) string {
	return map[string]string{"ok": green, "failing": yellow, "down": red}[value]
}

func clusters(c *api.Clusters, now time.Time) *Table {
	t := &Table{Columns: []Column{
		{Title: "NAME", Least: 10}, {Title: "HEALTH", Colour: health}, {Title: "FOR", Right: true, Drop: 4},
		{Title: "CONNECTIONS", Right: true, Drop: 1}, {Title: "IN-FLIGHT", Right: true, Drop: 5}, {Title: "REQUESTS", Right: true, Drop: 3},
		{Title: "SENT", Right: true, Drop: 6}, {Title: "RECEIVED", Right: true, Drop: 6}, {Title: "FAILED", Right: true, Drop: 2}, {Title: "BROKERS", Right: true, Drop: 2},
		{Title: "TLS", Drop: 8}, {Title: "VIA", Drop: 8, Least: 8}, {Title: "BOOTSTRAP", Drop: 5, Least: 12}, {Title: "ID", Drop: 9, Least: 8}, {Title: "UPSTREAMS", Drop: 7, Least: 12},
	}}
	for _, k := range c.Clusters {
		brokers := 0
		for _, b := range k.Brokers {
			if b.Node != nil {
				brokers++
			}
		}
		t.Rows = append(t.Rows, []string{k.Name, k.Health, ago(k.Since, now), fmt.Sprint(k.Connections), fmt.Sprint(k.InFlight), Count(float64(k.Traffic.Requests)),
			Bytes(float64(k.Traffic.RequestBytes)), Bytes(float64(k.Traffic.ResponseBytes)), Count(float64(sum(k.Failed))), fmt.Sprint(brokers), yes(k.TLS), k.Via, k.Bootstrap, k.ID, strings.Join(k.Upstreams, ",")})
	}
	return t
}

func listeners(s *api.Status) *Table {
	t := &Table{Columns: []Column{
		{Title: "NAME", Least: 10}, {Title: "ADDRESS", Least: 12}, {Title: "MODE", Drop: 5}, {Title: "TLS", Drop: 4}, {Title: "MTLS", Drop: 6},
		{Title: "CONNECTIONS", Right: true, Drop: 1}, {Title: "BROKER-PORTS", Drop: 7}, {Title: "CLUSTERS", Drop: 2, Least: 8}, {Title: "BOOTSTRAP", Drop: 3, Least: 14},
	}}
	for _, l := range s.Listeners {
		t.Rows = append(t.Rows, []string{l.Name, l.Address, l.Mode, yes(l.TLS), yes(l.MTLS), fmt.Sprint(l.Connections), l.BrokerPorts, strings.Join(l.Clusters, ","), strings.Join(l.Bootstrap, ",")})
	}
	return t
}

func certificates(s *api.Status) *Table {
	t := &Table{Columns: []Column{
		{Title: "USE", Drop: 2}, {Title: "OF", Least: 8}, {Title: "VALID-UNTIL"}, {Title: "LEFT", Right: true, Drop: 1},
		{Title: "FILE", Drop: 3, Least: 12}, {Title: "SUBJECT", Drop: 4, Least: 12}, {Title: "ISSUER", Drop: 7, Least: 12}, {Title: "SHA-256", Drop: 8, Least: 12}, {Title: "NAMES", Drop: 5, Least: 14},
	}}
	for _, c := range s.Certificates {
		left := "expired"
		if c.NotAfter.After(s.Now) {
			left = whole(c.NotAfter.Sub(s.Now).Seconds())
		}
		t.Rows = append(t.Rows, []string{c.Use, c.Of, c.NotAfter.UTC().Format(time.DateOnly), left, c.File, c.Subject, c.Issuer, c.Fingerprint, strings.Join(c.Names, ",")})
	}
	return t
}

// Failures returns a table of the last failures, at most so many.
func Failures(f *api.Failures, now time.Time, most int) *Table {
	t := &Table{Columns: []Column{
		{Title: "AGO", Right: true}, {Title: "COUNT", Right: true, Drop: 2}, {Title: "PHASE", Drop: 1}, {Title: "CLIENT", Least: 10, Drop: 3}, {Title: "CLUSTER", Drop: 5, Least: 8},
		{Title: "LISTENER", Drop: 7, Least: 8}, {Title: "BROKER", Drop: 6, Least: 12}, {Title: "SNI", Drop: 4, Least: 12}, {Title: "REASON", Least: 30},
	}}
	for _, e := range f.Failures[:min(len(f.Failures), most)] {
		t.Rows = append(t.Rows, []string{ago(e.Last, now), Count(float64(e.Count)), e.Phase, withoutPort(e.Client), e.Cluster, e.Listener, e.Broker, e.SNI, e.Reason})
	}
	return t
}

// withoutPort is the address of a client alone: its port tells nothing after it is gone.
func withoutPort(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}
