package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"kafka-sni-proxy/internal/harness"
)

const (
	brokerCount = 3 // of the cluster of all scenarios
	saslUser    = "alice"
	saslSecret  = "alice-secret"
)

// clusterSetup is a cluster to start.
type clusterSetup struct {
	ID      string
	Name    string // of its brokers, with a number behind it
	Brokers int32
	Guards  *guards // nil: everybody may do everything
}

var threeBrokers = clusterSetup{ID: "a3YtaW50ZXJvcC1ydW4wMA", Name: "broker", Brokers: brokerCount}

// The listeners a broker offers to clients. Each broker has an internal one
// too, for its peers and for this run, which uses it to prepare topics and to
// read back what the log really holds.
const (
	listenTLS   = "TLS"
	listenSASL  = "SASL"
	listenMTLS  = "MTLS"
	listenPlain = "PLAIN"
	listenSCRAM = "SCRAM" // SASL, with one mechanism alone
)

// cluster is some Kafka brokers that are also the controllers.
type cluster struct {
	setup   clusterSetup
	life    context.Context // of the brokers; scenarios that start one are shorter
	java    *java
	ca      *brokerCA
	dir     string
	brokers []*broker
	admin   *kadm.Client // through the internal listeners
}

type broker struct {
	id    int32
	label string // the first part of its name
	name  string // where it says it lives, to clients and to controllers
	dir   string
	hosts string // brokers can resolve each other
	ports map[string]int
	// Where clients find it. Its peers and controllers find it at 127.0.0.1.
	address, advertised string
	home                map[string]int // its ports before it moved
	store               issued
	starts              int
	*harness.Process
}

func (b *broker) jvm(heapMB int) jvm {
	return jvm{HeapMB: heapMB, Config: filepath.Join(b.dir, "log4j2.properties"), Hosts: b.hosts}
}

func (b *broker) at(listener string) string {
	return fmt.Sprintf("%s:%d", b.name, b.ports[listener])
}

// startCluster formats and starts the brokers and returns when they form a
// whole cluster.
func startCluster(ctx context.Context, j *java, ports *harness.Ports, dir string, setup clusterSetup) (*cluster, error) {
	c := &cluster{setup: setup, life: ctx, java: j, dir: dir}
	var err error
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if c.ca, err = newBrokerCA(dir); err != nil {
		return nil, err
	}
	for id := int32(1); id <= setup.Brokers; id++ {
		b := &broker{
			id:    id,
			label: fmt.Sprintf("%s-%d", setup.Name, id),
			dir:   filepath.Join(dir, fmt.Sprintf("broker-%d", id)),
			hosts: filepath.Join(dir, "broker-hosts"),
			ports: map[string]int{},
		}
		b.name = b.label + "." + upstreamDomain
		b.address, b.advertised = "127.0.0.1", b.name
		for _, listener := range []string{"INTERNAL", "CONTROLLER", listenTLS, listenSASL, listenMTLS, listenPlain, listenSCRAM} {
			port, err := ports.Take()
			if err != nil {
				return nil, err
			}
			b.ports[listener] = port
		}
		if err := os.MkdirAll(b.dir, 0o755); err != nil {
			return nil, err
		}
		c.brokers = append(c.brokers, b)
	}
	if err := c.writeHosts(); err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(append(setup.Guards.admin(), kgo.SeedBrokers(c.seeds()...), kgo.MetadataMinAge(50*time.Millisecond))...)
	if err != nil {
		return nil, err
	}
	c.admin = kadm.NewClient(client)

	var all errgroup.Group
	for _, b := range c.brokers {
		all.Go(func() error { return c.format(ctx, b) })
	}
	if err := all.Wait(); err != nil {
		return nil, err
	}
	for _, b := range c.brokers {
		if err := c.start(b); err != nil {
			return nil, err
		}
	}
	return c, c.whole(ctx)
}

// bootstrap lists where the brokers say that they listen.
func (c *cluster) bootstrap(listener string) string {
	var list []string
	for _, b := range c.brokers {
		list = append(list, b.at(listener))
	}
	return strings.Join(list, ",")
}

