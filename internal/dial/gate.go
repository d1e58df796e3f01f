package dial

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/proxy"
)

// Gate is a server through which brokers are reached: one that speaks SOCKS5 (RFC 1928 and
// 1929) or HTTP CONNECT (RFC 9110, 9.3.6).
type Gate struct {
	address  string // host:port
	isHTTP   bool
	user     *url.Userinfo // nil: none
	redacted string
}

// ParseGate reads socks5://user:password@host:port, or the same with http:// for HTTP
// CONNECT. The error does not show the password.
func ParseGate(text string) (*Gate, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Port() == "" {
		return nil, errors.New("a gate's address is socks5://user:password@host:port, or the same with http://")
	}
	g := &Gate{address: u.Host, user: u.User, redacted: u.Redacted()}
	switch u.Scheme {
	case "socks5", "socks5h":
	case "http":
		g.isHTTP = true
	default:
		return nil, fmt.Errorf("gates are socks5:// and http://, not %q", u.Scheme+"://")
	}
	return g, nil
}

// String returns the gate's address, without its password.
func (g *Gate) String() string { return g.redacted }

// Stage is how far a connection through a gate came.
type Stage int

const (
	StageReach  Stage = iota // connecting to the gate
	StageLogin               // the gate's user and password
	StageRefuse              // the gate's own connection to the broker
	StageSpeak               // it does not speak as such a gate does
)

// GateError says why a broker could not be reached through a gate.
type GateError struct {
	Gate  string
	Stage Stage
	Err   error
}

func (e *GateError) Error() string {
	what := [...]string{
		"the gate %s cannot be reached: %v",
		"the gate %s does not accept the user and password: %v",
		"the gate %s does not connect to the broker: %v",
		"the gate %s does not answer as one: %v",
	}[e.Stage]
	return fmt.Sprintf(what, e.Gate, e.Err)
}

func (e *GateError) Unwrap() error { return e.Err }

// dial connects to host:port through the gate. reach connects to the gate itself. What is
// returned is the connection to the gate, of which nothing has been read that the broker has
// sent.
func (g *Gate) dial(ctx context.Context, reach func(ctx context.Context, address string) (net.Conn, error), address string) (net.Conn, error) {
	conn, err := reach(ctx, g.address)
	if err != nil {
		return nil, &GateError{g.redacted, StageReach, err}
	}
	ask := g.socks5
	if g.isHTTP {
		ask = g.connect
	}
	if stage, err := ask(ctx, conn, address); err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = errors.Join(err, context.Cause(ctx))
		}
		return nil, &GateError{g.redacted, stage, err}
	}
	return conn, nil
}

// socks5 has a SOCKS5 server connect to an address.
func (g *Gate) socks5(ctx context.Context, conn net.Conn, address string) (Stage, error) {
	var auth *proxy.Auth
	if g.user != nil {
		password, _ := g.user.Password()
		auth = &proxy.Auth{User: g.user.Username(), Password: password}
	}
	// The dialer would return a wrapper; the connection itself is what is wanted.
	d, err := proxy.SOCKS5("tcp", g.address, auth, given{conn})
	if err != nil {
		return StageSpeak, err
	}
	_, err = d.(proxy.ContextDialer).DialContext(ctx, "tcp", address)
	return socksStage(err), err
}

// given is a dialer that returns the connection that there is.
type given struct{ net.Conn }

func (g given) Dial(string, string) (net.Conn, error)                         { return g.Conn, nil }
func (g given) DialContext(context.Context, string, string) (net.Conn, error) { return g.Conn, nil }

// socksStage tells errors of golang.org/x/net/proxy apart, which have no types.
func socksStage(err error) Stage {
	if err == nil {
		return 0
	}
	text := err.Error()
	for _, part := range []string{"authentication", "username/password"} {
		if strings.Contains(text, part) {
			return StageLogin
		}
	}
	for _, part := range []string{"unexpected protocol version", "EOF", "reserved field", "address type", "timeout"} {
		if strings.Contains(text, part) {
			return StageSpeak
		}
	}
	return StageRefuse
}

const (
	// maxAnswer is the longest header of an answer to CONNECT, in bytes.
	maxAnswer = 16 << 10
)

// connect has an HTTP proxy connect to an address.
func (g *Gate) connect(ctx context.Context, conn net.Conn, address string) (Stage, error) {
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{"User-Agent": {""}}}
	if g.user != nil {
		password, _ := g.user.Password()
		request.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(g.user.Username()+":"+password)))
	}
	if err := request.Write(conn); err != nil {
		return StageSpeak, err
	}
	// Byte by byte up to the end of the header: what follows it is the broker's.
	header := &oneByte{r: io.LimitReader(conn, maxAnswer)}
	answer, err := http.ReadResponse(bufio.NewReaderSize(header, 16), request)
	switch {
	case err != nil:
		return StageSpeak, err
	case answer.StatusCode == http.StatusProxyAuthRequired:
		return StageLogin, errors.New(answer.Status)
	case answer.StatusCode/100 != 2:
		return StageRefuse, errors.New(answer.Status)
	case !stop():
		return StageSpeak, context.Cause(ctx)
	}
	return 0, conn.SetDeadline(time.Time{})
}

// oneByte reads no more than is asked for at once, so that a buffered reader of it has
// nothing left when it has read a line.
type oneByte struct{ r io.Reader }

func (o *oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), 1)]) }
