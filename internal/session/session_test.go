package session

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/kafkatest"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/tlswire"
)

const suffix = "kafka.example"

var authority = sync.OnceValue(func() *kafkatest.Authority { return kafkatest.NewAuthority("session") })

// fakeCluster is a cluster with one broker, at the other end of a connection that the
// test holds.
type fakeCluster struct {
	meter     Meter
	route     route.Route // where every name leads
	broker    net.Conn    // what Connect uses
	suspect   atomic.Pointer[cluster.OtherClusterError]
	clusterID func(id []byte) error
	noted     chan bool // what NoteInBandQuery was told
}

var at = route.Address{Host: "broker.test", Port: 9092}

func (c *fakeCluster) Name() string                            { return "kafka" }
func (c *fakeCluster) Again(*route.Route) (route.Route, error) { return c.route, nil }

func (c *fakeCluster) Connect(ctx context.Context, _ *route.Route) (*tlswire.Conn, route.Address, error) {
	config := authority().ClientConfig()
	config.ServerName = "b0." + suffix
	conn := tlswire.Client(c.broker, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, at, &cluster.ConnectError{Stage: cluster.StageTLS, Err: err}
	}
	return conn, at, nil
}

func (c *fakeCluster) Watch(*route.Route, route.Address, func()) (stop func()) { return func() {} }

func (c *fakeCluster) Learner(route.Address, route.Naming) (kafka.Names, func([]byte) error) {
	return func(int32, []byte, int32) (string, int32, error) { return "b0." + suffix, 9092, nil }, c.clusterID
}

func (c *fakeCluster) Suspect(route.Address) error {
	if err := c.suspect.Load(); err != nil {
		return err
	}
	return nil
}

func (c *fakeCluster) NextInBandQuery() time.Time                     { return time.Time{} }
func (c *fakeCluster) NoteInBandQuery(answered bool, _ route.Address) { c.noted <- answered }

// ends are the two peers of a session, after their handshakes.
type ends struct {
	*Session
	client, broker *tls.Conn
	cluster        *fakeCluster
	result         chan *Result
}

// pair returns two ends of a connection.
func pair(t *testing.T) (net.Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	one, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	two, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { one.Close(); two.Close() })
	return one, two
}

// begin starts a session between two peers. wrap, if set, goes around the session's end
// of the client's connection.
func begin(t *testing.T, config Config, c *fakeCluster, wrap func(net.Conn) net.Conn) *ends {
	t.Helper()
	client, accepted := pair(t)
	toBroker, broker := pair(t)
	return beginWith(t, config, c, client, accepted, toBroker, broker, wrap)
}

func beginWith(t *testing.T, config Config, c *fakeCluster, client, accepted, toBroker, broker net.Conn, wrap func(net.Conn) net.Conn) *ends {
	t.Helper()
	c.noted = make(chan bool, 10)
	c.broker = toBroker
	config.Tickets, config.TLS = NewTickets(), TLSConfig(authority().ServerConfig(suffix))
	config.Route = func(string) (*Destination, route.Route, error) {
		return &Destination{Cluster: c, Naming: route.OnePort(9092), Meter: &c.meter}, c.route, nil
	}
	if wrap != nil {
		accepted = wrap(accepted)
	}
	clientTLS := authority().ClientConfig()
	clientTLS.ServerName = "b0." + suffix
	e := &ends{
		Session: New(&config, accepted),
		client:  tls.Client(client, clientTLS),
		broker:  tls.Server(broker, authority().ServerConfig(suffix)),
		cluster: c,
		result:  make(chan *Result, 1),
	}
	for _, conn := range []net.Conn{client, broker} {
		conn.SetDeadline(time.Now().Add(30 * time.Second))
	}
	connected := make(chan error, 3)
	go func() { connected <- e.client.Handshake() }()
	go func() { connected <- e.broker.Handshake() }()
	go func() {
		err := e.Handshake()
		if err == nil {
			err = e.Connect(t.Context())
		}
		connected <- err
		if err != nil {
			e.result <- e.Abort(err)
			return
		}
		e.result <- e.Pump()
	}()
	for range 3 {
		if err := <-connected; err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { e.Cut() })
	return e
}

func (e *ends) wait(t *testing.T) *Result {
	t.Helper()
	select {
	case r := <-e.result:
		return r
	case <-time.After(30 * time.Second):
		t.Fatalf("the session does not end: it is %s", e.State())
		panic("unreachable")
	}
}

// request is one of an API that carries no addresses.
func request(correlation byte) []byte { return []byte{0, 0, 0, 8, 0, 12, 0, 0, 0, 0, 0, correlation} }

func response(correlation byte) []byte { return []byte{0, 0, 0, 5, 0, 0, 0, correlation, 9} }

