package server

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"kafka-sni-proxy/internal/histogram"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/session"
)

// shareOf says whose share something is: of the clients that came by a listener, those that
// were led to a cluster; "" for those that were led to none.
type shareOf struct{ cluster, listener string }

// share is what the clients of a listener that were led to one cluster have done. It is kept
// under registry.mu. That of a cluster that is no more is forgotten with the last of its sessions: were it
// added to another one, what was counted in days would seem to have come within a second there.
type share struct {
	of       shareOf
	active   int
	ended    session.Traffic
	failures [len(session.Phases)]int64

	// Of the share of no cluster alone, as it is not known yet where a client is led:
	accepted   int64
	handshakes [2]int64 // full and resumed
	shaking    histogram.Histogram
}

// share returns a share, which is made if there is none. The caller holds r.mu.
func (r *registry) share(cluster, listener string) *share {
	of := shareOf{cluster, listener}
	is := r.shares[of]
	if is == nil {
		is = &share{of: of}
		r.shares[of] = is
	}
	return is
}

// expect has a listener counted from the beginning: what is 0 is told, too.
func (r *registry) expect(listener string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.share("", listener)
}

// accepted counts a connection that a listener has accepted.
func (r *registry) accepted(listener string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.share("", listener).accepted++
}

// shaken counts a client's handshake that is over.
func (r *registry) shaken(s *session.Session) {
	took, resumed := s.Shaken()
	kind := 0
	if resumed {
		kind = 1
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.share("", r.sessions[s].share.of.listener)
	of.handshakes[kind]++
	of.shaking.Add(took)
}

// failed counts the failure of a session, which is still there.
func (r *registry) failed(cluster, listener string, phase session.Phase) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.share(cluster, listener).failures[phase]++
}

// ShareStats is what the clients of a listener that were led to one cluster have done.
type ShareStats struct {
	Cluster, Listener string // Cluster "": those that were led to none
	Active            int    // sessions now
	Failures          map[string]int64
	Carried

	// With Cluster "" alone, of all clients of the listener:
	Accepted            int64
	Handshakes, Resumed int64              // full ones, and of resumed TLS sessions
	HandshakeTimes      histogram.Snapshot // from accept
}

// shareStats returns all shares. Those of clusters that are not among those that there are, and
// have no session any more, are forgotten.
func (r *registry) shareStats(clusters map[string]bool) []ShareStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.shares, func(of shareOf, is *share) bool {
		return of.cluster != "" && !clusters[of.cluster] && is.active == 0
	})
	sums := map[*share]*session.Traffic{}
	for _, is := range r.shares {
		sums[is] = new(session.Traffic)
		sums[is].Add(&is.ended)
	}
	for s, m := range r.sessions {
		sums[m.share].Add(s.Traffic())
	}
	all := make([]ShareStats, 0, len(r.shares))
	for _, is := range r.shares {
		st := ShareStats{Cluster: is.of.cluster, Listener: is.of.listener, Active: is.active, Failures: map[string]int64{}, Carried: carried(sums[is]),
			Accepted: is.accepted, Handshakes: is.handshakes[0], Resumed: is.handshakes[1]}
		for _, phase := range session.Phases {
			st.Failures[phase.String()] = is.failures[phase]
		}
		is.shaking.AddTo(&st.HandshakeTimes)
		all = append(all, st)
	}
	slices.SortFunc(all, func(a, b ShareStats) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Listener, b.Listener))
	})
	return all
}

// SessionView is a session at a moment.
type SessionView struct {
	ID uint64 // since the start, from 1
	session.Snapshot
	// BytesPerSecond is both ways, since it was looked at last, a second ago or more, or else
	// since it began.
	BytesPerSecond float64
}

// look is what a session had carried when it was looked at.
type look struct {
	at    time.Time
	bytes int64
	rate  float64
}

// looks are those at the sessions that were there when they were listed last.
type looks struct {
	at map[uint64]look
}

// Sessions returns what all sessions are at.
func (s *Server) Sessions() []SessionView {
	s.registry.mu.Lock()
	all := make([]SessionView, 0, len(s.registry.sessions))
	sessions := make([]*session.Session, 0, len(s.registry.sessions))
	for ss, m := range s.registry.sessions {
		all = append(all, SessionView{ID: m.id})
		sessions = append(sessions, ss)
	}
	s.registry.mu.Unlock()
	for i, ss := range sessions {
		all[i].Snapshot = ss.Snapshot()
	}
	s.rate(all)
	return all
}

// rate finds out how much sessions carry in a second.
func (s *Server) rate(all []SessionView) {
	now := time.Now()
	s.looksMu.Lock()
	defer s.looksMu.Unlock()
	next := make(map[uint64]look, len(all))
	for i := range all {
		v := &all[i]
		bytes := v.RequestBytes + v.ResponseBytes
		last, seen := s.looks.at[v.ID]
		if !seen {
			last = look{at: v.Began}
		}
		if age := now.Sub(last.at); age >= time.Second || !seen {
			last = look{now, bytes, float64(bytes-last.bytes) / max(age.Seconds(), 1e-3)}
		}
		v.BytesPerSecond = last.rate
		next[v.ID] = last
	}
	s.looks.at = next
}

// Waiting returns what sessions wait for, by cluster.
func (s *Server) Waiting() map[string]session.Waiting {
	all := map[string]session.Waiting{}
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	for ss, m := range s.registry.sessions {
		if w := ss.Waiting(); w != (session.Waiting{}) {
			sum := all[m.share.of.cluster]
			sum.Add(w)
			all[m.share.of.cluster] = sum
		}
	}
	return all
}

// ClusterDetails is what is known of a cluster, and is too much for each scrape.
type ClusterDetails struct {
	Name, ID, Bootstrap string
	Upstreams           []route.Address
	Plaintext           bool // towards the brokers
	Routes              []route.Entry
}

// Details returns what is known of the clusters, by name.
func (s *Server) Details() []ClusterDetails {
	var all []ClusterDetails
	for _, c := range s.Clusters() {
		all = append(all, ClusterDetails{c.Name(), c.Routes().ClusterID(), c.Bootstrap(), c.Upstreams(), c.IsPlaintext(), c.Routes().Entries()})
	}
	return all
}
