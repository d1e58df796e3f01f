package session

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/sasl"
	"kafka-sni-proxy/internal/tlswire"
)

// fakeLogin has one mechanism, in which a client says a word, and another for brokers, in
// which the proxy says two, by turns.
type fakeLogin struct {
	anonymous, certificate bool
	denied                 error  // by Login
	without                string // who has no credential to connect with
	cluster                *lateCluster
	expires                time.Time
}

const (
	word   = "the-client's-own-word"
	theirs = "the-proxy's-word"
)

func (f *fakeLogin) Mechanisms() []string { return []string{"WORD", "OTHER"} }

func (f *fakeLogin) Begin(_ context.Context, mechanism string) sasl.Server {
	if mechanism != "WORD" {
		return nil
	}
	return &wordServer{f}
}

func (f *fakeLogin) ByCertificate(chain []*x509.Certificate) (sasl.Identity, bool, error) {
	return sasl.Identity{Principal: "by certificate", Mechanism: "TLS"}, f.certificate, nil
}

func (f *fakeLogin) Anonymous() (sasl.Identity, bool) {
	return sasl.Identity{Principal: "anonymous", Mechanism: "ANONYMOUS"}, f.anonymous
}

func (f *fakeLogin) APIVersions(context.Context, *route.Route, int16) ([]byte, error) {
	return response(0), nil
}

func (f *fakeLogin) Login(_ context.Context, client sasl.Identity, _ route.Address) (sasl.Client, error) {
	if f.denied != nil {
		return nil, f.denied
	}
	return &wordClient{as: client.Principal}, nil
}

func (f *fakeLogin) Connect(ctx context.Context, client sasl.Identity, r *route.Route) (*tlswire.Conn, route.Address, error) {
	if f.without == client.Principal {
		return nil, route.Address{}, errors.New("there is nothing to show for it")
	}
	return f.cluster.Connect(ctx, r)
}

type wordServer struct{ f *fakeLogin }

func (s *wordServer) Next(in []byte) ([]byte, bool, error) {
	if string(in) != word {
		return nil, false, errors.New("Authentication failed: that is not the word")
	}
	return []byte("welcome"), true, nil
}

func (s *wordServer) Identity() sasl.Identity {
	return sasl.Identity{Principal: "me", Mechanism: "WORD", Expires: s.f.expires}
}

type wordClient struct {
	as   string
	step int
}

func (c *wordClient) Mechanism() string { return "TWO-WORDS" }

func (c *wordClient) Next(challenge []byte) ([]byte, bool, error) {
	c.step++
	switch {
	case c.step == 1 && challenge == nil:
		return []byte(c.as), false, nil
	case c.step == 2 && string(challenge) == "and?":
		return []byte(theirs), false, nil
	case c.step == 3 && string(challenge) == "fine":
		return nil, true, nil
	}
	return nil, false, errors.New("the broker says something else")
}

// lateCluster has its broker's handshake run when it is connected to.
type lateCluster struct {
	*fakeCluster
	connects atomic.Int32
	err      error
}

func (c *lateCluster) Connect(ctx context.Context, r *route.Route) (*tlswire.Conn, route.Address, error) {
	c.connects.Add(1)
	if c.err != nil {
		return nil, at, &cluster.ConnectError{Stage: cluster.StageDial, Err: c.err}
	}
	return c.fakeCluster.Connect(ctx, r)
}

// login is a session whose client has to prove who it is.
type login struct {
	*Session
	t       *testing.T
	client  *tls.Conn
	broker  *tls.Conn
	cluster *lateCluster
	result  chan *Result
}

