package page

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kafka-sni-proxy/internal/api"
)

// fixedSource tells the same again and again.
type fixedSource struct {
	status   api.Status
	clusters []api.Cluster
	sessions []api.Session
	failures []api.Failure
}

func (s *fixedSource) Status() api.Status     { return s.status }
func (s *fixedSource) Clusters() api.Clusters { return api.Clusters{Clusters: s.clusters} }
func (s *fixedSource) Failures() api.Failures { return api.Failures{Failures: s.failures} }

func (s *fixedSource) Sessions(q api.SessionQuery) api.Sessions {
	var found []api.Session
	for _, each := range s.sessions {
		words := strings.ToLower(strings.Join([]string{each.Client, each.ClientID, each.Software, each.SNI, each.Broker, each.Cluster}, "\n"))
		is := func(wanted, value string) bool { return wanted == "" || wanted == value }
		if strings.Contains(words, strings.ToLower(q.Text)) && is(q.Cluster, each.Cluster) && is(q.Listener, each.Listener) && is(q.Broker, each.Broker) && is(q.State, each.State) {
			found = append(found, each)
		}
	}
	field, descending := strings.CutPrefix(q.Sort, "-")
	slices.SortStableFunc(found, func(a, b api.Session) int {
		order := map[string]int{
			"age": cmp.Compare(a.Age, b.Age), "client": cmp.Compare(a.Client, b.Client), "rate": cmp.Compare(a.BytesPerSecond, b.BytesPerSecond),
			"software": cmp.Compare(a.Software, b.Software), "requests": cmp.Compare(a.Requests, b.Requests),
		}[field]
		if descending {
			order = -order
		}
		return cmp.Or(order, cmp.Compare(a.ID, b.ID))
	})
	from := min(q.Offset, len(found))
	return api.Sessions{Total: len(s.sessions), Matching: len(found), Offset: q.Offset, Sessions: found[from:min(from+q.Limit, len(found))]}
}

func (s *fixedSource) History(cluster string) (api.History, bool) {
	h := api.History{Cluster: cluster, Interval: 10, Columns: map[string]api.Column{}}
	for i := range 360 {
		h.Times = append(h.Times, s.status.Now.Unix()-int64(360-i)*10)
	}
	for n, name := range api.Columns {
		scale := map[string]float64{"requests": 4100, "request_bytes": 21e6, "response_bytes": 34e6, "connections": 40, "in_flight": 11,
			"latency_p50": 0.0021, "latency_p99": 0.0135, "added_p50": 0.00004, "added_p99": 0.0003, "opened": 0.4, "failed": 0.05}[name]
		column := make(api.Column, len(h.Times))
		for i := range column {
			if i >= 60 { // the proxy has not run for an hour
				value := scale * (1 + 0.2*math.Sin(float64(i)/25+float64(n)) + 0.05*math.Sin(float64(i)*1.7))
				if name == "failed" && i > 330 {
					value *= 30
				}
				column[i] = &value
			}
		}
		h.Columns[name] = column
	}
	return h, cluster == "" || slices.ContainsFunc(s.clusters, func(c api.Cluster) bool { return c.Name == cluster })
}

// noon is when all of the tests' sources tell what they tell.
var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return noon.Add(-d) }

// idleSource is a proxy that was just started, and that nobody uses.
func idleSource() *fixedSource {
	return &fixedSource{
		status: api.Status{
			Version: "v1.3.0", Go: "go1.26.0", Host: "proxy-1", PID: 4711, Started: ago(20 * time.Second), Now: noon, State: "serving", StateSince: ago(20 * time.Second),
			Listeners: []api.Listener{{Name: "default", Address: "0.0.0.0:9092", Mode: "sni", TLS: true, Clusters: []string{"kafka"}, Bootstrap: []string{"bootstrap.kafka.example:9092"}}},
			Process:   api.Process{Goroutines: 14},
		},
		clusters: []api.Cluster{{Name: "kafka", Bootstrap: "bootstrap.kafka.example", Upstreams: []string{"b.internal:9093"}, Health: "unknown", TLS: true,
			Brokers: []api.Broker{{Address: "b.internal:9093", Health: "unknown"}}}},
	}
}

