package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kafka-sni-proxy/internal/kafkatest"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/tlswire"
)

// be32 is a big-endian 32-bit integer on the wire; be16 one of 16 bits.
func be32(v int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(v)) }
func be16(v int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }
func str(s string) []byte {
	return append(be16(len(s)), s...)
}

// request is a frame with a non-flexible header. Heartbeat (12) is an API that
// the proxy has no opinion of.
func request(key, version, correlation int, body ...[]byte) []byte {
	return kafkatest.Frame(append([][]byte{be16(key), be16(version), be32(correlation), str("test")}, body...)...)
}

// metadataV0 answers Metadata v0 with one broker and no topics.
func metadataV0(frame []byte, node int, host string, port int) []byte {
	return kafkatest.Frame(frame[4:8], be32(1), be32(node), str(host), be32(port), be32(0))
}

// echo answers each request with its correlation id and its whole frame.
func echo(frame []byte) []byte { return kafkatest.Frame(frame[4:8], frame) }

func echoBroker(t testing.TB) *kafkatest.Broker {
	return kafkatest.StartBroker(t, "broker-0.upstream.test", kafkatest.Answer(echo))
}

func mustRead(t testing.TB, c io.Reader) []byte {
	t.Helper()
	f, err := kafkatest.ReadFrame(c)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func mustWrite(t testing.TB, c io.Writer, p []byte) {
	t.Helper()
	if _, err := c.Write(p); err != nil {
		t.Fatal(err)
	}
}

// mustEnd checks that the peer closes and sends nothing before it does.
func mustEnd(t testing.TB, c io.Reader) {
	t.Helper()
	got, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("want the end of the connection, got %v", err)
	}
	if len(got) > 0 {
		t.Fatalf("want no more bytes, got %q", got)
	}
}

func TestClientsWithoutTLSAreClosedWithoutAnAlert(t *testing.T) {
	b := echoBroker(t)
	r := start(t, b, b.Addr(), nil)
	for sent, words := range map[string][]string{
		string(request(18, 0, 1)):          {"a plaintext Kafka request", "hint="},
		"GET / HTTP/1.1\r\n\r\n":           {"an HTTP request", "hint="},
		"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r": {"a PROXY protocol header", "hint="},
		"\xffgarbage":                      {"0xff", "phase=first-byte"},
	} {
		c := r.dialRaw(t)
		mustWrite(t, c, []byte(sent))
		mustEnd(t, c)
		r.log.wait(t, append(words, "level=WARN")...)
	}
	if n := r.Stats().Failures["first-byte"]; n != 4 {
		t.Errorf("%d first-byte failures counted, want 4", n)
	}
}

func TestClientsThatJustLeaveAreNoFailure(t *testing.T) {
	b := echoBroker(t)
	r := start(t, b, b.Addr(), nil)
	r.dialRaw(t).Close() // a health check
	r.log.wait(t, "level=DEBUG", "connection closed", "phase=first-byte")
	c := r.dial(t, "bootstrap."+suffix)
	mustWrite(t, c, request(12, 0, 1))
	mustRead(t, c)
	c.NetConn().Close()
	r.log.wait(t, "level=DEBUG", "connection closed", "request_bytes")
	for phase, n := range r.Stats().Failures {
		if n != 0 {
			t.Errorf("%d failures in phase %s", n, phase)
		}
	}
}

func TestUnknownNamesAreRefusedByTheirOwnAlert(t *testing.T) {
	b := echoBroker(t)
	r := start(t, b, b.Addr(), nil)
	config := r.ca.ClientConfig()
	config.InsecureSkipVerify = true
	for name, want := range map[string]string{
		"other.example":            `server name \"other.example\" is not served here`,
		"":                         "no server name (SNI)",
		"bootstrap.kafka.example2": "is not served here",
	} {
		config := config.Clone()
		config.ServerName = name
		_, err := tls.Dial("tcp", r.addr, config)
		var alert tls.AlertError
		if !errors.As(err, &alert) && (err == nil || !strings.Contains(err.Error(), "unrecognized name")) {
			t.Errorf("name %q: %v, want the alert unrecognized_name", name, err)
		}
		r.log.wait(t, "phase=route", want, "hint=", "client=127.0.0.1")
	}
}

