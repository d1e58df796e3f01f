package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// clientsLongProduce moves leaders under a producer whose answers are too long
// to be kept, and so have their endpoints put in place, or left out. Produce
// answers are short as a rule. These are long because one request goes to many
// topics, and version 10, which is Sarama's newest, answers with their names.
func clientsLongProduce(ctx context.Context, s *scenarioRun) (string, error) {
	const topic = "clients-long-produce"
	if err := s.cluster.createTopic(ctx, topic, 3, 3); err != nil {
		return "", err
	}
	ballast, err := s.cluster.createBallast(ctx, topic)
	if err != nil {
		return "", err
	}
	fits, rounds, err := s.longProduce(ctx, s.tapped, topic, "fits", ballast)
	if err != nil {
		return fits, err
	}
	noFit, more, err := s.longProduce(ctx, s.sasl, topic, "no-fit", ballast)
	if err != nil {
		return noFit, err
	}
	log, err := s.cluster.audit(ctx, topic)
	if err == nil {
		err = log.exactly(map[string]int64{"fits": 3 * rounds, "no-fit": 3 * more})
	}
	if err == nil {
		err = s.cluster.holds(ctx, ballast, rounds+more)
	}
	_, deleteErr := s.cluster.admin.DeleteTopics(ctx, ballast...)
	return fmt.Sprintf("%d topics, %d requests to each, each record once in the log\n  %s\n  %s", len(ballast)+1, rounds+more, fits, noFit),
		errors.Join(err, deleteErr)
}

// longProduce sends rounds of one record to each partition. In every second one
// the leader of a few has left the broker that leads all others.
func (s *scenarioRun) longProduce(ctx context.Context, e *endpoint, topic, tag string, ballast []string) (figures string, rounds int64, err error) {
	if err := s.cluster.lead(ctx, topic, 1); err != nil {
		return "", 0, err
	}
	w, end := s.listen(e)
	defer end()
	c := idempotent(s.saramaConfig(e))
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.Flush.Messages = len(ballast) + 3
	c.Producer.Flush.Frequency = 500 * time.Millisecond // for the rest, which goes to another broker
	producer, err := sarama.NewAsyncProducer(strings.Split(e.bootstrap, ","), c)
	if err != nil {
		return "", 0, fmt.Errorf("starting a Sarama producer: %w", err)
	}
	defer producer.AsyncClose()
	for _, leader := range []int32{1, 2, 1, 3, 1, 2} {
		if err := s.cluster.lead(ctx, topic, leader); err != nil {
			return "", 0, err
		}
		var round []*sarama.ProducerMessage
		for _, name := range ballast {
			round = append(round, &sarama.ProducerMessage{Topic: name, Value: sarama.ByteEncoder(numbered(tag, rounds, 10))})
		}
		for partition := range int32(3) {
			value := numbered(tag, 3*rounds+int64(partition), 10)
			round = append(round, &sarama.ProducerMessage{Topic: topic, Partition: partition, Value: sarama.ByteEncoder(value)})
		}
		if err := sendRound(ctx, producer, round); err != nil {
			return "", 0, fmt.Errorf("round %d, leader %d: %w", rounds, leader, err)
		}
		rounds++
	}
	told := w.of("sarama", "Produce")
	figures = fmt.Sprintf("Sarama, Produce %d, on %s: new leaders at the end of long answers %d times with the address, %d padded; %d without",
		told.version, e.name, told.inPlace, told.padded, told.leftOut)
	err = w.err()
	noFit := e.isSASL()
	if err == nil && !s.direct && (noFit && (told.leftOut < 2 || told.inPlace > 0) || !noFit && (told.padded < 2 || told.leftOut > 0)) {
		err = errors.New("the long answers were not of the kind this is about: " + figures)
	}
	return figures, rounds, err
}

// sendRound sends messages and waits until all are acknowledged.
func sendRound(ctx context.Context, producer sarama.AsyncProducer, messages []*sarama.ProducerMessage) error {
	for _, message := range messages {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case producer.Input() <- message:
		}
	}
	for range messages {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-producer.Successes():
		case failed := <-producer.Errors():
			return fmt.Errorf("the Sarama producer: %w", failed.Err)
		}
	}
	return nil
}

// createBallast makes topics of one partition on broker 1 whose names, all
// together, are longer than an answer may be that is rewritten whole.
func (c *cluster) createBallast(ctx context.Context, prefix string) ([]string, error) {
	request := kmsg.NewPtrCreateTopicsRequest()
	request.TimeoutMillis = 30_000
	minISR := "1"
	var names []string
	const longestName = 249
	for number := range longest/longestName + 1 {
		name := fmt.Sprintf("%s-%03d-", prefix, number)
		name += strings.Repeat("x", longestName-len(name))
		names = append(names, name)
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, -1, -1
		topic.ReplicaAssignment = []kmsg.CreateTopicsRequestTopicReplicaAssignment{{Partition: 0, Replicas: []int32{1}}}
		topic.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "min.insync.replicas", Value: &minISR}}
		request.Topics = append(request.Topics, topic)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.seeds()...))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	response, err := request.RequestWith(ctx, client)
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(response.Topics, func(t kmsg.CreateTopicsResponseTopic) bool { return t.ErrorCode != 0 }); i >= 0 {
		return nil, fmt.Errorf("creating topic %s: error code %d", response.Topics[i].Topic, response.Topics[i].ErrorCode)
	}
	return names, c.whole(ctx)
}

// holds wants each topic to hold a number of records.
func (c *cluster) holds(ctx context.Context, topics []string, want int64) error {
	ends, err := c.admin.ListEndOffsets(ctx, topics...)
	if err != nil {
		return err
	}
	for _, topic := range topics {
		end := ends[topic][0]
		if end.Err != nil {
			return fmt.Errorf("the end of %s: %w", topic, end.Err)
		}
		if end.Offset != want {
			return fmt.Errorf("%s holds %d records instead of %d", topic, end.Offset, want)
		}
	}
	return nil
}
