package kafkatest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// direct returns a client that knows the cluster's own names.
func direct(t *testing.T, c *Cluster, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(c.Bootstrap()),
		kgo.Dialer(c.DialTLS(nil)),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func TestEveryAnswerAdvertisesTheUpstreamNames(t *testing.T) {
	ctx := deadline(t)
	c := Start(t, Options{})
	client := direct(t, c)

	want := []string{"broker-0.upstream.test:9092", "broker-1.upstream.test:9093", "broker-2.upstream.test:9094"}
	metadata, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range metadata.Brokers {
		got = append(got, fmt.Sprintf("%s:%d", b.Host, b.Port))
	}
	if !slices.Equal(got, want) {
		t.Errorf("metadata lists %v, want %v", got, want)
	}

	cluster, err := kmsg.NewPtrDescribeClusterRequest().RequestWith(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	got = nil
	for _, b := range cluster.Brokers {
		got = append(got, fmt.Sprintf("%s:%d", b.Host, b.Port))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the described cluster has %v, want %v", got, want)
	}

	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKeys = []string{"group"}
	found, err := find.RequestWith(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	if at := fmt.Sprintf("%s:%d", found.Coordinators[0].Host, found.Coordinators[0].Port); !slices.Contains(want, at) {
		t.Errorf("the coordinator is at %s", at)
	}
}

func TestRecordsComeBackFromEveryBroker(t *testing.T) {
	ctx := deadline(t)
	c := Start(t, Options{Topics: map[string]int32{"records": 6}})
	for p := range int32(6) {
		if err := c.Kafka.MoveTopicPartition("records", p, p%3); err != nil {
			t.Fatal(err)
		}
	}
	client := direct(t, c, kgo.ConsumeTopics("records"), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for p := range int32(6) {
		r := &kgo.Record{Topic: "records", Partition: p, Value: fmt.Append(nil, "value ", p)}
		if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for len(got) < 6 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	slices.Sort(got)
	if strings.Join(got, ",") != "value 0,value 1,value 2,value 3,value 4,value 5" {
		t.Errorf("got %v", got)
	}
	for id := range int32(3) {
		if c.Opened(id) == 0 {
			t.Errorf("broker %d was never connected to", id)
		}
	}
}

func TestBrokersGoComeAndMove(t *testing.T) {
	ctx := deadline(t)
	c := Start(t, Options{Topics: map[string]int32{"t": 3}})
	client := direct(t, c)
	hosts := func() (hosts []string) {
		t.Helper()
		metadata, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, client)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range metadata.Brokers {
			hosts = append(hosts, b.Host)
		}
		return hosts
	}
	open, err := c.DialTLS(nil)(ctx, "tcp", c.Addr(1))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	was := c.Addr(1)

	if err := c.StopBroker(1); err != nil {
		t.Fatal(err)
	}
	if _, err := open.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a connection to the stopped broker ended with %v, want a reset", err)
	}
	if err := c.WaitConnections(ctx, 1, 0); err != nil {
		t.Error(err)
	}
	if _, err := c.Dial(ctx, c.Host(1), 9093); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dialing the stopped broker: %v, want refused", err)
	}
	if got := hosts(); slices.Contains(got, c.Host(1)) {
		t.Errorf("metadata still lists the stopped broker: %v", got)
	}

	if err := c.StartBroker(1); err != nil {
		t.Fatal(err)
	}
	if got := c.Addr(1); got != was {
		t.Errorf("the broker came back as %s, was %s", got, was)
	}
	if got := hosts(); !slices.Contains(got, c.Host(1)) {
		t.Errorf("metadata does not list the broker that came back: %v", got)
	}

	if err := c.StopBroker(1); err != nil {
		t.Fatal(err)
	}
	if err := c.StartBrokerAt(1, "moved.upstream.test", 19092); err != nil {
		t.Fatal(err)
	}
	if got := hosts(); !slices.Contains(got, "moved.upstream.test") {
		t.Errorf("metadata does not list the broker that moved: %v", got)
	}
	moved, err := c.DialTLS(nil)(ctx, "tcp", "moved.upstream.test:19092")
	if err != nil {
		t.Fatal(err)
	}
	moved.Close()
	var dns *net.DNSError
	if _, err := c.Dial(ctx, "broker-1.upstream.test", 9093); !errors.As(err, &dns) {
		t.Errorf("dialing the old name: %v, want not found", err)
	}
}

func TestRefusingBrokerStaysInMetadata(t *testing.T) {
	ctx := deadline(t)
	c := Start(t, Options{})
	c.Refuse(1, true)
	if _, err := c.Dial(ctx, c.Host(1), 9093); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dialing: %v, want refused", err)
	}
	metadata, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, direct(t, c))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(metadata.Brokers); n != 3 {
		t.Errorf("metadata lists %d brokers, want 3", n)
	}
	c.Refuse(1, false)
	conn, err := c.Dial(ctx, c.Host(1), 9093)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestPortsGivenAreAdvertised(t *testing.T) {
	c := Start(t, Options{Brokers: 2, Ports: []int{0, 0}})
	for id := range int32(2) {
		host, port, err := splitHostPort(c.Addr(id))
		if err != nil {
			t.Fatal(err)
		}
		real, err := c.resolve(host, port)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("127.0.0.1:%d", port); real != want {
			t.Errorf("broker %d advertises port %d and listens on %s", id, port, real)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	taken := ln.Addr().(*net.TCPAddr).Port
	if _, err := NewCluster(Options{Brokers: 2, Ports: []int{0, taken}}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("on a port that is taken: %v", err)
	}
}

func TestHandshakeForAnotherBrokersNameIsRefused(t *testing.T) {
	ctx := deadline(t)
	c := Start(t, Options{})
	conn, err := c.Dial(ctx, c.Host(1), 9093)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	config := c.ClientConfig()
	config.ServerName = c.Host(2)
	if err := tls.Client(conn, config).HandshakeContext(ctx); err == nil {
		t.Fatal("broker 1 answered to the name of broker 2")
	}
	if got := c.WrongNames(1); !slices.Equal(got, []string{c.Host(2)}) {
		t.Errorf("wrong names: %v", got)
	}
}

func TestWhatBrokersAskOfClients(t *testing.T) {
	clients := NewAuthority("clients")
	wantsCert := Options{TLS: func(_ int32, config *tls.Config) {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, clients.Pool()
	}}
	wrongName := Options{TLS: func(_ int32, config *tls.Config) {
		config.Certificates = []tls.Certificate{NewAuthority("x").Server("other.test")}
	}}
	user := kgo.SASL(scram.Auth{User: "user", Pass: "secret"}.AsSha256Mechanism())
	wantsUser := Options{SASL: []Credential{{Mechanism: "SCRAM-SHA-256", User: "user", Password: "secret"}}}
	for _, c := range []struct {
		name   string
		server Options
		client func(*Cluster) *tls.Config
		opts   []kgo.Opt
		works  bool
	}{
		{"client certificate", wantsCert,
			func(c *Cluster) *tls.Config { return c.Authority.ClientConfig(clients.Client("me")) }, nil, true},
		{"client certificate missing", wantsCert, (*Cluster).ClientConfig, nil, false},
		{"client certificate of a stranger", wantsCert,
			func(c *Cluster) *tls.Config { return c.Authority.ClientConfig(NewAuthority("x").Client("me")) }, nil, false},
		{"unknown authority", Options{},
			func(*Cluster) *tls.Config { return NewAuthority("x").ClientConfig() }, nil, false},
		{"certificate for another name", wrongName, (*Cluster).ClientConfig, nil, false},
		{"user", wantsUser, (*Cluster).ClientConfig, []kgo.Opt{user}, true},
		{"user missing", wantsUser, (*Cluster).ClientConfig, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster := Start(t, c.server)
			client := direct(t, cluster, append(c.opts, kgo.Dialer(cluster.DialTLS(c.client(cluster))),
				kgo.RequestRetries(0), kgo.RetryTimeout(5*time.Second))...)
			err := client.Ping(deadline(t))
			if (err == nil) != c.works {
				t.Errorf("ping: %v", err)
			}
		})
	}
}

func TestScannerSeesWhatAClusterWithoutAProxyLeaks(t *testing.T) {
	ctx := deadline(t)
	c := Start(t, Options{})
	conn, err := c.DialTLS(nil)(ctx, "tcp", c.Bootstrap())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	scanned := c.Scanner().Conn(Dribble(conn, 1), "b0")
	request := kmsg.NewRequestFormatter().AppendRequest(nil, kmsg.NewPtrMetadataRequest(), 1)
	if _, err := scanned.Write(request); err != nil {
		t.Fatal(err)
	}
	_, err = ReadFrame(scanned)
	var leak *Leak
	if !errors.As(err, &leak) {
		t.Fatalf("reading metadata: %v, want a leak", err)
	}
	t.Log(leak)
}

func TestDialerLeadsEveryNameUnderTheSuffixToTheProxy(t *testing.T) {
	ctx := deadline(t)
	ca := NewAuthority("downstream")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	asked := make(chan string, 1)
	config := ca.ServerConfig("kafka.example")
	go func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			conn := tls.Server(raw, config)
			if conn.HandshakeContext(ctx) == nil {
				asked <- conn.ConnectionState().ServerName
				io.Copy(conn, conn)
			}
			conn.Close()
		}
	}()

	d := &Dialer{Suffix: "kafka.example", Proxy: ln.Addr().String(), TLS: ca.ClientConfig(), Scanner: NewScanner("upstream.test")}
	conn, err := d.DialContext(ctx, "tcp", "b7.kafka.example:9092")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := <-asked; got != "b7.kafka.example" {
		t.Errorf("asked for %q", got)
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if read, written := d.Bytes(); read != 5 || written != 5 {
		t.Errorf("%d bytes read, %d written, want 5 and 5", read, written)
	}
	if err := d.Err(); err != nil {
		t.Errorf("before anything went wrong: %v", err)
	}

	if _, err := d.DialContext(ctx, "tcp", "broker-0.upstream.test:9092"); err == nil {
		t.Error("dialed a name outside the suffix")
	}
	if err := d.Err(); err == nil || !strings.Contains(err.Error(), "broker-0.upstream.test:9092") {
		t.Errorf("after a dial to an upstream name: %v", err)
	}
	if got := d.Asked(); !slices.Equal(got, []string{"b7.kafka.example:9092", "broker-0.upstream.test:9092"}) {
		t.Errorf("asked: %v", got)
	}
}

// answered receives a key for every answer that a client has read.
type answered chan int16

func (a answered) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	select {
	case a <- key:
	default: // nobody waits for so many
	}
}

