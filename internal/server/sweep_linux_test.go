package server

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
// were gone: it acknowledges nothing and sends no FIN.
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
	r := start(t, b, b.Addr(), func(p *settings, _ *route.Config) { p.TCPUserTimeout = 400 * time.Millisecond })
	c := r.dial(t, "bootstrap."+suffix)
	mustWrite(t, c, request(12, 0, 1))
	<-asked
	vanish(t, c)
	close(release)
	r.log.wait(t, "level=WARN", "phase=response", "the client has acknowledged nothing", "hint=")
	waitStats(t, r.Server, "the session is over", func(s Stats) bool { return s.Active == 0 })
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
	r := start(t, b, b.Addr(), func(p *settings, _ *route.Config) { p.TCPUserTimeout = 400 * time.Millisecond })
	c := r.dial(t, "bootstrap."+suffix)
	mustWrite(t, c, request(12, 0, 1))
	mustRead(t, c)
	<-vanished
	mustWrite(t, c, request(12, 0, 2))
	r.log.wait(t, "level=WARN", "phase=request", "the broker has acknowledged nothing", "hint=")
	mustEnd(t, c)
}

// impatient is a listener whose connections probe their peers at once.
type impatient struct{ *net.TCPListener }

type impatientConn struct{ *net.TCPConn }

func (l impatient) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	return impatientConn{c}, err
}

func (c impatientConn) SetKeepAliveConfig(net.KeepAliveConfig) error {
	return c.TCPConn.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 1})
}

func TestPeerThatVanishesWhileNothingIsSentIsProbed(t *testing.T) {
	b := echoBroker(t)
	r := start(t, b, b.Addr(), func(p *settings, _ *route.Config) {
		p.Listen = func(ln net.Listener) net.Listener { return impatient{ln.(*net.TCPListener)} }
	})
	c := r.dial(t, "bootstrap."+suffix)
	mustWrite(t, c, request(12, 0, 1))
	mustRead(t, c)
	vanish(t, c)
	r.log.wait(t, "phase=request", "timed out")
}

// recorder is a listener that tells what it has accepted.
type recorder struct {
	*net.TCPListener
	conns chan *net.TCPConn
}

func (l *recorder) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	l.conns <- c
	return c, nil
}

// windowIsClosed reports whether data waits for a peer that does not read.
func windowIsClosed(t *testing.T, c *net.TCPConn) (closed bool) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		closed = err == nil && info.Notsent_bytes > 0 && info.Unacked == 0
	})
	return closed
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
	accepted := &recorder{conns: make(chan *net.TCPConn, 10)}
	r := start(t, b, b.Addr(), func(p *settings, _ *route.Config) {
		p.TCPUserTimeout = 400 * time.Millisecond
		p.Listen = func(ln net.Listener) net.Listener { accepted.TCPListener = ln.(*net.TCPListener); return accepted }
	})
	paused := r.dial(t, "bootstrap."+suffix)
	mustWrite(t, paused, request(12, 0, 1))
	waitStats(t, r.Server, "the answer is under way", func(s Stats) bool { return s.ResponseBytes > 0 })
	toPaused := <-accepted.conns
	waitStats(t, r.Server, "its window is closed", func(Stats) bool { return windowIsClosed(t, toPaused) })
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
		waitStats(t, r.Server, "the one that vanished is gone", func(s Stats) bool { return s.Failures["response"] > before })
	}
	mustWrite(t, idle, request(12, 0, 3))
	mustRead(t, idle)
	if got := mustRead(t, paused); len(got) != 4+size {
		t.Errorf("%d bytes arrived, want %d", len(got), 4+size)
	}
}