func TestMissingNameIsBootstrapWhenAllowed(t *testing.T) {
	b := echoBroker(t)
	r := start(t, b, b.Addr(), func(p *settings, _ *route.Config) { p.AllowMissingSNI = true })
	config := r.ca.ClientConfig()
	config.InsecureSkipVerify = true // nothing to verify by
	c, err := tls.Dial("tcp", r.addr, config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mustWrite(t, c, request(12, 0, 7))
	mustRead(t, c)
}

func TestClientCertificates(t *testing.T) {
	b := echoBroker(t)
	clients, strangers := kafkatest.NewAuthority("clients"), kafkatest.NewAuthority("strangers")
	r := start(t, b, b.Addr(), func(p *settings, _ *route.Config) {
		p.Downstream.ClientAuth = tls.RequireAndVerifyClientCert
		p.Downstream.ClientCAs = clients.Pool()
	})
	c := r.dial(t, "bootstrap."+suffix, clients.Client("alice"))
	mustWrite(t, c, request(12, 0, 1))
	mustRead(t, c)

	for name, certs := range map[string][]tls.Certificate{
		"didn't provide a certificate":                    nil,
		"certificate signed by unknown authority":         {strangers.Client("mallory")},
		"certificate specifies an incompatible key usage": {clients.Server("alice")}, // a server's certificate
	} {
		c, err := r.tryDial("bootstrap."+suffix, certs...)
		if err == nil { // in TLS 1.3 a client is done before it is judged
			c.Write(request(12, 0, 1))
			_, err = kafkatest.ReadFrame(c)
			c.Close()
		}
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		r.log.wait(t, "level=WARN", "phase=handshake", name)
	}
}

func TestUpstreamsThatAreNotWhatTheyShouldBe(t *testing.T) {
	b := echoBroker(t)
	stranger := kafkatest.NewAuthority("stranger")
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	go func() {
		for {
			c, err := plain.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			c.Close()
		}
	}()

	for _, tc := range []struct {
		name   string
		change func(p *settings, _ *route.Config)
		want   []string
	}{
		{"wrong CA", func(p *settings, _ *route.Config) { p.Upstream.RootCAs = stranger.Pool() },
			[]string{"phase=upstream-tls", "broker-0.upstream.test:9092 at 127.0.0.1:", "unknown authority", "is for broker-0.upstream.test, signed by", "hint="}},
		{"wrong name", func(p *settings, c *route.Config) {
			c.Upstreams = []route.Address{{Host: "other.upstream.test", Port: 9092}}
			p.Dial = func(ctx context.Context, _ string, _ int32) (net.Conn, error) {
				return b.Dial(ctx, b.Host, b.Port)
			}
		}, []string{"phase=upstream-tls", "broker-0.upstream.test, not other.upstream.test", "hint="}},
		{"no TLS", func(p *settings, _ *route.Config) {
			p.Dial = func(ctx context.Context, _ string, _ int32) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", plain.Addr().String())
			}
		}, []string{"phase=upstream-tls", "first record does not look like a TLS handshake", "hint="}},
		{"nobody", func(p *settings, _ *route.Config) {
			p.Dial = func(ctx context.Context, _ string, _ int32) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:1")
			}
		}, []string{"phase=dial", "connecting to broker broker-0.upstream.test", "refused", "hint="}},
		{"no address", func(p *settings, _ *route.Config) {
			p.Dial = func(context.Context, string, int32) (net.Conn, error) {
				return nil, &net.DNSError{Err: "no such host", Name: "x", IsNotFound: true}
			}
		}, []string{"phase=dial", "no such host", "hint="}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := start(t, b, b.Addr(), tc.change)
			mustEnd(t, r.dial(t, "bootstrap."+suffix))
			r.log.wait(t, append(tc.want, "level=WARN")...)
			if err := r.cluster.Check(t.Context()); err == nil {
				t.Error("Check found nothing wrong")
			}
		})
	}
}

