package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/kafkatest"
	"kafka-sni-proxy/internal/route"
)

// twoClusters are two clusters with the same node ids and topic.
type twoClusters struct {
	a, b  *kafkatest.Cluster
	aDown atomic.Bool
}

func startTwoClusters(t *testing.T) *twoClusters {
	topics := map[string]int32{"t": 3}
	return &twoClusters{
		a: kafkatest.Start(t, kafkatest.Options{Domain: "a.test", Topics: topics, Kafka: []kfake.Opt{kfake.ClusterID("cluster-a")}}),
		b: kafkatest.Start(t, kafkatest.Options{Domain: "b.test", Topics: topics, Kafka: []kfake.Opt{kfake.ClusterID("cluster-b")}}),
	}
}

func (c *twoClusters) Dial(ctx context.Context, host string, port int32) (net.Conn, error) {
	if strings.HasSuffix(host, ".b.test") {
		return c.b.Dial(ctx, host, port)
	}
	if c.aDown.Load() {
		return nil, errors.New("cluster a is down")
	}
	return c.a.Dial(ctx, host, port)
}

func (c *twoClusters) ClientConfig() *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.a.Authority.PEM())
	pool.AppendCertsFromPEM(c.b.Authority.PEM())
	return &tls.Config{RootCAs: pool}
}

func (c *twoClusters) bootstrap() string {
	first := func(list string) string { s, _, _ := strings.Cut(list, ","); return s }
	return first(c.a.Bootstrap()) + "," + first(c.b.Bootstrap())
}

// TestRecordsNeverGoToAnotherCluster has the second upstream belong to another cluster
// with the same node ids and topic. While the first one is down, a client may not get
// anywhere; a record that is acknowledged is in cluster a.
func TestRecordsNeverGoToAnotherCluster(t *testing.T) {
	both := startTwoClusters(t)
	r := start(t, both, both.bootstrap(), nil)
	ctx := testContext(t)
	first := newClient(t, r.dialer(), kgo.DefaultProduceTopic("t"))
	if err := first.ProduceSync(ctx, kgo.StringRecord("before")).FirstErr(); err != nil {
		t.Fatal(err)
	}

	both.aDown.Store(true)
	second := newClient(t, r.dialer(), kgo.DefaultProduceTopic("t"), kgo.MetadataMinAge(20*time.Millisecond))
	produced := make(chan error, 1)
	second.Produce(ctx, kgo.StringRecord("after"), func(_ *kgo.Record, err error) { produced <- err })
	r.log.wait(t, "level=WARN", "phase=cluster", "belongs to another cluster", "cluster-b", "cluster-a", "hint=")
	r.log.wait(t, "level=ERROR", "leads to another cluster", "b.test")
	for _, e := range r.Routes.Entries() {
		if !strings.HasSuffix(e.Address.Host, ".a.test") {
			t.Errorf("%s leads to %s", e.Name, e.Address)
		}
	}
	var other *cluster.OtherClusterError
	if err := r.cluster.Check(ctx); !errors.As(err, &other) {
		t.Errorf("Check: %v, want that the only upstream left is another cluster", err)
	}

	both.aDown.Store(false)
	if err := <-produced; err != nil {
		t.Errorf("after cluster a is back: %v", err)
	}
	if st := r.Stats(); st.Failures["cluster"] == 0 || st.Clusters["kafka"].OtherClusterAddresses != 1 {
		t.Errorf("%d failures in phase cluster, %d addresses of others", st.Failures["cluster"], st.Clusters["kafka"].OtherClusterAddresses)
	}
	for _, where := range []struct {
		cluster *kafkatest.Cluster
		want    int
	}{{both.a, 2}, {both.b, 0}} {
		if got := records(ctx, t, where.cluster); got != where.want {
			t.Errorf("%d records in %s, want %d", got, where.cluster.Bootstrap(), where.want)
		}
	}
}

// records returns how many records there are in the topic t of a cluster.
func records(ctx context.Context, t *testing.T, c *kafkatest.Cluster) (n int) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(c.Bootstrap(), ",")...), kgo.Dialer(func(ctx context.Context, _, addr string) (net.Conn, error) {
		a, err := route.ParseAddress(addr)
		if err != nil {
			return nil, err
		}
		socket, err := c.Dial(ctx, a.Host, a.Port)
		if err != nil {
			return nil, err
		}
		config := c.ClientConfig()
		config.ServerName = a.Host
		return tls.Client(socket, config), nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, "t")
	if err != nil {
		t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) { n += int(o.Offset) })
	return n
}

// TestProxyThatIsItsOwnUpstreamIsRefused has the upstream's name lead back to the proxy.
func TestProxyThatIsItsOwnUpstreamIsRefused(t *testing.T) {
	b := echoBroker(t)
	var loop atomic.Pointer[string]
	var leaf atomic.Pointer[x509.Certificate]
	r := start(t, b, "bootstrap.kafka.example:9092", func(p *settings, _ *route.Config) {
		p.Dial = func(ctx context.Context, _ string, _ int32) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", *loop.Load())
		}
		own, err := x509.ParseCertificate(p.Downstream.Certificates[0].Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		leaf.Store(own)
		p.IsSelf = func(c *x509.Certificate) bool { return c.Equal(leaf.Load()) }
	})
	loop.Store(&r.addr)
	r.setCluster(r.cluster.With(r.ca.ClientConfig())) // which trusts the proxy's own authority
	for range 3 {
		mustEnd(t, r.dial(t, "bootstrap."+suffix))
	}
	r.log.wait(t, "level=WARN", "phase=upstream-tls", "is this proxy itself", "hint=")
	var itself *cluster.LoopError
	if err := r.cluster.Check(t.Context()); !errors.As(err, &itself) {
		t.Errorf("Check: %v, want that it leads to the proxy itself", err)
	}
	waitStats(t, r.Server, "nothing goes on in a circle", func(s Stats) bool { return s.Active == 0 })
	if n := r.Stats().Accepted; n > 3+3+1+3 { // clients, a connection of the proxy for each, Check, queries
		t.Errorf("%d connections for 3 clients", n)
	}
}
