package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
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
	server    *tls.Config // towards clients; nil: there is no TLS
	client    *tls.Config // towards the proxy; nil: there is no TLS
	target    string
	from      net.IP // what it connects from; nil: as the system likes
	bytes     atomic.Int64
	seen      tapped
	allow     atomic.Bool             // connections from now on may tell configurations: see newScanner
	strict    *kafkatest.Scanner      // of the others
	lenient   *kafkatest.Scanner      // of those
	witness   atomic.Pointer[witness] // of connections from now on; nil: none
	waitGroup sync.WaitGroup
}

// newTap listens where clients connect to; serve does the rest.
func newTap(address string, server, client *tls.Config, target string) (*tap, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return &tap{
		listener: listener,
		server:   server,
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
	down, name, err := t.accept(ctx, raw)
	if err != nil {
		return err
	}
	up, err := t.connect(ctx, name)
	if err != nil {
		// The proxy resets a connection whose broker it cannot reach. To a
		// client the difference to a clean end matters: it tries again.
		_ = raw.(*net.TCPConn).SetLinger(0)
		return err
	}
	defer up.Close()
	defer context.AfterFunc(ctx, func() { raw.Close(); up.Close() })()
	defer t.seen.open(name, up.LocalAddr().String())()

	scanner := t.strict
	if t.allow.Load() {
		scanner = t.lenient
	}
	ends := [2]end{down, up}
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

// accept is the client's end, and the name it asks for; "" without TLS.
func (t *tap) accept(ctx context.Context, raw net.Conn) (end, string, error) {
	tcp := raw.(*net.TCPConn)
	if t.server == nil {
		return end{raw, tcp}, "", nil
	}
	conn := tls.Server(raw, t.server)
	err := conn.HandshakeContext(ctx)
	return end{conn, tcp}, conn.ConnectionState().ServerName, err
}

// connect is the proxy's end.
func (t *tap) connect(ctx context.Context, name string) (end, error) {
	dialer := net.Dialer{}
	if t.from != nil {
		dialer.LocalAddr = &net.TCPAddr{IP: t.from}
	}
	raw, err := dialer.DialContext(ctx, "tcp", t.target)
	if err != nil {
		return end{}, err
	}
	tcp := raw.(*net.TCPConn)
	if t.client == nil {
		return end{raw, tcp}, nil
	}
	config := t.client.Clone()
	config.ServerName = name
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return end{}, err
	}
	return end{conn, tcp}, nil
}

// end is one end of a tapped connection.
type end struct {
	net.Conn
	tcp *net.TCPConn
}

// closeWrite ends what is sent, TLS's stream and TCP's: a Java client may take the one
// without the other for a pause.
func (e end) closeWrite() error {
	var err error
	if conn, isTLS := e.Conn.(*tls.Conn); isTLS {
		err = conn.CloseWrite()
	}
	return errors.Join(err, e.tcp.CloseWrite())
}

// pass copies to the end of what is read and passes that end on. After an error neither
// direction is of use, and both ends see a reset.
func pass(to, from end, read io.Reader) error {
	_, err := io.Copy(to, read)
	if err == nil {
		return to.closeWrite()
	}
	for _, e := range []end{to, from} {
		_ = e.tcp.SetLinger(0)
		e.tcp.Close()
	}
	return err
}

// tapped are the connections that a tap has passed on.
type tapped struct {
	mu          sync.Mutex
	opened, now map[string]int // by the name that clients asked for
	addresses   []string       // of the tap's own ends, towards the proxy
}

// open counts a connection until the returned function is called.
func (t *tapped) open(name, address string) (end func()) {
	t.add(name, 1, address)
	return func() { t.add(name, -1) }
}

func (t *tapped) add(name string, n int, opened ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.opened == nil {
		t.opened, t.now = map[string]int{}, map[string]int{}
	}
	t.opened[name] += len(opened)
	t.now[name] += n
	t.addresses = append(t.addresses, opened...)
}

// under counts the connections for names under a domain, or those without a name: how many
// there have been, and how many there are.
func (t *tapped) under(domain string) (opened, now int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.opened {
		if name == "" || strings.HasSuffix(name, "."+domain) {
			opened += t.opened[name]
			now += t.now[name]
		}
	}
	return opened, now
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
