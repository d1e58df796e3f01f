package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/kafkatest"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/sasl"
)

// teller is a broker that answers the proxy's query: with its cluster's id, and where
// node 1 is. nil: it hangs up.
type teller struct {
	*kafkatest.Broker
	asked atomic.Int32
	id    atomic.Pointer[string]
	node1 atomic.Pointer[route.Address]
}

func startTeller(t *testing.T, host, id string) *teller {
	b := &teller{}
	b.id.Store(&id)
	b.Broker = kafkatest.StartBroker(t, host, kafkatest.Answer(func(f []byte) []byte {
		b.asked.Add(1)
		at := b.node1.Load()
		if at == nil {
			return nil
		}
		str := func(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }
		be32 := func(n int32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
		return kafkatest.Frame(f[4:8], be32(0), be32(1), be32(1), str(at.Host), be32(at.Port), []byte{0xff, 0xff}, str(*b.id.Load()), be32(1), be32(0))
	}))
	b.node1.Store(&route.Address{Host: host, Port: b.Port})
	return b
}

func (b *teller) address() route.Address { return route.Address{Host: b.Host, Port: b.Port} }

// clusterOf returns a cluster with these upstreams. others can be dialed, too.
func clusterOf(t *testing.T, isSelf func(*x509.Certificate) bool, upstreams []*teller, others ...*teller) *Cluster {
	t.Helper()
	var up []route.Address
	for _, b := range upstreams {
		up = append(up, b.address())
	}
	routes, err := route.New(route.Config{Suffix: "kafka.example", Upstreams: up})
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	for _, b := range append(upstreams, others...) {
		pool.AppendCertsFromPEM(b.Authority.PEM())
	}
	return New(Config{Routes: routes, TLS: &tls.Config{RootCAs: pool}, IsSelf: isSelf, Dial: func(ctx context.Context, host string, port int32) (net.Conn, error) {
		for _, b := range append(upstreams, others...) {
			if b.Host == host {
				return b.Dial(ctx, host, port)
			}
		}
		return nil, errors.New("nobody lives at " + host)
	}})
}

func TestQueryPassesOverUpstreamsOfOtherClusters(t *testing.T) {
	a, b := startTeller(t, "a.test", "A"), startTeller(t, "b.test", "B")
	c := clusterOf(t, nil, []*teller{b, a}) // b is asked first
	c.routes.SetClusterID("A")
	c.Query(t.Context(), true)
	if where := whereIs1(t, c); where != "a.test" {
		t.Errorf("node 1 is at %s", where)
	}
	if a.asked.Load() != 1 || b.asked.Load() != 1 || c.Others() != 1 {
		t.Errorf("a was asked %d times, b %d times; %d others", a.asked.Load(), b.asked.Load(), c.Others())
	}
	if err := c.Check(t.Context()); err != nil {
		t.Errorf("Check: %v, want a to be enough", err)
	}
}

func TestCheckAsksASuspectWhichClusterItIs(t *testing.T) {
	b := startTeller(t, "b.test", "B")
	c := clusterOf(t, nil, []*teller{b})
	c.routes.SetClusterID("A")
	c.identity.confirmed = true
	suspect := func() {
		c.identity.settled.Store(nil)
		c.identity.others = map[route.Address]otherID{b.address(): {id: "B"}} // whose time is over
	}
	suspect()
	var other *OtherClusterError
	if err := c.Check(t.Context()); !errors.As(err, &other) || b.asked.Load() != 1 {
		t.Errorf("Check: %v, asked %d times; want it to belong to another cluster still", err, b.asked.Load())
	}
	id := "A"
	b.id.Store(&id)
	suspect()
	if err := c.Check(t.Context()); err != nil || c.Suspect(b.address()) != nil {
		t.Errorf("Check: %v, suspect: %v; want it to be trusted again", err, c.Suspect(b.address()))
	}
}

func TestBrokerThatHasMovedIsAskedFor(t *testing.T) {
	a, moved := startTeller(t, "a.test", "A"), startTeller(t, "moved.test", "A")
	c := clusterOf(t, nil, []*teller{a}, moved)
	c.routes.Learn(1, []byte("gone.test"), 9092)
	at := moved.address()
	a.node1.Store(&at)
	if got := connect(t, c, "b1.kafka.example"); got != at {
		t.Errorf("connected to %s, want %s", got, at)
	}
	// One that has not moved is down.
	gone := route.Address{Host: "gone.test", Port: 9092}
	c.routes.Learn(2, []byte(gone.Host), gone.Port)
	r, _ := c.Resolve("b2.kafka.example")
	var failed *ConnectError
	if _, _, err := c.Connect(t.Context(), &r); !errors.As(err, &failed) || failed.Stage != StageDial || !strings.Contains(err.Error(), "nobody lives at gone.test") {
		t.Errorf("%v", err)
	}
}

func TestNextUpstreamIsTriedAndAllFailuresAreTold(t *testing.T) {
	a, gone := startTeller(t, "a.test", "A"), &teller{Broker: &kafkatest.Broker{Host: "gone.test", Port: 9092, Authority: kafkatest.NewAuthority("gone")}}
	c := clusterOf(t, nil, []*teller{a})
	dial := c.config.Dial
	upstreams := []route.Address{gone.address(), a.address()}
	for range 2 {
		if _, at, err := c.dial(t.Context(), upstreams); err != nil || at != a.address() {
			t.Fatalf("%v, %s", err, at)
		}
	}
	if _, failed := c.failures.at[gone.address()]; !failed {
		t.Error("the one that failed is tried first again")
	}
	c.config.Dial = func(ctx context.Context, host string, port int32) (net.Conn, error) {
		if host == "a.test" {
			return nil, errors.New("a is down, too")
		}
		return dial(ctx, host, port)
	}
	_, _, err := c.dial(t.Context(), upstreams)
	var failed *ConnectError
	if !errors.As(err, &failed) || failed.Stage != StageDial || !strings.Contains(err.Error(), "nobody lives at gone.test") || !strings.Contains(err.Error(), "a is down, too") {
		t.Errorf("%v: want both failures", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.failures = failures{}
	c.dial(ctx, upstreams)
	if len(c.failures.at) != 0 {
		t.Error("a caller that has left counts against the addresses")
	}
}

// TestBrokerWithTheProxysKeyIsRefused, also when a TLS session is resumed.
func TestBrokerWithTheProxysKeyIsRefused(t *testing.T) {
	a := startTeller(t, "a.test", "A")
	self := false
	c := clusterOf(t, func(*x509.Certificate) bool { return self }, []*teller{a}).With(&tls.Config{
		InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(8)})
	c.Query(t.Context(), true) // reads the session ticket
	if a.asked.Load() != 1 {
		t.Fatal("not asked")
	}
	self = true
	_, _, err := c.dial(t.Context(), []route.Address{a.address()})
	var loop *LoopError
	var failed *ConnectError
	if !errors.As(err, &loop) || loop.Address != a.address() || !errors.As(err, &failed) || failed.Stage != StageTLS {
		t.Errorf("%v", err)
	}
	self = false
	asked := false
	c = c.With(&tls.Config{InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error { asked = true; return errors.New("no") }})
	if _, _, err := c.dial(t.Context(), []route.Address{a.address()}); err == nil || !asked {
		t.Errorf("%v: the configuration's own VerifyConnection is not asked", err)
	}
}

// A broker that tells nothing before it is logged in to is asked with the proxy's credential.
func TestQueryLogsIn(t *testing.T) {
	want := "\x00proxy\x00Sesame"
	var known atomic.Bool
	b := &teller{}
	b.Broker = kafkatest.StartBroker(t, "a.test", kafkatest.Answer(func(f []byte) []byte {
		g, err := kafka.ReadGreeting(f)
		switch {
		case err == nil && g.Key == kafka.KeySaslHandshake:
			return g.AnswerHandshake(0, []string{"PLAIN"})
		case err == nil && g.Key == kafka.KeySaslAuthenticate && string(g.Token) == want:
			known.Store(true)
			return g.AnswerAuthenticate(0, "", nil, 0)
		case err == nil && g.Key == kafka.KeySaslAuthenticate:
			return g.AnswerAuthenticate(kafka.CodeAuthenticationFailed, "no", nil, 0)
		case !known.Load():
			return nil
		}
		return f // which is no answer, and one that comes only to who is known
	}))
	c := clusterOf(t, nil, []*teller{b})
	ask := func(password sasl.Secret) error {
		c.config.Login = func(ctx context.Context, _ route.Address) (sasl.Client, error) {
			return sasl.NewClient(ctx, sasl.Plain, sasl.Credential{User: "proxy", Password: password}, nil)
		}
		return c.fetchBrokers(t.Context(), b.address())
	}
	if err := ask("wrong"); !errors.As(err, new(*kafka.LoginError)) || !errors.Is(err, errNotAnswered) || strings.Contains(err.Error(), "wrong") {
		t.Errorf("%v", err)
	}
	if err := ask("Sesame"); !known.Load() || errors.As(err, new(*kafka.LoginError)) {
		t.Errorf("it was not logged in to: %v", err)
	}
}
