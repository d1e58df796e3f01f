// Package dial opens TCP connections to brokers: to the addresses that the hosts file has
// for a name, or to those of DNS; directly, or through a gate.
package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"kafka-sni-proxy/internal/hosts"
)

// Dialer connects to brokers. Where the hosts file has addresses for a name
// they are the only ones. Otherwise the gate resolves it, or, without a gate, the system.
type Dialer struct {
	hosts atomic.Pointer[hosts.Table]
	gate  *Gate // nil: none
	net   net.Dialer
}

// New returns a dialer. table and gate may be nil. Probing for peers that are gone is left to
// whoever uses the connections.
func New(table *hosts.Table, gate *Gate) *Dialer {
	d := &Dialer{gate: gate, net: net.Dialer{KeepAlive: -1}}
	d.hosts.Store(table)
	return d
}

// SetHosts has another hosts file be used from now on.
func (d *Dialer) SetHosts(table *hosts.Table) { d.hosts.Store(table) }

// Dial connects to the first of the host's addresses that answers. What it returns is a
// *net.TCPConn. With a gate, errors have a [*GateError] in them.
func (d *Dialer) Dial(ctx context.Context, host string, port int32) (net.Conn, error) {
	return d.dial(ctx, host, uint16(port), d.connect)
}

// connector connects to host:port.
type connector func(ctx context.Context, address string) (net.Conn, error)

// dial has the hosts file's addresses of a host be connected to, or else the host itself.
func (d *Dialer) dial(ctx context.Context, host string, port uint16, connect connector) (net.Conn, error) {
	addrs := d.hosts.Load().Lookup(host)
	if addrs == nil {
		return connect(ctx, net.JoinHostPort(host, strconv.Itoa(int(port))))
	}
	conn, err := dialAny(ctx, addrs, port, connect)
	if err != nil {
		return nil, fmt.Errorf("%s in the hosts file: %w", host, err)
	}
	return conn, nil
}

// connect connects to a broker, through the gate if there is one.
func (d *Dialer) connect(ctx context.Context, address string) (net.Conn, error) {
	if d.gate == nil {
		return d.direct(ctx, address)
	}
	return d.gate.dial(ctx, d.reachGate, address)
}

func (d *Dialer) direct(ctx context.Context, address string) (net.Conn, error) {
	return d.net.DialContext(ctx, "tcp", address)
}

// reachGate connects to the gate itself, whose name may be in the hosts file, too.
func (d *Dialer) reachGate(ctx context.Context) (net.Conn, error) {
	return d.dial(ctx, d.gate.host, d.gate.port, d.direct)
}

// attemptDelay is how long an address has to itself before the next one is
// tried, too (RFC 8305, 5).
const attemptDelay = 250 * time.Millisecond

// dialAny tries the addresses in turn: the next one when one has failed, or has
// said nothing for a while, so that one which swallows packets costs that while
// and no more. The first that answers is taken, the others are let go.
func dialAny(ctx context.Context, addrs []netip.Addr, port uint16, connect connector) (net.Conn, error) {
	type outcome struct {
		conn net.Conn
		err  error
	}
	outcomes := make(chan outcome)
	ctx, letGo := context.WithCancel(ctx)
	defer letGo()
	attempt := func(addr netip.AddrPort) {
		conn, err := connect(ctx, addr.String())
		select {
		case outcomes <- outcome{conn, err}:
		case <-ctx.Done():
			if err == nil {
				conn.Close()
			}
		}
	}
	var failed []error
	next := time.NewTimer(0)
	defer next.Stop()
	for tried := 0; len(failed) < len(addrs); {
		select {
		case <-next.C:
			go attempt(netip.AddrPortFrom(addrs[tried], port))
			if tried++; tried < len(addrs) {
				next.Reset(attemptDelay)
			}
		case o := <-outcomes:
			if o.err == nil {
				return o.conn, nil
			}
			failed = append(failed, o.err)
			if tried < len(addrs) {
				next.Reset(0)
			}
		case <-ctx.Done():
			return nil, errors.Join(append(failed, ctx.Err())...)
		}
	}
	return nil, errors.Join(failed...)
}
