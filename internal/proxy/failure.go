package proxy

import (
	"bytes"
	"context"
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
	if a == nil || b != nil && isQuiet(a) || errors.As(b, new(*panicError)) {
		return b
	}
	return a
}

// isQuiet reports whether an error is just a peer that went away, or the echo
// of a connection closed from here.
func isQuiet(err error) bool {
	return errors.Is(err, kafka.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
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

	var (
		failed  *phaseError
		broken  *panicError
		retired retirement
	)
	switch {
	case errors.As(err, &broken):
		p.stats.panics.Add(1)
		attrs = append(attrs, slog.Any("error", broken), slog.String("stack", string(broken.stack)), slog.String("hint", panicHint))
		p.complain(slog.LevelError, "panic", likeness(broken), "connection ended by a panic", attrs...)
		return
	case errors.As(err, &retired):
		attrs = append(attrs, slog.String("retired", string(retired)))
	case errors.As(err, &failed):
		attrs = append(attrs, slog.String("phase", failed.phase.String()), slog.Any("error", err))
		// Before the pumps run, a peer that goes away is worth knowing about
		// only when it is the broker.
		if !isQuiet(err) || failed.phase == phaseDial || failed.phase == phaseUpstreamTLS {
			p.stats.failures[failed.phase].Add(1)
			if h := hint(failed); h != "" {
				attrs = append(attrs, slog.String("hint", h))
			}
			p.complain(slog.LevelWarn, failed.phase.String(), s.route.Name+" "+likeness(err), "connection failed", attrs...)
			return
		}
	}
	p.log.LogAttrs(p.forced, slog.LevelDebug, "connection closed", attrs...)
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
	var (
		notTLS    *notTLSError
		host      x509.HostnameError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		bytesErr  *kafka.Error
		dns       *net.DNSError
	)
	switch {
	case isTooManyFiles(err):
		return tooManyFilesHint
	case errors.Is(err, errSilent), errors.Is(err, syscall.ETIMEDOUT) && e.phase > phaseUpstreamTLS:
		return "one end has stopped answering: the machine is gone, or the network in between"
	}
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
		switch text := err.Error(); {
		case strings.Contains(text, "didn't provide a certificate"):
			return "mTLS is enabled: the client needs a certificate and key signed by --ca-certs"
		case errors.As(err, &authority):
			return "the client's certificate is not signed by a CA in --ca-certs"
		case errors.As(err, &invalid):
			return "the client's certificate is not valid: see its dates and key usage"
		case strings.Contains(text, "unsupported versions"), strings.Contains(text, "protocol version"):
			return "the client needs TLS 1.2 or newer"
		case strings.Contains(text, "no cipher suite supported"):
			return "the client offers no cipher suite that goes with TLS 1.2 or newer and the key of --cert"
		case errors.Is(err, os.ErrDeadlineExceeded):
			return "the client did not finish its handshake in time: see --handshake-timeout if it is just slow"
		}
		return clientAlertHints[remoteAlert(err)]
	case phaseRoute:
		if errors.Is(err, errNoSNI) {
			return "connect by host name, not by address; --allow-missing-sni treats such clients as asking for bootstrap"
		}
		return "see --sni-suffix, and the name that the client connects to"
	case phaseDial:
		switch {
		case errors.As(err, &dns):
			return "the host name does not resolve: see DNS, or give it an address in --hosts-file"
		case isTimeout(err):
			return "the broker's address does not answer: see the address, and the firewall in between"
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
		case isTimeout(err):
			return "the broker did not answer the handshake in time: see that its port is a TLS listener; --dial-timeout if it is just slow"
		case isQuiet(err):
			return "the broker ended the handshake: see that its port is a TLS listener"
		}
		return brokerAlertHints[remoteAlert(err)]
	case phaseRequest, phaseResponse:
		alert := remoteAlert(err)
		switch {
		case errors.As(err, &bytesErr) && strings.Contains(bytesErr.Reason, "--max-frame-bytes"):
			return "raise --max-frame-bytes if frames that long are meant to be"
		case e.phase == phaseRequest: // what is read there is the client's
			return clientAlertHints[alert]
		}
		return brokerAlertHints[alert] // in TLS 1.3, certificates are judged after the handshake
	case phaseRewrite:
		return "nothing of this response's addresses was forwarded; the client will reconnect"
	}
	return ""
}

// remoteAlert returns the TLS alert that the other end has sent, in the words
// of crypto/tls, or nothing.
func remoteAlert(err error) string {
	_, alert, _ := strings.Cut(err.Error(), "remote error: tls: ")
	return alert
}

const distrustHint = "the client does not trust this proxy's certificate: give it the CA that signed --cert, and connect by a name that the certificate covers"

// clientAlertHints are for the alerts that clients send about --cert. OpenSSL and
// Go name an unknown CA, Java says "unknown certificate" to all there is.
var clientAlertHints = map[string]string{
	"unknown certificate authority": distrustHint,
	"unknown certificate":           distrustHint,
	"bad certificate":               distrustHint,
	"expired certificate":           "to the client, this proxy's certificate has expired: renew --cert, or see the client's clock",
	"revoked certificate":           "to the client, this proxy's certificate has been revoked: replace --cert",
	"unsupported certificate":       "the client does not take certificates like --cert: see its key usage",
	"handshake failure":             "client and proxy have no cipher suite or key type in common",
}

const brokerDistrustHint = "the broker wants a client certificate that it trusts: see --upstream-cert and --upstream-key"

// brokerAlertHints are for the alerts that brokers send, most of them about
// --upstream-cert.
var brokerAlertHints = map[string]string{
	"certificate required":           brokerDistrustHint,
	"bad certificate":                brokerDistrustHint,
	"unknown certificate":            brokerDistrustHint,
	"unknown certificate authority":  brokerDistrustHint,
	"access denied":                  brokerDistrustHint,
	"unsupported certificate":        brokerDistrustHint,
	"expired certificate":            "to the broker, the proxy's client certificate has expired: renew --upstream-cert",
	"revoked certificate":            "to the broker, the proxy's client certificate has been revoked: replace --upstream-cert",
	"handshake failure":              "broker and proxy have no cipher suite in common, or the broker wants a client certificate: see --upstream-cert",
	"protocol version not supported": "the broker needs to offer TLS 1.2 or newer",
	"unrecognized name":              "the broker's port does not serve that host name: see --upstream",
}

const tooManyFilesHint = "the program may not open more files: raise its limit (ulimit -n, or LimitNOFILE= for systemd), or bound --max-connections; each connection takes two"

func isTooManyFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

func acceptHint(err error) string {
	if isTooManyFiles(err) {
		return tooManyFilesHint
	}
	return ""
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}
