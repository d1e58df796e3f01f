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