func TestBootstrapTriesTheNextUpstream(t *testing.T) {
	b := echoBroker(t)
	r := start(t, b, "gone.upstream.test:9092,"+b.Addr(), nil)
	c := r.dial(t, "bootstrap."+suffix)
	mustWrite(t, c, request(12, 0, 1))
	mustRead(t, c)
	if err := r.cluster.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestHandshakeHasADeadline(t *testing.T) {
	b := echoBroker(t)
	r := start(t, b, b.Addr(), func(p *settings, _ *route.Config) { p.HandshakeTimeout = 50 * time.Millisecond })
	silent, half := r.dialRaw(t), r.dialRaw(t)
	mustWrite(t, half, []byte{22, 3, 1, 0, 200, 1})
	mustEnd(t, silent)
	mustEnd(t, half)
	r.log.wait(t, "phase=first-byte", "i/o timeout", "hint=")
	r.log.wait(t, "phase=handshake", "i/o timeout", "hint=")
}

func TestHalfCloseIsPassedOnAndAnswersStillFlow(t *testing.T) {
	upstreamEOF := make(chan struct{})
	b := kafkatest.StartBroker(t, "broker-0.upstream.test", func(c net.Conn) {
		f, err := kafkatest.ReadFrame(c)
		if err != nil {
			return
		}
		if _, err := kafkatest.ReadFrame(c); err == io.EOF {
			close(upstreamEOF)
		}
		c.Write(echo(f)) // only now
	})
	r := start(t, b, b.Addr(), nil)
	c := r.dial(t, "bootstrap."+suffix)
	mustWrite(t, c, request(12, 0, 1))
	if err := kafkatest.HalfClose(c); err != nil {
		t.Fatal(err)
	}
	mustRead(t, c)
	mustEnd(t, c)
	<-upstreamEOF
}

func TestClientThatClosesWithNothingInFlightEndsBothSides(t *testing.T) {
	gone := make(chan struct{})
	b := kafkatest.StartBroker(t, "broker-0.upstream.test", func(c net.Conn) {
		io.Copy(io.Discard, c)
		close(gone)
	})
	r := start(t, b, b.Addr(), nil)
	c := r.dial(t, "bootstrap."+suffix)
	c.Close()
	<-gone
	r.log.wait(t, "connection closed")
}

// TestBytesArriveAsTheyWereSent sends frames of many sizes through connections
// that give them one byte, or some, at a time.
func TestBytesArriveAsTheyWereSent(t *testing.T) {
	for _, tc := range []struct {
		name           string
		chunk          int
		sizes          []int
		client, broker bool
	}{
		{"whole", 0, []int{0, 1, 100, 16384 - 30, 16384, 100_000, tlswire.MaxBatch, tlswire.MaxBatch + 1, 3 << 20}, false, false},
		{"one byte from the client", 1, []int{0, 1, 5000}, true, false},
		{"one byte from the broker", 1, []int{0, 1, 5000}, false, true},
		{"7000 bytes on both sides", 7000, []int{3, 200_000, 17, 1 << 20}, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := echoBroker(t)
			r := start(t, b, b.Addr(), func(p *settings, _ *route.Config) {
				if tc.broker {
					p.Dial = func(ctx context.Context, host string, port int32) (net.Conn, error) {
						c, err := b.Dial(ctx, host, port)
						if err != nil {
							return nil, err
						}
						return kafkatest.Dribble(c, tc.chunk), nil
					}
				}
			})
			d := r.dialer()
			if tc.client {
				d.Wrap = func(c net.Conn) net.Conn { return kafkatest.Dribble(c, tc.chunk) }
			}
			c, err := d.DialContext(t.Context(), "tcp", "bootstrap."+suffix+":9092")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			var sent [][]byte
			for i, size := range tc.sizes {
				sent = append(sent, request(12, 0, i, bytes.Repeat([]byte{byte(i + 1)}, size)))
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				for _, f := range sent {
					if _, err := c.Write(f); err != nil {
						t.Error(err)
					}
				}
			})
			for i, f := range sent {
				got := mustRead(t, c)
				if !bytes.Equal(got[:4], be32(i)) || !bytes.Equal(got[4:], f[4:]) {
					t.Fatalf("frame %d of %d bytes came back changed", i, len(f))
				}
			}
			wg.Wait()
		})
	}
}

