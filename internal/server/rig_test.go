package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/kafkatest"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/session"
)

const suffix = "kafka.example"

// rig is a running proxy in front of something.
type rig struct {
	*Server
	Routes  *route.Table
	cluster *Cluster
	how     *Listener
	socket  *Socket
	addr    string
	ca      *kafkatest.Authority
	log     *logBuffer
	// ended has what Serve returned.
	ended chan error
	stop  context.CancelFunc
}

// settings are what a test may change.
type settings struct {
	Downstream, Upstream *tls.Config
	Dial                 func(ctx context.Context, host string, port int32) (net.Conn, error)
	IsSelf               func(*x509.Certificate) bool
	Label                string // of the listener
	Log                  *slog.Logger
	Routes               *route.Table // nil: made from a route.Config

	HandshakeTimeout, DialTimeout, IdleTimeout, MaxConnectionAge, TCPUserTimeout time.Duration
	MaxFrameBytes, MaxConnections, MaxHandshakesPerAddress                       int
	AllowMissingSNI                                                              bool
	ProxyFrom                                                                    []netip.Prefix
	Listen                                                                       func(net.Listener) net.Listener
}

// upstream is what a rig's proxy connects to: a kafkatest.Cluster or Broker.
type upstream interface {
	Dial(ctx context.Context, host string, port int32) (net.Conn, error)
	ClientConfig() *tls.Config
}

// start runs a proxy until the test ends, and then checks that Serve ended
// cleanly.
func start(t testing.TB, up upstream, bootstrap string, change func(p *settings, r *route.Config)) *rig {
	t.Helper()
	ca := kafkatest.NewAuthority("downstream")
	r := &rig{ca: ca, log: newLogBuffer(), ended: make(chan error, 1)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = ln.Addr().String()
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	routes := route.Config{Suffix: suffix, Log: log}
	for _, b := range strings.Split(bootstrap, ",") {
		a, err := route.ParseAddress(b)
		if err != nil {
			t.Fatal(err)
		}
		routes.Upstreams = append(routes.Upstreams, a)
	}
	p := &settings{Downstream: ca.ServerConfig(suffix), Upstream: up.ClientConfig(), Dial: up.Dial, Log: log}
	if change != nil {
		change(p, &routes)
	}
	if p.Listen != nil {
		ln = p.Listen(ln)
	}
	if r.Routes = p.Routes; r.Routes == nil {
		if r.Routes, err = route.New(routes); err != nil {
			t.Fatal(err)
		}
	}
	r.Server, r.cluster, r.how = p.server(r.Routes)
	r.socket = r.NewSocket(ln, r.how)
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() { r.ended <- r.Serve(ctx, r.socket) }()
	t.Cleanup(func() {
		cancel()
		if err := <-r.ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
	})
	return r
}

// server returns a server with one cluster, and how the clients of its socket are served.
func (p *settings) server(routes *route.Table) (*Server, *Cluster, *Listener) {
	s := New(Config{
		Limits: Limits{MaxConnections: p.MaxConnections, MaxHandshakesPerAddress: p.MaxHandshakesPerAddress},
		Log:    p.Log,
		Hint:   func(err error) string { return "hint for " + err.Error() },
	})
	c := &Cluster{Cluster: cluster.New(cluster.Config{Name: "kafka", Routes: routes, TLS: p.Upstream, Dial: p.Dial, DialTimeout: p.DialTimeout,
		MaxFrameBytes: p.MaxFrameBytes, IsSelf: p.IsSelf, Log: p.Log})}
	s.SetClusters(c)
	return s, c, &Listener{
		Label:     p.Label,
		TLS:       p.Downstream,
		ProxyFrom: p.ProxyFrom,
		Route:     ByName(p.AllowMissingSNI, Member{c, route.OnePort(9092)}),
		Session: session.Config{HandshakeTimeout: p.HandshakeTimeout, IdleTimeout: p.IdleTimeout, MaxAge: p.MaxConnectionAge,
			TCPUserTimeout: p.TCPUserTimeout, MaxFrameBytes: p.MaxFrameBytes},
	}
}

// setCluster has new clients be led to another cluster.
func (r *rig) setCluster(c *cluster.Cluster) {
	r.cluster = &Cluster{Cluster: c}
	r.SetClusters(r.cluster)
	how := *r.how
	how.Route = ByName(false, Member{r.cluster, route.OnePort(9092)})
	r.socket.Set(&how)
}

// dialer is how a client gets to the proxy; everything it reads is scanned.
func (r *rig) dialer() *kafkatest.Dialer {
	return &kafkatest.Dialer{Suffix: suffix, Proxy: r.addr, TLS: r.ca.ClientConfig(), Scanner: kafkatest.NewScanner(kafkatest.Domain)}
}

// dial connects with TLS, as a client that asks for this name.
func (r *rig) dial(t testing.TB, name string, certs ...tls.Certificate) *tls.Conn {
	t.Helper()
	c, err := r.tryDial(name, certs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// login connects as a client does that then authenticates with SASL.
func (r *rig) login(t testing.TB, name string) *tls.Conn {
	t.Helper()
	c := r.dial(t, name)
	for i, key := range []int{17, 36} {
		mustWrite(t, c, request(key, 1, i))
		mustRead(t, c)
	}
	return c
}

func (r *rig) tryDial(name string, certs ...tls.Certificate) (*tls.Conn, error) {
	config := r.ca.ClientConfig(certs...)
	config.ServerName = name
	if len(certs) > 0 { // shown even when the server asks for those of other CAs
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certs[0], nil }
	}
	c, err := tls.Dial("tcp", r.addr, config)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return c, nil
}

// dialRaw connects without TLS.
func (r *rig) dialRaw(t testing.TB) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return c.(*net.TCPConn)
}

// logBuffer keeps what is logged, and can be waited on.
type logBuffer struct {
	mu   sync.Mutex
	more *sync.Cond
	buf  bytes.Buffer
}

func newLogBuffer() *logBuffer {
	b := &logBuffer{}
	b.more = sync.NewCond(&b.mu)
	return b
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.more.Broadcast()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// wait returns the first line that has all of these words in it, when there is one.
func (b *logBuffer) wait(t testing.TB, words ...string) string {
	t.Helper()
	late := time.AfterFunc(20*time.Second, func() { b.Write([]byte("(waited too long)\n")) })
	defer late.Stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
	lines:
		for line := range strings.Lines(b.buf.String()) {
			for _, w := range words {
				if !strings.Contains(line, w) {
					continue lines
				}
			}
			return line
		}
		if strings.Contains(b.buf.String(), "(waited too long)") {
			t.Fatalf("no line with %q in the log:\n%s", words, b.buf.String())
		}
		b.more.Wait()
	}
}