// writeHosts writes the brokers' hosts file: their names, and nothing else.
func (c *cluster) writeHosts() error {
	var names []string
	for _, b := range c.brokers {
		names = append(names, b.name)
	}
	return writeHosts(c.brokers[0].hosts, append(names, "localhost"))
}

// seeds are the brokers' internal listeners.
func (c *cluster) seeds() []string {
	var list []string
	for _, b := range c.brokers {
		list = append(list, fmt.Sprintf("127.0.0.1:%d", b.ports["INTERNAL"]))
	}
	return list
}

// format writes a broker's configuration and an empty log with the users in it.
func (c *cluster) format(ctx context.Context, b *broker) error {
	var err error
	if b.store, err = c.ca.write(b.label, c.ca.Server(b.name, b.movedName())); err != nil {
		return err
	}
	if err := c.configure(b); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.dir, "log4j2.properties"), []byte(brokerLogging), 0o644); err != nil {
		return err
	}
	_, err = harness.Run(ctx, harness.Command{
		Name: "format",
		Dir:  b.dir,
		Args: append(c.java.brokerArgs(b.jvm(128), "kafka.tools.StorageTool", "format", "-c", "server.properties", "-t", c.setup.ID,
			"--add-scram", fmt.Sprintf("SCRAM-SHA-256=[name=%s,password=%s]", saslUser, saslSecret),
			"--add-scram", fmt.Sprintf("SCRAM-SHA-512=[name=%s,password=%s]", saslUser, saslSecret)), c.setup.Guards.scram()...),
	})
	return err
}

// configure writes what a broker reads when it starts.
func (c *cluster) configure(b *broker) error {
	return os.WriteFile(filepath.Join(b.dir, "server.properties"), []byte(c.properties(b)), 0o600)
}

// movedName is what a broker calls itself at its other address, movedAddress.
func (b *broker) movedName() string { return b.label + "." + movedDomain }

// The other address of brokers, and the domain of their names there.
const (
	movedAddress = "127.0.0.2"
	movedDomain  = "moved." + upstreamDomain
)

func (c *cluster) properties(b *broker) string {
	var voters []string
	for _, peer := range c.brokers {
		voters = append(voters, fmt.Sprintf("%d@%s", peer.id, peer.at("CONTROLLER")))
	}
	expand := strings.NewReplacer(
		"{id}", fmt.Sprint(b.id),
		"{address}", b.address,
		"{name}", b.advertised,
		"{dir}", b.dir,
		"{voters}", strings.Join(voters, ","),
		"{internal}", fmt.Sprint(b.ports["INTERNAL"]),
		"{controller}", fmt.Sprint(b.ports["CONTROLLER"]),
		"{tls}", fmt.Sprint(b.ports[listenTLS]),
		"{sasl}", fmt.Sprint(b.ports[listenSASL]),
		"{mtls}", fmt.Sprint(b.ports[listenMTLS]),
		"{plain}", fmt.Sprint(b.ports[listenPlain]),
		"{scram}", fmt.Sprint(b.ports[listenSCRAM]),
		"{replicas}", fmt.Sprint(min(c.setup.Brokers, 3)),
		"{in-sync}", fmt.Sprint(min(c.setup.Brokers, 2)),
		"{store}", b.store.store,
		"{ca}", c.ca.file,
		"{user}", saslUser,
		"{secret}", saslSecret,
	)
	return expand.Replace(brokerProperties) + c.setup.Guards.properties()
}

