package preflight

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/sasl"
)

// Login is how to log in, before the brokers are asked for: with a user and a password, for
// SASL PLAIN, or by Begin.
type Login struct {
	User, Password string
	// Begin begins an exchange with a broker. Nil: with the user and the password.
	Begin func(ctx context.Context, broker route.Address) (sasl.Client, error)
}

// endpoint is where a probe connects to, and how.
type endpoint struct {
	address route.Address
	tls     *tls.Config // nil: plaintext. The server name is that of the address
	dial    func(ctx context.Context, host string, port int32) (net.Conn, error)
	timeout time.Duration
	login   *Login
	isSelf  func(*x509.Certificate) bool
}

// broker is one that a cluster has told of.
type broker struct {
	node    int32
	address route.Address
}

// answer is what a probe has found out.
type answer struct {
	at           net.Addr             // where it connected to
	tls          *tls.ConnectionState // nil: the handshake did not come so far, or plaintext
	wantsClient  bool                 // the other end asked for a client certificate
	speaksKafka  bool
	needsLogin   bool // it told of no brokers
	loginRefused error
	brokers      []broker
	clusterID    string

	// err is why it went no further: a [*cluster.ConnectError] for what failed before the
	// first request.
	err error
}

// errNoKafka is of an answer that is none of Kafka's.
var errNoKafka = errors.New("the answer is not Kafka's")

// probe connects, and asks which API versions there are; with metadata, also which brokers.
func (e *endpoint) probe(ctx context.Context, metadata bool) *answer {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	a := &answer{}
	var conn net.Conn
	if conn, a.err = e.connect(ctx, a); a.err != nil {
		return a
	}
	defer conn.Close()
	if a.err = a.askVersions(conn); a.err != nil {
		// In TLS 1.3 a client certificate is judged after the handshake.
		a.err = fmt.Errorf("after it had connected: %w", &cluster.ConnectError{Stage: cluster.StageTLS, Err: a.err})
		return a
	}
	a.speaksKafka = true
	if !metadata {
		return a
	}
	if e.login != nil {
		if a.loginRefused = e.login.authenticate(ctx, conn, e.address); a.loginRefused != nil {
			if isEnd(a.loginRefused) {
				a.loginRefused = errors.New("the broker ended the connection, as brokers do for a wrong user or password")
			}
			a.needsLogin = true
			return a
		}
	}
	a.err = a.askBrokers(conn)
	if isEnd(a.err) && e.login == nil { // it answered a moment ago
		a.needsLogin, a.err = true, nil
	}
	return a
}

// connect connects, with TLS if there is to be any. After ctx everything that is done with
// the connection fails.
func (e *endpoint) connect(ctx context.Context, a *answer) (net.Conn, error) {
	socket, err := e.dial(ctx, e.address.Host, e.address.Port)
	if err != nil {
		return nil, &cluster.ConnectError{Stage: cluster.StageDial, Err: err}
	}
	a.at = socket.RemoteAddr()
	context.AfterFunc(ctx, func() { socket.SetDeadline(time.Unix(1, 0)) })
	if e.tls == nil {
		return socket, nil
	}
	conn, err := e.handshake(ctx, socket, a)
	if err != nil {
		socket.Close()
		return nil, &cluster.ConnectError{Stage: cluster.StageTLS, Err: err}
	}
	return conn, nil
}

// isEnd reports whether the other end has closed or reset the connection, as brokers do when
// they want a login.
func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) }

// handshake does TLS, and verifies the certificate after it has kept what was shown.
func (e *endpoint) handshake(ctx context.Context, socket net.Conn, a *answer) (net.Conn, error) {
	config := e.tls.Clone()
	config.ServerName = e.address.Host
	config.MinVersion = tls.VersionTLS12
	config.ClientSessionCache = nil
	config.InsecureSkipVerify = true // verify does it
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		a.wantsClient = true
		if len(e.tls.Certificates) > 0 {
			return &e.tls.Certificates[0], nil
		}
		return &tls.Certificate{}, nil
	}
	config.VerifyConnection = func(s tls.ConnectionState) error {
		a.tls = &s
		if e.isSelf != nil && e.isSelf(s.PeerCertificates[0]) {
			return &cluster.LoopError{Address: e.address}
		}
		return e.verify(s)
	}
	conn := tls.Client(socket, config)
	return conn, conn.HandshakeContext(ctx)
}

// verify verifies a certificate as crypto/tls does.
func (e *endpoint) verify(s tls.ConnectionState) error {
	if e.tls.InsecureSkipVerify {
		return nil
	}
	intermediates := x509.NewCertPool()
	for _, cert := range s.PeerCertificates[1:] {
		intermediates.AddCert(cert)
	}
	options := x509.VerifyOptions{Roots: e.tls.RootCAs, DNSName: e.address.Host, Intermediates: intermediates}
	if _, err := s.PeerCertificates[0].Verify(options); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
	}
	return nil
}

// The keys of the requests that are sent.
const (
	keySaslHandshake    = 17
	keyAPIVersions      = 18
	keySaslAuthenticate = 36
)

// maxAnswer is the longest response that is read. There are no topics in any.
const maxAnswer = 16 << 20

