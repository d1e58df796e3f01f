// Package server accepts Kafka clients and keeps their sessions: listeners, limits on
// who is let in, the set of sessions, their timeouts, drain and hand-over, totals, and
// one log line for each session.
//
// What happens within a session is told in internal/session.
package server

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

	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/loglimit"
	"kafka-sni-proxy/internal/session"
)

// Config is what a Server is made from. The zero value is ready to use.
type Config struct {
	Limits

	// Log gets refusals and failures as warnings, and each session's end at
	// debug level. Nil discards.
	Log *slog.Logger

	// Hint says what an operator can do about a failure, in terms of the program's
	// settings; "" where it does not know. Nil: no hints. Error is a [*session.Error], a
	// [*session.PanicError], a [LimitError], or what accept has returned.
	Hint func(err error) string

	// Ended is told of each connection that has ended or was refused, once. It must not wait,
	// and may be called from several goroutines at once. Nil: nobody is told.
	Ended func(*End)

	// OnAnswer is told of each response: see [session.Config.OnAnswer]. Nil: nobody is told.
	OnAnswer func(s *session.Session, a kafka.Answer, came int64)
}

// Limits are limits on all clients together. 0: any number.
type Limits struct {
	// MaxConnections is how many clients may be connected.
	MaxConnections int

	// MaxHandshakesPerAddress is how many handshakes of one source address, or
	// one IPv6 network of 64 bits, may be under way.
	MaxHandshakesPerAddress int
}

// Listener is how the clients of one socket are served. It is a value: a change makes a
// new one. Route is required.
type Listener struct {
	// Name is what the listener is called in the log; "": it has no name.
	Name string

	// Label is what it is called in metrics and on the status page. "": Name.
	Label string

	// TLS is what clients are shown: certificates, and client CAs for mTLS. Nil: clients
	// connect in plaintext.
	TLS *tls.Config

	// ProxyFrom are the networks from which connections begin with a PROXY protocol header.
	ProxyFrom []netip.Prefix

	// Route says where a client goes: see [ByName] and [ByPort].
	Route Router

	// Session has timeouts and limits of each session; see there. What depends on the
	// listener is set here.
	Session session.Config
}

// Server is made by New. Its methods may be called concurrently.
type Server struct {
	config   Config
	tickets  *session.Tickets
	log      *slog.Logger
	limited  loglimit.Logger
	registry *registry
	stats    counters
	recent   recent

	looksMu sync.Mutex
	looks   looks

	burst   burst
	oneName oneName
	sweeper sweeper

	clustersMu sync.Mutex
	clusters   map[string]*Cluster

	probing sync.Mutex // CheckAccepting

	shutting context.Context // ends when Shutdown is called
	shut     context.CancelFunc
	forced   context.Context
	force    context.CancelFunc
}

// New returns a server that serves nobody yet.
func New(config Config) *Server {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if config.Hint == nil {
		config.Hint = func(error) string { return "" }
	}
	s := &Server{config: config, log: config.Log, tickets: session.NewTickets()}
	s.limited.Log = config.Log
	s.burst.timer = time.AfterFunc(time.Hour, s.burstOver)
	s.burst.timer.Stop()
	s.registry = newRegistry(config.Limits)
	s.shutting, s.shut = context.WithCancel(context.Background())
	s.forced, s.force = context.WithCancel(context.Background())
	return s
}

// SetLimits has other limits count from now on. Clients that are there may stay.
func (s *Server) SetLimits(l Limits) { s.registry.setLimits(l) }

// Limits returns the limits that count.
func (s *Server) Limits() Limits {
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	return s.registry.limits
}

// Socket is a socket that clients connect to, and how those are served. Its accept loop
// can be probed.
type Socket struct {
	net.Listener
	server  *Server
	how     atomic.Pointer[session.Config]
	retired atomic.Bool   // closed for good, while others go on
	acked   chan struct{} // gets something whenever the accept loop was woken
}

// NewSocket returns a socket for [Server.Serve], which has to be called: from now on the socket
// counts as one that clients are accepted from.
func (s *Server) NewSocket(ln net.Listener, how *Listener) *Socket {
	l := &Socket{Listener: ln, server: s, acked: make(chan struct{}, 1)}
	l.how.Store(s.sessionConfig(how))
	s.registry.register(l)
	return l
}

