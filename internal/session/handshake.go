package session

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"kafka-sni-proxy/internal/tlswire"
)

// tlsHandshake is the first byte of a TLS connection (RFC 8446, 5.1).
const tlsHandshake = 0x16

// maxServerName is the longest name that DNS has (RFC 1035, 2.3.4). A hello may have one
// of 64 KiB.
const maxServerName = 253

// Tickets is where the TLS handshakes of a server begin. It has the keys of the session
// tickets, which outlive a change of what clients are shown: clients may still resume, and
// are checked against the configuration that is current then.
type Tickets struct{ begin *tls.Config }

// NewTickets returns new keys.
func NewTickets() *Tickets {
	config := tlswire.Harden(&tls.Config{})
	config.GetConfigForClient = routeHello
	return &Tickets{config}
}

// TLSConfig returns a configuration for [Config.TLS], made from what clients are to be
// shown.
func TLSConfig(base *tls.Config) *tls.Config { return tlswire.Harden(base) }

// hello is the first message of a handshake: whose it is, and what it was refused for.
type hello struct {
	session *Session
	seen    bool
	refused error
}

// helloKey is the key of a handshake's hello in its context.
type helloKey struct{}

// Handshake reads the first byte, runs the client's TLS handshake, and finds where to
// connect the client, by the name in it. In plaintext there is neither.
func (s *Session) Handshake() error {
	return RecoverPanic(s.handshake)
}

func (s *Session) handshake() error {
	s.client.SetDeadline(s.began.Add(s.handshakeTimeout()))
	first, err := s.client.PeekByte()
	if err != nil {
		return &Error{PhaseFirstByte, err}
	}
	if s.config.Tickets == nil {
		err = s.beginPlaintext(first)
	} else {
		err = s.beginTLS(first)
	}
	if err == nil {
		s.client.SetDeadline(time.Time{})
		s.greeted = time.Since(s.began)
		s.tlsVersion, s.resumed = s.client.TLSVersion()
		s.known.Store(uint32(knownClient))
	}
	return err
}

func (s *Session) beginTLS(first byte) error {
	if first != tlsHandshake {
		return &Error{PhaseFirstByte, newNotTLSError(s.client.Arrived())}
	}
	// A Cut closes the connection, so the context need not end.
	h := hello{session: s}
	err := s.client.HandshakeContext(context.WithValue(context.Background(), helloKey{}, &h))
	switch {
	case h.refused != nil:
		return &Error{PhaseRoute, h.refused}
	case err != nil && !h.seen:
		s.serverName = cutName(s.client.HelloServerName())
		return &Error{PhaseHandshake, trailingDot(s.serverName, err)}
	case err != nil:
		return &Error{PhaseHandshake, err}
	}
	return nil
}

func (s *Session) beginPlaintext(first byte) error {
	if sent := s.client.Arrived(); first != 0 {
		return &Error{PhaseFirstByte, newNotKafkaError(sent)}
	}
	if err := s.findDestination(""); err != nil {
		return &Error{PhaseRoute, err}
	}
	return nil
}

// findDestination finds where to connect the client.
func (s *Session) findDestination(serverName string) error {
	var err error
	s.cluster, s.route, err = s.config.Route(serverName)
	return err
}

// routeHello is the GetConfigForClient of every client's handshake: it finds the route
// for the name that the client asks for. A name that is not served is refused before the
// handshake costs anything.
func routeHello(info *tls.ClientHelloInfo) (*tls.Config, error) {
	h := info.Context().Value(helloKey{}).(*hello)
	s := h.session
	h.seen = true
	s.serverName = cutName(info.ServerName)
	if h.refused = s.findDestination(info.ServerName); h.refused != nil {
		if s.serverName != "" && s.route.Name != "" { // in the form in which names are compared
			s.serverName = s.route.Name
		}
		if _, busy := h.refused.(interface{ Busy() }); !busy { // Abort resets that one
			s.client.Refuse(tlswire.AlertUnrecognizedName)
		}
		return nil, h.refused
	}
	if s.serverName != "" && !s.route.ByNode {
		s.serverName = s.route.Name
	}
	return s.config.TLS, nil
}

// cutName returns a name as it may be logged.
func cutName(name string) string { return name[:min(len(name), maxServerName)] }

// TrailingDotError is of a server name that ends with a dot. RFC 6066 forbids it, and
// crypto/tls does not read any further.
type TrailingDotError struct {
	ServerName string
	Err        error
}

func (e *TrailingDotError) Error() string {
	return fmt.Sprintf("the client's server name %q ends with a dot: %v", e.ServerName, e.Err)
}

func (e *TrailingDotError) Unwrap() error { return e.Err }

func trailingDot(name string, err error) error {
	if name == "" || name[len(name)-1] != '.' {
		return err
	}
	return &TrailingDotError{name, err}
}

// NotTLSError says what a client sent that does not speak TLS. It is closed
// without a TLS alert, which a plaintext Kafka client would read as the length
// of a frame of 352 MB.
type NotTLSError struct{ Sent Protocol }

func (e *NotTLSError) Error() string {
	return "the client does not speak TLS: it sent " + string(e.Sent)
}

// NotKafkaError says what a client sent to a listener without TLS that is no Kafka request.
type NotKafkaError struct{ Sent Protocol }

func (e *NotKafkaError) Error() string {
	return "the client does not speak Kafka in plaintext: it sent " + string(e.Sent)
}

// Protocol is what a client seems to speak, in words.
type Protocol string

const (
	ProtocolTLS   Protocol = "a TLS handshake"
	ProtocolHTTP  Protocol = "an HTTP request"
	ProtocolProxy Protocol = "a PROXY protocol header"
	ProtocolKafka Protocol = "a plaintext Kafka request"
)

var httpMethods = []string{"GET ", "PUT ", "POST", "HEAD", "OPTI", "DELE", "PATC", "CONN"}

// protocolOf returns what a client speaks whose first bytes are these.
func protocolOf(sent []byte) Protocol {
	switch {
	case sent[0] == tlsHandshake:
		return ProtocolTLS
	case isHTTP(sent):
		return ProtocolHTTP
	case bytes.HasPrefix(sent, []byte(proxyV1)), bytes.HasPrefix(sent, []byte(proxyV2)):
		return ProtocolProxy
	case sent[0] == 0:
		return ProtocolKafka
	}
	return Protocol(fmt.Sprintf("0x%02x first", sent[0]))
}

func newNotTLSError(sent []byte) *NotTLSError     { return &NotTLSError{protocolOf(sent)} }
func newNotKafkaError(sent []byte) *NotKafkaError { return &NotKafkaError{protocolOf(sent)} }

func isHTTP(sent []byte) bool {
	for _, method := range httpMethods {
		if bytes.HasPrefix(sent, []byte(method)) {
			return true
		}
	}
	return false
}
