package admin

import (
	"cmp"
	"crypto/tls"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"kafka-sni-proxy/internal/api"
	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/histogram"
	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/server"
	"kafka-sni-proxy/internal/session"
)

// maxBrokers is how many brokers of a cluster are listed.
const maxBrokers = 1000

// view is the proxy as the API tells it.
type view struct {
	proxy   Proxy
	history *history
}

// Status implements Source.
func (v *view) Status() api.Status {
	s, facts := v.proxy.Stats(), v.proxy.Facts()
	st := api.Status{
		Version: facts.Version, Go: facts.GoVersion, Host: facts.Host, PID: facts.PID,
		Started: facts.Started.UTC(), Now: time.Now().UTC(),
		State: facts.State, StateSince: facts.StateSince.UTC(), Configuration: facts.Configuration,
		Connections: api.Connections{
			Open: s.Active, Most: facts.MaxConnections, Accepted: s.Accepted, AcceptErrors: s.AcceptErrors,
			Refused: s.Refused, Retired: s.Retired, Failed: s.Failures, Panics: s.Panics,
		},
		Traffic:      traffic(&s.Carried),
		Rates:        v.history.rates(),
		Listeners:    slices.Clone(facts.Listeners),
		Certificates: orEmpty(facts.Certificates),
		Reload:       facts.Reload,
		HandOver:     facts.HandOver,
		Warnings:     orEmpty(facts.Warnings),
		Process:      readProcess(),
	}
	st.Reload.Events, st.Reload.Problems = orEmpty(st.Reload.Events), orEmpty(st.Reload.Problems)
	for _, w := range v.proxy.Waiting() {
		st.Connections.InFlight += w.Requests
	}
	for _, c := range s.Clusters {
		n, _ := c.Meter.Throttled()
		st.Traffic.Throttled += n
	}
	open := map[string]int{}
	for _, share := range s.Shares {
		open[share.Listener] += share.Active
	}
	for i := range st.Listeners {
		st.Listeners[i].Connections = open[st.Listeners[i].Name]
	}
	return st
}

func orEmpty[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}

func traffic(c *server.Carried) api.Traffic {
	return api.Traffic{RequestBytes: c.RequestBytes, ResponseBytes: c.ResponseBytes, Requests: c.Requests, Responses: c.Responses, Rewritten: c.Rewritten}
}

// Clusters implements Source.
func (v *view) Clusters() api.Clusters {
	stats, waiting, facts := v.proxy.Stats(), v.proxy.Waiting(), v.proxy.Facts()
	connections := map[string]map[route.Address]int{}
	for _, s := range v.proxy.Sessions() {
		if s.Destination == nil || s.Broker.Host == "" {
			continue
		}
		name := s.Destination.Name()
		if connections[name] == nil {
			connections[name] = map[route.Address]int{}
		}
		connections[name][s.Broker]++
	}
	all := api.Clusters{Clusters: []api.Cluster{}}
	for _, d := range v.proxy.Details() {
		s, ok := stats.Clusters[d.Name]
		if !ok { // gone since
			continue
		}
		c := api.Cluster{
			Name: d.Name, ID: d.ID, Bootstrap: d.Bootstrap, Upstreams: texts(d.Upstreams), TLS: !d.Plaintext, Via: facts.Via[d.Name],
			Connections: s.Active, InFlight: waiting[d.Name].Requests, Oldest: waiting[d.Name].Oldest.Seconds(),
			StalledByClients: waiting[d.Name].Peers[session.Responses], StalledByBrokers: waiting[d.Name].Peers[session.Requests], Refused: s.Refused, Failed: s.Failures, Traffic: traffic(&s.Carried),
			Provisional: s.Provisional, Queries: api.Queries{Answered: s.Answered, Failed: s.Counts.Failed}, OtherCluster: s.OtherClusterAddresses,
			Brokers: v.brokers(&d, s.Health, connections[d.Name]),
			APIs:    apis(s.Meter),
		}
		c.Traffic.Throttled, _ = s.Meter.Throttled()
		if how, ok := facts.Authentication[d.Name]; ok {
			c.Authentication = &api.Authentication{Clients: orEmpty(how.Clients), Brokers: how.Brokers, Logins: logins(s.Meter)}
		}
		c.Health, c.Since = clusterHealth(c.Brokers)
		all.Clusters = append(all.Clusters, c)
	}
	return all
}

func texts(addresses []route.Address) []string {
	all := make([]string, len(addresses))
	for i, a := range addresses {
		all[i] = a.String()
	}
	return all
}

