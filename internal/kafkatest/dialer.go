package kafkatest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Dialer is how a client reaches the proxy without DNS: every name under the
// suffix leads to the proxy, with that name as SNI. Other names lead nowhere,
// as they would for a client behind a firewall: a broker's real name that got
// through to a client breaks it.
//
// DialContext is for kgo.Dialer. A Dialer must not be copied.
type Dialer struct {
	Suffix  string      // "kafka.example"
	Proxy   string      // host:port on which the proxy listens
	TLS     *tls.Config // roots and client certificates; the server name is set per dial
	Scanner *Scanner    // nil: nothing is scanned
	// Wrap, when not nil, goes under the TLS: the place for a connection that
	// misbehaves.
	Wrap func(net.Conn) net.Conn

	mu      sync.Mutex
	asked   map[string]int
	strange []string

	read, written atomic.Int64
}

// DialContext connects to "host:port" by way of the proxy and ends its TLS
// handshake before it returns.
func (d *Dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, err := splitHostPort(addr)
	if err != nil {
		return nil, err
	}
	ours := host == d.Suffix || strings.HasSuffix(host, "."+d.Suffix)
	d.note(addr, ours)
	if !ours {
		return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}}
	}
	var dialer net.Dialer
	proxy, config := d.target()
	conn, err := dialer.DialContext(ctx, "tcp", proxy)
	if err != nil {
		return nil, err
	}
	if d.Wrap != nil {
		conn = d.Wrap(conn)
	}
	conn, err = handshake(ctx, conn, host, config)
	if err != nil {
		return nil, err
	}
	conn = &countedConn{Conn: conn, dialer: d}
	if d.Scanner != nil {
		conn = d.Scanner.Conn(conn, host)
	}
	return conn, nil
}

// Redirect has clients connect to another proxy from now on, while they run.
func (d *Dialer) Redirect(proxy string, config *tls.Config) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.Proxy, d.TLS = proxy, config
}

func (d *Dialer) target() (proxy string, config *tls.Config) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.Proxy, d.TLS
}

// Asked returns the addresses that the client asked for, in order of name.
func (d *Dialer) Asked() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.asked))
}

// Bytes returns how many decrypted bytes went to the client and came from it.
func (d *Dialer) Bytes() (read, written int64) { return d.read.Load(), d.written.Load() }

// Err says whether the client was given a name that is not the proxy's: one it
// asked to dial, or one that the scanner found in what it read.
func (d *Dialer) Err() error {
	d.mu.Lock()
	var errs []error
	for _, addr := range d.strange {
		errs = append(errs, fmt.Errorf("the client asked for %s, which is not under %s", addr, d.Suffix))
	}
	d.mu.Unlock()
	if d.Scanner != nil {
		errs = append(errs, d.Scanner.Err())
	}
	return errors.Join(errs...)
}

func (d *Dialer) note(addr string, ours bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asked == nil {
		d.asked = make(map[string]int)
	}
	d.asked[addr]++
	if !ours && d.asked[addr] == 1 {
		d.strange = append(d.strange, addr)
	}
}

type countedConn struct {
	net.Conn
	dialer *Dialer
}

func (c *countedConn) NetConn() net.Conn { return c.Conn }

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.dialer.read.Add(int64(n))
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.dialer.written.Add(int64(n))
	return n, err
}
