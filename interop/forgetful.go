package main

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// forgetful is a balancer that forgets connections which have been idle for too long, as many
// do: from then on what either end sends is dropped, and neither is told. New connections are
// passed on.
type forgetful struct {
	listener net.Listener
	target   string
	after    time.Duration // idle for that long
	running  sync.WaitGroup
	stopped  chan struct{}
}

func newForgetful(address, target string, after time.Duration) (*forgetful, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	f := &forgetful{listener: listener, target: target, after: after, stopped: make(chan struct{})}
	f.running.Go(f.serve)
	return f, nil
}

func (f *forgetful) serve() {
	for {
		client, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.running.Go(func() { f.pass(client) })
	}
}

// pass passes a connection on until it ends, or until the balancer is stopped when the
// connection was forgotten.
func (f *forgetful) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", f.target)
	if err != nil {
		return
	}
	defer server.Close()
	c := &remembered{after: f.after}
	c.last.Store(time.Now().UnixNano())
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{server, client}, {client, server}} {
		go func() {
			c.carry(way[0], way[1])
			ended <- struct{}{}
		}()
	}
	for range 2 {
		select {
		case <-ended:
		case <-f.stopped:
			return
		}
	}
	if c.forgotten.Load() {
		<-f.stopped
	}
}

// stop ends everything, forgotten connections too.
func (f *forgetful) stop() {
	f.listener.Close()
	close(f.stopped)
	f.running.Wait()
}

// remembered is what is known of a connection.
type remembered struct {
	after     time.Duration
	last      atomic.Int64 // when a byte went either way, in nanoseconds
	forgotten atomic.Bool
}

// idle notes that something has come, and reports whether it is too late.
func (c *remembered) idle() bool {
	now := time.Now().UnixNano()
	if time.Duration(now-c.last.Swap(now)) > c.after {
		c.forgotten.Store(true)
	}
	return c.forgotten.Load()
}

// carry carries one direction: bytes, and the end, unless the connection is forgotten.
func (c *remembered) carry(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		switch gone := c.idle(); {
		case err == io.EOF && !gone:
			_ = to.(*net.TCPConn).CloseWrite()
			return
		case err != nil && !gone:
			to.Close()
			return
		case err != nil:
			return
		case !gone:
			if _, err := to.Write(buffer[:n]); err != nil {
				from.Close()
				return
			}
		}
	}
}