// TestNothingStallsWhenAPeerDoesNotRead has both directions full before anyone
// reads on.
func TestNothingStallsWhenAPeerDoesNotRead(t *testing.T) {
	b := echoBroker(t)
	r := start(t, b, b.Addr(), nil)
	c := r.dial(t, "bootstrap."+suffix)
	const n, size = 200, 256 << 10
	body := make([]byte, size)
	progress := make(chan int, n)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			if _, err := c.Write(request(12, 0, i, body)); err != nil {
				t.Error(err)
				break
			}
			progress <- i
		}
		close(progress)
	})
	// Read only once the client's writes have been stuck for a moment: nothing
	// else tells that every buffer on the way is full.
	for stuck := false; !stuck; {
		select {
		case _, ok := <-progress:
			if !ok {
				t.Fatal("50 MiB fitted into the buffers: no back-pressure was tried")
			}
		case <-time.After(200 * time.Millisecond):
			stuck = true
		}
	}
	go func() {
		for range progress {
		}
	}()
	for i := range n {
		if got := mustRead(t, c); len(got) < size || !bytes.Equal(got[:4], be32(i)) {
			t.Fatalf("answer %d is wrong", i)
		}
	}
	wg.Wait()
}

func TestRequestsThatCannotBeForwardedEndTheSession(t *testing.T) {
	b := echoBroker(t)
	r := start(t, b, b.Addr(), func(p *settings, _ *route.Config) { p.MaxFrameBytes = 1 << 20 })
	for name, tc := range map[string]struct {
		sent []byte
		want string
	}{
		"negative":  {be32(-1), "request of -1 bytes"},
		"huge":      {be32(1<<20 + 1), "want 0 to"},
		"too short": {kafkatest.Frame(be32(1)), "shorter than a request header"},
		"version":   {request(3, 14, 1), "Metadata v14"},
		"acks":      {kafkatest.Frame(be16(0), be16(3), be32(1), be16(-2)), "Produce v3"},
	} {
		c := r.dial(t, "bootstrap."+suffix)
		mustWrite(t, c, tc.sent)
		mustEnd(t, c)
		line := r.log.wait(t, "level=WARN", "phase=request", tc.want)
		if name == "huge" && !strings.Contains(line, "hint=") {
			t.Errorf("no hint: %s", line)
		}
	}
}

func TestResponsesThatCannotBeRewrittenAreNotForwarded(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(frame []byte) []byte
		want   string
	}{
		"cut short": {func(f []byte) []byte {
			return kafkatest.Frame(f[4:8], be32(2), be32(0), str("broker-0.upstream.test"), be32(9092))
		}, "Metadata v0, offset 44"},
		"correlation id": {func(f []byte) []byte { return metadataV0(append(f[:7:7], 99), 0, "broker-0.upstream.test", 9092) },
			"correlation id"},
		"length": {func([]byte) []byte { return be32(-5) }, "response of -5 bytes"},
		"nobody asked": {func(f []byte) []byte {
			good := metadataV0(f, 0, "", -1)
			return append(good, good...)
		}, "no request asked for"},
	} {
		t.Run(name, func(t *testing.T) {
			b := kafkatest.StartBroker(t, "broker-0.upstream.test", kafkatest.Answer(tc.answer))
			r := start(t, b, b.Addr(), nil)
			c := r.dial(t, "bootstrap."+suffix)
			mustWrite(t, c, request(3, 0, 1, be32(0)))
			got, _ := io.ReadAll(c)
			if bytes.Contains(got, []byte("upstream")) {
				t.Errorf("the client was sent %q", got)
			}
			r.log.wait(t, "level=WARN", "phase=rewrite", tc.want)
			if n := r.Stats().Failures["rewrite"]; n != 1 {
				t.Errorf("%d rewrite failures counted, want 1", n)
			}
			if r.Routes.Known() != 0 {
				t.Error("a broker was learned from a response that was not well formed")
			}
		})
	}
}

