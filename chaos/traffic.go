package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafka-sni-proxy/internal/harness"
)

const (
	topic      = "chaos"
	partitions = 12
	producers  = 4 // each has a third of a dozen partitions to itself
	group      = "chaos-group"
	// perSecond is how many records are produced, all partitions together: the
	// cluster keeps them all in memory, and the last check reads them again.
	perSecond = 600
)

// The readers of each partition: one that keeps its own place, and a consumer
// group of two.
const (
	direct = iota
	grouped
	readers
)

var readerNames = [readers]string{"the consumer", "the group"}

// traffic is records on their way. A partition has one producer, so that the
// n-th record produced to it must be the one at offset n: everything that is
// lost, repeated or out of order shows in what readers get.
type traffic struct {
	client   func(...kgo.Opt) (*kgo.Client, error)
	problems *problems

	clients  []*kgo.Client
	stopping context.Context // no more records
	stop     context.CancelFunc
	ending   context.Context // clients are closed
	end      context.CancelFunc
	writing  sync.WaitGroup
	reading  sync.WaitGroup

	mu         sync.Mutex
	parts      [partitions]progress
	lost       int
	duplicated int
	again      int  // given to the group again, which a rebalance may do
	gaveUp     bool // a record, so that those behind it are not where they should be
}

// progress is how far a partition has got, in records.
type progress struct {
	sent, acked int64
	read        [readers]int64
}

// start creates the topic, and has everybody begin.
func (t *traffic) start(ctx context.Context) error {
	t.stopping, t.stop = context.WithCancel(context.Background())
	t.ending, t.end = context.WithCancel(context.Background())
	admin, err := t.client()
	if err != nil {
		return err
	}
	defer admin.Close()
	if _, err := kadm.NewClient(admin).CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
		return fmt.Errorf("creating the topic: %w", err)
	}
	add := func(opts ...kgo.Opt) *kgo.Client {
		client, failed := t.client(opts...)
		if failed != nil {
			err = failed
			return nil
		}
		t.clients = append(t.clients, client)
		return client
	}
	var writers [producers]*kgo.Client
	for i := range writers {
		writers[i] = add(
			kgo.RequiredAcks(kgo.AllISRAcks()), // idempotent, which is the default
			kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.ProducerBatchCompression(kgo.NoCompression()), // the scanner is to read everything
			kgo.ProducerLinger(5*time.Millisecond),
			kgo.MaxBufferedRecords(500),
			kgo.ProduceRequestTimeout(2*time.Second),
			kgo.RecordRetries(1<<30), // faults are many
		)
	}
	alone := add(kgo.ConsumePartitions(fromStart()), kgo.FetchMaxWait(500*time.Millisecond))
	var members [2]*kgo.Client
	for i := range members {
		members[i] = add(
			kgo.ConsumerGroup(group),
			kgo.ConsumeTopics(topic),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.FetchMaxWait(500*time.Millisecond),
			kgo.SessionTimeout(10*time.Second),
			kgo.HeartbeatInterval(time.Second),
			kgo.AutoCommitInterval(500*time.Millisecond),
			kgo.BlockRebalanceOnPoll(), // until what was polled has been looked at
		)
	}
	if err != nil {
		return err
	}
	for i, client := range writers {
		t.writing.Go(func() { t.produce(client, int32(i)) })
	}
	t.reading.Go(func() { t.consume(alone, direct) })
	for _, member := range members {
		t.reading.Go(func() { t.consume(member, grouped) })
	}
	return nil
}

func fromStart() map[string]map[int32]kgo.Offset {
	offsets := map[int32]kgo.Offset{}
	for p := range int32(partitions) {
		offsets[p] = kgo.NewOffset().At(0)
	}
	return map[string]map[int32]kgo.Offset{topic: offsets}
}

