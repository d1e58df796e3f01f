package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"time"
	"unsafe"
)

// side is one of the two TLS connections of a session. After the handshake it
// is read by await, which waits, and next, which does not:
//
//	for await() == nil {
//		for p := next(); p != nil; p = next() { … }
//	}
//
// One goroutine reads, another one may write.
type side struct {
	*tls.Conn
	wire *wire

	in   *tlsInput // nil: crypto/tls is read from the way anyone reads from it
	one  [1]byte
	lent lender
	buf  *buffer // plaintext, when in is nil
	err  error   // what ended the stream, told by await
}

// newSide returns a side whose handshake is still to be done.
func newSide(w *wire, conn *tls.Conn) *side {
	return &side{Conn: conn, wire: w, in: inputOf(conn)}
}

// await waits until there may be something for next to return. What next
// returned before is no longer valid.
func (s *side) await() error {
	if s.err != nil {
		s.unload()
		s.wire.releaseIn()
		return s.err
	}
	s.wire.instant = true
	if s.in != nil && !s.in.empty() { // crypto/tls has read ahead in its handshake
		return nil
	}
	s.unload()
	if err := s.wire.wait(); err != nil {
		return err
	}
	if s.in != nil {
		s.in.load(s.wire.takeWhole())
	} else {
		s.buf = buffers.Get().(*buffer)
	}
	return nil
}

// unload takes away the memory that was lent to crypto/tls, or to the caller.
func (s *side) unload() {
	if s.in != nil {
		s.in.release()
	}
	if s.buf != nil {
		buffers.Put(s.buf)
		s.buf = nil
	}
}

// next returns plaintext that has arrived, or nil when it has returned all. It
// stays valid until the next call of next or await, and may be changed.
func (s *side) next() []byte {
	if s.err != nil {
		return nil
	}
	if s.in == nil {
		n, err := s.Conn.Read(s.buf[:])
		s.ended(err)
		if n == 0 {
			return nil
		}
		return s.buf[:n]
	}
	if s.in.empty() {
		return nil
	}
	// Reading one byte has crypto/tls decrypt the next record, in place. All of
	// it is then lent from there instead of being copied out.
	n, err := s.Conn.Read(s.one[:])
	s.ended(err)
	if n == 0 {
		return nil
	}
	if s.in.plain.Size() == 0 { // that one byte was all, and what follows ends the stream
		return s.one[:]
	}
	s.in.plain.Seek(0, io.SeekStart)
	s.in.plain.WriteTo(&s.lent)
	return s.lent.p
}

func (s *side) ended(err error) {
	if err != nil && !errors.Is(err, errWouldBlock) {
		s.err = err
	}
}

// lender is an io.Writer that keeps what it is given, and copies nothing.
type lender struct{ p []byte }

func (l *lender) Write(p []byte) (int, error) {
	l.p = p
	return len(p), nil
}

// tlsInput is what crypto/tls has read and not returned yet: its fields
// rawInput, input and hand. They are not exported, so they are reached by their
// offsets, and only when they are there and of the known types. In exchange
//
//   - records are decrypted where they were read, without being copied into
//     crypto/tls and out of it, and without its two allocations per record;
//   - a connection that waits keeps no memory for the longest record that it
//     has ever seen, which is most of what a connection would take.
//
// Without them everything works as well, and slower.
type tlsInput struct {
	raw   *bytes.Buffer // records
	plain *bytes.Reader // plaintext of one record, within raw
	hand  *bytes.Buffer // handshake messages
}

// tlsOffsets are where those fields are in a tls.Conn; nil when one of them is
// not there, or not what it was.
var tlsOffsets = func() *[3]uintptr {
	var offsets [3]uintptr
	conn := reflect.TypeFor[tls.Conn]()
	for i, want := range []struct {
		name string
		typ  reflect.Type
	}{
		{"rawInput", reflect.TypeFor[bytes.Buffer]()},
		{"input", reflect.TypeFor[bytes.Reader]()},
		{"hand", reflect.TypeFor[bytes.Buffer]()},
	} {
		f, ok := conn.FieldByName(want.name)
		if !ok || f.Type != want.typ {
			return nil
		}
		offsets[i] = f.Offset
	}
	return &offsets
}()

func inputOf(conn *tls.Conn) *tlsInput {
	if tlsOffsets == nil {
		return nil
	}
	at := unsafe.Pointer(conn)
	return &tlsInput{
		raw:   (*bytes.Buffer)(unsafe.Add(at, tlsOffsets[0])),
		plain: (*bytes.Reader)(unsafe.Add(at, tlsOffsets[1])),
		hand:  (*bytes.Buffer)(unsafe.Add(at, tlsOffsets[2])),
	}
}

// load lends whole records, to be decrypted where they are. They must not be
// touched until release.
func (in *tlsInput) load(records []byte) { *in.raw = *bytes.NewBuffer(records) }

// empty reports whether there is nothing left of what was lent.
func (in *tlsInput) empty() bool { return in.raw.Len() == 0 && in.plain.Len() == 0 }

// release ends what load began, and lets go of what the handshake has left. All
// must have been read.
func (in *tlsInput) release() {
	*in.raw = bytes.Buffer{}
	*in.plain = bytes.Reader{}
	if in.hand.Len() == 0 {
		*in.hand = bytes.Buffer{}
	}
}

// wake ends an await that waits, with a timeout error.
func (s *side) wake() { s.Conn.SetReadDeadline(time.Unix(1, 0)) }

// rearm lets await wait again after wake.
func (s *side) rearm() { s.Conn.SetReadDeadline(time.Time{}) }

// closeWrite ends the stream to the peer: with TLS's own goodbye, without which
// it may have been cut, then with TCP's.
func (s *side) closeWrite() {
	s.Conn.CloseWrite() // an error shows at the next read or close
	s.wire.closeWrite()
}

// reset closes without a goodbye, as a broker that dies does. To a client that
// has had no answer yet, a clean end looks as if this were not Kafka at all, and
// some clients give up then; a reset they try again after.
func (s *side) reset() { reset(s.wire.Conn) }

func reset(conn net.Conn) {
	resetOnClose(conn)
	conn.Close()
}

// resetOnClose has Close forget what was not sent and reset the connection.
func resetOnClose(conn net.Conn) {
	if c, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		c.SetLinger(0)
	}
}

// linger closes in a way that lets the peer have all that was written. Closing
// a socket with unread bytes resets it, and that may overtake the last answer;
// so the end of the stream goes out first, and what the peer still sends is
// read and dropped until it has closed too.
func (s *side) linger(timeout time.Duration) {
	s.closeWrite()
	for end := time.Now().Add(timeout); time.Now().Before(end); {
		s.wire.SetReadDeadline(end)
		if _, err := io.Copy(io.Discard, onlyReader{s.wire.Conn}); !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} // or else it was woken, by somebody who did not know yet
	}
	s.wire.Conn.Close()
}

// onlyReader hides what else a connection can do, so that io.Copy just reads.
type onlyReader struct{ net.Conn }
