package server

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"sync"

	"kafka-sni-proxy/internal/session"
)

// registry is the set of listeners and sessions, and who is still let in. It owns the
// only lock of the package. Nothing that it calls with the lock held waits: Drain and
// Cut of a session set a state, a deadline, or close a socket.
type registry struct {
	maxConnections, maxHandshakes int // 0: any number

	mu         sync.Mutex
	open       int                  // connections admitted
	handshakes map[netip.Prefix]int // and of those, in their handshake, by source
	sessions   map[*session.Session]*listener
	listeners  map[*listener]struct{}
	closed     bool            // no new connections
	draining   bool            // and no new sessions of those that were accepted
	ended      session.Traffic // of the sessions that are over
	running    sync.WaitGroup  // listeners; those wait for their sessions
}

func newRegistry(maxConnections, maxHandshakes int) *registry {
	return &registry{
		maxConnections: maxConnections,
		maxHandshakes:  maxHandshakes,
		handshakes:     map[netip.Prefix]int{},
		sessions:       map[*session.Session]*listener{},
		listeners:      map[*listener]struct{}{},
	}
}

// listen registers a listener. It returns nil when no more are accepted from.
func (r *registry) listen(ln net.Listener) *listener {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	l := &listener{Listener: ln, acked: make(chan struct{}, 1)}
	r.listeners[l] = struct{}{}
	r.running.Add(1)
	return l
}

// unlisten closes a listener, and forgets it.
func (r *registry) unlisten(l *listener) {
	l.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.listeners, l)
	r.running.Done()
}

// listening returns the listeners that are accepted from.
func (r *registry) listening() []*listener {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*listener, 0, len(r.listeners))
	for l := range r.listeners {
		all = append(all, l)
	}
	return all
}

// close closes the listeners.
func (r *registry) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for l := range r.listeners {
		l.Close()
	}
}

// drain closes the listeners and drains the sessions.
func (r *registry) drain() {
	r.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
	for s := range r.sessions {
		s.Drain()
	}
}

// isClosed reports whether the listeners were closed from here.
func (r *registry) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// gone returns a channel that is closed when no listener and no session is left.
func (r *registry) gone() <-chan struct{} {
	gone := make(chan struct{})
	go func() {
		r.running.Wait()
		close(gone)
	}()
	return gone
}

// admit counts one more connection, until its session is removed, and its handshake,
// until handshakeDone. It returns the limit that forbids it, "" if none does.
func (r *registry) admit(source netip.Prefix) LimitError {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.maxConnections > 0 && r.open >= r.maxConnections:
		return LimitConnections
	case source.IsValid() && r.handshakes[source] >= r.maxHandshakes:
		return LimitHandshakes
	case source.IsValid():
		r.handshakes[source]++
	}
	r.open++
	return ""
}

// handshakeDone takes a handshake off those that are under way.
func (r *registry) handshakeDone(source netip.Prefix) {
	if !source.IsValid() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.handshakes[source]--; r.handshakes[source] == 0 {
		delete(r.handshakes, source)
	}
}

// add registers a session of a connection that was admitted. When the server drains it
// takes the connection off those that are open, and returns false.
func (r *registry) add(s *session.Session, l *listener) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining {
		r.open--
		return false
	}
	r.sessions[s] = l
	return true
}

// remove forgets a session and adds what it carried to the totals, in one step,
// so that traffic counts nothing twice.
func (r *registry) remove(s *session.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, s)
	r.open--
	r.ended.Add(s.Traffic())
}

// cut cuts the sessions that came from a listener.
func (r *registry) cut(l *listener) {
	for _, s := range r.of(l, nil) {
		s.Cut()
	}
}

// of appends the sessions that came from a listener.
func (r *registry) of(l *listener, sessions []*session.Session) []*session.Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s, from := range r.sessions {
		if from == l {
			sessions = append(sessions, s)
		}
	}
	return sessions
}

// byAge returns the sessions, the oldest first.
func (r *registry) byAge() []*session.Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	sessions := make([]*session.Session, 0, len(r.sessions))
	for s := range r.sessions {
		sessions = append(sessions, s)
	}
	slices.SortFunc(sessions, func(a, b *session.Session) int {
		return cmp.Compare(a.Began().UnixNano(), b.Began().UnixNano())
	})
	return sessions
}

// active returns how many sessions there are.
func (r *registry) active() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sessions)
}

// traffic adds up what all sessions have carried, and returns how many there are now.
func (r *registry) traffic(sum *session.Traffic) (active int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sum.Add(&r.ended)
	for s := range r.sessions {
		sum.Add(s.Traffic())
	}
	return len(r.sessions)
}
