package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"kafka-sni-proxy/internal/route"
)

// dial connects to the first of a route's addresses that answers, with TLS.
func (p *Proxy) dial(ctx context.Context, r route.Route) (*side, route.Address, error) {
	var failures []error
	for _, a := range r.Addresses {
		s, err := p.dialOne(ctx, a)
		if err == nil {
			return s, a, nil
		}
		failures = append(failures, err)
		if ctx.Err() != nil {
			break
		}
	}
	if len(failures) == 1 {
		return nil, route.Address{}, failures[0]
	}
	// The phase is that of the last attempt; all are told.
	var last *phaseError
	errors.As(failures[len(failures)-1], &last)
	return nil, route.Address{}, &phaseError{last.phase, errors.Join(failures...)}
}

func (p *Proxy) dialOne(ctx context.Context, a route.Address) (*side, error) {
	ctx, cancel := context.WithTimeout(ctx, p.dialTimeout())
	defer cancel()
	dial := p.Dial
	if dial == nil {
		dial = func(ctx context.Context, host string, port int32) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", route.Address{Host: host, Port: port}.String())
		}
	}
	conn, err := dial(ctx, a.Host, a.Port)
	if err != nil {
		return nil, &phaseError{phaseDial, fmt.Errorf("connecting to broker %s: %w", a, err)}
	}
	w := newWire(conn)
	s := newSide(w, tls.Client(w, p.upstreamFor(a.Host)))
	if err := s.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, &phaseError{phaseUpstreamTLS, fmt.Errorf("TLS with broker %s at %s: %w", a, conn.RemoteAddr(), err)}
	}
	return s, nil
}

// upstreamFor returns the TLS configuration for a broker. It is verified by its
// host name, never by the address that the host name led to.
func (p *Proxy) upstreamFor(host string) *tls.Config {
	if c, ok := p.upstreams.Load(host); ok {
		return c.(*tls.Config)
	}
	config := p.upstream.Clone()
	config.ServerName = host
	c, _ := p.upstreams.LoadOrStore(host, config)
	return c.(*tls.Config)
}
