package trace

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"kafka-sni-proxy/internal/harness"
)

// collector takes spans, over HTTP.
type collector struct {
	*httptest.Server
	// answer, if set, is asked what to say to the request with a number, from 1 on; false:
	// that it is well.
	answer func(w http.ResponseWriter, n int) bool

	mu       sync.Mutex
	more     *sync.Cond
	requests int
	spans    []*tracepb.Span // taken
	resource map[string]string
}

func newCollector(t *testing.T, answer func(w http.ResponseWriter, n int) bool) *collector {
	c := &collector{answer: answer}
	c.more = sync.NewCond(&c.mu)
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var data tracepb.TracesData
		if err == nil {
			err = proto.Unmarshal(body, &data)
		}
		if err != nil || r.URL.Path != "/v1/traces" || r.Method != "POST" || r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("%s %s, %s: %v", r.Method, r.URL, r.Header, err)
		}
		c.mu.Lock()
		c.requests++
		n := c.requests
		c.more.Broadcast()
		c.mu.Unlock()
		if c.answer != nil && c.answer(w, n) {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, rs := range data.ResourceSpans {
			c.resource = strings1(rs.Resource.Attributes)
			for _, ss := range rs.ScopeSpans {
				c.spans = append(c.spans, ss.Spans...)
			}
		}
		c.more.Broadcast()
	}))
	t.Cleanup(c.Server.Close)
	return c
}

// await waits until something is so.
func (c *collector) await(t *testing.T, isSo func() bool) {
	t.Helper()
	late := false
	timer := time.AfterFunc(20*time.Second, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		late = true
		c.more.Broadcast()
	})
	defer timer.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !isSo() {
		if late {
			t.Fatalf("it never was: %d requests, %d spans", c.requests, len(c.spans))
		}
		c.more.Wait()
	}
}

// logged is what was logged.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func start(t *testing.T, c Config) (*Exporter, *logged) {
	t.Helper()
	l := &logged{}
	c.Log = slog.New(slog.NewTextHandler(l, nil))
	c.Hint, c.SlowHint = "see the collector", "send less"
	if c.Interval == 0 {
		c.Interval = time.Millisecond
	}
	c.Pause = time.Millisecond
	x, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shutdown(x, 0) })
	return x, l
}

func shutdown(x *Exporter, within time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	x.Shutdown(ctx)
}

// strings1 returns attributes as text, by key.
func strings1(all attributes) map[string]string {
	m := map[string]string{}
	for _, a := range all {
		switch v := a.Value; {
		case v.GetStringValue() != "":
			m[a.Key] = v.GetStringValue()
		default:
			_, text, _ := strings.Cut(strings.ReplaceAll(v.String(), " ", ""), "_value:")
			m[a.Key] = text
		}
	}
	return m
}

func aClient(n int) Client {
	return Client{
		Began: time.Unix(1_700_000_000, int64(n)), Address: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 40112}, Listener: "public", SNI: "b3.kafka.example",
		TLS: tls.VersionTLS13, Cluster: "orders", Broker: "b3.orders.internal:9093", ID: "app", Software: "librdkafka", SoftwareVersion: "2.10.0",
	}
}

