package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"kafka-sni-proxy/internal/kafkatest"
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
	allow     atomic.Bool             // connections from now on may tell configurations: see newScanner
	strict    *kafkatest.Scanner      // of the others
	lenient   *kafkatest.Scanner      // of those
	witness   atomic.Pointer[witness] // of connections from now on; nil: none
	waitGroup sync.WaitGroup
}

// newTap listens where clients connect to; serve does the rest.
func newTap(address string, certs *proxyCerts, client *tls.Config, target string) (*tap, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return &tap{
		listener: listener,
		server:   &tls.Config{Certificates: []tls.Certificate{certs.server}},
		client:   client,
		target:   target,
		strict:   newScanner(false),
		lenient:  newScanner(true),
	}, nil
}

// serve runs until the listener is closed, and then cuts what still runs: a
// client that a scenario failed to close, for instance.
func (t *tap) serve(ctx context.Context) {
	ctx, cut := context.WithCancel(ctx)
	defer cut()
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
		// The proxy resets a connection whose broker it cannot reach. To a
		// client the difference to a clean end matters: it tries again.
		_ = raw.(*net.TCPConn).SetLinger(0)
		return err
	}
	up := conn.(*tls.Conn)
	defer up.Close()
	defer context.AfterFunc(ctx, func() { raw.Close(); up.Close() })()

	scanner := t.strict
	if t.allow.Load() {
		scanner = t.lenient
	}
	ends := [2]end{{down, raw.(*net.TCPConn)}, {up, up.NetConn().(*net.TCPConn)}}
	fromClient, toClient := io.Discard, io.MultiWriter(scanner.Writer("a connection to "+name), (*counter)(&t.bytes))
	if w := t.witness.Load(); w != nil {
		requests, responses := w.conversation()
		fromClient, toClient = requests, io.MultiWriter(toClient, responses)
	}
	var pair errgroup.Group
	pair.Go(func() error { return pass(ends[1], ends[0], io.TeeReader(ends[0], fromClient)) })
	pair.Go(func() error {
		return pass(ends[0], ends[1], io.TeeReader(up, toClient))
	})
	return pair.Wait()
}

// end is one end of a tapped connection.
type end struct {
	*tls.Conn
	tcp *net.TCPConn
}

// pass copies to the end of what is read and passes that end on, TLS's and
// TCP's: a Java client may take the one without the other for a pause. After an
// error neither direction is of use, and both ends see a reset.
func pass(to, from end, read io.Reader) error {
	_, err := io.Copy(to, read)
	if err == nil {
		return errors.Join(to.CloseWrite(), to.tcp.CloseWrite())
	}
	for _, e := range []end{to, from} {
		_ = e.tcp.SetLinger(0)
		e.tcp.Close()
	}
	return err
}

// takeLeaks returns what was found since it was last asked.
func (t *tap) takeLeaks() []string {
	return words(append(t.strict.Take(), t.lenient.Take()...))
}

type counter atomic.Int64

func (c *counter) Write(p []byte) (int, error) {
	(*atomic.Int64)(c).Add(int64(len(p)))
	return len(p), nil
}
