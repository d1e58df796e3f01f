package admin

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kafka-sni-proxy/internal/api"
	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/server"
	"kafka-sni-proxy/internal/session"
)

// busyProxy is a proxy with something of everything.
type busyProxy struct {
	*fakeProxy
	stats    server.Stats
	sessions []server.SessionView
	failures []server.Failure
	details  []server.ClusterDetails
	facts    Facts
}

func (p *busyProxy) Stats() server.Stats            { return p.stats }
func (p *busyProxy) Sessions() []server.SessionView { return p.sessions }
func (p *busyProxy) Failures() []server.Failure     { return p.failures }
func (p *busyProxy) Waiting() map[string]session.Waiting {
	return map[string]session.Waiting{"orders": {Requests: 3, Oldest: time.Second, Peers: [2]int{1, 2}}}
}
func (p *busyProxy) Details() []server.ClusterDetails { return p.details }
func (p *busyProxy) Facts() Facts                     { return p.facts }
func (p *busyProxy) Hint(err error) string            { return "hint for " + err.Error() }

// named is a cluster that has a name.
type named struct {
	session.Cluster
	name string
}

func (n named) Name() string { return n.name }

var (
	up   = route.Address{Host: "up.orders.test", Port: 9092}
	one  = route.Address{Host: "one.orders.test", Port: 9092}
	two  = route.Address{Host: "two.orders.test", Port: 9092}
	long = strings.Repeat("é", 1000)
)

func busy() *busyProxy {
	now := time.Now()
	down := &cluster.ConnectError{Stage: cluster.StageDial, Err: errors.New("connection refused " + long)}
	healthy := cluster.Health{Address: up, Dials: 5, OK: true, Since: now.Add(-time.Hour), Last: now, Took: 3 * time.Millisecond}
	healthy.Times.Note(3 * time.Millisecond)
	p := &busyProxy{fakeProxy: &fakeProxy{},
		stats: server.Stats{Accepted: 12, Active: 2, Failures: map[string]int64{"dial": 1}, Refused: map[string]int64{"connections": 2}, Retired: map[string]int64{"idle": 1},
			Carried: server.Carried{RequestBytes: 100, ResponseBytes: 200, Requests: 3, Responses: 2},
			Shares: []server.ShareStats{
				{Listener: "public", Accepted: 12, Handshakes: 9, Resumed: 2, Failures: map[string]int64{"dial": 0}},
				{Listener: "public", Cluster: "orders", Active: 2, Failures: map[string]int64{"dial": 1}, Carried: server.Carried{RequestBytes: 100, Requests: 3}},
			},
			Clusters: map[string]server.ClusterStats{"orders": {Active: 2, Led: 10, Failures: map[string]int64{"dial": 1}, MaxConnections: 50, Meter: new(session.Meter),
				Counts: cluster.Counts{Provisional: 4, Answered: 5, Failed: 6},
				Health: []cluster.Health{{Address: one, Dials: 2, Errors: [3]int64{2}, Since: now.Add(-time.Minute), Last: now, Err: down, ErrAt: now}, healthy}}},
		},
		details: []server.ClusterDetails{{Name: "orders", ID: "abc", Bootstrap: "bootstrap.orders.test", Upstreams: []route.Address{up},
			Routes: []route.Entry{{Node: 2, Name: "b2.orders.test", Address: two}, {Node: 1, Name: "b1.orders.test", Address: one, Confirmed: true}}}},
		failures: []server.Failure{{First: now, Last: now, Count: 3, Client: "10.0.0.1:5", ServerName: "<b>", Phase: "route", Reason: long, Hint: "a hint"}},
		facts: Facts{Version: "1.2.3", GoVersion: "go1.26", Host: "edge", PID: 7, Started: now, State: "serving", StateSince: now, MaxConnections: 100,
			Listeners: []api.Listener{{Name: "public", Address: ":9092", Mode: "sni", Clusters: []string{"orders"}, Bootstrap: []string{"bootstrap.orders.test:9092"}}},
			HandOver:  &api.HandOver{Since: now}, Via: map[string]string{"orders": "socks5://gate:1080"},
			ShowConfiguration: func() string { return "listeners: []" }, Log: func() []string { return []string{"a line"} }},
	}
	for i := range 2 {
		p.sessions = append(p.sessions, server.SessionView{ID: uint64(i + 1), BytesPerSecond: float64(10 - i), Snapshot: session.Snapshot{
			Began: now.Add(-time.Duration(i+1) * time.Hour), State: "open", Listener: "public", Client: &net.TCPAddr{IP: net.IPv4(10, 0, 0, byte(9-i)), Port: 1000 + i},
			ServerName: fmt.Sprintf("b%d.orders.test", i), TLSVersion: tls.VersionTLS13, Destination: &session.Destination{Cluster: named{name: "orders"}},
			Broker: one, Introduction: kafka.Introduction{ClientID: "id", Software: "<script>", Version: "1"}, RequestBytes: int64(100 * i), Requests: 7, InFlight: i, Oldest: time.Duration(i) * time.Second, OldestAPI: "Fetch", Idle: time.Minute,
		}})
	}
	return p
}

