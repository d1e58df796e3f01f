//go:build packages

// Package packaging holds the tests that use what is released. They install it, so
// they need root and Debian: make release-check.
package packaging

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafka-sni-proxy/internal/harness"
	"kafka-sni-proxy/internal/kafkatest"
)

const (
	etc     = "/etc/kafka-sni-proxy"
	program = "/usr/bin/kafka-sni-proxy"
	suffix  = "kafka.example"
)

// setup is a cluster in memory, and a configuration of the proxy in front of it.
type setup struct {
	cluster      *kafkatest.Cluster
	dialer       *kafkatest.Dialer
	proxy, admin string
}

func newSetup(t *testing.T, dir string) *setup {
	t.Helper()
	cluster := kafkatest.Start(t, kafkatest.Options{Brokers: 3, Ports: make([]int, 3), CreateTopics: true})
	var ports harness.Ports
	proxy, err := ports.Address()
	check(t, err)
	admin, err := ports.Address()
	check(t, err)
	ca := kafkatest.NewAuthority("downstream")
	check(t, kafkatest.WriteKeyPair(dir, "server", ca.Server(suffix, "*."+suffix)))
	check(t, os.Chmod(filepath.Join(dir, "server_key.pem"), 0o640))
	check(t, os.Chmod(filepath.Join(dir, "server.pem"), 0o644))
	for name, text := range map[string]string{
		"upstream-ca.pem": string(cluster.Authority.PEM()),
		"hosts":           "127.0.0.1 *." + kafkatest.Domain + "\n",
		"kafka-sni-proxy.yaml": fmt.Sprintf(`listeners:
  - bind: %s
    certificates: [{cert: server.pem, key: server_key.pem}]
clusters:
  kafka:
    sni-suffix: %s
    upstream: [%s]
    upstream-tls: {ca-certs: upstream-ca.pem}
    hosts-file: hosts
admin: {bind: %s}
timeouts: {drain: 6s}
`, proxy, suffix, cluster.Bootstrap(), admin),
	} {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return &setup{cluster, &kafkatest.Dialer{Suffix: suffix, Proxy: proxy, TLS: &tls.Config{RootCAs: ca.Pool()}, Scanner: cluster.Scanner()}, proxy, admin}
}

func (s *setup) get(path string) error {
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Get("http://" + s.admin + path)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// load produces and consumes until it is told to end. As a hook of its clients it
// sees what those would hide by trying again.
type load struct {
	producer, consumer *kgo.Client
	stop               atomic.Bool
	consumed, again    atomic.Int64
	failed             chan error
	sent               chan int64
}

func (l *load) fail(err error) {
	select {
	case l.failed <- err:
	default: // the first one is enough
	}
}

// OnBrokerConnect objects when the proxy refuses or resets a client.
func (l *load) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		l.fail(fmt.Errorf("a client could not connect: %w", err))
	}
}

// OnBrokerE2E counts requests that met the end of their connection: Kafka has no
// way to tell a client that a connection is about to end, so one can be on its way
// just then. The proxy has not read it, or its exit status would say so, and the
// client sends it again. Every other error is one.
func (l *load) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e kgo.BrokerE2E) {
	switch err := e.Err(); {
	case err == nil, errors.Is(err, context.Canceled):
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		l.again.Add(1)
	default:
		l.fail(fmt.Errorf("a request with the API key %d got no response: %w", key, err))
	}
}

func (s *setup) startLoad(t *testing.T) *load {
	t.Helper()
	l := &load{failed: make(chan error, 1), sent: make(chan int64, 1)}
	client := func(opts ...kgo.Opt) *kgo.Client {
		_, port, _ := strings.Cut(s.proxy, ":")
		c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers("bootstrap." + suffix + ":" + port),
			kgo.Dialer(s.dialer.DialContext), kgo.WithHooks(l)}, opts...)...)
		check(t, err)
		t.Cleanup(c.Close)
		return c
	}
	l.producer = client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(time.Millisecond))
	_, err := kadm.NewClient(l.producer).CreateTopic(t.Context(), 6, 3, nil, "life")
	check(t, err)
	l.consumer = client(kgo.ConsumeTopics("life"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(300*time.Millisecond))
	go func() {
		n := int64(0)
		for ; !l.stop.Load(); n++ {
			r := &kgo.Record{Topic: "life", Partition: int32(n % 6), Value: harness.AppendRecord(nil, int32(n%6), n/6, 200)}
			// One after the other: a steady load, not a flood.
			if err := l.producer.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				l.fail(fmt.Errorf("producing: %w", err))
				break
			}
		}
		l.sent <- n
	}()
	go func() {
		var next [6]int64
		for {
			fetches := l.consumer.PollFetches(t.Context())
			if fetches.IsClientClosed() || t.Context().Err() != nil {
				return
			}
			if errs := fetches.Errors(); len(errs) > 0 {
				l.fail(fmt.Errorf("consuming: %w", errs[0].Err))
				return
			}
			for records := fetches.RecordIter(); !records.Done(); {
				r := records.Next()
				if p, n, ok := harness.ReadRecord(r.Value); !ok || p != r.Partition || n != next[p] {
					l.fail(fmt.Errorf("partition %d gave %d where %d was next", r.Partition, n, next[r.Partition]))
					return
				}
				next[r.Partition]++
				l.consumed.Add(1)
			}
		}
	}()
	return l
}

// await waits until so many records have arrived.
func (l *load) await(ctx context.Context, t *testing.T, n int64) {
	t.Helper()
	check(t, harness.Await(ctx, fmt.Sprintf("%d records have not arrived", n), func() error {
		select {
		case err := <-l.failed:
			return harness.Final(err)
		default:
		}
		if got := l.consumed.Load(); got < n {
			return fmt.Errorf("%d have", got)
		}
		return nil
	}))
}

// finish ends the load, and expects that what was sent has arrived.
func (l *load) finish(ctx context.Context, t *testing.T) {
	t.Helper()
	l.stop.Store(true)
	sent := <-l.sent
	l.await(ctx, t, sent)
	if got := l.consumed.Load(); got != sent {
		t.Errorf("%d records arrived of %d", got, sent)
	}
	t.Logf("%d records produced, and consumed once and in order; %d requests met the end of their connection unread", sent, l.again.Load())
}

func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if !strings.Contains(got, want) {
		t.Errorf("%s says %q, want %q in it", what, got, want)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	check(t, err)
	return string(text)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sums reads a file of checksums: hashes by file.
func sums(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for in := bufio.NewScanner(strings.NewReader(read(t, filepath.Join(dir, "SHA256SUMS")))); in.Scan(); {
		hash, file, _ := strings.Cut(in.Text(), "  ")
		all[file] = hash
	}
	return all
}
