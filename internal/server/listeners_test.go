package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/kafkatest"
	"kafka-sni-proxy/internal/route"
)

// many is a server with several clusters and listeners.
type many struct {
	*Server
	t       *testing.T
	ca      *kafkatest.Authority
	log     *logBuffer
	served  sync.WaitGroup
	ctx     context.Context
	members map[string]*Cluster
}

func serveMany(t *testing.T, limits Limits) *many {
	t.Helper()
	m := &many{t: t, ca: kafkatest.NewAuthority("downstream"), log: newLogBuffer(), members: map[string]*Cluster{}}
	m.Server = New(Config{
		Limits: limits,
		Log:    slog.New(slog.NewTextHandler(m.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Hint:   func(err error) string { return "hint for " + err.Error() },
	})
	ctx, cancel := context.WithCancel(context.Background())
	m.ctx = ctx
	t.Cleanup(func() { cancel(); m.served.Wait() })
	return m
}

// add adds a cluster.
func (m *many) add(name string, up upstream, bootstrap string, r route.Config, change ...func(*cluster.Config)) *Cluster {
	m.t.Helper()
	a, err := route.ParseAddress(bootstrap)
	if err != nil {
		m.t.Fatal(err)
	}
	r.Upstreams = []route.Address{a}
	table, err := route.New(r)
	if err != nil {
		m.t.Fatal(err)
	}
	config := cluster.Config{Name: name, Routes: table, TLS: up.ClientConfig(), Dial: up.Dial}
	for _, f := range change {
		f(&config)
	}
	m.members[name] = &Cluster{Cluster: cluster.New(config)}
	m.setClusters()
	return m.members[name]
}

func (m *many) setClusters() {
	var all []*Cluster
	for _, c := range m.members {
		all = append(all, c)
	}
	m.SetClusters(all...)
}

// listen serves one more socket.
func (m *many) listen(how *Listener) *Socket {
	m.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	s := m.NewSocket(ln, how)
	m.served.Go(func() {
		if err := m.Serve(m.ctx, s); err != nil && !errors.Is(err, context.Canceled) {
			m.t.Errorf("Serve: %v", err)
		}
	})
	return s
}

// byName is a listener for all clusters.
func (m *many) byName(port int, names ...string) *Listener {
	var members []Member
	for _, name := range names {
		members = append(members, Member{m.members[name], route.OnePort(port)})
	}
	return &Listener{TLS: m.ca.ServerConfig("kafka.example"), Route: ByName(false, members...)}
}

// byPort serves a cluster of so many brokers by port, and returns the address to bootstrap
// from. The ports are free ones that follow each other.
func (m *many) byPort(c *Cluster, brokers int, how Listener) string {
	m.t.Helper()
	for range 100 {
		var sockets []net.Listener
		first, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			m.t.Fatal(err)
		}
		sockets = append(sockets, first)
		port := first.Addr().(*net.TCPAddr).Port
		for i := 1; i < brokers; i++ {
			ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+i))
			if err != nil {
				break
			}
			sockets = append(sockets, ln)
		}
		if len(sockets) < brokers {
			for _, ln := range sockets {
				ln.Close()
			}
			continue
		}
		naming := &route.Ports{Host: "127.0.0.1", First: int32(port), Last: int32(port + brokers - 1)}
		for i, ln := range sockets {
			l := how
			l.Route = ByPort(Member{c, naming}, int32(i), false)
			s := m.NewSocket(ln, &l)
			m.served.Go(func() { m.Serve(m.ctx, s) })
		}
		l := how
		l.Route = ByPort(Member{c, naming}, 0, true)
		return m.listen(&l).Addr().String()
	}
	m.t.Fatal("no ports that follow each other")
	return ""
}

