package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// listen has a witness hear what clients of an endpoint's proxy are told, from
// their next connection until the returned function is called. A run without
// proxies has no tap to put it into: it hears nothing then.
func (s *scenarioRun) listen(e *endpoint) (w *witness, end func()) {
	w = newWitness()
	for _, p := range s.proxies {
		if p.tap != nil && p.name == e.name {
			p.tap.witness.Store(w)
			return w, func() { p.tap.witness.Store(nil) }
		}
	}
	return w, func() {}
}

// leaderMovesClients moves leaders about under clients of other makers: a
// librdkafka and a Sarama producer, and a consumer of each. No broker is lost
// here, so that any error that a client reports is one too many.
func leaderMovesClients(ctx context.Context, s *scenarioRun) (string, error) {
	const topic = "clients-leader-moves"
	if err := s.cluster.createTopic(ctx, topic, 6, 3); err != nil {
		return "", err
	}
	if err := s.librdkafkaVerifies(ctx); err != nil {
		return "", err
	}
	w, end := s.listen(s.tapped)
	defer end()
	rdConsumer, err := s.startLibrdkafka(ctx, s.tapped, nil, "consume", topic, topic+"-group", "0")
	if err != nil {
		return "", err
	}
	rdProducer, err := s.startLibrdkafka(ctx, s.tapped, nil, "produce", topic, "librdkafka", "1000")
	if err != nil {
		return "", err
	}
	saramaConsumer, err := s.startSaramaConsumer(ctx, s.tapped, topic, 0)
	if err != nil {
		return "", err
	}
	saramaProducer, err := s.startSaramaProducer(ctx, s.tapped, topic)
	if err != nil {
		return "", err
	}
	all := func() error {
		if err := progressed(rdProducer, rdConsumer); err != nil {
			return err
		}
		return errors.Join(saramaProducer.progressed(ctx), saramaConsumer.progressed(ctx))
	}
	if err := all(); err != nil {
		return "", err
	}
	moves := 0
	for _, leaders := range [][]int32{{1, 2, 3}, {2, 3, 1}, {3}, {1}, {1, 2, 3}, {3, 1, 2}} {
		if err := s.cluster.lead(ctx, topic, leaders...); err != nil {
			return "", err
		}
		moves++
		if err := all(); err != nil {
			return "", fmt.Errorf("after move %d of leaders: %w", moves, err)
		}
	}
	rdSent, slowest, err := endProducer(rdProducer)
	if err != nil {
		return "", err
	}
	saramaSent, err := saramaProducer.end(ctx)
	if err != nil {
		return "", err
	}
	rdRead, err := endConsumer(rdConsumer, rdSent+saramaSent)
	if err != nil {
		return "", err
	}
	saramaRead, err := saramaConsumer.end(ctx, rdSent+saramaSent)
	if err != nil {
		return "", err
	}
	log, err := s.cluster.audit(ctx, topic)
	if err == nil {
		err = log.exactly(map[string]int64{"librdkafka": rdSent, "sarama": saramaSent})
	}
	if err == nil {
		err = errors.Join(w.err(), untroubled(rdProducer, rdConsumer))
	}
	figures := fmt.Sprintf("%d moves: %d records, each once in the log, slowest ack %d ms\n  librdkafka %s\n  Sarama     %s\n%s",
		moves, rdSent+saramaSent, slowest, rdRead, saramaRead, w)
	if err != nil || s.direct {
		return figures, err
	}
	if w.of("librdkafka", "Produce").whole == 0 || w.of("librdkafka", "Fetch").whole+w.of("librdkafka", "Fetch").inPlace == 0 || w.of("sarama", "Produce").whole == 0 {
		err = fmt.Errorf("not every client was told the address of a new leader:\n%s", w)
	}
	return figures, err
}

// longAnswersClients is longAnswers for clients of other makers: answers too
// long to be kept, at whose end an address is put in place, or left out.
func longAnswersClients(noFit bool) func(context.Context, *scenarioRun) (string, error) {
	return func(ctx context.Context, s *scenarioRun) (string, error) {
		if noFit {
			return s.longAnswersClients(ctx, s.sasl, "clients-long-no-fit", true)
		}
		return s.longAnswersClients(ctx, s.tapped, "clients-long-answers", false)
	}
}

func (s *scenarioRun) longAnswersClients(ctx context.Context, e *endpoint, topic string, noFit bool) (string, error) {
	const backlog = 50_000 // both read about 1000 of them a second while leaders move
	if err := s.cluster.createTopic(ctx, topic, 12, 3); err != nil {
		return "", err
	}
	if err := s.cluster.fill(ctx, topic, backlog); err != nil {
		return "", err
	}
	leaders, err := s.dealLeaders(ctx, topic)
	if err != nil {
		return "", err
	}
	w, end := s.listen(e)
	defer end()
	// Little is fetched ahead, so that there is something left to fetch.
	paced := []string{"max.partition.fetch.bytes=200000", "queued.min.messages=500", "fetch.queue.backoff.ms=50"}
	rd, err := s.startLibrdkafka(ctx, e, paced, "consume", topic, topic+"-group", "100")
	if err != nil {
		return "", err
	}
	sarama, err := s.startSaramaConsumer(ctx, e, topic, 50*time.Millisecond)
	if err != nil {
		return "", err
	}
	enough := func() bool { // for the figures, long before there is nothing left to read
		fetches := w.of("librdkafka", "Fetch")
		return fetches.padded >= 3 || fetches.leftOut >= 3
	}
	for step := 0; step < 3 || step < 8 && !enough(); step++ {
		if err := errors.Join(progressed(rd), sarama.progressed(ctx)); err != nil {
			return "", err
		}
		if err := leaders.move(ctx, step); err != nil {
			return "", err
		}
	}
	rdRead, err := endConsumer(rd, backlog)
	if err != nil {
		return "", err
	}
	saramaRead, err := sarama.end(ctx, backlog)
	if err != nil {
		return "", err
	}
	err = errors.Join(w.err(), untroubled(rd))
	fetches := w.of("librdkafka", "Fetch")
	figures := fmt.Sprintf("librdkafka was told of new leaders at the end of long answers: %d times with the address, %d padded; %d without\n  librdkafka %s\n  Sarama     %s\n%s",
		fetches.inPlace, fetches.padded, fetches.leftOut, rdRead, saramaRead, w)
	switch {
	case err != nil || s.direct:
	case !noFit && (fetches.padded == 0 || fetches.leftOut > 0), noFit && (fetches.leftOut == 0 || fetches.inPlace > 0):
		err = errors.New("the long answers were not of the kind this is about:\n" + figures)
	}
	return figures, err
}
