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
// *net.TCPConn. With a gate, errors are a [*GateError].
func (d *Dialer) Dial(ctx context.Context, host string, port int32) (net.Conn, error) {
	addrs := d.hosts.Load().Lookup(host)
	if addrs == nil {
		return d.connect(ctx, net.JoinHostPort(host, strconv.Itoa(int(port))))
	}
	conn, err := d.dialAny(ctx, addrs, uint16(port))
	if err != nil {
		return nil, fmt.Errorf("%s in the hosts file: %w", host, err)
	}
	return conn, nil
}

// connect connects to host:port, through the gate if there is one.
func (d *Dialer) connect(ctx context.Context, address string) (net.Conn, error) {
	if d.gate == nil {
		return d.net.DialContext(ctx, "tcp", address)
	}
	return d.gate.dial(ctx, d.reachGate, address)
}

// reachGate connects to the gate, whose own name may be in the hosts file, too.
func (d *Dialer) reachGate(ctx context.Context, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if addrs := d.hosts.Load().Lookup(host); len(addrs) > 0 {
		address = net.JoinHostPort(addrs[0].String(), port)
	}
	return d.net.DialContext(ctx, "tcp", address)
}

// attemptDelay is how long an address has to itself before the next one is
// tried, too (RFC 8305, 5).
const attemptDelay = 250 * time.Millisecond

// dialAny tries the addresses in turn: the next one when one has failed, or has
// said nothing for a while, so that one which swallows packets costs that while
// and no more. The first that answers is taken, the others are let go.
func (d *Dialer) dialAny(ctx context.Context, addrs []netip.Addr, port uint16) (net.Conn, error) {
	type outcome struct {
		conn net.Conn
		err  error
	}
	outcomes := make(chan outcome)
	ctx, letGo := context.WithCancel(ctx)
	defer letGo()
	attempt := func(addr netip.AddrPort) {
		conn, err := d.connect(ctx, addr.String())
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
