package session

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/sasl"
	"kafka-sni-proxy/internal/tlswire"
)

// Authentication is how the clients of a cluster prove to the proxy who they are, and how the
// proxy then proves to brokers who it is for them. Without it, SASL passes through.
//
// It is a phase of its own between the client's handshake and the pump. Towards the client it
// speaks as a broker does, towards the broker as a client does. Not a byte of the client's is
// sent to the broker before the client is known.
type Authentication interface {
	// Mechanisms returns what a client may choose from.
	Mechanisms() []string
	// Begin begins an exchange with a client; nil: there is no such mechanism. ctx bounds what
	// the exchange waits for.
	Begin(ctx context.Context, mechanism string) sasl.Server
	// ByCertificate returns who a client is by the certificate that it has shown, and that was
	// verified; nil chain: it has shown none. false: that does not tell.
	ByCertificate(chain []*x509.Certificate) (sasl.Identity, bool, error)
	// Anonymous returns who a client is that begins without authenticating. false: it is not
	// let in.
	Anonymous() (sasl.Identity, bool)
	// APIVersions returns what the broker at a route offers: the response to an ApiVersions
	// request of a version, with its length and the correlation id 0.
	APIVersions(ctx context.Context, r *route.Route, version int16) ([]byte, error)
	// Connect connects to where a route leads, for a client. The error is one of
	// [Cluster].Connect, or says why there is nothing to show the broker for it.
	Connect(ctx context.Context, client sasl.Identity, r *route.Route) (*tlswire.Conn, route.Address, error)
	// Login begins an exchange with a broker for a client; nil: brokers want none. The error
	// is what the client is told: it tells no secret.
	Login(ctx context.Context, client sasl.Identity, broker route.Address) (sasl.Client, error)
}

// AuthenticationError is of a client that is not let in, or of a broker that does not let in
// the proxy. It has no secret in it.
type AuthenticationError struct {
	Mechanism string // "": none was chosen
	Broker    bool   // it was the broker
	Err       error
}

func (e *AuthenticationError) Error() string {
	why := e.Err.Error()
	var failure *sasl.Failure
	if errors.As(e.Err, &failure) { // of which the client is told less
		why = failure.Reason
		if failure.User != "" {
			why += fmt.Sprintf(" (user %q)", failure.User)
		}
	}
	switch {
	case e.Broker:
		return fmt.Sprintf("authenticating with the broker (%s): %s", e.Mechanism, why)
	case e.Mechanism == "":
		return "authenticating the client: " + why
	}
	return fmt.Sprintf("authenticating the client (%s): %s", e.Mechanism, why)
}

func (e *AuthenticationError) Unwrap() error { return e.Err }

const (
	// authenticateTimeout is how long a client may take to prove who it is, and a broker to
	// let the proxy in.
	authenticateTimeout = 15 * time.Second
	// maxGreetings is how many requests a client may send before it is known: ApiVersions,
	// perhaps twice, a SaslHandshake, and the messages of a mechanism.
	maxGreetings = 16
	// maxGreeting is the longest of them, in bytes. A broker takes 512 KiB
	// (sasl.server.max.receive.size); tokens are up to a few KiB.
	maxGreeting = 64 << 10
	// failurePause is for how long a client that was not let in is left waiting, as by a
	// broker (connection.failed.authentication.delay.ms).
	failurePause = 250 * time.Millisecond
)

// authenticated is what is known of a session whose client is known.
type authenticated struct {
	identity sasl.Identity
	early    []byte // that the client has sent behind its greetings

	brokerMechanism string // that the broker let the proxy in by; "": none
}

// Login is who a client has proved to be, and how; zero where the proxy does not ask.
type Login struct {
	Principal, Mechanism string // of the client
	BrokerMechanism      string // of SASL, by which the proxy was let in by the broker; "": by none
}

// login returns who the client is. It may be called after Connect.
func (s *Session) login() Login {
	if s.auth == nil {
		return Login{}
	}
	return Login{s.auth.identity.Principal, s.auth.identity.Mechanism, s.auth.brokerMechanism}
}

// greeting is the phase in which a client proves who it is.
type greeting struct {
	session *Session
	how     Authentication
	in      cluster.Frames
	connect func(sasl.Identity) error // to the broker, once the client is known

	chosen   string      // the mechanism
	exchange sasl.Server // that runs; nil: none
	bare     bool        // its messages are frames of their own, after a SaslHandshake v0
}

