package server

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"kafka-sni-proxy/internal/kafkatest"
)

// stuckListener has an Accept that no longer returns, whatever happens.
type stuckListener struct {
	*net.TCPListener
	release chan struct{}
}

func (l stuckListener) Accept() (net.Conn, error) {
	<-l.release
	return nil, net.ErrClosed
}

func TestCheckAcceptingTellsWhetherTheAcceptLoopIsThere(t *testing.T) {
	b := kafkatest.StartBroker(t, "broker-0.upstream.test", kafkatest.Answer(echo))
	r := start(t, b, b.Addr(), nil)
	r.dial(t, "bootstrap."+suffix) // it serves
	var all sync.WaitGroup
	for range 10 { // they do not get into each other's way, or into that of clients
		all.Go(func() {
			for range 20 {
				if err := r.CheckAccepting(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
		c := r.dial(t, "bootstrap."+suffix)
		mustWrite(t, c, request(12, 0, 1))
		mustRead(t, c)
	}
	all.Wait()
	if n := r.Stats().Accepted; n != 11 {
		t.Errorf("%d connections accepted, want 11: checks do not count", n)
	}

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stuck := stuckListener{ln.(*net.TCPListener), make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- r.Serve(t.Context(), r.NewSocket(stuck, r.how)) }()
	defer func() { close(stuck.release); <-ended }()
	for { // until it serves that, too
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err := r.CheckAccepting(ctx)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
	}
}

func TestCheckAcceptingFailsWithoutAListener(t *testing.T) {
	b := kafkatest.StartBroker(t, "broker-0.upstream.test", kafkatest.Answer(echo))
	r := start(t, b, b.Addr(), nil)
	r.dial(t, "bootstrap."+suffix) // it serves
	if err := r.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.CheckAccepting(t.Context()) == nil {
		t.Error("after Shutdown clients are accepted")
	}
}

// probedListener tells when it is probed.
type probedListener struct {
	*net.TCPListener
	probed chan struct{}
}

func (l probedListener) SetDeadline(t time.Time) error {
	if !t.IsZero() {
		l.probed <- struct{}{}
	}
	return l.TCPListener.SetDeadline(t)
}

// A process that has just begun, or has just taken over, is asked before its accept loops run. They
// are waited for.
func TestCheckAcceptingWaitsForTheAcceptLoopToBegin(t *testing.T) {
	s := New(Config{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener := probedListener{ln.(*net.TCPListener), make(chan struct{}, 1)}
	socket := s.NewSocket(listener, &Listener{Route: ByName(false)})
	answer, ended := make(chan error, 1), make(chan error, 1)
	go func() { answer <- s.CheckAccepting(t.Context()) }()
	select {
	case <-listener.probed:
	case err := <-answer:
		t.Fatalf("before the accept loop runs: %v", err)
	}
	go func() { ended <- s.Serve(t.Context(), socket) }()
	if err := <-answer; err != nil {
		t.Error(err)
	}
	if err := errors.Join(s.Shutdown(t.Context()), <-ended); err != nil {
		t.Error(err)
	}
}

// A socket that is never served holds nothing up.
func TestShutdownBeforeServe(t *testing.T) {
	s := New(Config{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket := s.NewSocket(ln, &Listener{Route: ByName(false)})
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Error("the socket is still open")
	}
	if err := s.Serve(t.Context(), socket); !errors.Is(err, errDraining) {
		t.Errorf("Serve: %v", err)
	}
	if s.CheckAccepting(t.Context()) == nil {
		t.Error("clients are accepted")
	}
}

// A listener that is gone from the configuration has sessions for a while. It is closed, and
// nobody expects it to accept.
func TestCheckAcceptingLeavesOutSocketsThatAreGone(t *testing.T) {
	b := echoBroker(t)
	r := start(t, b, b.Addr(), nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stays := r.NewSocket(ln, r.how)
	ended := make(chan error, 1)
	go func() { ended <- r.Serve(t.Context(), stays) }()
	client := r.dial(t, "bootstrap."+suffix) // of the socket that goes
	mustWrite(t, client, request(12, 0, 1))
	mustRead(t, client)
	r.registry.retire([]*Socket{r.socket}) // and its session is not ended yet
	for range 100 {
		if err := r.CheckAccepting(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if r.Active() != 1 {
		t.Error("the session is gone: nothing was tried")
	}
	if err := errors.Join(r.Shutdown(t.Context()), <-ended); err != nil {
		t.Error(err)
	}
}
