package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// tap stands between clients and a proxy and reads every decrypted byte that
// the proxy sends to a client. It shows the proxy's certificate, passes on the
// name the client asked for, and changes nothing.
type tap struct {
	listener  net.Listener
	server    *tls.Config // towards clients
	client    *tls.Config // towards the proxy
	target    string
	bytes     atomic.Int64
	allow     atomic.Bool // leakScanner.AllowConfigs for connections from now on
	waitGroup sync.WaitGroup

	mu    sync.Mutex
	found []string
}

// serve runs until the listener is closed; then stop cuts what still runs.
func (t *tap) serve(ctx context.Context) {
	for {
		conn, err := t.listener.Accept()
		if err != nil {
			return
		}
		t.waitGroup.Go(func() {
			// A tapped connection ends as the two ends of it want; how, is
			// theirs to complain about.
			_ = t.relay(ctx, conn)
		})
	}
}

func (t *tap) stop() {
	t.listener.Close()
	t.waitGroup.Wait()
}

func (t *tap) relay(ctx context.Context, raw net.Conn) error {
	defer raw.Close()
	down := tls.Server(raw, t.server)
	if err := down.HandshakeContext(ctx); err != nil {
		return err
	}
	name := down.ConnectionState().ServerName
	config := t.client.Clone()
	config.ServerName = name
	dialer := tls.Dialer{Config: config}
	conn, err := dialer.DialContext(ctx, "tcp", t.target)
	if err != nil {
		return err
	}
	up := conn.(*tls.Conn)
	defer up.Close()
	defer context.AfterFunc(ctx, func() { raw.Close(); up.Close() })()

	scanner := &leakScanner{AllowConfigs: t.allow.Load(), Report: func(leak string) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.found = append(t.found, fmt.Sprintf("on a connection to %s: %s", name, leak))
	}}
	var pair errgroup.Group
	pair.Go(func() error { return pass(up, down) })
	pair.Go(func() error { return pass(down, io.TeeReader(up, io.MultiWriter(scanner, (*counter)(&t.bytes)))) })
	return pair.Wait()
}

// pass copies to the end of from and passes that end on. After an error
// neither direction is of use.
func pass(to *tls.Conn, from io.Reader) error {
	_, err := io.Copy(to, from)
	if err != nil {
		to.Close()
		return err
	}
	return to.CloseWrite()
}

// takeLeaks returns what was found since it was last asked.
func (t *tap) takeLeaks() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := t.found
	t.found = nil
	return found
}

type counter atomic.Int64

func (c *counter) Write(p []byte) (int, error) {
	(*atomic.Int64)(c).Add(int64(len(p)))
	return len(p), nil
}
