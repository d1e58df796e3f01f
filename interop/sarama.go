package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"kafka-sni-proxy/internal/harness"
)

// saramaConfig is what Sarama's clients have in common. Its own TLS is used:
// the name it asks for is the one it was told to connect to.
func (s *scenarioRun) saramaConfig(e *endpoint) *sarama.Config {
	c := sarama.NewConfig()
	c.ClientID = "sarama"
	c.Version = sarama.MaxVersion
	c.Net.TLS.Enable = true
	c.Net.TLS.Config = &tls.Config{RootCAs: e.pool}
	c.Net.Proxy.Enable = true
	c.Net.Proxy.Dialer = dialer{e}
	if e.isSASL() {
		c.Net.SASL.Enable = true
		c.Net.SASL.Mechanism = sarama.SASLTypePlaintext
		c.Net.SASL.User, c.Net.SASL.Password = saslUser, saslSecret
	}
	// Only what the broker says of leaders, and no periodical look.
	c.Metadata.RefreshFrequency = 10 * time.Minute
	return c
}

// dialer connects Sarama to names that its endpoint knows.
type dialer struct{ *endpoint }

func (d dialer) Dial(_, address string) (net.Conn, error) {
	address, err := d.locate(address)
	if err != nil {
		return nil, err
	}
	return net.Dial("tcp", address)
}

// saramaProducer is an idempotent producer of numbered records.
type saramaProducer struct {
	producer sarama.AsyncProducer
	acked    atomic.Int64
	stop     chan struct{}
	sent     chan int64 // one value, when it has stopped sending
	done     chan struct{}
	failure  atomic.Pointer[error]
}

// idempotent adds what an idempotent producer of Sarama's needs.
func idempotent(c *sarama.Config) *sarama.Config {
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Idempotent = true
	c.Net.MaxOpenRequests = 1
	c.Producer.Return.Successes = true
	// Three attempts within 300 ms are its default: too few on a busy machine,
	// where brokers take longer to agree on a leader.
	c.Producer.Retry.Max = 50
	return c
}

// startSaramaProducer starts a producer of about 1000 records a second.
func (s *scenarioRun) startSaramaProducer(ctx context.Context, e *endpoint, topic string) (*saramaProducer, error) {
	c := idempotent(s.saramaConfig(e))
	c.Producer.Flush.Frequency = 5 * time.Millisecond
	producer, err := sarama.NewAsyncProducer(strings.Split(e.bootstrap, ","), c)
	if err != nil {
		return nil, fmt.Errorf("starting a Sarama producer: %w", err)
	}
	p := &saramaProducer{producer: producer, stop: make(chan struct{}), sent: make(chan int64, 1), done: make(chan struct{})}
	go p.send(ctx, topic)
	go p.count()
	return p, nil
}

func (p *saramaProducer) send(ctx context.Context, topic string) {
	defer p.producer.AsyncClose()
	everyMillisecond(ctx, p.stop, p.sent, func(n int64) {
		message := &sarama.ProducerMessage{Topic: topic, Value: sarama.ByteEncoder(numbered("sarama", n, 100))}
		select {
		case <-ctx.Done():
		case p.producer.Input() <- message:
		}
	})
}

// count runs until the producer is closed and has told of all its records.
func (p *saramaProducer) count() {
	defer close(p.done)
	successes, failures := p.producer.Successes(), p.producer.Errors()
	for successes != nil || failures != nil {
		select {
		case _, open := <-successes:
			if !open {
				successes = nil
				continue
			}
			p.acked.Add(1)
		case failed, open := <-failures:
			if !open {
				failures = nil
				continue
			}
			err := fmt.Errorf("the Sarama producer: %w", failed.Err)
			p.failure.CompareAndSwap(nil, &err)
		}
	}
}

// progressed waits until another 500 records are acknowledged.
func (p *saramaProducer) progressed(ctx context.Context) error {
	return another500(ctx, "the Sarama producer", &p.acked, &p.failure)
}

// another500 waits until a count is 500 higher than now.
func another500(ctx context.Context, who string, count *atomic.Int64, failure *atomic.Pointer[error]) error {
	before := count.Load()
	return harness.Await(ctx, "waiting for "+who+" to go on", func() error {
		if failed := failure.Load(); failed != nil {
			return harness.Final(*failed)
		}
		if more := count.Load() - before; more < 500 {
			return fmt.Errorf("%d records since", more)
		}
		return nil
	})
}

// end stops sending and returns how many records were sent; all of them have to
// be acknowledged.
func (p *saramaProducer) end(ctx context.Context) (int64, error) {
	close(p.stop)
	select {
	case <-ctx.Done():
		return 0, fmt.Errorf("ending the Sarama producer: %w", context.Cause(ctx))
	case <-p.done:
	}
	sent := <-p.sent
	if failed := p.failure.Load(); failed != nil {
		return 0, *failed
	}
	if acked := p.acked.Load(); acked != sent {
		return 0, fmt.Errorf("the Sarama producer: %d of %d records acknowledged", acked, sent)
	}
	return sent, nil
}

