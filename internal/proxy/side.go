package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

// side is one of the two TLS connections of a session.
type side struct {
	*tls.Conn
	wire *wire
	more bool  // the last read filled its buffer, so there may be plaintext left
	err  error // found behind bytes that were returned first
}

// read waits for data and returns all that has arrived, up to a batch, in a
// buffer that the caller gives back. It may only be used after the handshake.
func (s *side) read() (*buffer, int, error) {
	s.wire.instant = true
	for {
		if s.err != nil {
			return nil, 0, s.err
		}
		if !s.more {
			if err := s.wire.wait(); err != nil {
				return nil, 0, err
			}
		}
		b := buffers.Get().(*buffer)
		n := 0
		for n < batch {
			m, err := s.Conn.Read(b[n:batch])
			n += m
			if err != nil {
				if !errors.Is(err, errWouldBlock) {
					s.err = err
				}
				break
			}
			if n < batch && !s.wire.whole() {
				break
			}
		}
		s.more = n == batch
		if n > 0 {
			return b, n, nil
		}
		buffers.Put(b)
	}
}

// wake ends a read that waits, with a timeout error.
func (s *side) wake() { s.Conn.SetReadDeadline(time.Unix(1, 0)) }

// rearm lets reads wait again after wake.
func (s *side) rearm() { s.Conn.SetReadDeadline(time.Time{}) }

// closeWrite ends the stream to the peer: with TLS's own goodbye, without which
// it may have been cut, then with TCP's.
func (s *side) closeWrite() {
	s.Conn.CloseWrite() // an error shows at the next read or close
	s.wire.closeWrite()
}

// linger closes in a way that lets the peer have all that was written. Closing
// a socket with unread bytes resets it, and that may overtake the last answer;
// so the end of the stream goes out first, and what the peer still sends is
// read and dropped until it has closed too.
func (s *side) linger(timeout time.Duration) {
	s.closeWrite()
	s.wire.SetReadDeadline(time.Now().Add(timeout))
	s.wire.releaseIn()
	io.Copy(io.Discard, onlyReader{s.wire.Conn})
	s.wire.Conn.Close()
}

// onlyReader hides what else a connection can do, so that io.Copy just reads.
type onlyReader struct{ net.Conn }
