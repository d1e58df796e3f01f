package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafka-sni-proxy/internal/harness"
	"kafka-sni-proxy/internal/kafkatest"
)

// fault is one way in which things go wrong.
type fault struct {
	name, what string
	restarts   bool // it ends the proxy
	// inject does it, and undoes it. It says what it did.
	inject func(ctx context.Context, e *experiment) (did string, err error)
}

// faults is all of them: those of the network once for each side of the proxy.
var faults = append(append(on("client"), on("broker")...), others...)

// networkFaults happen to some links.
var networkFaults = []struct {
	name, what string
	inject     func(ctx context.Context, e *experiment, links []*link) (string, error)
}{
	{"cut", "connections are reset", now((*pair).reset)},
	{"cut-midway", "connections are reset some bytes on, within a frame as a rule", cutMidway},
	{"close", "connections are ended without a word of TLS", now((*pair).close)},
	{"half-close", "one direction of connections is ended, the other left open", halfClose},
	{"damage", "one bit of each connection is changed", damage},
	{"delay", "all that passes is late", weathered(func(e *experiment) impairment {
		return impairment{delay: e.between(20*time.Millisecond, 150*time.Millisecond)}
	})},
	{"throttle", "little passes in a second", weathered(func(e *experiment) impairment {
		return impairment{rate: 32<<10 + e.rand.IntN(224<<10)}
	})},
	{"one-byte", "all that passes is cut into packets of one byte", weathered(func(*experiment) impairment {
		return impairment{piece: 1}
	})},
	{"stall", "nothing passes, new connections included, for a while", stall},
	{"refuse", "connections are reset, and so are new ones", refuse},
	{"black-hole", "connections are lost without anybody being told; new ones work", blackHole},
}

// on makes faults of the network faults on one side of the proxy.
func on(side string) []fault {
	var list []fault
	for _, f := range networkFaults {
		list = append(list, fault{
			name: side + "-" + f.name,
			what: f.what + map[string]string{"client": " (clients to proxy)", "broker": " (proxy to brokers)"}[side],
			inject: func(ctx context.Context, e *experiment) (string, error) {
				links, where := []*link{e.front}, ""
				if side == "broker" {
					links, where = e.back[:], "all brokers: "
					if one := e.rand.IntN(2 * brokers); one < brokers {
						links, where = e.back[one:one+1], fmt.Sprintf("broker %d: ", one)
					}
				}
				did, err := f.inject(ctx, e, links)
				return where + did, err
			},
		})
	}
	return list
}

func each(links []*link, f func(*pair)) (connections int) {
	for _, l := range links {
		connections += l.each(f)
	}
	return connections
}

func impair(links []*link, w *impairment) {
	for _, l := range links {
		l.impairment.Store(w)
	}
}

func now(f func(*pair)) func(context.Context, *experiment, []*link) (string, error) {
	return func(_ context.Context, _ *experiment, links []*link) (string, error) {
		return fmt.Sprintf("%d connections", each(links, f)), nil
	}
}

func cutMidway(ctx context.Context, e *experiment, links []*link) (string, error) {
	n := each(links, func(p *pair) { p.budget.Store(int64(1 + e.rand.IntN(64<<10))) })
	return fmt.Sprintf("%d connections", n), e.hold(ctx)
}

func halfClose(_ context.Context, e *experiment, links []*link) (string, error) {
	up := 0
	n := each(links, func(p *pair) {
		towardsFar := e.rand.IntN(2) == 0
		if towardsFar {
			up++
		}
		p.halfClose(towardsFar)
	})
	return fmt.Sprintf("%d connections, %d of them upwards", n, up), nil
}

func damage(ctx context.Context, e *experiment, links []*link) (string, error) {
	n := each(links, func(p *pair) { p.corrupt.Store(true) })
	return fmt.Sprintf("%d connections", n), e.hold(ctx)
}