func TestViewOfABusyProxy(t *testing.T) {
	p := busy()
	v := &view{p, newHistory(p)}
	st := v.Status()
	if st.Version != "1.2.3" || st.Connections.Open != 2 || st.Connections.Most != 100 || st.Connections.InFlight != 3 || st.Listeners[0].Connections != 2 || st.HandOver == nil || st.Process.Goroutines == 0 || st.Rates != nil {
		t.Errorf("%+v", st)
	}
	c := v.Clusters().Clusters[0]
	if c.StalledByClients != 2 || c.StalledByBrokers != 1 || c.Oldest != 1 || c.ID != "abc" || c.Health != "failing" || time.Since(c.Since) < time.Minute || c.Via != "socks5://gate:1080" || c.InFlight != 3 || c.Queries != (api.Queries{Answered: 5, Failed: 6}) || c.Provisional != 4 || len(c.Brokers) != 3 || !c.TLS {
		t.Errorf("%+v", c)
	}
	upstream, first, second := c.Brokers[0], c.Brokers[1], c.Brokers[2]
	if upstream.Node != nil || upstream.Health != "ok" || upstream.LastDialSeconds != 0.003 || upstream.Dials != 5 {
		t.Errorf("%+v", upstream)
	}
	if *first.Node != 1 || first.Health != "down" || first.Connections != 2 || first.DialErrors != 2 || !strings.HasPrefix(first.Remedy, "hint for") || len(first.LastError) > api.MaxText+2 || !first.Confirmed {
		t.Errorf("%+v", first)
	}
	if *second.Node != 2 || second.Health != "unknown" || second.Confirmed {
		t.Errorf("%+v", second)
	}
	f := v.Failures().Failures[0]
	if f.Count != 3 || f.SNI != "<b>" || len(f.Reason) > api.MaxText+2 || f.Remedy != "a hint" {
		t.Errorf("%+v", f)
	}
}

func TestHealthOfAClusterIsThatOfItsBrokers(t *testing.T) {
	at := func(minutes int) time.Time { return time.Unix(int64(60*minutes), 0) }
	ok, down, unknown := func(m int) api.Broker { return api.Broker{Health: "ok", Since: at(m)} }, func(m int) api.Broker { return api.Broker{Health: "down", Since: at(m)} }, api.Broker{Health: "unknown"}
	for _, test := range []struct {
		brokers []api.Broker
		health  string
		since   time.Time
	}{
		{nil, "unknown", time.Time{}},
		{[]api.Broker{unknown}, "unknown", time.Time{}},
		{[]api.Broker{ok(1), unknown, ok(3)}, "ok", at(3)},
		{[]api.Broker{ok(1), down(5), down(4)}, "failing", at(4)},
		{[]api.Broker{down(5), down(4), unknown}, "down", at(5)},
	} {
		if health, since := clusterHealth(test.brokers); health != test.health || !since.Equal(test.since) {
			t.Errorf("%+v: %s since %v", test.brokers, health, since)
		}
	}
}

