// Package peer is what stands at the two ends of a proxy while it is measured:
// a load client and a broker stand-in, and the simplest relay there can be, to
// compare with. Each runs in a process of its own, so that its CPU time can be
// told from the proxy's.
//
// Both ends speak real Kafka over TLS 1.3: whole frames with valid structure.
// They are as cheap as they can be made: frames are encoded once, sockets are
// read and written in large pieces, and bodies are thrown away unread.
package peer

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"sync"
)

// The files that the roles find in their folder.
const (
	CAFile         = "ca.pem"
	BrokerCertFile = "broker.pem"
	BrokerKeyFile  = "broker_key.pem"
	ProxyCertFile  = "proxy.pem" // certificate and key in one file, as HAProxy wants it
	ProxyKeyFile   = "proxy_key.pem"
)

// recordSize is how much plaintext a full TLS record holds.
const recordSize = 16384

// conn is one TLS connection of either end.
type conn struct {
	*tls.Conn
	wire *wire
	in   *bufio.Reader
}

func newConn(raw net.Conn, buffer int, wrap func(net.Conn) *tls.Conn) *conn {
	w := &wire{Conn: raw, in: make([]byte, 4096), limit: buffer}
	c := &conn{Conn: wrap(w), wire: w}
	c.in = bufio.NewReaderSize(c.Conn, recordSize)
	return c
}

// send writes a frame, with a correlation id put in at the given place. The
// frame itself is shared and stays as it is: only its first record is copied.
func (c *conn) send(frame []byte, at int, correlation int32) error {
	head := records.Get().(*[recordSize]byte)
	n := copy(head[:], frame)
	binary.BigEndian.PutUint32(head[at:], uint32(correlation))
	_, err := c.Write(head[:n])
	records.Put(head)
	if err == nil && n < len(frame) {
		_, err = c.Write(frame[n:])
	}
	if err != nil {
		return err
	}
	return c.wire.flush()
}

var records = sync.Pool{New: func() any { return new([recordSize]byte) }}

// gathered is how much is written to a socket at once.
const gathered = 256 << 10

var outs = sync.Pool{New: func() any { b := make([]byte, 0, gathered); return &b }}

// wire is the socket under a tls.Conn, which would read and write about one
// record per system call. It reads all there is, into a buffer that grows up to
// limit while reads fill it, and gathers what is written until flush.
type wire struct {
	net.Conn
	limit int
	in    []byte
	r, w  int

	gather bool // off until the handshake is done
	out    *[]byte
}

func (w *wire) Read(p []byte) (int, error) {
	if w.r == w.w {
		if w.w == len(w.in) && len(w.in) < w.limit {
			w.in = make([]byte, min(4*len(w.in), w.limit))
		}
		n, err := w.Conn.Read(w.in)
		w.r, w.w = 0, n
		if n == 0 {
			return 0, err
		}
	}
	n := copy(p, w.in[w.r:w.w])
	w.r += n
	return n, nil
}

func (w *wire) Write(p []byte) (int, error) {
	if !w.gather {
		return w.Conn.Write(p)
	}
	if w.out == nil {
		w.out = outs.Get().(*[]byte)
	}
	if len(*w.out)+len(p) > cap(*w.out) {
		if _, err := w.Conn.Write(*w.out); err != nil {
			return 0, err
		}
		*w.out = (*w.out)[:0]
	}
	if len(p) > cap(*w.out) {
		return w.Conn.Write(p)
	}
	*w.out = append(*w.out, p...)
	return len(p), nil
}

func (w *wire) flush() error {
	if w.out == nil {
		return nil
	}
	_, err := w.Conn.Write(*w.out)
	*w.out = (*w.out)[:0]
	outs.Put(w.out)
	w.out = nil
	return err
}

// Close sends TLS's close_notify first.
func (w *wire) Close() error {
	w.flush()
	return w.Conn.Close()
}

// curves are what the ends offer for key exchange: what Java clients and
// brokers do. Go alone would also offer one that is safe from quantum computers
// and costs several times as much, and would choose it only between two
// programs in Go: those could not be compared with the others.
var curves = []tls.CurveID{tls.X25519, tls.CurveP256}

// errFrame is a frame that cannot be: the stream has been damaged on its way.
var errFrame = errors.New("damaged frame")