// produce writes to every producers-th partition until there is to be no more.
func (t *traffic) produce(client *kgo.Client, first int32) {
	tick := time.NewTicker(partitions * time.Second / perSecond)
	defer tick.Stop()
	for {
		select {
		case <-t.stopping.Done():
			return
		case <-tick.C:
		}
		for p := first; p < partitions; p += producers {
			t.mu.Lock()
			n := t.parts[p].sent
			t.parts[p].sent++
			t.mu.Unlock()
			record := &kgo.Record{Topic: topic, Partition: p, Value: value(p, n)}
			client.Produce(t.ending, record, func(r *kgo.Record, err error) { t.acknowledged(p, n, r, err) })
		}
	}
}

func (t *traffic) acknowledged(p int32, n int64, r *kgo.Record, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err != nil && t.ending.Err() != nil:
	case err != nil:
		t.problems.add("record %d of partition %d was given up: %v", n, p, err)
		t.gaveUp = true
	case t.gaveUp:
	case r.Offset > n:
		t.duplicated++
		t.problems.add("record %d of partition %d was acknowledged at offset %d: %d before it are there twice", n, p, r.Offset, r.Offset-n)
	case r.Offset < n:
		t.lost++
		t.problems.add("record %d of partition %d was acknowledged at offset %d: %d before it are lost", n, p, r.Offset, n-r.Offset)
	case t.parts[p].acked != n:
		t.problems.add("record %d of partition %d was acknowledged when %d was next", n, p, t.parts[p].acked)
	default:
		t.parts[p].acked++
	}
}

func (t *traffic) consume(client *kgo.Client, reader int) {
	for t.ending.Err() == nil {
		fetches := client.PollFetches(t.ending)
		for _, e := range fetches.Errors() {
			if loss := (*kgo.ErrDataLoss)(nil); errors.As(e.Err, &loss) {
				t.problems.add("%s was told that data of partition %d are lost: %v", readerNames[reader], e.Partition, e.Err)
			}
		}
		t.mu.Lock()
		for records := fetches.RecordIter(); !records.Done(); {
			t.check(records.Next(), reader)
		}
		t.mu.Unlock()
		if reader == grouped {
			client.AllowRebalance()
		}
	}
}

// check compares a record with the one that was produced in its place. The
// caller holds t.mu.
func (t *traffic) check(r *kgo.Record, reader int) {
	next := &t.parts[r.Partition].read[reader]
	switch {
	case t.gaveUp:
	case !bytes.Equal(r.Value, value(r.Partition, r.Offset)):
		t.judge(readerNames[reader], r)
	case r.Offset > *next:
		t.lost += int(r.Offset - *next)
		t.problems.add("%s got record %d of partition %d when %d was next", readerNames[reader], r.Offset, r.Partition, *next)
	case r.Offset < *next && reader == grouped:
		t.again++
		return
	case r.Offset < *next:
		t.duplicated++
		t.problems.add("%s got record %d of partition %d again, %d was next", readerNames[reader], r.Offset, r.Partition, *next)
		return
	}
	*next = r.Offset + 1
}

// judge says what is wrong with a record that is not the one for its offset.
// The caller holds t.mu.
func (t *traffic) judge(reader string, r *kgo.Record) {
	switch p, n, whole := harness.ReadRecord(r.Value); {
	case !whole || p != r.Partition || len(r.Value) != len(value(p, n)):
		t.problems.add("%s got something else for record %d of partition %d: %.80q", reader, r.Offset, r.Partition, r.Value)
	case n > r.Offset:
		t.lost += int(n - r.Offset)
		t.problems.add("%s got record %d of partition %d at offset %d: %d before it are lost", reader, n, p, r.Offset, n-r.Offset)
	default:
		t.duplicated += int(r.Offset - n)
		t.problems.add("%s got record %d of partition %d at offset %d: %d before it are there twice", reader, n, p, r.Offset, r.Offset-n)
	}
}

// counts returns how many records have been lost and duplicated so far.
func (t *traffic) counts() (lost, duplicated int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lost, t.duplicated
}

