// Package kafkatest is what the proxy is tried against: a Kafka cluster behind
// TLS whose brokers go by names that only the proxy can resolve, connections
// that misbehave, and a scanner that reads everything a client is given and
// objects when a broker's real name is in it.
//
// The usual shape of a test:
//
//	cluster := kafkatest.Start(t, kafkatest.Options{})
//	ca := kafkatest.NewAuthority("downstream")
//	p := &proxy.Proxy{
//		Downstream: ca.ServerConfig("kafka.example"),
//		Upstream:   cluster.ClientConfig(),
//		Dial:       cluster.Dial,
//		…
//	}
//	dialer := &kafkatest.Dialer{Suffix: "kafka.example", Proxy: ln.Addr().String(),
//		TLS: ca.ClientConfig(), Scanner: cluster.Scanner()}
//	client, err := kgo.NewClient(kgo.SeedBrokers("bootstrap.kafka.example:9092"),
//		kgo.Dialer(dialer.DialContext))
//
// The cluster is franz-go's kfake: a broker in memory which speaks the real
// protocol. It trusts its clients: a request with an unknown API key or a
// length nobody sent makes it panic or allocate, so that tests which send
// garbage use a [Broker] instead, whose answers the test writes itself.
//
// Everything here is for tests and the demo. Keys and certificates live in
// memory and die with the process.
package kafkatest

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"math"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Domain is where the brokers of a cluster live unless the options say
// otherwise. The top-level domain "test" is reserved and never resolves
// (RFC 6761), so a client that is told such a name cannot get anywhere.
const Domain = "upstream.test"

// Options shape a cluster. The zero value is three brokers behind TLS without
// client certificates and without SASL.
type Options struct {
	// Brokers is how many brokers there are; 0 means 3. Their node ids count
	// from 0.
	Brokers int
	// Domain is what the brokers' names end in; "" means [Domain].
	Domain string
	// Ports are the loopback ports to listen on, one for each broker, 0 for any
	// free one. When they are given, brokers advertise the port they really
	// listen on, so that something that only knows addresses for hosts (a
	// hosts file) can reach them. When they are not, brokers listen
	// anywhere and advertise 9092, 9093, …, and only [Cluster.Dial] finds them.
	Ports []int
	// Topics are created with this many partitions each.
	Topics map[string]int32
	// CreateTopics has a topic created when a client first asks for it by name,
	// as a broker with auto.create.topics.enable does, and does it for clients too
	// that ask not to (allow_auto_topic_creation in Metadata). Topics that are
	// misspelled come into being as well.
	CreateTopics bool
	// SASL, when not empty, makes brokers ask for one of these.
	SASL []Credential
	// TLS, when not nil, changes the configuration of every broker before it
	// is used: client certificates, versions, a certificate for a wrong name.
	TLS func(node int32, config *tls.Config)
	// Wrap, when not nil, goes under the TLS of every accepted connection:
	// the place for a connection that misbehaves.
	Wrap func(node int32, conn net.Conn) net.Conn
	// Kafka is passed on to kfake.
	Kafka []kfake.Opt
}

// Credential is a user that brokers know.
type Credential struct {
	Mechanism string // PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
	User      string
	Password  string
}

// Cluster is a running cluster.
type Cluster struct {
	// Kafka is the cluster behind the listeners. Partitions are moved, requests
	// are observed and answers are changed there.
	Kafka *kfake.Cluster
	// Authority signed the brokers' certificates.
	Authority *Authority

	opts Options

	mu      sync.Mutex
	next    int32 // the node that kfake is opening a listener for
	nodes   map[int32]*node
	changed chan struct{} // closed and replaced when a connection comes or goes
}

// node is one broker's place on the network. It outlives the broker: a
// restarted one gets the same node back.
type node struct {
	id     int32
	host   string
	port   int32
	listen int          // the loopback port to ask for
	ln     net.Listener // nil while the broker is stopped
	open   map[*conn]struct{}
	opened int
	refuse bool
	wrong  []string // server names asked for that are not ours
}

