package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafka-sni-proxy/internal/kafkatest"
	"kafka-sni-proxy/internal/route"
)

func TestSilentUpstreamEndsAtTheDialTimeout(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never says a word
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	b := echoBroker(t)
	r := start(t, b, b.Addr(), func(p *settings, _ *route.Config) {
		p.DialTimeout = 50 * time.Millisecond
		p.Dial = func(ctx context.Context, _ string, _ int32) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
		}
	})
	mustEnd(t, r.dial(t, "bootstrap."+suffix))
	r.log.wait(t, "level=WARN", "phase=upstream-tls", "deadline exceeded", "hint=")
}

// waitStats waits until the proxy's numbers are as they should be.
func waitStats(t *testing.T, p *Server, what string, ok func(Stats) bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(p.Stats()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long until %s: %+v", what, p.Stats())
		}
	}
}

// TestIdleSessionsEndBetweenFrames has sessions that are idle in different ways:
// with nothing under way, within a request, and waiting for an answer.
func TestIdleSessionsEndBetweenFrames(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	b := kafkatest.StartBroker(t, "broker-0.upstream.test", kafkatest.Answer(func(f []byte) []byte {
		if f[7] == 9 {
			close(asked)
			<-release
		}
		return echo(f)
	}))
	r := start(t, b, b.Addr(), func(p *settings, _ *route.Config) { p.IdleTimeout = 2 * time.Second })
	quiet, half, owed := r.dial(t, "bootstrap."+suffix), r.dial(t, "bootstrap."+suffix), r.dial(t, "bootstrap."+suffix)
	mustWrite(t, quiet, request(12, 0, 1))
	mustRead(t, quiet)
	mustWrite(t, half, request(12, 0, 2)[:10])
	mustWrite(t, owed, request(12, 0, 9))
	<-asked

	mustEnd(t, quiet) // TLS's own goodbye, or this would fail
	quiet.Close()
	close(release) // one timeout has passed; after two of them it would be too late
	mustRead(t, owed)
	mustWrite(t, owed, request(12, 0, 3)) // nor was it drained
	mustRead(t, owed)
	mustEnd(t, half)
	r.log.wait(t, "level=DEBUG", "connection closed", "retired=idle")
	mustEnd(t, owed)
	owed.Close()
	waitStats(t, r.Server, "three have been retired", func(s Stats) bool { return s.Retired["idle"] == 3 && s.Active == 0 })
	for phase, n := range r.Stats().Failures {
		if n != 0 {
			t.Errorf("%d failures in phase %s", n, phase)
		}
	}
}

// An answer that never comes does not hold a drain up for longer than it would
// have held a session.
func TestIdleSessionsEndWhileDraining(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	b := kafkatest.StartBroker(t, "broker-0.upstream.test", kafkatest.Answer(func(f []byte) []byte {
		close(asked)
		<-release
		return echo(f)
	}))
	r := start(t, b, b.Addr(), func(p *settings, _ *route.Config) { p.IdleTimeout = 50 * time.Millisecond })
	c := r.dial(t, "bootstrap."+suffix)
	mustWrite(t, c, request(12, 0, 1))
	<-asked
	if err := r.Shutdown(testContext(t)); err != nil {
		t.Errorf("%v: want the session to be over when its time was", err)
	}
}

