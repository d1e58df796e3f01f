package proxy

import (
	"sync/atomic"
)

// Stats is a snapshot of what a proxy has done since it was made.
type Stats struct {
	Accepted     int64 // connections accepted
	AcceptErrors int64 // failed accepts, each followed by a pause
	Active       int   // connections now
	Draining     bool  // Shutdown or Leave was called

	// Refused counts the connections that were refused on arrival, by the limit
	// that they would have exceeded: "connections" or "handshakes-per-address".
	Refused map[string]int64
	// Retired counts the connections that were ended in good order, by what for:
	// "idle" or "age".
	Retired map[string]int64

	Panics int64 // caught, each of which ended one session at the most

	// Failures counts the connections that ended with an error, by the phase it
	// happened in: "first-byte", "handshake", "route", "dial", "upstream-tls",
	// "request", "response" or "rewrite". Every phase is present. A peer that
	// just goes away is no failure.
	Failures map[string]int64

	RequestBytes, ResponseBytes int64 // forwarded upstream and downstream, as plaintext
	Requests, Responses         int64 // frames
	Rewritten                   int64 // responses in which something was replaced
	EndpointsDropped            int64 // endpoints left out of a response because they did not fit
	Brokers                     int   // brokers learned
}

// traffic is what one session has carried. The session's goroutines write it,
// each its own fields, and Stats reads it.
type traffic struct {
	up, down            atomic.Int64
	requests, responses atomic.Int64
	rewritten, dropped  atomic.Int64
}

func (t *traffic) add(u *traffic) {
	t.up.Add(u.up.Load())
	t.down.Add(u.down.Load())
	t.requests.Add(u.requests.Load())
	t.responses.Add(u.responses.Load())
	t.rewritten.Add(u.rewritten.Load())
	t.dropped.Add(u.dropped.Load())
}

type counters struct {
	accepted, acceptErrors atomic.Int64
	panics                 atomic.Int64
	overConnections        atomic.Int64
	overHandshakes         atomic.Int64
	idle, aged             atomic.Int64
	failures               [len(phaseNames)]atomic.Int64
	ended                  traffic // of the sessions that are over
}

// Stats returns what the proxy has done so far, running sessions included.
func (p *Proxy) Stats() Stats {
	p.init()
	p.mu.Lock()
	defer p.mu.Unlock()
	var sum traffic
	sum.add(&p.stats.ended)
	for s := range p.sessions {
		sum.add(&s.traffic)
	}
	st := Stats{
		Accepted:     p.stats.accepted.Load(),
		AcceptErrors: p.stats.acceptErrors.Load(),
		Active:       len(p.sessions),
		Draining:     p.draining || p.leaving,
		Refused: map[string]int64{
			string(limitConnections): p.stats.overConnections.Load(),
			string(limitHandshakes):  p.stats.overHandshakes.Load(),
		},
		Retired: map[string]int64{
			string(retiredIdle): p.stats.idle.Load(),
			string(retiredAge):  p.stats.aged.Load(),
		},
		Panics:           p.stats.panics.Load(),
		Failures:         make(map[string]int64, len(phaseNames)),
		RequestBytes:     sum.up.Load(),
		ResponseBytes:    sum.down.Load(),
		Requests:         sum.requests.Load(),
		Responses:        sum.responses.Load(),
		Rewritten:        sum.rewritten.Load(),
		EndpointsDropped: sum.dropped.Load(),
		Brokers:          p.Routes.Known(),
	}
	for i, name := range phaseNames {
		st.Failures[name] = p.stats.failures[i].Load()
	}
	return st
}