func weathered(make func(*experiment) impairment) func(context.Context, *experiment, []*link) (string, error) {
	return func(ctx context.Context, e *experiment, links []*link) (string, error) {
		w := make(e)
		impair(links, &w)
		defer impair(links, unimpaired)
		began := time.Now()
		err := e.hold(ctx)
		switch lasted := time.Since(began).Round(100 * time.Millisecond); {
		case w.delay > 0:
			return fmt.Sprintf("%v for %v", w.delay.Round(time.Millisecond), lasted), err
		case w.rate > 0:
			return fmt.Sprintf("%d KiB/s for %v", w.rate>>10, lasted), err
		default:
			return fmt.Sprintf("for %v", lasted), err
		}
	}
}

func stall(ctx context.Context, e *experiment, links []*link) (string, error) {
	held := make(chan struct{})
	impair(links, &impairment{held: held})
	began := time.Now()
	err := e.hold(ctx)
	impair(links, unimpaired)
	close(held)
	return fmt.Sprintf("for %v", time.Since(began).Round(100*time.Millisecond)), err
}

func refuse(ctx context.Context, e *experiment, links []*link) (string, error) {
	impair(links, &impairment{refuse: true})
	defer impair(links, unimpaired)
	began := time.Now()
	n := each(links, (*pair).reset)
	err := e.hold(ctx)
	return fmt.Sprintf("%d connections, for %v", n, time.Since(began).Round(100*time.Millisecond)), err
}

// blackHole loses the connections: clients give them up by their own deadlines.
// The network forgets them once records flow again; it would be unfair to blame
// the next fault for those that nobody has tried to use yet.
func blackHole(_ context.Context, e *experiment, links []*link) (string, error) {
	var lost []*pair
	n := each(links, func(p *pair) {
		p.lost.Store(true)
		lost = append(lost, p)
	})
	e.afterwards = func() {
		for _, p := range lost {
			p.reset()
		}
	}
	return fmt.Sprintf("%d connections", n), nil
}

// others happen to the proxy, to the brokers or to clients.
var others = []fault{
	{name: "slow-client", what: "a client that has asked for all there is stops reading for a while, and then reads on", inject: slowClient},
	{name: "broker-restart", what: "a broker dies, others lead its partitions, and it comes back", inject: brokerRestart},
	{name: "leaders-move", what: "partitions are led by another broker", inject: leadersMove},
	{name: "silent-connections", what: "300 connections are opened and say nothing", inject: silentConnections},
	{name: "hostile-clients", what: "40 clients send something other than TLS, half a handshake, or lengths that lie", inject: hostileClients},
	{name: "no-descriptors", what: "connections are reset, and the proxy may not open a descriptor more", inject: noDescriptors},
	{name: "new-certificate", what: "the certificate is replaced by one of another authority, then SIGHUP", inject: newCertificate},
	{name: "proxy-pause", what: "the proxy is stopped and goes on (SIGSTOP, SIGCONT)", inject: proxyPause},
	{name: "proxy-restart", what: "the proxy drains, ends with 0 and is started again (SIGTERM)", restarts: true, inject: proxyRestart},
	{name: "proxy-hand-over", what: "a new process takes over the proxy's sockets, and the old one ends with 0 (SIGUSR2)", restarts: true, inject: proxyHandOver},
	{name: "proxy-kill", what: "the proxy is killed and started again (SIGKILL)", restarts: true, inject: proxyKill},
}

