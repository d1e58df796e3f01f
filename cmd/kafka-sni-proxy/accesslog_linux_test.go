package main

import (
	"crypto/tls"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kafka-sni-proxy/internal/accesslog"
	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/server"
	"kafka-sni-proxy/internal/session"
)

// accessLine is a line of an access log.
type accessLine map[string]any

// accessLines reads access logs, whose lines must be whole.
func accessLines(t *testing.T, paths ...string) (all []accessLine) {
	t.Helper()
	for _, path := range paths {
		content, err := os.ReadFile(path)
		check(t, err)
		for line := range strings.Lines(string(content)) {
			var l accessLine
			if err := json.Unmarshal([]byte(line), &l); err != nil || !strings.HasSuffix(line, "\n") {
				t.Fatalf("%s has the line %q: %v", path, line, err)
			}
			all = append(all, l)
		}
	}
	return all
}

func TestTheAccessLogHasALineForEachConnection(t *testing.T) {
	c := newCluster(t)
	p := launchWith(t, c.dir, nil, []string{"sh", "-c", `exec "$@" >> stdout`, "sh"}, "--upstream", c.upstream, "--hosts-file", "hosts",
		"--upstream-ca-certs", "upstream_ca.pem", "--access-log", "-", "--max-connections", "1")

	// One that is served, and meanwhile one that is too many.
	conn := p.connect(false)
	check(t, c.roundTrip(t, conn))
	from := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: freePorts(t, 1)}
	refused, err := (&net.Dialer{LocalAddr: from}).Dial("tcp", p.listen)
	if err == nil { // or it is reset before connect(2) has returned
		refused.SetDeadline(time.Now().Add(20 * time.Second))
		_, err = refused.Read(make([]byte, 1))
	}
	if err == nil || isTimeout(err) {
		t.Errorf("one client too many: %v", err)
	}
	conn.Close()
	// One that asks for a name that is not served; the one before may not have ended yet.
	pool, err := certs.LoadPool(filepath.Join(c.dir, "ca.pem"))
	check(t, err)
	waitFor(t, func() bool {
		_, err = tls.DialWithDialer(&net.Dialer{Timeout: 20 * time.Second}, "tcp", p.listen, &tls.Config{RootCAs: pool, ServerName: "nobody.example"})
		return err != nil && strings.Contains(err.Error(), "unrecognized name")
	}, "the name is refused")
	p.await("connection failed.*nobody.example")
	p.signal(syscall.SIGTERM)
	p.end(0)

	byResult := map[string]accessLine{}
	for _, l := range accessLines(t, filepath.Join(c.dir, "stdout")) {
		if result := l["result"].(string); byResult[result] == nil { // further ones were refused while the first one ended
			byResult[result] = l
		}
		began, err := time.Parse(time.RFC3339Nano, l["began"].(string))
		check(t, err)
		ended, err := time.Parse(time.RFC3339Nano, l["time"].(string))
		check(t, err)
		if took := time.Duration(l["took_seconds"].(float64) * 1e9); ended.Sub(began)-took > time.Millisecond || took-ended.Sub(began) > time.Millisecond {
			t.Errorf("from %v to %v took %v", began, ended, took)
		}
	}
	for result, want := range map[string]accessLine{
		"ok": {"sni": "bootstrap." + suffix, "cluster": "kafka", "upstream": c.upstream, "requests": 1.0, "responses": 1.0, "tls": "TLS 1.3", "client_id": nil,
			"request_bytes": float64(len(heartbeat)), "response_bytes": float64(len(heartbeatResponse)), "reason": nil, "phase": nil},
		"refused": {"limit": "connections", "client": from.String(), "sni": nil, "reason": nil},
		"failed":  {"sni": "nobody.example", "phase": "route", "cluster": nil, "upstream": nil},
	} {
		for key, value := range want {
			if got := byResult[result][key]; got != value {
				t.Errorf("%s: %s is %v, want %v: %v", result, key, got, value, byResult[result])
			}
		}
	}
}

