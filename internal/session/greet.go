package session

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/pires/go-proxyproto"
)

// What headers of the PROXY protocol begin with
// (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, 2.1 and 2.2).
const (
	proxyV1 = "PROXY "
	proxyV2 = "\r\n\r\n\x00\r\nQUIT\n"
)

const (
	// maxProxyV1 is the longest header of version 1, in bytes, its end of line included.
	maxProxyV1 = 107
	// maxProxyV2 is the longest header of version 2 that is taken, in bytes. It might have
	// 64 KiB; balancers send less than one.
	maxProxyV2 = 16 << 10
)

// ProxyHeaderError is of a connection that has to begin with a PROXY protocol header, and
// does not, or with one that is not well formed.
type ProxyHeaderError struct {
	Sent Protocol // instead; "": the header is not well formed
	Err  error
}

func (e *ProxyHeaderError) Error() string {
	if e.Sent != "" {
		return "there is no PROXY protocol header before what the client sends: it sent " + string(e.Sent)
	}
	return "the PROXY protocol header is not well formed: " + e.Err.Error()
}

func (e *ProxyHeaderError) Unwrap() error { return e.Err }

// WantsHeader reports whether a connection from an address has to begin with a PROXY
// protocol header.
func WantsHeader(c *Config, from net.Addr) bool {
	if len(c.ProxyFrom) == 0 {
		return false
	}
	tcp, ok := from.(*net.TCPAddr)
	if !ok {
		return false
	}
	addr := tcp.AddrPort().Addr().Unmap()
	return slices.ContainsFunc(c.ProxyFrom, func(n netip.Prefix) bool { return n.Contains(addr) })
}

// WantsHeader reports whether the connection has to begin with a PROXY protocol header.
func (s *Session) WantsHeader() bool { return WantsHeader(s.config, s.client.RemoteAddr()) }

// Greet reads the PROXY protocol header, and takes the client's address from it. It shares
// its deadline with Handshake.
func (s *Session) Greet() error { return RecoverPanic(s.greet) }

func (s *Session) greet() error {
	s.client.SetDeadline(s.began.Add(s.handshakeTimeout()))
	header, err := s.client.TakeHeader(proxyHeaderLen)
	if err != nil {
		return &Error{PhaseFirstByte, err}
	}
	h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(header)))
	if err != nil {
		return &Error{PhaseFirstByte, &ProxyHeaderError{Err: err}}
	}
	// A balancer's own connection (LOCAL), such as a health check, has no client. Nor has one
	// of an unknown family.
	if client, _, ok := h.TCPAddrs(); ok && h.Command.IsProxy() {
		s.from = client
	}
	return nil
}

// proxyHeaderLen returns the length of the header that begins so, 0 while that cannot be
// told.
func proxyHeaderLen(p []byte) (int, error) {
	switch {
	case bytes.HasPrefix(p, []byte(proxyV2)):
		if len(p) < 16 {
			return 0, nil
		}
		n := 16 + int(p[14])<<8 + int(p[15])
		if n > maxProxyV2 {
			return 0, &ProxyHeaderError{Err: fmt.Errorf("it is %d bytes long, %d are taken", n, maxProxyV2)}
		}
		return n, nil
	case bytes.HasPrefix(p, []byte(proxyV1)):
		if end := bytes.IndexByte(p, '\n'); end >= 0 && end < maxProxyV1 {
			return end + 1, nil
		}
		if len(p) >= maxProxyV1 {
			return 0, &ProxyHeaderError{Err: errors.New("its line does not end")}
		}
		return 0, nil
	case len(p) < len(proxyV2) && (isPrefix(p, proxyV1) || isPrefix(p, proxyV2)):
		return 0, nil
	}
	return 0, &ProxyHeaderError{Sent: protocolOf(p)}
}

func isPrefix(p []byte, of string) bool { return len(p) <= len(of) && string(p) == of[:len(p)] }