func TestSessionsAreFilteredSortedAndPaged(t *testing.T) {
	p := busy()
	p.sessions = append(p.sessions, server.SessionView{ID: 3, Snapshot: session.Snapshot{Began: time.Now(), State: "starting", Listener: "other", Client: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 200)}}})
	v := &view{p, newHistory(p)}
	for query, want := range map[string]string{
		"":                                      "213 of 3",
		"sort=age":                              "312 of 3",
		"sort=client":                           "213 of 3",
		"sort=-rate":                            "123 of 3",
		"sort=-bytes":                           "213 of 3",
		"sort=-oldest":                          "213 of 3",
		"sort=in-flight":                        "132 of 3",
		"sort=broker":                           "312 of 3",
		"sort=sni":                              "312 of 3",
		"sort=software":                         "312 of 3",
		"q=SCRIPT":                              "21 of 3",
		"q=10.0.0.9":                            "1 of 3",
		"q=b1.orders":                           "2 of 3",
		"q=nothing":                             " of 3",
		"cluster=orders&state=open":             "21 of 3",
		"listener=other":                        "3 of 3",
		"broker=one.orders.test:9092&sort=-age": "21 of 3",
		"limit=1":                               "2 of 3",
		"limit=1&offset=2":                      "3 of 3",
		"offset=99":                             " of 3",
	} {
		r := httptest.NewRequest("GET", "/?"+query, nil)
		q, err := api.ParseSessionQuery(r.URL.Query())
		if err != nil {
			t.Errorf("%s: %v", query, err)
		}
		if back, err := api.ParseSessionQuery(q.Values()); err != nil || back != q {
			t.Errorf("%s: %+v becomes %+v, %v", query, q, back, err)
		}
		page, got := v.Sessions(q), ""
		for _, s := range page.Sessions {
			got += fmt.Sprint(s.ID)
		}
		if got += fmt.Sprintf(" of %d", page.Total); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	s := v.Sessions(api.SessionQuery{Sort: "-oldest", Limit: 1}).Sessions[0]
	if s.Software != "<script>" || s.TLS != "TLS 1.3" || s.Oldest != 1 || s.OldestAPI != "Fetch" || s.Idle != 60 || s.Broker != "one.orders.test:9092" || math.Abs(s.Age-7200) > 60 {
		t.Errorf("%+v", s)
	}
}

func TestHistoryIsTheLastHour(t *testing.T) {
	p := busy()
	h := newHistory(p)
	now := time.Unix(1_800_000_000, 0)
	h.take(now)
	if got := h.of(""); len(got.Times) != 0 || h.rates() != nil {
		t.Errorf("after one sample: %+v", got)
	}
	for range historyPoints + 10 {
		p.stats.Requests += 50
		p.stats.Accepted += 10
		now = now.Add(historyInterval)
		h.take(now)
	}
	got := h.of("")
	if len(got.Times) != historyPoints || got.Times[len(got.Times)-1] != now.Unix() || got.Times[0] != now.Add(-(historyPoints-1)*historyInterval).Unix() {
		t.Errorf("%d points, from %v", len(got.Times), got.Times[:3])
	}
	if rate := *got.Columns["requests"][5]; rate != 5 {
		t.Errorf("%v requests/s, want 5", rate)
	}
	if v := got.Columns["latency_p99"][5]; v != nil {
		t.Errorf("latency %v, though nothing was measured", *v)
	}
	if r := h.rates(); r.Requests != 5 || r.Opened != 1 || r.Latency != nil {
		t.Errorf("%+v", r)
	}
	if got := h.of("orders"); len(got.Times) != historyPoints || *got.Columns["connections"][0] != 2 || *got.Columns["in_flight"][0] != 3 {
		t.Errorf("of a cluster: %d", len(got.Times))
	}
	delete(p.stats.Clusters, "orders")
	h.take(now.Add(historyInterval))
	if h.all["orders"] != nil {
		t.Error("a cluster that is gone has a history")
	}
	for i := range 3 * maxHistories {
		p.stats.Clusters[fmt.Sprint(i)] = server.ClusterStats{Meter: new(session.Meter)}
	}
	h.take(now.Add(2 * historyInterval))
	if len(h.all) > maxHistories+1 {
		t.Errorf("%d histories", len(h.all))
	}
}