// produceAndConsume has a client write records and read them again.
func produceAndConsume(t *testing.T, n int, opts ...kgo.Opt) {
	t.Helper()
	ctx := testContext(t)
	client := func(more ...kgo.Opt) *kgo.Client {
		c, err := kgo.NewClient(append(more, opts...)...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	producer := client(kgo.DefaultProduceTopic("t"))
	for i := range n {
		producer.Produce(ctx, kgo.StringRecord(fmt.Sprint(i)), func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("produce: %v", err)
			}
		})
	}
	if err := producer.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	consumer := client(kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	readOnce(ctx, t, consumer, n)
	producer.Close()
	consumer.Close()
}

var oneTopic = kafkatest.Options{Topics: map[string]int32{"t": 6}}

// TestSeveralClustersBehindOnePort have the same node ids, and names of both kinds.
func TestSeveralClustersBehindOnePort(t *testing.T) {
	orders, audit := kafkatest.Start(t, oneTopic), kafkatest.Start(t, oneTopic)
	m := serveMany(t, Limits{})
	m.add("orders", orders, orders.Bootstrap(), route.Config{Suffix: "orders.kafka.example"})
	m.add("audit", audit, audit.Bootstrap(), route.Config{Names: &route.Names{Bootstrap: "audit.kafka.example", Broker: "b{id}-audit.kafka.example"}})
	how := m.byName(9092, "orders", "audit")
	how.TLS.Certificates = append(how.TLS.Certificates, m.ca.Server("*.orders.kafka.example"))
	s := m.listen(how)
	dialer := func(suffix string) *kafkatest.Dialer {
		return &kafkatest.Dialer{Suffix: suffix, Proxy: s.Addr().String(), TLS: m.ca.ClientConfig(), Scanner: kafkatest.NewScanner(kafkatest.Domain)}
	}
	for bootstrap, n := range map[string]int{"bootstrap.orders.kafka.example:9092": 100, "audit.kafka.example:9092": 50} {
		d := dialer("kafka.example")
		produceAndConsume(t, n, kgo.SeedBrokers(bootstrap), kgo.Dialer(d.DialContext))
		if err := d.Err(); err != nil {
			t.Error(err)
		}
		for _, asked := range d.Asked() {
			if strings.Contains(asked, "audit") != strings.Contains(bootstrap, "audit") {
				t.Errorf("a client of %s was told %s", bootstrap, asked)
			}
		}
	}
	st := m.Stats()
	for _, name := range []string{"orders", "audit"} {
		if c := st.Clusters[name]; c.Brokers != 3 || c.Requests == 0 || c.ResponseBytes == 0 {
			t.Errorf("%s: %+v", name, c)
		}
	}
	if a, b := st.Clusters["orders"].RequestBytes, st.Clusters["audit"].RequestBytes; a+b != st.RequestBytes {
		t.Errorf("%d and %d bytes of the clusters, and %d in all", a, b, st.RequestBytes)
	}
}

func TestNamesOfNoClusterAreRefusedWithTheNearest(t *testing.T) {
	b := echoBroker(t)
	m := serveMany(t, Limits{})
	m.add("orders", b, b.Addr(), route.Config{Suffix: "orders.kafka.example"})
	m.add("nested", b, b.Addr(), route.Config{Suffix: "kafka.example"})
	m.add("audit", b, b.Addr(), route.Config{Names: &route.Names{Bootstrap: "audit.kafka.example", Broker: "b{id}-audit.kafka.example"}})
	rule, err := route.ParseRule(`^broker-(\d+)\..*$::e${1}.elsewhere.example`)
	if err != nil {
		t.Fatal(err)
	}
	m.add("ruled", b, b.Addr(), route.Config{Suffix: "ruled.example", Rule: rule, Covers: func(string) bool { return true }})
	find := m.byName(9092, "orders", "nested", "audit", "ruled").Route
	for name, want := range map[string]string{
		"bootstrap.orders.kafka.example": "orders",
		"b3.orders.kafka.example":        "orders",
		"B3.Orders.kafka.example.":       "orders",
		"bootstrap.kafka.example":        "nested",
		"b3.kafka.example":               "nested",
		"audit.kafka.example":            "audit",
		"b3-audit.kafka.example":         "audit",
		"bootstrap.ruled.example":        "ruled",
		"b3.ruled.example":               "ruled",
		"e7.elsewhere.example":           "ruled",
	} {
		d, r, err := find(name)
		if err != nil || d.Name() != want {
			t.Errorf("%s: %v, %+v, want %s", name, err, r, want)
		}
	}
	for name, nearest := range map[string]string{
		"bootstrap.order.kafka.example": "bootstrap.orders.kafka.example",
		"audit.kafka.exmaple":           "audit.kafka.example",
		"x.orders.kafka.example":        "",
		"b03.kafka.example":             "",
		"elsewhere.test":                "",
		strings.Repeat("a", 300):        "",
	} {
		_, _, err := find(name)
		var unknown *route.UnknownNameError
		if !errors.As(err, &unknown) || unknown.Nearest != nearest || !strings.Contains(unknown.Served, "audit.kafka.example") {
			t.Errorf("%.40s: %v, want a question for %q", name, err, nearest)
		}
	}
	if _, _, err := find(""); !errors.As(err, new(*NoServerNameError)) {
		t.Errorf("without a name: %v", err)
	}
}

func TestNamesWithManyNumbersAreRefused(t *testing.T) {
	b := echoBroker(t)
	m := serveMany(t, Limits{})
	m.add("orders", b, b.Addr(), route.Config{Names: &route.Names{Bootstrap: "o.example", Broker: strings.Repeat("1-", 20) + "b{id}.example"}})
	m.add("audit", b, b.Addr(), route.Config{Suffix: "audit.example"})
	find := m.byName(9092, "orders", "audit").Route
	if _, _, err := find(strings.Repeat("1-", 20) + "b7.example"); err == nil {
		t.Error("more than 16 numbers are tried")
	}
	if _, _, err := find("b7.audit.example"); err != nil {
		t.Error(err)
	}
}

// TestClientsAreServedByPort with TLS, all under one server name, and in plaintext; and the
// brokers are behind TLS, or speak plaintext, too.
func TestClientsAreServedByPort(t *testing.T) {
	for name, plaintext := range map[string]bool{"TLS with one fixed name": false, "plaintext": true} {
		t.Run(name, func(t *testing.T) {
			c := kafkatest.Start(t, oneTopic)
			m := serveMany(t, Limits{})
			orders := m.add("orders", c, c.Bootstrap(), route.Config{Suffix: "orders.kafka.example"})
			scanner := kafkatest.NewScanner(kafkatest.Domain)
			how, config := Listener{Name: "ports"}, m.ca.ClientConfig()
			if !plaintext {
				how.TLS = m.ca.ServerConfig("fixed.example")
				config.ServerName = "a.fixed.example"
			}
			bootstrap := m.byPort(orders, 3, how)
			dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				if !plaintext {
					secured := tls.Client(conn, config)
					if err := secured.HandshakeContext(ctx); err != nil {
						return nil, err
					}
					conn = secured
				}
				return scanner.Conn(conn, addr), nil
			}
			produceAndConsume(t, 200, kgo.SeedBrokers(bootstrap), kgo.Dialer(dial))
			if err := scanner.Err(); err != nil {
				t.Error(err)
			}
			if st := m.Stats(); st.Clusters["orders"].Requests == 0 || st.Failures["request"]+st.Failures["response"]+st.Failures["rewrite"] > 0 {
				t.Errorf("%+v", st)
			}
			m.log.wait(t, "connection closed", "listener=ports", "node=")
		})
	}
}

