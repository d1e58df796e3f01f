package proxy

import (
	"bytes"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kafka-sni-proxy/internal/kafkatest"
	"kafka-sni-proxy/internal/route"
)

// vanish has a connection's kernel drop all that comes for it, as if the machine
// were gone: it acknowledges nothing and says no goodbye.
func vanish(t testing.TB, c net.Conn) {
	t.Helper()
	raw, err := c.(*tls.Conn).NetConn().(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	var filterErr error
	err = raw.Control(func(fd uintptr) {
		filterErr = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop})
	})
	if err != nil || filterErr != nil {
		t.Fatal(err, filterErr)
	}
}

func TestClientThatVanishesIsNotSentToForEver(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	b := kafkatest.StartBroker(t, "broker-0.upstream.test", kafkatest.Answer(func(f []byte) []byte {
		close(asked)
		<-release
		return echo(f)
	}))
	r := start(t, b, b.Addr(), func(p *Proxy, _ *route.Config) { p.TCPUserTimeout = 400 * time.Millisecond })
	c := r.dial(t, "bootstrap."+suffix)
	mustWrite(t, c, request(12, 0, 1))
	<-asked
	vanish(t, c)
	close(release)
	r.log.wait(t, "level=WARN", "phase=response", "the client has acknowledged nothing", "hint=")
	waitStats(t, r.Proxy, "the session is over", func(s Stats) bool { return s.Active == 0 })
}

func TestBrokerThatVanishesIsNotSentToForEver(t *testing.T) {
	vanished := make(chan struct{})
	b := kafkatest.StartBroker(t, "broker-0.upstream.test", func(c net.Conn) {
		f, err := kafkatest.ReadFrame(c)
		if err != nil {
			return
		}
		c.Write(echo(f))
		vanish(t, c)
		close(vanished)
		<-t.Context().Done()
	})
	r := start(t, b, b.Addr(), func(p *Proxy, _ *route.Config) { p.TCPUserTimeout = 400 * time.Millisecond })
	c := r.dial(t, "bootstrap."+suffix)
	mustWrite(t, c, request(12, 0, 1))
	mustRead(t, c)
	<-vanished
	mustWrite(t, c, request(12, 0, 2))
	r.log.wait(t, "level=WARN", "phase=request", "the broker has acknowledged nothing", "hint=")
	mustEnd(t, c)
}

func TestPeerThatVanishesWhileNothingIsSentIsProbed(t *testing.T) {
	b := echoBroker(t)
	r := start(t, b, b.Addr(), func(p *Proxy, _ *route.Config) {
		p.KeepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 1}
	})
	c := r.dial(t, "bootstrap."+suffix)
	mustWrite(t, c, request(12, 0, 1))
	mustRead(t, c)
	vanish(t, c)
	r.log.wait(t, "phase=request", "timed out", "stopped answering")
}

// TestClientsThatLiveAreNotGone has a client that has stopped reading, and one
// that has nothing to read, outlive several that are gone. Linux's own
// TCP_USER_TIMEOUT would end the first.
func TestClientsThatLiveAreNotGone(t *testing.T) {
	const size = 64 << 20
	body := bytes.Repeat([]byte("x"), 1<<20)
	asked, vanished := make(chan struct{}, 3), make(chan struct{}, 3)
	b := kafkatest.StartBroker(t, "broker-0.upstream.test", func(c net.Conn) {
		f, err := kafkatest.ReadFrame(c)
		if err != nil {
			return
		}
		switch f[7] {
		case 3: // of one that is idle between its requests
			for err == nil {
				c.Write(echo(f))
				f, err = kafkatest.ReadFrame(c)
			}
			return
		case 2: // of one that is about to vanish
			asked <- struct{}{}
			<-vanished
			c.Write(echo(f))
			<-t.Context().Done() // and is not read from any more, either
			return
		}
		c.Write(append(be32(4+size), f[4:8]...))
		for range size / len(body) {
			if _, err := c.Write(body); err != nil {
				return
			}
		}
		kafkatest.ReadFrame(c)
	})
	r := start(t, b, b.Addr(), func(p *Proxy, _ *route.Config) { p.TCPUserTimeout = 400 * time.Millisecond })
	paused := r.dial(t, "bootstrap."+suffix)
	mustWrite(t, paused, request(12, 0, 1))
	waitStats(t, r.Proxy, "the answer is under way", func(s Stats) bool { return s.ResponseBytes > 0 })
	r.mu.Lock()
	var toPaused *wire
	for s := range r.sessions {
		toPaused = s.client.wire
	}
	r.mu.Unlock()
	waitStats(t, r.Proxy, "its window is closed", func(Stats) bool {
		u := toPaused.unacknowledged()
		return u.waiting && u.closed
	})
	idle := r.dial(t, "bootstrap."+suffix)
	mustWrite(t, idle, request(12, 0, 3))
	mustRead(t, idle)
	for range 3 { // each takes the timeout at the least
		before := r.Stats().Failures["response"]
		c := r.dial(t, "bootstrap."+suffix)
		mustWrite(t, c, request(12, 0, 2))
		<-asked
		vanish(t, c)
		vanished <- struct{}{}
		waitStats(t, r.Proxy, "the one that vanished is gone", func(s Stats) bool { return s.Failures["response"] > before })
	}
	mustWrite(t, idle, request(12, 0, 3))
	mustRead(t, idle)
	if got := mustRead(t, paused); len(got) != 4+size {
		t.Errorf("%d bytes arrived, want %d", len(got), 4+size)
	}
}
