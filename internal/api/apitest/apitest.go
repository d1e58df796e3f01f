// Package apitest is a proxy that answers under /api/v1 with values like those of real ones,
// for tests of whoever asks.
package apitest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"kafka-sni-proxy/internal/api"
)

// Now is the time of the proxy.
var Now = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// Hostile is a client id that would clear a terminal and set its title.
const Hostile = "evil\x1b[2J\x1b]0;owned\x07\u009b31m\u202e"

// Proxy answers. Its fields may be changed with Change alone.
type Proxy struct {
	mu       sync.Mutex
	Status   api.Status
	Clusters api.Clusters
	Failures api.Failures
	Sessions []api.Session
	// Token is wanted; empty: none.
	Token string

	asked []string
}

// Change changes the proxy.
func (p *Proxy) Change(change func(*Proxy)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

// Asked returns the requests since it was called last, path and query.
func (p *Proxy) Asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.asked
	p.asked = nil
	return asked
}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, strings.TrimSuffix(r.URL.Path+"?"+r.URL.RawQuery, "?"))
	answer := func(status int, value any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(value)
	}
	if p.Token != "" && r.Header.Get("Authorization") != "Bearer "+p.Token {
		w.Header().Set("WWW-Authenticate", `Bearer realm="admin port"`)
		answer(http.StatusUnauthorized, api.Problem{Error: "a token is wanted"})
		return
	}
	switch strings.TrimPrefix(r.URL.Path, api.Prefix) {
	case "status":
		answer(http.StatusOK, p.Status)
	case "clusters":
		answer(http.StatusOK, p.Clusters)
	case "failures":
		answer(http.StatusOK, p.Failures)
	case "history":
		answer(http.StatusOK, api.History{Cluster: r.URL.Query().Get("cluster"), Interval: 10, Times: []int64{1}, Columns: map[string]api.Column{"connections": {nil}}})
	case "sessions":
		q, err := api.ParseSessionQuery(r.URL.Query())
		if err != nil {
			answer(http.StatusBadRequest, api.Problem{Error: err.Error()})
			return
		}
		answer(http.StatusOK, p.sessions(q))
	default:
		answer(http.StatusNotFound, api.Problem{Error: "there is no " + r.URL.Path})
	}
}

// sessions are those that match, sorted by age, rate or client.
func (p *Proxy) sessions(q api.SessionQuery) api.Sessions {
	all := slices.DeleteFunc(slices.Clone(p.Sessions), func(s api.Session) bool {
		text := strings.ToLower(strings.Join([]string{s.Client, s.ClientID, s.Software, s.SNI, s.Broker, s.Cluster}, "\n"))
		return q.Cluster != "" && s.Cluster != q.Cluster || q.State != "" && s.State != q.State || !strings.Contains(text, strings.ToLower(q.Text))
	})
	key, greatestFirst := strings.CutPrefix(q.Sort, "-")
	slices.SortStableFunc(all, func(a, b api.Session) int {
		if greatestFirst {
			a, b = b, a
		}
		switch key {
		case "rate":
			return cmp.Compare(a.BytesPerSecond, b.BytesPerSecond)
		case "client":
			return cmp.Compare(a.Client, b.Client)
		}
		return cmp.Compare(a.Age, b.Age)
	})
	from := min(q.Offset, len(all))
	return api.Sessions{Total: len(p.Sessions), Matching: len(all), Offset: q.Offset, Sessions: all[from:min(from+q.Limit, len(all))]}
}

func node(id int32) *int32 { return &id }