// TestBrokersWithoutAPortAreNotTold of: the response that names one is refused.
func TestBrokersWithoutAPortAreNotTold(t *testing.T) {
	c := kafkatest.Start(t, oneTopic)
	m := serveMany(t, Limits{})
	orders := m.add("orders", c, c.Bootstrap(), route.Config{Suffix: "orders.kafka.example"})
	conn := dialPlain(t, m.byPort(orders, 2, Listener{}))
	mustWrite(t, conn, request(3, 1, 1, be32(0)))
	mustEnd(t, conn)
	m.log.wait(t, "connection failed", "phase=rewrite", "broker 2 has no port", "hint=")
	if st := m.Stats().Clusters["orders"]; st.BrokersWithoutPort != 1 || st.Failures["rewrite"] != 1 {
		t.Errorf("%+v", st)
	}
}

func dialPlain(t testing.TB, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn
}

// TestEachListenerTellsItsOwnAddresses has two listeners for one cluster: what one has
// learned does not make the other one tell its names.
func TestEachListenerTellsItsOwnAddresses(t *testing.T) {
	c := kafkatest.Start(t, oneTopic)
	m := serveMany(t, Limits{})
	orders := m.add("orders", c, c.Bootstrap(), route.Config{Suffix: "orders.kafka.example"})
	inside, outside := m.listen(m.byName(9092, "orders")), m.listen(m.byName(443, "orders"))
	ports := m.byPort(orders, 3, Listener{})
	for range 2 {
		for socket, port := range map[*Socket]string{inside: ":9092", outside: ":443"} {
			d := &kafkatest.Dialer{Suffix: "orders.kafka.example", Proxy: socket.Addr().String(), TLS: m.ca.ClientConfig(), Scanner: kafkatest.NewScanner(kafkatest.Domain)}
			d.TLS.InsecureSkipVerify = true
			client, err := kgo.NewClient(kgo.SeedBrokers("bootstrap.orders.kafka.example:1"), kgo.Dialer(d.DialContext))
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range brokersOf(t, client) {
				if !strings.HasSuffix(b.Host, ".orders.kafka.example") || fmt.Sprintf(":%d", b.Port) != port {
					t.Errorf("a client of port %s was told %s:%d", port, b.Host, b.Port)
				}
			}
			client.Close()
		}
		client, err := kgo.NewClient(kgo.SeedBrokers(ports))
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range brokersOf(t, client) {
			if b.Host != "127.0.0.1" {
				t.Errorf("a client by ports was told %s:%d", b.Host, b.Port)
			}
		}
		client.Close()
	}
}