// ask sends a request and returns the body of the response.
func ask(conn io.ReadWriter, key, version int16, body []byte) ([]byte, error) {
	const clientID = "kafka-sni-proxy"
	frame := binary.BigEndian.AppendUint32(nil, uint32(10+len(clientID)+len(body)))
	frame = binary.BigEndian.AppendUint16(frame, uint16(key))
	frame = binary.BigEndian.AppendUint16(frame, uint16(version))
	frame = binary.BigEndian.AppendUint32(frame, uint32(key)) // the correlation id
	frame = appendString(frame, clientID)
	if _, err := conn.Write(append(frame, body...)); err != nil {
		return nil, err
	}
	var head [8]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, err
	}
	length := int32(binary.BigEndian.Uint32(head[:]))
	if length < 4 || length > maxAnswer || binary.BigEndian.Uint32(head[4:]) != uint32(key) {
		return nil, errNoKafka
	}
	response := make([]byte, length-4)
	_, err := io.ReadFull(conn, response)
	return response, err
}

// readFrame reads a response, whatever it answers.
func readFrame(conn io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, err
	}
	length := int32(binary.BigEndian.Uint32(head[:]))
	if length < 4 || length > maxAnswer {
		return nil, errNoKafka
	}
	response := make([]byte, length)
	_, err := io.ReadFull(conn, response)
	return response, err
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// errorCode takes the error code from a response, and what follows it.
func errorCode(response []byte) (code int16, rest []byte, err error) {
	if len(response) < 2 {
		return 0, nil, errNoKafka
	}
	return int16(binary.BigEndian.Uint16(response)), response[2:], nil
}

// askVersions asks which versions of which requests there are, in the oldest form (KIP-35).
// Any answer will do. It needs no authentication.
func (a *answer) askVersions(conn io.ReadWriter) error {
	response, err := ask(conn, keyAPIVersions, 0, nil)
	if err == nil {
		_, _, err = errorCode(response)
	}
	return err
}

// authenticate logs in with SASL PLAIN (KIP-43, KIP-152).
func (l *Login) authenticate(ctx context.Context, conn io.ReadWriter, broker route.Address) error {
	if l.Begin != nil {
		exchange, err := l.Begin(ctx, broker)
		if err != nil || exchange == nil {
			return err
		}
		_, err = cluster.LogInBy(func(request []byte) ([]byte, error) {
			if _, err := conn.Write(request); err != nil {
				return nil, err
			}
			return readFrame(conn)
		}, exchange)
		return err
	}
	response, err := ask(conn, keySaslHandshake, 1, appendString(nil, "PLAIN"))
	if err != nil {
		return err
	}
	code, rest, err := errorCode(response)
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("the mechanism PLAIN is not enabled there: it offers %s", mechanisms(rest))
	}
	token := "\x00" + l.User + "\x00" + l.Password
	body := append(binary.BigEndian.AppendUint32(nil, uint32(len(token))), token...)
	response, err = ask(conn, keySaslAuthenticate, 0, body)
	if err != nil {
		return err
	}
	if code, rest, err = errorCode(response); err != nil || code == 0 {
		return err
	}
	text := "no reason given"
	if len(rest) >= 2 {
		if n := int(int16(binary.BigEndian.Uint16(rest))); n > 0 && n <= len(rest)-2 {
			text = string(rest[2 : 2+n])
		}
	}
	if l.Password != "" { // a broker may say again what it was sent
		text = strings.ReplaceAll(text, l.Password, "***")
	}
	return fmt.Errorf("user %q was refused: %s", l.User, text)
}

// mechanisms reads an array of strings.
func mechanisms(b []byte) string {
	list := ""
	if len(b) < 4 {
		return "none"
	}
	for b = b[4:]; len(b) >= 2; {
		n := int(binary.BigEndian.Uint16(b))
		if n > len(b)-2 {
			break
		}
		if list != "" {
			list += ", "
		}
		list += string(b[2 : 2+n])
		b = b[2+n:]
	}
	return list
}

// askBrokers asks which brokers there are.
func (a *answer) askBrokers(conn io.ReadWriter) error {
	var inFlight kafka.InFlight
	requests := kafka.Requests{Out: conn, InFlight: &inFlight}
	responses := kafka.Responses{
		Out: io.Discard, InFlight: &inFlight, MaxFrame: maxAnswer,
		ClusterID: func(id []byte) error { a.clusterID = string(id); return nil },
		Names: func(node int32, host []byte, port int32) (string, int32, error) {
			a.brokers = append(a.brokers, broker{node, route.Address{Host: string(host), Port: port}})
			return string(host), port, nil
		},
	}
	_, err := requests.Forward(bytes.Clone(cluster.MetadataQuery)) // which it may change
	for batch := make([]byte, 16<<10); err == nil && (inFlight.Len() > 0 || !responses.AtBoundary()); {
		n := 0
		n, err = conn.Read(batch)
		if n > 0 {
			err = errors.Join(responses.Forward(batch[:n]), err)
		}
	}
	if err == nil && len(a.brokers) == 0 {
		err = errors.New("it tells of no broker")
	}
	return err
}