func TestProvisionalSessionEndsBetweenFramesOnceTheTruthIsKnown(t *testing.T) {
	// The bootstrap broker is node 0; the client asks for b1 first.
	var other *kafkatest.Broker
	arrived, release := make(chan struct{}), make(chan struct{})
	boot := kafkatest.StartBroker(t, "broker-0.upstream.test", refusesProxies(func(f []byte) []byte {
		if f[1] == 3 {
			return metadataV0(f, 1, other.Host, int(other.Port))
		}
		if f[1] == 12 {
			close(arrived)
			<-release
		}
		return echo(f)
	}))
	other = kafkatest.StartBroker(t, "broker-1.upstream.test", kafkatest.Answer(func(f []byte) []byte {
		return kafkatest.Frame(f[4:8], []byte("I am node 1"))
	}))
	r := start(t, boot, boot.Addr(), func(p *settings, _ *route.Config) {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(boot.Authority.PEM())
		pool.AppendCertsFromPEM(other.Authority.PEM())
		p.Upstream.RootCAs = pool
		p.Dial = func(ctx context.Context, host string, port int32) (net.Conn, error) {
			if host == other.Host {
				return other.Dial(ctx, host, port)
			}
			return boot.Dial(ctx, host, port)
		}
	})

	waiting := r.login(t, "b1."+suffix)
	mustWrite(t, waiting, request(12, 0, 1)) // its answer is held back
	<-arrived

	teacher := r.dial(t, "bootstrap."+suffix)
	mustWrite(t, teacher, request(3, 0, 1, be32(0)))
	if got := mustRead(t, teacher); !bytes.Contains(got, []byte("b1."+suffix)) {
		t.Fatalf("metadata is %q", got)
	}
	close(release)
	mustRead(t, waiting) // what was owed still came
	mustEnd(t, waiting)

	again := r.dial(t, "b1."+suffix)
	mustWrite(t, again, request(12, 0, 1))
	if got := mustRead(t, again); !bytes.Contains(got, []byte("I am node 1")) {
		t.Fatalf("the client came back and was routed wrong: %q", got)
	}
}

func TestDrainDeliversResponsesInFlightAndReadsNoMore(t *testing.T) {
	got := make(chan struct{})
	release := make(chan struct{})
	b := kafkatest.StartBroker(t, "broker-0.upstream.test", kafkatest.Answer(func(f []byte) []byte {
		if f[7] == 1 {
			close(got)
			<-release
		}
		return echo(f)
	}))
	r := start(t, b, b.Addr(), nil)
	busy, idle, greeting := r.dial(t, "bootstrap."+suffix), r.dial(t, "bootstrap."+suffix), r.dialRaw(t)
	mustWrite(t, idle, request(12, 0, 2))
	mustRead(t, idle)
	mustWrite(t, busy, request(12, 0, 1))
	<-got

	done := make(chan error, 1)
	go func() { done <- r.Shutdown(t.Context()) }()
	mustEnd(t, greeting) // not even in its handshake: nothing to wait for
	mustEnd(t, idle)
	if !r.Stats().Draining {
		t.Error("Stats does not say that the proxy drains")
	}
	if c, err := net.Dial("tcp", r.addr); err == nil {
		c.Close()
		t.Error("a new connection was accepted while draining")
	}
	close(release)
	mustRead(t, busy)
	mustEnd(t, busy)
	busy.Close()
	idle.Close()
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if err := <-r.ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
	r.ended <- nil // for the rig
}

