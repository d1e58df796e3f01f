//go:build unix

package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/kafkatest"
)

// handOver waits until there is a new process, which gets the signals from now
// on. It ends with the test.
func (p *program) handOver() {
	p.t.Helper()
	p.signal(syscall.SIGUSR2)
	pid, err := strconv.Atoi(p.await(`msg="handed over;.*" pid=([0-9]+)`))
	check(p.t, err)
	successor, err := os.FindProcess(pid)
	check(p.t, err)
	p.t.Cleanup(func() { successor.Kill() })
	p.now = successor
}

// exchange has one request answered by a loaded broker.
func exchange(conn net.Conn, id uint32) error {
	if _, err := conn.Write(numbered(heartbeat, 8, id)); err != nil {
		return err
	}
	_, err := kafkatest.ReadFrame(conn)
	return err
}

// Thousands of clients connect, while process after process takes over. None is
// refused, reset or left without its answer, and sessions go on.
func TestNobodyIsRefusedWhileAProcessTakesOver(t *testing.T) {
	const handOvers, between = 2, 100 // connections
	b, dir := newLoaded(t)
	m := newManager(t)
	p := launch(t, dir, "--upstream", b.upstream, "--hosts-file", "hosts", "--upstream-ca-certs", "upstream_ca.pem", "--drain-timeout", "2h")
	pool, err := certs.LoadPool(dir + "/ca.pem")
	check(t, err)
	config := &tls.Config{RootCAs: pool, ServerName: "bootstrap." + suffix, ClientSessionCache: tls.NewLRUClientSessionCache(1)}

	var connected atomic.Int64
	var clients sync.WaitGroup
	stop, enough := make(chan struct{}), make(chan struct{}, 1)
	for n := range 8 {
		clients.Go(func() {
			for id := uint32(n) << 24; ; id++ {
				select {
				case <-stop:
					return
				default:
				}
				conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 20 * time.Second}, "tcp", p.listen, config)
				if err == nil {
					conn.SetDeadline(time.Now().Add(20 * time.Second))
					err = exchange(conn, id)
					conn.Close()
				}
				if err != nil {
					t.Errorf("connection %d: %v", connected.Load(), err)
					return
				}
				if connected.Add(1)%between == 0 {
					select {
					case enough <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	await := func() {
		t.Helper()
		select {
		case <-enough:
		case <-time.After(time.Minute):
			t.Fatalf("only %d connections", connected.Load())
		}
	}

	m.await("^READY=1")
	open := map[*os.Process]net.Conn{} // by the process that accepted them
	for range handOvers {
		await()
		conn := p.connect(false)
		check(t, exchange(conn, 40<<24))
		open[p.now] = conn
		p.handOver()
		m.await(fmt.Sprintf("^READY=1\nMAINPID=%d$", p.now.Pid))
		check(t, exchange(conn, 40<<24)) // what there is goes on
	}
	await()
	close(stop)
	clients.Wait()
	if n := connected.Load(); n < handOvers*between {
		t.Errorf("only %d connections", n)
	}
	for process, conn := range open { // they end properly
		check(t, process.Signal(syscall.SIGTERM))
		if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
			t.Errorf("the session of process %d ended with %v after %q", process.Pid, err, rest)
		}
		conn.Close()
	}
	if status, _ := p.get("/healthz"); status != 200 {
		t.Errorf("/healthz says %d", status)
	}
	p.signal(syscall.SIGTERM)
	m.await("^STOPPING=1")
	p.drainLog()
	if n := strings.Count(p.log.String(), "msg=drained"); n != handOvers+1 {
		t.Errorf("%d of %d processes drained:\n%s", n, handOvers+1, p.log.String())
	}
}

// drainLog reads the log to its end, which is that of the last process.
func (p *program) drainLog() {
	for line := range p.lines {
		p.log.WriteString(line + "\n")
	}
}

func TestAProcessThatCannotTakeOverLeavesTheOldOne(t *testing.T) {
	m := newManager(t)
	c := newCluster(t)
	before := serial(t, c.dir+"/server.pem")
	p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem")
	m.await("^READY=1")
	conn := p.connect(false)
	check(t, c.roundTrip(t, conn))
	check(t, os.Rename(c.dir+"/server_key.pem", c.dir+"/key"))
	p.signal(syscall.SIGUSR2)
	p.await("server_key.pem does not exist: say where") // says the new one
	p.await(`level=ERROR msg="not handed over; this process goes on" error="the new process has ended .exit status 2.; what it has written says why"`)
	m.await("^RELOADING=1\n")
	m.await("^READY=1\nSTATUS=serving 1 ")
	check(t, c.roundTrip(t, conn), c.roundTrip(t, p.connect(false)))
	if got := p.shown(); got != before {
		t.Errorf("clients are shown %s, want %s", got, before)
	}

	// And when it is put right it works.
	check(t, os.Rename(c.dir+"/key", c.dir+"/server_key.pem"))
	old := p.now
	p.handOver()
	check(t, c.roundTrip(t, conn), c.roundTrip(t, p.connect(false)))
	check(t, old.Signal(syscall.SIGTERM)) // which ends what would take half of --drain-timeout
	p.await("msg=drained")
	p.signal(syscall.SIGTERM)
	p.drainLog()
	if n := strings.Count(p.log.String(), "msg=drained"); n != 2 {
		t.Errorf("%d processes drained:\n%s", n, p.log.String())
	}
}

// The process that has taken over dies. The old one sees it, ends what it has, and
// leaves it to the service manager to see how the other one has died.
func TestTheOldProcessEndsWhenTheNewOneDies(t *testing.T) {
	c := newCluster(t)
	p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem", "--drain-timeout", "2h")
	conn := p.connect(false)
	check(t, c.roundTrip(t, conn))
	p.handOver()
	p.cmd.Process.Signal(syscall.SIGUSR2)
	p.await(fmt.Sprintf(`level=WARN msg="this process has been succeeded already: signal the new one" pid=%d`, p.now.Pid))
	check(t, c.roundTrip(t, conn))
	check(t, p.now.Kill())
	p.await(fmt.Sprintf(`level=ERROR msg="the process that has taken over is gone: nobody accepts clients.* pid=%d`, p.now.Pid))
	if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
		t.Errorf("the session ended with %v after %q", err, rest)
	}
	conn.Close()
	p.await("msg=drained")
	p.end(1)
}

// While a new process has yet to serve, an end that is asked for is that of both.
func TestASignalToEndBeatsAHandOver(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	c := newCluster(t)
	p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem")
	check(t, os.WriteFile(bin+"/kafka-sni-proxy", []byte("#!/bin/sh\nexec sleep 60\n"), 0o755)) // the new program
	p.signal(syscall.SIGUSR2)
	p.await("handing over: starting a new process")
	p.signal(syscall.SIGTERM)
	p.await(`not handed over; .* error="a signal came before the new process served .terminated.`)
	p.await("msg=draining")
	p.await("msg=drained")
	p.end(0)
}

// What a process is given is what it needs, however many were before it.
func TestNothingPilesUpFromProcessToProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("no /proc")
	}
	newManager(t)
	t.Setenv("LISTEN_FDNAMES", "stale")
	t.Setenv("LISTEN_PID", "1")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	c := newCluster(t)
	p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem")
	var sockets [3]int
	var variables [3]string
	for i := range sockets {
		http.DefaultClient.CloseIdleConnections()
		p.handOver()
		p.await("msg=drained") // says the old one
		if status, text := p.get("/healthz"); status != 200 {
			t.Errorf("/healthz says %d %s", status, text)
		}
		if _, text := p.get("/api/v1/status"); !strings.Contains(text, fmt.Sprintf(`"pid":%d,`, p.now.Pid)) { // never the old one
			t.Errorf("/api/v1/status is not of process %d: %s", p.now.Pid, text)
		}
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.now.Pid))
		check(t, err)
		for v := range strings.SplitSeq(string(environ), "\x00") {
			if strings.HasPrefix(v, "LISTEN_") || strings.HasPrefix(v, "WATCHDOG_") || strings.HasPrefix(v, successorVariable) {
				variables[i] += v + " "
			}
		}
		sockets[i] = listening(t, p.now.Pid)
	}
	if want := "LISTEN_FDS=2 LISTEN_FDNAMES=127.0.0.1%3A0:admin " + successorVariable + "=5 "; variables != [3]string{want, want, want} {
		t.Errorf("the processes got %q, want %q", variables, want)
	}
	if sockets != [3]int{2, 2, 2} {
		t.Errorf("the processes listen on %v sockets, want 2 each", sockets)
	}
	p.signal(syscall.SIGTERM)
	p.drainLog()
}

// listening returns how many descriptors of listening sockets a process has.
func listening(t *testing.T, pid int) (n int) {
	t.Helper()
	inodes := map[string]bool{}
	for _, table := range []string{"tcp", "tcp6"} {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		check(t, err)
		for line := range strings.Lines(string(content)) {
			if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" {
				inodes["socket:["+f[9]+"]"] = true
			}
		}
	}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	check(t, err)
	for _, e := range entries {
		if target, _ := os.Readlink(dir + "/" + e.Name()); inodes[target] {
			n++
		}
	}
	return n
}