// authenticate lets the client prove who it is. Before the last answer, connect is called: so
// a broker that cannot be reached, or does not let the proxy in, is an error that the client
// can be told.
func (s *Session) authenticate(ctx context.Context, connect func(sasl.Identity) error) error {
	g := &greeting{session: s, how: s.cluster.Auth, connect: connect, in: cluster.Frames{Conn: s.client, Most: maxGreeting}}
	ctx, cancel := context.WithTimeout(ctx, authenticateTimeout)
	defer cancel()
	s.client.SetDeadline(time.Now().Add(authenticateTimeout))
	identity, known, err := g.how.ByCertificate(s.client.VerifiedChain())
	if err != nil {
		return &AuthenticationError{"TLS", false, err}
	}
	if !known {
		if identity, err = g.run(ctx); err != nil {
			return err
		}
	} else if err = g.admit(ctx, identity); err != nil {
		return err
	}
	s.auth = &authenticated{identity: identity, early: g.in.Rest()}
	s.client.SetDeadline(time.Time{})
	return nil
}

// run answers greetings until the client is known.
func (g *greeting) run(ctx context.Context) (sasl.Identity, error) {
	for range maxGreetings {
		if !g.bare {
			key, err := g.in.Key()
			if err != nil {
				return sasl.Identity{}, g.ended(err)
			}
			if !greets(key) { // which may be as long as it likes
				return g.anonymous(ctx, key)
			}
		}
		frame, err := g.in.Next()
		if err != nil {
			return sasl.Identity{}, g.ended(err)
		}
		answer, known, err := g.answer(ctx, frame)
		if answer != nil {
			if _, failed := g.session.client.Write(answer); err == nil && failed != nil {
				err = g.ended(failed)
			}
		}
		if err != nil {
			if isRefusal(err) {
				g.pause(ctx)
			}
			return sasl.Identity{}, err
		}
		if known {
			return g.exchange.Identity(), nil
		}
	}
	return sasl.Identity{}, &AuthenticationError{g.chosen, false, fmt.Errorf("the client is not done after %d requests", maxGreetings)}
}

// anonymous lets a client in that begins with a request, if that is allowed.
func (g *greeting) anonymous(ctx context.Context, key int16) (sasl.Identity, error) {
	identity, ok := g.how.Anonymous()
	if !ok || g.exchange != nil {
		return identity, &AuthenticationError{g.chosen, false, fmt.Errorf("the client sent a request (%s) before it was authenticated", kafka.APIName(kafka.APIIndex(key)))}
	}
	return identity, g.admit(ctx, identity)
}

// admit connects for a client that is known without an exchange. When it is refused, an
// ApiVersions request, with which most clients begin, is answered with an error.
func (g *greeting) admit(ctx context.Context, identity sasl.Identity) error {
	err := g.connect(identity)
	if err == nil || !isRefusal(err) {
		return err
	}
	if frame, failed := g.in.Next(); failed == nil {
		if request, failed := kafka.ReadGreeting(frame); failed == nil && request.Key == kafka.KeyAPIVersions {
			g.session.client.Write(request.RefuseAPIVersions(kafka.CodeClusterAuthorizationFailed))
		}
	}
	g.pause(ctx)
	return err
}

// answer answers a greeting. With an error, what is returned may tell the client of it.
func (g *greeting) answer(ctx context.Context, frame []byte) (answer []byte, known bool, err error) {
	if g.bare {
		out, known, err := g.step(frame)
		if err != nil {
			return nil, false, err // which is told by the end of the connection
		}
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(out))), out...), known, nil
	}
	request, err := kafka.ReadGreeting(frame)
	if err != nil {
		return nil, false, &AuthenticationError{g.chosen, false, err}
	}
	switch request.Key {
	case kafka.KeyAPIVersions:
		g.session.requests.Introduce(frame)
		answer, err = g.how.APIVersions(ctx, &g.session.route, request.Version)
		if err != nil {
			return nil, false, WithPhase(err)
		}
		if len(answer) < 8 {
			return nil, false, &AuthenticationError{"", false, errors.New("what the broker offers is not known")}
		}
		answer = append([]byte(nil), answer...) // others are given the same
		binary.BigEndian.PutUint32(answer[4:], uint32(request.Correlation))
		return answer, false, nil
	case kafka.KeySaslHandshake:
		return g.handshake(ctx, &request)
	}
	if g.exchange == nil {
		err = errors.New("the client sent a SASL message before it chose a mechanism")
		return request.AnswerAuthenticate(kafka.CodeIllegalState, err.Error(), nil, 0), false, &AuthenticationError{"", false, err}
	}
	out, known, err := g.step(request.Token)
	switch {
	case err != nil && isRefusal(err):
		return request.AnswerAuthenticate(kafka.CodeAuthenticationFailed, toldClient(err), nil, 0), false, err
	case err != nil:
		return nil, false, err
	}
	var lifetime int64
	if expires := g.exchange.Identity().Expires; known && !expires.IsZero() {
		lifetime = max(time.Until(expires).Milliseconds(), 1)
	}
	return request.AnswerAuthenticate(0, "", out, lifetime), known, nil
}

