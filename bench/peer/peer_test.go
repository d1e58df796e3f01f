package peer

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"strings"
	"testing"
	"time"
)

const (
	suffix     = "kafka.example"
	brokerName = "lkc-bench.upstream.example"
)

// ends starts a broker stand-in and a load client in this process.
func ends(t *testing.T) (dir, broker string, load *Client) {
	t.Helper()
	dir = t.TempDir()
	if err := WriteCertificates(dir, "bootstrap."+suffix, brokerName); err != nil {
		t.Fatal(err)
	}
	broker = role(t, func(stdin io.ReadCloser, stdout io.WriteCloser) error {
		return RunBroker(BrokerOptions{Dir: dir, Address: "127.0.0.1:0", Buffer: 256 << 10}, stdin, stdout)
	})
	requests, stdin := io.Pipe()
	stdout, replies := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- RunLoad(LoadOptions{Dir: dir, Buffer: 256 << 10}, requests, replies) }()
	t.Cleanup(func() {
		stdin.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return dir, broker, NewClient(stdout, stdin)
}

// role runs a role in this process until the test ends, and returns its
// address.
func role(t *testing.T, run func(io.ReadCloser, io.WriteCloser) error) string {
	t.Helper()
	stdin, parent := io.Pipe()
	said, stdout := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(stdin, stdout)
		stdout.CloseWithError(err)
		ended <- err
	}()
	address, err := bufio.NewReader(said).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		parent.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return strings.TrimSpace(address)
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestTrafficDirectAndThroughTheRelay(t *testing.T) {
	dir, broker, load := ends(t)
	direct := Server{broker, brokerName}
	relay := Server{ServerName: "bootstrap." + suffix}
	relay.Address = role(t, func(stdin io.ReadCloser, stdout io.WriteCloser) error {
		return RunRelay(RelayOptions{Dir: dir, Upstream: direct}, stdin, stdout)
	})
	plain := Server{ServerName: brokerName}
	plain.Address = role(t, func(stdin io.ReadCloser, stdout io.WriteCloser) error {
		return RunRelay(RelayOptions{Dir: dir, Upstream: direct, Plain: true}, stdin, stdout)
	})
	for name, to := range map[string]Server{"direct": direct, "relay": relay, "plain": plain} {
		t.Run(name, func(t *testing.T) {
			ctx := bounded(t)
			set, err := load.Open(ctx, to, 3)
			if err != nil {
				t.Fatal(err)
			}
			produce := Request{Kind: Produce, Bytes: 256 << 10, Partitions: 4}
			fetch := Request{Kind: Fetch, Bytes: 256 << 10, Partitions: 4}
			for _, requests := range [][]Request{{produce}, {fetch}, {produce, fetch}} {
				for _, slow := range []int{0, 2} {
					r, err := load.Bulk(ctx, BulkArgs{Set: set, Requests: requests, Depth: 4, Duration: 30 * time.Millisecond, SlowEvery: slow})
					if err != nil {
						t.Fatal(err)
					}
					if r.Frames < 6 || r.Bytes < r.Frames/2*250_000 || r.Elapsed < 30*time.Millisecond {
						t.Errorf("%v, slow %d: %+v", requests, slow, r)
					}
				}
			}
			r, err := load.Exchange(ctx, set, produce, fetch)
			if err != nil || r.Frames != 12 || r.Bytes < 3*2*250_000 || r.Bytes > 3*2*270_000 {
				t.Errorf("exchange: %+v, %v", r, err)
			}
			taken, err := load.RoundTrips(ctx, RoundTripsArgs{Set: set, Request: Request{Kind: Heartbeat}, Duration: 20 * time.Millisecond})
			if err != nil || len(taken) == 0 || taken[0] <= 0 {
				t.Errorf("%d round trips, %v", len(taken), err)
			}
			if err := load.Close(ctx, set); err != nil {
				t.Error(err)
			}
			if _, err := load.Exchange(ctx, set, fetch); err == nil {
				t.Error("a closed set exchanged frames")
			}
		})
	}
}

func TestPaceIsKept(t *testing.T) {
	_, broker, load := ends(t)
	ctx := bounded(t)
	set, err := load.Open(ctx, Server{broker, brokerName}, 2)
	if err != nil {
		t.Fatal(err)
	}
	// 40 requests a second: 8 in 200 ms, of which the first may be cut off by
	// slow machines, and no more than 8 and one for either connection.
	r, err := load.Bulk(ctx, BulkArgs{
		Set: set, Requests: []Request{{Kind: Produce, Bytes: 1000, Partitions: 1}},
		Depth: 4, BytesPerSecond: 40_000, Duration: 200 * time.Millisecond,
	})
	if err != nil || r.Frames/2 > 10 || r.Frames == 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestHandshakesWithAndWithoutResumption(t *testing.T) {
	_, broker, load := ends(t)
	for _, resume := range []bool{false, true} {
		r, err := load.Handshakes(bounded(t), HandshakesArgs{
			Server: Server{broker, brokerName}, Workers: 2, Resume: resume, Duration: 300 * time.Millisecond,
		})
		if err != nil || r.Connections < 3 {
			t.Fatalf("resume %v: %+v, %v", resume, r, err)
		}
		want := int64(0)
		if resume {
			want = r.Connections - 2 // each worker's first has nothing to resume
		}
		if r.Resumed != want {
			t.Errorf("resume %v: %d of %d were resumed", resume, r.Resumed, r.Connections)
		}
	}
}

// TestDamageIsNoticed has a server answer another request than was sent, and
// one show the wrong name.
func TestDamageIsNoticed(t *testing.T) {
	dir, _, load := ends(t)
	cert, err := tls.LoadX509KeyPair(dir+"/"+BrokerCertFile, dir+"/"+BrokerKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.Read(make([]byte, 1024))
				c.Write([]byte{0, 0, 0, 8, 0, 0, 0, 99, 0, 0, 0, 0}) // the wrong correlation id
				io.Copy(io.Discard, c)
			}()
		}
	}()
	if _, err := load.Open(bounded(t), Server{ln.Addr().String(), brokerName}, 1); err == nil || !strings.Contains(err.Error(), errFrame.Error()) {
		t.Errorf("got %v", err)
	}
	if _, err := load.Open(bounded(t), Server{ln.Addr().String(), "other.example"}, 1); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v", err)
	}
}

