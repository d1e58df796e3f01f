package session

import (
	"sync"
	"sync/atomic"
)

// state is where a session is in its life. It only goes forward.
type state uint32

const (
	// starting is up to the connection to the broker. No request has been read, so
	// there is nothing to lose.
	starting state = iota
	// open: requests and responses flow.
	open
	// draining: this side ends the session. No more requests are read, from the next
	// frame boundary on.
	draining
	// drained: the last request has been read, because the session drains. Responses
	// to requests in flight still flow.
	drained
	// finishing: the client has sent its last request and ended its stream, or has
	// gone. Responses to requests in flight still flow.
	finishing
	// cut: the connections have been closed from here.
	cut

	states = iota
)

func (s state) String() string {
	return [states]string{"starting", "open", "draining", "drained", "finishing", "cut"}[s]
}

// event is what moves a session from one state to the next.
type event int

const (
	connected    event = iota // the broker was reached
	drain                     // the session is to be ended in good order
	requestsDone              // no more requests will be read
	cutOff                    // the session is to be ended at once

	events = iota
)

// transitions has the next state for each state and event.
var transitions = [states][events]state{
	//            connected  drain      requestsDone cutOff
	starting:  {open, cut, cut, cut},
	open:      {open, draining, finishing, cut},
	draining:  {draining, draining, drained, cut},
	drained:   {drained, drained, drained, cut},
	finishing: {finishing, finishing, finishing, cut},
	cut:       {cut, cut, cut, cut},
}

// lifecycle is a session's state, and why this side ended it. Any goroutine may move
// it; the zero value is starting.
type lifecycle struct {
	now atomic.Uint32 // a state

	mu     sync.Mutex
	reason error
}

func (l *lifecycle) state() state { return state(l.now.Load()) }

// on moves the session on, and returns the state it was in and the one it is in now.
func (l *lifecycle) on(e event) (from, to state) {
	for {
		from = l.state()
		to = transitions[from][e]
		if from == to || l.now.CompareAndSwap(uint32(from), uint32(to)) {
			return from, to
		}
	}
}

// setEndReason records why this side ends the session. It returns false if a reason
// was already set, which then stays.
func (l *lifecycle) setEndReason(reason error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reason != nil {
		return false
	}
	l.reason = reason
	return true
}

// endReason returns why this side ended the session; nil: its peers did, or a shutdown.
func (l *lifecycle) endReason() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reason
}