func beginLogin(t *testing.T, how *fakeLogin, connectError error) *login {
	t.Helper()
	client, accepted := pair(t)
	toBroker, broker := pair(t)
	c := &lateCluster{fakeCluster: &fakeCluster{broker: toBroker, noted: make(chan bool, 10), route: route.Route{Name: "b0." + suffix, Kind: route.Broker, Confirmed: true}}, err: connectError}
	how.cluster = c
	config := &Config{Tickets: NewTickets(), TLS: TLSConfig(authority().ServerConfig(suffix)), Route: func(string) (*Destination, route.Route, error) {
		return &Destination{Cluster: c, Naming: route.OnePort(9092), Auth: how}, c.route, nil
	}}
	trusting := authority().ClientConfig()
	trusting.ServerName = "b0." + suffix
	l := &login{Session: New(config, accepted), t: t, client: tls.Client(client, trusting), broker: tls.Server(broker, authority().ServerConfig(suffix)), cluster: c, result: make(chan *Result, 1)}
	for _, conn := range []net.Conn{client, broker} {
		conn.SetDeadline(time.Now().Add(30 * time.Second))
	}
	go func() {
		err := l.Handshake()
		if err == nil {
			err = l.Connect(t.Context())
		}
		if err != nil {
			l.result <- l.Abort(err)
			return
		}
		l.result <- l.Pump()
	}()
	t.Cleanup(func() { l.Cut() })
	return l
}

// ask sends a request and returns the response, without length and correlation id.
func (l *login) ask(m kmsg.Request) []byte {
	l.t.Helper()
	f := kmsg.NewRequestFormatter(kmsg.FormatterClientID("me"))
	write(l.t, l.client, f.AppendRequest(nil, m, 5))
	return frameFrom(l.t, l.client)[4:]
}

func frameFrom(t *testing.T, c io.Reader) []byte {
	t.Helper()
	size := make([]byte, 4)
	if _, err := io.ReadFull(c, size); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, binary.BigEndian.Uint32(size))
	if _, err := io.ReadFull(c, frame); err != nil {
		t.Fatal(err)
	}
	return frame
}

// handshake chooses a mechanism, and returns the error code and the mechanisms.
func (l *login) handshake(mechanism string, version int16) *kmsg.SASLHandshakeResponse {
	l.t.Helper()
	m := &kmsg.SASLHandshakeRequest{Version: version, Mechanism: mechanism}
	r := m.ResponseKind().(*kmsg.SASLHandshakeResponse)
	if err := r.ReadFrom(l.ask(m)); err != nil {
		l.t.Fatal(err)
	}
	return r
}

func (l *login) authenticate(word string) *kmsg.SASLAuthenticateResponse {
	l.t.Helper()
	m := &kmsg.SASLAuthenticateRequest{Version: 1, SASLAuthBytes: []byte(word)}
	r := m.ResponseKind().(*kmsg.SASLAuthenticateResponse)
	if err := r.ReadFrom(l.ask(m)); err != nil {
		l.t.Fatal(err)
	}
	return r
}

// letIn is a broker that lets the proxy in, as somebody.
func (l *login) letIn(as string) {
	l.t.Helper()
	if request := frameFrom(l.t, l.broker); !bytes.HasSuffix(request, []byte("TWO-WORDS")) {
		l.t.Errorf("the broker is asked %q", request)
	}
	write(l.t, l.broker, (&kafka.Greeting{Correlation: 0}).AnswerHandshake(0, []string{"TWO-WORDS"}))
	for i, want := range []string{as, theirs} {
		request := frameFrom(l.t, l.broker)
		if !bytes.HasSuffix(request, []byte(want)) {
			l.t.Errorf("the broker is told %q, want %q", request, want)
		}
		answer := (&kafka.Greeting{Version: 1, Correlation: int32(i + 1)}).AnswerAuthenticate(0, "", []byte([]string{"and?", "fine"}[i]), 0)
		write(l.t, l.broker, answer)
	}
}

// forwards checks that requests and responses pass.
func (l *login) forwards() {
	l.t.Helper()
	write(l.t, l.client, request(9))
	if got := frameFrom(l.t, l.broker); !bytes.Equal(got, request(9)[4:]) {
		l.t.Errorf("the broker gets %q", got)
	}
	write(l.t, l.broker, response(9))
	if got := frameFrom(l.t, l.client); !bytes.Equal(got, response(9)[4:]) {
		l.t.Errorf("the client gets %q", got)
	}
}