// brokersOf returns the brokers that a client is told.
func brokersOf(t *testing.T, c *kgo.Client) []kmsg.MetadataResponseBroker {
	t.Helper()
	answer, err := kmsg.NewPtrMetadataRequest().RequestWith(testContext(t), c)
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Brokers) != 3 {
		t.Errorf("%d brokers", len(answer.Brokers))
	}
	return answer.Brokers
}

func TestWhatIsNoPlaintextKafkaIsNamed(t *testing.T) {
	b := echoBroker(t)
	m := serveMany(t, Limits{})
	addr := m.byPort(m.add("orders", b, b.Addr(), route.Config{Suffix: "orders.kafka.example"}), 1, Listener{})
	for sent, want := range map[string]string{
		"\x16\x03\x01\x00\x05hello":              "it sent a TLS handshake",
		"GET / HTTP/1.1\r\n\r\n":                 "it sent an HTTP request",
		"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n":   "it sent a PROXY protocol header",
		"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x00": "it sent a PROXY protocol header",
		"\xff\xff\xff\xff":                       "it sent 0xff first",
	} {
		conn := dialPlain(t, addr)
		mustWrite(t, conn, []byte(sent))
		mustEnd(t, conn)
		m.log.wait(t, "phase=first-byte", want, "hint=")
	}
	if st := m.Stats(); st.Clusters["orders"].Active+int(st.Clusters["orders"].Requests) > 0 {
		t.Errorf("they came to the cluster: %+v", st)
	}
	conn := dialPlain(t, addr)
	mustWrite(t, conn, request(12, 0, 1))
	mustRead(t, conn)
}

// TestPlaintextBrokersAreReached by clients of both kinds, in small requests and large ones.
func TestPlaintextBrokersAreReached(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for {
					frame, err := kafkatest.ReadFrame(conn)
					if err != nil {
						return
					}
					conn.Write(echo(frame))
				}
			}()
		}
	}()
	m := serveMany(t, Limits{})
	up := echoBroker(t) // for its configuration
	orders := m.add("orders", up, ln.Addr().String(), route.Config{Suffix: "kafka.example"}, func(c *cluster.Config) { c.TLS, c.Dial = nil, nil })
	if err := orders.Check(testContext(t)); err != nil {
		t.Fatal(err)
	}
	plain := dialPlain(t, m.byPort(orders, 1, Listener{}))
	r := &rig{Server: m.Server, addr: m.listen(m.byName(9092, "orders")).Addr().String(), ca: m.ca}
	secured := r.dial(t, "bootstrap.kafka.example")
	for _, conn := range []net.Conn{plain, secured} {
		for i, size := range []int{0, 1, 1000, 100_000, 3_000_000} {
			go conn.Write(request(12, 0, i, make([]byte, size)))
			if got := len(mustRead(t, conn)); got < size {
				t.Errorf("%d bytes are answered with %d", size, got)
			}
		}
		conn.(interface{ CloseWrite() error }).CloseWrite()
		mustEnd(t, conn)
	}
}

