package page

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"kafka-sni-proxy/internal/api"
)

// What the page shows, as text in its place: web/page.html lays it out. web/page.js makes
// the same of later answers, by functions of the same names; a test compares the two.

// part is a piece of text with a class, and a link if it has an address.
type part struct{ Text, Class, Href string }

// cell is what a cell of a table holds. The class n is for numbers.
type cell struct {
	Class string
	Parts []part
}

// row is a row of a table, or an item of a list. Key stays when its values change.
type row struct {
	Key   string
	Cells []cell
}

// table is the rows that are shown. More says what is left out; empty: nothing.
type table struct {
	Rows []row
	More string
}

// fact is a named value.
type fact struct {
	Key, Name string
	Parts     []part
}

// choice is an option of a select element.
type choice struct {
	Value, Text string
	Selected    bool
}

// view is the whole page.
type view struct {
	Status  api.Status
	Title   string
	AsOf    string
	Level   string // wrong or ok
	Verdict string
	State   []part
	Wrong   []row // what is wrong, the worst first
	Notes   []row // what may be wrong

	Figures      []fact
	Overview     table
	Clusters     []clusterView
	Failures     table
	Sessions     sessionsView
	Listeners    table
	Certificates table
	Reload       []fact
	Problems     table
	Events       table
	Process      []fact
}

// clusterView is one cluster in detail. NewCluster is an empty one, for page.js to copy.
type clusterView struct {
	ID, Name string
	Open     bool
	Facts    []fact
	Brokers  table
	APIs     table
}

// sessionsView is the table of sessions with what chooses them.
type sessionsView struct {
	Query    api.SessionQuery
	Mistake  string
	Columns  []column
	Table    table
	Range    string
	Previous string // a link; empty: this is the first page
	Next     string

	Clusters, Listeners, States []choice
}

// column is a column of the sessions. Without an address it is not sorted by.
type column struct{ Name, Class, Sort, Href, Direction string }

const defaultSort = "-age"

// Limits of what the page shows. All of it is under /api/v1/.
const (
	maxFailures = 50
	maxEvents   = 10
	maxBrokers  = 200 // in all
)

// newView asks the source once for each thing, so that the numbers go together.
func newView(s Source, query api.SessionQuery, mistake error) view {
	status, clusters, failures := s.Status(), s.Clusters().Clusters, s.Failures().Failures
	sessions := s.Sessions(query)
	if offset := lastPage(sessions.Matching, query.Limit); query.Offset > offset {
		query.Offset = offset
		sessions = s.Sessions(query)
	}
	now := status.Now
	v := view{Status: status, AsOf: moment(now, now), State: state(status)}
	v.Wrong, v.Notes = verdict(status, clusters, failures)
	v.Level, v.Verdict = "ok", "No problems"
	if len(v.Wrong) > 0 {
		v.Level, v.Verdict = "wrong", plural(len(v.Wrong), "problem", "problems")
	}
	v.Title = v.Verdict + " – kafka-sni-proxy on " + status.Host
	v.Figures = figures(status)
	for _, c := range clusters {
		v.Overview.Rows = append(v.Overview.Rows, clusterRow(c, now))
		v.Clusters = append(v.Clusters, clusterDetail(c, now, len(clusters)))
	}
	v.Failures = failureList(failures, now)
	v.Sessions = newSessionsView(sessions, query, clusters, status.Listeners)
	if mistake != nil {
		v.Sessions.Mistake = mistake.Error()
	}
	for _, l := range status.Listeners {
		v.Listeners.Rows = append(v.Listeners.Rows, listenerRow(l))
	}
	for _, c := range status.Certificates {
		v.Certificates.Rows = append(v.Certificates.Rows, certificateRow(c, now))
	}
	v.Reload = reloadFacts(status)
	for _, p := range status.Reload.Problems {
		v.Problems.Rows = append(v.Problems.Rows, problemRow(p, now))
	}
	v.Events = events(status.Reload.Events, now)
	v.Process = processFacts(status)
	return v
}

