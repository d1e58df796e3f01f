package tlswire

import (
	"crypto/x509"
	"errors"
	"time"
)

// Unacknowledged is what a socket knows of data that its peer has not acknowledged.
type Unacknowledged struct {
	Waiting bool          // there is some, sent or not
	Closed  bool          // none may be sent: the peer's window is closed, because it does not read
	Heard   time.Duration // since anything has come from the peer
}

// Unacknowledged asks the kernel (TCP_INFO, on Linux). Elsewhere, and for what is no
// TCP socket, it returns the zero value. Kernels before 5.4 do not tell the window;
// they report it as closed.
func (c *Conn) Unacknowledged() Unacknowledged { return c.wire.unacknowledged() }

// TakeStalled returns for how long writes have waited, since it was called last, for a peer
// that does not read.
func (c *Conn) TakeStalled() time.Duration {
	if c.wire.stalled.Load() == 0 {
		return 0
	}
	return time.Duration(c.wire.stalled.Swap(0))
}

// StalledFor returns for how long a write has been waiting, now, for a peer that does not read;
// 0: none is. It may be called from any goroutine.
func (c *Conn) StalledFor() time.Duration {
	since := c.wire.stalledSince.Load()
	if since == 0 {
		return 0
	}
	return max(time.Since(clock)-time.Duration(since), 1)
}

// TLSVersion returns the version of TLS after the handshake, as in crypto/tls, and whether
// an earlier session was resumed; 0: plaintext.
func (c *Conn) TLSVersion() (version uint16, resumed bool) {
	if c.tls == nil {
		return 0, false
	}
	state := c.tls.ConnectionState()
	return state.Version, state.DidResume
}

// VerifiedChain returns the certificate that the peer has shown, and those up to an authority
// that it was verified by; nil for none.
func (c *Conn) VerifiedChain() []*x509.Certificate {
	if c.tls == nil {
		return nil
	}
	if chains := c.tls.ConnectionState().VerifiedChains; len(chains) > 0 {
		return chains[0]
	}
	return nil
}

// PeekByte waits for the first byte from the peer and returns it. It is for the time
// before the handshake.
func (c *Conn) PeekByte() (byte, error) { return c.wire.peek() }

// TakeHeader reads what comes before the handshake, and returns it; it is valid until the
// next read. length returns how long it is, given how it begins, and 0 while that cannot be
// told. More than 16 KiB are not taken.
func (c *Conn) TakeHeader(length func(begin []byte) (int, error)) ([]byte, error) {
	if _, err := c.wire.peek(); err != nil {
		return nil, err
	}
	for {
		n, err := length(c.wire.arrived())
		switch {
		case err != nil:
			return nil, err
		case n > 0 && n <= len(c.wire.arrived()):
			return c.wire.take(n), nil
		case c.wire.w == len(c.wire.in):
			return nil, errLongHeader
		}
		if err := c.wire.fill(); err != nil {
			return nil, err
		}
	}
}

var errLongHeader = errors.New("the header is too long")

// Arrived returns what has been read from the socket and not been handed to
// crypto/tls. It is valid until the next read.
func (c *Conn) Arrived() []byte { return c.wire.arrived() }

// Cork has writes wait for Flush, or until a batch is full.
func (c *Conn) Cork() { c.wire.cork() }

// Flush writes what has been gathered since Cork, with one system call.
func (c *Conn) Flush() error { return c.wire.flush() }