// New returns a proxy of two clusters, one of which cannot be reached, with some that is wrong.
func New() *Proxy {
	before := func(d time.Duration) time.Time { return Now.Add(-d) }
	p := &Proxy{}
	p.Status = api.Status{
		Version: "1.4.0", Go: "go1.26.8", Host: "gate-1", PID: 4711, Started: before(75 * time.Hour), Now: Now, State: "serving", StateSince: before(75 * time.Hour),
		Configuration: "/etc/kafka-sni-proxy/proxy.yaml",
		Connections: api.Connections{Open: 1234, Most: 20000, Accepted: 99321, Refused: map[string]int64{"max-handshakes-per-address": 12}, Retired: map[string]int64{"idle": 40, "age": 2},
			Failed: map[string]int64{"client-tls": 7, "upstream-dial": 31}, InFlight: 88},
		Traffic:   api.Traffic{RequestBytes: 5 << 40, ResponseBytes: 7 << 40, Requests: 812345678, Responses: 812345590, Rewritten: 40123},
		Rates:     &api.Rates{RequestBytes: 41.5e6, ResponseBytes: 88e6, Requests: 12345.6, Opened: 1.5, Failed: 0.1, Latency: &api.Quantiles{P50: 0.00035, P99: 0.0041}, Added: &api.Quantiles{P50: 11e-6, P99: 83e-6}},
		Listeners: []api.Listener{{Name: "public", Address: "0.0.0.0:9092", Mode: "sni", TLS: true, MTLS: true, Clusters: []string{"audit", "orders"}, Bootstrap: []string{"audit.kafka.example:9092", "bootstrap.orders.kafka.example:9092"}, Connections: 1230}, {Name: "plain", Address: "127.0.0.1:9192", Mode: "ports", Clusters: []string{"orders"}, Bootstrap: []string{"localhost:9192"}, BrokerPorts: "9193-9292", Connections: 4}},
		Certificates: []api.Certificate{
			{Use: "listener", Of: "public", File: "/etc/kafka-sni-proxy/orders.pem", Subject: "CN=*.orders.kafka.example", Issuer: "CN=Kafka CA", Names: []string{"*.orders.kafka.example"}, NotBefore: before(80 * 24 * time.Hour), NotAfter: Now.Add(9 * 24 * time.Hour), Serial: "01", Fingerprint: strings.Repeat("ab", 32), Warning: "/etc/kafka-sni-proxy/orders.pem expires in 9 days, on 2026-05-13"},
			{Use: "client-authority", Of: "public", File: "/etc/kafka-sni-proxy/clients-ca.pem", Subject: "CN=Clients", Issuer: "CN=Clients", Names: []string{}, NotBefore: before(8000 * time.Hour), NotAfter: Now.Add(700 * 24 * time.Hour), Serial: "02", Fingerprint: strings.Repeat("cd", 32)},
		},
		Reload: api.Reload{Changed: 3, Failed: 1, LastGood: before(26 * time.Hour),
			Events:   []api.ReloadEvent{{Time: before(2 * time.Hour), Asked: true, Changed: []string{}, Failed: []string{"clusters.audit.hosts-file"}}},
			Problems: []api.FileProblem{{Setting: "clusters.audit.hosts-file", Files: []string{"/etc/kafka-sni-proxy/audit.hosts"}, Since: before(2 * time.Hour), Error: `line 3: "10.1.2" is not an address`}}},
		Warnings: []string{"listeners[1]: is plaintext: whoever is in between can read everything"},
		Process:  api.Process{ResidentBytes: 61 << 20, CPUSeconds: 4321, OpenDescriptors: 2480, MostDescriptors: 65536, Goroutines: 3712},
	}
	p.Clusters.Clusters = []api.Cluster{
		{Name: "audit", Bootstrap: "audit.kafka.example:9092", Upstreams: []string{"10.1.2.3:9092"}, Via: "socks5://gate:***@10.1.0.1:1080", Health: "down", Since: before(4 * time.Minute), Failed: map[string]int64{"upstream-dial": 31}, Queries: api.Queries{Failed: 3},
			Brokers: []api.Broker{{Address: "10.1.2.3:9092", Health: "down", Since: before(4 * time.Minute), LastDial: before(3 * time.Second), LastDialSeconds: 0.0004, Dials: 40, DialErrors: 31, LastError: "connect: connection refused", LastErrorAt: before(3 * time.Second), Remedy: "nobody listens there: see that the broker runs, and that this is its port"}}},
		{Name: "orders", ID: "x3WbvFo2QeKZ1Yq0p5w7RA", Bootstrap: "bootstrap.orders.kafka.example:9092", Upstreams: []string{"b1.orders.internal:9093", "b2.orders.internal:9093"}, TLS: true, Health: "ok", Since: before(75 * time.Hour), Connections: 1234, InFlight: 88, Failed: map[string]int64{"client-tls": 7},
			Traffic: api.Traffic{RequestBytes: 5 << 40, ResponseBytes: 7 << 40, Requests: 812345678, Responses: 812345590, Rewritten: 40123}, Queries: api.Queries{Answered: 9},
			Brokers: []api.Broker{
				{Address: "b1.orders.internal:9093", Health: "ok", Since: before(75 * time.Hour), LastDial: before(time.Minute), LastDialSeconds: 0.0042, Dials: 12},
				{Node: node(1), Name: "b1.orders.kafka.example", Address: "b1.orders.internal:9093", Confirmed: true, Connections: 617, Health: "ok", Since: before(75 * time.Hour), LastDial: before(time.Minute), LastDialSeconds: 0.0038, Dials: 50000},
				{Node: node(2), Name: "b2.orders.kafka.example", Address: "b2.orders.internal:9093", Connections: 613, Health: "ok", Since: before(10 * time.Hour), LastDial: before(time.Minute), LastDialSeconds: 0.0051, Dials: 49000, DialErrors: 17, LastError: "i/o timeout", LastErrorAt: before(10 * time.Hour)},
			},
			APIs: []api.APIUse{{API: "Produce", Answers: 5000, Latency: api.Quantiles{P50: 0.001, P99: 0.01}}}},
	}
	p.Failures.Failures = []api.Failure{
		{First: before(4 * time.Minute), Last: before(3 * time.Second), Count: 31, Client: "10.0.0.7:40112", SNI: "audit.kafka.example", Listener: "public", Cluster: "audit", Broker: "10.1.2.3:9092", Phase: "upstream-dial", Reason: "dial tcp 10.1.2.3:9092: connect: connection refused", Remedy: "nobody listens there: see that the broker runs, and that this is its port"},
		{First: before(9 * time.Hour), Last: before(time.Hour), Count: 7, Client: "[2001:db8::17]:51000", Listener: "public", Phase: "client-tls", Reason: "remote error: tls: unknown certificate authority", Remedy: "have the client trust the authority that has signed the proxy's certificate"},
	}
	for i := range 25 {
		s := api.Session{ID: uint64(1000 + i), Client: fmt.Sprintf("10.0.0.%d:4%04d", i+1, i), Listener: "public", SNI: "b1.orders.kafka.example", Cluster: "orders", Broker: "b1.orders.internal:9093", Node: node(1), State: "open",
			Began: before(time.Duration(i+1) * time.Hour), Age: float64(i+1) * 3600, Software: "apache-kafka-java", SoftwareVersion: "4.1.0", ClientID: fmt.Sprintf("orders-writer-%02d", i), TLS: "TLS 1.3",
			RequestBytes: int64(i) << 30, ResponseBytes: int64(i) << 20, Requests: int64(i) * 10000, Responses: int64(i) * 10000, BytesPerSecond: float64(i * 100000), InFlight: i % 3, Idle: float64(25 - i)}
		if i%3 > 0 {
			s.Oldest, s.OldestAPI = 0.00042*float64(i), "Produce"
		}
		p.Sessions = append(p.Sessions, s)
	}
	p.Sessions = append(p.Sessions,
		api.Session{ID: 1100, Client: "[2001:db8::17]:51000", Listener: "plain", Cluster: "audit", State: "starting", Began: before(time.Second), Age: 1, ClientID: Hostile, Software: "kafka python", Provisional: true},
		api.Session{ID: 1101, Client: "192.0.2.200:50001", Listener: "public", SNI: "b2.orders.kafka.example", Cluster: "orders", Broker: "b2.orders.internal:9093", Node: node(2), State: "draining", Began: before(50 * time.Hour), Age: 180000, ClientID: "価格サービス", TLS: "TLS 1.2", BytesPerSecond: 9.5e6, InFlight: 5, Oldest: 31, OldestAPI: "Fetch"})
	return p
}
