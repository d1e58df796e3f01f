package server

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"kafka-sni-proxy/internal/kafkatest"
	"kafka-sni-proxy/internal/route"
)

// heap returns how much of the heap and of stacks is in use, tests and all, once
// garbage is gone.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools hold goes with the second
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// TestHalfHandshakesDisturbNobody has thousands of clients that begin a
// handshake and say no more, while others work.
func TestHalfHandshakesDisturbNobody(t *testing.T) {
	const half, working, rounds = 2000, 20, 20
	b := echoBroker(t)
	r := start(t, b, b.Addr(), func(p *settings, _ *route.Config) { p.HandshakeTimeout = 5 * time.Minute })
	before := heap()
	hello := []byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3} // of 512 bytes, cut in its first ones
	var slow []net.Conn
	for i := range half {
		c, err := net.Dial("tcp", r.addr)
		if errors.Is(err, syscall.EMFILE) {
			t.Skipf("%d connections take more files than may be open here", half)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		mustWrite(t, c, hello[:i%len(hello)])
		slow = append(slow, c)
	}
	waitStats(t, r.Server, "all are there", func(s Stats) bool { return s.Active == half })
	grown := heap() - before
	t.Logf("%d bytes each", grown/half)
	if grown > half*80<<10 {
		t.Errorf("%d half handshakes take %d KiB each, client and all", half, grown/half>>10)
	}
	var wg sync.WaitGroup
	for range working {
		wg.Go(func() {
			for range rounds { // a connection each
				c, err := r.tryDial("bootstrap." + suffix)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := c.Write(request(12, 0, 1)); err != nil {
					t.Error(err)
				}
				if _, err := kafkatest.ReadFrame(c); err != nil {
					t.Error(err)
				}
				c.Close()
			}
		})
	}
	wg.Wait()
	for _, c := range slow {
		c.Close()
	}
	waitStats(t, r.Server, "all have left", func(s Stats) bool { return s.Active == 0 })
	if n := r.Stats().Failures["handshake"] + r.Stats().Failures["first-byte"]; n != 0 {
		t.Errorf("%d handshakes failed", n)
	}
}

// TestMemoryDoesNotFollowWhatPeersClaim has clients and brokers announce frames
// of 100 MB, and send next to nothing of them.
func TestMemoryDoesNotFollowWhatPeersClaim(t *testing.T) {
	const sessions = 50
	claim := be32(100 << 20)
	b := kafkatest.StartBroker(t, "broker-0.upstream.test", func(c net.Conn) {
		f, err := kafkatest.ReadFrame(c)
		if err != nil {
			return
		}
		// A Fetch response is walked, and its end kept: one topic, one partition,
		// and the beginning of its records.
		c.Write(slices.Concat(claim, f[4:8], make([]byte, 11), []byte{2, 2, 't', 2}, make([]byte, 35), binary.AppendUvarint(nil, 90<<20), make([]byte, 20<<10)))
		io.Copy(io.Discard, c)
	})
	r := start(t, b, b.Addr(), nil)
	before := heap()
	for i := range sessions {
		c := r.dial(t, "bootstrap."+suffix)
		mustWrite(t, c, request(1, 12, i, make([]byte, 100)))
		if _, err := io.ReadFull(c, make([]byte, 8)); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, c, append(claim[:4:4], request(0, 3, i, str("transaction"), be16(1))[4:]...)) // a Produce
	}
	waitStats(t, r.Server, "all has been read", func(s Stats) bool { return s.Requests == 2*sessions })
	grown := heap() - before
	t.Logf("%d bytes each", grown/sessions)
	if grown > sessions*2<<20 {
		t.Errorf("%d sessions take %d KiB each, peers and all", sessions, grown/sessions>>10)
	}
}

// TestMemoryDoesNotFollowWhatIsNotRead has brokers send as much as they can to
// clients that read it a kilobyte at a time, if at all.
func TestMemoryDoesNotFollowWhatIsNotRead(t *testing.T) {
	const sessions, size, chunk = 20, 32 << 20, 1 << 20
	body := bytes.Repeat([]byte("x"), chunk)
	b := kafkatest.StartBroker(t, "broker-0.upstream.test", func(c net.Conn) {
		f, err := kafkatest.ReadFrame(c)
		if err != nil {
			return
		}
		c.Write(append(be32(4+size), f[4:8]...))
		for range size / chunk {
			if _, err := c.Write(body); err != nil {
				return
			}
		}
		io.Copy(io.Discard, c)
	})
	r := start(t, b, b.Addr(), nil)
	before := heap()
	var clients []*tls.Conn
	for i := range sessions {
		c := r.dial(t, "bootstrap."+suffix)
		mustWrite(t, c, request(12, 0, i))
		clients = append(clients, c)
	}
	most := int64(0)
	check := func() { most = max(most, heap()-before) }
	// No client reads, until the proxy has more than the sockets take at once.
	waitStats(t, r.Server, "all answers are under way", func(s Stats) bool { return s.ResponseBytes > sessions*256<<10 })
	check()
	small := make([]byte, 1<<10)
	for i := range 1000 {
		for _, c := range clients {
			if _, err := io.ReadFull(c, small); err != nil {
				t.Fatal(err)
			}
		}
		if i%100 == 0 {
			check()
		}
	}
	t.Logf("%d bytes each at the most", most/sessions)
	if most > sessions*4<<20 {
		t.Errorf("%d sessions take up to %d KiB each, peers and all", sessions, most/sessions>>10)
	}
}