// TestPlaintextProxyThatIsItsOwnUpstreamIsRefused, where there is no certificate to tell.
func TestPlaintextProxyThatIsItsOwnUpstreamIsRefused(t *testing.T) {
	m := serveMany(t, Limits{})
	up := echoBroker(t)
	var own string
	orders := m.add("orders", up, "elsewhere.test:1", route.Config{Suffix: "kafka.example"}, func(c *cluster.Config) {
		c.TLS = nil
		c.Dial = func(ctx context.Context, _ string, _ int32) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", own)
		}
		c.IsOwnSocket = func(to net.Conn) bool { return to.RemoteAddr().String() == own }
	})
	socket := m.listen(&Listener{Route: ByPort(Member{orders, route.OnePort(1)}, 0, true)})
	own = socket.Addr().String()
	var loop *cluster.LoopError
	if err := orders.Check(testContext(t)); !errors.As(err, &loop) || !strings.Contains(err.Error(), "it listens there") {
		t.Error(err)
	}
	conn := dialPlain(t, socket.Addr().String())
	mustWrite(t, conn, request(12, 0, 1))
	mustEnd(t, conn)
	m.log.wait(t, "phase=dial", "is this proxy itself")
}

// proxied is what a balancer sends before what a client sends.
func proxied(version int, client string) string {
	if version == 1 {
		addr, port, _ := net.SplitHostPort(client)
		return fmt.Sprintf("PROXY TCP4 %s 10.9.9.9 %s 9092\r\n", addr, port)
	}
	a := netip.MustParseAddrPort(client)
	ip := a.Addr().As4()
	tlv := "\x04\x00\x03abc" // PP2_TYPE_NOOP
	return "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00" + string(rune(12+len(tlv))) + string(ip[:]) + "\x0a\x09\x09\x09" + string([]byte{byte(a.Port() >> 8), byte(a.Port()), 0x23, 0x84}) + tlv
}