// Start starts a cluster that ends with the test.
func Start(tb testing.TB, opts Options) *Cluster {
	tb.Helper()
	c, err := NewCluster(opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

// NewCluster starts a cluster. The caller closes it.
func NewCluster(opts Options) (*Cluster, error) {
	opts.Brokers = cmp.Or(opts.Brokers, 3)
	opts.Domain = cmp.Or(opts.Domain, Domain)
	if opts.Ports != nil && len(opts.Ports) != opts.Brokers {
		return nil, fmt.Errorf("kafkatest: %d ports for %d brokers", len(opts.Ports), opts.Brokers)
	}
	c := &Cluster{
		Authority: NewAuthority("upstream"),
		opts:      opts,
		nodes:     make(map[int32]*node),
		changed:   make(chan struct{}),
	}
	for i := range int32(opts.Brokers) {
		n := &node{
			id:   i,
			host: fmt.Sprintf("broker-%d.%s", i, opts.Domain),
			port: 9092 + i,
			open: make(map[*conn]struct{}),
		}
		if opts.Ports != nil {
			n.listen = opts.Ports[i]
		}
		c.nodes[i] = n
	}

	kopts := []kfake.Opt{
		kfake.NumBrokers(opts.Brokers),
		kfake.ListenFn(c.listen),
	}
	if opts.CreateTopics {
		kopts = append(kopts, kfake.AllowAutoTopicCreation())
	}
	for topic, partitions := range opts.Topics {
		kopts = append(kopts, kfake.SeedTopics(partitions, topic))
	}
	if len(opts.SASL) > 0 {
		kopts = append(kopts, kfake.EnableSASL())
	}
	for _, s := range opts.SASL {
		kopts = append(kopts, kfake.Superuser(s.Mechanism, s.User, s.Password))
	}
	kafka, err := kfake.NewCluster(append(kopts, opts.Kafka...)...)
	if err != nil {
		return nil, fmt.Errorf("kafkatest: starting the cluster: %w", err)
	}
	c.Kafka = kafka
	kafka.ControlKey(int16(kmsg.OffsetForLeaderEpoch), c.nothingTruncated)
	if opts.CreateTopics {
		kafka.ControlKey(int16(kmsg.Metadata), c.createTopics)
	}
	return c, nil
}

// createTopics has kfake create the topics that a Metadata request names. Up to
// version 3 a request cannot say whether it wants that, and brokers create; kfake
// takes it for a no.
func (c *Cluster) createTopics(request kmsg.Request) (kmsg.Response, error, bool) {
	c.Kafka.KeepControl()
	asked := request.(*kmsg.MetadataRequest)
	asked.AllowAutoTopicCreation = !slices.ContainsFunc(asked.Topics, func(t kmsg.MetadataRequestTopic) bool {
		return t.Topic != nil && !legalTopic.MatchString(*t.Topic)
	})
	return nil, nil, false
}

// legalTopic is what Kafka allows as a topic's name, but for "." and "..", which
// kfake would not mind.
var legalTopic = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// nothingTruncated answers consumers that ask, after a leader has moved, where
// the epoch they have read from ended. Kfake says "unknown" until something has
// been written under the new leader, which sends consumers back to the start;
// but it never truncates a log either, so that no consumer has read too far.
func (c *Cluster) nothingTruncated(request kmsg.Request) (kmsg.Response, error, bool) {
	c.Kafka.KeepControl()
	asked := request.(*kmsg.OffsetForLeaderEpochRequest)
	answer := asked.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
	for _, t := range asked.Topics {
		topic := kmsg.NewOffsetForLeaderEpochResponseTopic()
		topic.Topic = t.Topic
		for _, p := range t.Partitions {
			partition := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			partition.Partition = p.Partition
			partition.LeaderEpoch = p.LeaderEpoch
			partition.EndOffset = math.MaxInt64
			topic.Partitions = append(topic.Partitions, partition)
		}
		answer.Topics = append(answer.Topics, topic)
	}
	return answer, nil, true
}

// Close stops every broker and cuts every connection.
func (c *Cluster) Close() {
	c.Kafka.Close()
	for id := range c.nodes {
		c.cut(id)
	}
}

// Bootstrap returns the address of broker 0.
func (c *Cluster) Bootstrap() string { return c.Addr(0) }

// Addr returns "host:port" as the broker advertises it.
func (c *Cluster) Addr(id int32) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[id].addr()
}

// Host returns the name that the broker advertises.
func (c *Cluster) Host(id int32) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[id].host
}