func (t *traffic) progress() (sum progress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.parts {
		sum.sent += p.sent
		sum.acked += p.acked
		for i := range p.read {
			sum.read[i] += p.read[i]
		}
	}
	return sum
}

// recovered waits until in every partition a record that was produced after now
// has been acknowledged and read by all readers. It returns how long that took
// for producers and the consumer; the group, whose members may have to wait for
// each other's session to expire, may take longer.
func (t *traffic) recovered(ctx context.Context, patience time.Duration) (took time.Duration, err error) {
	began := time.Now()
	t.mu.Lock()
	mark := t.parts
	t.mu.Unlock()
	wait := func(there func(now, then *progress) bool) error {
		for {
			t.mu.Lock()
			late := -1
			for p := range t.parts {
				if !there(&t.parts[p], &mark[p]) {
					late = p
				}
			}
			now := t.parts
			t.mu.Unlock()
			switch {
			case late < 0:
				return nil
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case time.Since(began) > patience:
				return fmt.Errorf("nothing new got through partition %d for %v: %d records produced, %d acknowledged, %d read by the consumer, %d by the group",
					late, patience, now[late].sent, now[late].acked, now[late].read[direct], now[late].read[grouped])
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	err = wait(func(now, then *progress) bool {
		return now.acked > then.sent && now.read[direct] > then.sent
	})
	took = time.Since(began)
	if err == nil {
		err = wait(func(now, then *progress) bool { return now.read[grouped] > then.sent })
	}
	return took, err
}

// finish produces no more, and waits until all that was produced is
// acknowledged and read by all.
func (t *traffic) finish(ctx context.Context, patience time.Duration) error {
	t.stop()
	for deadline := time.Now().Add(patience); ; {
		sum := t.progress()
		if sum.acked == sum.sent && sum.read[direct] == sum.sent && sum.read[grouped] == sum.sent {
			break
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%v after the last record: %d produced, %d acknowledged, %d read by the consumer, %d by the group",
				patience, sum.sent, sum.acked, sum.read[direct], sum.read[grouped])
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.writing.Wait()
	return nil
}

// close ends all clients.
func (t *traffic) close() {
	if t.end == nil {
		return
	}
	t.stop()
	t.end()
	var all sync.WaitGroup
	for _, client := range t.clients {
		all.Go(func() {
			client.AllowRebalance()
			client.Close()
		})
	}
	all.Wait()
	t.writing.Wait()
	t.reading.Wait()
}

// audit reads what a cluster holds from the beginning to where producers are
// now, and compares it. slow, when not nil, is called once after the first
// records.
func (t *traffic) audit(ctx context.Context, who string, client *kgo.Client, slow func()) error {
	t.mu.Lock()
	until := t.parts
	t.mu.Unlock()
	var next [partitions]int64
	for missing := partitions; missing > 0; {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("%s was still reading: %w", who, context.Cause(ctx))
		}
		for records := fetches.RecordIter(); !records.Done(); {
			r := records.Next()
			if r.Offset != next[r.Partition] {
				return fmt.Errorf("%s got offset %d of partition %d when %d was next", who, r.Offset, r.Partition, next[r.Partition])
			}
			next[r.Partition]++
			if !bytes.Equal(r.Value, value(r.Partition, r.Offset)) {
				t.mu.Lock()
				t.judge(who, r)
				t.mu.Unlock()
			}
		}
		missing = 0
		for p := range next {
			if next[p] < until[p].acked {
				missing++
			}
		}
		if slow != nil && fetches.NumRecords() > 0 {
			slow()
			slow = nil
		}
	}
	return nil
}

// value is the n-th record of a partition. One in a hundred is long.
func value(p int32, n int64) []byte {
	size := 200 + int(n*37)%800
	if n%100 == int64(p) {
		size = 48 << 10
	}
	return harness.AppendRecord(make([]byte, 0, size), p, n, size)
}