// isRefusal reports whether somebody was not let in, which another try does not change. A
// broker that cannot be reached is none, nor is a credential that cannot be looked up now:
// clients give up when they are told of a refusal, and try again when their connection is
// reset.
func isRefusal(err error) bool {
	var failed *AuthenticationError
	var unavailable interface{ Unavailable() bool }
	if errors.As(err, &unavailable) {
		return false
	}
	return errors.As(err, &failed) && (!failed.Broker || errors.As(err, new(*kafka.LoginError)))
}

// toldClient is what a client is told of a refusal: what the mechanism says, or that the broker
// does not let the proxy in. What the broker's own words are is for the log alone.
func toldClient(err error) string {
	var failed *AuthenticationError
	if errors.As(err, &failed) && !failed.Broker {
		return failed.Err.Error()
	}
	return "Authentication failed: the cluster does not let the proxy in for this client"
}

// handshake lets a client choose a mechanism.
func (g *greeting) handshake(ctx context.Context, request *kafka.Greeting) (answer []byte, known bool, err error) {
	if g.exchange != nil {
		err = errors.New("the client chose a mechanism twice")
		return request.AnswerHandshake(kafka.CodeIllegalState, nil), false, &AuthenticationError{g.chosen, false, err}
	}
	if g.exchange = g.how.Begin(ctx, request.Mechanism); g.exchange == nil {
		all := g.how.Mechanisms()
		err = fmt.Errorf("the client asked for %q, there are %q", cutName(request.Mechanism), all)
		return request.AnswerHandshake(kafka.CodeUnsupportedMechanism, all), false, &AuthenticationError{"", false, err}
	}
	g.chosen, g.bare = request.Mechanism, request.Version == 0
	return request.AnswerHandshake(0, g.how.Mechanisms()), false, nil
}

// step is one step of the exchange. When the client is known, the broker is connected to.
func (g *greeting) step(message []byte) (out []byte, known bool, err error) {
	out, known, err = g.exchange.Next(message)
	if err != nil {
		return nil, false, &AuthenticationError{g.chosen, false, err}
	}
	if known {
		err = g.connect(g.exchange.Identity())
	}
	return out, known, err
}

// ended is of a client that goes away while it is asked who it is, or takes too long.
func (g *greeting) ended(err error) error {
	if told, ok := g.exchange.(interface{ Refused() *sasl.Failure }); ok && told.Refused() != nil {
		return &AuthenticationError{g.chosen, false, told.Refused()} // after which many hang up
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("the client is not done after %v: %w", authenticateTimeout, err)
	}
	return &AuthenticationError{g.chosen, false, err}
}

// pause has a client that was not let in wait, so that guessing takes time.
func (g *greeting) pause(ctx context.Context) {
	late := time.NewTimer(failurePause)
	defer late.Stop()
	select {
	case <-late.C:
	case <-ctx.Done():
	}
}

// greets reports whether a client may send requests of an API before it is known.
func greets(key int16) bool {
	return key == kafka.KeyAPIVersions || key == kafka.KeySaslHandshake || key == kafka.KeySaslAuthenticate
}

// logIn lets the proxy in at the broker, for a client. It returns by which mechanism, "" for
// none, and for how long; 0: for ever.
func (s *Session) logIn(ctx context.Context, client sasl.Identity) (mechanism string, lifetime time.Duration, err error) {
	exchange, err := s.cluster.Auth.Login(ctx, client, s.address)
	if err != nil {
		return "", 0, &AuthenticationError{client.Mechanism, false, err}
	}
	if exchange == nil {
		return "", 0, nil
	}
	s.broker.SetDeadline(time.Now().Add(authenticateTimeout))
	if lifetime, err = cluster.LogIn(s.broker, exchange); err != nil {
		return "", 0, &AuthenticationError{exchange.Mechanism(), true, err}
	}
	s.broker.SetDeadline(time.Time{})
	return exchange.Mechanism(), lifetime, nil
}

// countLogin counts what became of logging in: of the client, and at the broker by a mechanism.
func (s *Session) countLogin(mechanism string, err error) {
	m := s.cluster.Meter
	var failed *AuthenticationError
	isAuth := errors.As(err, &failed)
	if isAuth && !failed.Broker {
		m.LoggedIn(Clients, failed.Mechanism, outcomeOf(err))
		return
	}
	if s.auth == nil { // a broker could not be asked what it offers
		return
	}
	m.LoggedIn(Clients, s.auth.identity.Mechanism, LoginOK)
	switch {
	case isAuth:
		m.LoggedIn(Brokers, failed.Mechanism, outcomeOf(err))
	case err == nil && mechanism != "":
		m.LoggedIn(Brokers, mechanism, LoginOK)
	}
}

// outcomeOf tells a refusal from a peer that went away.
func outcomeOf(err error) Outcome {
	if IsQuiet(err) || errors.Is(err, os.ErrDeadlineExceeded) || !isRefusal(err) {
		return LoginBroken
	}
	return LoginRefused
}
