package server

import (
	"errors"
	"maps"
	"slices"
	"sync/atomic"

	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/session"
)

// Cluster is a cluster as a server leads clients to it. It is a value: when its settings
// change, there is a new one of the same name.
type Cluster struct {
	*cluster.Cluster
	// MaxConnections is how many of its clients may be connected. 0: any number.
	MaxConnections int
	// Auth lets its clients in. Nil: that is between them and the brokers.
	Auth session.Authentication

	tally *tally // set by SetClusters
}

// tally counts what the clients of the clusters of one name do.
type tally struct {
	open        atomic.Int64 // clients that were let in
	refused     atomic.Int64 // clients over the limit
	withoutPort atomic.Int64 // responses refused for want of a port for a broker
	failures    failures
	meter       session.Meter

	// Under registry.mu.
	gone   bool            // there is no such cluster any more
	active int             // sessions
	led    int64           // sessions that there were, those included
	ended  session.Traffic // of the sessions that are over
}

// admit counts one more client, until its session is removed, unless there are as many as
// there may be.
func (c *Cluster) admit() bool {
	if open := c.tally.open.Add(1); c.MaxConnections > 0 && open > int64(c.MaxConnections) {
		c.tally.open.Add(-1)
		c.tally.refused.Add(1)
		return false
	}
	return true
}

// tallyOf returns the tally of a session's cluster; nil for none.
func tallyOf(d *session.Destination) *tally {
	if d == nil {
		return nil
	}
	return d.Cluster.(*Cluster).tally
}

// SetClusters sets the clusters that there are. Those of the same name as before go on
// counting. It must be called before a listener leads clients to them.
func (s *Server) SetClusters(all ...*Cluster) {
	s.clustersMu.Lock()
	defer s.clustersMu.Unlock()
	now := map[string]*Cluster{}
	for _, c := range all {
		now[c.Name()] = c
		if c.tally != nil {
			continue
		}
		if before := s.clusters[c.Name()]; before != nil {
			c.tally = before.tally
		} else {
			c.tally = new(tally)
		}
	}
	s.clusters = now
}

// Clusters returns the clusters that there are, by name.
func (s *Server) Clusters() []*Cluster {
	s.clustersMu.Lock()
	defer s.clustersMu.Unlock()
	all := make([]*Cluster, 0, len(s.clusters))
	for _, name := range slices.Sorted(maps.Keys(s.clusters)) {
		all = append(all, s.clusters[name])
	}
	return all
}

// failed counts a session's failure for its cluster.
func (t *tally) failed(e *session.Error) {
	t.failures[e.Phase].Add(1)
	if errors.As(e, new(*route.NoPortError)) {
		t.withoutPort.Add(1)
	}
}
