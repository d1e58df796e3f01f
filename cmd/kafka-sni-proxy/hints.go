package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"

	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/credentials"
	"kafka-sni-proxy/internal/dial"
	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/oauth"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/sasl"
	"kafka-sni-proxy/internal/server"
	"kafka-sni-proxy/internal/session"
	"kafka-sni-proxy/internal/tlswire"
)

// hint says what an operator can do about a failure; "" where that is not known. It is
// the one place where errors meet the names of flags.
func hint(err error) string {
	var (
		limit    server.LimitError
		panicked *session.PanicError
		failed   *session.Error
	)
	switch {
	case isTooManyFiles(err):
		return tooManyFilesHint
	case errors.As(err, &limit):
		return limitHints[limit]
	case errors.As(err, new(*server.OneNameError)):
		return "remove the fixed server name from the client's TLS settings (servername in Node.js, tls.Config.ServerName in Go), so that it sends the name of the broker that it connects to; with --allow-missing-sni, have it send names"
	case errors.As(err, &panicked):
		return "this is a bug in kafka-sni-proxy: please report it with the stack"
	case !errors.As(err, &failed):
		return ""
	case errors.Is(err, session.ErrSilent), errors.Is(err, syscall.ETIMEDOUT) && failed.Phase > session.PhaseUpstreamTLS:
		return "one end has stopped answering: the machine is gone, or the network in between"
	}
	switch failed.Phase {
	case session.PhaseFirstByte:
		return firstByteHint(err)
	case session.PhaseHandshake:
		return handshakeHint(err)
	case session.PhaseRoute:
		return routeHint(err)
	case session.PhaseAuthenticate:
		return authenticateHint(err)
	case session.PhaseLogin:
		return loginHint(err)
	case session.PhaseDial:
		return dialHint(err)
	case session.PhaseUpstreamTLS:
		return upstreamTLSHint(err)
	case session.PhaseCluster:
		return "one of --upstream, or DNS, leads to another Kafka cluster: correct it. If the cluster was replaced, restart the proxy or have it reload (SIGHUP)"
	case session.PhaseRequest, session.PhaseResponse:
		return pumpHint(failed.Phase, err)
	case session.PhaseRewrite:
		if errors.As(err, new(*route.NoPortError)) {
			return "widen ports.brokers of the listener, or set ports.first-node-id: each broker needs a port, by its node id; nothing of this response was forwarded"
		}
		if errors.Is(err, kafka.ErrFrameSize) {
			return frameSizeHint
		}
		return "nothing of this response's addresses was forwarded; the client will reconnect"
	}
	return ""
}

const proxyNotDueHint = "turn the PROXY protocol off in the load balancer, or list its address in proxy-protocol.from of the listener (in a configuration file)"

var limitHints = map[server.LimitError]string{
	server.LimitConnections:        "raise --max-connections if the machine can bear more, or run another copy of the proxy",
	server.LimitHandshakes:         "raise --max-handshakes-per-address if the address stands for many clients, as a load balancer's does",
	server.LimitClusterConnections: "raise limits.max-connections of the cluster, or see which of its clients connect so often",
}

const (
	accessLogHint     = "make room on the disk of --access-log, and see that its folder may be written to; when memory for waiting lines is full, further ones are lost (access_log_dropped_total)"
	traceHint         = "see that --trace-endpoint is where a collector takes OTLP over HTTP; connections are not affected"
	traceSlowHint     = "lower --trace-connections or --trace-requests, or have the collector take more"
	accessLogSlowHint = "put --access-log on a faster disk, or see that who reads from it keeps up"
)

const tooManyFilesHint = "the program may not open more files: raise its limit (ulimit -n, or LimitNOFILE= for systemd), or bound --max-connections; each connection takes two"

func isTooManyFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

func firstByteHint(err error) string {
	var (
		notTLS   *session.NotTLSError
		notKafka *session.NotKafkaError
		header   *session.ProxyHeaderError
	)
	switch {
	case errors.As(err, &header) && header.Sent != "":
		return "turn the PROXY protocol on in the load balancer (send-proxy-v2 in HAProxy), or take its address out of proxy-protocol.from"
	case errors.As(err, &header):
		return "what is in front of the proxy has to send the PROXY protocol, version 1 or 2"
	case errors.As(err, &notKafka):
		switch notKafka.Sent {
		case session.ProtocolTLS:
			return "this listener is plaintext: set security.protocol=PLAINTEXT (or SASL_PLAINTEXT) in the client, or have it connect to a listener with TLS"
		case session.ProtocolProxy:
			return proxyNotDueHint
		}
		return "only Kafka clients are served on this port"
	}
	if errors.As(err, &notTLS) {
		switch notTLS.Sent {
		case session.ProtocolKafka:
			return "set security.protocol=SSL (or SASL_SSL) in the client"
		case session.ProtocolProxy:
			return proxyNotDueHint
		}
		return "only Kafka clients that speak TLS are served on this port"
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "the client connected and sent nothing"
	}
	return ""
}

