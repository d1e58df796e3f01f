package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/route"
)

// session is one client's connection and the one to its broker.
type session struct {
	proxy  *Proxy
	client *side
	broker *side // nil until dialed
	cut    func()

	route   route.Route
	address route.Address // of the broker that was reached

	owed      kafka.Owed
	requests  kafka.Requests
	responses kafka.Responses
	traffic   traffic

	pumping  atomic.Bool // requests may be under way: draining has to let them end
	draining atomic.Bool // no more requests are to be read
	stopped  atomic.Bool // no more requests will be read
}

// serve is the life of a connection. Errors are logged and counted here, once.
func (p *Proxy) serve(ctx context.Context, conn net.Conn) {
	began := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := newWire(conn)
	s := &session{proxy: p, cut: cancel, client: &side{Conn: tls.Server(w, p.downstream), wire: w}}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if !p.add(s) {
		return
	}
	defer p.remove(s)

	err := s.run(ctx)
	if err != nil && ctx.Err() != nil {
		err = nil // it was cut from here, and that has its own log line
	}
	p.report(s, err, time.Since(began))
}

func (s *session) run(ctx context.Context) error {
	if err := s.handshake(); err != nil {
		return err
	}
	if err := s.dial(ctx); err != nil {
		return err
	}
	defer s.broker.wire.Conn.Close()
	defer context.AfterFunc(ctx, func() { s.broker.wire.Conn.Close() })()
	return s.pump()
}

// handshake reads the first byte, ends the client's TLS and takes the route
// that was found on the way.
func (s *session) handshake() error {
	w := s.client.wire
	w.SetDeadline(time.Now().Add(s.proxy.handshakeTimeout()))
	first, err := w.peek()
	if err != nil {
		return &phaseError{phaseFirstByte, err}
	}
	if first != tlsHandshake {
		return &phaseError{phaseFirstByte, &notTLSError{w.arrived()}}
	}
	err = s.client.Handshake() // when ctx ends, the connection is closed
	if w.hello.err != nil {
		return &phaseError{phaseRoute, w.hello.err}
	}
	s.route = w.hello.route
	if err != nil {
		return &phaseError{phaseHandshake, err}
	}
	w.SetDeadline(time.Time{})
	return nil
}

func (s *session) dial(ctx context.Context) error {
	broker, address, err := s.proxy.dial(ctx, s.route)
	if err != nil {
		return err
	}
	s.broker, s.address = broker, address
	return nil
}

// pump forwards both ways until the session is over. Requests have a goroutine
// of their own; responses are forwarded here.
func (s *session) pump() error {
	s.requests = kafka.Requests{Out: s.broker, Owed: &s.owed, MaxFrame: s.proxy.MaxFrameBytes}
	s.responses = kafka.Responses{Out: s.client, Owed: &s.owed, Names: s.proxy.Routes.Learn, MaxFrame: s.proxy.MaxFrameBytes}
	s.pumping.Store(true)
	if s.route.Kind == route.Provisional {
		s.proxy.awaitRoute(s)
	}
	if s.draining.Load() { // asked for before there was anything to wake
		s.client.wake()
	}

	up := make(chan error, 1)
	go func() { up <- s.pumpRequests() }()
	down := s.pumpResponses()
	s.owed.Close()
	if down == nil && s.draining.Load() && s.stopped.Load() {
		s.client.linger(lingerTimeout)
	} else {
		s.client.Close()
	}
	s.broker.Close()
	return cause(down, <-up)
}

// lingerTimeout is how long a client that was told of the end may take to close.
const lingerTimeout = 2 * time.Second

// pumpRequests forwards what the client sends, until the client ends its side
// or the session is drained, and then lets pumpResponses end.
func (s *session) pumpRequests() error {
	err := s.forwardRequests()
	s.stopped.Store(true)
	if err != nil && err != io.EOF {
		s.broker.wire.Conn.Close() // ends pumpResponses
		return err
	}
	if err == io.EOF {
		s.broker.closeWrite() // the client's half-close is passed on
	}
	s.broker.wake() // have pumpResponses see that it may be done
	return nil
}

// forwardRequests returns nil when the session is drained, io.EOF when the
// client has ended its side, both after a whole request.
func (s *session) forwardRequests() error {
	for {
		b, n, err := s.client.read()
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && s.draining.Load():
			if s.requests.AtBoundary() {
				return nil
			}
			s.client.rearm() // the rest of a request that is under way
			continue
		case err == io.EOF && s.requests.AtBoundary():
			return err
		default:
			return &phaseError{phaseRequest, err}
		}
		s.broker.wire.cork()
		err = s.requests.Forward(b[:n])
		flushed := s.broker.wire.flush()
		buffers.Put(b)
		s.traffic.up.Add(int64(n))
		s.traffic.requests.Store(s.requests.Frames)
		if err = firstError(err, flushed); err != nil {
			return &phaseError{phaseRequest, err}
		}
		if s.draining.Load() && s.requests.AtBoundary() {
			return nil
		}
	}
}

// pumpResponses forwards what the broker sends, until it closes or there is
// nothing left that it could send.
func (s *session) pumpResponses() error {
	for {
		b, n, err := s.broker.read()
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && s.stopped.Load():
			if s.answered() {
				return nil
			}
			s.broker.rearm()
			continue
		case err == io.EOF && s.responses.AtBoundary():
			return nil
		default:
			return &phaseError{phaseResponse, err}
		}
		s.client.wire.cork()
		err = s.responses.Forward(b[:n])
		flushed := s.client.wire.flush()
		buffers.Put(b)
		s.traffic.down.Add(int64(n))
		s.traffic.responses.Store(s.responses.Frames)
		s.traffic.rewritten.Store(s.responses.Rewritten)
		s.traffic.dropped.Store(s.responses.Dropped)
		var refused *kafka.Error
		if errors.As(err, &refused) {
			return &phaseError{phaseRewrite, err}
		}
		if err = firstError(err, flushed); err != nil {
			return &phaseError{phaseResponse, err}
		}
		if s.stopped.Load() && s.answered() {
			return nil
		}
	}
}

// answered reports whether every request has its whole answer.
func (s *session) answered() bool {
	return s.responses.AtBoundary() && s.owed.Len() == 0
}

// drain ends the session once no request is half-read and none without its
// answer. A session that has read none is cut.
func (s *session) drain() {
	s.draining.Store(true)
	if s.pumping.Load() {
		s.client.wake()
	} else {
		s.cut()
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

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
	config := p.upstream.Clone()
	config.ServerName = a.Host // never the address that the host name led to
	w := newWire(conn)
	s := &side{Conn: tls.Client(w, config), wire: w}
	if err := s.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, &phaseError{phaseUpstreamTLS, fmt.Errorf("TLS with broker %s at %s: %w", a, conn.RemoteAddr(), err)}
	}
	return s, nil
}
