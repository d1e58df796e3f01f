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
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"kafka-sni-proxy/internal/harness"
	"kafka-sni-proxy/internal/kafkatest"
)

const (
	etc     = "/etc/kafka-sni-proxy"
	program = "/usr/bin/kafka-sni-proxy"
	suffix  = "kafka.example"
)

// What of a .deb's life an operator relies on: it serves as the unit says, an
// upgrade leaves no request without a response, a removal keeps the configuration,
// and a purge leaves nothing but the operator's keys.
func TestADebServesIsUpgradedUnderLoadRemovedAndPurged(t *testing.T) {
	alone(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if exec.Command("dpkg", "-s", "kafka-sni-proxy").Run() == nil {
		t.Fatal("kafka-sni-proxy is installed here: this test would remove it")
	}
	if _, err := os.Stat(etc); err == nil {
		t.Fatalf("%s exists: this test would change it", etc)
	}
	t.Cleanup(func() {
		exec.Command("dpkg", "--purge", "kafka-sni-proxy").Run()
		os.RemoveAll(etc) // which was not there before
		exec.Command("userdel", "kafka-sni-proxy").Run()
	})

	run(t, "dpkg", "-i", deb(t, "1.0.0"))
	expect(t, "kafka-sni-proxy", run(t, program, "--version"), "1.0.0")
	if _, err := user.Lookup("kafka-sni-proxy"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(etc); err != nil || info.Mode().Perm() != 0o750 {
		t.Fatalf("%s: %v, %v; keys lie there, so others must not read it", etc, info.Mode(), err)
	}

	s := newSetup(t, etc)
	run(t, "chgrp", "-R", "kafka-sni-proxy", etc)
	// The process that takes over is this one's child when the old one has ended.
	check(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
	old, err := harness.Start(t.Context(), harness.Command{Name: "the service", Args: asUnit(t), Dir: etc, Output: filepath.Join(t.TempDir(), "log")})
	check(t, err)
	defer old.Kill()
	check(t, old.Await(ctx, 20*time.Second, "the service is not ready", func() error { return s.get("/readyz") }))

	load := s.startLoad(t)
	load.await(ctx, t, 500)
	edited := read(t, etc+"/kafka-sni-proxy.yaml")
	run(t, "dpkg", "-i", deb(t, "1.1.0"))
	if read(t, etc+"/kafka-sni-proxy.yaml") != edited {
		t.Error("the upgrade changed the configuration")
	}
	check(t, old.Alive()) // the upgrade itself has stopped nothing
	// Without systemd the package signals nobody: this is what its postinst does.
	check(t, old.Signal(syscall.SIGUSR2))
	check(t, old.Wait()) // status 0: every request that it had read got its response
	m := regexp.MustCompile(`msg="handed over;.* pid=(\d+)`).FindStringSubmatch(read(t, old.Output))
	if m == nil {
		t.Fatalf("nothing was handed over:\n%s", old.Tail(20))
	}
	pid, err := strconv.Atoi(m[1])
	check(t, err)
	process, err := os.FindProcess(pid)
	check(t, err)
	next := harness.Adopt(process, "the new version", old.Output)
	defer next.Kill()
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || exe != program {
		t.Errorf("%q serves (%v), want the new %s", exe, err, program)
	}
	expect(t, "kafka-sni-proxy", run(t, program, "--version"), "1.1.0")
	load.await(ctx, t, load.consumed.Load()+500)
	load.finish(ctx, t)
	check(t, next.Stop(20*time.Second))

	run(t, "dpkg", "--remove", "kafka-sni-proxy")
	if _, err := os.Stat(program); err == nil {
		t.Error("the program is there after the removal")
	}
	if read(t, etc+"/kafka-sni-proxy.yaml") != edited {
		t.Error("the removal changed the configuration")
	}
	run(t, "dpkg", "--purge", "kafka-sni-proxy")
	if _, err := os.Stat(etc + "/kafka-sni-proxy.yaml"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the configuration after the purge: %v", err)
	}
	if _, err := os.Stat(etc + "/server_key.pem"); err != nil {
		t.Error("the purge took the operator's key: ", err)
	}
}

// asUnit returns the command of the installed unit, for its user and without
// privileges, as systemd would run it.
func asUnit(t *testing.T) []string {
	unit := read(t, "/lib/systemd/system/kafka-sni-proxy.service")
	value := func(key string) string {
		m := regexp.MustCompile(`(?m)^` + key + `=(.+)$`).FindStringSubmatch(unit)
		if m == nil {
			t.Fatalf("the unit has no %s", key)
		}
		return m[1]
	}
	if dir := value("WorkingDirectory"); dir != etc {
		t.Fatalf("the unit's folder is %s", dir)
	}
	who := value("User")
	return append([]string{"setpriv", "--reuid=" + who, "--regid=" + who, "--init-groups", "--no-new-privs",
		"--bounding-set=-all", "--inh-caps=-all"}, strings.Fields(value("ExecStart"))...)
}

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

// alone waits for other runs on this machine: dpkg has one database.
func alone(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("packages are installed by root")
	}
	lock, err := os.OpenFile("/run/lock/kafka-sni-proxy-packages", os.O_CREATE|os.O_RDWR, 0o600)
	check(t, err)
	check(t, unix.Flock(int(lock.Fd()), unix.LOCK_EX))
	t.Cleanup(func() { lock.Close() })
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
