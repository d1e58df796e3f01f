package server

import (
	"log/slog"
	"net"
	"net/netip"

	"kafka-sni-proxy/internal/session"
	"kafka-sni-proxy/internal/tlswire"
)

// LimitError is the limit that a connection was refused by.
type LimitError string

const (
	LimitConnections LimitError = "connections"
	LimitHandshakes  LimitError = "handshakes-per-address"
	// LimitClusterConnections is found out after the client has said where it wants to go.
	LimitClusterConnections LimitError = "cluster-connections"
)

func (l LimitError) Error() string { return "limit reached: " + string(l) }

// Busy has a session reset the connection, for the client to try another proxy.
func (LimitError) Busy() {}

// admit counts a connection until its session is removed, and its handshake until
// registry.handshakeDone is called with the source that it returns; or it resets the
// connection. Whose handshake it is may be known only when a PROXY protocol header has
// been read: then the source is none.
//
// A refused client knows at once, and can try another proxy of the same name.
// Left in the kernel's queue it would wait for its own timeout, and a load
// balancer that only connects would go on to find the proxy well.
func (s *Server) admit(how *session.Config, conn net.Conn) (source netip.Prefix, ok bool) {
	exceeded := s.registry.admit()
	if exceeded == "" && !session.WantsHeader(how, conn.RemoteAddr()) {
		if source, exceeded = s.registry.admitHandshake(conn.RemoteAddr()); exceeded != "" {
			s.registry.release()
		}
	}
	if exceeded == "" {
		return source, true
	}
	tlswire.Reset(conn)
	s.refuse(exceeded, limitedAt(exceeded, source), conn.RemoteAddr(), how.Label, "")
	s.refusedOnArrival(how, conn.RemoteAddr(), exceeded)
	return source, false
}

// admitHandshake counts the handshake of a client until registry.handshakeDone is called
// with the source that it returns.
func (s *Server) admitHandshake(client net.Addr) (source netip.Prefix, err error) {
	source, exceeded := s.registry.admitHandshake(client)
	if exceeded == "" {
		return source, nil
	}
	return netip.Prefix{}, exceeded
}

// limitedAt says which of several limits of a kind it is that a source has reached.
func limitedAt(exceeded LimitError, source netip.Prefix) string {
	if exceeded == LimitHandshakes {
		return source.String()
	}
	return ""
}

// refuse counts and logs a client that was refused by a limit. of says which of several
// limits of that kind it was.
func (s *Server) refuse(exceeded LimitError, of string, client net.Addr, listener, cluster string) {
	switch exceeded {
	case LimitHandshakes:
		s.stats.overHandshakes.Add(1)
	case LimitConnections:
		s.stats.overConnections.Add(1)
	case LimitClusterConnections:
		s.stats.overCluster.Add(1)
	}
	attrs := []slog.Attr{slog.String("client", client.String()), slog.String("limit", string(exceeded))}
	hint := s.config.Hint(exceeded)
	f := Failure{Listener: listener, Cluster: cluster, Phase: "limit", Reason: exceeded.Error(), Hint: hint}
	if exceeded == LimitClusterConnections {
		attrs = append(attrs, slog.String("name", of))
		f.ServerName = of // which cluster it is
	}
	s.recent.note(f, client, string(exceeded)+of)
	s.limited.Write(slog.LevelWarn, "refused", string(exceeded)+of, "connection refused", append(attrs, slog.String("hint", hint))...)
}

// sourceOf returns what counts as one address: an IPv4 address, or the 64 bits
// of an IPv6 address that one customer commonly has to himself.
func sourceOf(client net.Addr) netip.Prefix {
	tcp, ok := client.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	addr := tcp.AddrPort().Addr().Unmap()
	source, _ := addr.Prefix(min(addr.BitLen(), 64))
	return source
}
