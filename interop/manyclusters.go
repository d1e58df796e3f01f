package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"kafka-sni-proxy/internal/harness"
)

// oneBroker is the second cluster, audit: one broker, whose node id and topics are those of the first
// cluster, too.
var oneBroker = clusterSetup{ID: "a3YtaW50ZXJvcC1zb2xvMA", Name: "solo", Brokers: 1}

const (
	auditDomain = "second.test" // of the names of the second cluster
	flowRate    = 100           // records a second, of each producer
)

// manyClusters has one proxy serve two clusters by one file: by name, by port with TLS and
// without, and behind a balancer that sends the PROXY protocol. The second cluster has no TLS
// and is behind a SOCKS5 gate. Clients of three makers produce and consume by all ways at once.
// Then the second cluster is taken away, put back and changed, while those of the first go on.
func manyClusters(ctx context.Context, s *scenarioRun) (string, error) {
	m, err := s.startMany(ctx)
	if m != nil {
		defer m.stop()
	}
	if err != nil {
		return "", err
	}
	orders, audit, err := m.startFlows(ctx)
	if err != nil {
		return "", err
	}
	if err := progressedFlows(ctx, append(audit, orders...)); err != nil {
		return "", err
	}
	figures, err := endFlows(ctx, audit)
	if err != nil {
		return "", err
	}
	passed, err := m.gate.used()
	if err != nil {
		return "", err
	}
	steps, err := m.changeAudit(ctx, orders)
	if err != nil {
		return "", err
	}
	more, err := endFlows(ctx, orders)
	if err != nil {
		return "", err
	}
	if err := m.refusesWithoutHeader(ctx); err != nil {
		return "", err
	}
	if err := errors.Join(m.silent(), m.proxy.drain(), m.knewItsClients()); err != nil {
		return "", err
	}
	return fmt.Sprintf("two clusters, %d ways in, three makers of clients at once; %s\n%s%s  through the gate: %v",
		len(orders)+len(audit), steps, figures, more, passed), nil
}

// many is the proxy of the scenario, and what is behind it.
type many struct {
	*front
	audit *cluster
	gate  *gate
}

// startMany starts all that the scenario needs. It returns what there is after an error, too.
func (s *scenarioRun) startMany(ctx context.Context) (*many, error) {
	f, err := s.newFront("many-clusters")
	if err != nil {
		return nil, err
	}
	m := &many{front: f}
	if m.audit, err = startCluster(ctx, s.java, s.ports, filepath.Join(filepath.Dir(s.cluster.dir), "cluster-audit"), oneBroker); err != nil {
		return m, err
	}
	if m.gate, err = startGate(ctx, m.audit); err != nil {
		return m, err
	}
	if err := f.addCerts(ctx, auditDomain); err != nil {
		return m, err
	}
	err = errors.Join(
		f.byName(ctx, "names"),
		f.byPort(ctx, "ports", "orders", brokerCount, "ports."+suffix, true),
		f.byPort(ctx, "plain", "orders", brokerCount, "plain."+suffix, false),
		f.balanced(ctx, "balanced"),
		f.byPort(ctx, "audit-ports", "audit", 1, "plain."+auditDomain, false),
	)
	if err == nil {
		err = m.asInTheBeginning()
	}
	if err != nil {
		return m, err
	}
	return m, f.proxy.start(ctx)
}

func (m *many) stop() {
	m.front.stop()
	if m.gate != nil {
		m.gate.stop()
	}
	if m.audit != nil {
		m.audit.stop()
	}
}

// auditYAML is the second cluster, seen under a name.
func (m *many) auditYAML(name string) string {
	return fmt.Sprintf("  audit:\n    names: {bootstrap: %s.%s, broker: 'b{id}-%s.%s'}\n    upstream: [%s]\n    upstream-plaintext: true\n    via: socks5://%s:${GATE_PASSWORD}@%s\n",
		name, auditDomain, name, auditDomain, m.audit.bootstrap(listenPlain), gateUser, m.gate.address())
}

func (m *many) asInTheBeginning() error {
	return m.write(m.orders()+m.auditYAML("audit"), "names", "ports", "plain", "balanced")
}

// way is how clients reach a cluster.
type way struct {
	name     string
	endpoint *endpoint
	cluster  *cluster
	topic    string
}