func node(id int32) *int32 { return &id }

// busySource is a proxy with two clusters and so many sessions. A broker is down, and other
// things are not as they should be.
func busySource(sessions int) *fixedSource {
	orders, audit := ordersCluster(), auditCluster()
	s := &fixedSource{
		clusters: []api.Cluster{orders, audit},
		status: api.Status{
			Version: "v1.3.0", Go: "go1.26.0", Host: "proxy-1", PID: 4711, Started: ago(75 * time.Hour), Now: noon, State: "serving", StateSince: ago(75 * time.Hour),
			Configuration: "/etc/kafka-sni-proxy/config.yaml",
			Connections: api.Connections{Open: sessions, Most: 20000, Accepted: 18211, InFlight: 12, Refused: map[string]int64{"connections": 0, "handshakes": 3},
				Retired: map[string]int64{"idle": 220, "age": 0}, Failed: map[string]int64{"dial": 41, "handshake": 7}},
			Traffic: api.Traffic{RequestBytes: 5_312_400_000_000, ResponseBytes: 9_120_000_000_000, Requests: 1_123_456_789, Responses: 1_123_456_777, Rewritten: 91123, Throttled: 12},
			Rates: &api.Rates{RequestBytes: 21_300_000, ResponseBytes: 34_750_000, Requests: 4132.4, Opened: 0.42, Failed: 1.31,
				Latency: &api.Quantiles{P50: 0.0021, P99: 0.0138}, Added: &api.Quantiles{P50: 0.000041, P99: 0.00032}},
			Listeners: []api.Listener{
				{Name: "public", Address: "0.0.0.0:9092", Mode: "sni", TLS: true, MTLS: true, Clusters: []string{"orders", "audit"}, Bootstrap: []string{"bootstrap.orders.example:9092", "bootstrap.audit.example:9092"}, Connections: sessions},
				{Name: "inside", Address: "10.0.0.5:9100", Mode: "ports", BrokerPorts: "9101–9120", Clusters: []string{"orders"}, Bootstrap: []string{"10.0.0.5:9100"}},
			},
			Certificates: []api.Certificate{
				{Use: "listener", Of: "public", File: "/etc/kafka-sni-proxy/server.pem", Subject: "CN=*.orders.example", Issuer: "CN=Example CA", Names: []string{"*.orders.example", "*.audit.example"},
					NotBefore: ago(80 * 24 * time.Hour), NotAfter: noon.Add(247 * time.Hour), Serial: "4a01", Fingerprint: strings.Repeat("3f", 32), Warning: "it ends in 10 days: renew it"},
				{Use: "client-authority", Of: "public", File: "/etc/kafka-sni-proxy/clients.pem", Subject: "CN=Clients CA", Issuer: "CN=Clients CA",
					NotBefore: ago(800 * 24 * time.Hour), NotAfter: noon.Add(900 * 24 * time.Hour), Serial: "01", Fingerprint: strings.Repeat("a7", 32)},
			},
			Reload: api.Reload{Changed: 4, Failed: 1, LastGood: ago(26 * time.Hour),
				Events:   []api.ReloadEvent{{Time: ago(3 * time.Hour), Failed: []string{"hosts-file"}}, {Time: ago(26 * time.Hour), Asked: true, Changed: []string{"certificates"}}},
				Problems: []api.FileProblem{{Setting: "hosts-file", Files: []string{"/etc/kafka-sni-proxy/hosts"}, Since: ago(3 * time.Hour), Error: `line 3: "10.1.2" is no address`}}},
			Warnings: []string{"listener inside is plaintext: whoever can read the network reads the records"},
			Process:  api.Process{ResidentBytes: 48_200_000, CPUSeconds: 8123, OpenDescriptors: 2*sessions + 20, MostDescriptors: 524288, Goroutines: 3*sessions + 17},
		},
		failures: []api.Failure{
			{First: ago(12 * time.Minute), Last: ago(8 * time.Second), Count: 41, Client: "10.0.7.12:40112", SNI: "b3.orders.example", Listener: "public", Cluster: "orders", Broker: "b3.orders.internal:9093",
				Phase: "dial", Reason: "dial tcp 10.1.2.3:9093: connect: connection refused", Remedy: "see whether the broker runs, and whether a firewall is in between"},
			{First: ago(2 * time.Minute), Last: ago(2 * time.Minute), Count: 1, Client: "10.0.9.40:51200", SNI: "bootstrap.orders.example", Listener: "public",
				Phase: "handshake", Reason: "remote error: tls: unknown certificate authority", Remedy: "let the client trust the authority in ca.pem (ssl.truststore.location, ssl.ca.location)"},
		},
	}
	software := [][2]string{{"apache-kafka-java", "4.4.0"}, {"librdkafka", "2.16.0"}, {"kgo", "v1.22.2"}, {"", ""}}
	for i := range sessions {
		cluster := s.clusters[i%3/2]
		broker := cluster.Brokers[1+i%(len(cluster.Brokers)-2)]
		kind := software[i%len(software)]
		s.sessions = append(s.sessions, api.Session{
			ID: uint64(1000 + i), Client: fmt.Sprintf("10.0.%d.%d:%d", i/250%250, i%250, 40000+i), Listener: "public", SNI: broker.Name, Cluster: cluster.Name, Broker: broker.Address, Node: broker.Node,
			State: "open", Began: ago(time.Duration(i*37) * time.Second), Age: float64(i * 37), Software: kind[0], SoftwareVersion: kind[1], ClientID: []string{"checkout", "mirror-7", "audit-writer"}[i%3], TLS: "TLS 1.3",
			RequestBytes: int64(i) * 1_234_567, ResponseBytes: int64(i) * 2_345_678, Requests: int64(i) * 321, Responses: int64(i) * 320, BytesPerSecond: float64(i%97) * 10_240,
			Stalled: []float64{0, 12}[i%2], StalledBy: []string{"", "client"}[i%2], InFlight: i % 3, Oldest: float64(i%3) * 0.0042, OldestAPI: []string{"", "Fetch", "Produce"}[i%3], Idle: float64(i % 240),
		})
	}
	return s
}