// slowClient has a client read everything from the beginning, with a pause in
// which the windows of TCP fill up all the way to the broker.
func slowClient(ctx context.Context, e *experiment) (string, error) {
	var mu sync.Mutex
	var gates []*kafkatest.Gate
	dialer := &kafkatest.Dialer{Suffix: suffix, Proxy: e.front.addr(), TLS: e.clientTLS, Scanner: e.cluster.Scanner(),
		Wrap: func(conn net.Conn) net.Conn {
			gate := kafkatest.NewGate(conn)
			mu.Lock()
			defer mu.Unlock()
			gates = append(gates, gate)
			return gate
		}}
	all := func(f func(*kafkatest.Gate)) {
		mu.Lock()
		defer mu.Unlock()
		for _, gate := range gates {
			f(gate)
		}
	}
	client, err := e.clientOf(dialer, kgo.ConsumePartitions(fromStart()),
		kgo.FetchMaxBytes(50<<20), kgo.FetchMaxPartitionBytes(50<<20), kgo.BrokerMaxReadBytes(100<<20))
	if err != nil {
		return "", err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("a minute is over"))
	defer cancel()
	began, paused := time.Now(), time.Duration(0)
	err = e.traffic.audit(ctx, "the slow client", client, func() {
		all((*kafkatest.Gate).Hold)
		before := time.Now()
		e.hold(ctx)
		paused = time.Since(before)
		all((*kafkatest.Gate).Release)
	})
	return fmt.Sprintf("read all within %v, did not read for %v", time.Since(began).Round(100*time.Millisecond), paused.Round(100*time.Millisecond)), err
}

func brokerRestart(ctx context.Context, e *experiment) (string, error) {
	id := int32(e.rand.IntN(brokers - 1)) // the last one is the controller: there is just one
	if err := e.cluster.StopBroker(id); err != nil {
		return "", err
	}
	err := e.hold(ctx)
	return fmt.Sprintf("broker %d", id), errors.Join(err, e.cluster.StartBroker(id), e.spread(e.rand.Int32N(brokers)))
}

func leadersMove(_ context.Context, e *experiment) (string, error) {
	by := e.rand.Int32N(brokers)
	return fmt.Sprintf("partition p to broker (p+%d) mod %d", by, brokers), e.spread(by)
}

// spread deals the partitions out to all brokers.
func (e *experiment) spread(by int32) error {
	for p := range int32(partitions) {
		if err := e.cluster.Kafka.MoveTopicPartition(topic, p, (p+by)%brokers); err != nil {
			return fmt.Errorf("moving partition %d: %w", p, err)
		}
	}
	return nil
}

func silentConnections(ctx context.Context, e *experiment) (string, error) {
	n := 0
	for range 300 {
		conn, err := net.DialTimeout("tcp", e.listen, 5*time.Second)
		if err != nil {
			return "", err
		}
		defer conn.Close()
		n++
	}
	return fmt.Sprintf("%d connections", n), e.hold(ctx)
}

// hostileClients say all kinds of things. Those that get through the handshake
// send what the proxy itself has to refuse, or do not finish what they begin.
func hostileClients(ctx context.Context, e *experiment) (string, error) {
	lie := func(length uint32) []byte { return binary.BigEndian.AppendUint32(nil, length) }
	noise := make([]byte, 1000)
	for i := range noise {
		noise[i] = byte(e.rand.Uint32())
	}
	inside := [][]byte{
		lie(0x80000000), lie(0x7fffffff), lie(0), lie(1 << 30),
		append(lie(4000), 0, 3, 0, 12, 0, 0), // Metadata, cut short
		append(lie(20), 0x7f, 0xff, 0, 0),
	}
	outside := [][]byte{noise, []byte("GET / HTTP/1.1\r\nHost: kafka\r\n\r\n"),
		{22, 3, 1, 2, 0, 1}, append([]byte{22, 3, 1, 0x40, 0}, noise...), {22}}
	var conns []net.Conn
	defer func() {
		for _, conn := range conns {
			if e.rand.IntN(2) == 0 {
				kafkatest.Reset(conn)
			}
			conn.Close()
		}
	}()
	for i := range 40 {
		conn, err := net.DialTimeout("tcp", e.listen, 5*time.Second)
		if err != nil {
			return "", err
		}
		conns = append(conns, conn)
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		say := outside[i%len(outside)]
		if i%2 == 0 {
			config := e.clientTLS.Clone()
			config.ServerName = "bootstrap." + suffix
			client := tls.Client(conn, config)
			if err := client.HandshakeContext(ctx); err != nil {
				return "", fmt.Errorf("shaking hands before sending a hostile frame: %w", err)
			}
			conn, say = client, inside[i/2%len(inside)]
		}
		conn.Write(say) // whether it is taken does not matter
	}
	return fmt.Sprintf("%d clients", len(conns)), e.hold(ctx)
}

