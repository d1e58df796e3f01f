package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
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
	r := start(t, b, b.Addr(), func(p *Proxy, _ *route.Config) {
		p.DialTimeout = 50 * time.Millisecond
		p.Dial = func(ctx context.Context, _ string, _ int32) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
		}
	})
	mustEnd(t, r.dial(t, "bootstrap."+suffix))
	r.log.wait(t, "level=WARN", "phase=upstream-tls", "did not answer the handshake in time", "--dial-timeout")
}

// waitStats waits until the proxy's numbers are as they should be.
func waitStats(t *testing.T, p *Proxy, what string, ok func(Stats) bool) {
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
	r := start(t, b, b.Addr(), func(p *Proxy, _ *route.Config) { p.IdleTimeout = 2 * time.Second })
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
	mustEnd(t, half)
	r.log.wait(t, "level=DEBUG", "connection closed", "retired=idle")
	mustEnd(t, owed)
	owed.Close()
	waitStats(t, r.Proxy, "three have been retired", func(s Stats) bool { return s.Retired["idle"] == 3 && s.Active == 0 })
	for phase, n := range r.Stats().Failures {
		if n != 0 {
			t.Errorf("%d failures in phase %s", n, phase)
		}
	}
}

// TestOldSessionsEndAndNothingIsLost has a real client produce while its
// connections are ended all the time.
func TestOldSessionsEndAndNothingIsLost(t *testing.T) {
	cluster := kafkatest.Start(t, kafkatest.Options{Topics: map[string]int32{"t": 3}})
	r := start(t, cluster, cluster.Bootstrap(), func(p *Proxy, _ *route.Config) { p.MaxConnectionAge = 160 * time.Millisecond })
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
	seen := map[string]int{}
	for len(seen) < produced {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++ })
	}
	for v, times := range seen {
		if times != 1 {
			t.Errorf("record %s is there %d times", v, times)
		}
	}
	if err := d.Err(); err != nil {
		t.Error(err)
	}
	if n := r.Stats().Failures["response"] + r.Stats().Failures["request"]; n != 0 {
		t.Errorf("%d connections failed", n)
	}
}

func TestSilenceCountsFromWhenThereIsSomethingToAnswer(t *testing.T) {
	const look = 10 * time.Second
	waiting := func(heard time.Duration) unacknowledged { return unacknowledged{waiting: true, heard: heard} }
	silent := waiting(time.Hour).silence(0, look) // sent just now, after an hour in which nothing was
	if waiting(time.Hour).gone(silent, look) {
		t.Error("a peer is gone that has not had the time to answer")
	}
	silent = waiting(time.Hour).silence(silent, look)
	if !waiting(time.Hour).gone(silent, look) {
		t.Error("a peer is not gone that was silent for the timeout")
	}
	if silent := waiting(look-1).silence(silent, look); waiting(0).gone(silent, look) {
		t.Error("a peer is gone that has answered")
	}
	if silent := (unacknowledged{heard: time.Hour}).silence(silent, look); silent != 0 {
		t.Error("a peer is silent that has nothing to answer")
	}
	probed := unacknowledged{waiting: true, closed: true, heard: time.Hour}
	if probed.gone(2*time.Minute, look) || !probed.gone(windowProbes, look) {
		t.Error("a peer that does not read is given as much time as the kernel's probes take")
	}
}

func TestLimitOfConnections(t *testing.T) {
	b := echoBroker(t)
	r := start(t, b, b.Addr(), func(p *Proxy, _ *route.Config) { p.MaxConnections = 2 })
	one, two := r.dial(t, "bootstrap."+suffix), r.dialRaw(t)
	waitStats(t, r.Proxy, "two are connected", func(s Stats) bool { return s.Active == 2 })
	for range 5 {
		if n, err := r.dialRaw(t).Read(make([]byte, 1)); n > 0 || err == nil || err == io.EOF {
			t.Fatalf("%d bytes, %v: want a reset", n, err)
		}
	}
	r.log.wait(t, "level=WARN", "connection refused", "limit=connections", "--max-connections", "client=127.0.0.1")
	if n := r.Stats().Refused["connections"]; n != 5 {
		t.Errorf("%d refusals counted, want 5", n)
	}
	mustWrite(t, one, request(12, 0, 1))
	mustRead(t, one)
	two.Close()
	waitStats(t, r.Proxy, "one has left", func(s Stats) bool { return s.Active == 1 })
	three := r.dial(t, "bootstrap."+suffix)
	mustWrite(t, three, request(12, 0, 1))
	mustRead(t, three)
}

func TestLimitOfHandshakesPerAddress(t *testing.T) {
	b := echoBroker(t)
	r := start(t, b, b.Addr(), func(p *Proxy, _ *route.Config) { p.MaxHandshakesPerAddress = 2 })
	established := r.dial(t, "bootstrap."+suffix) // does not count
	mustWrite(t, established, request(12, 0, 1))
	mustRead(t, established)
	one, two := r.dialRaw(t), r.dialRaw(t)
	mustWrite(t, two, []byte{22, 3, 1})
	waitStats(t, r.Proxy, "all are connected", func(s Stats) bool { return s.Active == 3 })
	if n, err := r.dialRaw(t).Read(make([]byte, 1)); n > 0 || err == nil || err == io.EOF {
		t.Fatalf("%d bytes, %v: want a reset", n, err)
	}
	r.log.wait(t, "level=WARN", "connection refused", "limit=handshakes-per-address", "load balancer")
	elsewhere, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("tcp", r.addr)
	if err != nil {
		t.Logf("no second address to try from: %v", err)
	} else {
		defer elsewhere.Close()
		waitStats(t, r.Proxy, "another address is connected", func(s Stats) bool { return s.Active == 4 })
	}
	one.Close()
	two.Close()
	waitStats(t, r.Proxy, "both have left", func(s Stats) bool { return s.Active <= 2 })
	for range 5 {
		r.dial(t, "bootstrap."+suffix)
	}
	waitStats(t, r.Proxy, "nobody is in a handshake", func(s Stats) bool {
		r.Proxy.mu.Lock()
		defer r.Proxy.mu.Unlock()
		return len(r.greeting) <= 1 // the other address
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
		if got := sourceOf(from{addr: tcp}).String(); got != want {
			t.Errorf("%s is of %s, want %s", addr, got, want)
		}
	}
	if sourceOf(from{addr: &net.UnixAddr{}}).IsValid() {
		t.Error("what is no address counts as one")
	}
}

type from struct {
	net.Conn
	addr net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.addr }
