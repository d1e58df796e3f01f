package server

import (
	"sync/atomic"

	"kafka-sni-proxy/internal/session"
)

// Stats is a snapshot of what a server has done since it was made.
type Stats struct {
	Accepted     int64 // connections accepted
	AcceptErrors int64 // failed accepts, each followed by a pause
	Active       int   // sessions now
	Draining     bool  // Shutdown or Leave was called

	// Refused counts the connections that were refused on arrival, by the limit
	// that they would have exceeded: "connections" or "handshakes-per-address".
	Refused map[string]int64
	// Retired counts the sessions that were ended in good order, by what for:
	// "idle" or "age".
	Retired map[string]int64

	Panics int64 // recovered, each of which ended one session at the most

	// Failures counts the sessions that ended with an error, by the phase it
	// happened in: "first-byte", "handshake", "route", "dial", "upstream-tls",
	// "cluster", "request", "response" or "rewrite". Every phase is present. A peer
	// that just goes away is no failure.
	Failures map[string]int64

	RequestBytes, ResponseBytes int64 // forwarded upstream and downstream, as plaintext
	Requests, Responses         int64 // frames
	Rewritten                   int64 // responses in which something was replaced
	EndpointsDropped            int64 // endpoints left out of a response because they did not fit
	Brokers                     int   // brokers learned
	OtherClusterAddresses       int   // addresses that told another cluster's id
	OneNameClients              int64 // client addresses that name one server for all brokers, see OneNameError
}

type counters struct {
	accepted, acceptErrors atomic.Int64
	panics                 atomic.Int64
	overConnections        atomic.Int64
	overHandshakes         atomic.Int64
	idle, aged             atomic.Int64
	failures               [len(session.Phases)]atomic.Int64
}

func (c *counters) retired(reason session.Retired) *atomic.Int64 {
	if reason == session.RetiredIdle {
		return &c.idle
	}
	return &c.aged
}

// Stats returns what the server has done so far, running sessions included.
func (s *Server) Stats() Stats {
	var sum session.Traffic
	active := s.registry.traffic(&sum)
	c := s.cluster.Load()
	st := Stats{
		Accepted:     s.stats.accepted.Load(),
		AcceptErrors: s.stats.acceptErrors.Load(),
		Active:       active,
		Draining:     s.Draining(),
		Refused: map[string]int64{
			string(LimitConnections): s.stats.overConnections.Load(),
			string(LimitHandshakes):  s.stats.overHandshakes.Load(),
		},
		Retired: map[string]int64{
			string(session.RetiredIdle): s.stats.idle.Load(),
			string(session.RetiredAge):  s.stats.aged.Load(),
		},
		Panics:                s.stats.panics.Load(),
		Failures:              make(map[string]int64, len(session.Phases)),
		RequestBytes:          sum.RequestBytes.Load(),
		ResponseBytes:         sum.ResponseBytes.Load(),
		Requests:              sum.Requests.Load(),
		Responses:             sum.Responses.Load(),
		Rewritten:             sum.Rewritten.Load(),
		EndpointsDropped:      sum.EndpointsDropped.Load(),
		Brokers:               c.Brokers(),
		OtherClusterAddresses: c.Others(),
		OneNameClients:        s.oneName.warned.Load(),
	}
	for _, phase := range session.Phases {
		st.Failures[phase.String()] = s.stats.failures[phase].Load()
	}
	return st
}
