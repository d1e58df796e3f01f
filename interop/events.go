package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"kafka-sni-proxy/internal/harness"
)

const (
	eventPartitions = 6
	eventRate       = 200 // records a second, of each of the two producers

	// A recovery that takes longer, or more connections than this, is a failure.
	// The machine may be slow; figures are in the table.
	recoverWithin   = 25 * time.Second
	connectionsBase = 60
	connectionsRate = 10 // a second
)

// events has things happen to one proxy, or to two copies of it behind a load
// balancer, that are started without memory each time, and to brokers, under
// clients that go on. With SASL nobody can ask the cluster where its brokers are
// but clients.
func events(copies int, behindSASL bool) func(context.Context, *scenarioRun) (string, error) {
	return func(ctx context.Context, s *scenarioRun) (string, error) {
		e := &eventful{scenarioRun: s, topic: fmt.Sprintf("events-%d", copies), kind: eventKinds[copies-1], listener: listenTLS}
		e.endpoint = s.tls.with()
		if behindSASL {
			e.topic += "-sasl"
			e.kind = eventKinds[copies+1]
			e.listener = listenSASL
			e.endpoint = s.tls.with(login("SCRAM-SHA-256", saslSecret)...).with("security.protocol=SASL_SSL")
			e.options = []kgo.Opt{kgo.SASL(scram.Auth{User: saslUser, Pass: saslSecret}.AsSha256Mechanism())}
		}
		limit := time.Duration(s.eventRounds) * 6 * time.Minute
		ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the scenario took longer than %s", limit))
		defer cancel()
		err := e.setUp(ctx, copies)
		defer e.tearDown()
		if err != nil {
			return "", err
		}
		for range s.eventRounds {
			if err := e.proxies(ctx); err != nil {
				return "", err
			}
			if err := e.brokers(ctx); err != nil {
				return "", err
			}
		}
		return e.audit(ctx)
	}
}

// eventful is a scenario in which things happen.
type eventful struct {
	*scenarioRun
	topic, kind string
	listener    string // of the brokers
	endpoint    *endpoint
	options     []kgo.Opt
	copies      []*proxy
	retired     int // connections that copies had accepted when they ended

	java, reader *process
	franz        *steadyProducer
	group        *steadyGroup
}

func (e *eventful) setUp(ctx context.Context, copies int) error {
	if err := e.cluster.createTopic(ctx, e.topic, eventPartitions, 3); err != nil {
		return err
	}
	if err := e.cluster.lead(ctx, e.topic, 1, 2, 3); err != nil {
		return err
	}
	var port, unused int
	if err := e.ports.TakeAll(&port, &unused); err != nil {
		return err
	}
	nobody := fmt.Sprintf("nobody.%s:%d,", upstreamDomain, unused)
	for i := range copies {
		setup := proxySetup{Name: fmt.Sprintf("%s-%d", e.topic, i+1), Listener: e.listener, Before: nobody}
		if copies > 1 {
			setup.Args = []string{"--advertised-port", strconv.Itoa(port)}
		}
		p, err := e.startProxy(ctx, setup)
		if p != nil && p.Process != nil {
			e.copies = append(e.copies, p)
		}
		if err != nil {
			return err
		}
	}
	if copies > 1 {
		if _, err := e.startBalancer(ctx, port, e.copies); err != nil {
			return err
		}
		// The balancer closes where a proxy resets. franz-go takes a close before the
		// first answer for a wrong configuration, and would give records up.
		e.options = append(e.options, kgo.AlwaysRetryEOF())
	} else {
		port = e.copies[0].port
	}
	e.endpoint.bootstrap = fmt.Sprintf("bootstrap.%s:%d", suffix, port)

	began := time.Now()
	var err error
	if e.franz, err = e.startSteadyProducer(ctx, e.endpoint, e.topic, eventPartitions, eventRate, e.options...); err != nil {
		return err
	}
	if err := e.franz.awaitAll(ctx); err != nil {
		return err
	}
	accepted, err := e.accepted(ctx)
	if err != nil {
		return err
	}
	e.note(eventCold, recovery{franz: time.Since(began), connections: accepted})
	if e.group, err = e.startSteadyGroup(ctx, e.endpoint, e.topic, eventPartitions, 2, e.options...); err != nil {
		return err
	}
	if e.java, err = e.startJava(ctx, e.endpoint, "produce", e.topic, "java", strconv.Itoa(eventRate), "0"); err != nil {
		return err
	}
	if e.reader, err = e.startJava(ctx, e.endpoint, "consume", e.topic, e.topic); err != nil {
		return err
	}
	if err := progressed(e.java, e.reader); err != nil {
		return err
	}
	return e.through(ctx)
}

