package proxy

import (
	"log/slog"
	"net"
	"net/netip"
)

// limit is what a connection was refused by, before anything was read from it.
type limit string

const (
	limitConnections limit = "connections"
	limitHandshakes  limit = "handshakes-per-address"
)

var limitHints = map[limit]string{
	limitConnections: "raise --max-connections if the machine can bear more, or run another proxy beside this one",
	limitHandshakes:  "raise --max-handshakes-per-address if the address stands for many clients, as a load balancer's does",
}

// admit counts a connection until its session is removed, and its handshake
// until greeted is called with the source that it returns; or it resets the
// connection.
//
// A refused client knows at once, and can try another proxy of the same name.
// Left in the kernel's queue it would wait for its own timeout, and a load
// balancer that only connects would go on to find the proxy well.
func (p *Proxy) admit(conn net.Conn) (source netip.Prefix, ok bool) {
	if p.MaxHandshakesPerAddress > 0 {
		source = sourceOf(conn)
	}
	exceeded := p.take(source)
	if exceeded == "" {
		return source, true
	}
	reset(conn)
	kind := string(exceeded)
	if exceeded == limitHandshakes {
		kind += source.String()
	}
	p.complain(slog.LevelWarn, "refused", kind, "connection refused",
		slog.String("client", conn.RemoteAddr().String()), slog.String("limit", string(exceeded)), slog.String("hint", limitHints[exceeded]))
	return source, false
}

// take counts one more, or returns the limit that forbids it.
func (p *Proxy) take(source netip.Prefix) limit {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.MaxConnections > 0 && p.open >= p.MaxConnections:
		p.stats.overConnections.Add(1)
		return limitConnections
	case source.IsValid() && p.greeting[source] >= p.MaxHandshakesPerAddress:
		p.stats.overHandshakes.Add(1)
		return limitHandshakes
	case source.IsValid():
		p.greeting[source]++
	}
	p.open++
	return ""
}

// greeted takes a handshake off those that are under way.
func (p *Proxy) greeted(source netip.Prefix) {
	if !source.IsValid() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.greeting[source]--; p.greeting[source] == 0 {
		delete(p.greeting, source)
	}
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
