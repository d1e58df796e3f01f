package kafka

import (
	"fmt"
	"io"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kafka-sni-proxy/internal/route"
)

// readSize is how much the proxy reads at once, at the most.
const readSize = 128 << 10

// table returns the proxy's own names.
func table(t testing.TB) Names {
	r, err := route.New(route.Config{Suffix: "kafka.example", Upstreams: []route.Address{{Host: "b", Port: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	return func(node int32, host []byte, port int32) (string, int32, error) {
		return r.Learn(node, host, port), 9092, nil
	}
}

// cluster returns a Metadata response of a cluster as the clouds name theirs.
func cluster(brokers, partitions int) *message {
	r := &kmsg.MetadataResponse{Version: 13, ClusterID: kmsg.StringPtr("lkc-abcde")}
	rack := "use1-az4"
	for i := range brokers {
		r.Brokers = append(r.Brokers, kmsg.MetadataResponseBroker{NodeID: int32(i), Port: 9092, Rack: &rack,
			Host: fmt.Sprintf("b%d-pkc-abcde.us-east-1.aws.confluent.cloud", i)})
	}
	topic := "orders"
	for i := 0; i < partitions; i += 1000 {
		top := kmsg.MetadataResponseTopic{Topic: &topic}
		for p := range min(1000, partitions-i) {
			top.Partitions = append(top.Partitions, kmsg.MetadataResponseTopicPartition{Partition: int32(p), Leader: 1, Replicas: []int32{1, 2, 3}, ISR: []int32{1, 2, 3}})
		}
		r.Topics = append(r.Topics, top)
	}
	return &message{Response: r}
}

// fetched returns a Fetch response with so many bytes of records in each of so
// many partitions, and with endpoints.
func fetched(version int16, partitions, bytes, endpoints int) *message {
	r := &kmsg.FetchResponse{Version: version}
	top := kmsg.FetchResponseTopic{Topic: "orders"}
	for p := range partitions {
		top.Partitions = append(top.Partitions, kmsg.FetchResponseTopicPartition{Partition: int32(p), RecordBatches: make([]byte, bytes)})
	}
	r.Topics = []kmsg.FetchResponseTopic{top}
	for i := range endpoints {
		r.Brokers = append(r.Brokers, kmsg.FetchResponseBroker{NodeID: int32(i), Port: 9092,
			Host: fmt.Sprintf("b%d-pkc-abcde.us-east-1.aws.confluent.cloud", i)})
	}
	return &message{Response: r}
}

func produced(version int16) *message {
	return &message{Response: &kmsg.ProduceResponse{Version: version, Topics: []kmsg.ProduceResponseTopic{
		{Topic: "orders", Partitions: []kmsg.ProduceResponseTopicPartition{{Partition: 1, BaseOffset: 42}}}}}}
}

// replay forwards responses again and again.
type replay struct {
	r      Responses
	asked  []pending
	stream []byte
	piece  int
	most   int // bytes kept between two calls, at the most
}

func newReplay(t testing.TB, piece int, msgs ...*message) *replay {
	p := &replay{r: Responses{Out: io.Discard, InFlight: new(InFlight), Names: table(t)}, piece: piece}
	for _, m := range msgs {
		p.asked = append(p.asked, pending{key: m.Key(), version: m.GetVersion(), api: lookup(m.Key()), correlation: m.correlation})
		p.stream = append(p.stream, m.encode()...)
	}
	p.run(t) // routes are learned, buffers are there
	return p
}

func (p *replay) run(t testing.TB) {
	for _, a := range p.asked {
		p.r.InFlight.push(a)
	}
	for rest := p.stream; len(rest) > 0; {
		n := min(p.piece, len(rest))
		if err := p.r.Forward(rest[:n]); err != nil {
			t.Fatal(err)
		}
		p.most = max(p.most, cap(p.r.kept))
		rest = rest[n:]
	}
	if p.r.InFlight.Len() > 0 {
		t.Fatal("not all was answered")
	}
}

// repeat returns n times m.
func repeat(n int, m *message) (all []*message) {
	for range n {
		all = append(all, m)
	}
	return all
}

func TestForwardingAllocatesNothing(t *testing.T) {
	if underRace {
		t.Skip("under the race detector pools forget at random")
	}
	plain := &message{Response: kmsg.NewPtrHeartbeatResponse()}
	for name, tc := range map[string]struct {
		piece int
		msgs  []*message
		most  float64
	}{
		"no addresses in this API":           {readSize, repeat(20, plain), 0},
		"the same, in small pieces":          {7, repeat(20, plain), 0},
		"no addresses in this version":       {16 << 10, []*message{fetched(11, 4, 100_000, 0), produced(8), fetched(4, 1, 1000, 0)}, 0},
		"scanned, not rewritten":             {16 << 10, []*message{fetched(16, 4, 100_000, 0), fetched(12, 1, 50_000, 0)}, 0},
		"the same, in small pieces too":      {100, []*message{fetched(16, 4, 10_000, 0)}, 0},
		"kept whole, not rewritten":          {readSize, []*message{produced(13), fetched(18, 1, 20_000, 0), produced(10)}, 0},
		"the same, in small pieces as well":  {100, []*message{produced(13), fetched(18, 1, 20_000, 0), produced(10)}, 0},
		"rewritten up to the last address":   {readSize, []*message{cluster(3, 100)}, 0},
		"the same, in pieces as small":       {100, []*message{cluster(3, 100)}, 0},
		"rewritten whole: three endpoints":   {readSize, []*message{fetched(18, 1, 10_000, 3)}, 6},
		"rewritten in place: three of those": {16 << 10, []*message{fetched(18, 1, 100_000, 3)}, 10},
	} {
		p := newReplay(t, tc.piece, tc.msgs...)
		if n := testing.AllocsPerRun(100, func() { p.run(t) }); n > tc.most {
			t.Errorf("%s: %v allocations, want %v", name, n, tc.most)
		}
	}
}

func TestForwardingRequestsAllocatesNothing(t *testing.T) {
	var stream []byte
	for version := range int16(14) {
		p := &kmsg.ProduceRequest{Version: version, Acks: -1, Topics: []kmsg.ProduceRequestTopic{{Topic: "orders",
			Partitions: []kmsg.ProduceRequestTopicPartition{{Records: make([]byte, 5000)}}}}}
		stream = append(stream, (&requestMessage{Request: p, client: kmsg.StringPtr("a client")}).encode()...)
		stream = append(stream, request(keyFetch, version, 1)...)
	}
	r := Requests{Out: io.Discard, InFlight: new(InFlight)}
	for _, piece := range []int{readSize, 1000, 1} {
		n := testing.AllocsPerRun(20, func() {
			for rest := stream; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
				if _, err := r.Forward(rest[:min(piece, len(rest))]); err != nil {
					t.Fatal(err)
				}
			}
			for r.InFlight.Len() > 0 {
				r.InFlight.pop()
			}
		})
		if n > 0 {
			t.Errorf("in pieces of %d: %v allocations", piece, n)
		}
	}
}

// TestMemoryIsBounded: what is kept of a response does not grow with it.
func TestMemoryIsBounded(t *testing.T) {
	for name, tc := range map[string]struct {
		m    *message
		most int
	}{
		"a fetch of 50 MiB":         {fetched(18, 50, 1<<20, 3), wholeFrame},
		"200 000 partitions":        {cluster(3, 200_000), wholeFrame},
		"10 000 brokers":            {cluster(10_000, 1000), 2 << 20},
		"a fetch of 10 000 brokers": {fetched(18, 1, 1<<20, 10_000), 2 << 20},
	} {
		p := newReplay(t, 16<<10, tc.m)
		if p.most > tc.most {
			t.Errorf("%s: %d bytes were kept of %d, want %d at the most", name, p.most, len(p.stream), tc.most)
		}
		if p.r.Rewritten != 1 || p.r.kept != nil || cap(p.r.scan.found) > 64 {
			t.Errorf("%s: %d were rewritten; %d bytes and %d addresses are still kept", name, p.r.Rewritten, cap(p.r.kept), cap(p.r.scan.found))
		}
	}
}

func benchmark(b *testing.B, piece int, msgs ...*message) {
	p := newReplay(b, piece, msgs...)
	b.SetBytes(int64(len(p.stream)))
	b.ReportAllocs()
	for b.Loop() {
		p.run(b)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(msgs)), "ns/frame")
	b.ReportMetric(float64(p.most), "B-kept")
}

func BenchmarkResponses(b *testing.B) {
	heartbeat := &message{Response: kmsg.NewPtrHeartbeatResponse()}
	b.Run("heartbeat", func(b *testing.B) { benchmark(b, readSize, repeat(100, heartbeat)...) })
	b.Run("produce-v8-passed", func(b *testing.B) { benchmark(b, readSize, repeat(100, produced(8))...) })
	b.Run("produce-v13-scanned", func(b *testing.B) { benchmark(b, readSize, repeat(100, produced(13))...) })
	b.Run("fetch-1MiB-v11-passed", func(b *testing.B) { benchmark(b, readSize, fetched(11, 1, 1<<20, 0)) })
	b.Run("fetch-1MiB-v18-scanned", func(b *testing.B) { benchmark(b, readSize, fetched(18, 1, 1<<20, 0)) })
	b.Run("fetch-1MiB-v18-16KiB-reads", func(b *testing.B) { benchmark(b, 16<<10, fetched(18, 1, 1<<20, 0)) })
	b.Run("fetch-1MiB-v18-50-partitions", func(b *testing.B) { benchmark(b, readSize, fetched(18, 50, 20<<10, 0)) })
	b.Run("fetch-1MiB-v18-3-endpoints", func(b *testing.B) { benchmark(b, readSize, fetched(18, 1, 1<<20, 3)) })
	b.Run("fetch-10KB-v18-3-endpoints", func(b *testing.B) { benchmark(b, readSize, fetched(18, 1, 10_000, 3)) })
	b.Run("fetch-50MiB-v18-3-endpoints", func(b *testing.B) { benchmark(b, readSize, fetched(18, 50, 1<<20, 3)) })
	b.Run("metadata-3-brokers", func(b *testing.B) { benchmark(b, readSize, cluster(3, 100)) })
	b.Run("metadata-1000-brokers", func(b *testing.B) { benchmark(b, readSize, cluster(1000, 1000)) })
	b.Run("metadata-10000-brokers", func(b *testing.B) { benchmark(b, readSize, cluster(10_000, 1000)) })
	b.Run("metadata-200000-partitions", func(b *testing.B) { benchmark(b, readSize, cluster(3, 200_000)) })
}

func BenchmarkRequests(b *testing.B) {
	for name, frame := range map[string][]byte{
		"fetch":       request(keyFetch, 18, 1),
		"produce-1KB": (&requestMessage{client: kmsg.StringPtr("a client"), Request: &kmsg.ProduceRequest{Version: 13, Acks: -1, Topics: []kmsg.ProduceRequestTopic{{Partitions: []kmsg.ProduceRequestTopicPartition{{Records: make([]byte, 1000)}}}}}}).encode(),
	} {
		b.Run(name, func(b *testing.B) {
			const frames = 100
			var stream []byte
			for range frames {
				stream = append(stream, frame...)
			}
			r := Requests{Out: io.Discard, InFlight: new(InFlight)}
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Forward(stream); err != nil {
					b.Fatal(err)
				}
				for range frames {
					r.InFlight.pop()
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*frames), "ns/frame")
		})
	}
}
