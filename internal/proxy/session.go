package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/route"
)

// session is one client's connection and the one to its broker.
type session struct {
	proxy    *Proxy
	listener net.Listener // that it came from
	began    time.Time
	endSetup context.CancelFunc
	client   *side
	broker   *side // nil until dialed

	route   route.Route
	address route.Address // of the broker that was reached

	owed      kafka.Owed
	requests  kafka.Requests
	responses kafka.Responses
	traffic   traffic
	askNext   time.Duration // after began: when to ask this broker where the route leads
	watch     watch

	mu     sync.Mutex
	wasCut bool     // its connections have been closed from here
	why    error    // what it was ended for from here; nil: its peers, or a shutdown
	dialed net.Conn // under broker

	pumping  atomic.Bool   // requests may be under way: draining has to let them end
	draining atomic.Bool   // no more requests are to be read
	idle     atomic.Uint32 // the same, if nothing is under way and this is still its mark
	stopped  atomic.Bool   // no more requests will be read
}

// serve is the life of a connection. What comes before the pumps needs a deep
// stack, which a goroutine keeps; so the pumps, which wait for hours, get
// goroutines of their own from run.
func (p *Proxy) serve(ctx context.Context, ln net.Listener, conn net.Conn, source netip.Prefix, run func(func())) {
	p.keepAlive(conn)
	w := newWire(conn)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &session{proxy: p, listener: ln, began: time.Now(), endSetup: cancel, client: newSide(w, tls.Server(w, p.downstream)), watch: p.newWatch()}
	if !p.add(s) {
		p.greeted(source)
		conn.Close()
		return
	}
	if ctx.Err() != nil { // since before it was added
		s.cut()
	}
	if err := protect(func() error { return s.setup(ctx, source) }); err != nil {
		s.end(err)
		return
	}
	requests := make(chan error, 1)
	run(func() { requests <- s.pumpRequests() })
	run(func() { s.end(s.pump(requests)) })
}

// end closes what is open, and logs and counts the session, once.
func (s *session) end(err error) {
	defer s.proxy.remove(s)
	var failed *phaseError
	if errors.As(err, &failed) && (failed.phase == phaseDial || failed.phase == phaseUpstreamTLS) {
		s.client.reset()
	} else {
		s.client.wire.Conn.Close()
	}
	if s.cut() || err == nil { // what its connections say after a cut is the echo of that
		err = s.reason()
	}
	s.proxy.report(s, err)
}

// cut ends the session at once. It reports whether that had been done before.
func (s *session) cut() (before bool) {
	s.endSetup()
	s.mu.Lock()
	defer s.mu.Unlock()
	before, s.wasCut = s.wasCut, true
	s.client.wire.Conn.Close()
	if s.dialed != nil {
		s.dialed.Close()
	}
	return before
}

// because notes why the session is ended from here, and reports whether that is
// the first reason.
func (s *session) because(why error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why != nil {
		return false
	}
	s.why = why
	return true
}

func (s *session) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// attach makes a connection to the broker part of the session.
func (s *session) attach(broker *side) {
	s.broker = broker
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialed = broker.wire.Conn
	if s.wasCut {
		s.dialed.Close()
	}
}

// setup is all that comes before the first request.
func (s *session) setup(ctx context.Context, source netip.Prefix) error {
	if err := s.handshake(source); err != nil {
		return err
	}
	broker, address, err := s.proxy.reach(ctx, &s.route)
	if err != nil {
		return err
	}
	s.attach(broker)
	s.address = address
	s.requests = kafka.Requests{Out: broker, Owed: &s.owed, MaxFrame: s.proxy.MaxFrameBytes}
	s.responses = kafka.Responses{Out: s.client, Owed: &s.owed, Names: s.proxy.Routes.Learn, MaxFrame: s.proxy.MaxFrameBytes}
	s.pumping.Store(true)
	if s.route.Kind != route.Bootstrap && !s.route.Confirmed {
		s.requests.Before = s.askHere
		s.proxy.awaitRoute(s)
	}
	if s.draining.Load() { // asked for before there was anything to wake
		s.client.wake()
	}
	return nil
}

