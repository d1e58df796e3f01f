package kafka

import "sync"

// maxInFlight is how many requests of one connection may be without a response
// before no more are read. Clients have a handful in flight. It is more than the
// requests that fit one slice given to [Requests.Forward] (12 bytes each at the
// least), so that those waited for have always been forwarded.
const maxInFlight = 16 << 10

// InFlight is the requests that were forwarded and have no response yet, in order. A
// broker answers each connection's requests in the order in which they came.
//
// [Requests] adds to it and [Responses] takes from it; they may do so from two
// goroutines. The zero value is ready to use.
type InFlight struct {
	mu     sync.Mutex
	room   sync.Cond // signalled when there is room again, or no need for it
	ring   []pending // a power of two long, or empty
	first  int
	count  int
	closed bool
	sasl   handshakeState
}

// pending is one request without an answer yet.
type pending struct {
	correlation  int32
	key, version int16
	kind         pendingKind
	api          *api  // nil: the answer carries no addresses
	at           int64 // when it came: Requests.Now
}

type pendingKind uint8

const (
	kafkaRequest  pendingKind = iota
	saslHandshake             // SaslHandshake v0: bare tokens follow if it succeeds
	saslToken                 // a bare token; its answer has no correlation id
	query                     // the proxy's own request; its response is not for the client
)

// Len returns how many requests have no answer yet.
func (o *InFlight) Len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.count
}

// Oldest returns the request that has had no response for longest: when it came, as
// [Requests.Now] was then, its API key, and how many there are; 0: none.
func (o *InFlight) Oldest() (at int64, key int16, waiting int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.count == 0 {
		return 0, 0, 0
	}
	head := &o.ring[o.first]
	return head.at, head.key, o.count
}

// Close has a Requests that waits for room give up. The session is over.
func (o *InFlight) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if o.room.L != nil {
		o.room.Broadcast()
	}
}

// push adds a request. It waits while too many have no answer, and reports
// false when the session ended meanwhile.
func (o *InFlight) push(p pending) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.count == maxInFlight && !o.closed {
		o.room.L = &o.mu
		o.room.Wait()
	}
	if o.closed {
		return false
	}
	if o.count == len(o.ring) {
		o.grow()
	}
	o.ring[(o.first+o.count)&(len(o.ring)-1)] = p
	o.count++
	if p.kind == saslHandshake {
		o.sasl.state.Store(handshakeWaiting)
	}
	return true
}

func (o *InFlight) grow() {
	ring := make([]pending, max(4, 2*len(o.ring)))
	for i := range o.count {
		ring[i] = o.ring[(o.first+i)&(len(o.ring)-1)]
	}
	o.ring, o.first = ring, 0
}

// head returns the request that is to be answered next, and whether any is.
func (o *InFlight) head() (pending, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.count == 0 {
		return pending{}, false
	}
	return o.ring[o.first], true
}

// pop takes the head away: its answer has come.
func (o *InFlight) pop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.first = (o.first + 1) & (len(o.ring) - 1)
	if o.count == maxInFlight && o.room.L != nil {
		o.room.Broadcast()
	}
	o.count--
}

// tokenInFlight reports whether a bare token has no answer yet.
func (o *InFlight) tokenInFlight() bool {
	p, ok := o.head()
	return ok && p.kind == saslToken
}

// second returns the request behind the head, and whether there is one.
func (o *InFlight) second() (pending, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.count < 2 {
		return pending{}, false
	}
	return o.ring[(o.first+1)&(len(o.ring)-1)], true
}