// ways are all ways to the first cluster and to the second one. By name they lead to topics of
// the same name.
func (m *many) ways() (orders, audit []way, err error) {
	for _, listener := range []string{"names", "balanced"} {
		w, err1 := m.ordersBy(listener, underSuffix("bootstrap", "b1", "b2", "b3")...)
		e, err2 := m.auditBy(listener, "audit")
		err = errors.Join(err, err1, err2)
		orders = append(orders, w)
		audit = append(audit, way{"audit by " + listener, e, m.audit, "many-" + listener})
	}
	for _, listener := range []string{"ports", "plain"} {
		w, err1 := m.ordersBy(listener, underSuffix(listener)...)
		err = errors.Join(err, err1)
		orders = append(orders, w)
	}
	return orders, audit, err
}

func (m *many) ordersBy(listener string, names ...string) (way, error) {
	e, err := m.endpoint(listener, m.certs[0], names...)
	return way{"orders by " + listener, e, m.cluster, "many-" + listener}, err
}

// auditBy is how clients reach the second cluster by a listener by name, when it is seen
// under a name.
func (m *many) auditBy(listener, name string) (*endpoint, error) {
	return m.endpoint(listener, m.certs[1], name+"."+auditDomain, "b1-"+name+"."+auditDomain)
}

// startFlows starts the clients of all ways to the first cluster and to the second one.
func (m *many) startFlows(ctx context.Context) (orders, audit []*flow, err error) {
	ordersWays, auditWays, err := m.ways()
	if err != nil {
		return nil, nil, err
	}
	for _, w := range append(auditWays, ordersWays...) {
		f, err := m.startFlow(ctx, w)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", w.name, err)
		}
		if w.cluster == m.audit {
			audit = append(audit, f)
		} else {
			orders = append(orders, f)
		}
	}
	return orders, audit, nil
}

// flow is a producer and a consumer of each maker, by one way.
type flow struct {
	way
	java, javaReader, rd, rdReader *process
	franz                          *steadyProducer
	group                          *steadyGroup
	figures                        string
}

// startFlow creates the topic of a way, and starts its clients. They make no connection but
// for what they are told, and close none before the scenario is over.
func (s *scenarioRun) startFlow(ctx context.Context, w way) (f *flow, err error) {
	const partitions = 6
	if err := w.cluster.createTopic(ctx, w.topic, partitions, int16(min(len(w.cluster.brokers), 3))); err != nil {
		return nil, err
	}
	f = &flow{way: w}
	patient := w.endpoint.with("connections.max.idle.ms=3600000", "metadata.max.age.ms=3600000", "linger.ms=50")
	if f.javaReader, err = s.startJava(ctx, patient, "consume", w.topic, w.topic); err != nil {
		return nil, err
	}
	if f.java, err = s.startJava(ctx, patient, "produce", w.topic, "java", fmt.Sprint(flowRate), "0"); err != nil {
		return nil, err
	}
	rdPatient := []string{"topic.metadata.refresh.interval.ms=3600000"}
	if f.rdReader, err = s.startLibrdkafka(ctx, w.endpoint, rdPatient, "consume", w.topic, w.topic+"-librdkafka", "0"); err != nil {
		return nil, err
	}
	if f.rd, err = s.startLibrdkafka(ctx, w.endpoint, rdPatient, "produce", w.topic, "librdkafka", fmt.Sprint(flowRate)); err != nil {
		return nil, err
	}
	franzPatient := []kgo.Opt{kgo.ConnIdleTimeout(15 * time.Minute), kgo.MetadataMaxAge(time.Hour)}
	if f.franz, err = s.startSteadyProducer(ctx, w.endpoint, w.topic, partitions, flowRate, franzPatient...); err != nil {
		return nil, err
	}
	f.group, err = s.startSteadyGroup(ctx, w.endpoint, w.topic, partitions, 1, franzPatient...)
	return f, err
}

// progressedFlows waits until each client has gone on.
func progressedFlows(ctx context.Context, all []*flow) error {
	return eachFlow(all, func(f *flow) error {
		if err := f.awaitFranz(ctx); err != nil {
			return err
		}
		return progressed(f.java, f.javaReader, f.rd, f.rdReader)
	})
}

// eachFlow does something with all flows at once.
func eachFlow(all []*flow, do func(*flow) error) error {
	var flows errgroup.Group
	for _, f := range all {
		flows.Go(func() error {
			if err := do(f); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			return nil
		})
	}
	return flows.Wait()
}

// awaitFranz waits until each partition has got a record through the franz-go clients.
func (f *flow) awaitFranz(ctx context.Context) error {
	err := errors.Join(f.franz.awaitAll(ctx), f.group.awaitAll(ctx))
	if failure := f.franz.failure.Load(); failure != nil {
		return *failure
	}
	return err
}

