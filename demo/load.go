package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"kafka-sni-proxy/internal/harness"
)

const (
	// recordSize is the length of every record's value.
	recordSize = 1024
	// enough is when the producer stops, however many records are left: a slow
	// machine shows less, and not nothing.
	enough = 10 * time.Second
)

// load is the traffic: numbered records, spread over all partitions, consumed
// while they are produced, and each compared with what was sent.
type load struct {
	env     *environment
	records int // to be sent
	took    time.Duration

	produced, consumed atomic.Int64

	mu       sync.Mutex
	sent     int64             // how many records there are; -1 while more are to come
	next     [partitions]int64 // the number of the record that each partition is to give next
	finished chan struct{}     // closed when all has been consumed
}

func newLoad(env *environment, records int) *load {
	return &load{env: env, records: records, sent: -1, finished: make(chan struct{})}
}

// client returns a franz-go client that knows the proxy's bootstrap address and
// nothing else. Its connections are counted, and scanned for upstream names.
func (l *load) client(opts ...kgo.Opt) (*kgo.Client, error) {
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(l.env.bootstrap()),
		kgo.Dialer(l.env.dialer.DialContext),
		kgo.ClientID("demo"),
		kgo.ConsiderMissingTopicDeletedAfter(time.Minute),
	}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	return client, nil
}

func (l *load) run(ctx context.Context, p *printer) error {
	if err := l.createTopic(ctx); err != nil {
		return fmt.Errorf("creating the topic: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	for range 2 {
		g.Go(func() error { return l.consume(ctx) })
	}
	// No record before the group has settled: whatever is then given twice, or
	// not at all, is the proxy's fault.
	if err := l.awaitGroup(ctx); err != nil {
		cancel()
		return errors.Join(g.Wait(), err)
	}
	p.line("%d partitions, led by all three brokers; %s records of %s bytes, each compared with what was sent.",
		partitions, count(l.records), count(recordSize))
	p.line("")
	began := time.Now()
	g.Go(func() error { return l.produce(ctx) })
	g.Go(func() error { return l.watch(ctx, p, began) })
	err := g.Wait()
	l.took = time.Since(began)
	return err
}

// createTopic asks for the topic by way of the proxy, then deals its
// partitions out, so that traffic goes to all brokers from the start.
func (l *load) createTopic(ctx context.Context) error {
	client, err := l.client()
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(ctx, partitions, brokers, nil, topic); err != nil {
		return err
	}
	return l.moveLeaders(0)
}

func (l *load) moveLeaders(by int32) error {
	for p := range int32(partitions) {
		if err := l.env.cluster.Kafka.MoveTopicPartition(topic, p, (p+by)%brokers); err != nil {
			return err
		}
	}
	return nil
}

// awaitGroup waits until both members have half of the partitions.
func (l *load) awaitGroup(ctx context.Context) error {
	_, err := l.env.cluster.Kafka.WaitGroupInfo(ctx, group, func(info *kfake.GroupInfo) bool {
		return info != nil && info.State == "Stable" && len(info.Members) == 2 &&
			info.Members[0].NumAssigned() == partitions/2 && info.Members[1].NumAssigned() == partitions/2
	})
	if err != nil {
		return fmt.Errorf("waiting for the consumer group to settle: %w", err)
	}
	return nil
}

func (l *load) produce(ctx context.Context) error {
	client, err := l.client(
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), // the scanner is to read everything
		kgo.ProducerLinger(5*time.Millisecond),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	began, sent := time.Now(), 0
	for ; sent < l.records && time.Since(began) < enough && ctx.Err() == nil; sent++ {
		if sent == l.records/2 {
			if err := l.moveLeaders(1); err != nil {
				return err
			}
		}
		r := &kgo.Record{Topic: topic, Partition: int32(sent % partitions)}
		r.Value = harness.AppendRecord(nil, r.Partition, int64(sent/partitions), recordSize)
		client.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				cancel(err)
				return
			}
			l.produced.Add(1)
		})
	}
	err = client.Flush(ctx)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err != nil {
		return fmt.Errorf("producing: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = int64(sent)
	l.finishOnce()
	return nil
}

// finishOnce closes finished when everything sent has been consumed. The caller
// holds l.mu.
func (l *load) finishOnce() {
	if l.consumed.Load() == l.sent {
		close(l.finished)
	}
}

func (l *load) consume(ctx context.Context) error {
	client, err := l.client(
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.FetchMaxWait(500*time.Millisecond),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	polling, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-l.finished:
			stop()
		case <-polling.Done():
		}
	}()
	for polling.Err() == nil {
		fetches := client.PollFetches(polling)
		if err := fetches.Err0(); errors.Is(err, context.Canceled) {
			break
		}
		if errs := fetches.Errors(); len(errs) > 0 {
			return fmt.Errorf("consuming: %w", errs[0].Err)
		}
		for records := fetches.RecordIter(); !records.Done(); {
			if err := l.check(records.Next()); err != nil {
				return err
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := client.CommitUncommittedOffsets(ctx); err != nil {
		return fmt.Errorf("committing offsets: %w", err)
	}
	return nil
}

// check compares a record with the one that was sent in its place.
func (l *load) check(r *kgo.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	want := l.next[r.Partition]
	if r.Offset != want {
		return fmt.Errorf("partition %d gave record %d where %d was next: lost, repeated or out of order", r.Partition, r.Offset, want)
	}
	if p, n, ok := harness.ReadRecord(r.Value); !ok || p != r.Partition || n != want || len(r.Value) != recordSize {
		return fmt.Errorf("record %d of partition %d is not what was sent: %.80q", want, r.Partition, r.Value)
	}
	l.next[r.Partition]++
	l.consumed.Add(1)
	l.finishOnce()
	return nil
}

// watch prints a line every second until all has been consumed.
func (l *load) watch(ctx context.Context, p *printer, began time.Time) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	p.line("%6s  %12s  %12s  %12s", "", "produced", "", "consumed")
	var lastProduced, lastConsumed int64
	last, moved := began, false
	for done := false; !done; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.finished:
			done = true
		case <-tick.C:
		}
		now := time.Now()
		produced, consumed := l.produced.Load(), l.consumed.Load()
		rate := func(n int64) string {
			return fmt.Sprintf("%.0f MB/s", float64(n*recordSize)/1e6/now.Sub(last).Seconds())
		}
		p.line("%4.1f s  %12s  %12s  %12s  %12s", now.Sub(began).Seconds(),
			count(produced), rate(produced-lastProduced), count(consumed), rate(consumed-lastConsumed))
		if !moved && produced >= int64(l.records)/2 {
			moved = true
			p.line("        (halfway, every partition moved to another broker; the clients follow through the proxy)")
		}
		last, lastProduced, lastConsumed = now, produced, consumed
	}
	return nil
}