func plain(text string) cell     { return cell{Parts: []part{{Text: text}}} }
func number(text string) cell    { return cell{Class: "n", Parts: []part{{Text: text}}} }
func parts(several ...part) cell { return cell{Parts: several} }
func small(text string) part     { return part{Text: text, Class: "sub"} }
func line(text string) part      { return part{Text: text, Class: "line"} }
func remedy(text string) part    { return part{Text: "→ " + text, Class: "line remedy"} }
func item(key string, several ...part) row {
	return row{Key: key, Cells: []cell{{Parts: slices.DeleteFunc(several, func(p part) bool { return p.Text == "" || p.Text == "→ " })}}}
}

// health shows a state of a cluster or a broker; style.css puts a sign in front.
func health(state string) part { return part{Text: state, Class: "health " + state} }

// state is what the process does, for the line below the verdict.
func state(s api.Status) []part {
	all := []part{{Text: s.State, Class: "state " + s.State}, {Text: "since " + since(s.StateSince, s.Now)}}
	if s.State == "draining" {
		all = append(all, part{Text: "No new clients are accepted; " + plural(s.Connections.Open, "connection is", "connections are") + " left."})
	}
	if h := s.HandOver; h != nil {
		change := "Another process is being started, and will take over"
		if h.From != 0 {
			change = "This process has taken over from process " + strconv.Itoa(h.From) + ", which is closing its connections"
		}
		all = append(all, part{Text: change + ": since " + since(h.Since, s.Now) + "."})
	}
	return all
}

// recent is for how long a failure counts as one of now.
const recent = 5 * time.Minute

// sides says where the cause of a failure is most likely, by its phase.
var sides = map[string]string{
	"first-byte": "client", "handshake": "client", "route": "client", "authenticate": "client or its credential",
	"dial": "broker or network", "upstream-tls": "broker", "cluster": "broker", "broker-login": "broker",
	"request": "client or broker", "response": "client or broker",
	"rewrite": "proxy", "limit": "proxy's limits",
}

// verdict returns what is wrong and what may be, each with since when and what to do.
func verdict(s api.Status, clusters []api.Cluster, failures []api.Failure) (wrong, notes []row) {
	now := s.Now
	told := map[string]bool{} // clusters that are wrong: what failed there needs no second line
	for _, state := range []string{"down", "failing"} {
		for _, c := range clusters {
			if c.Health == state {
				told[c.Name] = true
				wrong = append(wrong, clusterProblem(c, now))
			}
		}
	}
	for _, c := range clusters {
		if c.OtherCluster > 0 {
			wrong = append(wrong, item("other-cluster "+c.Name, part{Text: "Cluster " + c.Name + ": " + plural(c.OtherCluster, "address has", "addresses have") + " the id of another cluster: connections to them are refused", Href: clusterLink(c.Name)}))
		}
	}
	for _, p := range s.Reload.Problems {
		wrong = append(wrong, item("file "+p.Setting, part{Text: "Files of " + p.Setting + " cannot be used", Href: "#files"}, part{Text: "since " + since(p.Since, now)},
			line(p.Error), remedy("What was loaded before stays in use. Repair "+strings.Join(p.Files, ", "))))
	}
	for _, c := range s.Certificates {
		if text := certificateProblem(c, now); text != "" {
			wrong = append(wrong, item("certificate "+c.Use+" "+c.Of+" "+c.Fingerprint, part{Text: "Certificate of " + c.Use + " " + c.Of + ": " + text, Href: "#certificates"}, line(c.Warning)))
		}
	}
	if c := s.Connections; c.Most > 0 && c.Open >= c.Most {
		wrong = append(wrong, item("full", part{Text: "The limit of " + count(c.Most) + " connections is reached: new clients are refused", Href: "#process"}, remedy("raise --max-connections, or sort the sessions by client to see who opens them")))
	} else if c.Most > 0 && c.Open >= c.Most/10*9 {
		notes = append(notes, item("full", part{Text: count(c.Open) + " of " + count(c.Most) + " connections are open", Href: "#process"}))
	}
	if p := s.Process; p.MostDescriptors > 0 && int64(p.OpenDescriptors) >= p.MostDescriptors/10*9 {
		wrong = append(wrong, item("descriptors", part{Text: count(p.OpenDescriptors) + " of " + count(p.MostDescriptors) + " file descriptors are open", Href: "#process"}, remedy("raise the limit (LimitNOFILE, ulimit -n)")))
	}
	for _, side := range []string{"broker or network", "broker", "proxy", "proxy's limits", "client", "client or broker"} {
		of := failures
		if strings.HasPrefix(side, "broker") {
			of = slices.DeleteFunc(slices.Clone(failures), func(f api.Failure) bool { return told[f.Cluster] })
		}
		if r, ok := failuresOf(side, of, now); !ok {
			continue
		} else if side == "client" || side == "client or broker" {
			notes = append(notes, r)
		} else {
			wrong = append(wrong, r)
		}
	}
	for _, c := range clusters {
		notes = append(notes, stalls(c)...)
	}
	for i, text := range s.Warnings {
		isTold := func(c api.Certificate) bool { return c.Warning != "" && strings.Contains(text, c.File+" expires on ") }
		if slices.ContainsFunc(s.Certificates, isTold) {
			continue
		}
		notes = append(notes, item("warning "+strconv.Itoa(i), part{Text: text}))
	}
	if s.Connections.Panics > 0 {
		notes = append(notes, item("panics", part{Text: plural(int(s.Connections.Panics), "panic was", "panics were") + " caught since the start: a bug of the proxy. Please report the log's line."}))
	}
	return wrong, notes
}