// ClientConfig returns a TLS configuration which trusts the brokers. The server
// name is for the caller to set, as the proxy does for each dial.
func (c *Cluster) ClientConfig() *tls.Config { return c.Authority.ClientConfig() }

// Scanner returns a scanner for the domain that the brokers live in.
func (c *Cluster) Scanner() *Scanner { return NewScanner(c.opts.Domain) }

// Dial connects to the broker that advertises host and port, as if DNS knew
// the name. It has the shape of proxy.Proxy.Dial. Unknown names are not found;
// stopped brokers refuse.
func (c *Cluster) Dial(ctx context.Context, host string, port int32) (net.Conn, error) {
	addr, err := c.resolve(host, port)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

// DialTLS is for a kgo.Dialer of a client that knows the cluster's names and
// goes around the proxy: what one behind the proxy is compared with. A nil
// config means [Cluster.ClientConfig].
func (c *Cluster) DialTLS(config *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	if config == nil {
		config = c.ClientConfig()
	}
	return func(ctx context.Context, _, addr string) (net.Conn, error) {
		host, port, err := splitHostPort(addr)
		if err != nil {
			return nil, err
		}
		conn, err := c.Dial(ctx, host, port)
		if err != nil {
			return nil, err
		}
		return handshake(ctx, conn, host, config)
	}
}

func (c *Cluster) resolve(host string, port int32) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := false
	for _, n := range c.nodes {
		if !strings.EqualFold(n.host, host) {
			continue
		}
		known = true
		if n.port == port && n.ln != nil && !n.refuse {
			return n.ln.Addr().String(), nil
		}
	}
	if !known {
		return "", &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}}
	}
	// Not left to the kernel: the port may belong to another process by now.
	return "", &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("%s:%d: %w", host, port, syscall.ECONNREFUSED)}
}

// listen opens the listener of the next broker. Kfake asks for them one after
// the other, in the order of node ids, and once for each broker that is added
// later. What kfake advertises is what the listener says its address is: that
// is how brokers come to their names.
func (c *Cluster) listen(network, _ string) (net.Listener, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nodes[c.next]
	if n == nil {
		return nil, fmt.Errorf("kafkatest: the cluster has no broker %d", c.next)
	}
	c.next++
	ln, err := net.Listen(network, net.JoinHostPort("127.0.0.1", strconv.Itoa(n.listen)))
	if err != nil {
		return nil, err
	}
	if c.opts.Ports != nil {
		n.listen = ln.Addr().(*net.TCPAddr).Port // a restart comes back here
		n.port = int32(n.listen)
	}
	n.ln = ln
	return &listener{Listener: ln, cluster: c, node: n, addr: advertised(n.addr()), config: c.brokerConfig(n)}, nil
}

// brokerConfig is the TLS of one broker. Its certificate is for its own name
// alone, and it refuses clients that ask for another: a proxy that mixes up two
// brokers is found out by the handshake.
func (c *Cluster) brokerConfig(n *node) *tls.Config {
	host := n.host
	config := &tls.Config{
		Certificates: []tls.Certificate{c.Authority.Server(host)},
		MinVersion:   tls.VersionTLS12,
	}
	if c.opts.TLS != nil {
		c.opts.TLS(n.id, config)
	}
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if strings.EqualFold(hello.ServerName, host) {
			return nil, nil
		}
		c.mu.Lock()
		n.wrong = append(n.wrong, hello.ServerName)
		c.mu.Unlock()
		return nil, fmt.Errorf("kafkatest: %s was asked for as %q", host, hello.ServerName)
	}
	return config
}

func (n *node) addr() string { return net.JoinHostPort(n.host, strconv.Itoa(int(n.port))) }

// handshake returns conn as the client's side of a TLS connection with host.
func handshake(ctx context.Context, conn net.Conn, host string, config *tls.Config) (net.Conn, error) {
	config = config.Clone()
	config.ServerName = host
	client := tls.Client(conn, config)
	if err := client.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS handshake with %s: %w", host, err)
	}
	return client, nil
}

func splitHostPort(addr string) (string, int32, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("kafkatest: %w", err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("kafkatest: %q: port is not a number", addr)
	}
	return host, int32(n), nil
}
