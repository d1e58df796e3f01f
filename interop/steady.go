package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafka-sni-proxy/internal/harness"
)

// steadyProducer is a franz-go producer that sends a record to each partition
// in turn, evenly over time.
type steadyProducer struct {
	*pulse
	client  *kgo.Client
	stop    chan struct{}
	sent    chan int64 // one value, when it has stopped sending
	acked   atomic.Int64
	failure atomic.Pointer[error]
}

// startSteadyProducer starts a producer that ends with the context.
func (s *scenarioRun) startSteadyProducer(ctx context.Context, e *endpoint, topic string, partitions, perSecond int, options ...kgo.Opt) (*steadyProducer, error) {
	client, err := s.goClient(e, append(options, kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, client.Close)
	p := &steadyProducer{pulse: newPulse(partitions), client: client, stop: make(chan struct{}), sent: make(chan int64, 1)}
	go p.run(ctx, time.NewTicker(time.Second/time.Duration(perSecond)))
	return p, nil
}

func (p *steadyProducer) run(ctx context.Context, tick *time.Ticker) {
	defer tick.Stop()
	for number := int64(0); ; number++ {
		select {
		case <-ctx.Done():
			return
		case <-p.stop:
			p.sent <- number
			return
		case <-tick.C:
		}
		partition, at := int32(number%int64(len(p.last))), time.Now()
		p.client.Produce(ctx, &kgo.Record{Partition: partition, Value: numbered("franz", number, 100)}, func(_ *kgo.Record, err error) {
			if err != nil {
				err = fmt.Errorf("franz-go producer: %w", err)
				p.failure.CompareAndSwap(nil, &err)
				return
			}
			p.acked.Add(1)
			p.came(partition, at)
		})
	}
}

// end stops sending and returns how many records were sent; all of them have to
// be acknowledged.
func (p *steadyProducer) end(ctx context.Context) (int64, error) {
	close(p.stop)
	sent := <-p.sent
	if err := p.client.Flush(ctx); err != nil {
		return 0, err
	}
	if failure := p.failure.Load(); failure != nil {
		return 0, *failure
	}
	if acked := p.acked.Load(); acked != sent {
		return 0, fmt.Errorf("franz-go producer: %d of %d records acknowledged", acked, sent)
	}
	return sent, nil
}

// steadyGroup is a consumer group of franz-go members.
type steadyGroup struct {
	*pulse
	lost atomic.Int64 // partitions taken away with no time to commit

	mu    sync.Mutex
	tally *tally
	err   error
}

// startSteadyGroup starts a group that ends with the context.
func (s *scenarioRun) startSteadyGroup(ctx context.Context, e *endpoint, topic string, partitions, members int, options ...kgo.Opt) (*steadyGroup, error) {
	g := &steadyGroup{pulse: newPulse(partitions), tally: newTally()}
	count := func(n *atomic.Int64) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, gone map[string][]int32) { n.Add(int64(len(gone[topic]))) }
	}
	for range members {
		client, err := s.goClient(e, append(options, kgo.ConsumerGroup(topic+"-franz"), kgo.ConsumeTopics(topic),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AutoCommitInterval(time.Second),
			kgo.OnPartitionsLost(count(&g.lost)))...)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, client.Close)
		go g.read(ctx, client)
	}
	return g, nil
}

func (g *steadyGroup) read(ctx context.Context, client *kgo.Client) {
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		g.mu.Lock()
		fetches.EachError(func(_ string, partition int32, err error) {
			// A member that cannot reach its group tells, and tries again.
			if _, trying := errors.AsType[*kgo.ErrGroupSession](err); ctx.Err() == nil && !trying {
				g.err = errors.Join(g.err, fmt.Errorf("franz-go consumer, partition %d: %w", partition, err))
			}
		})
		for record := range fetches.RecordsAll() {
			g.err = errors.Join(g.err, g.tally.add(record.Value))
		}
		g.mu.Unlock()
		for record := range fetches.RecordsAll() {
			g.came(record.Partition, record.Timestamp)
		}
	}
}

// end waits until the group has read as many different records as were sent.
func (g *steadyGroup) end(ctx context.Context, sent int64) (string, error) {
	figures := func() string {
		return fmt.Sprintf("records=%d distinct=%d duplicates=%d lost-partitions=%d", g.tally.records, g.tally.distinct, g.tally.records-g.tally.distinct, g.lost.Load())
	}
	err := harness.Await(ctx, "waiting for the franz-go group to have read everything", func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		switch {
		case g.err != nil:
			return harness.Final(g.err)
		case g.tally.distinct < sent:
			return fmt.Errorf("%s of %d", figures(), sent)
		}
		return nil
	})
	g.mu.Lock()
	defer g.mu.Unlock()
	if again := g.tally.records - g.tally.distinct; err == nil && again > 0 && g.lost.Load() == 0 {
		err = fmt.Errorf("%d records were read again by a group that has lost no partition", again)
	}
	return figures(), err
}