func TestProxyProtocolTellsTheClientsAddress(t *testing.T) {
	b := echoBroker(t)
	m := serveMany(t, Limits{MaxHandshakesPerAddress: 1})
	orders := m.add("orders", b, b.Addr(), route.Config{Suffix: "kafka.example"})
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	named := m.byName(9092, "orders")
	named.ProxyFrom = loopback
	secured := m.listen(named).Addr().String()
	plain := m.byPort(orders, 1, Listener{ProxyFrom: loopback})
	for i, version := range []int{1, 2} {
		client := fmt.Sprintf("192.0.2.%d:5555", 7+i)
		conn := dialPlain(t, plain)
		for _, piece := range split(proxied(version, client), 5) { // as a network may cut it
			mustWrite(t, conn, []byte(piece))
		}
		mustWrite(t, conn, request(12, 0, 1))
		mustRead(t, conn)
		conn.Close()
		m.log.wait(t, "connection closed", "client="+client)

		raw := dialPlain(t, secured)
		mustWrite(t, raw, []byte(proxied(version, client)))
		config := m.ca.ClientConfig()
		config.ServerName = "bootstrap.kafka.example"
		secure := tls.Client(raw, config)
		mustWrite(t, secure, request(12, 0, 1))
		mustRead(t, secure)
		secure.Close()
	}
	// A balancer's own check has no client, and is no failure.
	check := dialPlain(t, plain)
	mustWrite(t, check, []byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"))
	check.Close()
	dialPlain(t, plain).Close()

	for sent, want := range map[string]string{
		string(request(12, 0, 1)):                "there is no PROXY protocol header before what the client sends: it sent a plaintext Kafka request",
		"\x16\x03\x01\x00\x05hello":              "it sent a TLS handshake",
		"PROXY TCP4 nowhere\r\n":                 "the PROXY protocol header is not well formed",
		"PROXY " + strings.Repeat("x", 200):      "its line does not end",
		"\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff": "it is 65551 bytes long",
		"\r\n\r\n\x00\r\nQUIX":                   "0x0d first",
	} {
		conn := dialPlain(t, plain)
		mustWrite(t, conn, []byte(sent))
		mustEnd(t, conn)
		m.log.wait(t, "phase=first-byte", want)
	}

	// One whose network is not listed must not pretend an address.
	elsewhere := m.byName(9092, "orders")
	elsewhere.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	conn := dialPlain(t, m.listen(elsewhere).Addr().String())
	mustWrite(t, conn, []byte(proxied(1, "192.0.2.7:1")))
	mustEnd(t, conn)
	m.log.wait(t, "the client does not speak TLS: it sent a PROXY protocol header")

	// The limit on handshakes is the clients', not the balancer's.
	waitStats(t, m.Server, "all have gone", func(s Stats) bool { return s.Active == 0 })
	held := dialPlain(t, secured)
	mustWrite(t, held, []byte(proxied(2, "192.0.2.50:1")))
	other := dialPlain(t, secured)
	mustWrite(t, other, []byte(proxied(2, "192.0.2.51:1")))
	waitHandshakes(t, m.registry, 2)
	refused := dialPlain(t, secured)
	mustWrite(t, refused, []byte(proxied(2, "192.0.2.50:2")))
	mustEnd(t, refused)
	m.log.wait(t, "connection refused", "client=192.0.2.50:2", "handshakes-per-address")
	held.Close()
	other.Close()
	waitHandshakes(t, m.registry, 0)
}

func waitHandshakes(t *testing.T, r *registry, n int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		got := len(r.handshakes)
		r.mu.Unlock()
		if got == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d addresses in their handshake, want %d", got, n)
		}
	}
}

func split(s string, n int) (pieces []string) {
	for len(s) > n {
		pieces, s = append(pieces, s[:n]), s[n:]
	}
	return append(pieces, s)
}

func TestClustersHaveLimitsOfTheirOwn(t *testing.T) {
	b := echoBroker(t)
	m := serveMany(t, Limits{})
	small := m.add("small", b, b.Addr(), route.Config{Suffix: "small.example"})
	small.MaxConnections = 2
	m.add("large", b, b.Addr(), route.Config{Suffix: "large.example"})
	how := m.byName(9092, "small", "large")
	how.TLS = m.ca.ServerConfig("small.example")
	how.TLS.Certificates = append(how.TLS.Certificates, m.ca.Server("*.large.example"))
	r := &rig{Server: m.Server, addr: m.listen(how).Addr().String(), ca: m.ca}
	works := func(name string) net.Conn {
		c := r.dial(t, name)
		mustWrite(t, c, request(12, 0, 1))
		mustRead(t, c)
		return c
	}
	first := works("bootstrap.small.example")
	works("b1.small.example")
	if c, err := r.tryDial("bootstrap.small.example"); err == nil {
		c.Close()
		t.Error("a third client is let in")
	}
	m.log.wait(t, "connection refused", "limit=cluster-connections", "name=bootstrap.small.example", "hint=")
	if f := m.Failures(); len(f) != 1 || f[0].Phase != "limit" || f[0].ServerName != "bootstrap.small.example" {
		t.Errorf("%+v", f)
	}
	for range 5 {
		works("bootstrap.large.example")
	}
	first.Close()
	waitStats(t, m.Server, "one has gone", func(s Stats) bool { return s.Clusters["small"].Active == 1 })
	works("bootstrap.small.example")
	st := m.Stats()
	if st.Refused["cluster-connections"] != 1 || st.Clusters["small"].Refused != 1 || st.Failures["route"] != 0 {
		t.Errorf("%+v", st)
	}
}

