package tlswire

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"kafka-sni-proxy/internal/kafkatest"
)

const suffix = "kafka.example"

// TestInsideOfTLSIsKnown fails with a Go whose crypto/tls looks different
// inside. The proxy works with it, but slower: see tlsInput.
func TestInsideOfTLSIsKnown(t *testing.T) {
	if tlsOffsets == nil {
		t.Fatal("crypto/tls.Conn has no rawInput, input and hand of the known types: adapt tlsInput")
	}
}

// pair returns a server's end and its client after the handshake.
func pair(t testing.TB, plainly bool) (*Conn, *tls.Conn) {
	t.Helper()
	ca := kafkatest.NewAuthority("tlswire")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	config := ca.ClientConfig()
	config.ServerName = "bootstrap." + suffix
	config.DynamicRecordSizingDisabled = true
	dialed := make(chan *tls.Conn, 1)
	go func() {
		c, err := tls.Dial("tcp", ln.Addr().String(), config)
		if err != nil {
			t.Error(err)
		}
		dialed <- c
	}()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s := Server(conn, ca.ServerConfig(suffix))
	if plainly {
		s.in = nil
	}
	if err := s.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := <-dialed
	t.Cleanup(func() { c.Close(); conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	return s, c
}

func eachWay(t *testing.T, f func(t *testing.T, plainly bool)) {
	t.Run("lent", func(t *testing.T) { f(t, false) })
	t.Run("copied", func(t *testing.T) { f(t, true) })
}

// readAll reads until n bytes have come, or the end.
func readAll(s *Conn, n int) ([]byte, error) {
	var got []byte
	for len(got) < n {
		if err := s.Await(); err != nil {
			return got, err
		}
		for p := s.Next(); p != nil; p = s.Next() {
			got = append(got, p...)
		}
	}
	return got, nil
}

func TestEverythingWrittenIsRead(t *testing.T) {
	eachWay(t, func(t *testing.T, plainly bool) {
		s, c := pair(t, plainly)
		var sent []byte
		for i, n := range []int{1, 1, 2, 100, 16384, 16385, 1, 500_000, 1} {
			sent = append(sent, bytes.Repeat([]byte{byte('a' + i)}, n)...)
		}
		go func() {
			for i, rest := 0, sent; len(rest) > 0; i++ {
				n := min(len(rest), []int{1, 3, 16384, 7, 100_000, 1}[i%6])
				c.Write(rest[:n])
				rest = rest[n:]
			}
			c.Write([]byte("x")) // one byte, and the close_notify right behind it
			c.Close()
		}()
		got, err := readAll(s, len(sent)+2)
		if err != io.EOF {
			t.Errorf("at the end: %v, want io.EOF", err)
		}
		if !bytes.Equal(got, append(sent, 'x')) {
			t.Errorf("%d bytes came, want %d, or they differ", len(got), len(sent)+1)
		}
	})
}

func TestNothingIsHeldBackWhileMoreIsAwaited(t *testing.T) {
	eachWay(t, func(t *testing.T, plainly bool) {
		s, c := pair(t, plainly)
		for range 100 { // the answer has to come before the next request is sent
			if _, err := c.Write([]byte("ping")); err != nil {
				t.Fatal(err)
			}
			got, err := readAll(s, 4)
			if err != nil || string(got) != "ping" {
				t.Fatalf("%q, %v", got, err)
			}
		}
	})
}

// cutRecord writes the records of 5000 bytes in two pieces: the rest only when
// told.
type cutRecord struct {
	net.Conn
	rest chan []byte
}

func (c *cutRecord) Write(p []byte) (int, error) {
	if len(p) > 5000 {
		c.rest <- append([]byte(nil), p[len(p)-10:]...)
		_, err := c.Conn.Write(p[:len(p)-10])
		return len(p), err
	}
	return c.Conn.Write(p)
}

func TestRecordThatIsNotWholeYetIsWaitedFor(t *testing.T) {
	eachWay(t, func(t *testing.T, plainly bool) {
		ca := kafkatest.NewAuthority("tlswire")
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		raw, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		config := ca.ClientConfig()
		config.ServerName = "bootstrap." + suffix
		config.DynamicRecordSizingDisabled = true
		cut := &cutRecord{raw, make(chan []byte, 1)}
		c := tls.Client(cut, config)
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		s := Server(conn, ca.ServerConfig(suffix))
		if plainly {
			s.in = nil
		}
		conn.SetDeadline(time.Now().Add(30 * time.Second))
		go c.HandshakeContext(t.Context())
		if err := s.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		go c.Write(bytes.Repeat([]byte("r"), 5000))
		if got, err := readAll(s, 1); !isDeadline(err) {
			t.Fatalf("%d bytes of a cut record were handed out (%v)", len(got), err)
		}
		conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		raw.Write(<-cut.rest)
		got, err := readAll(s, 5000)
		if err != nil || len(got) != 5000 {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	})
}

func isDeadline(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func TestWaitingConnHoldsNoBuffer(t *testing.T) {
	s, c := pair(t, false)
	c.Write(bytes.Repeat([]byte("b"), 1<<20))
	if _, err := readAll(s, 1<<20); err != nil {
		t.Fatal(err)
	}
	s.Wake()
	if err := s.Await(); !isDeadline(err) {
		t.Fatalf("Await: %v, want a timeout", err)
	}
	if s.wire.in != nil || s.wire.out != nil || s.buf != nil {
		t.Error("a buffer is held")
	}
	if n := s.in.raw.Cap() + int(s.in.plain.Size()) + s.in.hand.Cap(); n != 0 {
		t.Errorf("crypto/tls holds %d bytes", n)
	}
}

func TestForgedRecordEndsTheStream(t *testing.T) {
	eachWay(t, func(t *testing.T, plainly bool) {
		s, c := pair(t, plainly)
		if _, err := c.Write([]byte("good")); err != nil {
			t.Fatal(err)
		}
		c.NetConn().Write([]byte{23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20})
		got, err := readAll(s, 100)
		if string(got) != "good" || err == nil || err == io.EOF {
			t.Fatalf("%q, %v: want the good record, then an error", got, err)
		}
	})
}

func TestEndOfTheStreamGivesBuffersBack(t *testing.T) {
	eachWay(t, func(t *testing.T, plainly bool) {
		s, c := pair(t, plainly)
		if _, err := c.Write([]byte("the last")); err != nil {
			t.Fatal(err)
		}
		c.Close() // its close_notify is a record too, which takes a buffer to read
		if got, err := readAll(s, 100); string(got) != "the last" || err != io.EOF {
			t.Fatalf("%q, %v: want what was sent, then the end", got, err)
		}
		if s.wire.in != nil || s.buf != nil {
			t.Error("a buffer was kept")
		}
	})
}

// Whoever wakes a session may do so when it is over already, but for what the
// client has still to read.
func TestWakingDoesNotEndTheLinger(t *testing.T) {
	s, c := pair(t, false)
	answer := bytes.Repeat([]byte("answer"), 30_000)
	if _, err := s.Conn.Write(answer); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		s.Linger(time.Minute)
		close(over)
	}()
	for range 200 {
		s.Wake()
		c.Write([]byte("r")) // what is unread at the close resets the connection
	}
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, answer) {
		t.Errorf("%d bytes and %v, want all %d", len(got), err, len(answer))
	}
	select {
	case <-over:
		t.Error("it was over before the client had closed")
	default:
	}
	c.Close()
	<-over
}

func TestReadingAllocatesNothing(t *testing.T) {
	s, c := pair(t, false)
	record := bytes.Repeat([]byte("r"), 16384)
	const records = 8
	ready := make(chan struct{})
	go func() {
		for range ready {
			for range records {
				c.Write(record)
			}
		}
	}()
	defer close(ready)
	// The client's writes are counted too; crypto/tls allocates nothing there.
	n := testing.AllocsPerRun(50, func() {
		ready <- struct{}{}
		for got := 0; got < records*len(record); {
			if s.Await() != nil {
				t.Error("ended")
				return
			}
			for p := s.Next(); p != nil; p = s.Next() {
				got += len(p)
			}
		}
	})
	if n >= 1 && !raceEnabled {
		t.Errorf("%v allocations for %d records, want none", n, records)
	}
}

func BenchmarkRead(b *testing.B) {
	for name, plainly := range map[string]bool{"lent": false, "copied": true} {
		b.Run(name, func(b *testing.B) {
			s, c := pair(b, plainly)
			s.wire.SetDeadline(time.Time{})
			chunk := make([]byte, 1<<20)
			b.SetBytes(int64(len(chunk)))
			b.ReportAllocs()
			stop := make(chan struct{})
			go func() {
				for {
					if _, err := c.Write(chunk); err != nil {
						close(stop)
						return
					}
				}
			}()
			for b.Loop() {
				for got := 0; got < len(chunk); {
					if err := s.Await(); err != nil {
						b.Fatal(err)
					}
					for p := s.Next(); p != nil; p = s.Next() {
						got += len(p)
					}
				}
			}
			s.wire.Conn.Close()
			<-stop
		})
	}
}

// TestPlaintextIsReadAndWrittenInBatches as TLS is, with writes of all sizes between Cork and
// Flush, and its end passed on.
func TestPlaintextIsReadAndWrittenInBatches(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	socket, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := Plaintext(socket)
	defer c.CloseNow()
	for _, conn := range []net.Conn{peer, socket} {
		conn.SetDeadline(time.Now().Add(30 * time.Second))
	}
	var sent []byte
	for i := range 300_000 {
		sent = append(sent, byte(i), byte(i>>8))
	}
	go func() {
		peer.Write(sent)
		peer.(*net.TCPConn).CloseWrite()
	}()
	if first, err := c.PeekByte(); err != nil || first != sent[0] {
		t.Fatalf("%d, %v", first, err)
	}
	got, err := readAll(c, len(sent)+1)
	if !bytes.Equal(got, sent) || err != io.EOF {
		t.Errorf("%d of %d bytes, %v", len(got), len(sent), err)
	}
	if c.wire.in != nil {
		t.Error("a connection that has been read to its end holds a buffer")
	}
	back := make(chan []byte)
	go func() {
		all, _ := io.ReadAll(peer)
		back <- all
	}()
	rest := sent
	for size := 1; len(rest) > 0; size *= 3 {
		c.Cork()
		for range 2 {
			n := min(size, len(rest))
			if _, err := c.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	c.CloseWrite()
	if all := <-back; !bytes.Equal(all, sent) {
		t.Errorf("%d of %d bytes came back", len(all), len(sent))
	}
}
