package dial

import (
	"context"
	"errors"
	"net"
	"strings"

	"golang.org/x/net/proxy"
)

// socks5 has a SOCKS5 server connect to an address. golang.org/x/net/proxy reads exactly the
// bytes of the server's answers, and clears the deadlines that it sets for ctx.
func (g *Gate) socks5(ctx context.Context, conn net.Conn, address string) (Stage, error) {
	var auth *proxy.Auth
	if g.user != "" {
		auth = &proxy.Auth{User: g.user, Password: g.password}
	}
	t := &transcript{Conn: conn}
	d, err := proxy.SOCKS5("tcp", conn.RemoteAddr().String(), auth, given{t})
	if err != nil {
		return StageSpeak, err
	}
	// It would return a wrapper; the connection itself is what is wanted.
	if _, err = d.(proxy.ContextDialer).DialContext(ctx, "tcp", address); err == nil {
		return 0, nil
	}
	if op := new(net.OpError); errors.As(err, &op) {
		err = op.Err // the error around it names addresses, which the caller does, too
	}
	stage := t.stage()
	if text, isReply := strings.CutPrefix(err.Error(), "unknown error "); isReply {
		err = errors.New(text)
	}
	return stage, err
}

// given is a dialer that returns the connection that there is.
type given struct{ net.Conn }

func (g given) Dial(string, string) (net.Conn, error)                         { return g.Conn, nil }
func (g given) DialContext(context.Context, string, string) (net.Conn, error) { return g.Conn, nil }

// transcript is a connection to a SOCKS5 server that notes what the server says: a few
// hundred bytes at the most. The errors of golang.org/x/net/proxy have no types.
type transcript struct {
	net.Conn
	heard []byte
}

func (t *transcript) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.heard = append(t.heard, p[:n]...)
	return n, err
}

// What a SOCKS5 server says (RFC 1928, 3 and 6; RFC 1929, 2).
const (
	socksVersion       = 5
	methodPassword     = 2
	methodNoAcceptable = 0xff
	socksSucceeded     = 0
)

// stage tells how far a connection came that has failed.
func (t *transcript) stage() Stage {
	h := t.heard
	switch {
	case len(h) < 2 || h[0] != socksVersion:
		return StageSpeak
	case h[1] == methodNoAcceptable:
		return StageLogin
	case h[1] == methodPassword:
		if len(h) < 4 || h[3] != socksSucceeded {
			return StageLogin
		}
		h = h[2:]
	}
	if reply := h[2:]; len(reply) > 0 && reply[0] != socksVersion || len(reply) > 1 && reply[1] == socksSucceeded {
		return StageSpeak
	}
	return StageRefuse
}