// noDescriptors takes the proxy's descriptors away while everybody has to come
// back.
func noDescriptors(ctx context.Context, e *experiment) (string, error) {
	pid := e.proxy.PID()
	before, err := limitFiles(pid, 10) // fewer than it has: it keeps those, and gets no more
	if err != nil {
		return "", fmt.Errorf("limiting the proxy's descriptors: %w", err)
	}
	n := e.front.each((*pair).reset)
	err = e.hold(ctx)
	_, undone := limitFiles(pid, before)
	return fmt.Sprintf("%d connections had to come back", n), errors.Join(err, undone)
}

func newCertificate(ctx context.Context, e *experiment) (string, error) {
	e.authority = 1 - e.authority
	if err := e.writeServerCertificate(e.authority); err != nil {
		return "", err
	}
	if err := e.proxy.Signal(syscall.SIGHUP); err != nil {
		return "", err
	}
	config := e.authorities[e.authority].ClientConfig(e.clientTLS.Certificates...)
	config.ServerName = "bootstrap." + suffix
	err := e.proxy.Await(ctx, 10*time.Second, "the new certificate is not shown", func() error {
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", e.listen, config)
		if err == nil {
			conn.Close()
		}
		return err
	})
	return fmt.Sprintf("signed by authority %d", e.authority), err
}

func proxyPause(ctx context.Context, e *experiment) (string, error) {
	began := time.Now()
	if err := e.proxy.Signal(syscall.SIGSTOP); err != nil {
		return "", err
	}
	err := e.hold(ctx)
	return fmt.Sprintf("for %v", time.Since(began).Round(100*time.Millisecond)),
		errors.Join(err, e.proxy.Signal(syscall.SIGCONT))
}

func proxyRestart(ctx context.Context, e *experiment) (string, error) {
	began := time.Now()
	if err := e.proxy.Stop(drainPatience); err != nil {
		return "", err
	}
	took := time.Since(began).Round(time.Millisecond)
	return fmt.Sprintf("drained in %v", took), e.startProxy(ctx)
}

// drainPatience is above what a proxy may take to drain.
const drainPatience = 40 * time.Second

// proxyHandOver waits until the old process has ended: by then its connections
// have ended one by one, and clients are at the new one.
func proxyHandOver(ctx context.Context, e *experiment) (string, error) {
	log, err := os.ReadFile(e.logFile())
	if err != nil {
		return "", err
	}
	before, began := len(log), time.Now()
	if err := e.proxy.Signal(syscall.SIGUSR2); err != nil {
		return "", err
	}
	old, pid := e.proxy, 0
	err = old.Await(ctx, patience, "the proxy does not hand over", func() error {
		log, err := os.ReadFile(e.logFile())
		if err != nil {
			return err
		}
		m := regexp.MustCompile(`msg="handed over[^"]*" pid=([0-9]+)`).FindSubmatch(log[before:])
		if m == nil {
			return errors.New("its log does not say so")
		}
		pid, err = strconv.Atoi(string(m[1]))
		return err
	})
	if err != nil {
		return "", err
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return "", err
	}
	select {
	case <-old.Done():
	case <-time.After(drainPatience):
		process.Kill()
		return "", fmt.Errorf("the old process was still there %v after it had handed over", drainPatience)
	case <-ctx.Done():
		process.Kill()
		return "", ctx.Err()
	}
	e.proxy = &proxy{Process: harness.Adopt(process, "the proxy", e.logFile()), admin: e.admin} // an orphan by now
	if err := old.Wait(); err != nil {
		return "", fmt.Errorf("the old process was to end with 0, but: %w", err)
	}
	return fmt.Sprintf("to process %d, the old one ended after %v", pid, time.Since(began).Round(100*time.Millisecond)), nil
}

func proxyKill(ctx context.Context, e *experiment) (string, error) {
	e.proxy.Kill()
	return "", e.startProxy(ctx)
}