// TestWhatIsGoneEndsAndNothingElse has a listener and a cluster go while clients of others
// work: none of these loses a connection, and what is gone ends between two requests.
func TestWhatIsGoneEndsAndNothingElse(t *testing.T) {
	b := echoBroker(t)
	var answered atomic.Int64
	release := make(chan struct{})
	slow := kafkatest.StartBroker(t, "broker-0.upstream.test", func(c net.Conn) {
		for {
			frame, err := kafkatest.ReadFrame(c)
			if err != nil {
				return
			}
			if frame[7] == 99 {
				<-release
			}
			c.Write(echo(frame))
			answered.Add(1)
		}
	})
	m := serveMany(t, Limits{})
	m.add("stays", b, b.Addr(), route.Config{Suffix: "stays.kafka.example"})
	goes := m.add("goes", slow, slow.Addr(), route.Config{Suffix: "goes.kafka.example"})
	how := m.byName(9092, "stays", "goes")
	socket := m.listen(how)
	extra := m.listen(how)
	dial := func(s *Socket, name string) net.Conn {
		config := m.ca.ClientConfig()
		config.ServerName, config.InsecureSkipVerify = name, true
		c := tls.Client(dialPlain(t, s.Addr().String()), config)
		mustWrite(t, c, request(12, 0, 1))
		mustRead(t, c)
		return c
	}
	stays := dial(socket, "bootstrap.stays.kafka.example")
	idle, busy := dial(socket, "bootstrap.goes.kafka.example"), dial(socket, "bootstrap.goes.kafka.example")
	byExtra := dial(extra, "bootstrap.stays.kafka.example")
	mustWrite(t, busy, request(12, 0, 99))
	waitStats(t, m.Server, "the request is under way", func(s Stats) bool { return s.Clusters["goes"].Requests == 3 })

	accepted := m.Stats().Accepted
	delete(m.members, "goes")
	m.setClusters()
	next := *how
	next.Route = m.byName(9092, "stays").Route
	socket.Set(&next)
	var ending sync.WaitGroup
	ctx := testContext(t)
	ending.Go(func() { m.EndClusters(ctx, 0, goes) })
	ending.Go(func() { m.Retire(ctx, 0, extra) })
	mustEnd(t, idle)
	mustEnd(t, byExtra)
	if _, err := net.Dial("tcp", extra.Addr().String()); err == nil {
		t.Error("the socket that is gone is still listened on")
	}
	close(release)
	mustRead(t, busy) // which was under way
	mustEnd(t, busy)
	ending.Wait()

	mustWrite(t, stays, request(12, 0, 2))
	mustRead(t, stays)
	if st := m.Stats(); st.Accepted != accepted || st.Active != 1 || st.Clusters["stays"].Active != 1 || len(st.Clusters) != 1 {
		t.Errorf("%+v", st)
	}
	if c, err := (&rig{addr: socket.Addr().String(), ca: m.ca}).tryDial("bootstrap.goes.kafka.example"); err == nil {
		c.Close()
		t.Error("a cluster that is gone is served")
	}
}

// TestStuckSessionsOfWhatIsGoneAreCut when their time is over.
func TestStuckSessionsOfWhatIsGoneAreCut(t *testing.T) {
	silent := kafkatest.StartBroker(t, "broker-0.upstream.test", func(c net.Conn) { io.Copy(io.Discard, c) })
	m := serveMany(t, Limits{})
	c := m.add("goes", silent, silent.Addr(), route.Config{Suffix: "kafka.example"})
	r := &rig{addr: m.listen(m.byName(9092, "goes")).Addr().String(), ca: m.ca}
	conn := r.dial(t, "bootstrap.kafka.example")
	mustWrite(t, conn, request(12, 0, 1))
	waitStats(t, m.Server, "the request is under way", func(s Stats) bool { return s.Requests == 1 })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	m.EndClusters(ctx, time.Hour, c)
	if _, err := io.ReadAll(conn); err == nil {
		t.Log("ended")
	}
	waitStats(t, m.Server, "it is gone", func(s Stats) bool { return s.Active == 0 })
}
