package server

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"kafka-sni-proxy/internal/session"
)

// OneNameError is of a client that names one server for all brokers in its TLS handshakes,
// or none: each of its connections leads to a bootstrap server, and brokers answer requests
// for other brokers' partitions with NOT_LEADER_OR_FOLLOWER, for ever.
type OneNameError struct{ ServerName string }

func (e *OneNameError) Error() string {
	return "a client asks for partitions of other brokers by the name " + e.ServerName + ": it names one server for all brokers, or none, and reaches one broker only"
}

const (
	// manyNotLeader is how many such responses a session by the bootstrap name has to have
	// had. Clients do not produce or fetch by that name, unless they have no other; a
	// leader that has just moved may account for one or two.
	manyNotLeader = 5
	// maxOneName bounds the addresses that are remembered. Those beyond it are not warned
	// about.
	maxOneName = 1000
)

// oneName remembers which client addresses have been warned about. The zero value is ready
// to use.
type oneName struct {
	warned atomic.Int64

	mu   sync.Mutex
	seen map[netip.Addr]struct{}
}

// first reports whether an address is to be warned about.
func (o *oneName) first(client net.Addr) bool {
	tcp, ok := client.(*net.TCPAddr)
	if !ok {
		return false
	}
	addr := tcp.AddrPort().Addr().Unmap()
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, seen := o.seen[addr]; seen || len(o.seen) >= maxOneName {
		return false
	}
	if o.seen == nil {
		o.seen = map[netip.Addr]struct{}{}
	}
	o.seen[addr] = struct{}{}
	o.warned.Add(1)
	return true
}

// reachesOneBroker reports whether a session's client is such a one.
func reachesOneBroker(t *session.Traffic) bool { return t.NotLeader.Load() >= manyNotLeader }

// warnOneName warns once per client address.
func (s *Server) warnOneName(client net.Addr, serverName string) {
	if !s.oneName.first(client) {
		return
	}
	err := &OneNameError{serverName}
	s.log.Warn(err.Error(), slog.String("client", client.String()), slog.String("sni", serverName), slog.String("hint", s.config.Hint(err)))
}