// Set has clients be served otherwise from now on. Those there are go on as they began.
// Clients may still resume their TLS sessions: ClientCAs and VerifyConnection of the new
// configuration are asked then too.
func (l *Socket) Set(how *Listener) {
	l.how.Store(l.server.sessionConfig(how))
	l.server.sweeper.retune()
}

// sessionConfig returns what the sessions of a listener have in common.
func (s *Server) sessionConfig(how *Listener) *session.Config {
	c := how.Session
	c.OnAnswer = s.config.OnAnswer
	c.Listener, c.Label, c.ProxyFrom, c.Route = how.Name, cmp.Or(how.Label, how.Name), how.ProxyFrom, how.Route
	if how.TLS != nil {
		c.Tickets, c.TLS = s.tickets, session.TLSConfig(how.TLS)
	}
	s.registry.expect(c.Label)
	return &c
}

// errDraining ends Serve when Shutdown was called before it.
var errDraining = errors.New("the proxy is shutting down")

// Serve accepts clients until l is closed, Shutdown or Retire is called, or ctx ends. It
// closes l. When ctx ends, every session that came from l is cut and Serve
// returns once they are gone. It returns nil after Shutdown and Retire.
//
// A failing accept, such as for want of file descriptors, is tried again after
// a pause and never ends Serve.
func (s *Server) Serve(ctx context.Context, l *Socket) error {
	if !s.registry.listen(l) {
		l.Close()
		if l.retired.Load() {
			return nil
		}
		return errDraining
	}
	defer s.registry.unlisten(l)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.forced, cancel)()
	defer context.AfterFunc(ctx, func() {
		l.Close()
		s.recoverPanic(func() { s.registry.cut(l) })
	})()

	defer s.sweeper.start(s)()

	var sessions sync.WaitGroup
	err := s.accept(ctx, l, func(f func()) { sessions.Go(func() { s.recoverPanic(f) }) })
	if err != nil { // not drained
		cancel()
	}
	sessions.Wait()
	return err
}

// accept starts a session for each client. It returns nil when the server
// drains or leaves. What the sessions do is run by run, each part on a goroutine of its
// own.
func (s *Server) accept(ctx context.Context, l *Socket, run func(func())) error {
	for pause := time.Duration(0); ; {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.stats.accepted.Add(1)
			s.burst.opened()
			how := l.how.Load()
			s.registry.accepted(how.Label)
			if source, ok := s.admit(how, conn); ok {
				run(func() { s.serve(ctx, l, how, conn, source, run) })
			}
		case s.registry.isClosed(), l.retired.Load():
			l.acknowledge() // nobody is to wait for it
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			l.ack()
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept: %w", err)
		default:
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.stats.acceptErrors.Add(1)
			s.limited.Write(slog.LevelWarn, "accept", loglimit.Key(err), "cannot accept connections; trying again",
				slog.Any("error", err), slog.Duration("pause", pause), slog.String("hint", s.config.Hint(err)))
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	}
}

// serve is a session from beginning to end. What comes before its pumps needs a deep
// stack, which a goroutine keeps; so the pumps, which wait for hours, get goroutines of
// their own from run.
func (s *Server) serve(ctx context.Context, l *Socket, how *session.Config, conn net.Conn, source netip.Prefix, run func(func())) {
	ss := session.New(how, conn)
	if !s.registry.add(ss, l, how.Label) {
		s.registry.handshakeDone(source)
		conn.Close()
		s.refusedOnArrival(how, conn.RemoteAddr(), errDraining)
		return
	}
	if ctx.Err() != nil { // since before it was added
		ss.Cut()
	}
	err := s.shake(ss, source)
	if err == nil {
		err = ss.Connect(ctx)
	}
	if err != nil {
		s.end(ss, ss.Abort(err))
		return
	}
	run(func() { s.end(ss, ss.Pump()) })
}

