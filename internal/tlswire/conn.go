// Package tlswire is TLS in batches over one socket, or plaintext in the same way. It reads as many records as
// have arrived with one system call, lends their plaintext without copying it, and
// writes with one system call what was written between [Conn.Cork] and
// [Conn.Flush]. It also tells what the socket knows: whether the peer acknowledges
// what it is sent, and what it said before it was encrypted.
//
// A connection that waits holds no buffer.
//
// The package knows TLS records and nothing of what is in them: no Kafka, no
// names, no log.
package tlswire

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// Conn is a connection, with TLS or in plaintext. After the handshake, if there is one, it
// is read by Await, which waits, and Next, which does not:
//
//	for c.Await() == nil {
//		for p := c.Next(); p != nil; p = c.Next() { … }
//	}
//
// One goroutine reads, another one may write. Methods of [net.Conn] that are not
// defined here work as those of [tls.Conn], or of a socket in plaintext.
type Conn struct {
	net.Conn           // tls or wire
	tls      *tls.Conn // nil: plaintext
	wire     wire

	in   *tlsInput // nil: crypto/tls is read from the way anyone reads from it
	one  [1]byte
	lent lender
	buf  *buffer // plaintext, when in is nil
	err  error   // what ended the stream, returned by Await
}

// Server returns the server's end of a connection. The handshake is still to be done.
func Server(conn net.Conn, config *tls.Config) *Conn { return newConn(conn, config, tls.Server) }

// Client returns the client's end of a connection. The handshake is still to be done.
func Client(conn net.Conn, config *tls.Config) *Conn { return newConn(conn, config, tls.Client) }

func newConn(conn net.Conn, config *tls.Config, end func(net.Conn, *tls.Config) *tls.Conn) *Conn {
	c := new(Conn)
	keepAlive(conn)
	c.wire.init(conn)
	c.tls = end(&c.wire, config)
	c.Conn = c.tls
	c.in = inputOf(c.tls)
	return c
}

// Plaintext returns an end of a connection without TLS.
func Plaintext(conn net.Conn) *Conn {
	c := new(Conn)
	keepAlive(conn)
	c.wire.init(conn)
	c.wire.plain = true
	c.Conn = &c.wire
	return c
}

// IsPlaintext reports whether the connection has no TLS.
func (c *Conn) IsPlaintext() bool { return c.tls == nil }

// probes are how a peer is probed while nothing is sent to it.
var probes = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 6}

// keepAlive has the kernel probe the peer, so that one that is gone is noticed, and
// nothing in between forgets the connection. A connection works without it, too.
func keepAlive(conn net.Conn) {
	if c, ok := conn.(interface {
		SetKeepAliveConfig(net.KeepAliveConfig) error
	}); ok {
		c.SetKeepAliveConfig(probes)
	}
}

// HandshakeContext runs the handshake. An alert that the peer sent in plaintext is
// returned as crypto/tls returns alerts (see [RemoteAlert]): in TLS 1.3, OpenSSL
// sends those about a certificate before it has keys, and crypto/tls, which has
// them by then, calls that a bad record MAC.
func (c *Conn) HandshakeContext(ctx context.Context) error {
	err := c.tls.HandshakeContext(ctx)
	if err == nil || c.wire.alert == noAlert {
		return err
	}
	if c.wire.alert == alertCloseNotify {
		return io.EOF
	}
	return &net.OpError{Op: remoteError, Err: tls.AlertError(c.wire.alert)}
}

// Await waits until there may be something for Next to return. What Next
// returned before is no longer valid.
func (c *Conn) Await() error {
	if c.err != nil {
		c.unload()
		c.wire.releaseIn()
		return c.err
	}
	c.wire.instant = true
	if c.in != nil && !c.in.empty() { // crypto/tls has read ahead in its handshake
		return nil
	}
	c.unload()
	if err := c.wire.wait(); err != nil {
		return err
	}
	switch {
	case c.in != nil:
		c.in.load(c.wire.takeWhole())
	case c.tls != nil:
		c.buf = buffers.Get().(*buffer)
	}
	return nil
}