// endFlows ends the clients. Each record must have been acknowledged, read by the consumer of
// each maker, and be in the log of this cluster once. The figures are a line for each.
func endFlows(ctx context.Context, all []*flow) (figures string, err error) {
	err = eachFlow(all, func(f *flow) (err error) {
		f.figures, err = f.end(ctx)
		return err
	})
	for _, f := range all {
		figures += fmt.Sprintf("  %-18s %s\n", f.name, f.figures)
	}
	return figures, err
}

func (f *flow) end(ctx context.Context) (string, error) {
	java, _, err := endProducer(f.java)
	if err != nil {
		return "", err
	}
	rd, _, err := endProducer(f.rd)
	if err != nil {
		return "", err
	}
	franz, err := f.franz.end(ctx)
	if err != nil {
		return "", err
	}
	total := java + rd + franz
	_, err1 := endConsumer(f.javaReader, total)
	_, err2 := endConsumer(f.rdReader, total)
	_, err3 := f.group.end(ctx, total)
	log, err4 := f.cluster.audit(ctx, f.topic)
	if err := errors.Join(err1, err2, err3, err4, untroubled(f.rd, f.rdReader)); err != nil {
		return "", err
	}
	return fmt.Sprintf("Java %d, librdkafka %d, franz-go %d records: each once in the log, all read by the three consumers", java, rd, franz),
		log.exactly(map[string]int64{"java": java, "librdkafka": rd, "franz": franz})
}

// changeAudit changes the file under the clients of the first cluster: what is done to the
// second cluster must make and end no connection of theirs.
func (m *many) changeAudit(ctx context.Context, orders []*flow) (figures string, err error) {
	moved, err1 := m.auditBy("names", "moved")
	there, err2 := m.auditBy("names", "audit")
	byPort, err3 := m.endpoint("audit-ports", m.certs[1], "plain."+auditDomain)
	if err := errors.Join(err1, err2, err3); err != nil {
		return "", err
	}
	before, err := m.settled(ctx)
	if err != nil {
		return "", err
	}
	first := []string{"names", "ports", "plain", "balanced"}
	withPort := append(slices.Clone(first), "audit-ports")
	steps := []struct {
		what        string
		result      string // of reading the file
		change      func() error
		led, notLed []*endpoint
	}{
		{"taken away", "changed", func() error { return m.write(m.orders(), first...) },
			nil, []*endpoint{there, byPort}},
		{"put back, with a listener of its own", "changed", func() error { return m.write(m.orders()+m.auditYAML("audit"), withPort...) },
			[]*endpoint{there, byPort}, nil},
		{"renamed", "changed", func() error { return m.write(m.orders()+m.auditYAML("moved"), withPort...) },
			[]*endpoint{moved, byPort}, []*endpoint{there}},
		{"without its listener", "changed", func() error { return m.write(m.orders()+m.auditYAML("moved"), first...) },
			[]*endpoint{moved}, []*endpoint{byPort}},
		{"with a mistake in the file", "failed", func() error { return m.write(m.orders()+"  audit: {names: none}\n", first...) },
			[]*endpoint{moved}, nil},
		{"as in the beginning", "changed", m.asInTheBeginning,
			[]*endpoint{there}, []*endpoint{moved, byPort}},
	}
	// A client of the second cluster that is connected when that is taken away.
	client, err := m.reach(ctx, there)
	if err != nil {
		return "", err
	}
	defer client.Close()
	for _, step := range steps {
		err := m.reload(ctx, step.result, step.change)
		for _, e := range step.led {
			if err == nil {
				err = m.serves(ctx, e)
			}
		}
		for _, e := range step.notLed {
			if err == nil {
				err = m.refuses(ctx, e)
			}
		}
		if err == nil {
			err = errors.Join(m.undisturbed(ctx, before), eachFlow(orders, func(f *flow) error { return f.awaitFranz(ctx) }))
		}
		if err != nil {
			return "", fmt.Errorf("the second cluster, %s: %w", step.what, err)
		}
	}
	if err := progressedFlows(ctx, orders); err != nil {
		return "", err
	}
	if err := m.undisturbed(ctx, before); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d changes of the file: %d connections of the first cluster before and after, none made or lost", len(steps), before.now), nil
}

// connections are those of the clients of the first cluster.
type connections struct{ opened, now int }

func (m *many) connections() (c connections) {
	for name, l := range m.listeners {
		if name == "audit-ports" {
			continue
		}
		for _, t := range l.taps {
			opened, now := t.seen.under(suffix)
			c.opened += opened
			c.now += now
		}
	}
	return c
}

