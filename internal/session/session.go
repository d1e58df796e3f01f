// Package session is the story of one client, from its first byte to the last response:
//
//	Greet (PROXY protocol) → Handshake (first byte, TLS, SNI → route) → Connect (broker, TLS) → Pump ⇄ → Result
//
// The owner of a [Session] calls these in turn, each on a goroutine of its choice, and
// gets one [Result]. Meanwhile it may ask for the session's end ([Session.Drain],
// [Session.Cut]) and look at it ([Session.Look]) from other goroutines. A session calls
// nobody upwards: what it needs of its cluster is the interface [Cluster].
//
// session.go has the steps, greet.go and handshake.go the first ones, pump.go what runs for hours,
// lifecycle.go the states in between, query.go what the proxy itself asks within a
// client's session, look.go timeouts, result.go what is said in the end.
package session

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/sasl"
	"kafka-sni-proxy/internal/tlswire"
)

// Cluster is what a session needs of a cluster. [cluster.Cluster] has it all.
type Cluster interface {
	// Name returns what the cluster is called in the log and in metrics.
	Name() string
	// Again resolves once more what a route was asked for.
	Again(r *route.Route) (route.Route, error)
	// Connect connects to where a route leads.
	Connect(ctx context.Context, r *route.Route) (*tlswire.Conn, route.Address, error)
	// Watch has moved called when a route is learned to lead elsewhere than to at. moved
	// must not wait.
	Watch(r *route.Route, at route.Address, moved func()) (stop func())
	// Learner returns what is called for the addresses and the cluster ids in the
	// responses of a broker.
	Learner(from route.Address, naming route.Naming) (kafka.Names, func(clusterID []byte) error)
	// Suspect returns an error when an address may lead to another cluster, and has to
	// be asked before anything else.
	Suspect(at route.Address) error
	// NextInBandQuery returns when a session may ask its broker where all brokers are.
	NextInBandQuery() time.Time
	// NoteInBandQuery notes whether that told of any broker.
	NoteInBandQuery(answered bool, asked route.Address)
}

// Destination is a cluster as the clients of a listener see it. All of them share one.
type Destination struct {
	Cluster
	// Meter gets what the sessions measure. Nil: nothing is measured.
	Meter *Meter
	// Naming gives the addresses that the clients are told.
	Naming route.Naming
	// Auth lets clients in. Nil: that is between them and the brokers.
	Auth Authentication
}

// Config is what all sessions of a listener have in common. Route is required.
type Config struct {
	// Listener is what the listener is called in the log; "": it needs no name there.
	Listener string

	// Label is what the listener is called where it has to have a name.
	Label string

	// Tickets is where TLS handshakes begin: see [NewTickets]. Nil: clients connect in
	// plaintext.
	Tickets *Tickets

	// TLS is the configuration that clients are shown, made by [TLSConfig].
	TLS *tls.Config

	// ProxyFrom are the networks from which each connection begins with a header of the
	// PROXY protocol; from elsewhere none does.
	ProxyFrom []netip.Prefix

	// Route returns where to connect a client that asks for a name; "" when it names no
	// server. The error refuses the client; the route may have its name then, for the log.
	Route func(serverName string) (*Destination, route.Route, error)

	// HandshakeTimeout bounds the time from accept to the end of the client's
	// handshake. 0: 10 s.
	HandshakeTimeout time.Duration

	// IdleTimeout ends sessions in which no byte went either way for so long: between
	// two frames, when nothing is in flight; with a frame or a request under way, after
	// twice the time. 0: never.
	IdleTimeout time.Duration

	// MaxAge ends sessions of that age, ±10 % jitter, between two frames and with
	// nothing in flight. 0: never.
	MaxAge time.Duration

	// TCPUserTimeout is for how long a peer may leave data unacknowledged and be silent.
	// It is checked on Linux alone. 0: as long as the kernel lets it, about 15 minutes.
	TCPUserTimeout time.Duration

	// OnAnswer, if set, is told of each response to the client when its header has been read,
	// with the time at which it came: see [Time]. It is called on the goroutine that forwards
	// the responses, and must not wait. Nil: nobody is told.
	OnAnswer func(s *Session, a kafka.Answer, came int64)

	// MaxFrameBytes is the longest request or response accepted. 0: 100 MiB.
	MaxFrameBytes int
}