func (l *login) wait() *Result {
	l.t.Helper()
	select {
	case r := <-l.result:
		return r
	case <-time.After(30 * time.Second):
		l.t.Fatalf("the session does not end: it is %s", l.State())
		panic("unreachable")
	}
}

func TestClientIsLetInAndTheProxyIsForIt(t *testing.T) {
	l := beginLogin(t, &fakeLogin{}, nil)
	if got := l.ask(&kmsg.ApiVersionsRequest{Version: 3, ClientSoftwareName: "x", ClientSoftwareVersion: "1"}); !bytes.Equal(got, response(0)[8:]) {
		t.Errorf("ApiVersions: %q", got)
	}
	if l.cluster.connects.Load() != 0 {
		t.Error("the broker is connected to before the client is known")
	}
	if r := l.handshake("WORD", 1); r.ErrorCode != 0 || !slices.Equal(r.SupportedMechanisms, []string{"WORD", "OTHER"}) {
		t.Errorf("%+v", r)
	}
	done := make(chan struct{})
	go func() { defer close(done); l.letIn("me") }()
	if r := l.authenticate(word); r.ErrorCode != 0 || string(r.SASLAuthBytes) != "welcome" || r.SessionLifetimeMillis != 0 {
		t.Errorf("%+v", r)
	}
	<-done
	l.forwards()
	if l.State() != "open" { // which is set after the client is known
		t.Errorf("it is %s", l.State())
	}
	if id := l.login(); id != (Login{"me", "WORD", "TWO-WORDS"}) {
		t.Errorf("the client is %+v", id)
	}
	// Once it is known, it may not be somebody else.
	write(t, l.client, kmsg.NewRequestFormatter().AppendRequest(nil, &kmsg.SASLHandshakeRequest{Version: 1, Mechanism: "WORD"}, 6))
	if r := l.wait(); r.Failed() == nil || !strings.Contains(r.Err.Error(), "authenticates again") {
		t.Errorf("it ends with %v", r.Err)
	}
}

func TestMessagesAfterTheFirstHandshakeVersionAreBare(t *testing.T) {
	l := beginLogin(t, &fakeLogin{}, nil)
	l.handshake("WORD", 0)
	done := make(chan struct{})
	go func() { defer close(done); l.letIn("me") }()
	// The first request comes behind the message, and is not lost.
	write(t, l.client, append(append(binary.BigEndian.AppendUint32(nil, uint32(len(word))), word...), request(3)...))
	if got := frameFrom(t, l.client); string(got) != "welcome" {
		t.Errorf("the client gets %q", got)
	}
	<-done
	if got := frameFrom(t, l.broker); !bytes.Equal(got, request(3)[4:]) {
		t.Errorf("the broker gets %q", got)
	}
	write(t, l.broker, response(3))
	frameFrom(t, l.client)
	l.forwards()
}

func TestLifetimesAreToldAndKept(t *testing.T) {
	l := beginLogin(t, &fakeLogin{expires: time.Now().Add(time.Hour)}, nil)
	l.handshake("WORD", 1)
	go l.letIn("me")
	if r := l.authenticate(word); r.SessionLifetimeMillis < 3_500_000 || r.SessionLifetimeMillis > 3_600_000 {
		t.Errorf("%d ms", r.SessionLifetimeMillis)
	}
	l.forwards()
	if l.State() != "open" { // which is set after that
		t.Errorf("it is %s", l.State())
	}
	if l.watch.maxAge < 40*time.Minute || l.watch.maxAge > 50*time.Minute {
		t.Errorf("it ends after %v", l.watch.maxAge)
	}
}