// TestOldSessionsEndAndNothingIsLost has a real client produce while its
// connections are ended all the time.
func TestOldSessionsEndAndNothingIsLost(t *testing.T) {
	cluster := kafkatest.Start(t, kafkatest.Options{Topics: map[string]int32{"t": 3}})
	r := start(t, cluster, cluster.Bootstrap(), func(p *settings, _ *route.Config) { p.MaxConnectionAge = 160 * time.Millisecond })
	d := r.dialer()
	ctx := testContext(t)
	client := newClient(t, d, kgo.DefaultProduceTopic("t"))
	produced := 0
	for ; r.Stats().Retired["age"] < 10; produced++ {
		if err := client.ProduceSync(ctx, kgo.StringRecord(fmt.Sprint(produced))).FirstErr(); err != nil {
			t.Fatalf("record %d: %v", produced, err)
		}
	}
	consumer := newClient(t, d, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	readOnce(ctx, t, consumer, produced)
	if err := d.Err(); err != nil {
		t.Error(err)
	}
	if n := r.Stats().Failures["response"] + r.Stats().Failures["request"]; n != 0 {
		t.Errorf("%d connections failed", n)
	}
}

func TestOldSessionsGetTheirAnswers(t *testing.T) {
	release := make(chan struct{})
	b := kafkatest.StartBroker(t, "broker-0.upstream.test", kafkatest.Answer(func(f []byte) []byte {
		<-release
		return echo(f)
	}))
	r := start(t, b, b.Addr(), func(p *settings, _ *route.Config) { p.MaxConnectionAge = 160 * time.Millisecond })
	c := r.dial(t, "bootstrap."+suffix)
	mustWrite(t, c, request(12, 0, 1))
	waitStats(t, r.Server, "it has been read", func(s Stats) bool { return s.Requests == 1 })
	waitStats(t, r.Server, "it is old", func(Stats) bool { return r.registry.byAge()[0].State() == "drained" })
	close(release)
	mustRead(t, c)
	mustEnd(t, c)
	waitStats(t, r.Server, "it has been counted", func(s Stats) bool { return s.Retired["age"] == 1 })
}

// mustBeReset connects, and is refused: by then, or by the time it reads.
func (r *rig) mustBeReset(t *testing.T) {
	t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(30 * time.Second))
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("%v: want a reset", err)
	}
}

func TestLimitOfConnections(t *testing.T) {
	b := echoBroker(t)
	r := start(t, b, b.Addr(), func(p *settings, _ *route.Config) { p.MaxConnections = 2 })
	one, two := r.dial(t, "bootstrap."+suffix), r.dialRaw(t)
	waitStats(t, r.Server, "two are connected", func(s Stats) bool { return s.Active == 2 })
	for range 5 {
		r.mustBeReset(t)
	}
	r.log.wait(t, "level=WARN", "connection refused", "limit=connections", "hint=", "client=127.0.0.1")
	waitStats(t, r.Server, "five refusals are counted", func(s Stats) bool { return s.Refused["connections"] == 5 }) // each after its reset
	mustWrite(t, one, request(12, 0, 1))
	mustRead(t, one)
	two.Close()
	waitStats(t, r.Server, "one has left", func(s Stats) bool { return s.Active == 1 })
	three := r.dial(t, "bootstrap."+suffix)
	mustWrite(t, three, request(12, 0, 1))
	mustRead(t, three)
}

func TestLimitOfHandshakesPerAddress(t *testing.T) {
	b := echoBroker(t)
	r := start(t, b, b.Addr(), func(p *settings, _ *route.Config) { p.MaxHandshakesPerAddress = 2 })
	established := r.dial(t, "bootstrap."+suffix) // does not count
	mustWrite(t, established, request(12, 0, 1))
	mustRead(t, established)
	one, two := r.dialRaw(t), r.dialRaw(t)
	mustWrite(t, two, []byte{22, 3, 1})
	waitStats(t, r.Server, "all are connected", func(s Stats) bool { return s.Active == 3 })
	r.mustBeReset(t)
	r.log.wait(t, "level=WARN", "connection refused", "limit=handshakes-per-address", "hint=")
	elsewhere, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("tcp", r.addr)
	if err != nil {
		t.Logf("no second address to try from: %v", err)
	} else {
		defer elsewhere.Close()
		waitStats(t, r.Server, "another address is connected", func(s Stats) bool { return s.Active == 4 })
	}
	one.Close()
	two.Close()
	waitStats(t, r.Server, "both have left", func(s Stats) bool { return s.Active <= 2 })
	for range 5 {
		c := r.dial(t, "bootstrap."+suffix)
		mustWrite(t, c, request(12, 0, 1)) // with TLS 1.3, dial returns before the proxy has seen the end of the handshake
		mustRead(t, c)
	}
	waitStats(t, r.Server, "nobody is in a handshake", func(s Stats) bool {
		r.registry.mu.Lock()
		defer r.registry.mu.Unlock()
		return len(r.registry.handshakes) <= 1 // the other address
	})
}

func TestSourceIsAnAddressOrA64BitNetwork(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7:1":              "192.0.2.7/32",
		"[::ffff:192.0.2.7]:1":     "192.0.2.7/32",
		"[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1":         "fe80::/64",
	} {
		tcp, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := sourceOf(tcp).String(); got != want {
			t.Errorf("%s is of %s, want %s", addr, got, want)
		}
	}
	if sourceOf(&net.UnixAddr{}).IsValid() {
		t.Error("what is no address counts as one")
	}
}
