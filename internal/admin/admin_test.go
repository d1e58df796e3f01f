package admin

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kafka-sni-proxy/internal/server"
	"kafka-sni-proxy/internal/session"
)

// fakeProxy is a proxy that is as the test says.
type fakeProxy struct {
	draining atomic.Bool
	checks   atomic.Int32 // of the upstream
	problem  error
	dead     error
}

func (p *fakeProxy) Stats() server.Stats {
	return server.Stats{Accepted: 7, Failures: map[string]int64{"dial": 3}, Draining: p.Draining(),
		Shares: []server.ShareStats{{Listener: "public", Accepted: 7, Failures: map[string]int64{"dial": 3}}}}
}
func (p *fakeProxy) Sessions() []server.SessionView      { return nil }
func (p *fakeProxy) Failures() []server.Failure          { return nil }
func (p *fakeProxy) Waiting() map[string]session.Waiting { return nil }
func (p *fakeProxy) Details() []server.ClusterDetails    { return nil }
func (p *fakeProxy) Facts() Facts                        { return Facts{Version: "1.2.3", GoVersion: "go1.26"} }
func (p *fakeProxy) Hint(error) string                   { return "" }
func (p *fakeProxy) Draining() bool                      { return p.draining.Load() }
func (p *fakeProxy) Clusters() []string                  { return []string{"kafka"} }
func (p *fakeProxy) CheckCluster(context.Context, string) error {
	p.checks.Add(1)
	return p.problem
}
func (p *fakeProxy) CheckAlive(context.Context, time.Duration) error { return p.dead }

// serve runs the port until the test ends.
func serve(t *testing.T, p *fakeProxy, more ...prometheus.Collector) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop := Serve(ln, p, Options{}, slog.New(slog.DiscardHandler), more...)
	t.Cleanup(stop)
	return ln.Addr().String()
}

func get(t *testing.T, addr, path string) (status int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestAnswersAreAsTheProxyIs(t *testing.T) {
	p := &fakeProxy{}
	addr := serve(t, p)
	want := func(path string, status int, words string) {
		t.Helper()
		if got, body := get(t, addr, path); got != status || !strings.Contains(body, words) {
			t.Errorf("%s: %d %.200s, want %d and %q", path, got, body, status, words)
		}
	}
	want("/healthz", 200, "ok")
	want("/readyz", 200, "ready")
	want("/metrics", 200, "\nkafka_sni_proxy_connections_accepted_total{listener=\"public\"} 7\n")
	want("/metrics", 200, "\nkafka_sni_proxy_connection_failures_total{cluster=\"\",listener=\"public\",phase=\"dial\"} 3\n")
	p.draining.Store(true)
	want("/readyz", 503, "not ready: draining")
	want("/metrics", 200, "\nkafka_sni_proxy_draining 1\n")
	p.dead = errors.New("the accept loop is stuck")
	want("/healthz", 503, "stuck")
}

// TestUpstreamIsCheckedOnceInAWhile, however many ask.
func TestUpstreamIsCheckedOnceInAWhile(t *testing.T) {
	p := &fakeProxy{problem: errors.New("connection refused")}
	now := time.Now()
	r := newReadiness(p)
	r.now = func() time.Time { return now }
	check := func() error {
		if p := r.check([]string{"kafka"}, 1); p.any() {
			return errors.New(p.text(false))
		}
		return nil
	}
	ask := func(times int, checks int32) {
		t.Helper()
		var all sync.WaitGroup
		for range times {
			all.Go(func() {
				if err := check(); (err == nil) != (p.problem == nil) {
					t.Errorf("%v", err)
				}
			})
		}
		all.Wait()
		if n := p.checks.Load(); n != checks {
			t.Errorf("checked %d times, want %d", n, checks)
		}
	}
	ask(20, 1)
	now = now.Add(readinessTTL)
	ask(5, 1)
	now = now.Add(1)
	p.problem = nil
	ask(5, 2)
	p.draining.Store(true)
	if err := check(); err == nil || p.checks.Load() != 2 {
		t.Errorf("draining: %v", err)
	}
}

// idlers opens connections that each send something, and then do nothing.
func idlers(t *testing.T, addr string, n int, send string) []net.Conn {
	t.Helper()
	var all []net.Conn
	for range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := io.WriteString(c, send); err != nil {
			t.Logf("closed already: %v", err)
		}
		all = append(all, c)
	}
	return all
}

