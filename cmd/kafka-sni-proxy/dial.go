package main

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

// dialer connects to brokers. Where the hosts file has addresses for a name
// they are the only ones; otherwise the system resolves it.
type dialer struct {
	hosts atomic.Pointer[hosts.Table]
	net   net.Dialer
}

// newDialer leaves probing for peers that are gone to internal/tlswire.
func newDialer(table *hosts.Table) *dialer {
	d := &dialer{net: net.Dialer{KeepAlive: -1}}
	d.hosts.Store(table)
	return d
}

// dial connects to the first of the host's addresses that answers.
func (d *dialer) dial(ctx context.Context, host string, port int32) (net.Conn, error) {
	addrs := d.hosts.Load().Lookup(host)
	if addrs == nil {
		return d.net.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	}
	conn, err := d.dialAny(ctx, addrs, uint16(port))
	if err != nil {
		return nil, fmt.Errorf("%s in the hosts file: %w", host, err)
	}
	return conn, nil
}

// attemptDelay is how long an address has to itself before the next one is
// tried, too (RFC 8305, 5).
const attemptDelay = 250 * time.Millisecond

// dialAny tries the addresses in turn: the next one when one has failed, or has
// said nothing for a while, so that one which swallows packets costs that while
// and no more. The first that answers is taken, the others are let go.
func (d *dialer) dialAny(ctx context.Context, addrs []netip.Addr, port uint16) (net.Conn, error) {
	type outcome struct {
		conn net.Conn
		err  error
	}
	outcomes := make(chan outcome)
	ctx, letGo := context.WithCancel(ctx)
	defer letGo()
	attempt := func(addr netip.AddrPort) {
		conn, err := d.net.DialContext(ctx, "tcp", addr.String())
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