func isWrong(c api.Cluster) bool { return c.Health == "down" || c.Health == "failing" }

// addresses are the brokers of a cluster, and those upstreams that are no known broker.
func addresses(c api.Cluster) []api.Broker {
	known := map[string]bool{}
	for _, b := range c.Brokers {
		if b.Node != nil {
			known[b.Address] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(c.Brokers), func(b api.Broker) bool { return b.Node == nil && known[b.Address] })
}

func clusterProblem(c api.Cluster, now time.Time) row {
	text := "Cluster " + c.Name + " is down: none of its addresses can be reached"
	var worst api.Broker
	down, all := 0, addresses(c)
	for _, b := range all {
		if b.Health == "down" {
			down++
			if b.LastError != "" && b.LastErrorAt.After(worst.LastErrorAt) {
				worst = b
			}
		}
	}
	if c.Health == "failing" {
		text = "Cluster " + c.Name + ": " + count(down) + " of " + plural(len(all), "address", "addresses") + " cannot be reached"
	}
	example := ""
	if worst.LastError != "" {
		example = worst.Address + ": " + worst.LastError
	}
	return item("cluster "+c.Name, part{Text: text, Href: clusterLink(c.Name)}, part{Text: "since " + since(c.Since, now)}, line(example), remedy(worst.Remedy))
}

// failuresOf tells of the recent failures whose cause is most likely on one side.
func failuresOf(side string, failures []api.Failure, now time.Time) (row, bool) {
	var phases []string
	var last api.Failure
	kinds := 0
	first := now
	for _, f := range failures {
		if sides[f.Phase] != side || now.Sub(f.Last) > recent {
			continue
		}
		kinds++
		if !slices.Contains(phases, f.Phase) {
			phases = append(phases, f.Phase)
		}
		if f.First.Before(first) {
			first = f.First
		}
		if kinds == 1 {
			last = f
		}
	}
	if kinds == 0 {
		return row{}, false
	}
	slices.Sort(phases)
	return item("failures "+side, part{Text: "Connections failed in the last 5 minutes, likely cause: " + side, Href: "#failures"},
		part{Text: "phase " + strings.Join(phases, ", ") + "; " + plural(kinds, "kind of error", "kinds of error") + ", the first at " + since(first, now)}, line(last.Reason), remedy(last.Remedy)), true
}

// certificateProblem says what is wrong with a certificate; empty: nothing.
func certificateProblem(c api.Certificate, now time.Time) string {
	switch {
	case now.After(c.NotAfter):
		return "expired " + since(c.NotAfter, now)
	case now.Before(c.NotBefore):
		return "not valid before " + moment(c.NotBefore, now)
	case c.Warning != "":
		return "expires " + moment(c.NotAfter, now) + ", in " + length(c.NotAfter.Sub(now).Seconds())
	}
	return ""
}

func figures(s api.Status) []fact {
	most := "no limit"
	if s.Connections.Most > 0 {
		most = "limit " + count(s.Connections.Most)
	}
	requests, in, out, failed, opened := "–", "–", "–", "–", "–"
	var taken, added *api.Quantiles
	if r := s.Rates; r != nil {
		requests, in, out = decimal(r.Requests)+" /s", size(r.RequestBytes)+"/s", size(r.ResponseBytes)+"/s"
		failed, opened = decimal(r.Failed)+" /s", decimal(r.Opened)+" new /s"
		taken, added = r.Latency, r.Added
	}
	return []fact{
		{"connections", "Connections", []part{{Text: count(s.Connections.Open)}, small(most), small(opened)}},
		{"requests", "Requests", []part{{Text: requests}, small(count(s.Connections.InFlight) + " in flight")}},
		{"in", "To brokers", []part{{Text: in}, small(size(float64(s.Traffic.RequestBytes)) + " since the start")}},
		{"out", "To clients", []part{{Text: out}, small(size(float64(s.Traffic.ResponseBytes)) + " since the start")}},
		{"latency", "Broker latency", quantiles(taken)},
		{"added", "Added by the proxy", quantiles(added)},
		{"failed", "Failed connections", []part{{Text: failed}, small(count(sum(s.Connections.Failed)) + " since the start")}},
		{"up", "Uptime", []part{{Text: length(s.Now.Sub(s.Started).Seconds())}, small("since " + moment(s.Started, s.Now))}},
	}
}

func quantiles(q *api.Quantiles) []part {
	if q == nil {
		return []part{{Text: "–"}, small("no requests")}
	}
	return []part{{Text: latency(q.P50)}, small("p50"), small("p99 " + latency(q.P99))}
}

func clusterLink(name string) string { return "#cluster-" + url.PathEscape(name) }

// sessionsLink leads to the sessions of a query.
func sessionsLink(q api.SessionQuery) string {
	if q.Sort == defaultSort {
		q.Sort = ""
	}
	if q.Limit == sessionsPerPage {
		q.Limit = 0
	}
	if query := q.Values().Encode(); query != "" {
		return "/?" + query + "#sessions"
	}
	return "/#sessions"
}

func clusterRow(c api.Cluster, now time.Time) row {
	reached, tried, all := 0, 0, addresses(c)
	for _, b := range all {
		if b.Health == "ok" {
			reached++
		}
		if b.Health != "unknown" {
			tried++
		}
	}
	untried := ""
	if n := len(all) - tried; n > 0 {
		untried = count(n) + " not tried yet"
	}
	return row{c.Name, []cell{
		parts(part{Text: c.Name, Href: clusterLink(c.Name)}),
		healthCell(c.Health, c.Since, now),
		{"n", []part{{Text: count(reached) + " of " + count(tried)}, small(untried)}},
		{"n", []part{{Text: count(c.Connections), Href: sessionsLink(api.SessionQuery{Cluster: c.Name})}}},
		number(count(c.InFlight)),
		number(count(c.Traffic.Requests)),
		number(size(float64(c.Traffic.RequestBytes))),
		number(size(float64(c.Traffic.ResponseBytes))),
		number(count(sum(c.Failed))),
	}}
}

func healthCell(state string, from, now time.Time) cell {
	if from.IsZero() {
		return parts(health(state))
	}
	return parts(health(state), small("since "+since(from, now)))
}

// brokersShown is how many brokers of each cluster are shown, with so many clusters.
func brokersShown(clusters int) int { return max(5, min(50, maxBrokers/max(1, clusters))) }

func clusterDetail(c api.Cluster, now time.Time, clusters int) clusterView {
	v := clusterView{
		ID:   "cluster-" + c.Name,
		Name: c.Name,
		Open: clusters <= 3 || isWrong(c),
	}
	tls := "none (plaintext)"
	if c.TLS {
		tls = "yes"
	}
	v.Facts = []fact{
		{"id", "Cluster id", []part{{Text: cmp.Or(c.ID, "not known yet")}}},
		{"bootstrap", "Bootstrap for clients", []part{{Text: c.Bootstrap}}},
		{"upstreams", "Upstreams", []part{{Text: strings.Join(c.Upstreams, ", ")}}},
		{"tls", "TLS to brokers", []part{{Text: tls}}},
		{"via", "Path to brokers", []part{{Text: cmp.Or(c.Via, "direct")}}},
		{"failed", "Failed connections", []part{{Text: counts(c.Failed)}}},
		{"refused", "Refused by the cluster's connection limit", []part{{Text: count(c.Refused)}}},
		{"throttled", "Throttled by brokers", []part{{Text: count(c.Traffic.Throttled) + " responses"}}},
		{"rewritten", "Rewritten by the proxy", []part{{Text: count(c.Traffic.Rewritten) + " responses"}}},
		{"provisional", "Connections to a broker not known yet", []part{{Text: count(c.Provisional)}}},
		{"queries", "Requests of the proxy itself", []part{{Text: count(c.Queries.Answered) + " answered, " + count(c.Queries.Failed) + " failed"}}},
	}
	brokers := addresses(c)
	slices.SortStableFunc(brokers, func(a, b api.Broker) int { return brokerRank(a) - brokerRank(b) })
	if most := brokersShown(clusters); len(brokers) > most {
		v.Brokers.More = "The first " + count(most) + " of " + count(len(brokers)) + ", those that are down first. All: /api/v1/clusters"
		brokers = brokers[:most]
	}
	for _, b := range brokers {
		v.Brokers.Rows = append(v.Brokers.Rows, brokerRow(b, now))
	}
	for _, a := range c.APIs {
		v.APIs.Rows = append(v.APIs.Rows, row{a.API, []cell{plain(a.API), number(count(a.Answers)), number(latency(a.Latency.P50)), number(latency(a.Latency.P99))}})
	}
	return v
}

func brokerRank(b api.Broker) int {
	if b.Health == "down" {
		return 0
	}
	return 1
}

func brokerRow(b api.Broker, now time.Time) row {
	who := part{Text: "upstream"}
	if b.Node != nil {
		who.Text = "broker " + strconv.Itoa(int(*b.Node))
	}
	known := ""
	if !b.Confirmed && b.Node != nil {
		known = "only in the routes file so far"
	}
	dial, dialled := "–", ""
	if !b.LastDial.IsZero() {
		dial, dialled = latency(b.LastDialSeconds), since(b.LastDial, now)
	}
	failure := cell{"wide", []part{{Text: "none"}}}
	if b.LastError != "" {
		failure.Parts = []part{{Text: b.LastError}, {Text: since(b.LastErrorAt, now), Class: "sub"}}
		if b.Remedy != "" {
			failure.Parts = append(failure.Parts, remedy(b.Remedy))
		}
	}
	return row{who.Text + " " + b.Address, []cell{
		parts(who, small(b.Name), small(known)),
		healthCell(b.Health, b.Since, now),
		plain(b.Address),
		{"n", []part{{Text: count(b.Connections), Href: sessionsLink(api.SessionQuery{Broker: b.Address})}}},
		{"n", []part{{Text: dial}, small(dialled)}},
		{"n", []part{{Text: count(b.Dials)}, small(count(b.DialErrors) + " failed")}},
		failure,
	}}
}

func failureList(failures []api.Failure, now time.Time) (t table) {
	if len(failures) > maxFailures {
		t.More = "The newest " + count(maxFailures) + " of " + count(len(failures)) + ". All: /api/v1/failures"
		failures = failures[:maxFailures]
	}
	for _, f := range failures {
		where := ""
		for _, named := range [][2]string{{"server name ", f.SNI}, {"listener ", f.Listener}, {"cluster ", f.Cluster}, {"broker ", f.Broker}} {
			if named[1] != "" {
				where += ", " + named[0] + named[1]
			}
		}
		times, first := "", ""
		if f.Count > 1 {
			times, first = count(f.Count)+" times", "first "+since(f.First, now)
		}
		// A kind of failure keeps its row while it is counted up.
		key := f.First.UTC().Format("20060102150405.000") + " " + f.Phase + " " + f.Reason
		t.Rows = append(t.Rows, item(key,
			part{Text: since(f.Last, now), Class: "strong"}, part{Text: times, Class: "strong"}, part{Text: "phase " + f.Phase, Class: "tag"},
			part{Text: "likely cause: " + cmp.Or(sides[f.Phase], "unknown"), Class: "tag"}, small(first),
			line(f.Reason), remedy(f.Remedy), part{Text: "client " + f.Client + where, Class: "line dim"}))
	}
	return t
}

// sessionColumns are the columns with the field that each is sorted by. What is text is
// sorted from the first letter on, numbers from the greatest.
var sessionColumns = []column{
	{Name: "Client", Sort: "client"}, {Name: "Software", Sort: "software"}, {Name: "Server name", Sort: "sni"},
	{Name: "Cluster", Sort: "cluster"}, {Name: "Broker", Sort: "broker"}, {Name: "State"},
	{Name: "Age", Sort: "-age", Class: "n"}, {Name: "Idle", Sort: "-idle", Class: "n"},
	{Name: "Requests", Sort: "-requests", Class: "n"}, {Name: "Bytes", Sort: "-bytes", Class: "n"}, {Name: "Rate", Sort: "-rate", Class: "n"},
	{Name: "In flight", Sort: "-in-flight", Class: "n"}, {Name: "Oldest request", Sort: "-oldest", Class: "n"},
}

var sessionStates = []string{"starting", "open", "draining", "drained", "finishing", "cut"}

// lastPage is the offset of the last page.
func lastPage(matching, limit int) int {
	if matching == 0 {
		return 0
	}
	return (matching - 1) / limit * limit
}

func newSessionsView(s api.Sessions, q api.SessionQuery, clusters []api.Cluster, listeners []api.Listener) sessionsView {
	v := sessionsView{Query: q, Range: sessionRange(s)}
	for _, c := range sessionColumns {
		if c.Sort != "" {
			c = sortColumn(c, q)
		}
		v.Columns = append(v.Columns, c)
	}
	for _, each := range s.Sessions {
		v.Table.Rows = append(v.Table.Rows, sessionRow(each))
	}
	page := q
	if q.Offset > 0 {
		page.Offset = max(0, q.Offset-q.Limit)
		v.Previous = sessionsLink(page)
	}
	if q.Offset+q.Limit < s.Matching {
		page.Offset = q.Offset + q.Limit
		v.Next = sessionsLink(page)
	}
	var names, binds []string
	for _, c := range clusters {
		names = append(names, c.Name)
	}
	for _, l := range listeners {
		binds = append(binds, l.Name)
	}
	v.Clusters, v.Listeners, v.States = choices(names, q.Cluster), choices(binds, q.Listener), choices(sessionStates, q.State)
	return v
}

// sortColumn links a column to the other order if it is sorted by already.
func sortColumn(c column, q api.SessionQuery) column {
	field := strings.TrimPrefix(c.Sort, "-")
	c.Direction = "none"
	next := c.Sort
	switch q.Sort {
	case field:
		c.Direction, next = "ascending", "-"+field
	case "-" + field:
		c.Direction, next = "descending", field
	}
	q.Sort, q.Offset = next, 0
	c.Href = sessionsLink(q)
	return c
}

// choices are what can be chosen, "any" first; and what is chosen though there is no such
// thing, so that it can be seen.
func choices(values []string, chosen string) []choice {
	all := []choice{{"", "any", chosen == ""}}
	if chosen != "" && !slices.Contains(values, chosen) {
		values = append(slices.Clone(values), chosen)
	}
	for _, value := range values {
		all = append(all, choice{value, value, value == chosen})
	}
	return all
}

func sessionRange(s api.Sessions) string {
	found := ""
	if s.Matching != s.Total {
		found = count(s.Matching) + " match, of "
	}
	total := plural(s.Total, "session", "sessions")
	if len(s.Sessions) == 0 {
		return found + total
	}
	return count(s.Offset+1) + "–" + count(s.Offset+len(s.Sessions)) + " of " + found + total
}

// stalls says how many connections of a cluster wait for a peer that does not read.
func stalls(c api.Cluster) (all []row) {
	if n := c.StalledByClients; n > 0 {
		all = append(all, item("stalled clients "+c.Name, part{Text: "Cluster " + c.Name + ": " + plural(n, "client does", "clients do") + " not read what the broker has sent", Href: clusterLink(c.Name)},
			remedy("the client is busy or its network is full: look at it, not at the broker")))
	}
	if n := c.StalledByBrokers; n > 0 {
		all = append(all, item("stalled brokers "+c.Name, part{Text: "Cluster " + c.Name + ": on " + plural(n, "connection", "connections") + " the broker does not read requests", Href: clusterLink(c.Name)},
			remedy("the broker or the network to it is overloaded")))
	}
	return all
}

// stalled says for whom a session waits.
func stalled(s api.Session) string {
	if s.StalledBy == "" {
		return ""
	}
	return s.StalledBy + " does not read, " + length(s.Stalled)
}

// who says who a client has proved to be, and how.
func who(s api.Session) string {
	if s.Principal == "" {
		return ""
	}
	return s.Principal + " by " + s.Mechanism
}

func sessionRow(s api.Session) row {
	broker, address := s.Broker, ""
	if s.Node != nil {
		broker, address = "broker "+strconv.Itoa(int(*s.Node)), s.Broker
	}
	provisional := ""
	if s.Provisional {
		provisional = "broker not known yet"
	}
	oldest := "–"
	if s.Oldest > 0 {
		oldest = latency(s.Oldest)
	}
	return row{strconv.FormatUint(s.ID, 10), []cell{
		parts(part{Text: s.Client}, small(who(s)), small(s.ClientID)),
		parts(part{Text: s.Software}, part{Text: s.SoftwareVersion}),
		parts(part{Text: s.SNI}, small(s.Listener), small(s.TLS)),
		plain(s.Cluster),
		parts(part{Text: broker}, small(address), small(provisional)),
		parts(part{Text: s.State}, small(stalled(s))),
		number(length(s.Age)),
		number(length(s.Idle)),
		number(count(s.Requests)),
		number(size(float64(s.RequestBytes + s.ResponseBytes))),
		number(size(s.BytesPerSecond) + "/s"),
		number(count(s.InFlight)),
		{"n", []part{{Text: oldest}, small(s.OldestAPI)}},
	}}
}

func listenerRow(l api.Listener) row {
	encryption := "none (plaintext)"
	if l.TLS {
		encryption = "TLS"
	}
	if l.MTLS {
		encryption = "mutual TLS"
	}
	mode := "by server name (SNI)"
	ports := ""
	if l.Mode == "ports" {
		mode, ports = "a port for each broker", l.BrokerPorts
	}
	return row{l.Name, []cell{
		plain(l.Name), plain(l.Address), parts(part{Text: mode}, small(ports)), plain(encryption),
		{"wide", []part{{Text: strings.Join(l.Clusters, ", ")}}}, {"wide", []part{{Text: strings.Join(l.Bootstrap, ", ")}}},
		{"n", []part{{Text: count(l.Connections), Href: sessionsLink(api.SessionQuery{Listener: l.Name})}}},
	}}
}

// certificateUses are the words for api.Certificate.Use.
var certificateUses = map[string]string{"listener": "shown to clients", "upstream": "shown to brokers", "client-authority": "verifies clients", "admin": "admin port"}

func certificateRow(c api.Certificate, now time.Time) row {
	problem := certificateProblem(c, now)
	state := health("ok")
	if problem != "" {
		state = part{Text: "renew", Class: "health failing"}
	}
	if now.After(c.NotAfter) {
		state = part{Text: "expired", Class: "health down"}
	}
	left := "in " + length(c.NotAfter.Sub(now).Seconds())
	if now.After(c.NotAfter) {
		left = length(now.Sub(c.NotAfter).Seconds()) + " ago"
	}
	return row{c.Use + " " + c.Of + " " + c.Fingerprint, []cell{
		parts(part{Text: c.Of}, small(cmp.Or(certificateUses[c.Use], c.Use))),
		parts(state, part{Text: c.NotAfter.UTC().Format("2006-01-02 15:04 UTC")}, small(left), small(c.Warning)),
		plain(c.NotBefore.UTC().Format("2006-01-02 15:04 UTC")),
		{"wide", []part{{Text: c.Subject}, small(strings.Join(c.Names, ", "))}},
		plain(c.Issuer),
		{"wide", []part{{Text: c.File}, small("serial " + c.Serial), small("SHA-256 " + c.Fingerprint)}},
	}}
}

func reloadFacts(s api.Status) []fact {
	return []fact{
		{"configuration", "Configuration", []part{{Text: cmp.Or(s.Configuration, "flags and environment variables only")}}},
		{"good", "Last time without errors", []part{{Text: since(s.Reload.LastGood, s.Now)}}},
		{"readings", "Reloads", []part{{Text: count(s.Reload.Changed) + " with changes, " + count(s.Reload.Failed) + " with errors"}}},
	}
}

func problemRow(p api.FileProblem, now time.Time) row {
	return row{p.Setting, []cell{plain(p.Setting), plain(strings.Join(p.Files, ", ")), plain(since(p.Since, now)), {"wide", []part{{Text: p.Error}}}}}
}

func events(all []api.ReloadEvent, now time.Time) (t table) {
	if len(all) > maxEvents {
		t.More = "The newest " + count(maxEvents) + " of " + count(len(all)) + ". All: /api/v1/status"
		all = all[:maxEvents]
	}
	for _, e := range all {
		why := "a file changed"
		if e.Asked {
			why = "SIGHUP"
		}
		t.Rows = append(t.Rows, row{e.Time.UTC().Format("20060102150405.000"), []cell{
			plain(since(e.Time, now)), plain(why), plain(orNone(strings.Join(e.Changed, ", "))), plain(orNone(strings.Join(e.Failed, ", "))),
		}})
	}
	return t
}

func processFacts(s api.Status) []fact {
	c, p := s.Connections, s.Process
	descriptors := count(p.OpenDescriptors)
	if p.MostDescriptors > 0 {
		descriptors += " of " + count(p.MostDescriptors)
	}
	return []fact{
		{"version", "Version", []part{{Text: s.Version}, {Text: s.Go}}},
		{"pid", "Process", []part{{Text: strconv.Itoa(s.PID)}, {Text: "on " + s.Host}}},
		{"memory", "Memory", []part{{Text: size(float64(p.ResidentBytes))}}},
		{"cpu", "CPU time", []part{{Text: length(p.CPUSeconds)}}},
		{"descriptors", "File descriptors", []part{{Text: descriptors}}},
		{"goroutines", "Goroutines", []part{{Text: count(p.Goroutines)}}},
		{"accepted", "Connections accepted", []part{{Text: count(c.Accepted)}}},
		{"accept-errors", "Accept errors", []part{{Text: count(c.AcceptErrors)}}},
		{"refused", "Refused, by limit", []part{{Text: counts(c.Refused)}}},
		{"retired", "Closed by the proxy, by reason", []part{{Text: counts(c.Retired)}}},
		{"failed", "Failed, by phase", []part{{Text: counts(c.Failed)}}},
		{"panics", "Panics", []part{{Text: count(c.Panics)}}},
	}
}