// settled waits until no connection has been made or lost for a while.
func (m *many) settled(ctx context.Context) (connections, error) {
	last, since := m.connections(), time.Now()
	return last, harness.Await(ctx, "waiting for the clients to have all connections that they want", func() error {
		if now := m.connections(); now != last {
			last, since = now, time.Now()
		}
		if quiet := time.Since(since); quiet < 3*time.Second {
			return fmt.Errorf("a connection was made or lost %v ago", quiet)
		}
		return nil
	})
}

// undisturbed wants the connections of the first cluster to be those that there were, and the
// proxy to say so, too.
func (m *many) undisturbed(ctx context.Context, before connections) error {
	if now := m.connections(); now != before {
		return fmt.Errorf("clients of the first cluster had %d connections of %d that they had made; now it is %d of %d", before.now, before.opened, now.now, now.opened)
	}
	n, err := m.proxy.metric(ctx, `connections{cluster="orders"}`)
	if err == nil && n != before.now {
		err = fmt.Errorf("the proxy counts %d connections of the first cluster, the taps %d", n, before.now)
	}
	return err
}

// reach connects a client to the second cluster, and asks for its brokers.
func (m *many) reach(ctx context.Context, e *endpoint) (*kgo.Client, error) {
	client, err := m.goClient(e, kgo.ConnIdleTimeout(15*time.Minute))
	if err != nil {
		return nil, err
	}
	metadata, err := kadm.NewClient(client).BrokerMetadata(ctx)
	if err == nil && metadata.Cluster != oneBroker.ID {
		err = fmt.Errorf("the second cluster's name leads to cluster %q", metadata.Cluster)
	}
	if err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

// serves wants an endpoint to lead to the second cluster and its broker.
func (m *many) serves(ctx context.Context, e *endpoint) error {
	client, err := m.reach(ctx, e)
	if err != nil {
		return fmt.Errorf("%s: %w", e.bootstrap, err)
	}
	defer client.Close()
	offsets, err := kadm.NewClient(client).ListEndOffsets(ctx, "many-names")
	if err = errors.Join(err, offsets.Error()); err != nil {
		return fmt.Errorf("%s: %w", e.bootstrap, err)
	}
	return nil
}

// refuses wants an endpoint to lead nowhere.
func (m *many) refuses(ctx context.Context, e *endpoint) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // franz-go tries again and again
	defer cancel()
	client, err := m.reach(ctx, e)
	if err == nil {
		client.Close()
		return fmt.Errorf("%s still leads to the second cluster", e.bootstrap)
	}
	return nil
}

// refusesWithoutHeader has a client go past the balancer. The proxy has to say what is
// missing.
func (m *many) refusesWithoutHeader(ctx context.Context) error {
	e, err := m.auditBy("balanced", "audit")
	if err != nil {
		return err
	}
	bind := regexp.MustCompile(`bind: \S+:([0-9]+)`).FindStringSubmatch(m.listeners["balanced"].yaml)[1]
	e.bootstrap = fmt.Sprintf("audit.%s:%s", auditDomain, bind)
	if err := m.refuses(ctx, e); err != nil {
		return err
	}
	const want = "send-proxy-v2" // in the hint
	said := false
	if err := eachLine(m.proxy.Output, func(line string) { said = said || strings.Contains(line, want) }); err != nil {
		return err
	}
	if !said {
		return fmt.Errorf("the proxy does not say %q of a client without a PROXY header", want)
	}
	return nil
}

// clientInLog is the client in a line about a session at the listener behind the balancer.
var clientInLog = regexp.MustCompile(` client=([0-9.:]+) sni=(\S*) .*listener=balanced`)

// knewItsClients wants the log of a proxy that has ended to name each connection of the tap in
// front of the balancer by its own address, and none as the balancer.
func (m *many) knewItsClients() error {
	logged := map[string]bool{}
	var problems []error
	err := eachLine(m.proxy.Output, func(line string) {
		client := clientInLog.FindStringSubmatch(line)
		if client == nil {
			return
		}
		logged[client[1]] = true
		if sni := client[2]; !strings.HasPrefix(client[1], balancedFrom+":") && sni != `""` {
			problems = append(problems, fmt.Errorf("a client of the balancer is logged as %s", client[1]))
		}
	})
	addresses := m.listeners["balanced"].taps[0].seen.addresses
	for _, address := range addresses {
		if !logged[address] {
			problems = append(problems, fmt.Errorf("the client %s of the balancer is not in the log", address))
		}
	}
	if len(addresses) == 0 {
		problems = append(problems, errors.New("nobody came through the balancer"))
	}
	return errors.Join(append(problems[:min(5, len(problems))], err)...)
}
