package kafkatest

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Broker is a TLS server that says exactly what a test wants it to say. It
// knows nothing of Kafka but the four bytes of length before each frame.
type Broker struct {
	Host      string
	Port      int32
	Authority *Authority

	script func(net.Conn)
	ln     net.Listener
	config *tls.Config

	mu   sync.Mutex
	open map[net.Conn]struct{}
	wg   sync.WaitGroup
}

// StartBroker starts a broker called host which runs the script for each
// connection and closes it when the script returns. The broker ends with the
// test: connections are reset, which ends scripts that read or write. One that
// waits for anything else must watch the test's context.
//
//	b := kafkatest.StartBroker(t, "broker-0.upstream.test", kafkatest.Answer(func(frame []byte) []byte {
//		return kafkatest.Frame(frame[4:8], []byte("body")) // the correlation id, then the body
//	}))
func StartBroker(tb testing.TB, host string, script func(net.Conn)) *Broker {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	b := &Broker{
		Host:      host,
		Port:      9092,
		Authority: NewAuthority(host),
		script:    script,
		ln:        ln,
		open:      make(map[net.Conn]struct{}),
	}
	b.config = &tls.Config{Certificates: []tls.Certificate{b.Authority.Server(host)}, MinVersion: tls.VersionTLS12}
	b.wg.Go(b.accept)
	tb.Cleanup(b.close)
	return b
}

// Answer is a script that hands each frame, without its length, to a function
// and writes what comes back as it is: a frame with its length, several, part
// of one, or nil for no answer. It ends when the client does.
func Answer(f func(frame []byte) []byte) func(net.Conn) {
	return func(c net.Conn) {
		for {
			frame, err := ReadFrame(c)
			if err != nil {
				return
			}
			if _, err := c.Write(f(frame)); err != nil {
				return
			}
		}
	}
}

// Frame joins the parts and puts their length before them.
func Frame(parts ...[]byte) []byte {
	frame := make([]byte, 4)
	for _, part := range parts {
		frame = append(frame, part...)
	}
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	return frame
}

// maxFrame is the longest frame that ReadFrame believes in. The proxy's own
// limit is 100 MiB by default.
const maxFrame = 128 << 20

// ReadFrame reads a frame and returns it without its length. At the end
// between two frames the error is io.EOF.
func ReadFrame(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := int32(binary.BigEndian.Uint32(length[:]))
	if n < 0 || n > maxFrame {
		return nil, fmt.Errorf("kafkatest: a frame of %d bytes", n)
	}
	frame := make([]byte, n)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, fmt.Errorf("kafkatest: within a frame of %d bytes: %w", n, err)
	}
	return frame, nil
}

// Addr returns "host:port" under which Dial finds the broker.
func (b *Broker) Addr() string { return net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))) }

// ClientConfig returns a TLS configuration which trusts the broker.
func (b *Broker) ClientConfig() *tls.Config { return b.Authority.ClientConfig() }

// Dial connects to the broker, and to nothing else. It has the shape of
// proxy.Proxy.Dial.
func (b *Broker) Dial(ctx context.Context, host string, port int32) (net.Conn, error) {
	if host != b.Host || port != b.Port {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}}
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", b.ln.Addr().String())
}

func (b *Broker) accept() {
	for {
		raw, err := b.ln.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		if b.open == nil {
			raw.Close()
		} else {
			b.open[raw] = struct{}{}
			b.wg.Go(func() { b.serve(raw) })
		}
		b.mu.Unlock()
	}
}

func (b *Broker) serve(raw net.Conn) {
	conn := tls.Server(raw, b.config)
	b.script(conn)
	conn.Close()
	b.mu.Lock()
	delete(b.open, raw)
	b.mu.Unlock()
}

func (b *Broker) close() {
	b.ln.Close()
	b.mu.Lock()
	for raw := range b.open {
		Reset(raw)
	}
	b.open = nil
	b.mu.Unlock()
	b.wg.Wait()
}
