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

// TLSConfig returns the configuration that sessions of [Config] begin with, made from
// what clients are to be shown. Its session tickets outlive a change of
// [Config.CurrentTLS].
func TLSConfig(base *tls.Config) *tls.Config {
	config := tlswire.Harden(base)
	config.GetConfigForClient = routeHello
	return config
}

// hello is the first message of a handshake: whose it is, and what it was refused for.
type hello struct {
	session *Session
	seen    bool
	refused error
}

// helloKey is the key of a handshake's hello in its context.
type helloKey struct{}

// Handshake reads the first byte, runs the client's TLS handshake, and finds the route
// for the name in it.
func (s *Session) Handshake() error {
	return RecoverPanic(s.handshake)
}

func (s *Session) handshake() error {
	s.client.SetDeadline(s.began.Add(s.handshakeTimeout()))
	first, err := s.client.PeekByte()
	if err != nil {
		return &Error{PhaseFirstByte, err}
	}
	if first != tlsHandshake {
		return &Error{PhaseFirstByte, newNotTLSError(s.client.Arrived())}
	}
	// A Cut closes the connection, so the context need not end.
	h := hello{session: s}
	err = s.client.HandshakeContext(context.WithValue(context.Background(), helloKey{}, &h))
	switch {
	case h.refused != nil:
		return &Error{PhaseRoute, h.refused}
	case err != nil && !h.seen:
		s.route.Name = cutName(s.client.HelloServerName())
		return &Error{PhaseHandshake, trailingDot(s.route.Name, err)}
	case err != nil:
		return &Error{PhaseHandshake, err}
	}
	s.client.SetDeadline(time.Time{})
	return nil
}

// routeHello is the GetConfigForClient of every client's handshake: it finds the route
// for the name that the client asks for. A name that is not served is refused before the
// handshake costs anything.
func routeHello(info *tls.ClientHelloInfo) (*tls.Config, error) {
	h := info.Context().Value(helloKey{}).(*hello)
	s := h.session
	h.seen = true
	if s.cluster, s.route, h.refused = s.config.Route(info.ServerName); h.refused != nil {
		if s.route.Name == "" {
			s.route.Name = cutName(info.ServerName)
		}
		s.client.Refuse(tlswire.AlertUnrecognizedName)
		return nil, h.refused
	}
	if s.config.CurrentTLS == nil {
		return nil, nil
	}
	return s.config.CurrentTLS(), nil
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

// Protocol is what a client seems to speak, in words.
type Protocol string

const (
	ProtocolHTTP  Protocol = "an HTTP request"
	ProtocolProxy Protocol = "a PROXY protocol header"
	ProtocolKafka Protocol = "a plaintext Kafka request"
)

var httpMethods = []string{"GET ", "PUT ", "POST", "HEAD", "OPTI", "DELE", "PATC", "CONN"}

func newNotTLSError(sent []byte) *NotTLSError {
	switch {
	case isHTTP(sent):
		return &NotTLSError{ProtocolHTTP}
	case bytes.HasPrefix(sent, []byte("PROXY ")), bytes.HasPrefix(sent, []byte("\r\n\r\n\x00\r\nQUIT\n")):
		return &NotTLSError{ProtocolProxy}
	case sent[0] == 0:
		return &NotTLSError{ProtocolKafka}
	}
	return &NotTLSError{Protocol(fmt.Sprintf("0x%02x first", sent[0]))}
}

func isHTTP(sent []byte) bool {
	for _, method := range httpMethods {
		if bytes.HasPrefix(sent, []byte(method)) {
			return true
		}
	}
	return false
}
