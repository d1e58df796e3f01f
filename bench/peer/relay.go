package peer

import (
	"crypto/tls"
	"io"
	"net"
	"path/filepath"
	"sync"

	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/harness"
)

// RelayOptions says how the naive relay is to run.
type RelayOptions struct {
	// Dir has the proxy's certificate and key, and the CA of the broker.
	Dir string
	// Upstream is the broker.
	Upstream Server
	// Plain relays TCP and leaves TLS to the ends. It shows what the kernel's
	// part of the cost is.
	Plain bool
}

// RunRelay is the naive relay: io.Copy between two crypto/tls connections, as
// anyone would write it. It writes its address to stdout, and runs until stdin
// ends.
func RunRelay(o RelayOptions, stdin io.Reader, stdout io.Writer) error {
	cert, err := tls.LoadX509KeyPair(filepath.Join(o.Dir, ProxyCertFile), filepath.Join(o.Dir, ProxyKeyFile))
	if err != nil {
		return err
	}
	roots, err := certs.LoadPool(filepath.Join(o.Dir, CAFile))
	if err != nil {
		return err
	}
	server := &tls.Config{Certificates: []tls.Certificate{cert}}
	client := &tls.Config{RootCAs: roots, ServerName: o.Upstream.ServerName}
	return harness.ServeRole("127.0.0.1:0", stdin, stdout, func(down net.Conn) {
		defer down.Close()
		if o.Plain {
			if up, err := net.Dial("tcp", o.Upstream.Address); err == nil {
				copyBoth(down.(*net.TCPConn), up.(*net.TCPConn))
			}
			return
		}
		if up, err := tls.Dial("tcp", o.Upstream.Address, client); err == nil {
			copyBoth(tls.Server(down, server), up)
		}
	})
}

// halfCloser is what TCP and TLS connections have in common.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

func copyBoth(down, up halfCloser) {
	defer up.Close()
	var both sync.WaitGroup
	both.Go(func() {
		io.Copy(up, down)
		up.CloseWrite()
	})
	io.Copy(down, up)
	down.CloseWrite()
	both.Wait()
	down.Close()
}