// unload takes away the memory that was lent to crypto/tls, or to the caller.
func (c *Conn) unload() {
	if c.in != nil {
		c.in.release()
	}
	if c.buf != nil {
		buffers.Put(c.buf)
		c.buf = nil
	}
}

// Next returns plaintext that has arrived, or nil when it has returned all. It
// stays valid until the next call of Next or Await, and may be changed.
func (c *Conn) Next() []byte {
	if c.err != nil {
		return nil
	}
	if c.tls == nil {
		if p := c.wire.takeWhole(); len(p) > 0 {
			return p
		}
		return nil
	}
	if c.in == nil {
		n, err := c.tls.Read(c.buf[:])
		c.ended(err)
		if n == 0 {
			return nil
		}
		return c.buf[:n]
	}
	if c.in.empty() {
		return nil
	}
	// Reading one byte has crypto/tls decrypt the next record, in place. All of
	// it is then lent from there instead of being copied out.
	n, err := c.tls.Read(c.one[:])
	c.ended(err)
	if n == 0 {
		return nil
	}
	if c.in.plain.Size() == 0 { // that one byte was all, and what follows ends the stream
		return c.one[:]
	}
	c.in.plain.Seek(0, io.SeekStart)
	c.in.plain.WriteTo(&c.lent)
	return c.lent.p
}

func (c *Conn) ended(err error) {
	if err != nil && !errors.Is(err, errWouldBlock) {
		c.err = err
	}
}

// lender is an io.Writer that keeps what it is given, and copies nothing.
type lender struct{ p []byte }

func (l *lender) Write(p []byte) (int, error) {
	l.p = p
	return len(p), nil
}

// Write writes p, with what is gathered between Cork and Flush.
func (c *Conn) Write(p []byte) (int, error) {
	if c.tls == nil {
		return c.wire.Write(p)
	}
	return c.tls.Write(p)
}

// Wake ends an Await that waits, or else the next one, with a timeout error
// ([os.ErrDeadlineExceeded]).
func (c *Conn) Wake() { c.Conn.SetReadDeadline(time.Unix(1, 0)) }

// Rearm lets Await wait again after Wake.
func (c *Conn) Rearm() { c.Conn.SetReadDeadline(time.Time{}) }

// CloseWrite ends the stream to the peer: with TLS's close_notify, without which it
// counts as truncated, then with TCP's FIN. An error shows at the next read or close.
func (c *Conn) CloseWrite() {
	if c.tls != nil {
		c.tls.CloseWrite()
	}
	c.wire.closeWrite()
}

// CloseNow closes the socket without a close_notify. Reads and writes that wait return.
func (c *Conn) CloseNow() { c.wire.Conn.Close() }

// Reset closes the socket with a TCP reset, as a broker that dies does.
func (c *Conn) Reset() { Reset(c.wire.Conn) }

// ResetOnClose has any later close drop what was not sent and reset the connection.
func (c *Conn) ResetOnClose() { resetOnClose(c.wire.Conn) }

// Reset closes a connection with a TCP reset.
func Reset(conn net.Conn) {
	resetOnClose(conn)
	conn.Close()
}

func resetOnClose(conn net.Conn) {
	if c, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		c.SetLinger(0)
	}
}

// Linger closes in a way that lets the peer read all that was written. Closing a
// socket with unread bytes resets it, and the reset may overtake the last response.
// So the end of the stream is sent first, and what the peer still sends is read and
// dropped until the peer has closed too, or timeout has passed.
func (c *Conn) Linger(timeout time.Duration) {
	c.CloseWrite()
	for end := time.Now().Add(timeout); time.Now().Before(end); {
		c.wire.SetReadDeadline(end)
		if _, err := io.Copy(io.Discard, onlyReader{c.wire.Conn}); !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} // else Wake was called, by a caller that does not know yet
	}
	c.wire.Conn.Close()
}

// onlyReader hides what else a connection can do, so that io.Copy just reads.
type onlyReader struct{ net.Conn }
