package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"kafka-sni-proxy/internal/route"
)

// dial connects to the first of a route's addresses that answers, with TLS. Of
// several, those that have failed lately come last.
func (p *Proxy) dial(ctx context.Context, r route.Route) (*side, route.Address, error) {
	var failures []error
	addresses := p.failed.sort(r.Addresses)
	for i, a := range addresses {
		s, err := p.dialOne(ctx, a, len(addresses)-i)
		if err == nil {
			if len(addresses) > 1 {
				p.failed.forget(a)
			}
			return s, a, nil
		}
		failures = append(failures, err)
		if ctx.Err() != nil {
			break // which says nothing about the address
		}
		if len(addresses) > 1 {
			p.failed.note(a)
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

// dialOne tries one address. left is how many there are to try, this one
// included: one that swallows packets must leave time for the others.
func (p *Proxy) dialOne(ctx context.Context, a route.Address, left int) (*side, error) {
	ctx, cancel := context.WithTimeout(ctx, p.attemptTimeout(ctx, left))
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
	p.keepAlive(conn)
	w := newWire(conn)
	s := newSide(w, tls.Client(w, p.upstream.Load().to(a.Host)))
	if err := s.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, &phaseError{phaseUpstreamTLS, fmt.Errorf("TLS with broker %s at %s: %w%s", a, conn.RemoteAddr(), err, certificateShown(err))}
	}
	return s, nil
}

// attemptTimeout is how long an attempt may take when so many are left. The
// last one has all the time there is.
func (p *Proxy) attemptTimeout(ctx context.Context, left int) time.Duration {
	if left == 1 {
		return p.dialTimeout()
	}
	timeout := p.dialTimeout() / 3
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline)/time.Duration(left))
	}
	return timeout
}

// certificateShown says whose certificate was refused, where the error itself
// does not.
func certificateShown(err error) string {
	var refused *tls.CertificateVerificationError
	if !errors.As(err, &refused) || len(refused.UnverifiedCertificates) == 0 {
		return ""
	}
	cert := refused.UnverifiedCertificates[0]
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	list := strings.Join(names, ", ")
	switch {
	case len(names) == 0:
		list = "no names"
	case errors.As(err, new(x509.HostnameError)):
		return ""
	}
	return fmt.Sprintf(" (its certificate %q is for %s, signed by %q)", cert.Subject.String(), list, cert.Issuer.String())
}

// failureMemory is for how long an address that has failed is tried after the
// others.
const failureMemory = 30 * time.Second

// failures are the addresses that could not be reached lately. The zero value
// is ready to use.
type failures struct {
	mu sync.Mutex
	at map[route.Address]time.Time
}

func (f *failures) note(a route.Address) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at == nil {
		f.at = map[route.Address]time.Time{}
	}
	f.at[a] = time.Now()
}

func (f *failures) forget(a route.Address) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.at, a)
}

// sort returns the addresses in the order in which to try them: as they are
// given, but those that have failed lately last, and first of those the one
// whose failure is the longest ago.
//
// An address whose failure is no longer recent is given to one caller to try.
// For all others it stays a failure until that one knows better: they are not to
// wait, all of them, for what may still be down.
func (f *failures) sort(addresses []route.Address) []route.Address {
	if len(addresses) == 1 {
		return addresses
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.at) == 0 {
		return addresses
	}
	now := time.Now()
	recent := map[route.Address]time.Time{}
	for _, a := range addresses {
		switch at, failed := f.at[a]; {
		case !failed:
		case now.Sub(at) < failureMemory:
			recent[a] = at
		default:
			f.at[a] = now
		}
	}
	sorted := slices.Clone(addresses)
	slices.SortStableFunc(sorted, func(a, b route.Address) int { return recent[a].Compare(recent[b]) })
	return sorted
}

// upstreamTLS is the TLS configuration towards brokers, and what was made of it
// for each of them.
type upstreamTLS struct {
	config *tls.Config
	byHost sync.Map // of *tls.Config
}

// to returns the configuration for a broker. It is verified by its host name,
// never by the address that the host name led to.
func (u *upstreamTLS) to(host string) *tls.Config {
	if c, ok := u.byHost.Load(host); ok {
		return c.(*tls.Config)
	}
	config := u.config.Clone()
	config.ServerName = host
	c, _ := u.byHost.LoadOrStore(host, config)
	return c.(*tls.Config)
}
