package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"

	"kafka-sni-proxy/internal/route"
)

// helloResult is what the name in a ClientHello led to.
type helloResult struct {
	route route.Route
	err   error
}

// errNoSNI refuses clients that do not say which server they want.
var errNoSNI = errors.New("the client sent no server name (SNI)")

// unrecognizedName is the fatal alert of that name, in a record (RFC 6066, 3).
// crypto/tls would send internal_error instead, which tells a client's user
// nothing.
var unrecognizedName = []byte{21, 3, 3, 0, 2, 2, 112}

// routeHello is the GetConfigForClient of every client's handshake: it finds
// the route for the name that the client asks for, and refuses the handshake
// before it costs anything when there is none.
func (p *Proxy) routeHello(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	w := hello.Conn.(*wire)
	name := hello.ServerName
	if name == "" {
		if !p.AllowMissingSNI {
			w.hello.err = fmt.Errorf("%w: want %s or a broker under .%s", errNoSNI, p.Routes.Bootstrap(), p.Routes.Suffix())
			w.refuse(unrecognizedName)
			return nil, w.hello.err
		}
		name = p.Routes.Bootstrap()
	}
	w.hello.route, w.hello.err = p.Routes.Resolve(name)
	if w.hello.err != nil {
		w.hello.route.Name = name // for the log
		w.refuse(unrecognizedName)
		return nil, w.hello.err
	}
	return p.reloaded.Load(), nil // the keys of session tickets stay those of p.downstream
}