func TestAConnectionHasASpanWithItsStepsAndRequests(t *testing.T) {
	c := newCollector(t, nil)
	x, log := start(t, Config{Endpoint: c.URL, Connections: 1, Requests: 1, Service: map[string]string{"service.name": "kafka-sni-proxy"}})
	client := aClient(0)
	if !x.SampleRequest() {
		t.Error("a share of 1 does not have a request")
	}
	began := client.Began
	x.Request(&client, &Request{API: "Produce", Version: 11, Correlation: 7, Asked: began.Add(5 * time.Millisecond), Answered: began.Add(6 * time.Millisecond), Throttle: 20 * time.Millisecond})
	x.Connection(&Connection{Client: client, Took: time.Second, Handshake: 2 * time.Millisecond, Connect: 3 * time.Millisecond, Requests: 12, RequestBytes: 100, Result: "ok"})
	shutdown(x, 20*time.Second)

	byName := map[string]*tracepb.Span{}
	for _, s := range c.spans {
		byName[s.Name] = s
	}
	root := byName["kafka connection"]
	if len(c.spans) != 4 || root == nil || len(root.TraceId) != 16 || len(root.SpanId) != 8 || len(root.ParentSpanId) != 0 {
		t.Fatalf("%v", c.spans)
	}
	ids := map[string]bool{string(root.SpanId): true}
	for name, want := range map[string]struct {
		kind     tracepb.Span_SpanKind
		from, to time.Duration
	}{
		"handshake": {tracepb.Span_SPAN_KIND_INTERNAL, 0, 2 * time.Millisecond},
		"connect":   {tracepb.Span_SPAN_KIND_CLIENT, 2 * time.Millisecond, 5 * time.Millisecond},
		"Produce":   {tracepb.Span_SPAN_KIND_CLIENT, 5 * time.Millisecond, 6 * time.Millisecond},
	} {
		s := byName[name]
		if s == nil || !bytes.Equal(s.TraceId, root.TraceId) || !bytes.Equal(s.ParentSpanId, root.SpanId) || ids[string(s.SpanId)] || s.Kind != want.kind ||
			s.StartTimeUnixNano != uint64(began.Add(want.from).UnixNano()) || s.EndTimeUnixNano != uint64(began.Add(want.to).UnixNano()) {
			t.Fatalf("%s is %v", name, s)
		}
		ids[string(s.SpanId)] = true
	}
	of := func(s *tracepb.Span, want map[string]string) {
		t.Helper()
		got := strings1(s.Attributes)
		for key, value := range want {
			if got[key] != value {
				t.Errorf("%s: %s is %q, want %q", s.Name, key, got[key], value)
			}
		}
	}
	of(root, map[string]string{
		"messaging.system": "kafka", "messaging.client.id": "app", "client.address": "10.0.0.7", "client.port": "40112", "network.transport": "tcp", "network.type": "ipv4",
		"server.address": "b3.orders.internal", "server.port": "9093", "tls.protocol.version": "1.3", "tls.client.server_name": "b3.kafka.example",
		"kafka_sni_proxy.cluster": "orders", "kafka_sni_proxy.listener": "public", "kafka_sni_proxy.software": "librdkafka", "kafka_sni_proxy.requests": "12", "kafka_sni_proxy.result": "ok",
	})
	of(byName["connect"], map[string]string{"server.address": "b3.orders.internal", "server.port": "9093"})
	of(byName["Produce"], map[string]string{"kafka_sni_proxy.api.key": "0", "kafka_sni_proxy.api.version": "11", "kafka_sni_proxy.correlation_id": "7", "kafka_sni_proxy.throttle_ms": "20",
		"server.address": "b3.orders.internal", "kafka_sni_proxy.cluster": "orders"})
	if root.Status.GetCode() != tracepb.Status_STATUS_CODE_UNSET || root.EndTimeUnixNano != uint64(began.Add(time.Second).UnixNano()) || c.resource["service.name"] != "kafka-sni-proxy" {
		t.Errorf("%v of %v", root, c.resource)
	}
	if x.Dropped() != 0 || log.String() != "" {
		t.Errorf("%d dropped:\n%s", x.Dropped(), log)
	}
}

func TestFailuresAreSaidWhereTheyHappened(t *testing.T) {
	for name, test := range map[string]struct {
		c    Connection
		want []string // spans, with their status
	}{
		"handshake":        {Connection{Result: "failed", Failed: true, Phase: "handshake", Reason: "bad certificate"}, []string{"kafka connection handshake: bad certificate", "handshake handshake: bad certificate"}},
		"dial":             {Connection{Handshake: 1, Result: "failed", Failed: true, Phase: "dial", Reason: "refused"}, []string{"kafka connection dial: refused", "handshake ", "connect dial: refused"}},
		"later":            {Connection{Handshake: 1, Connect: 1, Result: "failed", Failed: true, Phase: "rewrite", Reason: "odd"}, []string{"kafka connection rewrite: odd", "handshake ", "connect "}},
		"on arrival":       {Connection{Result: "refused", Failed: true, Limit: "connections"}, []string{"kafka connection limit reached: connections"}},
		"panic":            {Connection{Handshake: 1, Connect: 1, Result: "panic", Failed: true, Reason: "bug"}, []string{"kafka connection bug", "handshake ", "connect "}},
		"left":             {Connection{Result: "ok", Phase: "first-byte", Reason: "EOF"}, []string{"kafka connection ", "handshake "}},
		"what is not text": {Connection{Client: Client{SNI: "a\xff", ID: strings.Repeat("é", 400)}, Result: "failed", Failed: true, Phase: "route", Reason: "\xff" + strings.Repeat("x", 1000)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCollector(t, nil)
			x, log := start(t, Config{Endpoint: c.URL, Connections: 1})
			test.c.Began, test.c.Took = time.Unix(1_700_000_000, 0), time.Second
			x.Connection(&test.c)
			shutdown(x, 20*time.Second)
			var got []string
			for _, s := range c.spans {
				if failed := s.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR; failed != (s.Status.GetMessage() != "") || failed != (strings1(s.Attributes)["error.type"] != "") {
					t.Errorf("the status of %v", s)
				}
				got = append(got, s.Name+" "+s.Status.GetMessage())
			}
			if test.want != nil && !slices.Equal(got, test.want) || len(got) == 0 || log.String() != "" {
				t.Errorf("%q, want %q\n%s", got, test.want, log)
			}
		})
	}
}

