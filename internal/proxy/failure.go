package proxy

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"kafka-sni-proxy/internal/kafka"
)

// phase is the part of a connection's life in which an error happened.
type phase int

const (
	phaseFirstByte phase = iota
	phaseHandshake
	phaseRoute
	phaseDial
	phaseUpstreamTLS
	phaseRequest
	phaseResponse
	phaseRewrite
)

var phaseNames = [...]string{"first-byte", "handshake", "route", "dial", "upstream-tls", "request", "response", "rewrite"}

// String returns the phase's name in logs and metrics.
func (p phase) String() string { return phaseNames[p] }

// phaseError is an error and the phase it happened in.
type phaseError struct {
	phase phase
	err   error
}

func (e *phaseError) Error() string { return e.err.Error() }
func (e *phaseError) Unwrap() error { return e.err }

// cause returns the error that ended a session, of the two that its two
// directions ended with: when one fails the other one's connections are closed.
func cause(a, b error) error {
	if a == nil || b != nil && isQuiet(a) {
		return b
	}
	return a
}

// isQuiet reports whether an error is just a peer that went away, or the echo
// of a connection closed from here.
func isQuiet(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// report writes the one log line of a connection, and counts its failure.
func (p *Proxy) report(s *session, err error) {
	attrs := []slog.Attr{
		slog.String("client", s.client.RemoteAddr().String()),
		slog.String("sni", s.route.Name),
	}
	if s.broker != nil {
		attrs = append(attrs, slog.String("upstream", s.address.String()),
			slog.Int64("request_bytes", s.traffic.up.Load()), slog.Int64("response_bytes", s.traffic.down.Load()))
	}
	attrs = append(attrs, slog.Duration("took", time.Since(s.began).Round(time.Microsecond)))

	level, message := slog.LevelDebug, "connection closed"
	var failed *phaseError
	if errors.As(err, &failed) {
		attrs = append(attrs, slog.String("phase", failed.phase.String()), slog.Any("error", err))
		// Before the pumps run, a peer that goes away is worth knowing about
		// only when it is the broker.
		if !isQuiet(err) || failed.phase == phaseDial || failed.phase == phaseUpstreamTLS {
			level, message = slog.LevelWarn, "connection failed"
			p.stats.failures[failed.phase].Add(1)
			if h := hint(failed); h != "" {
				attrs = append(attrs, slog.String("hint", h))
			}
		}
	}
	p.log.LogAttrs(s.proxy.forced, level, message, attrs...)
}

// tlsHandshake is the first byte of a TLS connection (RFC 8446, 5.1).
const tlsHandshake = 0x16

// notTLSError says what a client sent that does not speak TLS. It is closed
// without a TLS alert, which a plaintext Kafka client would read as the length
// of a frame of 352 MB.
type notTLSError struct{ sent []byte }

func (e *notTLSError) Error() string { return "the client does not speak TLS: it sent " + e.guess() }

func (e *notTLSError) guess() string {
	for _, method := range []string{"GET ", "PUT ", "POST", "HEAD", "OPTI", "DELE", "PATC", "CONN"} {
		if bytes.HasPrefix(e.sent, []byte(method)) {
			return "an HTTP request"
		}
	}
	if bytes.HasPrefix(e.sent, []byte("PROXY ")) || bytes.HasPrefix(e.sent, []byte("\r\n\r\n\x00\r\nQUIT\n")) {
		return "a PROXY protocol header"
	}
	if e.sent[0] == 0 {
		return "a plaintext Kafka request"
	}
	return fmt.Sprintf("0x%02x first", e.sent[0])
}

// hint says what to do about an error, where that is known.
func hint(e *phaseError) string {
	err := e.err
	text := err.Error()
	var (
		notTLS    *notTLSError
		host      x509.HostnameError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		alert     tls.AlertError
		record    tls.RecordHeaderError
		bytesErr  *kafka.Error
		dns       *net.DNSError
	)
	switch e.phase {
	case phaseFirstByte:
		if errors.As(err, &notTLS) {
			switch notTLS.guess() {
			case "a plaintext Kafka request":
				return "set security.protocol=SSL (or SASL_SSL) in the client"
			case "a PROXY protocol header":
				return "turn the PROXY protocol off in the load balancer"
			}
			return "only Kafka clients that speak TLS are served on this port"
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return "the client connected and sent nothing"
		}
	case phaseHandshake:
		switch {
		case strings.Contains(text, "unknown certificate authority"), strings.Contains(text, "certificate unknown"), strings.Contains(text, "bad certificate") && errors.As(err, &alert):
			return "the client does not trust this proxy's certificate: give it the CA that signed --cert, and connect by a name that the certificate covers"
		case strings.Contains(text, "didn't provide a certificate"):
			return "mTLS is enabled: the client needs a certificate and key signed by --ca-certs"
		case errors.As(err, &authority):
			return "the client's certificate is not signed by a CA in --ca-certs"
		case errors.As(err, &invalid):
			return "the client's certificate is not valid: see its dates and key usage"
		case strings.Contains(text, "unsupported versions"), strings.Contains(text, "protocol version"):
			return "the client needs TLS 1.2 or newer"
		case errors.Is(err, os.ErrDeadlineExceeded):
			return "the client did not finish its handshake in time"
		}
	case phaseRoute:
		if errors.Is(err, errNoSNI) {
			return "connect by host name, not by address; --allow-missing-sni treats such clients as asking for bootstrap"
		}
		return "see --sni-suffix, and the name that the client connects to"
	case phaseDial:
		if errors.As(err, &dns) {
			return "the host name does not resolve: see DNS, or give it an address in --hosts-file"
		}
		return "the broker does not accept connections: see its address, and the firewall in between"
	case phaseUpstreamTLS:
		switch {
		case errors.As(err, &record):
			return "the broker's port does not speak TLS: use its SSL or SASL_SSL listener"
		case errors.As(err, &authority):
			return "the broker's certificate is signed by a CA that is not trusted: give that CA with --upstream-ca-certs"
		case errors.As(err, &host):
			return "the broker's certificate does not name the host it was reached by: see --upstream and the cluster's advertised listeners"
		case errors.As(err, &invalid):
			return "the broker's certificate is not valid: see its dates and key usage"
		case isQuiet(err), errors.Is(err, os.ErrDeadlineExceeded):
			return "the broker ended the handshake: see that its port is a TLS listener"
		}
		return certificateHint(text)
	case phaseResponse, phaseRequest:
		if errors.As(err, &bytesErr) && strings.Contains(text, "--max-frame-bytes") {
			return "raise --max-frame-bytes if frames that long are meant to be"
		}
		return certificateHint(text)
	case phaseRewrite:
		return "nothing of this response's addresses was forwarded; the client will reconnect"
	}
	return ""
}

func certificateHint(text string) string {
	if strings.Contains(text, "certificate required") || strings.Contains(text, "remote error: tls: bad certificate") || strings.Contains(text, "remote error: tls: unknown certificate") {
		return "the broker wants a client certificate that it trusts: see --upstream-cert and --upstream-key"
	}
	return ""
}