func handshakeHint(err error) string {
	var (
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		dot       *session.TrailingDotError
	)
	switch {
	case errors.As(err, &authority):
		return "the client's certificate is not signed by a CA in --ca-certs"
	case errors.As(err, &invalid):
		return "the client's certificate is not valid: see its dates and key usage"
	case errors.As(err, &dot):
		return "leave out the dot at the end of the host name in the client's bootstrap.servers"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "the client did not finish its handshake in time: see --handshake-timeout if it is just slow"
	}
	if alert, ok := tlswire.RemoteAlert(err); ok {
		return clientAlertHints[alert]
	}
	for text, hint := range handshakeTexts {
		if strings.Contains(err.Error(), text) {
			return hint
		}
	}
	return ""
}

// handshakeTexts are for errors of crypto/tls that have no type.
var handshakeTexts = map[string]string{
	"didn't provide a certificate": "mTLS is enabled: the client needs a certificate and key signed by --ca-certs",
	"unsupported versions":         "the client needs TLS 1.2 or newer",
	"protocol version":             "the client needs TLS 1.2 or newer",
	"no cipher suite supported":    "the client offers no cipher suite that goes with TLS 1.2 or newer and the key of --cert",
}

func routeHint(err error) string {
	if errors.As(err, new(*server.NoServerNameError)) {
		return "connect by host name, not by address. Clients that cannot send a server name (SNI) are let in by --allow-missing-sni, but reach the first upstream alone: no use with more than one broker"
	}
	var unknown *route.UnknownNameError
	if errors.As(err, &unknown) && unknown.Nearest != "" {
		return "did the client mean " + unknown.Nearest + "? See the name that it connects to"
	}
	return "see --sni-suffix, and the name that the client connects to"
}

func gateHint(e *dial.GateError) string {
	if isTimeout(e) && e.Stage != dial.StageReach {
		return "the gate has not answered in time: see the firewall between it and the brokers, and that via has the gate's protocol, socks5:// or http://"
	}
	return gateHints[e.Stage]
}

var gateHints = map[dial.Stage]string{
	dial.StageReach:  "see the host and the port in via, and that the gate runs there",
	dial.StageLogin:  "see the user and the password in via: socks5://user:password@host:port",
	dial.StageRefuse: "see the gate's own log and rules: it must be allowed to connect to the brokers, and has to know their names (or put their addresses into hosts-file)",
	dial.StageSpeak:  "see via: socks5:// for a gate that speaks SOCKS5, http:// for one that speaks HTTP CONNECT, without TLS",
}

func dialHint(err error) string {
	var dns *net.DNSError
	var gate *dial.GateError
	if errors.As(err, &gate) {
		return gateHint(gate)
	}
	switch {
	case errors.As(err, &dns):
		return "the host name does not resolve: see DNS, or give it an address in --hosts-file"
	case isTimeout(err):
		return "the broker's address does not answer: see the address, and the firewall in between"
	}
	return "the broker does not accept connections: see its address, and the firewall in between"
}

func upstreamTLSHint(err error) string {
	var (
		host      x509.HostnameError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		loop      *cluster.LoopError
	)
	switch {
	case errors.As(err, &loop):
		return "correct --upstream, DNS, or the load balancer behind that name: it has to lead to the brokers, not back to the proxy"
	case errors.As(err, &record):
		return "the broker's port does not speak TLS: use its SSL or SASL_SSL listener"
	case errors.As(err, &authority):
		return "the broker's certificate is signed by a CA that is not trusted: give that CA with --upstream-ca-certs; kafka-sni-proxy --save-upstream-ca HOST:PORT FILE shows it, for you to compare, and saves it"
	case errors.As(err, &host):
		return "the broker's certificate does not name the host it was reached by: see --upstream and the cluster's advertised listeners"
	case errors.As(err, &invalid):
		return "the broker's certificate is not valid: see its dates and key usage"
	case isTimeout(err):
		return "the broker did not answer the handshake in time: see that its port is a TLS listener; --dial-timeout if it is just slow"
	case session.IsQuiet(err):
		return "the broker ended the handshake: see that its port is a TLS listener"
	}
	if alert, ok := tlswire.RemoteAlert(err); ok {
		return brokerAlertHints[alert]
	}
	return ""
}

// authenticateHint is of a client that did not prove who it is.
func authenticateHint(err error) string {
	var (
		failed  *session.AuthenticationError
		failure *sasl.Failure
		noKeys  *oauth.UnavailableError
		none    *credentials.NoneError
		later   interface{ Unavailable() bool }
	)
	if !errors.As(err, &failed) {
		return ""
	}
	switch {
	case errors.As(err, &none):
		return "add a credential for this principal (authentication.brokers.credentials of the cluster), or a default for all that have none"
	case errors.As(err, &noKeys):
		return "see that the issuer (authentication.clients, jwks) can be reached from here and that its certificate is trusted (ca-certs); the client tries again"
	case errors.As(err, &later):
		return "see that what authentication.brokers.credentials names can be read, and has credentials of the form that the mechanism wants; the client tries again"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "the client connected and did not log in: it may be no Kafka client, or be set to another security.protocol"
	case errors.As(err, &failure) && failed.Mechanism == sasl.OAuthBearer:
		return "the token is not taken for the reason that is told: compare issuer, audience and clocks, or have the client get a new one"
	case errors.As(err, &failure):
		return "check user and password of the client; kafka-sni-proxy passwd FILE USER sets a password in the file of users"
	case failed.Mechanism == "TLS":
		return "see principal-mapping-rules of the cluster: none of them, or no credential, is for this certificate"
	}
	return "set security.protocol=SASL_SSL and one of the cluster's mechanisms (authentication.clients) in the client; a mechanism ANONYMOUS would let it in without"
}