// handshake reads the first byte, ends the client's TLS and takes the route
// that was found on the way.
func (s *session) handshake(source netip.Prefix) error {
	defer s.proxy.greeted(source)
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

// pump forwards responses until the session is over, and waits for the requests.
func (s *session) pump(requests <-chan error) error {
	down := protect(s.pumpResponses)
	s.owed.Close()
	switch {
	case down != nil:
		s.client.reset()
		s.broker.wire.Conn.Close()
	case s.draining.Load() && s.stopped.Load() && s.responses.Frames == 0:
		s.client.reset() // it has had no answer yet
		s.broker.Close()
	case s.draining.Load() && s.stopped.Load():
		s.client.linger(lingerTimeout)
		s.broker.Close()
	default:
		s.client.Close()
		s.broker.Close()
	}
	return cause(down, <-requests)
}

// lingerTimeout is how long a client that was told of the end may take to close.
const lingerTimeout = 2 * time.Second

// pumpRequests forwards what the client sends, until the client ends its side
// or the session is drained, and then lets pumpResponses end.
func (s *session) pumpRequests() error {
	err := protect(s.forwardRequests)
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

// errDrained ends the requests of a session that drains before the next one.
var errDrained = errors.New("the session drains")

// forwardRequests returns nil when the session is drained, io.EOF when the
// client has ended its side, both after a whole request.
func (s *session) forwardRequests() error {
	for {
		switch err := s.client.await(); {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded): // woken
			draining := s.draining.Load() || s.drainIdle()
			if draining && s.requests.AtBoundary() {
				return nil
			}
			s.client.rearm() // for the rest of a request, or because an answer is under way
			if !draining && s.draining.Load() {
				s.client.wake() // meant for what rearm has made of it
			}
			continue
		case err == io.EOF && s.requests.AtBoundary():
			return err
		default:
			return &phaseError{phaseRequest, err}
		}
		err := forward(s.client, s.broker, s.requests.Forward, &s.traffic.up)
		s.traffic.requests.Store(s.requests.Frames)
		if err == errDrained {
			return nil
		}
		if err != nil {
			return &phaseError{phaseRequest, err}
		}
		if s.draining.Load() && s.requests.AtBoundary() {
			return nil
		}
	}
}

// drainIdle begins to drain a session that sweep found idle, unless something
// is under way after all, or has been since.
func (s *session) drainIdle() bool {
	if found := s.idle.Swap(0); found == 0 || found != s.mark() || !s.requests.AtBoundary() || s.owed.Len() > 0 {
		return false
	}
	s.retire(retiredIdle)
	s.draining.Store(true)
	return true
}

// mark changes with each byte that is forwarded. It is not 0.
func (s *session) mark() uint32 { return uint32(s.traffic.up.Load()+s.traffic.down.Load()) | 1<<31 }

// The requests of a batch wait in cork together, so all of them have to fit what
// may be owed.
const _ = uint(kafka.MaxForward - len(buffer{}))

// forward passes on what has arrived at from, with one system call if it can.
func forward(from, to *side, frames func(p []byte) error, bytes *atomic.Int64) error {
	to.wire.cork()
	var err error
	for p := from.next(); p != nil && err == nil; p = from.next() {
		bytes.Add(int64(len(p)))
		err = frames(p)
	}
	if flushed := to.wire.flush(); err == nil {
		err = flushed // what came before an error is the peer's all the same
	}
	return err
}

// pumpResponses forwards what the broker sends, until it closes or there is
// nothing left that it could send.
func (s *session) pumpResponses() error {
	for {
		switch err := s.broker.await(); {
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
		err := forward(s.broker, s.client, s.responses.Forward, &s.traffic.down)
		s.traffic.responses.Store(s.responses.Frames)
		s.traffic.rewritten.Store(s.responses.Rewritten)
		s.traffic.dropped.Store(s.responses.Dropped)
		switch {
		case err != nil:
			return responseError(err)
		case s.stopped.Load() && s.answered():
			return nil
		}
	}
}

// responseError tells a response that was refused from a connection that failed.
func responseError(err error) error {
	var refused *kafka.Error
	if errors.As(err, &refused) {
		return &phaseError{phaseRewrite, err}
	}
	return &phaseError{phaseResponse, err}
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