// TestIdleClientsKeepNobodyOut has many clients of each kind that costs a connection and
// gives nothing: probes are answered all the same, and few connections are open.
func TestIdleClientsKeepNobodyOut(t *testing.T) {
	for name, send := range map[string]string{
		"says nothing":            "",
		"half a header":           "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ",
		"announces a body":        "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
		"does not read, and asks": strings.Repeat("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 50),
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			limited := &newestListener{Listener: ln}
			web := &http.Server{Handler: Handler(&fakeProxy{}, Options{})}
			go web.Serve(limited)
			t.Cleanup(func() { web.Close() })
			const clients = 4 * maxConnections
			all := idlers(t, ln.Addr().String(), clients, send)
			for range 10 {
				if status, _ := get(t, ln.Addr().String(), "/healthz"); status != 200 {
					t.Errorf("a probe gets %d", status)
				}
			}
			limited.mu.Lock()
			open := len(limited.open)
			limited.mu.Unlock()
			if open > maxConnections {
				t.Errorf("%d connections are open, want %d at the most", open, maxConnections)
			}
			// The oldest have been closed.
			all[0].SetReadDeadline(time.Now().Add(30 * time.Second))
			if _, err := io.Copy(io.Discard, all[0]); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
				t.Error("the oldest connection is still open")
			}
		})
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// TestBodiesAreNotWaitedFor has a client announce a body that never comes. It is answered,
// and its connection ended.
func TestBodiesAreNotWaitedFor(t *testing.T) {
	addr := serve(t, &fakeProxy{})
	c := idlers(t, addr, 1, "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")[0]
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
	if _, err := io.Copy(io.Discard, r); isTimeout(err) {
		t.Error("the connection stays open")
	}
}

func TestLongHeadersAreRefused(t *testing.T) {
	addr := serve(t, &fakeProxy{})
	c := idlers(t, addr, 1, "GET /healthz HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 64<<10)+"\r\n\r\n")[0]
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err == nil && resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("answered with %s", resp.Status)
	}
}

func TestClosedConnectionsAreForgotten(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	l := &newestListener{Listener: ln}
	for i := range 3 * maxConnections {
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		c.Close()
		client.Close()
		if len(l.open) != 0 {
			t.Fatalf("after %d connections, %d are remembered", i+1, len(l.open))
		}
	}
}

// several is a proxy with clusters, some of which cannot be reached.
type several struct {
	*fakeProxy
	problems map[string]error
}

func (p *several) Clusters() []string                                { return slices.Sorted(maps.Keys(p.problems)) }
func (p *several) CheckCluster(_ context.Context, name string) error { return p.problems[name] }

// TestOneClusterThatIsDownTakesNobodyElseAlong: a load balancer goes on to send clients.
func TestOneClusterThatIsDownTakesNobodyElseAlong(t *testing.T) {
	down := errors.New("connection refused")
	for name, test := range map[string]struct {
		problems map[string]error
		path     string
		status   int
		body     string
	}{
		"all well":        {map[string]error{"a": nil, "b": nil}, "/readyz", 200, "ready\n"},
		"one is down":     {map[string]error{"a": nil, "b": down}, "/readyz", 200, "ready, but for: cluster b: no upstream can be reached: connection refused\n"},
		"all are down":    {map[string]error{"a": down, "b": down}, "/readyz", 503, "not ready: cluster a: no upstream can be reached: connection refused\ncluster b: no upstream can be reached: connection refused\n"},
		"the one":         {map[string]error{"a": nil, "b": down}, "/readyz?cluster=b", 503, "not ready: cluster b: no upstream can be reached: connection refused\n"},
		"the other":       {map[string]error{"a": nil, "b": down}, "/readyz?cluster=a", 200, "ready\n"},
		"no such cluster": {map[string]error{"a": nil}, "/readyz?cluster=c", 404, "there is no cluster \"c\"\n"},
		"only one":        {map[string]error{"a": down}, "/readyz", 503, "not ready: no upstream can be reached: connection refused\n"},
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		stop := Serve(ln, &several{&fakeProxy{}, test.problems}, Options{}, slog.New(slog.DiscardHandler))
		if status, body := get(t, ln.Addr().String(), test.path); status != test.status || body != test.body {
			t.Errorf("%s: %d %q", name, status, body)
		}
		stop()
	}
}
