// Package proxy is the whole life of a connection between a Kafka client and a
// broker:
//
//	accept → first byte → TLS handshake (SNI) → route → dial + upstream TLS → pump ⇄ → drain/close
//
// A [Proxy] ends the clients' TLS on one port. The name that a client asks for
// in its handshake says which broker it wants; the proxy opens its own,
// verified TLS to that broker and forwards Kafka frames both ways, with the
// broker addresses in responses replaced by its own names (see internal/kafka).
//
// Connections do not wait for each other. Each has two goroutines, one for
// either direction.
package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"kafka-sni-proxy/internal/route"
)

// Proxy serves Kafka clients. Routes, Downstream and Upstream are required;
// the other fields have useful zero values. Nothing may be changed once Serve
// was called, but by Reload.
type Proxy struct {
	// Routes says where names lead, and learns from responses.
	Routes *route.Table

	// Downstream is the TLS configuration towards clients: certificates, and
	// client CAs for mTLS. See Reload for those that come later.
	Downstream *tls.Config

	// Upstream is the TLS configuration towards brokers: root CAs, and a client
	// certificate where brokers want one. ServerName is set for each broker.
	Upstream *tls.Config

	// Dial opens a TCP connection to a broker, trying every address that the
	// host name has. Nil uses a net.Dialer.
	Dial func(ctx context.Context, host string, port int32) (net.Conn, error)

	// Log gets refusals and failures as warnings, and each connection's end at
	// debug level. Nil discards.
	Log *slog.Logger

	// MaxFrameBytes is the longest request or response accepted. 0: 100 MiB.
	MaxFrameBytes int

	// AllowMissingSNI treats a client that names no server as one that asks for
	// bootstrap. Otherwise it is refused.
	AllowMissingSNI bool

	// HandshakeTimeout bounds the time from accept to the end of the client's
	// handshake. 0: 10 s.
	HandshakeTimeout time.Duration

	// DialTimeout bounds each attempt to reach a broker, TCP and TLS together.
	// One that has others behind it gets a third. 0: 10 s.
	DialTimeout time.Duration

	// IdleTimeout ends sessions in which no byte went either way for so long:
	// between two frames, when nothing is owed; with a frame or an answer under
	// way, after twice the time. 0: never.
	IdleTimeout time.Duration

	// MaxConnectionAge ends sessions that are as old, give or take a tenth,
	// between two frames and with nothing owed. 0: never.
	MaxConnectionAge time.Duration

	// TCPUserTimeout is for how long a peer may leave data unacknowledged and be
	// silent. It is checked on Linux alone. 0: as long as the kernel lets it,
	// which is a quarter of an hour.
	TCPUserTimeout time.Duration

	// KeepAlive is how peers are probed that have nothing to acknowledge. The
	// zero value probes after 30 s, every 10 s, 6 times.
	KeepAlive net.KeepAliveConfig

	// MaxConnections is how many clients may be connected. 0: any number.
	MaxConnections int

	// MaxHandshakesPerAddress is how many handshakes of one source address, or
	// one IPv6 network of 64 bits, may be under way. 0: any number.
	MaxHandshakesPerAddress int

	setup      sync.Once
	log        *slog.Logger
	downstream *tls.Config                // asks routeHello
	reloaded   atomic.Pointer[tls.Config] // in place of downstream; nil: none yet
	upstream   atomic.Pointer[upstreamTLS]
	failed     failures
	asking     asking
	stats      counters
	repeats    repeats

	checking sync.Mutex // CheckAccepting

	mu          sync.Mutex
	open        int                  // connections admitted
	greeting    map[netip.Prefix]int // and of those, in their handshake, by source
	sessions    map[*session]struct{}
	provisional map[string]map[*session]struct{} // by the name they wait to be learned
	listeners   map[net.Listener]*door
	draining    bool           // Shutdown was called
	leaving     bool           // Leave was
	running     sync.WaitGroup // Serve calls and sessions
	force       context.CancelFunc
	forced      context.Context
}