// Session is one client's connection and the one to its broker.
type Session struct {
	config *Config
	began  time.Time
	client *tlswire.Conn
	broker *tlswire.Conn // nil until connected
	from   *net.TCPAddr  // the client's address by its PROXY protocol header; nil: that of client

	serverName string        // that the client asked for
	cluster    *Destination  // nil: not known
	route      route.Route   // there
	address    route.Address // of the broker that was reached

	life      lifecycle
	inFlight  kafka.InFlight
	requests  kafka.Requests
	responses kafka.Responses
	traffic   Traffic
	query     *inBandQuery   // nil: the session is where it belongs
	auth      *authenticated // nil: the proxy does not ask who the client is
	watch     watch
	idleMark  atomic.Uint32 // the mark at which the session was found idle; 0: it was not

	known      atomic.Uint32 // what Snapshot may read: a knowledge
	tlsVersion uint16        // of the client; 0: plaintext
	resumed    bool          // the client's TLS session
	greeted    time.Duration // from began to the end of the handshake
	reached    time.Duration // and to the broker's
	responseAt int64         // when the bytes came that are forwarded to the client
	moved      atomic.Int64  // when bytes were forwarded last, either way
	asked      int64         // for how long the present batch of requests has waited for what the proxy asks

	mu            sync.Mutex // for closeAll: cancelConnect, and broker while it is set; and for Done
	cancelConnect context.CancelFunc
	over          chan struct{} // nil: nobody waits
}

// New returns a session for a connection that was just accepted.
func New(config *Config, conn net.Conn) *Session {
	s := &Session{config: config, began: time.Now()}
	if config.Tickets == nil {
		s.client = tlswire.Plaintext(conn)
	} else {
		s.client = tlswire.Server(conn, config.Tickets.begin)
	}
	s.watch.bytes = -1
	s.watch.maxAge = time.Duration(float64(config.MaxAge) * (0.9 + 0.2*rand.Float64()))
	return s
}

// Began returns when the session began.
func (s *Session) Began() time.Time { return s.began }

// Client returns the client's address. It is the one that a PROXY protocol header tells,
// after Greet.
func (s *Session) Client() net.Addr {
	if s.from != nil {
		return s.from
	}
	return s.client.RemoteAddr()
}

// ServerName returns the name that the client asked for. It may be called once Traffic
// shows that something was forwarded.
func (s *Session) ServerName() string { return s.serverName }

// Destination returns the cluster that the client was led to; nil for none. It may be
// called after Handshake.
func (s *Session) Destination() *Destination { return s.cluster }

// Shaken returns how long the client's handshake took, from accept, and whether its TLS
// session was resumed. It may be called after Handshake.
func (s *Session) Shaken() (took time.Duration, resumed bool) { return s.greeted, s.resumed }

// Waiting is what a session, or several together, wait for.
type Waiting struct {
	Requests int                  // without a response yet
	Oldest   time.Duration        // for how long the oldest of them has been waiting
	Stalled  [kinds]time.Duration // for how long now forwarding has been waiting for a peer that does not read
	Peers    [kinds]int           // that have not read for a second or more: brokers, clients
}

// Add adds what another one waits for.
func (w *Waiting) Add(other Waiting) {
	w.Requests += other.Requests
	w.Oldest = max(w.Oldest, other.Oldest)
	for k := range w.Stalled {
		w.Stalled[k] += other.Stalled[k]
		w.Peers[k] += other.Peers[k]
	}
}

// Waiting returns what the session waits for.
func (s *Session) Waiting() (w Waiting) {
	if knowledge(s.known.Load()) < knownBroker {
		return w
	}
	var at int64
	if at, _, w.Requests = s.inFlight.Oldest(); w.Requests > 0 {
		w.Oldest = time.Duration(max(now()-at, 0))
	}
	w.Stalled = [kinds]time.Duration{s.broker.StalledFor(), s.client.StalledFor()}
	for k, stalled := range w.Stalled {
		if stalled >= time.Second {
			w.Peers[k] = 1
		}
	}
	return w
}

// State returns where the session is in its life, in one word: starting, open, draining,
// drained, finishing or cut.
func (s *Session) State() string { return s.life.state().String() }

// Traffic returns what the session has carried so far.
func (s *Session) Traffic() *Traffic { return &s.traffic }

// Connect connects to the broker that the client asked for. Both this and Handshake need
// a deep stack, which a goroutine keeps: Pump, which may run for days, should have a
// goroutine of its own.
func (s *Session) Connect(ctx context.Context) error {
	return RecoverPanic(func() error { return s.connect(ctx) })
}

func (s *Session) connect(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.cancelConnect = cancel
	s.mu.Unlock()
	if s.life.state() == cut {
		return net.ErrClosed
	}
	var err error
	if s.cluster.Auth != nil {
		err = s.reachAuthenticated(ctx)
	} else {
		err = s.reach(s.cluster.Connect(ctx, &s.route))
	}
	if err != nil {
		return err
	}
	s.reached = time.Since(s.began)
	broker, address := s.broker, s.address
	s.requests.Out, s.requests.InFlight, s.requests.MaxFrame = broker, &s.inFlight, s.config.MaxFrameBytes
	s.responses.Out, s.responses.InFlight, s.responses.MaxFrame = s.client, &s.inFlight, s.config.MaxFrameBytes
	s.responses.Observer = (*observer)(s)
	s.responses.Names, s.responses.ClusterID = s.cluster.Learner(address, s.cluster.Naming)
	// Clients do not produce or fetch by the bootstrap name, unless they have no other.
	s.responses.CountNotLeader = s.route.Kind == route.Bootstrap
	if s.isDoubtful() {
		s.holdRequests()
	}
	s.known.Store(uint32(knownBroker))
	if _, now := s.life.on(connected); now == cut {
		return net.ErrClosed
	}
	if s.query != nil {
		s.query.unwatch = s.cluster.Watch(&s.route, address, s.Drain)
	}
	return nil
}

