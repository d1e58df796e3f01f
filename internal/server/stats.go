package server

import (
	"sync/atomic"

	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/session"
)

// Stats is a snapshot of what a server has done since it was made.
type Stats struct {
	Accepted     int64 // connections accepted
	AcceptErrors int64 // failed accepts, each followed by a pause
	Active       int   // sessions now
	Draining     bool  // Shutdown or Leave was called

	// Refused counts the connections that were refused on arrival, by the limit
	// that they would have exceeded: "connections", "handshakes-per-address" or
	// "cluster-connections".
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

	Carried
	OneNameClients int64 // client addresses that name one server for all brokers, see OneNameError

	// Clusters has what belongs to one cluster, by its name.
	Clusters map[string]ClusterStats
	// Shares has what belongs to the clients of one listener that were led to one cluster.
	Shares []ShareStats
}

// Carried is what sessions have carried.
type Carried struct {
	RequestBytes, ResponseBytes int64 // forwarded upstream and downstream, as plaintext
	Requests, Responses         int64 // frames
	Rewritten                   int64 // responses in which something was replaced
	EndpointsDropped            int64 // endpoints left out of a response: they did not fit, or the client has no address for them
}

func carried(t *session.Traffic) Carried {
	return Carried{
		RequestBytes:     t.RequestBytes.Load(),
		ResponseBytes:    t.ResponseBytes.Load(),
		Requests:         t.Requests.Load(),
		Responses:        t.Responses.Load(),
		Rewritten:        t.Rewritten.Load(),
		EndpointsDropped: t.EndpointsDropped.Load(),
	}
}

// failures are counts of failures, by the phase in which they happened.
type failures [len(session.Phases)]atomic.Int64

// byName returns the counts by the phases' names.
func (f *failures) byName() map[string]int64 {
	counts := make(map[string]int64, len(f))
	for _, phase := range session.Phases {
		counts[phase.String()] = f[phase].Load()
	}
	return counts
}

// ClusterStats is what the sessions of one cluster have done, and what is known of it.
type ClusterStats struct {
	Active   int              // sessions now
	Led      int64            // sessions that were led to it so far
	Refused  int64            // clients over the cluster's limit
	Failures map[string]int64 // as in Stats: those of clients that were led to the cluster
	Carried
	BrokersWithoutPort    int64 // responses refused because they name a broker that has no port
	Brokers               int   // brokers learned
	OtherClusterAddresses int   // addresses that told another cluster's id
	MaxConnections        int   // that there may be; 0: any number
	cluster.Counts
	Health []cluster.Health // of the addresses that were dialled
	Meter  *session.Meter   // what its sessions measure
}

type counters struct {
	accepted, acceptErrors atomic.Int64
	panics                 atomic.Int64
	overConnections        atomic.Int64
	overHandshakes         atomic.Int64
	overCluster            atomic.Int64
	idle, aged             atomic.Int64
	failures               failures
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
	st := Stats{
		Accepted:     s.stats.accepted.Load(),
		AcceptErrors: s.stats.acceptErrors.Load(),
		Active:       active,
		Draining:     s.Draining(),
		Refused: map[string]int64{
			string(LimitConnections):        s.stats.overConnections.Load(),
			string(LimitHandshakes):         s.stats.overHandshakes.Load(),
			string(LimitClusterConnections): s.stats.overCluster.Load(),
		},
		Retired: map[string]int64{
			string(session.RetiredIdle): s.stats.idle.Load(),
			string(session.RetiredAge):  s.stats.aged.Load(),
		},
		Panics:         s.stats.panics.Load(),
		Failures:       s.stats.failures.byName(),
		Carried:        carried(&sum),
		OneNameClients: s.oneName.warned.Load(),
	}
	st.Clusters = s.clusterStats()
	known := map[string]bool{}
	for name := range st.Clusters {
		known[name] = true
	}
	st.Shares = s.registry.shareStats(known)
	return st
}

func (s *Server) clusterStats() map[string]ClusterStats {
	clusters := s.Clusters()
	sums := make(map[*tally]*session.Traffic, len(clusters))
	for _, c := range clusters {
		sums[c.tally] = new(session.Traffic)
	}
	active, led := s.registry.trafficOf(sums)
	all := make(map[string]ClusterStats, len(clusters))
	for _, c := range clusters {
		sum := sums[c.tally]
		all[c.Name()] = ClusterStats{
			Active:                active[c.tally],
			Led:                   led[c.tally],
			Refused:               c.tally.refused.Load(),
			Failures:              c.tally.failures.byName(),
			Carried:               carried(sum),
			BrokersWithoutPort:    c.tally.withoutPort.Load(),
			Brokers:               c.Brokers(),
			OtherClusterAddresses: c.Others(),
			MaxConnections:        c.MaxConnections,
			Counts:                c.Counts(),
			Health:                c.Health(),
			Meter:                 &c.tally.meter,
		}
	}
	return all
}
