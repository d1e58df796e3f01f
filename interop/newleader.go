package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
)

// newLeader measures how long a producer is without a leader when its partition
// moves: once as brokers tell clients of the new leader in their Produce
// answers (KIP-951), whose addresses have to be rewritten for that, and once as
// it would be if those addresses were left out and clients asked for metadata.
func newLeader(ctx context.Context, s *scenarioRun) (string, error) {
	const topic, moves = "new-leader", 5
	if err := s.cluster.createTopic(ctx, topic, 1, 3); err != nil {
		return "", err
	}
	told, err := s.goClient(s.tls, kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(0))
	if err != nil {
		return "", err
	}
	defer told.Close()
	before951 := kversion.Tip()
	before951.SetMaxKeyVersion(0, 9)
	before951.SetMaxKeyVersion(1, 15)
	asking, err := s.goClient(s.tls, kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(0), kgo.MaxVersions(before951))
	if err != nil {
		return "", err
	}
	defer asking.Close()

	var gaps [2][]time.Duration
	for i := range moves {
		for which, client := range []*kgo.Client{told, asking} {
			// The move begins when the producer has had its first answers.
			moved := make(chan error, 1)
			gap, err := slowestAck(ctx, client, func() {
				moved <- s.cluster.lead(ctx, topic, int32((2*i+which)%brokerCount+1))
			}, moved)
			if err != nil {
				return "", err
			}
			gaps[which] = append(gaps[which], gap)
		}
	}
	return fmt.Sprintf("%d moves each, longest time from sending a record to its ack: told of the new leader %s; asking for metadata %s",
		moves, spread(gaps[0]), spread(gaps[1])), nil
}

// slowestAck sends one record after the other, starts move after the first
// ones, and returns the longest that a record took until 50 have been sent after
// the move has ended.
func slowestAck(ctx context.Context, client *kgo.Client, move func(), moved chan error) (time.Duration, error) {
	var slowest time.Duration
	for sent, after := 0, -1; after < 50; sent++ {
		if sent == 50 {
			go move()
		}
		began := time.Now()
		if err := client.ProduceSync(ctx, &kgo.Record{Value: []byte("x")}).FirstErr(); err != nil {
			return 0, err
		}
		if sent >= 50 {
			slowest = max(slowest, time.Since(began))
		}
		if after >= 0 {
			after++
			continue
		}
		select {
		case err := <-moved:
			if err != nil {
				return 0, errors.Join(errors.New("moving the leader"), err)
			}
			after = 0
		default:
		}
	}
	return slowest, nil
}

func spread(d []time.Duration) string {
	slices.Sort(d)
	return fmt.Sprintf("%d ms (%d–%d)", d[len(d)/2].Milliseconds(), d[0].Milliseconds(), d[len(d)-1].Milliseconds())
}
