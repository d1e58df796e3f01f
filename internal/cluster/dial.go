package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"sync"
	"time"

	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/tlswire"
)

// dial connects to the first of several addresses that answers, with TLS. Those that
// have failed lately come last; those that told another cluster's id are left out for a
// while.
func (c *Cluster) dial(ctx context.Context, addresses []route.Address) (*tlswire.Conn, route.Address, error) {
	var failures []error
	addresses, refused := c.identity.admit(addresses)
	for _, err := range refused {
		failures = append(failures, &ConnectError{StageIdentity, err})
	}
	addresses = c.failures.sort(addresses)
	for i, a := range addresses {
		began := time.Now()
		conn, err := c.dialOne(ctx, a, len(addresses)-i)
		if err == nil || ctx.Err() == nil {
			c.health.note(a, time.Since(began), err)
		}
		if err == nil {
			if len(addresses) > 1 {
				c.failures.forget(a)
			}
			return conn, a, nil
		}
		failures = append(failures, err)
		if ctx.Err() != nil {
			break // which says nothing about the address
		}
		if len(addresses) > 1 {
			c.failures.note(a)
		}
	}
	return nil, route.Address{}, join(failures)
}

// dialOne tries one address. left is how many there are to try, this one
// included: one that swallows packets must leave time for the others.
func (c *Cluster) dialOne(ctx context.Context, a route.Address, left int) (*tlswire.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.attemptTimeout(ctx, left))
	defer cancel()
	dial := c.config.Dial
	if dial == nil {
		dial = func(ctx context.Context, host string, port int32) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", route.Address{Host: host, Port: port}.String())
		}
	}
	socket, err := dial(ctx, a.Host, a.Port)
	if err != nil {
		return nil, &ConnectError{StageDial, fmt.Errorf("connecting to broker %s: %w", a, err)}
	}
	if c.tls == nil {
		if c.config.IsOwnSocket != nil && c.config.IsOwnSocket(socket) {
			socket.Close()
			return nil, &ConnectError{StageDial, &LoopError{a, true}}
		}
		return tlswire.Plaintext(socket), nil
	}
	conn := tlswire.Client(socket, c.tls.to(a))
	if err := conn.HandshakeContext(ctx); err != nil {
		conn.CloseNow()
		return nil, &ConnectError{StageTLS, fmt.Errorf("TLS with broker %s at %s: %w%s", a, socket.RemoteAddr(), err, certificateShown(err))}
	}
	return conn, nil
}

// attemptTimeout is how long an attempt may take when so many are left. The
// last one has all the time there is.
func (c *Cluster) attemptTimeout(ctx context.Context, left int) time.Duration {
	if left == 1 {
		return c.dialTimeout()
	}
	timeout := c.dialTimeout() / 3
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline)/time.Duration(left))
	}
	return timeout
}

// brokerTLS is the TLS configuration towards brokers, and what was made of it
// for each of them.
type brokerTLS struct {
	config *tls.Config
	isSelf func(*x509.Certificate) bool

	mu        sync.Mutex
	byAddress map[route.Address]*tls.Config // maxConfigs at the most
}

// maxConfigs is for how many brokers a configuration is kept. Brokers say where brokers
// are, and may say so again and again.
const maxConfigs = 4096

func newBrokerTLS(config *tls.Config, isSelf func(*x509.Certificate) bool) *brokerTLS {
	return &brokerTLS{config: tlswire.Harden(config), isSelf: isSelf}
}

// to returns the configuration for a broker. It is verified by its host name,
// never by the address that the host name led to.
func (b *brokerTLS) to(a route.Address) *tls.Config {
	b.mu.Lock()
	defer b.mu.Unlock()
	if config, ok := b.byAddress[a]; ok {
		return config
	}
	config := b.config.Clone()
	config.ServerName = a.Host
	if b.isSelf != nil {
		config.VerifyConnection = b.refuseSelf(a, config.VerifyConnection)
	}
	if b.byAddress == nil || len(b.byAddress) >= maxConfigs {
		b.byAddress = map[route.Address]*tls.Config{}
	}
	b.byAddress[a] = config
	return config
}

// refuseSelf returns a VerifyConnection that refuses the proxy itself, and asks next.
// It runs when a TLS session is resumed, too.
func (b *brokerTLS) refuseSelf(a route.Address, next func(tls.ConnectionState) error) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) > 0 && b.isSelf(state.PeerCertificates[0]) {
			return &LoopError{Address: a}
		}
		if next == nil {
			return nil
		}
		return next(state)
	}
}
