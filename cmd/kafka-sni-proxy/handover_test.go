//go:build unix

package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
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
	pid, err := strconv.Atoi(p.await(`msg="handed over" pid=([0-9]+)`))
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
	const handOvers, between = 3, 400 // connections
	b, dir := newLoaded(t)
	m := newManager(t)
	p := launch(t, dir, "--upstream", b.upstream, "--hosts-file", "hosts", "--upstream-ca-certs", "upstream_ca.pem", "--drain-timeout", "20s")
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
	open := map[int]net.Conn{} // by the process that accepted them
	for range handOvers {
		await()
		conn := p.connect(false)
		check(t, exchange(conn, 40<<24))
		open[p.now.Pid] = conn
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
	for pid, conn := range open { // they end in time, and properly
		if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
			t.Errorf("the session of process %d ended with %v after %q", pid, err, rest)
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