// brokers are the upstreams, and then the brokers by node id.
func (v *view) brokers(d *server.ClusterDetails, health []cluster.Health, connections map[route.Address]int) []api.Broker {
	dialled := map[route.Address]*cluster.Health{}
	for i := range health {
		dialled[health[i].Address] = &health[i]
	}
	all := []api.Broker{}
	add := func(b api.Broker, a route.Address) {
		b.Address, b.Connections, b.Health = a.String(), connections[a], "unknown"
		if h := dialled[a]; h != nil {
			b.Health = "ok"
			if !h.OK {
				b.Health = "down"
			}
			b.Since, b.LastDial, b.LastDialSeconds = h.Since.UTC(), h.Last.UTC(), h.Took.Seconds()
			b.Dials, b.DialErrors = h.Dials, h.Failed()
			if h.Err != nil {
				b.LastError, b.LastErrorAt = cut(h.Err.Error()), h.ErrAt.UTC()
				b.Remedy = v.proxy.Hint(session.WithPhase(h.Err))
			}
		}
		all = append(all, b)
	}
	for _, a := range d.Upstreams {
		add(api.Broker{Confirmed: true}, a)
	}
	routes := slices.SortedFunc(slices.Values(d.Routes), func(a, b route.Entry) int { return cmp.Compare(a.Node, b.Node) })
	for _, e := range routes[:min(len(routes), maxBrokers)] {
		node := e.Node
		add(api.Broker{Node: &node, Name: cut(e.Name), Confirmed: e.Confirmed}, e.Address)
	}
	return all
}

// clusterHealth is that of all addresses together.
func clusterHealth(brokers []api.Broker) (health string, since time.Time) {
	var up, down []time.Time
	for _, b := range brokers {
		switch b.Health {
		case "ok":
			up = append(up, b.Since)
		case "down":
			down = append(down, b.Since)
		}
	}
	switch {
	case len(up)+len(down) == 0:
		return "unknown", time.Time{}
	case len(down) == 0:
		return "ok", slices.MaxFunc(up, time.Time.Compare)
	case len(up) == 0:
		return "down", slices.MaxFunc(down, time.Time.Compare)
	}
	return "failing", slices.MinFunc(down, time.Time.Compare)
}

func apis(m *session.Meter) []api.APIUse {
	all := []api.APIUse{}
	for i := range kafka.APIs {
		var s histogram.Snapshot
		if m.Latency(i, &s) {
			all = append(all, api.APIUse{API: kafka.APIName(i), Answers: int64(s.Count), Latency: *quantiles(&s)})
		}
	}
	slices.SortStableFunc(all, func(a, b api.APIUse) int { return cmp.Compare(b.Answers, a.Answers) })
	return all
}

func logins(m *session.Meter) []api.Logins {
	all := []api.Logins{}
	m.Logins(func(side session.Side, mechanism string, became session.Outcome, n int64) {
		if last := len(all) - 1; last < 0 || all[last].Side != side.String() || all[last].Mechanism != mechanism {
			all = append(all, api.Logins{Side: side.String(), Mechanism: mechanism})
		}
		of := &all[len(all)-1]
		*[]*int64{&of.OK, &of.Refused, &of.Broken, &of.Again}[became] = n
	})
	return all
}

// quantiles returns nil of nothing.
func quantiles(s *histogram.Snapshot) *api.Quantiles {
	p50, ok := s.Quantile(0.5)
	if !ok {
		return nil
	}
	p99, _ := s.Quantile(0.99)
	return &api.Quantiles{P50: p50, P99: p99}
}

// Sessions implements Source.
func (v *view) Sessions(q api.SessionQuery) api.Sessions {
	all := v.proxy.Sessions()
	now := time.Now()
	found := make([]*server.SessionView, 0, len(all))
	text := strings.ToLower(q.Text)
	for i := range all {
		if matches(&all[i], &q, text) {
			found = append(found, &all[i])
		}
	}
	key, descending := strings.TrimPrefix(q.Sort, "-"), strings.HasPrefix(q.Sort, "-")
	if compare := sorts[key]; compare != nil {
		slices.SortStableFunc(found, func(a, b *server.SessionView) int {
			order := compare(a, b)
			if descending {
				order = -order
			}
			return cmp.Or(order, cmp.Compare(a.ID, b.ID))
		})
	}
	page := api.Sessions{Total: len(all), Matching: len(found), Offset: min(q.Offset, len(found)), Sessions: []api.Session{}}
	found = found[page.Offset:]
	for _, s := range found[:min(len(found), cmp.Or(q.Limit, api.DefaultLimit))] {
		page.Sessions = append(page.Sessions, describe(s, now))
	}
	return page
}

func clusterName(s *server.SessionView) string {
	if s.Destination == nil {
		return ""
	}
	return s.Destination.Name()
}

func brokerName(s *server.SessionView) string {
	if s.Broker.Host == "" {
		return ""
	}
	return s.Broker.String()
}

func matches(s *server.SessionView, q *api.SessionQuery, text string) bool {
	for _, exact := range [][2]string{{q.Cluster, clusterName(s)}, {q.Listener, s.Listener}, {q.Broker, brokerName(s)}, {q.State, s.State}} {
		if exact[0] != "" && exact[0] != exact[1] {
			return false
		}
	}
	return text == "" || slices.ContainsFunc([]string{s.Client.String(), s.ClientID, s.Software, s.Version, s.ServerName, s.Login.Principal, clusterName(s), brokerName(s)},
		func(of string) bool { return strings.Contains(strings.ToLower(of), text) })
}