// loginHint is of a broker that did not let the proxy in.
func loginHint(err error) string {
	var refused *kafka.LoginError
	if errors.As(err, &refused) && refused.Code == kafka.CodeUnsupportedMechanism {
		return "set authentication.brokers.mechanism of the cluster to one that the brokers have at this port"
	}
	if errors.As(err, &refused) {
		return "the brokers do not take the credential of this principal: put a good one where authentication.brokers.credentials says"
	}
	return "the broker went away while the proxy logged in: it may want another security protocol at this port (authentication.brokers.mechanism)"
}

const frameSizeHint = "raise --max-frame-bytes if frames that long are meant to be"

// noCertificateHint is of a port that was to show a certificate.
func noCertificateHint(err error) string {
	failed := session.WithPhase(err)
	var at *session.Error
	if errors.As(failed, &at) && at.Phase == session.PhaseUpstreamTLS && (session.IsQuiet(err) || errors.As(err, new(tls.RecordHeaderError))) {
		return "this port does not speak TLS: give that of an SSL or SASL_SSL listener. A PLAINTEXT or SASL_PLAINTEXT listener has no certificate, and needs no authority"
	}
	return hint(failed)
}

func pumpHint(phase session.Phase, err error) string {
	switch {
	case errors.As(err, new(session.HTTPError)):
		return "only Kafka clients are served on this port; metrics and health checks are on that of --admin-bind"
	case errors.Is(err, kafka.ErrFrameSize):
		return frameSizeHint
	case errors.Is(err, kafka.ErrNotOffered):
		return "the client does not keep to the versions in the response to ApiVersions: update it"
	}
	alert, ok := tlswire.RemoteAlert(err)
	switch {
	case !ok:
		return ""
	case phase == session.PhaseRequest: // what is read there is the client's
		return clientAlertHints[alert]
	}
	return brokerAlertHints[alert] // in TLS 1.3, certificates are judged after the handshake
}

// The alerts that certificates are refused with (RFC 8446, 6.2).
const (
	alertHandshakeFailure    tls.AlertError = 40
	alertBadCertificate      tls.AlertError = 42
	alertUnsupportedCert     tls.AlertError = 43
	alertRevokedCert         tls.AlertError = 44
	alertExpiredCert         tls.AlertError = 45
	alertUnknownCert         tls.AlertError = 46
	alertUnknownCA           tls.AlertError = 48
	alertAccessDenied        tls.AlertError = 49
	alertProtocolVersion     tls.AlertError = 70
	alertCertificateRequired tls.AlertError = 116
	distrustHint                            = "the client does not trust this proxy's certificate: give it the CA that signed --cert, and connect by a name that the certificate covers"
	brokerDistrustHint                      = "the broker wants a client certificate that it trusts: see --upstream-cert and --upstream-key"
)

// clientAlertHints are for the alerts that clients send about --cert. OpenSSL and
// Go name an unknown CA, Java says "unknown certificate" to all there is.
var clientAlertHints = map[tls.AlertError]string{
	alertUnknownCA:        distrustHint,
	alertUnknownCert:      distrustHint,
	alertBadCertificate:   distrustHint,
	alertExpiredCert:      "to the client, this proxy's certificate has expired: renew --cert, or see the client's clock",
	alertRevokedCert:      "to the client, this proxy's certificate has been revoked: replace --cert",
	alertUnsupportedCert:  "the client does not take certificates like --cert: see its key usage",
	alertHandshakeFailure: "client and proxy have no cipher suite or key type in common",
	alertProtocolVersion:  "the client needs TLS 1.2 or newer",
}

// brokerAlertHints are for the alerts that brokers send, most of them about
// --upstream-cert.
var brokerAlertHints = map[tls.AlertError]string{
	alertCertificateRequired:      brokerDistrustHint,
	alertBadCertificate:           brokerDistrustHint,
	alertUnknownCert:              brokerDistrustHint,
	alertUnknownCA:                brokerDistrustHint,
	alertAccessDenied:             brokerDistrustHint,
	alertUnsupportedCert:          brokerDistrustHint,
	alertExpiredCert:              "to the broker, the proxy's client certificate has expired: renew --upstream-cert",
	alertRevokedCert:              "to the broker, the proxy's client certificate has been revoked: replace --upstream-cert",
	alertHandshakeFailure:         "broker and proxy have no cipher suite in common, or the broker wants a client certificate: see --upstream-cert",
	alertProtocolVersion:          "the broker needs to offer TLS 1.2 or newer",
	tlswire.AlertUnrecognizedName: "the broker's port does not serve that host name: see --upstream",
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}