func ordersCluster() api.Cluster {
	c := api.Cluster{
		Name: "orders", ID: "x3WbT0mZQ-6aY2mV9vVZ1g", Bootstrap: "bootstrap.orders.example", Upstreams: []string{"boot.orders.internal:9093"}, TLS: true, Health: "failing", Since: ago(12 * time.Minute),
		Connections: 27, InFlight: 12, StalledByClients: 1, StalledByBrokers: 2, Failed: map[string]int64{"dial": 41, "handshake": 0}, Queries: api.Queries{Answered: 412, Failed: 1},
		Traffic: api.Traffic{RequestBytes: 5_300_000_000_000, ResponseBytes: 9_100_000_000_000, Requests: 1_120_000_000, Responses: 1_120_000_000, Rewritten: 88123, Throttled: 12},
		Brokers: []api.Broker{{Address: "boot.orders.internal:9093", Confirmed: true, Health: "ok", Since: ago(75 * time.Hour), LastDial: ago(time.Minute), LastDialSeconds: 0.0083, Dials: 412, DialErrors: 1}},
		APIs: []api.APIUse{{API: "Fetch", Answers: 812_000_000, Latency: api.Quantiles{P50: 0.0031, P99: 0.502}}, {API: "Produce", Answers: 307_000_000, Latency: api.Quantiles{P50: 0.0019, P99: 0.0122}},
			{API: "Metadata", Answers: 88_123, Latency: api.Quantiles{P50: 0.0009, P99: 0.0041}}},
	}
	for id := range int32(4) {
		c.Brokers = append(c.Brokers, api.Broker{Node: node(id), Name: fmt.Sprintf("b%d.orders.example", id), Address: fmt.Sprintf("b%d.orders.internal:9093", id), Confirmed: id != 2,
			Connections: 9, Health: "ok", Since: ago(75 * time.Hour), LastDial: ago(time.Duration(id+1) * 90 * time.Second), LastDialSeconds: 0.0041 + float64(id)/1000, Dials: 500, DialErrors: 0})
	}
	down := &c.Brokers[4]
	down.Health, down.Since, down.Connections, down.DialErrors = "down", ago(12*time.Minute), 0, 41
	down.LastError, down.LastErrorAt, down.LastDial = "dial tcp 10.1.2.3:9093: connect: connection refused", ago(8*time.Second), ago(8*time.Second)
	down.Remedy = "see whether the broker runs, and whether a firewall is in between"
	return c
}