// shake lets a client in: the steps up to where it is known who it is and where it goes.
// source is what its handshake was counted for when it was accepted, if it was.
func (s *Server) shake(ss *session.Session, source netip.Prefix) (err error) {
	if ss.WantsHeader() {
		if err = ss.Greet(); err != nil {
			return err
		}
		if source, err = s.admitHandshake(ss.Client()); err != nil {
			return err
		}
	}
	defer s.registry.handshakeDone(source)
	if err = ss.Handshake(); err == nil {
		s.registry.shaken(ss)
	}
	if t := tallyOf(ss.Destination()); t != nil { // also when what came after that has failed
		s.registry.assign(ss, t)
	}
	return err
}

// end logs and counts what became of a session, once.
func (s *Server) end(ss *session.Session, result *session.Result) {
	defer s.registry.remove(ss)
	s.report(result)
	if reachesOneBroker(result.Traffic) {
		s.warnOneName(result.Client, result.ServerName)
	}
}

// Shutdown ends the server gracefully: no new connections; no more requests are
// read, from the next frame boundary on; responses to requests in flight are still
// delivered; then each connection is closed. When ctx ends first, what is left is cut
// and the error is ctx's.
func (s *Server) Shutdown(ctx context.Context) error {
	s.shut()
	s.registry.drain()
	gone := s.registry.gone()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		s.log.Warn("cutting the connections that have not ended", "connections", s.Active())
		s.force()
		<-gone
		return ctx.Err()
	}
}

// Retire closes sockets, and ends the sessions that came by them, little by little: see
// Leave. When ctx ends, what is left is cut.
func (s *Server) Retire(ctx context.Context, within time.Duration, sockets ...*Socket) {
	s.endGradually(ctx, within, s.registry.retire(sockets))
}

// EndClusters ends the sessions of clusters that are no more, little by little: see Leave.
// When ctx ends, what is left is cut. The clusters must not be among those of SetClusters
// any more, nor must a listener lead to them.
func (s *Server) EndClusters(ctx context.Context, within time.Duration, gone ...*Cluster) {
	s.endGradually(ctx, within, s.registry.ofClusters(gone))
}

// endGradually drains sessions, the oldest first, evenly spread over the time given, and
// waits until they are gone. When ctx ends, what is left is cut. Shutdown, which ends all
// sessions, ends it.
func (s *Server) endGradually(ctx context.Context, within time.Duration, sessions []*session.Session) {
	began := time.Now()
	for i, ss := range sessions {
		select {
		case <-time.After(time.Until(began.Add(within / time.Duration(len(sessions)+1) * time.Duration(i)))):
		case <-ctx.Done():
		case <-s.shutting.Done():
			return
		}
		ss.Drain()
	}
	for _, ss := range sessions {
		select {
		case <-ss.Done():
		case <-s.shutting.Done():
			return
		case <-ctx.Done():
			ss.Cut()
		}
	}
}

// Leave makes way for another process that accepts from the same sockets: no
// new connections here, and the sessions there are go on at first. They are ended
// between two frames, the oldest first and evenly spread over the time given, so
// that clients do not come back all at once, and one that has just been accepted
// has time for its first requests. Leave returns when no session is left, the time
// is over, or ctx ends; then Shutdown is to be called.
func (s *Server) Leave(ctx context.Context, within time.Duration) {
	began := time.Now()
	s.leave(ctx, func(i, n int) <-chan time.Time {
		return time.After(time.Until(began.Add(within / time.Duration(n+1) * time.Duration(i+1))))
	})
}

// leave is Leave with a clock: turn says when it is the turn of session i of n,
// and for n itself, when it is over.
func (s *Server) leave(ctx context.Context, turn func(i, n int) <-chan time.Time) {
	s.registry.close()
	gone := s.registry.gone()
	// One that is accepted after this snapshot is left to Shutdown.
	sessions := s.registry.byAge()
	for i := range len(sessions) + 1 {
		select {
		case <-turn(i, len(sessions)):
		case <-gone:
			return
		case <-ctx.Done():
			return
		}
		if i < len(sessions) {
			sessions[i].Drain() // which does nothing to one that is over
		}
	}
}

// Draining reports whether Shutdown or Leave was called.
func (s *Server) Draining() bool { return s.registry.isClosed() }

// Active returns how many sessions there are.
func (s *Server) Active() int { return s.registry.active() }
