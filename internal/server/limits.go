package server

import (
	"log/slog"
	"net"
	"net/netip"

	"kafka-sni-proxy/internal/tlswire"
)

// LimitError is the limit that a connection was refused by, before anything was read
// from it.
type LimitError string

const (
	LimitConnections LimitError = "connections"
	LimitHandshakes  LimitError = "handshakes-per-address"
)

func (l LimitError) Error() string { return "limit reached: " + string(l) }

// admit counts a connection until its session is removed, and its handshake
// until registry.handshakeDone is called with the source that it returns; or it resets
// the connection.
//
// A refused client knows at once, and can try another proxy of the same name.
// Left in the kernel's queue it would wait for its own timeout, and a load
// balancer that only connects would go on to find the proxy well.
func (s *Server) admit(conn net.Conn) (source netip.Prefix, ok bool) {
	if s.config.MaxHandshakesPerAddress > 0 {
		source = sourceOf(conn)
	}
	exceeded := s.registry.admit(source)
	if exceeded == "" {
		return source, true
	}
	tlswire.Reset(conn)
	key := string(exceeded)
	if exceeded == LimitHandshakes {
		s.stats.overHandshakes.Add(1)
		key += source.String()
	} else {
		s.stats.overConnections.Add(1)
	}
	s.limited.Write(slog.LevelWarn, "refused", key, "connection refused",
		slog.String("client", conn.RemoteAddr().String()), slog.String("limit", string(exceeded)), slog.String("hint", s.config.Hint(exceeded)))
	return source, false
}

// sourceOf returns what counts as one address: an IPv4 address, or the 64 bits
// of an IPv6 address that one customer commonly has to himself.
func sourceOf(conn net.Conn) netip.Prefix {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	addr := tcp.AddrPort().Addr().Unmap()
	source, _ := addr.Prefix(min(addr.BitLen(), 64))
	return source
}