// reach makes what came of connecting to the broker part of the session.
func (s *Session) reach(broker *tlswire.Conn, address route.Address, err error) error {
	if err != nil {
		return WithPhase(err)
	}
	s.attach(broker, address)
	return nil
}

// reachAuthenticated has the client prove who it is, and then connects to the broker, and is
// let in there.
func (s *Session) reachAuthenticated(ctx context.Context) error {
	mechanism := ""
	err := s.authenticate(ctx, func(client sasl.Identity) error {
		s.auth = &authenticated{identity: client} // which the log tells, whatever comes
		broker, address, err := s.cluster.Auth.Connect(ctx, client, &s.route)
		if err != nil && !errors.As(err, new(*cluster.ConnectError)) {
			return &AuthenticationError{client.Mechanism, false, err} // there is nothing to show the broker
		}
		if err := s.reach(broker, address, err); err != nil {
			return err
		}
		by, lifetime, err := s.logIn(ctx, client)
		mechanism = by
		if lifetime > 0 { // the broker closes the connection then: before, it is ended in good order
			s.retireBy(time.Since(s.began) + lifetime*4/5)
		}
		return err
	})
	s.countLogin(mechanism, err)
	if err != nil {
		return withLoginPhase(err)
	}
	s.auth.brokerMechanism = mechanism
	if expires := s.auth.identity.Expires; !expires.IsZero() {
		s.retireBy(expires.Sub(s.began) * 4 / 5)
	}
	s.requests.NoSASL, s.responses.NoIdentities = true, true
	return nil
}

// retireBy has the session end at an age, if it does not end before.
func (s *Session) retireBy(age time.Duration) {
	if s.watch.maxAge == 0 || age < s.watch.maxAge {
		s.watch.maxAge = age
	}
}

// attach makes a connection to the broker part of the session.
func (s *Session) attach(broker *tlswire.Conn, address route.Address) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broker, s.address = broker, address
	if s.life.state() == cut {
		broker.CloseNow()
	}
}

// Drain ends the session once no request is half-read and none is in flight. A session
// that has read none is cut. It does not wait, and may be called more than once.
func (s *Session) Drain() {
	switch from, to := s.life.on(drain); {
	case to == cut && from != cut:
		s.closeAll()
	case to == draining:
		s.client.Wake()
	}
}

// Cut ends the session at once. It reports whether that had been done before.
func (s *Session) Cut() (before bool) {
	from, _ := s.life.on(cutOff)
	s.closeAll()
	return from == cut
}

func (s *Session) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancelConnect != nil {
		s.cancelConnect()
	}
	s.client.CloseNow()
	if s.broker != nil {
		s.broker.CloseNow()
	}
}

// Done returns a channel that is closed when the session is over.
func (s *Session) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over == nil {
		s.over = make(chan struct{})
	}
	return s.over
}

var alreadyOver = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// setOver tells those who wait for the session's end.
func (s *Session) setOver() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over == nil {
		s.over = alreadyOver
	} else {
		close(s.over)
	}
}

// Abort ends a session of which a step before Pump has failed with err.
func (s *Session) Abort(err error) *Result {
	var failed *Error
	var busy interface{ Busy() }
	if errors.As(err, &failed) && failed.connecting() || errors.As(err, &busy) {
		// To a client that has had no answer yet, a clean end looks as if this were not
		// Kafka at all, and some clients give up then; a reset they try again after.
		// One that is refused by a limit can try another proxy.
		s.client.Reset()
	}
	return s.end(err)
}

// end closes what is open, and says what became of the session.
func (s *Session) end(err error) *Result {
	s.client.CloseNow()
	if s.Cut() || err == nil { // what its connections say after a cut is the echo of that
		err = s.life.endReason()
	}
	if s.query != nil && s.query.unwatch != nil {
		s.query.unwatch()
	}
	s.setOver()
	r := &Result{
		Began:       s.began,
		Listener:    s.config.Listener,
		Label:       s.config.Label,
		Client:      s.Client(),
		ServerName:  s.serverName,
		Destination: s.cluster,
		Route:       s.route,
		Reached:     s.broker != nil,
		Upstream:    s.address,
		Took:        time.Since(s.began),
		Handshake:   s.greeted,
		Connect:     max(s.reached-s.greeted, 0),
		TLSVersion:  s.tlsVersion,
		Resumed:     s.resumed,
		Traffic:     &s.traffic,
		Login:       s.login(),
		Err:         err,
	}
	if said := s.requests.Introduction.Load(); said != nil {
		r.Introduction = *said
	}
	return r
}

func (s *Session) handshakeTimeout() time.Duration {
	return cmp.Or(s.config.HandshakeTimeout, 10*time.Second)
}