// saramaConsumer reads all partitions of a topic from their start, without a
// group.
type saramaConsumer struct {
	consumer sarama.Consumer
	pause    time.Duration // after 50 records, until it is told to end
	tally    *tally
	records  chan *sarama.ConsumerMessage
	distinct atomic.Int64
	until    atomic.Int64 // distinct records to end after; 0: not known yet
	done     chan struct{}
	failure  atomic.Pointer[error]
}

func (s *scenarioRun) startSaramaConsumer(ctx context.Context, e *endpoint, topic string, pause time.Duration) (*saramaConsumer, error) {
	config := s.saramaConfig(e)
	config.Consumer.Return.Errors = true
	config.Consumer.Retry.Backoff = 100 * time.Millisecond
	config.Consumer.Fetch.Default = 200_000
	// A partition whose records wait longer for their reader is left out of
	// requests for a while, and here all of them wait.
	config.Consumer.MaxProcessingTime = 5 * time.Second
	consumer, err := sarama.NewConsumer(strings.Split(e.bootstrap, ","), config)
	if err != nil {
		return nil, fmt.Errorf("starting a Sarama consumer: %w", err)
	}
	c := &saramaConsumer{consumer: consumer, pause: pause, tally: newTally(), records: make(chan *sarama.ConsumerMessage), done: make(chan struct{})}
	partitions, err := consumer.Partitions(topic)
	if err != nil {
		return nil, fmt.Errorf("the Sarama consumer: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	for _, number := range partitions {
		var partition sarama.PartitionConsumer
		// Right after an election a leader does not know its offsets yet; what
		// other clients ask again for by themselves, Sarama leaves to its user.
		err := harness.Await(ctx, "asking for the first offset", func() (err error) {
			partition, err = consumer.ConsumePartition(topic, number, sarama.OffsetOldest)
			if err != nil && !errors.Is(err, sarama.ErrOffsetNotAvailable) && !errors.Is(err, sarama.ErrNotLeaderForPartition) {
				return harness.Final(err)
			}
			return err
		})
		if err != nil {
			cancel()
			return nil, fmt.Errorf("the Sarama consumer: partition %d: %w", number, err)
		}
		go c.read(ctx, partition)
	}
	go func() {
		defer cancel()
		c.run(ctx)
	}()
	return c, nil
}

func (c *saramaConsumer) read(ctx context.Context, from sarama.PartitionConsumer) {
	defer from.AsyncClose()
	for {
		select {
		case <-ctx.Done():
			return
		case failed := <-from.Errors():
			if failed != nil {
				c.fail(failed)
			}
			return
		case record, open := <-from.Messages():
			if !open {
				c.fail(errors.New("a partition ended by itself"))
				return
			}
			select {
			case <-ctx.Done():
				return
			case c.records <- record:
			}
		}
	}
}

func (c *saramaConsumer) fail(err error) {
	err = fmt.Errorf("the Sarama consumer: %w", err)
	c.failure.CompareAndSwap(nil, &err)
}

func (c *saramaConsumer) run(ctx context.Context) {
	defer close(c.done)
	look := time.NewTicker(50 * time.Millisecond) // at what was ordered
	defer look.Stop()
	for {
		until := c.until.Load()
		if until > 0 && c.tally.distinct >= until || c.failure.Load() != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		case record := <-c.records:
			if err := c.tally.add(record.Value); err != nil {
				c.fail(err)
			}
			c.distinct.Store(c.tally.distinct)
			if until == 0 && c.pause > 0 && c.tally.records%50 == 0 {
				select {
				case <-ctx.Done():
				case <-time.After(c.pause):
				}
			}
		}
	}
}

// progressed waits until another 500 records have come.
func (c *saramaConsumer) progressed(ctx context.Context) error {
	return another500(ctx, "the Sarama consumer", &c.distinct, &c.failure)
}

// end waits until a number of distinct records has come.
func (c *saramaConsumer) end(ctx context.Context, distinct int64) (string, error) {
	c.until.Store(distinct)
	select {
	case <-ctx.Done():
		return "", fmt.Errorf("the Sarama consumer: %d of %d records: %w", c.distinct.Load(), distinct, context.Cause(ctx))
	case <-c.done:
	}
	if failed := c.failure.Load(); failed != nil {
		return "", *failed
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	result := fmt.Sprintf("records=%d distinct=%d duplicates=%d", c.tally.records, c.tally.distinct, c.tally.records-c.tally.distinct)
	if c.tally.distinct != distinct {
		return "", fmt.Errorf("the Sarama consumer: %s, want %d", result, distinct)
	}
	return result, nil
}
