package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"time"
)

// watch is what sweep remembers of a session from one look to the next.
type watch struct {
	bytes          int64         // forwarded, at the last look
	still          time.Duration // for how long that has not changed
	life           time.Duration // how old the session may get; 0: as old as it likes
	client, broker silence
}

// newWatch returns the watch of a new session. Ages differ by a tenth either
// way, so that clients that came at once do not all come back at once.
func (p *Proxy) newWatch() watch {
	return watch{bytes: -1, life: time.Duration(float64(p.MaxConnectionAge) * (0.9 + 0.2*rand.Float64()))}
}

// retirement is why a session was ended in which nothing was wrong.
type retirement string

const (
	retiredIdle retirement = "idle"
	retiredAge  retirement = "age"
)

func (r retirement) Error() string { return "retired: " + string(r) }

// errSilent is of a peer that does not acknowledge what it is sent.
var errSilent = errors.New("has acknowledged nothing of what waits for it")

// sweep ends sessions that are idle, too old, or have lost their peer, until ctx
// ends. It looks at the sessions of a listener every now and then, so that the
// timeouts cost nothing where the bytes flow: no deadline, no timer.
func (p *Proxy) sweep(ctx context.Context, ln net.Listener) {
	every := p.sweepInterval()
	if every == 0 {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var sessions []*session
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		elapsed := now.Sub(last)
		last = now
		p.mu.Lock()
		for s := range p.sessions {
			if s.listener == ln {
				sessions = append(sessions, s)
			}
		}
		p.mu.Unlock()
		for _, s := range sessions {
			if s.pumping.Load() { // what comes before has deadlines
				s.look(every, elapsed)
			}
		}
		clear(sessions)
		sessions = sessions[:0]
	}
}

// sweepInterval is fine enough for the shortest of the timeouts; 0 without any.
func (p *Proxy) sweepInterval() time.Duration {
	var all []time.Duration
	for _, d := range []time.Duration{p.IdleTimeout / 8, p.MaxConnectionAge / 16, p.TCPUserTimeout / 4} {
		if d > 0 {
			all = append(all, d)
		}
	}
	if len(all) == 0 {
		return 0
	}
	return min(max(slices.Min(all), 10*time.Millisecond), 15*time.Second)
}

// look ends the session if that is due. Looks are every so often, and so much
// time has passed since the last one: more, when the machine or the process was
// stopped in between. That is no time in which a peer could have been heard.
func (s *session) look(every, elapsed time.Duration) {
	p, w := s.proxy, &s.watch
	moved := s.traffic.up.Load() + s.traffic.down.Load()
	w.still += every
	if moved != w.bytes {
		w.bytes, w.still = moved, 0
	}
	// Where nothing has moved since all was acknowledged, it still is. What was
	// counted just before the last look may have been sent after it.
	if p.TCPUserTimeout > 0 && (w.still <= every || w.client.lasts > 0 || w.broker.lasts > 0) {
		w.client.update(s.client.wire.unacknowledged(), every, elapsed)
		w.broker.update(s.broker.wire.unacknowledged(), every, elapsed)
		switch {
		case w.client.over(p.TCPUserTimeout):
			s.lost(s.client, &phaseError{phaseResponse, fmt.Errorf("the client %w", errSilent)})
			return
		case w.broker.over(p.TCPUserTimeout):
			s.lost(s.broker, &phaseError{phaseRequest, fmt.Errorf("the broker %w", errSilent)})
			return
		}
	}
	switch {
	case p.IdleTimeout > 0 && w.still >= 2*p.IdleTimeout:
		// Half a frame, or a request that is not answered, has had its time.
		s.retire(retiredIdle)
		s.cut()
	case p.IdleTimeout > 0 && w.still >= p.IdleTimeout:
		s.idle.Store(s.mark()) // pumpRequests knows whether anything is under way
		s.client.wake()
	case w.life > 0 && time.Since(s.began) >= w.life && !s.draining.Load():
		s.retire(retiredAge)
		s.drain()
	}
}

// retire notes why a session is ended, and counts it once.
func (s *session) retire(why retirement) {
	if !s.because(why) {
		return
	}
	switch why {
	case retiredIdle:
		s.proxy.stats.idle.Add(1)
	case retiredAge:
		s.proxy.stats.aged.Add(1)
	}
}

// lost ends a session whose peer on that side is gone.
func (s *session) lost(peer *side, why error) {
	s.because(why)
	resetOnClose(peer.wire.Conn) // or the kernel would go on sending to nobody
	s.cut()
}

// windowProbes is for how long a peer whose receive window is closed may be
// silent. It has to answer the probes of the window alone, and there are as much
// as two minutes between them (tcp(7), Linux's TCP_RTO_MAX).
const windowProbes = 5 * time.Minute

// unacknowledged is what a socket knows of data that its peer has not acknowledged.
type unacknowledged struct {
	waiting bool          // there is some, sent or not
	closed  bool          // none may be sent: the peer's window is closed, because it does not read
	heard   time.Duration // since anything has come from the peer
}

// silence is of a peer from which nothing has come while data waited for its
// acknowledgement.
//
// It would be the kernel's to know when that has lasted too long
// (TCP_USER_TIMEOUT), but Linux takes a peer for gone that answers and does not
// read: a consumer that works for minutes at what it has got.
type silence struct {
	lasts  time.Duration // 0: there is none
	closed bool          // the peer's window has been closed, in some of that time
}

// update adds a look at the socket. What has only now been sent counts from now
// on.
func (s *silence) update(u unacknowledged, every, elapsed time.Duration) {
	switch {
	case !u.waiting:
		*s = silence{}
		return
	case s.lasts == 0, u.heard < elapsed:
		*s = silence{lasts: 1}
	default:
		s.lasts += every
	}
	// A probe that is data, where the window has room for a little, makes it look
	// open until it is answered.
	s.closed = s.closed || u.closed
}

// over reports whether the peer is gone.
func (s *silence) over(timeout time.Duration) bool {
	if s.closed {
		timeout = max(timeout, windowProbes)
	}
	return s.lasts >= timeout
}