func auditCluster() api.Cluster {
	c := api.Cluster{
		Name: "audit", ID: "Jq1bE8sNQk2nS0u7b6cFhw", Bootstrap: "bootstrap.audit.example", Upstreams: []string{"boot.audit.internal:9093"}, TLS: true, Via: "socks5://gate.internal:1080", Health: "ok", Since: ago(75 * time.Hour),
		Connections: 13, Failed: map[string]int64{}, Queries: api.Queries{Answered: 77},
		Traffic: api.Traffic{RequestBytes: 12_400_000_000, ResponseBytes: 20_000_000_000, Requests: 3_456_789, Responses: 3_456_777, Rewritten: 3000},
		Brokers: []api.Broker{{Address: "boot.audit.internal:9093", Confirmed: true, Health: "ok", Since: ago(75 * time.Hour), LastDial: ago(time.Hour), LastDialSeconds: 0.021, Dials: 77}},
		APIs:    []api.APIUse{{API: "Produce", Answers: 3_400_000, Latency: api.Quantiles{P50: 0.0102, P99: 0.0441}}},
	}
	for id := range int32(3) {
		c.Brokers = append(c.Brokers, api.Broker{Node: node(id), Name: fmt.Sprintf("b%d.audit.example", id), Address: fmt.Sprintf("b%d.audit.internal:9093", id), Confirmed: true,
			Connections: 4, Health: "ok", Since: ago(75 * time.Hour), LastDial: ago(time.Duration(id+1) * 20 * time.Minute), LastDialSeconds: 0.019, Dials: 90})
	}
	return c
}

// testSite is the page with what it asks, as the proxy's own port has it.
type testSite struct {
	*httptest.Server
	source atomic.Pointer[fixedSource]
	silent atomic.Int64 // the status that the API answers with; 0: as usual
	token  atomic.Value // string: wanted as the password; nil: none is
	asked  atomic.Int64
}

func newTestSite(t *testing.T, source *fixedSource) *testSite {
	site := &testSite{}
	site.source.Store(source)
	answer := func(w http.ResponseWriter, value any) {
		site.asked.Add(1)
		if status := site.silent.Load(); status != 0 {
			http.Error(w, "", int(status))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if problem, ok := value.(api.Problem); ok {
			w.WriteHeader(http.StatusBadRequest)
			value = problem
		}
		json.NewEncoder(w).Encode(value)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, _ *http.Request) { answer(w, site.source.Load().Status()) })
	mux.HandleFunc("GET /api/v1/clusters", func(w http.ResponseWriter, _ *http.Request) { answer(w, site.source.Load().Clusters()) })
	mux.HandleFunc("GET /api/v1/failures", func(w http.ResponseWriter, _ *http.Request) { answer(w, site.source.Load().Failures()) })
	mux.HandleFunc("GET /api/v1/history", func(w http.ResponseWriter, r *http.Request) {
		h, _ := site.source.Load().History(r.URL.Query().Get("cluster"))
		answer(w, h)
	})
	mux.HandleFunc("GET /api/v1/sessions", func(w http.ResponseWriter, r *http.Request) {
		q, err := api.ParseSessionQuery(r.URL.Query())
		if err != nil {
			answer(w, api.Problem{Error: err.Error()})
			return
		}
		answer(w, site.source.Load().Sessions(q))
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) { Handler(site.source.Load()).ServeHTTP(w, r) })
	site.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); site.token.Load() != nil && password != site.token.Load() {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, "the token is wanted here", http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(site.Close)
	return site
}