func TestDrainFinishesARequestThatIsHalfRead(t *testing.T) {
	b := echoBroker(t)
	r := start(t, b, b.Addr(), nil)
	c := r.dial(t, "bootstrap."+suffix)
	f := request(12, 0, 1, make([]byte, 100_000))
	mustWrite(t, c, request(12, 0, 0))
	mustRead(t, c)
	half := r.Stats().RequestBytes + 50_000
	mustWrite(t, c, f[:50_000])
	for r.Stats().RequestBytes < half { // the proxy has it: nothing else says so
		time.Sleep(time.Millisecond)
	}
	done := make(chan error, 1)
	go func() { done <- r.Shutdown(t.Context()) }()
	for !r.Stats().Draining {
		time.Sleep(time.Millisecond)
	}
	mustWrite(t, c, f[50_000:])
	mustRead(t, c)
	mustEnd(t, c)
	c.Close()
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestDrainIsForcedWhenItsTimeIsOver(t *testing.T) {
	got := make(chan struct{})
	b := kafkatest.StartBroker(t, "broker-0.upstream.test", func(c net.Conn) {
		kafkatest.ReadFrame(c)
		close(got)
		io.Copy(io.Discard, c) // and never answers
	})
	r := start(t, b, b.Addr(), nil)
	c := r.dial(t, "bootstrap."+suffix)
	mustWrite(t, c, request(12, 0, 1))
	<-got
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Shutdown(ctx) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v, want the context's error", err)
	}
	if _, err := io.ReadAll(c); err == nil {
		t.Log("the connection ended with TLS's goodbye")
	}
}

// stubborn is a listener whose first accepts fail.
type stubborn struct {
	net.Listener
	failures int
}

func (l *stubborn) Accept() (net.Conn, error) {
	if l.failures > 0 {
		l.failures--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

func TestFailingAcceptsAreTriedAgain(t *testing.T) {
	b := echoBroker(t)
	r := start(t, b, b.Addr(), nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.Serve(ctx, r.NewSocket(&stubborn{ln, 3}, r.how)) }()
	r.addr = ln.Addr().String()
	c := r.dial(t, "bootstrap."+suffix)
	mustWrite(t, c, request(12, 0, 1))
	mustRead(t, c)
	if n := r.Stats().AcceptErrors; n != 3 {
		t.Errorf("%d accept errors counted, want 3", n)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve: %v", err)
	}
}

// Client and broker are in the same process, so the allocations are told apart
// by where they were made.
func TestRoundTripAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("allocations cannot be counted under the race detector")
	}
	broker := echoBroker(t)
	r := start(t, broker, broker.Addr(), nil)
	c := r.dial(t, "bootstrap."+suffix)
	frame := request(12, 0, 1, make([]byte, 4000))
	answer := make([]byte, len(frame)+4)
	send := func(times int) {
		for range times {
			mustWrite(t, c, frame)
			if _, err := io.ReadFull(c, answer); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(100) // pools are full, and the handshakes over

	rate := runtime.MemProfileRate
	runtime.MemProfileRate = 1
	defer func() { runtime.MemProfileRate = rate }()
	const times = 1000
	before := pumpAllocations()
	send(times)
	if n := pumpAllocations() - before; n > times/20 {
		t.Errorf("%d allocations in the pumps for %d requests, want none", n, times)
	}
}

// pumpAllocations counts what was allocated in the pumps while the memory
// profile was on.
func pumpAllocations() (n int64) {
	runtime.GC() // the profile shows what was allocated before the last two collections
	runtime.GC()
	records := make([]runtime.MemProfileRecord, 10_000)
	got, ok := runtime.MemProfile(records, true)
	if !ok {
		panic("the memory profile is larger than expected")
	}
	for _, r := range records[:got] {
		frames := runtime.CallersFrames(r.Stack())
		for frame, more := frames.Next(); ; frame, more = frames.Next() {
			if strings.Contains(frame.Function, "(*session).pump") {
				n += r.AllocObjects
				break
			}
			if !more {
				break
			}
		}
	}
	return n
}
