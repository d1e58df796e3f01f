package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"kafka-sni-proxy/internal/kafkatest"
)

// turns is a clock for leave: a session's turn comes when the test says so.
type turns struct {
	begun chan int // how many sessions there are, when leave waits for the first turn
	come  chan time.Time
}

// leaveByTurns begins to leave. What is returned is closed when leave has returned.
func leaveByTurns(ctx context.Context, p *Server) (turns, <-chan struct{}) {
	c := turns{make(chan int, 1), make(chan time.Time)}
	left := make(chan struct{})
	go func() {
		defer close(left)
		p.leave(ctx, func(i, n int) <-chan time.Time {
			if i == 0 {
				c.begun <- n
			}
			return c.come
		})
	}()
	return c, left
}

// mustCome waits for an event.
func mustCome[T any](t *testing.T, what string, event <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-event:
	case <-time.After(30 * time.Second):
		t.Fatalf("waited too long until %s", what)
	}
	return got
}

func TestSessionsLeaveOneByOneTheOldestFirst(t *testing.T) {
	b := echoBroker(t)
	r := start(t, b, b.Addr(), nil)
	conns := make([]*tls.Conn, 4)
	for i := range conns {
		conns[i] = r.dial(t, "bootstrap."+suffix)
		mustWrite(t, conns[i], request(12, 0, i))
		mustRead(t, conns[i])
	}
	clock, left := leaveByTurns(t.Context(), r.Server)
	if n := mustCome(t, "it leaves", clock.begun); n != len(conns) {
		t.Errorf("%d sessions are to end one by one, want %d", n, len(conns))
	}
	if c, err := net.Dial("tcp", r.addr); err == nil {
		c.Close()
		t.Error("a new connection was accepted while leaving")
	}
	for i, c := range conns {
		for _, later := range conns[i:] { // all that have not had their turn go on
			mustWrite(t, later, request(12, 0, i))
			mustRead(t, later)
		}
		clock.come <- time.Time{}
		mustEnd(t, c)
		c.Close()
	}
	mustCome(t, "leave returns, with no session left", left)
	if err := r.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestResponsesInFlightAreDeliveredToSessionsThatLeave(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	b := kafkatest.StartBroker(t, "broker-0.upstream.test", kafkatest.Answer(func(f []byte) []byte {
		if f[7] == 9 {
			close(asked)
			<-release
		}
		return echo(f)
	}))
	r := start(t, b, b.Addr(), nil)
	owed, half := r.dial(t, "bootstrap."+suffix), r.dial(t, "bootstrap."+suffix)
	mustWrite(t, owed, request(12, 0, 9))
	mustCome(t, "the broker is asked", asked)
	mustWrite(t, half, request(12, 0, 1))
	mustRead(t, half)
	f := request(12, 0, 2, make([]byte, 100_000))
	forwarded := r.Stats().RequestBytes + 50_000
	mustWrite(t, half, f[:50_000])
	waitStats(t, r.Server, "half a request has come", func(s Stats) bool { return s.RequestBytes >= forwarded })

	clock, left := leaveByTurns(t.Context(), r.Server)
	mustCome(t, "it leaves", clock.begun)
	clock.come <- time.Time{}
	clock.come <- time.Time{}
	mustWrite(t, half, f[50_000:])
	close(release)
	for _, c := range []*tls.Conn{owed, half} {
		mustRead(t, c)
		mustEnd(t, c)
		c.Close()
	}
	mustCome(t, "leave returns", left)
}

// A session that does not end is not waited for longer than it was said.
func TestLeaveEndsInTime(t *testing.T) {
	asked := make(chan struct{})
	b := kafkatest.StartBroker(t, "broker-0.upstream.test", func(c net.Conn) {
		kafkatest.ReadFrame(c)
		close(asked)
		io.Copy(io.Discard, c) // and never answers
	})
	r := start(t, b, b.Addr(), nil)
	mustWrite(t, r.dial(t, "bootstrap."+suffix), request(12, 0, 1))
	mustCome(t, "the broker is asked", asked)
	left := make(chan struct{})
	go func() {
		defer close(left)
		r.Leave(context.Background(), time.Millisecond)
	}()
	mustCome(t, "Leave returns", left)
	if n := r.Stats().Active; n != 1 {
		t.Errorf("%d sessions are left, want 1", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v, want the context's error", err)
	}
}

func TestShutdownOrTheContextEndsLeaving(t *testing.T) {
	for _, shutdown := range []bool{true, false} {
		t.Run(fmt.Sprintf("shutdown %v", shutdown), func(t *testing.T) {
			b := echoBroker(t)
			r := start(t, b, b.Addr(), nil)
			conns := []*tls.Conn{r.dial(t, "bootstrap."+suffix), r.dial(t, "bootstrap."+suffix), r.dial(t, "bootstrap."+suffix)}
			for i, c := range conns {
				mustWrite(t, c, request(12, 0, i))
				mustRead(t, c)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			clock, left := leaveByTurns(ctx, r.Server)
			mustCome(t, "it leaves", clock.begun)
			clock.come <- time.Time{}
			mustEnd(t, conns[0]) // and does not close yet
			if !shutdown {
				cancel()
				mustCome(t, "leave returns", left)
				mustWrite(t, conns[2], request(12, 0, 1)) // those without their turn go on
				mustRead(t, conns[2])
			}
			done := make(chan error, 1)
			go func() { done <- r.Shutdown(t.Context()) }()
			for i, c := range conns {
				if i > 0 {
					mustEnd(t, c)
				}
				c.Close()
			}
			if err := mustCome(t, "Shutdown returns", done); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			mustCome(t, "leave returns", left)
		})
	}
}

func TestLeavingDoesNotWaitWithoutSessions(t *testing.T) {
	b := echoBroker(t)
	r := start(t, b, b.Addr(), nil)
	r.dial(t, "bootstrap."+suffix).Close() // it serves
	left := make(chan struct{})
	go func() {
		defer close(left)
		r.Leave(context.Background(), time.Hour)
	}()
	mustCome(t, "Leave returns", left)
	if err := mustCome(t, "Serve returns", r.ended); err != nil {
		t.Errorf("Serve: %v", err)
	}
	r.ended <- nil // for the rig
}
