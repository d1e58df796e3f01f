package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafka-sni-proxy/internal/harness"
)

// franzProducer sends numbered records from inside this program.
type franzProducer struct {
	client  *kgo.Client
	acked   atomic.Int64
	stop    chan struct{}
	sent    chan int64 // one value, when it has stopped sending
	failure atomic.Pointer[error]
}

// startFranzProducer starts a producer of about 1000 records a second that ends
// with the context.
func (s *scenarioRun) startFranzProducer(ctx context.Context, e *endpoint, topic string) (*franzProducer, error) {
	client, err := s.goClient(e, kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(5*time.Millisecond))
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, client.Close)
	p := &franzProducer{client: client, stop: make(chan struct{}), sent: make(chan int64, 1)}
	go p.run(ctx)
	return p, nil
}

func (p *franzProducer) run(ctx context.Context) {
	everyMillisecond(ctx, p.stop, p.sent, func(n int64) {
		p.client.Produce(ctx, &kgo.Record{Value: numbered("franz", n, 100)}, func(_ *kgo.Record, err error) {
			if err != nil {
				err = fmt.Errorf("franz-go producer: %w", err)
				p.failure.CompareAndSwap(nil, &err)
				return
			}
			p.acked.Add(1)
		})
	})
}

// everyMillisecond calls send with 0, 1, 2 and so on until stop is closed, and
// then tells sent how often it did. It ends without a word when ctx does.
func everyMillisecond(ctx context.Context, stop <-chan struct{}, sent chan<- int64, send func(n int64)) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n := int64(0); ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-stop:
			sent <- n
			return
		case <-tick.C:
		}
		send(n)
	}
}

// numbered is the value of a record as the tallies read it.
func numbered(tag string, number int64, padding int) []byte {
	return fmt.Appendf(nil, "%s:%d:%0*d", tag, number, padding, 0)
}

// progressed waits until another 500 records are acknowledged.
func (p *franzProducer) progressed(ctx context.Context) error {
	before := p.acked.Load()
	return harness.Await(ctx, "waiting for the franz-go producer to go on", func() error {
		if failure := p.failure.Load(); failure != nil {
			return harness.Final(*failure)
		}
		if more := p.acked.Load() - before; more < 500 {
			return fmt.Errorf("%d records acknowledged since", more)
		}
		return nil
	})
}

// end stops sending and returns how many records were sent; all of them have to
// be acknowledged.
func (p *franzProducer) end(ctx context.Context) (int64, error) {
	close(p.stop)
	var sent int64
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case sent = <-p.sent:
	}
	if err := p.client.Flush(ctx); err != nil {
		return 0, err
	}
	if acked := p.acked.Load(); acked != sent {
		return 0, fmt.Errorf("franz-go producer: %d of %d records acknowledged", acked, sent)
	}
	return sent, nil
}

// franzConsumer reads a topic from its start, without a group.
type franzConsumer struct {
	client   *kgo.Client
	pause    time.Duration // after each poll of 50 records, until it is told to end
	distinct atomic.Int64
	until    atomic.Int64 // distinct records to end after; 0: not known yet
	result   chan franzResult
	failure  atomic.Pointer[error]
}

type franzResult struct {
	tally *tally
	err   error
}

// startFranzConsumer starts a consumer that ends with the context. One with a
// pause fetches little at a time, so as not to have everything in its buffers
// while it pauses.
func (s *scenarioRun) startFranzConsumer(ctx context.Context, e *endpoint, topic string, pause time.Duration) (*franzConsumer, error) {
	options := []kgo.Opt{kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}
	if pause > 0 {
		options = append(options, kgo.FetchMaxPartitionBytes(200_000))
	}
	client, err := s.goClient(e, options...)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, client.Close)
	c := &franzConsumer{client: client, pause: pause, result: make(chan franzResult, 1)}
	go func() {
		t, err := c.run(ctx)
		if err != nil {
			c.failure.Store(&err)
		}
		c.result <- franzResult{t, err}
	}()
	return c, nil
}

func (c *franzConsumer) run(ctx context.Context) (*tally, error) {
	t := newTally()
	for {
		until := c.until.Load()
		if until > 0 && t.distinct >= until {
			return t, nil
		}
		poll, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		fetches := c.client.PollRecords(poll, 50)
		cancel()
		if ctx.Err() != nil {
			return t, context.Cause(ctx)
		}
		var problem error
		fetches.EachError(func(_ string, _ int32, err error) {
			if !errors.Is(err, context.DeadlineExceeded) {
				problem = fmt.Errorf("franz-go consumer: %w", err)
			}
		})
		for record := range fetches.RecordsAll() {
			problem = errors.Join(problem, t.add(record.Value))
		}
		if problem != nil {
			return t, problem
		}
		c.distinct.Store(t.distinct)
		if until == 0 && c.pause > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(c.pause):
			}
		}
	}
}

// progressed waits until another 500 records have come.
func (c *franzConsumer) progressed(ctx context.Context) error {
	before := c.distinct.Load()
	return harness.Await(ctx, "waiting for the franz-go consumer to go on", func() error {
		if failure := c.failure.Load(); failure != nil {
			return harness.Final(*failure)
		}
		if more := c.distinct.Load() - before; more < 500 {
			return fmt.Errorf("%d records consumed since", more)
		}
		return nil
	})
}

// end waits until a number of distinct records has come.
func (c *franzConsumer) end(ctx context.Context, distinct int64) (string, error) {
	c.until.Store(distinct)
	select {
	case <-ctx.Done():
		return "", fmt.Errorf("franz-go consumer: %d of %d records: %w", c.distinct.Load(), distinct, context.Cause(ctx))
	case r := <-c.result:
		if r.err != nil {
			return "", r.err
		}
		result := fmt.Sprintf("records=%d distinct=%d duplicates=%d", r.tally.records, r.tally.distinct, r.tally.records-r.tally.distinct)
		if r.tally.distinct != distinct {
			return "", fmt.Errorf("franz-go consumer: %s, want %d", result, distinct)
		}
		return result, nil
	}
}
