package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafka-sni-proxy/internal/kafkatest"
)

func newClient(t testing.TB, d *kafkatest.Dialer, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers("bootstrap." + suffix + ":9092"),
		kgo.Dialer(d.DialContext),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestClientsProduceAndConsumeAndNeverSeeABroker(t *testing.T) {
	cluster := kafkatest.Start(t, kafkatest.Options{Topics: map[string]int32{"t": 6}})
	r := start(t, cluster, cluster.Bootstrap(), nil)
	d := r.dialer()
	ctx := testContext(t)

	producer := newClient(t, d, kgo.DefaultProduceTopic("t"))
	const n = 1000
	for i := range n {
		producer.Produce(ctx, kgo.StringRecord(fmt.Sprint(i)), func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("produce: %v", err)
			}
		})
	}
	if err := producer.Flush(ctx); err != nil {
		t.Fatal(err)
	}

	consumer := newClient(t, d, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	readOnce(ctx, t, consumer, n)
	if err := d.Err(); err != nil {
		t.Error(err)
	}
	// Which of them depends on where the records went.
	own := func(name string) bool {
		return strings.HasPrefix(name, "b") && strings.HasSuffix(name, ".kafka.example:9092") && len(name) == len("b0.kafka.example:9092")
	}
	if asked := d.Asked(); !slices.ContainsFunc(asked, own) {
		t.Errorf("the client asked for %v: want the brokers by their own names", asked)
	}
	st := r.Stats()
	if st.Clusters["kafka"].Brokers != 3 || st.Requests == 0 || st.Rewritten == 0 || st.RequestBytes == 0 || st.ResponseBytes == 0 {
		t.Errorf("Stats = %+v", st)
	}
}

// TestManyConnectionsAtOnce is the load that must be clean under the race
// detector: 200 clients that produce and consume together.
func TestManyConnectionsAtOnce(t *testing.T) {
	cluster := kafkatest.Start(t, kafkatest.Options{Topics: map[string]int32{"t": 3}})
	r := start(t, cluster, cluster.Bootstrap(), nil)
	d := r.dialer()
	ctx := testContext(t)
	const clients, records = 100, 10 // each client has a connection to bootstrap and to brokers

	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			c := newClient(t, d, kgo.DefaultProduceTopic("t"), kgo.RecordPartitioner(kgo.ManualPartitioner()),
				kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"t": {int32(i % 3): kgo.NewOffset().AtStart()}}))
			value := strings.Repeat(fmt.Sprintf("%04d", i), 250)
			for range records {
				if err := c.ProduceSync(ctx, &kgo.Record{Partition: int32(i % 3), Value: []byte(value)}).FirstErr(); err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
			}
			for mine := 0; mine < records; {
				f := c.PollFetches(ctx)
				if err := f.Err(); err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				f.EachRecord(func(r *kgo.Record) {
					if string(r.Value) == value {
						mine++
					}
				})
			}
		})
	}
	wg.Wait()
	if err := d.Err(); err != nil {
		t.Error(err)
	}
	if st := r.Stats(); st.Accepted < 200 {
		t.Errorf("%d connections: want 200 at the least", st.Accepted)
	}
}

// TestProducersSurviveABrokerThatIsDown has a broker refuse while metadata
// still lists it. A client must see that as it would without the proxy: as a
// broker to try again, not as one that speaks something else.
func TestProducersSurviveABrokerThatIsDown(t *testing.T) {
	cluster := kafkatest.Start(t, kafkatest.Options{Topics: map[string]int32{"t": 1}})
	if err := cluster.Kafka.MoveTopicPartition("t", 0, 1); err != nil {
		t.Fatal(err)
	}
	r := start(t, cluster, cluster.Bootstrap(), nil)
	cluster.Refuse(1, true)
	ctx := testContext(t)
	const clients = 10
	errs := make(chan error, clients)
	for range clients {
		c := newClient(t, r.dialer(), kgo.MetadataMinAge(50*time.Millisecond))
		c.Produce(ctx, &kgo.Record{Topic: "t", Value: []byte("x")}, func(_ *kgo.Record, err error) { errs <- err })
	}
	for r.Stats().Failures["dial"] < 3*clients { // each has tried more than once
		if ctx.Err() != nil {
			t.Fatal("clients do not try again")
		}
		time.Sleep(time.Millisecond)
	}
	cluster.Refuse(1, false)
	for range clients {
		if err := <-errs; err != nil {
			t.Errorf("produce: %v", err)
		}
	}
}

// readOnce reads n records that differ, and fails if one of them comes again.
func readOnce(ctx context.Context, t *testing.T, consumer *kgo.Client, n int) {
	t.Helper()
	seen := map[string]int{}
	for len(seen) < n {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++ })
	}
	for v, times := range seen {
		if times != 1 {
			t.Errorf("record %s read %d times", v, times)
		}
	}
}
