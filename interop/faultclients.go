package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fault is a section of the document: something that is wrong, in one phase of a connection's
// life.
type fault struct {
	name string
	// clients are how many come at the same time, each again a second after it has left.
	clients int
	come    func(*faulty, context.Context) error
}

// faults are in the order of the document.
var faults = []fault{
	{"plaintext-client", 1, (*faulty).plaintextClient},
	{"untrusting-client", 4, (*faulty).untrustingClient},
	{"no-server-name", 1, (*faulty).noServerName},
	{"unknown-server-name", 1, asks("order")},
	{"broker-down", 1, asks("down")},
	{"wrong-ca", 1, asks("wrong-ca")},
	{"other-cluster", 1, asks("moved")},
	{"refused-version", 1, (*faulty).refusedVersion},
	{"certificate-wanted", 1, asks("wants-certificate")},
	{"no-port-for-a-broker", 1, (*faulty).noPort},
	{"connection-limit", 2, (*faulty).stays}, // of which one may
	{"slow-broker", 4, (*faulty).asksOn},
	{"slow-client", 3, (*faulty).neverReads},
}

// slowness is for how long the slow broker takes for each response, once it does. Its bucket in
// the native histograms is from 1.41 s to 1.68 s.
const slowness = 1500 * time.Millisecond

// rawClient is a client that sends what it is told to, over a connection that there is.
type rawClient struct {
	net.Conn
	format      *kmsg.RequestFormatter
	correlation int32
	stop        func() bool
}

// newRawClient takes a connection over, which ends with the context.
func newRawClient(ctx context.Context, conn net.Conn, id string) *rawClient {
	return &rawClient{Conn: conn, format: kmsg.NewRequestFormatter(kmsg.FormatterClientID(id)), stop: context.AfterFunc(ctx, func() { conn.Close() })}
}

func (c *rawClient) Close() error {
	c.stop()
	return c.Conn.Close()
}

func (c *rawClient) send(request kmsg.Request) error {
	c.correlation++
	_, err := c.Write(c.format.AppendRequest(nil, request, c.correlation))
	return err
}

// ask sends a request and waits for its response.
func (c *rawClient) ask(request kmsg.Request) error {
	if err := c.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		return err
	}
	if err := c.send(request); err != nil {
		return err
	}
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(size[:])))
	return err
}

// whoIsThere asks for the brokers, and for no topics.
func whoIsThere(version int16) *kmsg.MetadataRequest {
	m := kmsg.NewPtrMetadataRequest()
	m.SetVersion(version)
	m.Topics = []kmsg.MetadataRequestTopic{} // none; nil: all
	return m
}

const metadataVersion = 9

// dialTLS connects to the listener public. The client's id is what it asks for.
func (o *faulty) dialTLS(ctx context.Context, id string, config *tls.Config) (*rawClient, error) {
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", o.proxy.port))
	if err != nil {
		return nil, err
	}
	return newRawClient(ctx, conn, id), nil
}

// dial connects to a cluster as a client should.
func (o *faulty) dial(ctx context.Context, cluster string) (*rawClient, error) {
	return o.dialTLS(ctx, "client-of-"+cluster, &tls.Config{ServerName: cluster + "." + suffix, RootCAs: o.certs.pool})
}

// asks is a client of a cluster that asks once, and leaves.
func asks(cluster string) func(*faulty, context.Context) error {
	return func(o *faulty, ctx context.Context) error {
		c, err := o.dial(ctx, cluster)
		if err != nil {
			return err
		}
		defer c.Close()
		return c.ask(whoIsThere(metadataVersion))
	}
}

// asksOn is a client of the cluster slow, which stays.
func (o *faulty) asksOn(ctx context.Context) error {
	c, err := o.dial(ctx, "slow")
	if err != nil {
		return err
	}
	defer c.Close()
	for err == nil {
		err = c.ask(whoIsThere(metadataVersion))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return err
}

// stays is a client of the cluster small: it may have one.
func (o *faulty) stays(ctx context.Context) error {
	c, err := o.dial(ctx, "small")
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.ask(whoIsThere(metadataVersion)); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// neverReads is a consumer of the cluster unread that asks for more than fits into the buffers
// on the way, and reads none of it.
func (o *faulty) neverReads(ctx context.Context) error {
	c, err := o.dial(ctx, "unread")
	if err != nil {
		return err
	}
	defer c.Close()
	for range 16 {
		if err := c.send(o.fetchAll()); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// recordSize is that of the only record of the topic: less than a broker takes, and more than
// it would have to give.
const recordSize = 900 << 10

// fetchAll asks for the record.
func (o *faulty) fetchAll() *kmsg.FetchRequest {
	const version = 12 // the last one that names topics
	partition := kmsg.NewFetchRequestTopicPartition()
	partition.Partition, partition.PartitionMaxBytes = o.partition, 1<<20
	f := kmsg.NewPtrFetchRequest()
	f.SetVersion(version)
	f.MaxBytes = 1 << 20
	f.Topics = []kmsg.FetchRequestTopic{{Topic: faultsTopic, Partitions: []kmsg.FetchRequestTopicPartition{partition}}}
	return f
}

// faultsTopic is what the slow clients read.
const faultsTopic = "faults"

// writeTopic writes a long record where a broker can be asked for it.
func (o *faulty) writeTopic(ctx context.Context, leader int32) error {
	if err := o.cluster.createTopic(ctx, faultsTopic, 3, 3); err != nil {
		return err
	}
	leaders, err := o.cluster.leaders(ctx, faultsTopic)
	if err != nil {
		return err
	}
	led := false
	for partition, by := range leaders {
		if by == leader {
			o.partition, led = partition, true
		}
	}
	if !led {
		return fmt.Errorf("broker %d leads no partition of %s: %v", leader, faultsTopic, leaders)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(o.cluster.seeds()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return err
	}
	defer client.Close()
	return client.ProduceSync(ctx, &kgo.Record{Topic: faultsTopic, Partition: o.partition, Value: make([]byte, recordSize)}).FirstErr()
}

// plaintextClient speaks plaintext to a listener with TLS.
func (o *faulty) plaintextClient(ctx context.Context) error {
	return o.inPlaintext(ctx, o.proxy.port)
}

// noPort is told of brokers for which the listener ports has no port.
func (o *faulty) noPort(ctx context.Context) error { return o.inPlaintext(ctx, o.plain) }

func (o *faulty) inPlaintext(ctx context.Context, port int) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	c := newRawClient(ctx, conn, "plaintext-client")
	defer c.Close()
	return c.ask(whoIsThere(metadataVersion))
}

// untrustingClient trusts nobody.
func (o *faulty) untrustingClient(ctx context.Context) error {
	c, err := o.dialTLS(ctx, "untrusting", &tls.Config{ServerName: "orders." + suffix, RootCAs: x509.NewCertPool()})
	if err != nil {
		return err
	}
	return c.Close()
}

// noServerName sends no server name, as whoever connects by an address does.
func (o *faulty) noServerName(ctx context.Context) error {
	c, err := o.dialTLS(ctx, "nameless", &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	return c.Close()
}

// refusedVersion asks in a version that it was not offered.
func (o *faulty) refusedVersion(ctx context.Context) error {
	c, err := o.dial(ctx, "orders")
	if err != nil {
		return err
	}
	defer c.Close()
	return c.ask(whoIsThere(99))
}
