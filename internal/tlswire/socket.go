package tlswire

import "time"

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

// PeekByte waits for the first byte from the peer and returns it. It is for the time
// before the handshake.
func (c *Conn) PeekByte() (byte, error) { return c.wire.peek() }

// Arrived returns what has been read from the socket and not been handed to
// crypto/tls. It is valid until the next read.
func (c *Conn) Arrived() []byte { return c.wire.arrived() }

// Cork has writes wait for Flush, or until a batch is full.
func (c *Conn) Cork() { c.wire.cork() }

// Flush writes what has been gathered since Cork, with one system call.
func (c *Conn) Flush() error { return c.wire.flush() }