func read(t *testing.T, c net.Conn) []byte {
	t.Helper()
	frame, err := kafkatest.ReadFrame(c)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func write(t *testing.T, c net.Conn, p []byte) {
	t.Helper()
	if _, err := c.Write(p); err != nil {
		t.Fatal(err)
	}
}

func TestSessionIsForwardedAndEndsWithOneResult(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) *ends{
		"sockets": func(t *testing.T) *ends { return begin(t, Config{}, &fakeCluster{}, nil) },
		"pipes": func(t *testing.T) *ends {
			client, accepted := net.Pipe()
			toBroker, broker := net.Pipe()
			return beginWith(t, Config{}, &fakeCluster{}, client, accepted, toBroker, broker, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := start(t)
			go e.client.Write(request(1))
			if got := read(t, e.broker); got[7] != 1 {
				t.Errorf("the broker got %x", got)
			}
			go e.broker.Write(response(1))
			if got := read(t, e.client); got[3] != 1 {
				t.Errorf("the client got %x", got)
			}
			go io.Copy(io.Discard, e.broker)
			e.client.Close()
			r := e.wait(t)
			if r.Failed() != nil || !r.Reached || r.Upstream != at {
				t.Errorf("%+v", r)
			}
			if r.Traffic.Requests.Load() != 1 || r.Traffic.Responses.Load() != 1 || r.Traffic.Bytes() != 12+9 {
				t.Errorf("%d requests, %d responses, %d bytes", r.Traffic.Requests.Load(), r.Traffic.Responses.Load(), r.Traffic.Bytes())
			}
		})
	}
}

// TestDrainBeforeAnyAnswerResets: to a client that has had no answer yet, a clean end
// looks as if this were not Kafka at all.
func TestDrainBeforeAnyAnswerResets(t *testing.T) {
	e := begin(t, Config{}, &fakeCluster{}, nil)
	e.Drain()
	if _, err := e.client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("without an answer: %v, want a reset", err)
	}
	e.wait(t)

	e = begin(t, Config{}, &fakeCluster{}, nil)
	write(t, e.client, request(1))
	read(t, e.broker)
	write(t, e.broker, response(1))
	read(t, e.client)
	e.Drain()
	if _, err := e.client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after an answer: %v, want a clean end", err)
	}
	e.client.Close()
	e.wait(t)
}

// hooked calls a function before its read deadline is taken away.
type hooked struct {
	net.Conn
	onRearm func()
}

func (c *hooked) SetReadDeadline(at time.Time) error {
	if at.IsZero() && c.onRearm != nil {
		c.onRearm()
	}
	return c.Conn.SetReadDeadline(at)
}

// TestDrainIsNotLostWhileReadsAreRearmed has Drain come between the look at the state
// and the end of an earlier wake-up.
func TestDrainIsNotLostWhileReadsAreRearmed(t *testing.T) {
	var conn *hooked
	e := begin(t, Config{}, &fakeCluster{}, func(c net.Conn) net.Conn { conn = &hooked{Conn: c}; return conn })
	write(t, e.client, request(1))
	read(t, e.broker)
	write(t, e.broker, response(1))
	read(t, e.client)
	var once sync.Once
	conn.onRearm = func() { once.Do(e.Drain) }
	e.Session.client.Wake() // as for a session that looked idle
	if _, err := e.client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("%v, want the end", err)
	}
	e.client.Close()
	e.wait(t)
}

// TestWhatABrokerSaysToAClientThatHasLeft: a JDK's server sends a bad record after a
// resumed handshake when the client closes before the first answer.
func TestWhatABrokerSaysToAClientThatHasLeft(t *testing.T) {
	forged := []byte{23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}
	for name, tc := range map[string]struct {
		answered, left bool
		failed         bool
	}{
		"before an answer, after it has left": {left: true},
		"before an answer, while it is there": {failed: true},
		"after an answer, after it has left":  {answered: true, left: true, failed: true},
	} {
		t.Run(name, func(t *testing.T) {
			e := begin(t, Config{}, &fakeCluster{}, nil)
			write(t, e.client, request(1))
			read(t, e.broker)
			if tc.answered {
				write(t, e.broker, response(1))
				read(t, e.client)
				write(t, e.client, request(2)) // which is never answered
				read(t, e.broker)
			}
			if tc.left {
				e.client.CloseWrite()
				if _, err := e.broker.Read(make([]byte, 1)); err != io.EOF {
					t.Fatalf("the broker is told of the end by %v", err)
				}
			}
			write(t, e.broker.NetConn(), forged)
			r := e.wait(t)
			if failed := r.Failed(); (failed != nil) != tc.failed || failed != nil && failed.Phase != PhaseResponse {
				t.Errorf("%v", r.Err)
			}
			if r.Err == nil || !strings.Contains(r.Err.Error(), "bad record MAC") {
				t.Errorf("%v: what it said is lost", r.Err)
			}
		})
	}
}