func (p *Proxy) init() {
	p.setup.Do(func() {
		p.log = p.Log
		if p.log == nil {
			p.log = slog.New(slog.DiscardHandler)
		}
		p.downstream = prepare(p.Downstream)
		p.downstream.GetConfigForClient = p.routeHello
		p.upstream.Store(&upstreamTLS{config: prepare(p.Upstream)})
		p.greeting = map[netip.Prefix]int{}
		p.sessions = map[*session]struct{}{}
		p.provisional = map[string]map[*session]struct{}{}
		p.listeners = map[net.Listener]*door{}
		p.forced, p.force = context.WithCancel(context.Background())
		p.Routes.OnLearn(p.endProvisional)
	})
}

// authenticated are the cipher suites of TLS 1.2 that are spoken on either side:
// with forward secrecy, and authenticated encryption. The list of crypto/tls has
// some with CBC and SHA-1, too. TLS 1.3 has no others.
var authenticated = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// prepare returns the configuration with what this package insists on.
func prepare(config *tls.Config) *tls.Config {
	config = config.Clone()
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	config.CipherSuites = authenticated
	config.DynamicRecordSizingDisabled = true // full records from the start
	return config
}

// Reload has connections from now on use other TLS configurations; nil leaves
// one as it is. The connections there are go on as they began.
//
// Clients may still resume their TLS sessions: ClientCAs and VerifyConnection of
// the new configuration are asked then too. Towards brokers, sessions are as the
// ClientSessionCache remembers them, their client certificate included: a new
// certificate wants a new cache.
func (p *Proxy) Reload(downstream, upstream *tls.Config) {
	p.init()
	if downstream != nil {
		p.reloaded.Store(prepare(downstream))
	}
	if upstream != nil {
		p.upstream.Store(&upstreamTLS{config: prepare(upstream)})
	}
}

// errDraining ends Serve when Shutdown was called before it.
var errDraining = errors.New("the proxy is shutting down")

// Serve accepts clients until ln is closed, Shutdown is called, or ctx ends. It
// closes ln. When ctx ends, every session that came from ln is cut and Serve
// returns once they are gone. It returns nil after Shutdown.
//
// A failing accept, such as for want of file descriptors, is tried again after
// a pause and never ends Serve.
func (p *Proxy) Serve(ctx context.Context, ln net.Listener) error {
	p.init()
	d := p.listening(ln)
	if d == nil {
		ln.Close()
		return errDraining
	}
	defer p.notListening(ln)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.forced, cancel)()
	defer context.AfterFunc(ctx, func() {
		ln.Close()
		p.survive(func() { p.cutFrom(ln) })
	})()

	var sessions, keepers sync.WaitGroup
	keeping, over := context.WithCancel(ctx)
	keepers.Go(func() { p.survive(func() { p.giveBack(keeping) }) })
	keepers.Go(func() { p.survive(func() { p.sweep(keeping, ln) }) })
	err := p.accept(ctx, ln, d, func(f func()) { sessions.Go(func() { p.survive(f) }) })
	if err != nil { // not drained
		cancel()
	}
	sessions.Wait()
	over()
	keepers.Wait()
	return err
}

// accept starts a session for each client. It returns nil when the proxy
// drains or leaves. What the sessions do is run by run.
func (p *Proxy) accept(ctx context.Context, ln net.Listener, d *door, run func(func())) error {
	for pause := time.Duration(0); ; {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			p.stats.accepted.Add(1)
			if source, ok := p.admit(conn); ok {
				run(func() { p.serve(ctx, ln, conn, source, run) })
			}
		case p.isClosed():
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			d.answer(ln)
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept: %w", err)
		default:
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			p.stats.acceptErrors.Add(1)
			p.complain(slog.LevelWarn, "accept", likeness(err), "cannot accept connections; trying again",
				slog.Any("error", err), slog.Duration("pause", pause), slog.String("hint", acceptHint(err)))
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	}
}