// sorts are the orders of api.SessionSorts.
var sorts = map[string]func(a, b *server.SessionView) int{
	"age":     func(a, b *server.SessionView) int { return b.Began.Compare(a.Began) },
	"client":  func(a, b *server.SessionView) int { return compareAddresses(a.Client, b.Client) },
	"sni":     func(a, b *server.SessionView) int { return cmp.Compare(a.ServerName, b.ServerName) },
	"cluster": func(a, b *server.SessionView) int { return cmp.Compare(clusterName(a), clusterName(b)) },
	"broker": func(a, b *server.SessionView) int {
		return cmp.Or(cmp.Compare(a.Broker.Host, b.Broker.Host), cmp.Compare(a.Broker.Port, b.Broker.Port))
	},
	"principal": func(a, b *server.SessionView) int { return cmp.Compare(a.Login.Principal, b.Login.Principal) },
	"software": func(a, b *server.SessionView) int {
		return cmp.Or(cmp.Compare(a.Software, b.Software), cmp.Compare(a.Version, b.Version))
	},
	"bytes": func(a, b *server.SessionView) int {
		return cmp.Compare(a.RequestBytes+a.ResponseBytes, b.RequestBytes+b.ResponseBytes)
	},
	"rate":      func(a, b *server.SessionView) int { return cmp.Compare(a.BytesPerSecond, b.BytesPerSecond) },
	"requests":  func(a, b *server.SessionView) int { return cmp.Compare(a.Requests, b.Requests) },
	"in-flight": func(a, b *server.SessionView) int { return cmp.Compare(a.InFlight, b.InFlight) },
	"oldest":    func(a, b *server.SessionView) int { return cmp.Compare(a.Oldest, b.Oldest) },
	"idle":      func(a, b *server.SessionView) int { return cmp.Compare(a.Idle, b.Idle) },
}

func compareAddresses(a, b net.Addr) int {
	x, isTCP := a.(*net.TCPAddr)
	y, areBoth := b.(*net.TCPAddr)
	if !isTCP || !areBoth {
		return cmp.Compare(a.String(), b.String())
	}
	return x.AddrPort().Compare(y.AddrPort())
}

func describe(s *server.SessionView, now time.Time) api.Session {
	d := api.Session{
		ID: s.ID, Client: s.Client.String(), Listener: s.Listener, SNI: cut(s.ServerName), Cluster: clusterName(s), Broker: brokerName(s),
		State: s.State, Began: s.Began.UTC(), Age: now.Sub(s.Began).Seconds(),
		Software: s.Software, SoftwareVersion: s.Version, ClientID: s.ClientID,
		RequestBytes: s.RequestBytes, ResponseBytes: s.ResponseBytes, Requests: s.Snapshot.Requests, Responses: s.Snapshot.Responses,
		BytesPerSecond: s.BytesPerSecond, InFlight: s.InFlight, Oldest: s.Oldest.Seconds(), OldestAPI: s.OldestAPI, Idle: s.Idle.Seconds(),
		Provisional: s.Route.Kind == route.Provisional,
		Principal:   cut(s.Login.Principal), Mechanism: s.Login.Mechanism, BrokerMechanism: s.Login.BrokerMechanism,
	}
	if stalled := s.Stalled[session.Responses]; stalled > 0 {
		d.Stalled, d.StalledBy = stalled.Seconds(), "client"
	} else if stalled := s.Stalled[session.Requests]; stalled > 0 {
		d.Stalled, d.StalledBy = stalled.Seconds(), "broker"
	}
	if s.Route.ByNode {
		d.Node = &s.Route.Node
	}
	if s.TLSVersion != 0 {
		d.TLS = tls.VersionName(s.TLSVersion)
	}
	return d
}

// cut returns a text of a peer's as it is told: of bounded length, and UTF-8.
func cut(text string) string {
	if len(text) > api.MaxText {
		text = text[:api.MaxText]
	}
	return strings.ToValidUTF8(text, "\ufffd")
}

// Failures implements Source.
func (v *view) Failures() api.Failures {
	all := api.Failures{Failures: []api.Failure{}}
	for _, f := range v.proxy.Failures() {
		all.Failures = append(all.Failures, api.Failure{
			First: f.First.UTC(), Last: f.Last.UTC(), Count: f.Count, Client: f.Client, SNI: cut(f.ServerName), Listener: f.Listener,
			Cluster: f.Cluster, Broker: f.Broker, Principal: cut(f.Principal), Phase: f.Phase, Reason: cut(f.Reason), Remedy: cut(f.Hint),
		})
	}
	return all
}

// History implements Source.
func (v *view) History(name string) (api.History, bool) {
	if name != "" && !slices.Contains(slices.Collect(maps.Keys(v.proxy.Stats().Clusters)), name) {
		return api.History{}, false
	}
	return v.history.of(name), true
}
