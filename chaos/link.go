package main

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// link is a stretch of network: a TCP forwarder between the clients and the
// proxy, or between the proxy and a broker. It passes on what it gets until it is
// told to do it badly.
//
// The side that connects to it is called near, the one it connects to far.
type link struct {
	ln         net.Listener
	dial       func(ctx context.Context) (net.Conn, error)
	impairment atomic.Pointer[impairment]
	running    sync.WaitGroup

	mu    sync.Mutex
	pairs map[*pair]struct{}
}

// impairment is how a link passes bytes on. The zero value is none.
type impairment struct {
	delay  time.Duration   // before each piece
	rate   int             // bytes per second and direction; 0: no limit
	piece  int             // the most bytes in one write; 0: as they come
	held   <-chan struct{} // nothing moves until it is closed, new connections included; nil: everything does
	refuse bool            // new connections are reset
}

var unimpaired = &impairment{}

// newLink listens on address and forwards to what dial opens.
func newLink(address string, dial func(ctx context.Context) (net.Conn, error)) (*link, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	l := &link{ln: ln, dial: dial, pairs: map[*pair]struct{}{}}
	l.impairment.Store(unimpaired)
	l.running.Go(l.accept)
	return l, nil
}

func (l *link) addr() string { return l.ln.Addr().String() }

func (l *link) close() {
	l.ln.Close()
	l.impairment.Store(unimpaired)
	l.each((*pair).reset)
	l.running.Wait()
}

func (l *link) accept() {
	for {
		near, err := l.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // the harness is short of descriptors; they come back
			time.Sleep(10 * time.Millisecond)
			continue
		}
		l.running.Go(func() { l.serve(near.(*net.TCPConn)) })
	}
}

// serve carries one connection until both directions have ended.
func (l *link) serve(near *net.TCPConn) {
	w := l.impairment.Load()
	if w.held != nil {
		<-w.held
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	far, err := l.dial(ctx)
	if w.refuse || err != nil {
		near.SetLinger(0)
		near.Close()
		if err == nil {
			far.Close()
		}
		return
	}
	p := &pair{near: near, far: far.(*net.TCPConn), over: make(chan struct{})}
	p.budget.Store(unlimited)
	l.mu.Lock()
	l.pairs[p] = struct{}{}
	l.mu.Unlock()

	var both sync.WaitGroup
	both.Go(func() { l.carry(p, p.near, p.far) })
	both.Go(func() { l.carry(p, p.far, p.near) })
	both.Wait()
	p.close()
	l.mu.Lock()
	delete(l.pairs, p)
	l.mu.Unlock()
}

// carry passes one direction on until it ends, and that end with it.
func (l *link) carry(p *pair, from, to *net.TCPConn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && !l.pass(p, to, buffer[:n]) {
			return
		}
		switch {
		case p.lost.Load():
			<-p.over // as if the packets went nowhere: not even the end gets through
			return
		case err == nil:
		case err == io.EOF:
			to.CloseWrite()
			return
		default:
			p.reset()
			return
		}
	}
}

// pass passes bytes on as the impairment of the moment has it. It reports false when the
// connection is over.
func (l *link) pass(p *pair, to *net.TCPConn, b []byte) bool {
	for len(b) > 0 && !p.lost.Load() {
		w := l.impairment.Load()
		if w.held != nil {
			select {
			case <-w.held:
			case <-p.over:
				return false
			}
			continue // with what it is by then
		}
		n := len(b)
		if w.piece > 0 {
			n = min(n, w.piece)
		}
		pause := w.delay
		if w.rate > 0 {
			n = min(n, max(1, w.rate/20))
			pause += time.Duration(n) * time.Second / time.Duration(w.rate)
		}
		if pause > 0 && !p.wait(pause) {
			return false
		}
		left := p.budget.Add(-int64(n)) + int64(n) // before this write
		if int64(n) > left {
			n = int(max(0, left))
		}
		if p.corrupt.CompareAndSwap(true, false) {
			b[rand.IntN(n+1)%len(b)] ^= 1 << rand.IntN(8)
		}
		if _, err := to.Write(b[:n]); err != nil {
			p.reset()
			return false
		}
		if int64(n) == left {
			p.reset()
			return false
		}
		b = b[n:]
	}
	return true
}

// each does something to every connection there is, and says how many.
func (l *link) each(f func(*pair)) int {
	l.mu.Lock()
	pairs := make([]*pair, 0, len(l.pairs))
	for p := range l.pairs {
		pairs = append(pairs, p)
	}
	l.mu.Unlock()
	for _, p := range pairs {
		f(p)
	}
	return len(pairs)
}

// pair is a connection and its continuation.
type pair struct {
	near, far *net.TCPConn
	budget    atomic.Int64 // bytes that may still pass before it is reset
	corrupt   atomic.Bool  // the next piece gets one bit wrong
	lost      atomic.Bool  // nothing passes any more, and nobody is told
	once      sync.Once
	over      chan struct{} // closed with the connections
}

const unlimited = 1 << 60

// close ends both connections, each with a FIN.
func (p *pair) close() { p.end(-1) }

// reset ends both with a RST: what has not been read is gone.
func (p *pair) reset() { p.end(0) }

// end ends both in the way of who calls first: the goroutines that carry find
// their connections closed then, and take that for a failure.
func (p *pair) end(linger int) {
	p.once.Do(func() {
		close(p.over)
		for _, conn := range []*net.TCPConn{p.near, p.far} {
			conn.SetLinger(linger)
			conn.Close()
		}
	})
}

// halfClose ends one direction; the other goes on.
func (p *pair) halfClose(towardsFar bool) {
	if towardsFar {
		p.far.CloseWrite()
	} else {
		p.near.CloseWrite()
	}
}

// wait pauses, and reports false when the connection has ended meanwhile.
func (p *pair) wait(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-p.over:
		return false
	}
}
