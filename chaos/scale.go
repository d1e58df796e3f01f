package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"kafka-sni-proxy/internal/harness"
	"kafka-sni-proxy/internal/harness/procfs"
	"kafka-sni-proxy/internal/kafkatest"
)

// scaleTest is what --scale needs: many connections from this process, through the
// proxy, to a broker stand-in in a process of its own. So each has a limit of
// descriptors of its own, of which the proxy needs two for each connection.
type scaleTest struct {
	dir    string
	out    io.Writer
	began  time.Time
	proxy  *proxy
	listen string
	tls    *tls.Config
	files  int
	ports  harness.Ports
}

// The tests, and how much memory the proxy may take in each.
var scaleTests = []struct {
	name        string
	connections int
	most        int64 // bytes resident for each connection, above those at the start
	run         func(c *scaleTest, ctx context.Context, n int) (string, error)
}{
	{"idle connections", 9000, 64 << 10, (*scaleTest).idle},
	{"busy connections", 2000, 256 << 10, (*scaleTest).busy},
	{"handshakes in a burst", 5000, 192 << 10, (*scaleTest).burst},
}

const brokerHost = "broker-0." + kafkatest.Domain

// scale runs the tests, each with a proxy of its own.
func scale(ctx context.Context, s settings, out io.Writer) (err error) {
	c := &scaleTest{out: out, began: time.Now()}
	if c.files, err = procfs.MaxFiles(); err != nil {
		return err
	}
	if c.dir, err = os.MkdirTemp("", "kafka-sni-proxy-scale-"); err != nil {
		return err
	}
	defer func() {
		if err == nil && !s.keep {
			os.RemoveAll(c.dir)
		}
	}()
	binary, err := s.build(ctx, c.dir)
	if err != nil {
		return err
	}
	clients, upstream := kafkatest.NewAuthority("clients"), kafkatest.NewAuthority("upstream")
	// No session is resumed: the full price.
	c.tls = clients.ClientConfig()
	c.tls.ServerName = "bootstrap." + suffix
	if err := errors.Join(
		kafkatest.WriteKeyPair(c.dir, "server", clients.Server("*."+suffix)),
		kafkatest.WriteKeyPair(c.dir, "broker", upstream.Server(brokerHost)),
		os.WriteFile(filepath.Join(c.dir, "upstream-ca.pem"), upstream.PEM(), 0o600),
		os.WriteFile(filepath.Join(c.dir, "hosts"), []byte("127.0.0.1 "+brokerHost+"\n"), 0o600),
	); err != nil {
		return err
	}
	broker, address, err := harness.StartServer(ctx, harness.Command{Args: []string{standInRole, c.dir}, Dir: c.dir})
	if err != nil {
		return err
	}
	defer broker.Kill()
	_, port, _ := net.SplitHostPort(address)

	fmt.Fprintf(out, "%-22s  %11s  %10s  %10s  %10s  %10s  %s\n", "", "connections", "at rest", "peak", "each", "afterwards", "")
	var wrong []error
	for _, test := range scaleTests {
		n := min(test.connections, (c.files-500)/2)
		if n < test.connections {
			fmt.Fprintf(out, "%-22s  only %d of %d: the limit on descriptors is %d (ulimit -Hn)\n", test.name, n, test.connections, c.files)
		}
		args := []string{"--sni-suffix", suffix, "--upstream", net.JoinHostPort(brokerHost, port), "--upstream-ca-certs", "upstream-ca.pem", "--hosts-file", "hosts"}
		if err := c.measure(ctx, binary, args, test.name, n, test.most, test.run); err != nil {
			wrong = append(wrong, fmt.Errorf("%d %s: %w", n, test.name, err))
			fmt.Fprintf(out, "%-22s  FAILED: %v\n", test.name, err)
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%w\n%s", errors.Join(wrong...), endOf(c.log()))
	}
	fmt.Fprintf(out, "\nOK, in %.0f s\n", time.Since(c.began).Seconds())
	return nil
}

func (c *scaleTest) log() string { return filepath.Join(c.dir, "proxy.log") }

// measure runs one test, and looks at the proxy before, meanwhile and after.
func (c *scaleTest) measure(ctx context.Context, binary string, args []string, name string, n int, most int64, run func(*scaleTest, context.Context, int) (string, error)) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 3*time.Minute, errors.New("it took longer than three minutes"))
	defer cancel()
	if c.listen, err = c.ports.Address(); err != nil {
		return err
	}
	admin, err := c.ports.Address()
	if err != nil {
		return err
	}
	if c.proxy, err = startProxy(ctx, binary, c.dir, c.log(), admin, append(args, "--bind", c.listen, "--admin-bind", admin)); err != nil {
		return err
	}
	defer c.proxy.Kill()
	before, err := c.proxy.vitals()
	if err != nil {
		return err
	}
	var peak atomic.Int64
	watching, stop := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for watching.Err() == nil {
			if m, err := procfs.ReadMemory(c.proxy.PID()); err == nil {
				peak.Store(max(peak.Load(), m.Resident))
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	said, err := run(c, ctx, n)
	stop()
	watcher.Wait()
	if err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	each := (peak.Load() - before.Resident) / int64(n)
	after := before
	err = c.proxy.Await(ctx, 75*time.Second, "the proxy does not come to rest", func() (err error) {
		if after, err = c.proxy.vitals(); err != nil {
			return err
		}
		if after.Connections > 0 || after.Goroutines > before.Goroutines+spareGoroutines || after.Descriptors > before.Descriptors+spareDescriptors ||
			after.Resident > before.Resident+2*spareMemory {
			return fmt.Errorf("it had %v, and has %v", before, after)
		}
		return nil
	})
	mib := func(bytes int64) string { return fmt.Sprintf("%.0f MiB", float64(bytes)/(1<<20)) }
	fmt.Fprintf(c.out, "%-22s  %11d  %10s  %10s  %10s  %10s  %s\n", name, n, mib(before.Resident), mib(peak.Load()), fmt.Sprintf("%d KiB", each>>10), mib(after.Resident), said)
	if each > most {
		err = errors.Join(err, fmt.Errorf("the proxy took %d KiB for each connection, more than %d", each>>10, most>>10))
	}
	return errors.Join(err, c.proxy.Stop(drainPatience))
}

// idle opens connections and lets them be, then asks whether they still work.
func (c *scaleTest) idle(ctx context.Context, n int) (string, error) {
	began := time.Now()
	conns, err := c.open(ctx, n, 64)
	defer closeAll(conns)
	if err != nil {
		return "", err
	}
	opened := time.Since(began)
	pause(ctx, 10*time.Second)
	began = time.Now()
	if err := inParallel(n, 64, func(i int) error { return roundTrip(conns[i], 7, small) }); err != nil {
		return "", fmt.Errorf("after a while: %w", err)
	}
	return fmt.Sprintf("opened within %.1f s; after 10 s all of them answer, within %.1f s", opened.Seconds(), time.Since(began).Seconds()), nil
}

// busy has all connections send and receive all the time, now and then long
// frames.
func (c *scaleTest) busy(ctx context.Context, n int) (string, error) {
	conns, err := c.open(ctx, n, 64)
	defer closeAll(conns)
	if err != nil {
		return "", err
	}
	const lasting = 15 * time.Second
	began := time.Now()
	var frames, bytes atomic.Int64
	var slowest atomic.Int64
	err = inParallel(n, n, func(i int) error {
		for id := uint32(0); time.Since(began) < lasting; id++ {
			body := small
			if int(id)%20 == i%20 {
				body = long
			}
			asked := time.Now()
			if err := roundTrip(conns[i], id, body); err != nil {
				return err
			}
			frames.Add(1)
			bytes.Add(int64(len(body)))
			for took := int64(time.Since(asked)); ; {
				was := slowest.Load()
				if took <= was || slowest.CompareAndSwap(was, took) {
					break
				}
			}
		}
		return nil
	})
	return fmt.Sprintf("%d requests a second, %.0f MB/s each way; the slowest took %.2f s",
		frames.Load()/int64(lasting.Seconds()), float64(bytes.Load())/1e6/lasting.Seconds(), time.Duration(slowest.Load()).Seconds()), err
}

// burst has all clients connect at the same moment. One that is not served before
// the proxy's handshake timeout tries again, as Kafka's clients do: when the
// machine is slow for other reasons, there are more handshakes than it can do
// in that time.
func (c *scaleTest) burst(ctx context.Context, n int) (string, error) {
	began := time.Now()
	took := make([]time.Duration, n)
	conns := make([]net.Conn, n)
	var again atomic.Int64
	defer closeAll(conns)
	err := inParallel(n, n, func(i int) (err error) {
		for {
			if conns[i], err = c.connect(ctx); err == nil {
				if err = roundTrip(conns[i], uint32(i), small); err == nil {
					took[i] = time.Since(began)
					return nil
				}
				conns[i].Close()
			}
			if time.Since(began) > time.Minute || ctx.Err() != nil {
				return err
			}
			again.Add(1)
			pause(ctx, 100*time.Millisecond+rand.N(time.Second))
		}
	})
	slices.Sort(took)
	return fmt.Sprintf("half of them had an answer within %.1f s, all within %.1f s, after %d more tries", took[n/2].Seconds(), took[n-1].Seconds(), again.Load()), err
}

// open opens n connections, some at a time, each with one request answered.
func (c *scaleTest) open(ctx context.Context, n, atATime int) ([]net.Conn, error) {
	conns := make([]net.Conn, n)
	return conns, inParallel(n, atATime, func(i int) (err error) {
		if conns[i], err = c.connect(ctx); err != nil {
			return err
		}
		return roundTrip(conns[i], uint32(i), small)
	})
}

func (c *scaleTest) connect(ctx context.Context) (net.Conn, error) {
	dialer := tls.Dialer{Config: c.tls}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return dialer.DialContext(ctx, "tcp", c.listen)
}

func closeAll(conns []net.Conn) {
	inParallel(len(conns), 64, func(i int) error {
		if conns[i] != nil {
			conns[i].Close()
		}
		return nil
	})
}

// inParallel does something n times, so many at a time. Of the errors, it tells
// the first, and how many more there were.
func inParallel(n, atATime int, do func(i int) error) error {
	var next, failed atomic.Int64
	var first error
	var once sync.Once
	var all sync.WaitGroup
	for range min(n, atATime) {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil {
					failed.Add(1)
					once.Do(func() { first = err })
				}
			}
		})
	}
	all.Wait()
	if first != nil {
		return fmt.Errorf("%d of %d failed, the first with: %w", failed.Load(), n, first)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// What requests carry, and their answers: the stand-in sends back what it gets.
var small, long = harness.Filler(100), harness.Filler(30 << 10)

// roundTrip sends a Heartbeat, which the proxy passes on as it is, and reads what
// comes back.
func roundTrip(conn net.Conn, id uint32, body []byte) error {
	header := binary.BigEndian.AppendUint32([]byte{0, 12, 0, 0}, id)
	conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Write(kafkatest.Frame(header, []byte{0xff, 0xff}, body)); err != nil {
		return err
	}
	answer, err := kafkatest.ReadFrame(conn)
	if err != nil {
		return err
	}
	if len(answer) != 4+2+len(body) || binary.BigEndian.Uint32(answer) != id || answer[len(answer)-1] != body[len(body)-1] {
		return fmt.Errorf("the answer to request %d is another: %d bytes beginning with %x", id, len(answer), answer[:min(8, len(answer))])
	}
	return nil
}

const standInRole = "broker"

// standIn is the broker stand-in: it answers each request with its own bytes, and
// ends when stdin does.
func standIn(dir string, stdin io.Reader, stdout io.Writer) error {
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "broker.pem"), filepath.Join(dir, "broker_key.pem"))
	if err != nil {
		return err
	}
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	echo := kafkatest.Answer(func(frame []byte) []byte { return kafkatest.Frame(frame[4:]) }) // from the correlation id on
	return harness.ServeRole("127.0.0.1:0", stdin, stdout, func(raw net.Conn) {
		conn := tls.Server(raw, config)
		defer conn.Close()
		echo(buffered{conn, bufio.NewReaderSize(conn, 4096)})
	})
}

// buffered is a connection that is read in larger pieces than it is asked for.
type buffered struct {
	net.Conn
	in *bufio.Reader
}

func (b buffered) Read(p []byte) (int, error) { return b.in.Read(p) }
