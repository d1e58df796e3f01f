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
	mu         sync.Mutex
	limits     Limits
	open       int                  // connections admitted
	handshakes map[netip.Prefix]int // and of those, in their handshake, by source
	sessions   map[*session.Session]membership
	listeners  map[*Socket]struct{} // from NewSocket to the end of Serve
	closed     bool                 // no new connections
	draining   bool                 // and no new sessions of those that were accepted
	ended      session.Traffic      // of the sessions that are over
	shares     map[shareOf]*share
	lastID     uint64
	running    sync.WaitGroup // listeners; those wait for their sessions
}

// membership says where a session belongs.
type membership struct {
	id      uint64 // since the start, from 1
	socket  *Socket
	cluster *tally // nil: not known yet
	share   *share
}

func newRegistry(limits Limits) *registry {
	return &registry{
		limits:     limits,
		handshakes: map[netip.Prefix]int{},
		sessions:   map[*session.Session]membership{},
		listeners:  map[*Socket]struct{}{},
		shares:     map[shareOf]*share{},
	}
}

func (r *registry) setLimits(l Limits) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.limits = l
}

// register notes a socket that is going to be served.
func (r *registry) register(l *Socket) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.listeners[l] = struct{}{}
	}
}

// listen notes that a socket is served from now on. It returns false, and forgets the socket,
// when no more are accepted from.
func (r *registry) listen(l *Socket) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || l.retired.Load() {
		delete(r.listeners, l)
		return false
	}
	r.running.Add(1)
	return true
}

// unlisten closes a listener, and forgets it.
func (r *registry) unlisten(l *Socket) {
	l.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.listeners, l)
	r.running.Done()
}

// listening returns the listeners that are accepted from, or have sessions that came from them.
func (r *registry) listening() []*Socket {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*Socket, 0, len(r.listeners))
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

// admit counts one more connection, until its session is removed. It returns the limit
// that forbids it, "" if none does.
func (r *registry) admit() LimitError {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.limits.MaxConnections > 0 && r.open >= r.limits.MaxConnections {
		return LimitConnections
	}
	r.open++
	return ""
}

// admitHandshake counts one more handshake of a client, until handshakeDone is called with
// the source that it returns. It returns the limit that forbids it, "" if none does.
func (r *registry) admitHandshake(client net.Addr) (source netip.Prefix, exceeded LimitError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.limits.MaxHandshakesPerAddress == 0 {
		return netip.Prefix{}, ""
	}
	if source = sourceOf(client); !source.IsValid() {
		return source, ""
	}
	if r.handshakes[source] >= r.limits.MaxHandshakesPerAddress {
		return source, LimitHandshakes
	}
	r.handshakes[source]++
	return source, ""
}

// release takes a connection off those that are open.
func (r *registry) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open--
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
func (r *registry) add(s *session.Session, l *Socket, label string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining {
		r.open--
		return false
	}
	if l.retired.Load() { // while it was accepted
		r.open--
		return false
	}
	r.lastID++
	m := membership{id: r.lastID, socket: l, share: r.share("", label)}
	m.share.active++
	r.sessions[s] = m
	return true
}

// assign notes a session's cluster. It ends the session if the cluster has gone meanwhile.
func (r *registry) assign(s *session.Session, t *tally) {
	name := s.Destination().Name()
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.sessions[s]
	m.cluster = t
	m.share.active--
	m.share = r.share(name, m.share.of.listener)
	m.share.active++
	r.sessions[s] = m
	t.led++
	if t.active++; t.gone {
		s.Drain()
	}
}

// remove forgets a session and adds what it carried to the totals, in one step,
// so that traffic counts nothing twice.
func (r *registry) remove(s *session.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.sessions[s]
	delete(r.sessions, s)
	r.open--
	r.ended.Add(s.Traffic())
	m.share.active--
	m.share.ended.Add(s.Traffic())
	if t := m.cluster; t != nil {
		t.active--
		t.open.Add(-1)
		t.ended.Add(s.Traffic())
	}
}

// cut cuts the sessions that came from a listener.
func (r *registry) cut(l *Socket) {
	for _, s := range r.where(func(m membership) bool { return m.socket == l }) {
		s.Cut()
	}
}

// retire closes sockets, and returns the sessions that came from them, the oldest first.
func (r *registry) retire(sockets []*Socket) []*session.Session {
	r.mu.Lock()
	for _, l := range sockets {
		l.retired.Store(true)
		l.Close()
	}
	r.mu.Unlock()
	return r.where(func(m membership) bool { return m.socket.retired.Load() })
}

// ofClusters returns the sessions of clusters, the oldest first.
func (r *registry) ofClusters(clusters []*Cluster) []*session.Session {
	all := map[*tally]bool{}
	r.mu.Lock()
	for _, c := range clusters {
		all[c.tally] = true
		c.tally.gone = true
	}
	r.mu.Unlock()
	return r.where(func(m membership) bool { return all[m.cluster] })
}

// where returns the sessions that belong somewhere, the oldest first.
func (r *registry) where(belongs func(membership) bool) []*session.Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	var sessions []*session.Session
	for s, m := range r.sessions {
		if belongs(m) {
			sessions = append(sessions, s)
		}
	}
	sortByAge(sessions)
	return sessions
}

// all appends all sessions.
func (r *registry) all(sessions []*session.Session) []*session.Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.sessions {
		sessions = append(sessions, s)
	}
	return sessions
}

// byAge returns the sessions, the oldest first.
func (r *registry) byAge() []*session.Session {
	sessions := r.all(nil)
	sortByAge(sessions)
	return sessions
}

func sortByAge(sessions []*session.Session) {
	slices.SortFunc(sessions, func(a, b *session.Session) int {
		return cmp.Compare(a.Began().UnixNano(), b.Began().UnixNano())
	})
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

// trafficOf adds up what the sessions of each cluster have carried, and returns how many
// there are of each now, and how many there were.
func (r *registry) trafficOf(sums map[*tally]*session.Traffic) (active map[*tally]int, led map[*tally]int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	active, led = make(map[*tally]int, len(sums)), make(map[*tally]int64, len(sums))
	for t, sum := range sums {
		sum.Add(&t.ended)
		active[t], led[t] = t.active, t.led
	}
	for s, m := range r.sessions {
		if sum := sums[m.cluster]; sum != nil {
			sum.Add(s.Traffic())
		}
	}
	return active, led
}
