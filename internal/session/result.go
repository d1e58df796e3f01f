package session

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/route"
)

// Phase is the part of a session's life in which an error happened.
type Phase int

const (
	PhaseFirstByte    Phase = iota // before the client's TLS handshake
	PhaseHandshake                 // the client's TLS handshake
	PhaseRoute                     // where the name that the client asks for leads
	PhaseAuthenticate              // who the client is
	PhaseDial                      // TCP to the broker
	PhaseUpstreamTLS               // TLS to the broker
	PhaseCluster                   // whether the broker belongs to the cluster
	PhaseLogin                     // whether the broker lets the proxy in for the client
	PhaseRequest                   // requests, client to broker
	PhaseResponse                  // responses, broker to client
	PhaseRewrite                   // a response that cannot be rewritten

	phases = iota
)

// Phases are all of them, in the order in which they come.
var Phases = [phases]Phase{PhaseFirstByte, PhaseHandshake, PhaseRoute, PhaseAuthenticate, PhaseDial, PhaseUpstreamTLS, PhaseCluster, PhaseLogin, PhaseRequest, PhaseResponse, PhaseRewrite}

// String returns the phase's name in logs and metrics.
func (p Phase) String() string {
	return [phases]string{"first-byte", "handshake", "route", "authenticate", "dial", "upstream-tls", "cluster", "broker-login", "request", "response", "rewrite"}[p]
}

// Error is an error and the phase it happened in.
type Error struct {
	Phase Phase
	Err   error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// connecting reports whether it was the broker that could not be reached, or that went away
// before the session had begun.
func (e *Error) connecting() bool {
	return e.Phase == PhaseDial || e.Phase == PhaseUpstreamTLS || e.Phase == PhaseCluster ||
		(e.Phase == PhaseAuthenticate || e.Phase == PhaseLogin) && !isRefusal(e.Err)
}

// Retired is the reason for which this side ended a session in which nothing was wrong.
type Retired string

const (
	RetiredIdle Retired = "idle"
	RetiredAge  Retired = "age"
)

func (r Retired) Error() string { return "retired: " + string(r) }

// Result is what became of a session.
type Result struct {
	Began       time.Time
	Listener    string // that the client came by; "": it needs no name
	Label       string // the same, where it has to have one
	Client      net.Addr
	ServerName  string        // that the client asked for (SNI), cut to 253 bytes; "": none
	Destination *Destination  // that the client was led to; nil: it was refused before
	Route       route.Route   // there
	Reached     bool          // whether a broker was
	Upstream    route.Address // of that broker
	Took        time.Duration // from accept to the end
	Handshake   time.Duration // from accept to the end of the client's handshake; 0: it did not get there
	Connect     time.Duration // from there until the broker was reached; 0: it was not
	TLSVersion  uint16        // of the client, as in crypto/tls; 0: plaintext, or no handshake
	Resumed     bool          // whether the client's TLS session was resumed
	Traffic     *Traffic

	// Introduction is who the client says it is, and Login who it has proved to be.
	Introduction kafka.Introduction
	Login        Login

	// Err is nil when the session ended in good order. Otherwise errors.As finds a
	// [*PanicError], a [Retired] or an [*Error] in it.
	Err error
}

// Failed returns Err as an error with its phase when the session failed. A peer that
// just goes away is no failure, but for a broker that goes away before it is reached.
func (r *Result) Failed() *Error {
	var failed *Error
	if !errors.As(r.Err, &failed) {
		return nil
	}
	if IsQuiet(r.Err) && !failed.connecting() {
		return nil
	}
	return failed
}

// Traffic is what one session has carried, or several together. The session's goroutines
// write it, each its own fields.
type Traffic struct {
	RequestBytes, ResponseBytes atomic.Int64 // forwarded, as plaintext
	Requests, Responses         atomic.Int64 // frames
	Rewritten                   atomic.Int64 // responses in which something was replaced
	EndpointsDropped            atomic.Int64 // endpoints left out of a response because they did not fit
	NotLeader                   atomic.Int64 // by the bootstrap name: responses for partitions that another broker leads
}

// Add adds what another one has carried.
func (t *Traffic) Add(u *Traffic) {
	t.RequestBytes.Add(u.RequestBytes.Load())
	t.ResponseBytes.Add(u.ResponseBytes.Load())
	t.Requests.Add(u.Requests.Load())
	t.Responses.Add(u.Responses.Load())
	t.Rewritten.Add(u.Rewritten.Load())
	t.EndpointsDropped.Add(u.EndpointsDropped.Load())
	t.NotLeader.Add(u.NotLeader.Load())
}

// Bytes returns how many bytes were forwarded either way.
func (t *Traffic) Bytes() int64 { return t.RequestBytes.Load() + t.ResponseBytes.Load() }

// connectPhases are the phases in which connecting to a broker fails.
var connectPhases = map[cluster.Stage]Phase{
	cluster.StageDial:     PhaseDial,
	cluster.StageTLS:      PhaseUpstreamTLS,
	cluster.StageIdentity: PhaseCluster,
}

// WithPhase gives an error of Cluster.Connect its phase.
func WithPhase(err error) error {
	var failed *cluster.ConnectError
	if errors.As(err, &failed) {
		return &Error{connectPhases[failed.Stage], err}
	}
	return &Error{PhaseDial, err}
}

// withLoginPhase gives an error of authenticating its phase, unless it has one.
func withLoginPhase(err error) error {
	var failed *AuthenticationError
	switch {
	case errors.As(err, new(*Error)) || !errors.As(err, &failed):
		return err
	case failed.Broker:
		return &Error{PhaseLogin, err}
	}
	return &Error{PhaseAuthenticate, err}
}

// cause returns the error that ended a session, of the two that its two
// directions ended with: when one fails the other one's connections are closed.
func cause(a, b error) error {
	if a == nil || b != nil && IsQuiet(a) || errors.As(b, new(*PanicError)) {
		return b
	}
	return a
}

// IsQuiet reports whether an error is just a peer that went away, or the echo
// of a connection closed from here.
func IsQuiet(err error) bool {
	return errors.Is(err, errClientLeft) || errors.Is(err, kafka.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