const brokerProperties = `process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
listeners=INTERNAL://127.0.0.1:{internal},CONTROLLER://127.0.0.1:{controller},TLS://{address}:{tls},SASL://{address}:{sasl},MTLS://{address}:{mtls},PLAIN://{address}:{plain},SCRAM://{address}:{scram}
advertised.listeners=INTERNAL://127.0.0.1:{internal},TLS://{name}:{tls},SASL://{name}:{sasl},MTLS://{name}:{mtls},PLAIN://{name}:{plain},SCRAM://{name}:{scram}
listener.security.protocol.map=INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,SASL:SASL_SSL,MTLS:SSL,PLAIN:PLAINTEXT,SCRAM:SASL_SSL
log.dirs={dir}/log

ssl.keystore.type=PEM
ssl.keystore.location={store}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
listener.name.mtls.ssl.client.auth=required

listener.name.sasl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{secret}";
listener.name.sasl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
# Clients of this one mechanism have to authenticate again within two seconds.
listener.name.sasl.scram-sha-512.connections.max.reauth.ms=2000
listener.name.scram.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.scram.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;

auto.create.topics.enable=false
default.replication.factor={replicas}
min.insync.replicas={in-sync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=6
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in-sync}
transaction.state.log.num.partitions=6
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in-sync}
share.coordinator.state.topic.num.partitions=6
group.initial.rebalance.delay.ms=0
group.consumer.min.heartbeat.interval.ms=500
group.consumer.heartbeat.interval.ms=500
group.share.min.heartbeat.interval.ms=500
group.share.heartbeat.interval.ms=500

# A killed broker is given up after three seconds, and leaders only move when a scenario moves them.
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
auto.leader.rebalance.enable=false
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=2
`

const brokerLogging = `status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss.SSS} %p %c{1} %m%n
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
`

func (c *cluster) start(b *broker) error {
	b.starts++
	p, err := harness.Start(c.life, harness.Command{
		Name: fmt.Sprintf("server-%d", b.starts),
		Dir:  b.dir,
		Args: c.setup.Guards.vm(c.java.brokerArgs(b.jvm(512), "kafka.Kafka", "server.properties")),
	})
	b.Process = p
	return err
}

// whole waits until every broker is there and every partition is led by
// somebody and fully replicated.
func (c *cluster) whole(ctx context.Context) error {
	return harness.Await(ctx, "waiting for the cluster to be whole", func() error {
		for _, b := range c.brokers {
			if err := b.Alive(); err != nil {
				return harness.Final(err)
			}
		}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		metadata, err := c.admin.Metadata(ctx)
		if err != nil {
			return err
		}
		if len(metadata.Brokers) < len(c.brokers) {
			return fmt.Errorf("%d of %d brokers are registered", len(metadata.Brokers), len(c.brokers))
		}
		for _, topic := range metadata.Topics {
			for _, partition := range topic.Partitions {
				if partition.Err != nil {
					return fmt.Errorf("%s %d: %w", topic.Topic, partition.Partition, partition.Err)
				}
				if len(partition.ISR) < len(partition.Replicas) {
					return fmt.Errorf("%s %d: %d of %d replicas are in sync", topic.Topic, partition.Partition, len(partition.ISR), len(partition.Replicas))
				}
			}
		}
		return nil
	})
}

// crash kills a broker as kill -9 or a power cut would.
func (b *broker) crash() { b.Kill() }

// shutDown lets the broker hand over what it leads.
func (b *broker) shutDown() error {
	// Java's exit status after SIGTERM is not 0.
	if err := b.Stop(60 * time.Second); errors.Is(err, harness.ErrKilled) {
		return err
	}
	return nil
}

// stop ends the whole cluster. The logs it leaves behind are of no use to
// anyone, so nobody waits for a proper handover.
func (c *cluster) stop() {
	c.admin.Close()
	for _, b := range c.brokers {
		if b.Process != nil {
			b.Kill()
		}
	}
}

// createTopic makes a topic through the internal listener and waits until all
// brokers know it.
func (c *cluster) createTopic(ctx context.Context, topic string, partitions int32, replicas int16) error {
	created, err := c.admin.CreateTopic(ctx, partitions, replicas, nil, topic)
	if err = errors.Join(err, created.Err); err != nil {
		return fmt.Errorf("creating topic %s: %w", topic, err)
	}
	return c.whole(ctx)
}

func (c *cluster) deleteTopic(ctx context.Context, topic string) error {
	_, err := c.admin.DeleteTopic(ctx, topic)
	return err
}

// leaders tells who leads each partition of a topic.
func (c *cluster) leaders(ctx context.Context, topic string) (map[int32]int32, error) {
	metadata, err := c.admin.Metadata(ctx, topic)
	if err != nil {
		return nil, err
	}
	leaders := map[int32]int32{}
	for _, partition := range metadata.Topics[topic].Partitions {
		leaders[partition.Partition] = partition.Leader
	}
	return leaders, nil
}
