package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// manager is what systemd is to a service: it gets its notifications.
type manager struct {
	t      *testing.T
	states chan string
}

// newManager has programs that are launched from now on notify it.
func newManager(t *testing.T) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd") // a socket's path may not be long
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	check(t, err)
	m := &manager{t, make(chan string, 10_000)}
	var reading sync.WaitGroup
	reading.Go(func() {
		for buf := make([]byte, 4096); ; {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			m.states <- string(buf[:n])
		}
	})
	t.Cleanup(reading.Wait)
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return m
}

// await returns the first notification that matches, and those before it.
func (m *manager) await(expr string) (state string, before []string) {
	m.t.Helper()
	pattern := regexp.MustCompile(expr)
	for late := time.After(20 * time.Second); ; {
		select {
		case state = <-m.states:
		case <-late:
			m.t.Fatalf("no notification like %q, but %q", expr, before)
		}
		if pattern.MatchString(state) {
			return state, before
		}
		before = append(before, state)
	}
}

func TestTheServiceManagerIsToldWhatGoesOn(t *testing.T) {
	m := newManager(t)
	c := newCluster(t)
	p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem")
	if _, before := m.await(`^READY=1\nSTATUS=serving 0 connections, 0 brokers learned$`); len(before) > 0 {
		t.Errorf("before it was ready: %q", before)
	}

	var now syscall.Sysinfo_t
	check(t, syscall.Sysinfo(&now))
	p.signal(syscall.SIGHUP)
	state, _ := m.await(`^RELOADING=1\nMONOTONIC_USEC=[0-9]+$`)
	_, usec, _ := strings.Cut(state, "USEC=")
	if us, err := strconv.ParseInt(usec, 10, 64); err != nil || us < int64(now.Uptime)*1e6-60e6 || us > int64(now.Uptime)*1e6+600e6 {
		t.Errorf("the time of the reload is %s us, with the system up for %d s", usec, now.Uptime)
	}
	if _, before := m.await("^READY=1"); len(before) > 0 {
		t.Errorf("between reloading and ready: %q", before)
	}

	p.connect(false)
	p.signal(syscall.SIGTERM)
	m.await("^STOPPING=1\nSTATUS=draining")
	p.end(0)
}

func TestTheWatchdogIsFedWhileClientsAreAccepted(t *testing.T) {
	m := newManager(t)
	t.Setenv("WATCHDOG_USEC", "40000")
	c := newCluster(t)
	p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem")
	conn := p.connect(false)
	check(t, c.roundTrip(t, conn))
	m.await("^WATCHDOG=1\nSTATUS=serving 1 connections")
	m.await("^WATCHDOG=1\n")
	if _, err := conn.Write(heartbeat); err != nil { // which holds the end up
		t.Fatal(err)
	}
	c.await(t)
	p.signal(syscall.SIGTERM)
	m.await("^WATCHDOG=1\nSTATUS=draining, 1 connections left")
	m.await("^WATCHDOG=1\nSTATUS=draining, 1 connections left")
	c.answers <- heartbeatResponse
	p.end(0)
}

// The variables are for the process with that number alone.
func TestTheWatchdogOfAnotherProcessIsNotFed(t *testing.T) {
	m := newManager(t)
	t.Setenv("WATCHDOG_USEC", "1000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	p := newCluster(t).launch(t, "--upstream-ca-certs", "upstream_ca.pem")
	m.await("^READY=1")
	p.signal(syscall.SIGTERM)
	if _, before := m.await("^STOPPING=1"); len(before) > 0 {
		t.Errorf("%q", before)
	}
	p.end(0)
}

// passedSockets opens sockets for a program, as systemd does, and starts it
// through a shell: the number of the process is in LISTEN_PID.
func passedSockets(t *testing.T, names string, sockets ...net.Listener) (extra []*os.File, wrap []string) {
	t.Helper()
	for _, ln := range sockets {
		file, err := ln.(interface{ File() (*os.File, error) }).File()
		check(t, err)
		t.Cleanup(func() { file.Close() })
		extra = append(extra, file)
	}
	return extra, []string{"sh", "-c", fmt.Sprintf(`LISTEN_PID=$$ LISTEN_FDS=%d LISTEN_FDNAMES=%s exec "$0" "$@"`, len(sockets), names)}
}

func tcp(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln
}

func TestPassedSocketsAreServed(t *testing.T) {
	c := newCluster(t)
	one, two, admin := tcp(t), tcp(t), tcp(t)
	files, shell := passedSockets(t, "kafka-sni-proxy.socket:admin:kafka", one, admin, two)
	p := launchWith(t, c.dir, files, shell, "--upstream", c.upstream, "--hosts-file", "hosts", "--upstream-ca-certs", "upstream_ca.pem", "--admin-bind", "")
	if p.listen != one.Addr().String() || p.admin != "http://"+admin.Addr().String() {
		t.Errorf("it listens on %s and %s", p.listen, p.admin)
	}
	if !strings.Contains(p.log.String(), "bootstrap=bootstrap."+suffix+":"+portOf(one)+" ") {
		t.Errorf("the port is not advertised:\n%s", p.log.String())
	}
	if want := "--bind does nothing: sockets were passed"; !strings.Contains(p.log.String(), want) { // launch gives one
		t.Errorf("the log lacks %q:\n%s", want, p.log.String())
	}
	p.await(`listening.*address=` + two.Addr().String())
	for _, ln := range []net.Listener{one, two} {
		p.listen = ln.Addr().String()
		check(t, c.roundTrip(t, p.connect(false)))
	}
	p.wantMetrics(`kafka_sni_proxy_connections_accepted_total{listener="[^"]+"} 2`)
	if status, _ := p.get("/healthz"); status != 200 {
		t.Errorf("/healthz says %d", status)
	}
	p.signal(syscall.SIGTERM)
	p.await("drained")
	p.end(0)
}
