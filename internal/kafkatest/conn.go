package kafkatest

import (
	"errors"
	"fmt"
	"net"
	"sync"
)

// The connections in this file wrap a net.Conn and misbehave in one way each.
// They work above TLS and below it. They are meant for the far side: put them
// under the test's client or under the broker, so that what the proxy sees is
// a real socket whose peer is at fault, deadlines included.

// Dribble returns a connection that reads and writes at most n bytes at a time.
func Dribble(c net.Conn, n int) net.Conn { return &dribble{Conn: c, n: n} }

type dribble struct {
	net.Conn
	n int
}

func (d *dribble) NetConn() net.Conn { return d.Conn }

func (d *dribble) Read(p []byte) (int, error) {
	return d.Conn.Read(p[:min(len(p), d.n)])
}

func (d *dribble) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		n, err := d.Conn.Write(p[written:min(len(p), written+d.n)])
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// ErrCut is what the owner of a connection gets that has been cut.
var ErrCut = errors.New("kafkatest: connection was cut here")

// CutWrites returns a connection that ends after n more bytes have been written
// to it, in the way of end: [Reset], [HalfClose] or net.Conn.Close. The write
// that crosses the limit is carried out up to it.
func CutWrites(c net.Conn, n int, end func(net.Conn) error) net.Conn {
	return &cut{Conn: c, writes: n, reads: -1, end: end}
}

// CutReads returns a connection that ends after n more bytes have been read
// from it.
func CutReads(c net.Conn, n int, end func(net.Conn) error) net.Conn {
	return &cut{Conn: c, writes: -1, reads: n, end: end}
}

type cut struct {
	net.Conn
	end func(net.Conn) error

	rmu, wmu      sync.Mutex // one reader and one writer at a time; they do not exclude each other
	reads, writes int        // bytes left; negative: no limit
}

func (c *cut) NetConn() net.Conn { return c.Conn }

func (c *cut) Read(p []byte) (int, error) {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	if c.reads < 0 {
		return c.Conn.Read(p)
	}
	if c.reads == 0 {
		return 0, errors.Join(ErrCut, c.end(c.Conn))
	}
	n, err := c.Conn.Read(p[:min(len(p), c.reads)])
	c.reads -= n
	return n, err
}

func (c *cut) Write(p []byte) (int, error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.writes < 0 {
		return c.Conn.Write(p)
	}
	n, err := c.Conn.Write(p[:min(len(p), c.writes)])
	c.writes -= n
	if err == nil && n < len(p) {
		err = errors.Join(ErrCut, c.end(c.Conn))
	}
	return n, err
}

// Gate is a connection that can be held: while it is, reads and writes wait
// without touching the connection underneath, whose peer sees one that neither
// sends nor takes anything. Closing opens the gate.
type Gate struct {
	net.Conn

	mu   sync.Mutex
	open chan struct{} // closed while the gate is open
	held bool
	shut bool
}

// NewGate returns an open gate.
func NewGate(c net.Conn) *Gate {
	open := make(chan struct{})
	close(open)
	return &Gate{Conn: c, open: open}
}

// NetConn returns the connection underneath.
func (g *Gate) NetConn() net.Conn { return g.Conn }

// Hold makes reads and writes wait from now on. A read or write that is
// already waiting in the connection underneath still ends once.
func (g *Gate) Hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.held && !g.shut {
		g.open, g.held = make(chan struct{}), true
	}
}

// Release lets everything go on.
func (g *Gate) Release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held {
		close(g.open)
		g.held = false
	}
}

func (g *Gate) Read(p []byte) (int, error) {
	g.wait()
	return g.Conn.Read(p)
}

func (g *Gate) Write(p []byte) (int, error) {
	g.wait()
	return g.Conn.Write(p)
}

// Close closes the connection and opens the gate.
func (g *Gate) Close() error {
	err := g.Conn.Close()
	g.mu.Lock()
	g.shut = true
	g.mu.Unlock()
	g.Release()
	return err
}

func (g *Gate) wait() {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	<-open
}

// Reset ends the connection with a TCP RST and no TLS alert: the peer's reads
// and writes fail instead of ending, and what it has not read yet is lost. The
// owner of c finds it closed, and still closes what it has wrapped around it.
func Reset(c net.Conn) error {
	tcp, err := unwrap[*net.TCPConn](c)
	if err != nil {
		return err
	}
	return errors.Join(tcp.SetLinger(0), tcp.Close())
}

// HalfClose ends the sending direction and leaves the receiving one open: with
// a close_notify alert for TLS, with a FIN for TCP.
func HalfClose(c net.Conn) error {
	half, err := unwrap[interface{ CloseWrite() error }](c)
	if err != nil {
		return err
	}
	return half.CloseWrite()
}

// unwrap returns the outermost connection that is a T.
func unwrap[T any](c net.Conn) (T, error) {
	for under := c; ; {
		if t, ok := under.(T); ok {
			return t, nil
		}
		wrapper, ok := under.(interface{ NetConn() net.Conn })
		if !ok {
			var none T
			return none, fmt.Errorf("kafkatest: no %T in %T", &none, c)
		}
		under = wrapper.NetConn()
	}
}