func (e *eventful) tearDown() {
	for _, p := range e.copies {
		p.Kill()
	}
	for _, b := range e.cluster.brokers {
		if b.address == movedAddress { // an error has been here; others need it where it was
			ctx, cancel := context.WithTimeout(e.cluster.life, time.Minute)
			defer cancel()
			_ = errors.Join(b.shutDown(), e.cluster.moveBack(b), e.cluster.start(b), e.cluster.whole(ctx))
		}
	}
}

// proxies has each copy end in turn, in good order and not. Of two, one is away
// until all goes on without it; the next time it is the other's turn, and all
// clients come to the one that knows nothing.
func (e *eventful) proxies(ctx context.Context) error {
	for _, how := range []string{eventTerm, eventKill} {
		for _, p := range e.copies {
			err := e.happen(ctx, how, func() error {
				n, err := p.accepted(ctx)
				if err != nil {
					return err
				}
				e.retired += n
				if how == eventKill {
					p.Kill()
				} else if err := p.drain(); err != nil {
					return err
				}
				if len(e.copies) > 1 {
					if err := e.through(ctx); err != nil {
						return err
					}
				}
				return p.start(ctx)
			})
			if err != nil {
				return err
			}
			if err := e.balanced(ctx, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// balanced waits until the balancer gives clients to a copy again: they must
// not lose both at once.
func (e *eventful) balanced(ctx context.Context, p *proxy) error {
	if len(e.copies) == 1 {
		return nil
	}
	return harness.Await(ctx, "waiting for the balancer to take up "+p.name, func() error {
		// Each attempt is given to either copy.
		address, err := e.endpoint.locate(e.endpoint.bootstrap)
		if err != nil {
			return harness.Final(err)
		}
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
		}
		n, err := p.accepted(ctx)
		if err == nil && n == 0 {
			err = errors.New("it has had no connection yet")
		}
		return err
	})
}

// brokers has one broker stop and come back elsewhere, and then all of them
// restart one by one; that one goes back then.
func (e *eventful) brokers(ctx context.Context) error {
	c, b := e.cluster, e.cluster.brokers[1]
	if err := e.happen(ctx, eventStop, b.shutDown); err != nil {
		return err
	}
	err := e.happen(ctx, eventMoved, func() error {
		if err := c.moveAway(b, e.ports); err != nil {
			return err
		}
		return e.startBroker(ctx, b)
	})
	if err != nil {
		return err
	}
	return e.happen(ctx, eventInTurn, func() error {
		for _, one := range c.brokers {
			if err := one.shutDown(); err != nil {
				return err
			}
			if one == b {
				if err := c.moveBack(b); err != nil {
					return err
				}
			}
			if err := e.startBroker(ctx, one); err != nil {
				return err
			}
			if err := e.through(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// startBroker starts a broker and has it lead its part.
func (e *eventful) startBroker(ctx context.Context, b *broker) error {
	if err := e.cluster.start(b); err != nil {
		return err
	}
	if err := e.cluster.whole(ctx); err != nil {
		return err
	}
	return e.cluster.lead(ctx, e.topic, 1, 2, 3)
}

// happen has something happen and waits until everything goes on.
func (e *eventful) happen(ctx context.Context, event string, do func() error) error {
	if _, err := e.gaps(); err != nil {
		return err
	}
	before, err := e.accepted(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", event, err)
	}
	if err := e.through(ctx); err != nil {
		return fmt.Errorf("after %q: %w", event, err)
	}
	took := time.Since(began)
	r, err := e.gaps()
	if err != nil {
		return err
	}
	after, err := e.accepted(ctx)
	if err != nil {
		return err
	}
	r.connections = after - before
	e.note(event, r)
	if worst := max(r.java, r.franz, r.group); worst > recoverWithin {
		return fmt.Errorf("%s: nothing went on for %s", event, worst)
	}
	if most := connectionsBase + int(connectionsRate*took.Seconds()); r.connections > most {
		return fmt.Errorf("%s: %d connections in %s", event, r.connections, took)
	}
	return nil
}

// through waits until each partition has acknowledged what was sent after the
// call, to both producers, and given it to the group.
func (e *eventful) through(ctx context.Context) error {
	if err := e.java.order("through"); err != nil {
		return err
	}
	if err := e.franz.awaitAll(ctx); err != nil {
		return fmt.Errorf("the franz-go producer: %w", err)
	}
	if err := e.group.awaitAll(ctx); err != nil {
		return fmt.Errorf("the franz-go group: %w", err)
	}
	if failure := e.franz.failure.Load(); failure != nil {
		return *failure
	}
	_, err := e.java.expect("through")
	return err
}

// gaps returns the longest gaps since the last call.
func (e *eventful) gaps() (recovery, error) {
	r := recovery{franz: e.franz.gap(), group: e.group.gap()}
	if err := e.java.order("gap"); err != nil {
		return r, err
	}
	text, err := e.java.expect("gap")
	if err != nil {
		return r, err
	}
	ms, err := strconv.Atoi(text)
	r.java = time.Duration(ms) * time.Millisecond
	return r, err
}

// accepted returns how many connections the copies have accepted.
func (e *eventful) accepted(ctx context.Context) (int, error) {
	sum := e.retired
	for _, p := range e.copies {
		n, err := p.accepted(ctx)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// accepted returns how many connections a proxy has accepted since it started.
func (p *proxy) accepted(ctx context.Context) (int, error) {
	return p.metric(ctx, "connections_accepted_total")
}

// audit ends the clients and looks at what they did.
func (e *eventful) audit(ctx context.Context) (string, error) {
	java, slowest, err := endProducer(e.java)
	if err != nil {
		return "", err
	}
	franz, err := e.franz.end(ctx)
	if err != nil {
		return "", err
	}
	read, err := endConsumer(e.reader, java+franz)
	if err != nil {
		return "", err
	}
	lost := 0
	if err := eachLine(e.reader.Output, func(line string) {
		if strings.HasPrefix(line, "lost ") {
			lost++
		}
	}); err != nil {
		return "", err
	}
	if figure(read, "duplicates") > 0 && lost == 0 {
		return "", fmt.Errorf("the Java consumer has lost no partition, and read %s", read)
	}
	group, err := e.group.end(ctx, java+franz)
	if err != nil {
		return "", err
	}
	log, err := e.cluster.audit(ctx, e.topic)
	if err == nil {
		err = log.exactly(map[string]int64{"java": java, "franz": franz})
	}
	return fmt.Sprintf("%d records, each once in the log, slowest ack %d ms (Java)\n  Java consumer: %s, partitions lost %d times\n  franz-go group of 2: %s",
		java+franz, slowest, read, lost, group), err
}

// moveAway gives a broker that is down another address, other ports and another
// name there.
func (c *cluster) moveAway(b *broker, ports *harness.Ports) error {
	b.address, b.advertised = movedAddress, b.movedName()
	b.home, b.ports = b.ports, maps.Clone(b.ports)
	for _, listener := range []string{listenTLS, listenSASL, listenMTLS} {
		port, err := ports.Take()
		if err != nil {
			return err
		}
		b.ports[listener] = port
	}
	return c.configure(b)
}

// moveBack gives it back what it had.
func (c *cluster) moveBack(b *broker) error {
	b.address, b.advertised, b.ports = "127.0.0.1", b.name, b.home
	return c.configure(b)
}