// TestNoLineOfTheAccessLogIsLost: clients come and go while the file is rotated, as logrotate
// does it, and while a new process takes over.
func TestNoLineOfTheAccessLogIsLost(t *testing.T) {
	b, dir := newLoaded(t)
	path := filepath.Join(dir, "access.log")
	p := launch(t, dir, "--upstream", b.upstream, "--hosts-file", "hosts", "--upstream-ca-certs", "upstream_ca.pem", "--drain-timeout", "2h", "--access-log", path)
	pool, err := certs.LoadPool(dir + "/ca.pem")
	check(t, err)
	config := &tls.Config{RootCAs: pool, ServerName: "bootstrap." + suffix, ClientSessionCache: tls.NewLRUClientSessionCache(1)}

	var connected atomic.Int64
	var clients sync.WaitGroup
	var mu sync.Mutex
	var addresses []string // of clients that were served
	stop, more := make(chan struct{}), make(chan struct{}, 1)
	for n := range 4 {
		clients.Go(func() {
			for id := uint32(n) << 24; ; id++ {
				select {
				case <-stop:
					return
				default:
				}
				conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 20 * time.Second}, "tcp", p.listen, config)
				if err != nil {
					t.Error(err)
					return
				}
				conn.SetDeadline(time.Now().Add(20 * time.Second))
				check(t, exchange(conn, id))
				mu.Lock()
				addresses = append(addresses, conn.LocalAddr().String())
				mu.Unlock()
				conn.Close()
				if connected.Add(1)%50 == 0 {
					select {
					case more <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	paths := []string{path}
	rotate := func() {
		t.Helper()
		<-more
		to := path + "." + string(rune('a'+len(paths)))
		check(t, os.Rename(path, to))
		paths = append(paths, to)
		p.signal(syscall.SIGHUP)
		waitFor(t, func() bool { _, err := os.Stat(path); return err == nil }, "there is a new file")
	}
	long := p.connect(false) // which the old process keeps
	check(t, exchange(long, 40<<24))
	addresses = append(addresses, long.LocalAddr().String())
	old := p.now
	rotate()
	rotate()
	<-more
	p.handOver()
	rotate()
	<-more
	close(stop)
	clients.Wait()
	long.Close()
	check(t, old.Signal(syscall.SIGTERM))
	p.await("msg=drained")
	p.signal(syscall.SIGTERM)
	p.drainLog()

	var told []string
	for _, l := range accessLines(t, paths...) {
		told = append(told, l["client"].(string))
	}
	slices.Sort(told)
	slices.Sort(addresses)
	if !slices.Equal(told, addresses) {
		t.Errorf("%d clients, %d lines", len(addresses), len(told))
	}
	// The old process has followed to the new file.
	if !slices.ContainsFunc(accessLines(t, path), func(l accessLine) bool { return l["client"] == long.LocalAddr().String() }) {
		t.Error("the old process went on in the file that had been renamed")
	}
}

// TestTheAccessLogThatCannotBeOpened is said, and nothing starts.
func TestTheAccessLogThatCannotBeOpened(t *testing.T) {
	c := newCluster(t)
	var stderr strings.Builder
	code := run(t.Context(), []string{"--sni-suffix", suffix, "--upstream", c.upstream, "--bind", "127.0.0.1:0", "--cert", filepath.Join(c.dir, "server.pem"),
		"--key", filepath.Join(c.dir, "server_key.pem"), "--access-log", filepath.Join(c.dir, "nowhere", "access.log")}, &strings.Builder{}, &stderr)
	if code != exitUsage || !strings.Contains(stderr.String(), "--access-log: open ") {
		t.Errorf("exit code %d:\n%s", code, stderr.String())
	}
}

func TestTheAccessLogSaysWhatIsKnownOfAClient(t *testing.T) {
	a := &app{}
	a.now.Store(&setup{})
	traffic := new(session.Traffic)
	traffic.Rewritten.Add(3)
	entry := a.entryOf(&server.End{
		Result: &session.Result{
			Client: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 40112}, Label: "public", TLSVersion: tls.VersionTLS13, Traffic: traffic,
			Introduction: kafka.Introduction{ClientID: "orders-1", Software: "librdkafka", Version: "2.10.0"},
			Handshake:    2 * time.Millisecond, Connect: 3 * time.Millisecond, Took: time.Second, Err: session.RetiredAge,
		},
		Outcome: server.OutcomeRetired, Retired: session.RetiredAge,
	}, time.Now())
	want := accesslog.Entry{
		Time: entry.Time, Began: entry.Began, Client: "10.0.0.7:40112", Listener: "public", TLS: "TLS 1.3", Rewritten: 3,
		ClientID: "orders-1", Software: "librdkafka", SoftwareVersion: "2.10.0",
		Handshake: accesslog.Seconds(2 * time.Millisecond), Connect: accesslog.Seconds(3 * time.Millisecond), Took: accesslog.Seconds(time.Second),
		Result: accesslog.Retired, Retired: "age",
	}
	if *entry != want {
		t.Errorf("%+v, want %+v", *entry, want)
	}
}
