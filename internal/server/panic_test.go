package server

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"kafka-sni-proxy/internal/kafkatest"
	"kafka-sni-proxy/internal/route"
)

// fickle panics in reads or writes once it is told to.
type fickle struct {
	net.Conn
	read, write *atomic.Bool
}

func (c fickle) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.read.Load() {
		panic("read hook")
	}
	return n, err
}

func (c fickle) Write(p []byte) (int, error) {
	if c.write.Load() {
		panic("write hook")
	}
	return c.Conn.Write(p)
}

// TestPanicsEndOneSession has each part of a session's life panic while another
// session works undisturbed.
func TestPanicsEndOneSession(t *testing.T) {
	var dialPanics, read, write atomic.Bool
	other := otherBroker(t)
	boot := kafkatest.StartBroker(t, "broker-0.upstream.test", kafkatest.Answer(func(f []byte) []byte {
		if f[1] == 3 {
			return metadataV0(f, 1, other.Host, int(other.Port))
		}
		return echo(f)
	}))
	both := pair{boot, other}
	learned := func(int32, string, route.Address) { panic("learn hook") }
	hello := func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if strings.HasPrefix(h.ServerName, "b99.") {
			panic("hello hook")
		}
		return nil, nil
	}
	r := start(t, both, boot.Addr(), func(p *settings, _ *route.Config) {
		p.Downstream.GetCertificate = hello
		p.Dial = func(ctx context.Context, host string, port int32) (net.Conn, error) {
			if dialPanics.Load() {
				panic("dial hook")
			}
			c, err := both.Dial(ctx, host, port)
			if err != nil {
				return nil, err
			}
			return fickle{c, &read, &write}, nil
		}
	})
	boring := r.dial(t, "bootstrap."+suffix)
	works := func() {
		t.Helper()
		mustWrite(t, boring, request(12, 0, 1))
		mustRead(t, boring)
	}
	works()

	panics := int64(0)
	check := func(hook string) {
		t.Helper()
		line := r.log.wait(t, "level=ERROR", hook, "stack=", "goroutine", "hint=")
		if !strings.Contains(line, "panic_test.go") {
			t.Errorf("the stack does not lead to the panic: %s", line)
		}
		panics++
		if n := r.Stats().Panics; n != panics {
			t.Errorf("%s: %d panics counted, want %d", hook, n, panics)
		}
	}

	if _, err := r.tryDial("b99." + suffix); err == nil {
		t.Error("a handshake that panicked went well")
	}
	check("hello hook")
	works()

	dialPanics.Store(true)
	mustEnd(t, r.dial(t, "bootstrap."+suffix))
	check("dial hook")
	dialPanics.Store(false)
	works()

	// The pumps. The broker's reads and writes of the boring session panic too
	// while the hooks are set, so it is not used then.
	c := r.dial(t, "bootstrap."+suffix)
	mustWrite(t, c, request(12, 0, 1))
	mustRead(t, c)
	write.Store(true)
	mustWrite(t, c, request(12, 0, 2))
	mustEnd(t, c)
	check("write hook")
	write.Store(false)

	c = r.dial(t, "bootstrap."+suffix)
	mustWrite(t, c, request(12, 0, 1))
	mustRead(t, c)
	read.Store(true)
	mustWrite(t, c, request(12, 0, 2))
	mustEnd(t, c)
	check("read hook")
	read.Store(false)
	works()

	// What is called when a route is learned is called in a response.
	r.Routes.OnLearn(learned)
	c = r.dial(t, "bootstrap."+suffix)
	mustWrite(t, c, request(3, 0, 1, be32(0)))
	mustEnd(t, c)
	check("learn hook")
	works()
}

// TestPanicWhileAskingLeavesNobodyWaiting has the query to the cluster panic
// on which many clients wait.
func TestPanicWhileAskingLeavesNobodyWaiting(t *testing.T) {
	b := echoBroker(t)
	dials := atomic.Int32{}
	r := start(t, b, b.Addr(), func(p *settings, _ *route.Config) {
		p.Dial = func(ctx context.Context, host string, port int32) (net.Conn, error) {
			if dials.Add(1) == 1 { // the query's
				panic("ask hook")
			}
			return b.Dial(ctx, host, port)
		}
	})
	mustEnd(t, r.dial(t, "b7."+suffix)) // in whose session it happens
	for range 3 {
		c := r.dial(t, "b7."+suffix)
		mustWrite(t, c, request(12, 0, 1))
		mustRead(t, c)
	}
	r.log.wait(t, "level=ERROR", "ask hook", "stack=")
}