func TestConsumersKeepTheirPlaceWhenLeadersMove(t *testing.T) {
	ctx := deadline(t)
	answers := make(answered, 1000)
	c := Start(t, Options{Topics: map[string]int32{"t": 1}})
	client := direct(t, c, kgo.ConsumeTopics("t"), kgo.DefaultProduceTopic("t"), kgo.WithHooks(answers),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for want := range int64(4) {
		if err := client.ProduceSync(ctx, kgo.StringRecord("value")).FirstErr(); err != nil {
			t.Fatal(err)
		}
		var got *kgo.Record
		for got == nil {
			fetches := client.PollFetches(ctx)
			if err := fetches.Err(); err != nil {
				t.Fatal(err)
			}
			fetches.EachRecord(func(r *kgo.Record) { got = r })
		}
		if got.Offset != want {
			t.Fatalf("got record %d, want %d", got.Offset, want)
		}
		// Nothing is written under the new leader's epoch before the consumer
		// has asked where the old one ended.
		if err := c.Kafka.MoveTopicPartition("t", 0, int32(want+1)%3); err != nil {
			t.Fatal(err)
		}
		client.ForceMetadataRefresh()
		for key := int16(-1); key != int16(kmsg.OffsetForLeaderEpoch); {
			select {
			case key = <-answers:
			case <-ctx.Done():
				t.Fatal("the consumer did not ask where the old leader's epoch ended")
			}
		}
	}
}
