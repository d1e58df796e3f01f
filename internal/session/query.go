package session

import (
	"time"

	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/route"
)

// inBandQuery is of a session that may be at the wrong broker: one that a bootstrap
// server serves in a broker's place, one by a route that only a file told, or one at an
// address that may lead to another cluster.
//
// A cluster with SASL does not answer the proxy, but it does answer this client, who has
// authenticated by now. So the broker is asked here, with a query between two of the
// client's requests. The client's own metadata may be of no help: behind a load balancer
// it goes through another proxy.
type inBandQuery struct {
	next     time.Duration // after the session began: when to query
	answered chan int      // gets the number of brokers in a response; closed when no more come
	unwatch  func()
}

// isDoubtful reports whether the session may be at the wrong broker.
func (s *Session) isDoubtful() bool {
	return s.route.Kind != route.Bootstrap && !s.route.Confirmed || s.cluster.Suspect(s.address) != nil
}

// holdRequests has beforeRequest called before each request that is no part of a
// client's greeting (ApiVersions, SASL).
func (s *Session) holdRequests() {
	q := &inBandQuery{answered: make(chan int, 1)}
	s.query = q
	s.requests.Hold = true
	s.responses.QueryAnswered = func(brokers int) {
		select {
		case q.answered <- brokers:
		default: // late, and nobody has waited for the one before either
		}
	}
}

// beforeRequest is called before a request is forwarded while requests are held. The
// request waits for what the broker answers. When that sends the client elsewhere, the
// request has not been anywhere else before.
func (s *Session) beforeRequest() error {
	if s.life.state() != open {
		return errDrained
	}
	age, suspect := time.Since(s.began), s.cluster.Suspect(s.address)
	if age < s.query.next && suspect == nil {
		return nil
	}
	if settled, err := s.settled(); settled {
		return err
	}
	if s.query.next = s.cluster.NextInBandQuery().Sub(s.began); age < s.query.next && suspect == nil {
		return nil
	}
	s.query.next = age + cluster.InBandPause
	if err := s.askBroker(); err != nil {
		return err
	}
	if s.life.state() != open {
		return errDrained
	}
	settled, err := s.settled()
	if suspect := s.cluster.Suspect(s.address); !settled && suspect != nil {
		return &Error{PhaseCluster, suspect}
	}
	return err
}

// askBroker sends the query and waits for the response to it.
func (s *Session) askBroker() error {
	select {
	case <-s.query.answered: // of a query that was given up
	default:
	}
	if err := s.requests.Query(cluster.MetadataQuery); err != nil {
		return err
	}
	if err := s.broker.Flush(); err != nil {
		return err
	}
	defer s.broker.Cork()
	late := time.NewTimer(cluster.QueryTimeout)
	defer late.Stop()
	brokers := 0
	select {
	case brokers = <-s.query.answered:
	case <-late.C:
	}
	s.cluster.NoteInBandQuery(brokers > 0, s.address)
	return nil
}

// settled reports whether it is known where the session's broker is. When it
// is elsewhere, the session drains and the error says so.
func (s *Session) settled() (bool, error) {
	if s.cluster.Suspect(s.address) != nil {
		return false, nil
	}
	if s.route.Kind != route.Bootstrap {
		r, err := s.cluster.Again(&s.route)
		if err != nil || !r.Confirmed {
			return false, nil
		}
		if r.Addresses[0] != s.address {
			s.Drain()
			return true, errDrained
		}
	}
	s.requests.Hold = false
	return true, nil
}
