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

// newDialer leaves probing for peers that are gone to internal/proxy.
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
	var failed []error
	for i, addr := range addrs {
		conn, err := d.dialOne(ctx, netip.AddrPortFrom(addr, uint16(port)), len(addrs)-i)
		if err == nil {
			return conn, nil
		}
		failed = append(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("%s in the hosts file: %w", host, errors.Join(failed...))
}

// dialOne leaves each of the addresses still to be tried a fair share of the
// time there is, so that one which swallows packets does not use it all up.
func (d *dialer) dialOne(ctx context.Context, addr netip.AddrPort, left int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		defer cancel()
	}
	return d.net.DialContext(ctx, "tcp", addr.String())
}
