package session

import (
	"errors"
	"fmt"
	"time"

	"kafka-sni-proxy/internal/tlswire"
)

// ErrSilent is of a peer that does not acknowledge what it is sent.
var ErrSilent = errors.New("has acknowledged nothing of what waits for it")

// watch is what Look remembers from one look to the next. Only its caller uses it.
type watch struct {
	bytes          int64         // forwarded, at the last look
	still          time.Duration // for how long that has not changed
	maxAge         time.Duration // jitter included; 0: none
	client, broker silence
}

// LookInterval returns how often Look is to be called: fine enough for the shortest of
// the timeouts; 0 without any.
func (c *Config) LookInterval() time.Duration {
	shortest := time.Duration(0)
	for _, d := range []time.Duration{c.IdleTimeout / 8, c.MaxAge / 16, c.TCPUserTimeout / 4} {
		if d > 0 && (shortest == 0 || d < shortest) {
			shortest = d
		}
	}
	if shortest == 0 {
		return 0
	}
	return min(max(shortest, 10*time.Millisecond), 15*time.Second)
}

// Look ends the session if it is idle, too old, or has lost a peer. Looking every now
// and then costs nothing where the bytes flow: no deadline, no timer. Looks are every so
// often, and so much time has passed since the last one: more, when the machine or the
// process was stopped in between, in which time no peer could have been heard.
func (s *Session) Look(every, elapsed time.Duration) {
	if now := s.life.state(); now == starting || now == cut { // deadlines; nothing is left to end, and there may be no broker
		return
	}
	w, config := &s.watch, s.config
	w.still += every
	if moved := s.traffic.Bytes(); moved != w.bytes {
		w.bytes, w.still = moved, 0
	}
	if config.TCPUserTimeout > 0 && s.lookAtPeers(every, elapsed) {
		return
	}
	switch {
	case config.IdleTimeout > 0 && w.still >= 2*config.IdleTimeout:
		// Half a frame, or a request that is not answered, has had its time.
		s.life.setEndReason(RetiredIdle)
		s.Cut()
	case config.IdleTimeout > 0 && w.still >= config.IdleTimeout:
		s.idleMark.Store(s.mark()) // forwardRequests knows whether anything is under way
		s.client.Wake()
	case w.maxAge > 0 && time.Since(s.began) >= w.maxAge && s.life.state() == open:
		s.life.setEndReason(RetiredAge)
		s.Drain()
	}
}

// lookAtPeers ends the session when one of its peers is gone, and reports that.
func (s *Session) lookAtPeers(every, elapsed time.Duration) (gone bool) {
	w, timeout := &s.watch, s.config.TCPUserTimeout
	// Where nothing has moved since all was acknowledged, it still is. What was
	// counted just before the last look may have been sent after it.
	if w.still > every && w.client.lasts == 0 && w.broker.lasts == 0 {
		return false
	}
	w.client.update(s.client.Unacknowledged(), every, elapsed)
	w.broker.update(s.broker.Unacknowledged(), every, elapsed)
	switch {
	case w.client.over(timeout):
		s.lost(s.client, &Error{PhaseResponse, fmt.Errorf("the client %w", ErrSilent)})
	case w.broker.over(timeout):
		s.lost(s.broker, &Error{PhaseRequest, fmt.Errorf("the broker %w", ErrSilent)})
	default:
		return false
	}
	return true
}

// lost ends a session whose peer on that side is gone.
func (s *Session) lost(peer *tlswire.Conn, reason error) {
	s.life.setEndReason(reason)
	peer.ResetOnClose() // or the kernel would go on sending to nobody
	s.Cut()
}

// windowProbes is for how long a peer whose receive window is closed may be
// silent. It has to answer the probes of the window alone, and there are as much
// as two minutes between them (tcp(7), Linux's TCP_RTO_MAX).
const windowProbes = 5 * time.Minute

// silence is of a peer from which nothing has come while data waited for its
// acknowledgement.
//
// The kernel could tell when that has lasted too long (TCP_USER_TIMEOUT), but Linux
// takes a peer for gone that answers and does not read: a consumer that works for
// minutes at what it has got.
type silence struct {
	lasts  time.Duration // 0: there is none
	closed bool          // the peer's window has been closed, in some of that time
}

// update adds a look at the socket. What has only now been sent counts from now
// on.
func (s *silence) update(u tlswire.Unacknowledged, every, elapsed time.Duration) {
	switch {
	case !u.Waiting:
		*s = silence{}
		return
	case s.lasts == 0, u.Heard < elapsed:
		*s = silence{lasts: 1}
	default:
		s.lasts += every
	}
	// A probe that is data, where the window has room for a little, makes it look
	// open until it is answered.
	s.closed = s.closed || u.Closed
}

// over reports whether the peer is gone.
func (s *silence) over(timeout time.Duration) bool {
	if s.closed {
		timeout = max(timeout, windowProbes)
	}
	return s.lasts >= timeout
}