// TestWhoIsNotKnownReachesNoBroker goes through the ways not to be let in.
func TestWhoIsNotKnownReachesNoBroker(t *testing.T) {
	for name, test := range map[string]struct {
		how  *fakeLogin
		send func(l *login)
		want string
	}{
		"another word": {&fakeLogin{}, func(l *login) {
			l.handshake("WORD", 1)
			if r := l.authenticate("guessed"); r.ErrorCode != 58 || r.ErrorMessage == nil || *r.ErrorMessage != "Authentication failed: that is not the word" {
				l.t.Errorf("%+v", r)
			}
		}, "authenticating the client (WORD): Authentication failed: that is not the word"},
		"another mechanism": {&fakeLogin{}, func(l *login) {
			if r := l.handshake("PLAIN", 1); r.ErrorCode != 33 || len(r.SupportedMechanisms) != 2 {
				l.t.Errorf("%+v", r)
			}
		}, `asked for "PLAIN", there are ["WORD" "OTHER"]`},
		"no mechanism": {&fakeLogin{}, func(l *login) {
			if r := l.authenticate(word); r.ErrorCode != 34 {
				l.t.Errorf("%+v", r)
			}
		}, "before it chose a mechanism"},
		"a request":            {&fakeLogin{}, func(l *login) { write(l.t, l.client, request(1)) }, "sent a request (Heartbeat) before it was authenticated"},
		"a request in between": {&fakeLogin{anonymous: true}, func(l *login) { l.handshake("WORD", 1); write(l.t, l.client, request(1)) }, "sent a request (Heartbeat) before"},
		"an endless conversation": {&fakeLogin{}, func(l *login) {
			for range 16 {
				l.ask(&kmsg.ApiVersionsRequest{Version: 0})
			}
		}, "is not done after 16 requests"},
		"a long message": {&fakeLogin{}, func(l *login) { write(l.t, l.client, []byte{0x7f, 0, 0, 0, 0, 36}) }, "a message of 2130706432 bytes"},
		"half a message": {&fakeLogin{}, func(l *login) { write(l.t, l.client, []byte{0, 0, 0, 20, 0, 36, 0}); l.client.CloseWrite() }, "EOF"},
		"no credential": {&fakeLogin{denied: errors.New("there is no credential for me")}, func(l *login) {
			l.handshake("WORD", 1)
			go l.broker.Handshake()
			if r := l.authenticate(word); r.ErrorCode != 58 || *r.ErrorMessage != "there is no credential for me" {
				l.t.Errorf("%+v", r)
			}
		}, "there is no credential for me"},
	} {
		t.Run(name, func(t *testing.T) {
			l := beginLogin(t, test.how, nil)
			test.send(l)
			r := l.wait()
			var failed *AuthenticationError
			if !errors.As(r.Err, &failed) || !strings.Contains(failed.Error(), test.want) {
				t.Errorf("it ends with %v, want %q", r.Err, test.want)
			}
			if strings.Contains(r.Err.Error(), "guessed") || strings.Contains(r.Err.Error(), word) {
				t.Errorf("a secret is in %v", r.Err)
			}
			if name != "no credential" && l.cluster.connects.Load() != 0 {
				t.Error("the broker was connected to")
			}
			if r.Traffic.RequestBytes.Load() != 0 {
				t.Error("something was forwarded")
			}
		})
	}
}