// TestWhoMayAsk goes through the ways to show who one is.
func TestWhoMayAsk(t *testing.T) {
	const token = "0123456789abcdef"
	withToken := Access{Token: func() string { return token }}
	verified := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{}}}
	for name, test := range map[string]struct {
		access Access
		header string
		state  *tls.ConnectionState
		path   string
		status int
	}{
		"nobody asks who":              {Access{}, "", nil, "/metrics", 200},
		"nothing is shown":             {withToken, "", nil, "/metrics", 401},
		"nor at the API":               {withToken, "", nil, "/api/v1/status", 401},
		"probes need none":             {withToken, "", nil, "/healthz", 200},
		"nor readiness":                {withToken, "", nil, "/readyz", 200},
		"but not by another path":      {withToken, "", nil, "/healthz/../metrics", 401},
		"the token":                    {withToken, "Bearer " + token, nil, "/metrics", 200},
		"in any case of the scheme":    {withToken, "bearer  " + token, nil, "/metrics", 200},
		"another one":                  {withToken, "Bearer " + token + "x", nil, "/metrics", 401},
		"a part of it":                 {withToken, "Bearer " + token[:15], nil, "/metrics", 401},
		"as a browser's password":      {withToken, "Basic " + basic("me", token), nil, "/metrics", 200},
		"as a user":                    {withToken, "Basic " + basic(token, ""), nil, "/metrics", 401},
		"an empty one, of none":        {Access{Token: func() string { return "" }}, "Bearer ", nil, "/metrics", 401},
		"a certificate, where it does": {Access{ClientCertificate: true}, "", verified, "/metrics", 200},
		"none, where it does":          {Access{ClientCertificate: true}, "", &tls.ConnectionState{}, "/metrics", 401},
		"a token, where it does not":   {Access{ClientCertificate: true}, "Bearer " + token, nil, "/metrics", 401},
		"either":                       {Access{Token: withToken.Token, ClientCertificate: true}, "Bearer " + token, &tls.ConnectionState{}, "/metrics", 200},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", test.path, nil)
		r.Header.Set("Authorization", test.header)
		r.TLS = test.state
		Handler(&fakeProxy{}, Options{Access: test.access}).ServeHTTP(w, r)
		if w.Code != test.status {
			t.Errorf("%s: %d, want %d", name, w.Code, test.status)
		}
		if asks := w.Header().Values("WWW-Authenticate"); w.Code == 401 && test.access.Token != nil && len(asks) != 2 {
			t.Errorf("%s: asks for %q", name, asks)
		}
	}
}