// Shutdown ends the proxy gracefully: no new connections; no more requests are
// read, from the next frame boundary on; what brokers owe is still delivered;
// then each connection is closed. When ctx ends first, what is left is cut and
// the error is ctx's.
func (p *Proxy) Shutdown(ctx context.Context) error {
	p.init()
	p.mu.Lock()
	p.draining = true
	for ln := range p.listeners {
		ln.Close()
	}
	for s := range p.sessions {
		s.drain()
	}
	p.mu.Unlock()

	gone := make(chan struct{})
	go func() {
		p.running.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		p.log.Warn("cutting the connections that have not ended", "connections", p.Stats().Active)
		p.force()
		<-gone
		return ctx.Err()
	}
}

// CheckUpstream reports whether an upstream can be reached: TCP and verified
// TLS. It is for readiness checks.
func (p *Proxy) CheckUpstream(ctx context.Context) error {
	p.init()
	up, _, err := p.dial(ctx, p.bootstrap())
	if err != nil {
		return err
	}
	return up.Close()
}

// listening registers a listener. It returns nil when the proxy drains.
func (p *Proxy) listening(ln net.Listener) *door {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.draining || p.leaving {
		return nil
	}
	d := &door{woken: make(chan struct{}, 1)}
	p.listeners[ln] = d
	p.running.Add(1)
	return d
}

func (p *Proxy) notListening(ln net.Listener) {
	ln.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.listeners, ln)
	p.running.Done()
}

// isClosed reports whether the listeners were closed from here.
func (p *Proxy) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.draining || p.leaving
}

// add registers a session, to be counted and drained.
func (p *Proxy) add(s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.draining {
		p.open--
		return false
	}
	p.sessions[s] = struct{}{}
	return true
}

// remove forgets a session and adds what it carried to the totals, in one step,
// so that Stats counts nothing twice.
func (p *Proxy) remove(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sessions, s)
	p.open--
	if waiting := p.provisional[s.route.Name]; waiting != nil {
		delete(waiting, s)
		if len(waiting) == 0 {
			delete(p.provisional, s.route.Name)
		}
	}
	p.stats.ended.add(&s.traffic)
}

// cutFrom cuts the sessions that came from a listener.
func (p *Proxy) cutFrom(ln net.Listener) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.sessions {
		if s.listener == ln {
			s.cut()
		}
	}
}

// awaitRoute has a session drained as soon as its name is learned and turns out
// to be another broker's than the one it is at.
func (p *Proxy) awaitRoute(s *session) {
	p.mu.Lock()
	if p.provisional[s.route.Name] == nil {
		p.provisional[s.route.Name] = map[*session]struct{}{}
	}
	p.provisional[s.route.Name][s] = struct{}{}
	p.mu.Unlock()
	// It may have been learned since the session was routed.
	if r, err := p.Routes.Resolve(s.route.Name); err == nil && r.Confirmed && r.Addresses[0] != s.address {
		s.drain()
	}
}

// endProvisional closes the sessions that asked for a name before it was
// learned, between two frames. The clients come back and are routed right.
// Sessions that are at the right broker already, by chance or because the route
// was loaded from a file, stay.
func (p *Proxy) endProvisional(name string, is route.Address) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.provisional[name] {
		if s.address != is {
			s.drain()
		}
	}
}

func (p *Proxy) handshakeTimeout() time.Duration { return cmp.Or(p.HandshakeTimeout, 10*time.Second) }
func (p *Proxy) dialTimeout() time.Duration      { return cmp.Or(p.DialTimeout, 10*time.Second) }

// keepAlive has the kernel probe a peer while nothing is sent to it, so that one
// that is gone is noticed and nothing in between forgets the connection.
func (p *Proxy) keepAlive(conn net.Conn) {
	config := p.KeepAlive
	if config == (net.KeepAliveConfig{}) {
		config = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 6}
	}
	if c, ok := conn.(interface {
		SetKeepAliveConfig(net.KeepAliveConfig) error
	}); ok {
		c.SetKeepAliveConfig(config) // without it a connection works as well
	}
}
