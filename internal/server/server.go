// Package server accepts Kafka clients and keeps their sessions: listeners, limits on
// who is let in, the set of sessions, their timeouts, drain and hand-over, totals, and
// one log line for each session.
//
// What happens within a session is told in internal/session.
package server

import (
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

	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/loglimit"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/session"
)

// Config is what a Server is made from. Cluster and TLS are required.
type Config struct {
	// Cluster is the cluster that clients are connected to.
	Cluster *cluster.Cluster

	// TLS is the configuration towards clients: certificates, and client CAs for mTLS.
	TLS *tls.Config

	// Timeouts and limits of each session; see there. Its TLS and Route are set here.
	Session session.Config

	// AllowMissingSNI treats a client that names no server as one that asks for
	// bootstrap. Otherwise it is refused.
	AllowMissingSNI bool

	// MaxConnections is how many clients may be connected. 0: any number.
	MaxConnections int

	// MaxHandshakesPerAddress is how many handshakes of one source address, or
	// one IPv6 network of 64 bits, may be under way. 0: any number.
	MaxHandshakesPerAddress int

	// Log gets refusals and failures as warnings, and each session's end at
	// debug level. Nil discards.
	Log *slog.Logger

	// Hint says what an operator can do about a failure, in terms of the program's
	// settings; "" where it does not know. Nil: no hints. Error is a [*session.Error], a
	// [*session.PanicError], a [LimitError], or what accept has returned.
	Hint func(err error) string
}

// Server is made by New. Its methods may be called concurrently.
type Server struct {
	config   Config
	session  session.Config // of every session
	cluster  atomic.Pointer[cluster.Cluster]
	tls      atomic.Pointer[tls.Config] // in place of the first one; nil: none yet
	log      *slog.Logger
	limited  loglimit.Logger
	registry *registry
	stats    counters
	burst    burst
	oneName  oneName

	probing sync.Mutex // CheckAccepting

	forced context.Context
	force  context.CancelFunc
}

// New returns a server that serves nobody yet.
func New(config Config) *Server {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if config.Hint == nil {
		config.Hint = func(error) string { return "" }
	}
	s := &Server{config: config, session: config.Session, log: config.Log}
	s.limited.Log = config.Log
	s.burst.timer = time.AfterFunc(time.Hour, s.burstOver)
	s.burst.timer.Stop()
	s.registry = newRegistry(config.MaxConnections, config.MaxHandshakesPerAddress)
	s.session.TLS = session.TLSConfig(config.TLS)
	s.session.CurrentTLS = s.tls.Load
	s.session.Route = s.route
	s.cluster.Store(config.Cluster)
	s.forced, s.force = context.WithCancel(context.Background())
	return s
}

// SetTLS has clients from now on be shown another configuration. Those there are go on
// as they began. Clients may still resume their TLS sessions: ClientCAs and
// VerifyConnection of the new configuration are asked then too.
func (s *Server) SetTLS(config *tls.Config) { s.tls.Store(session.TLSConfig(config)) }

// SetCluster has clients from now on be connected to a cluster. Sessions go on with the
// one that they began with.
func (s *Server) SetCluster(c *cluster.Cluster) { s.cluster.Store(c) }

// Cluster returns the cluster that new clients are connected to.
func (s *Server) Cluster() *cluster.Cluster { return s.cluster.Load() }

// NoServerNameError refuses clients that do not say which server they want.
type NoServerNameError struct{ Bootstrap, Suffix string }

func (e *NoServerNameError) Error() string {
	return fmt.Sprintf("the client sent no server name (SNI): want %s or a broker under .%s", e.Bootstrap, e.Suffix)
}

// route is the sessions' Route.
func (s *Server) route(serverName string) (session.Cluster, route.Route, error) {
	c := s.cluster.Load()
	if serverName == "" {
		if !s.config.AllowMissingSNI {
			return nil, route.Route{}, &NoServerNameError{c.Bootstrap(), c.Suffix()}
		}
		serverName = c.Bootstrap()
	}
	r, err := c.Resolve(serverName)
	return c, r, err
}

// errDraining ends Serve when Shutdown was called before it.
var errDraining = errors.New("the proxy is shutting down")

// Serve accepts clients until ln is closed, Shutdown is called, or ctx ends. It
// closes ln. When ctx ends, every session that came from ln is cut and Serve
// returns once they are gone. It returns nil after Shutdown.
//
// A failing accept, such as for want of file descriptors, is tried again after
// a pause and never ends Serve.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	l := s.registry.listen(ln)
	if l == nil {
		ln.Close()
		return errDraining
	}
	defer s.registry.unlisten(l)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.forced, cancel)()
	defer context.AfterFunc(ctx, func() {
		ln.Close()
		s.recoverPanic(func() { s.registry.cut(l) })
	})()

	var sessions, sweep sync.WaitGroup
	sweeping, stopSweep := context.WithCancel(ctx)
	sweep.Go(func() { s.recoverPanic(func() { s.sweep(sweeping, l) }) })
	err := s.accept(ctx, l, func(f func()) { sessions.Go(func() { s.recoverPanic(f) }) })
	if err != nil { // not drained
		cancel()
	}
	sessions.Wait()
	stopSweep()
	sweep.Wait()
	return err
}

// accept starts a session for each client. It returns nil when the server
// drains or leaves. What the sessions do is run by run, each part on a goroutine of its
// own.
func (s *Server) accept(ctx context.Context, l *listener, run func(func())) error {
	for pause := time.Duration(0); ; {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.stats.accepted.Add(1)
			s.burst.opened()
			if source, ok := s.admit(conn); ok {
				run(func() { s.serve(ctx, l, conn, source, run) })
			}
		case s.registry.isClosed():
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
func (s *Server) serve(ctx context.Context, l *listener, conn net.Conn, source netip.Prefix, run func(func())) {
	ss := session.New(&s.session, conn)
	if !s.registry.add(ss, l) {
		s.registry.handshakeDone(source)
		conn.Close()
		return
	}
	if ctx.Err() != nil { // since before it was added
		ss.Cut()
	}
	err := ss.Handshake()
	s.registry.handshakeDone(source)
	if err == nil {
		err = ss.Connect(ctx)
	}
	if err != nil {
		s.end(ss, ss.Abort(err))
		return
	}
	run(func() { s.end(ss, ss.Pump()) })
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