// TestNamesThatOthersCanLeadHere are those of pages in a browser on this machine, which would
// read what an open port on loopback says. A name tells them.
func TestNamesThatOthersCanLeadHere(t *testing.T) {
	token := Access{Token: func() string { return "0123456789abcdef" }}
	for _, test := range []struct {
		bind   string
		access Access
		host   string
		path   string
		status int
	}{
		{"127.0.0.1:0", Access{}, "evil.example", "/api/v1/support", 421},
		{"127.0.0.1:0", Access{}, "evil.example:9090", "/", 421},
		{"127.0.0.1:0", Access{}, "localhost.evil.example", "/debug/pprof/", 421},
		{"127.0.0.1:0", Access{}, "127.0.0.1.evil.example", "/api/v1/status", 421},
		{"127.0.0.1:0", Access{}, "127.0.0.1:9090", "/api/v1/status", 200},
		{"127.0.0.1:0", Access{}, "[::1]:9090", "/", 200},
		{"127.0.0.1:0", Access{}, "localhost:9090", "/api/v1/status", 200},
		{"127.0.0.1:0", Access{}, "LOCALHOST", "/", 200},
		{"127.0.0.1:0", Access{}, "Gate-1:9090", "/", 200},
		{"127.0.0.1:0", Access{}, "proxy.monitoring.svc", "/metrics", 200},
		{"127.0.0.1:0", Access{}, "proxy.monitoring.svc", "/healthz", 200},
		{"127.0.0.1:0", token, "evil.example", "/api/v1/status", 401},
		{"0.0.0.0:0", Access{}, "proxy.monitoring.svc:9090", "/api/v1/status", 200},
	} {
		ln, err := net.Listen("tcp", test.bind)
		if err != nil {
			t.Fatal(err)
		}
		proxy := busy()
		proxy.facts.Host = "gate-1"
		stop := Serve(ln, proxy, Options{Access: test.access, Debug: true}, slog.New(slog.DiscardHandler))
		r, err := http.NewRequestWithContext(t.Context(), "GET", fmt.Sprintf("http://127.0.0.1:%d%s", ln.Addr().(*net.TCPAddr).Port, test.path), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = test.host
		answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != test.status {
			t.Errorf("%s at %s, asked for as %s: %d, want %d", test.path, test.bind, test.host, answer.StatusCode, test.status)
		}
		stop()
	}
}

// lookedAt is a proxy that counts by how many it is asked, and lets them wait.
type lookedAt struct {
	*busyProxy
	isOn  atomic.Bool // it does
	asked atomic.Int32
	end   chan struct{}
}

func (p *lookedAt) Stats() server.Stats {
	if p.isOn.Load() {
		p.asked.Add(1)
		<-p.end
	}
	return p.busyProxy.Stats()
}

func TestAnswersAreGatheredAFewAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &lookedAt{busyProxy: busy(), end: make(chan struct{})}
		h := Handler(p, Options{})
		p.isOn.Store(true) // registering metrics has asked once
		var asking sync.WaitGroup
		for i := range 3 * maxLooks {
			path := []string{"/api/v1/status", "/api/v1/clusters", "/api/v1/history?cluster=orders", "/"}[i%4]
			asking.Go(func() {
				w := httptest.NewRecorder()
				if h.ServeHTTP(w, httptest.NewRequest("GET", path, nil)); w.Code != 200 {
					t.Errorf("%s: %d", path, w.Code)
				}
			})
		}
		synctest.Wait()
		if n := p.asked.Load(); n != maxLooks {
			t.Errorf("%d are asked for at once, want %d", n, maxLooks)
		}
		close(p.end)
		asking.Wait()
	})
}

func TestProfilesAreForThoseWhoAskForThem(t *testing.T) {
	for isOn, status := range map[bool]int{false: 404, true: 200} {
		w := httptest.NewRecorder()
		Handler(&fakeProxy{}, Options{Debug: isOn}).ServeHTTP(w, httptest.NewRequest("GET", "/debug/pprof/goroutine?debug=1", nil))
		if w.Code != status {
			t.Errorf("on %v: %d", isOn, w.Code)
		}
	}
}

func basic(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

func BenchmarkFiveThousandSessions(b *testing.B) {
	p := busy()
	for i := range 5000 {
		s := p.sessions[i%2]
		s.ID = uint64(i)
		p.sessions = append(p.sessions, s)
	}
	h := Handler(p, Options{})
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/api/v1/sessions?limit=1000&sort=-rate&q=orders", nil))
	}
}
