package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Gate is a server through which brokers are reached: one that speaks SOCKS5 (RFC 1928 and
// 1929) or HTTP CONNECT (RFC 9110, 9.3.6).
type Gate struct {
	host     string
	port     uint16
	isHTTP   bool
	user     string // "": none
	password string
	redacted string
}

// ParseGate reads socks5://user:password@host:port, or the same with http:// for HTTP
// CONNECT; socks5h:// means the same as socks5://. The error never shows the password.
func ParseGate(text string) (*Gate, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Port() == "" {
		return nil, errors.New("a gate's address is socks5://user:password@host:port, or the same with http://; in the user and the password, write %40 for @, %3A for : and %2F for /")
	}
	g := &Gate{host: u.Hostname(), redacted: u.Redacted()}
	switch u.Scheme {
	case "socks5", "socks5h":
	case "http":
		g.isHTTP = true
	default:
		return nil, fmt.Errorf("gates are socks5:// and http://, not %q", u.Scheme+"://")
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("the gate's port %s is not within 1 and 65535", u.Port())
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("there is something behind the gate's port: write %s://host:port alone", u.Scheme)
	}
	g.port = uint16(port)
	if err := g.setUser(u.User); err != nil {
		return nil, err
	}
	return g, nil
}

// setUser takes a user and a password that can be told to the gate.
func (g *Gate) setUser(u *url.Userinfo) error {
	if u == nil {
		return nil
	}
	g.user = u.Username()
	g.password, _ = u.Password()
	const most = 255 // RFC 1929
	switch {
	case g.user == "":
		return errors.New("the gate's address has a password and no user: write user:password@ before the host")
	case !g.isHTTP && (len(g.user) > most || len(g.password) > most):
		return fmt.Errorf("the gate's user or password is longer than the %d bytes of SOCKS5", most)
	case g.isHTTP && strings.Contains(g.user, ":"):
		return errors.New("the gate's user has a colon in it, which HTTP does not allow (RFC 7617)")
	}
	return nil
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
	Gate  string // without its password
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
// sent, without deadlines.
func (g *Gate) dial(ctx context.Context, reach func(context.Context) (net.Conn, error), address string) (net.Conn, error) {
	conn, err := reach(ctx)
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
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		return nil, &GateError{g.redacted, stage, err}
	}
	return conn, nil
}

// clip shortens an error with what a gate has said to what a log line can have.
func clip(err error) error {
	const most = 200
	if text := err.Error(); len(text) > most {
		return errors.New(text[:most] + "…")
	}
	return err
}
