package kafkatest

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
)

// advertised is the address that a broker claims to have.
type advertised string

func (advertised) Network() string  { return "tcp" }
func (a advertised) String() string { return string(a) }

type listener struct {
	net.Listener
	cluster *Cluster
	node    *node
	addr    advertised
	config  *tls.Config
}

func (l *listener) Addr() net.Addr { return l.addr }

func (l *listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tracked := &conn{Conn: raw, cluster: l.cluster, node: l.node}
	if !tracked.count(+1) {
		Reset(tracked)
		return nil, net.ErrClosed
	}
	under := net.Conn(tracked)
	if l.cluster.opts.Wrap != nil {
		under = l.cluster.opts.Wrap(l.node.id, under)
	}
	// The handshake runs in the first read, which is kfake's.
	return tls.Server(under, l.config), nil
}

func (l *listener) Close() error {
	err := l.Listener.Close()
	l.cluster.mu.Lock()
	defer l.cluster.mu.Unlock()
	if l.node.ln == l.Listener {
		l.node.ln = nil
	}
	if errors.Is(err, net.ErrClosed) { // kfake closes twice
		return nil
	}
	return err
}

// conn is an accepted connection, counted while it is open.
type conn struct {
	net.Conn
	cluster *Cluster
	node    *node
	once    sync.Once
}

func (c *conn) Close() error {
	c.once.Do(func() { c.count(-1) })
	return c.Conn.Close()
}

// NetConn returns the connection underneath, as [tls.Conn.NetConn] does.
func (c *conn) NetConn() net.Conn { return c.Conn }

// count reports false, and counts nothing, for a connection that was accepted
// while its broker was being stopped: nobody would cut that one.
func (c *conn) count(by int) bool {
	c.cluster.mu.Lock()
	defer c.cluster.mu.Unlock()
	switch {
	case by < 0:
		delete(c.node.open, c)
	case c.node.ln == nil:
		return false
	default:
		c.node.open[c] = struct{}{}
		c.node.opened++
	}
	close(c.cluster.changed)
	c.cluster.changed = make(chan struct{})
	return true
}