func TestRequestsKeepToTheirRate(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, broker, load := ends(t)
	const connections, rate, lasting = 4, 200, 100 * time.Millisecond
	set, err := load.Open(ctx, Server{Address: broker, ServerName: brokerName}, connections)
	if err != nil {
		t.Fatal(err)
	}
	taken, err := load.RoundTrips(ctx, RoundTripsArgs{
		Set: set, Request: Request{Kind: Produce, Bytes: 1 << 10, Partitions: 1}, PerSecond: rate, Duration: lasting,
	})
	if err != nil {
		t.Fatal(err)
	}
	// A busy machine may send fewer; each connection sends its first.
	if most := int(rate*lasting/time.Second) + connections; len(taken) < connections || len(taken) > most {
		t.Errorf("%d requests at %d/s in %v, want %d to %d", len(taken), rate, lasting, connections, most)
	}
	for _, d := range taken {
		if d <= 0 {
			t.Errorf("an answer after %d ns", d)
		}
	}
}

// TestALateRequestCountsFromWhenItWasDue is against figures that a stall makes
// better: what could not be sent meanwhile was late, too.
func TestALateRequestCountsFromWhenItWasDue(t *testing.T) {
	due := time.Now().Add(-time.Hour)
	late := trips{interval: time.Minute, next: due}
	if from := late.wait(); !from.Equal(due) || !late.next.Equal(due.Add(time.Minute)) {
		t.Errorf("counted from %v, the next is due at %v", from, late.next)
	}
	early := trips{interval: time.Minute, next: time.Now().Add(5 * time.Millisecond)}
	due = early.next
	if from := early.wait(); from.Before(due) {
		t.Errorf("sent %v early", due.Sub(from))
	}
}