// TestSuspectBrokerGetsNoRequestBeforeItIsAsked is of a broker at an address that has
// told another cluster's id.
func TestSuspectBrokerGetsNoRequestBeforeItIsAsked(t *testing.T) {
	for _, right := range []bool{true, false} {
		c := &fakeCluster{route: route.Route{Kind: route.Bootstrap, Name: "bootstrap." + suffix}}
		c.suspect.Store(&cluster.OtherClusterError{Address: at, Got: "b", Want: "a"})
		c.clusterID = func(id []byte) error {
			if string(id) == "a" {
				c.suspect.Store(nil)
				return nil
			}
			return c.suspect.Load()
		}
		e := begin(t, Config{}, c, nil)
		write(t, e.client, request(1))
		query := read(t, e.broker)
		if !strings.Contains(string(query), "kafka-sni-proxy") {
			t.Fatalf("the broker got %x first", query)
		}
		if right {
			write(t, e.broker, metadata("a"))
			if got := read(t, e.broker); got[7] != 1 {
				t.Errorf("the broker got %x", got)
			}
			write(t, e.broker, response(1))
			read(t, e.client)
			if !<-c.noted {
				t.Error("the query counts as not answered")
			}
			write(t, e.client, request(2)) // is no longer held
			if got := read(t, e.broker); got[7] != 2 {
				t.Errorf("the broker got %x", got)
			}
			e.Cut()
			e.wait(t)
			continue
		}
		write(t, e.broker, metadata("b"))
		if rest, err := io.ReadAll(e.broker); len(rest) > 0 {
			t.Errorf("the broker got %x, %v", rest, err)
		}
		r := e.wait(t)
		if failed := r.Failed(); failed == nil || failed.Phase != PhaseCluster {
			t.Errorf("%v: want a failure in phase cluster", r.Err)
		}
	}
}

// metadata answers the proxy's query with a cluster id and one broker.
func metadata(id string) []byte {
	b := []byte{0, 0, 0, 0, 0, 0, 0, 0} // correlation id, throttle time
	b = binary.BigEndian.AppendUint32(b, 1)
	b = append(b, 0, 0, 0, 0, 0, 1, 'h', 0, 0, 35, 132, 0xff, 0xff) // broker 0 at h:9092, no rack
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(id))), id...)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // controller, no topics
	return kafkatest.Frame(b)
}

func TestHTTPInsideTLSIsNamed(t *testing.T) {
	e := begin(t, Config{}, &fakeCluster{}, nil)
	write(t, e.client, []byte("GET / HTTP/1.1\r\nHost: b0\r\n\r\n"))
	r := e.wait(t)
	if !errors.As(r.Err, new(HTTPError)) || r.Failed() == nil || r.Failed().Phase != PhaseRequest {
		t.Errorf("%v", r.Err)
	}
}

func TestAgesDifferByATenthEitherWay(t *testing.T) {
	config := Config{MaxAge: 100 * time.Second, Tickets: NewTickets(), TLS: TLSConfig(authority().ServerConfig(suffix))}
	youngest, oldest := time.Hour, time.Duration(0)
	conn, _ := net.Pipe()
	for range 1000 {
		age := New(&config, conn).watch.maxAge
		youngest, oldest = min(youngest, age), max(oldest, age)
	}
	if youngest < 90*time.Second || youngest > 92*time.Second || oldest > 110*time.Second || oldest < 108*time.Second {
		t.Errorf("from %v to %v, want 90 s to 110 s", youngest, oldest)
	}
}

func TestStatesOnlyGoForward(t *testing.T) {
	for from := range state(states) {
		for e := range event(events) {
			if to := transitions[from][e]; to < from && !(from == finishing && to == drained) {
				t.Errorf("%s goes back to %s", from, to)
			}
			if to := transitions[from][cutOff]; to != cut {
				t.Errorf("a cut leaves %s in %s", from, to)
			}
		}
	}
	var l lifecycle
	for _, step := range []struct {
		event    event
		from, to state
	}{{connected, starting, open}, {drain, open, draining}, {drain, draining, draining}, {requestsDone, draining, drained}, {cutOff, drained, cut}, {connected, cut, cut}} {
		if from, to := l.on(step.event); from != step.from || to != step.to {
			t.Errorf("event %d: %s to %s, want %s to %s", step.event, from, to, step.from, step.to)
		}
	}
	first := errors.New("first")
	if !l.setEndReason(first) || l.setEndReason(errors.New("second")) || l.endReason() != first {
		t.Error("the first reason counts")
	}
}

