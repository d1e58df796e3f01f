package main

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// relay passes connections on, byte by byte, to a place that may change, and holds back what
// comes from there for as long as it is told to.
type relay struct {
	listener net.Listener
	target   atomic.Pointer[string] // of connections from now on
	delay    atomic.Int64           // of each piece that comes from there; a time.Duration
	running  *sync.WaitGroup
}

// startRelay starts one that ends with the context. running has all its goroutines.
func startRelay(ctx context.Context, running *sync.WaitGroup, target string) (*relay, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{listener: listener, running: running}
	r.target.Store(&target)
	context.AfterFunc(ctx, func() { listener.Close() })
	r.running.Go(func() { r.serve(ctx) })
	return r, nil
}

func (r *relay) port() int { return r.listener.Addr().(*net.TCPAddr).Port }

func (r *relay) serve(ctx context.Context) {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.running.Go(func() { r.pass(ctx, client) })
	}
}

// pass passes one connection on until either end has closed it.
func (r *relay) pass(ctx context.Context, client net.Conn) {
	defer client.Close()
	server, err := new(net.Dialer).DialContext(ctx, "tcp", *r.target.Load())
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { client.Close(); server.Close() })()
	var requests sync.WaitGroup
	requests.Go(func() {
		io.Copy(server, client)
		server.Close()
	})
	r.holdBack(ctx, client, server)
	client.Close()
	requests.Wait()
}

// holdBack carries what comes from a server, each piece after the delay.
func (r *relay) holdBack(ctx context.Context, client, server net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := server.Read(buffer)
		if n > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Duration(r.delay.Load())):
			}
			if _, err := client.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