func TestAnonymousClientsAreLetInWhereThatIsSaid(t *testing.T) {
	l := beginLogin(t, &fakeLogin{anonymous: true}, nil)
	long := append(binary.BigEndian.AppendUint32(nil, 1<<20), make([]byte, 1<<20)...)
	copy(long[4:], request(1)[4:])
	done := make(chan struct{})
	go func() { defer close(done); l.letIn("anonymous") }()
	sent := make(chan error, 1)
	go func() {
		_, err := l.client.Write(long)
		sent <- err
	}()
	<-done
	if got := frameFrom(t, l.broker); !bytes.Equal(got, long[4:]) {
		t.Errorf("the broker gets another request, of %d bytes", len(got))
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func TestCertificatesAreEnoughWhereTheyCount(t *testing.T) {
	l := beginLogin(t, &fakeLogin{certificate: true}, nil)
	done := make(chan struct{})
	go func() { defer close(done); l.letIn("by certificate") }()
	if err := l.client.Handshake(); err != nil {
		t.Fatal(err)
	}
	<-done
	l.forwards()
}

func TestBrokerThatDoesNotLetTheProxyIn(t *testing.T) {
	l := beginLogin(t, &fakeLogin{}, nil)
	l.handshake("WORD", 1)
	go func() {
		frameFrom(t, l.broker)
		write(t, l.broker, (&kafka.Greeting{}).AnswerHandshake(0, nil))
		frameFrom(t, l.broker)
		write(t, l.broker, (&kafka.Greeting{Version: 1, Correlation: 1}).AnswerAuthenticate(58, "the account is locked", nil, 0))
	}()
	if r := l.authenticate(word); r.ErrorCode != 58 || strings.Contains(*r.ErrorMessage, "locked") || !strings.Contains(*r.ErrorMessage, "does not let the proxy in") {
		t.Errorf("%+v", r)
	}
	if r := l.wait(); !strings.Contains(r.Err.Error(), "authenticating with the broker (TWO-WORDS)") || !strings.Contains(r.Err.Error(), "the account is locked") {
		t.Errorf("it ends with %v", r.Err)
	}
}

// TestBrokerThatIsDownIsNoRefusal: a client that was told of a refusal would give up.
func TestBrokerThatIsDownIsNoRefusal(t *testing.T) {
	l := beginLogin(t, &fakeLogin{}, errors.New("nobody there"))
	l.handshake("WORD", 1)
	write(t, l.client, kmsg.NewRequestFormatter().AppendRequest(nil, &kmsg.SASLAuthenticateRequest{Version: 1, SASLAuthBytes: []byte(word)}, 6))
	if n, err := l.client.Read(make([]byte, 100)); err == nil {
		t.Errorf("the client gets %d bytes", n)
	}
	if r := l.wait(); r.Failed() == nil || r.Failed().Phase != PhaseDial {
		t.Errorf("it ends with %v", r.Err)
	}
}

func TestLoginIsGivenUpWhenTheSessionIsCut(t *testing.T) {
	l := beginLogin(t, &fakeLogin{}, nil)
	l.handshake("WORD", 1)
	l.Drain() // nothing has been read that could be lost
	l.wait()
	if _, err := l.client.Read(make([]byte, 1)); err == nil {
		t.Error("the client is still connected")
	}
}

// A client that is known by its certificate has no exchange in which it could be told of a
// refusal. It is told in the answer to its first request.
func TestClientKnownByCertificateIsToldOfARefusal(t *testing.T) {
	for _, version := range []int16{0, 2, 3, 4} {
		l := beginLogin(t, &fakeLogin{certificate: true, without: "by certificate"}, nil)
		m := &kmsg.ApiVersionsRequest{Version: version, ClientSoftwareName: "mine", ClientSoftwareVersion: "1"}
		r := m.ResponseKind().(*kmsg.ApiVersionsResponse)
		if err := r.ReadFrom(l.ask(m)); err != nil || r.ErrorCode != 31 || len(r.ApiKeys) != 0 {
			t.Errorf("version %d: %+v, %v", version, r, err)
		}
		end := l.wait()
		if f := end.Failed(); f == nil || f.Phase != PhaseAuthenticate || !strings.Contains(f.Error(), "nothing to show") {
			t.Errorf("it ends with %v", end.Err)
		}
		if l.cluster.connects.Load() != 0 {
			t.Error("a broker was connected to")
		}
	}
}

// What a client says of itself before it is known is kept.
func TestSoftwareOfAClientThatLogsIn(t *testing.T) {
	l := beginLogin(t, &fakeLogin{}, nil)
	l.ask(&kmsg.ApiVersionsRequest{Version: 3, ClientSoftwareName: "mine", ClientSoftwareVersion: "1.2"})
	l.handshake("WORD", 1)
	done := make(chan struct{})
	go func() { defer close(done); l.letIn("me") }()
	l.authenticate(word)
	<-done
	l.forwards()
	if is := l.Snapshot(); is.Software != "mine" || is.Version != "1.2" || is.Login != (Login{"me", "WORD", "TWO-WORDS"}) {
		t.Errorf("%+v", is)
	}
}