// TestLookEndsSessionsThatAreIdleOrOld, the oldest reason first, and says which.
func TestLookEndsSessionsThatAreIdleOrOld(t *testing.T) {
	const every = time.Second
	for name, tc := range map[string]struct {
		config Config
		looks  int // until it ends
		want   Retired
	}{
		"idle": {Config{IdleTimeout: 3 * every}, 4, RetiredIdle}, // the first look finds that something has moved
		"old":  {Config{MaxAge: time.Microsecond}, 1, RetiredAge},
	} {
		t.Run(name, func(t *testing.T) {
			e := begin(t, tc.config, &fakeCluster{}, nil)
			write(t, e.client, request(1))
			read(t, e.broker)
			write(t, e.broker, response(1))
			read(t, e.client)
			for range tc.looks - 1 {
				e.Look(every, every)
			}
			if now := e.State(); now != "open" {
				t.Fatalf("it is %s before its time", now)
			}
			e.Look(every, every)
			if _, err := e.client.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("%v, want the end", err)
			}
			e.client.Close()
			r := e.wait(t)
			var retired Retired
			if !errors.As(r.Err, &retired) || retired != tc.want || r.Failed() != nil {
				t.Errorf("%v, want %v", r.Err, tc.want)
			}
		})
	}
}

// TestStuckSessionsAreCut: one with a request that is never answered has twice the time.
func TestStuckSessionsAreCut(t *testing.T) {
	const every = time.Second
	e := begin(t, Config{IdleTimeout: 2 * every}, &fakeCluster{}, nil)
	write(t, e.client, request(1))
	read(t, e.broker) // and does not answer
	for range 4 {
		e.Look(every, every)
	}
	if now := e.State(); now != "open" {
		t.Fatalf("it is %s before its time", now)
	}
	e.Look(every, every)
	if _, err := e.client.Read(make([]byte, 1)); err == nil {
		t.Error("the client is not told")
	}
	var retired Retired
	if r := e.wait(t); !errors.As(r.Err, &retired) || retired != RetiredIdle {
		t.Errorf("%v", r.Err)
	}
}

// unreachable is a cluster that cannot be connected to.
type unreachable struct{ *fakeCluster }

func (unreachable) Connect(context.Context, *route.Route) (*tlswire.Conn, route.Address, error) {
	return nil, route.Address{}, &cluster.ConnectError{Stage: cluster.StageDial, Err: errors.New("nobody there")}
}

// TestClientIsResetWhenNoBrokerCanBeReached, so that it tries again.
func TestClientIsResetWhenNoBrokerCanBeReached(t *testing.T) {
	client, accepted := pair(t)
	c := unreachable{&fakeCluster{}}
	config := &Config{Tickets: NewTickets(), TLS: TLSConfig(authority().ServerConfig(suffix)),
		Route: func(name string) (*Destination, route.Route, error) {
			return &Destination{Cluster: c}, route.Route{Name: name}, nil
		}}
	s := New(config, accepted)
	clientTLS := authority().ClientConfig()
	clientTLS.ServerName = "b0." + suffix
	conn := tls.Client(client, clientTLS)
	shaken := make(chan error, 1)
	go func() { shaken <- conn.Handshake() }()
	if err := errors.Join(s.Handshake(), <-shaken); err != nil {
		t.Fatal(err)
	}
	err := s.Connect(t.Context())
	r := s.Abort(err)
	if failed := r.Failed(); failed == nil || failed.Phase != PhaseDial || r.ServerName != "b0."+suffix || r.Reached {
		t.Errorf("%+v", r)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want a reset", err)
	}
}

// TestRefusedNamesAreKeptAndCut: they go into the log.
func TestRefusedNamesAreKeptAndCut(t *testing.T) {
	client, accepted := pair(t)
	refused := errors.New("not served here")
	s := New(&Config{Tickets: NewTickets(), TLS: TLSConfig(authority().ServerConfig(suffix)),
		Route: func(string) (*Destination, route.Route, error) { return nil, route.Route{}, refused }}, accepted)
	long := strings.Repeat("n", 400)
	done := make(chan error, 1)
	go func() {
		done <- tls.Client(client, &tls.Config{ServerName: long, InsecureSkipVerify: true}).Handshake()
	}()
	r := s.Abort(s.Handshake())
	if failed := r.Failed(); failed == nil || failed.Phase != PhaseRoute || !errors.Is(r.Err, refused) || len(r.ServerName) != maxServerName {
		t.Errorf("%v, and a name of %d bytes", r.Err, len(r.ServerName))
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("the client is told %v", err)
	}
}