func TestSharesAreKept(t *testing.T) {
	c := newCollector(t, nil)
	const n = 10_000
	for _, ratio := range []float64{0, 0.001, 0.25, 1} {
		x, _ := start(t, Config{Endpoint: c.URL, Connections: ratio, Requests: ratio, Interval: time.Hour})
		connections, requests := 0, 0
		for i := range n {
			client := aClient(i)
			id := x.identityOf(&client)
			if again := x.identityOf(&client); again != id {
				t.Fatal("a connection has two identities")
			}
			if x.connections.has(id.value) {
				connections++
			}
			if x.SampleRequest() {
				requests++
			}
		}
		for _, got := range []int{connections, requests} {
			want := ratio * n
			if off := float64(got) - want; off > 10+want/10 || off < -10-want/10 || (ratio == 0 || ratio == 1) && off != 0 {
				t.Errorf("%d of %d, with a share of %v", got, n, ratio)
			}
		}
	}
}

// TestARequestOfAConnectionWithoutASpanHasATraceOfItsOwn: its parent would never come.
func TestARequestOfAConnectionWithoutASpanHasATraceOfItsOwn(t *testing.T) {
	c := newCollector(t, nil)
	x, _ := start(t, Config{Endpoint: c.URL, Connections: 0, Requests: 1})
	client := aClient(0)
	for range 2 {
		x.Request(&client, &Request{API: "Fetch"})
	}
	x.Connection(&Connection{Client: client, Result: "ok"})
	shutdown(x, 20*time.Second)
	if len(c.spans) != 2 || len(c.spans[0].ParentSpanId) != 0 || bytes.Equal(c.spans[0].TraceId, c.spans[1].TraceId) || bytes.Equal(c.spans[0].TraceId, make([]byte, 16)) {
		t.Errorf("%v", c.spans)
	}
}

// TestACollectorThatHangs: nobody waits, what does not fit is counted, and the end comes when
// it has to.
func TestACollectorThatHangs(t *testing.T) {
	hang := make(chan struct{})
	c := newCollector(t, func(http.ResponseWriter, int) bool { <-hang; return true })
	t.Cleanup(func() { close(hang) })
	x, log := start(t, Config{Endpoint: c.URL, Connections: 1})
	sent := int64(0)
	send := func() {
		x.Connection(&Connection{Client: aClient(int(sent)), Result: "ok"})
		sent++
	}
	send()
	c.await(t, func() bool { return c.requests == 1 })
	for sent < 2*QueueLength {
		send()
	}
	if d := x.Dropped(); d != sent-1-QueueLength || len(x.queue) != QueueLength {
		t.Errorf("%d of %d were dropped, and %d wait", d, sent, len(x.queue))
	}
	shutdown(x, 0)
	if d := x.Dropped(); d != sent {
		t.Errorf("%d were dropped, want %d", d, sent)
	}
	c.mu.Lock()
	if c.requests != 1 {
		t.Errorf("the collector was asked %d times: the end has waited for it", c.requests)
	}
	c.mu.Unlock()
	if !strings.Contains(log.String(), `hint="see the collector"`) {
		t.Errorf("the log has no hint:\n%s", log)
	}
	send()
	if d := x.Dropped(); d != sent {
		t.Error("a span after the end is not counted")
	}
}

// TestACollectorThatIsBusyIsAskedAgain: nothing is lost.
func TestACollectorThatIsBusyIsAskedAgain(t *testing.T) {
	for _, status := range []int{429, 502, 503, 504} {
		c := newCollector(t, func(w http.ResponseWriter, n int) bool {
			if n < tries {
				w.Header().Set("Retry-After", "0")
				w.WriteHeader(status)
			}
			return n < tries
		})
		x, log := start(t, Config{Endpoint: c.URL, Connections: 1})
		x.Connection(&Connection{Client: aClient(0), Result: "ok"})
		c.await(t, func() bool { return len(c.spans) == 1 })
		if x.Dropped() != 0 || log.String() != "" {
			t.Errorf("%d: %d dropped:\n%s", status, x.Dropped(), log)
		}
	}
}

func TestWhatACollectorDoesNotTakeIsLostAndSaid(t *testing.T) {
	var message []byte // ExportTraceServiceResponse{partial_success: {rejected_spans: 1, error_message: "too odd"}}
	message = protowire.AppendVarint(protowire.AppendTag(message, 1, protowire.VarintType), 1)
	message = protowire.AppendString(protowire.AppendTag(message, 2, protowire.BytesType), "too odd")
	partly := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), message)
	for name, test := range map[string]struct {
		answer  func(w http.ResponseWriter)
		asked   int
		dropped int64
		said    string
	}{
		"busy for ever": {func(w http.ResponseWriter) { w.WriteHeader(429) }, tries, 2, "429 Too Many Requests"},
		"bad request":   {func(w http.ResponseWriter) { w.WriteHeader(400) }, 1, 2, "400 Bad Request"},
		"not there":     {func(w http.ResponseWriter) { w.WriteHeader(404) }, 1, 2, "404 Not Found"},
		"elsewhere":     {func(w http.ResponseWriter) { w.Header().Set("Location", "/x"); w.WriteHeader(307) }, 1, 2, "307 Temporary Redirect"},
		"in part":       {func(w http.ResponseWriter) { w.Write(partly) }, 1, 1, "too odd"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCollector(t, func(w http.ResponseWriter, _ int) bool { test.answer(w); return true })
			x, log := start(t, Config{Endpoint: c.URL + "/", Connections: 1, Interval: time.Hour})
			x.Connection(&Connection{Client: aClient(0), Handshake: 1, Result: "retired"})
			x.full <- struct{}{}
			c.await(t, func() bool { return c.requests == test.asked })
			shutdown(x, 20*time.Second)
			if c.requests != test.asked || x.Dropped() != test.dropped || !strings.Contains(log.String(), test.said) || !strings.Contains(log.String(), "hint=") {
				t.Errorf("asked %d times, %d dropped:\n%s", c.requests, x.Dropped(), log)
			}
		})
	}
}

// TestACollectorThatIsGoneAndComesBack is one line of the log.
func TestACollectorThatIsGoneAndComesBack(t *testing.T) {
	c := newCollector(t, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	ln.Close()
	x, log := start(t, Config{Endpoint: "http://" + address, Connections: 1})
	for lost := range int64(5) {
		x.Connection(&Connection{Client: aClient(0), Result: "ok"})
		err := harness.Await(t.Context(), "a span to be given up", func() error {
			if x.Dropped() == lost {
				return errors.New("not yet")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), "connection refused") || !strings.Contains(log.String(), `hint="see the collector"`) {
		t.Errorf("%d warnings:\n%s", n, log)
	}
	if ln, err = net.Listen("tcp", address); err != nil {
		t.Skip("somebody else has the port now")
	}
	c.Server.Listener.Close()
	go http.Serve(ln, c.Config.Handler)
	defer ln.Close()
	x.Connection(&Connection{Client: aClient(0), Result: "ok"})
	c.await(t, func() bool { return len(c.spans) > 0 })
}

// TestARequestThatIsNotInTheShareCostsNothing but a look.
func TestARequestThatIsNotInTheShareCostsNothing(t *testing.T) {
	x, _ := start(t, Config{Endpoint: "http://127.0.0.1:1", Requests: 0})
	if n := testing.AllocsPerRun(1000, func() {
		if x.SampleRequest() {
			t.Error("it is in it")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTheURLOfACollector(t *testing.T) {
	for endpoint, want := range map[string]string{
		"http://h:4318":         "http://h:4318/v1/traces",
		"http://h:4318/":        "http://h:4318/v1/traces",
		"https://h/otlp/traces": "https://h/otlp/traces",
	} {
		if x, _ := start(t, Config{Endpoint: endpoint}); x.url != want {
			t.Errorf("%s becomes %s", endpoint, x.url)
		}
	}
	if _, err := New(Config{Endpoint: "http://%"}); err == nil {
		t.Error(fmt.Errorf("%q is taken", "http://%"))
	}
}
