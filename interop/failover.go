package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"kafka-sni-proxy/internal/harness"
)

// brokerRestart restarts a broker in the middle of producing and consuming: the
// one that coordinates the consumer's group, which is the hardest to do without.
func brokerRestart(ctx context.Context, s *scenarioRun) (string, error) {
	const topic = "broker-restart"
	if err := s.cluster.createTopic(ctx, topic, 6, 3); err != nil {
		return "", err
	}
	consumer, err := s.startJava(ctx, s.tls, "consume", topic, topic)
	if err != nil {
		return "", err
	}
	producer, err := s.startJava(ctx, s.tls, "produce", topic, "java", "1500", "0")
	if err != nil {
		return "", err
	}
	if err := progressed(producer, consumer); err != nil {
		return "", err
	}
	coordinators := s.cluster.admin.FindGroupCoordinators(ctx, topic)
	if err := coordinators.Error(); err != nil {
		return "", err
	}
	b := s.cluster.brokers[coordinators[topic].NodeID-1]
	begin := time.Now()
	if err := b.shutDown(); err != nil {
		return "", err
	}
	if err := progressed(producer, consumer); err != nil {
		return "", err
	}
	if err := s.cluster.start(b); err != nil {
		return "", err
	}
	if err := s.cluster.whole(ctx); err != nil {
		return "", err
	}
	if err := s.cluster.lead(ctx, topic, b.id); err != nil {
		return "", err
	}
	away := time.Since(begin)
	if err := progressed(producer, consumer); err != nil {
		return "", err
	}
	flow, err := s.endFlow(ctx, producer, consumer, topic)
	return fmt.Sprintf("broker %d was away for %.0f s; %s", b.id, away.Seconds(), flow), err
}

// endFlow ends a Java producer and the consumer of what it produces. Every record
// must have been acknowledged, read, and be in the log once.
func (s *scenarioRun) endFlow(ctx context.Context, producer, consumer *process, topic string) (figures string, err error) {
	sent, slowest, err := endProducer(producer)
	if err != nil {
		return "", err
	}
	result, err := endConsumer(consumer, sent)
	if err != nil {
		return "", err
	}
	log, err := s.cluster.audit(ctx, topic)
	if err == nil {
		err = log.exactly(map[string]int64{"java": sent})
	}
	return fmt.Sprintf("%d records, each once in the log, slowest ack %d ms; consumer: %s", sent, slowest, result), err
}

// progressed waits until each Java client has done another 500 records or more
// from now on.
func progressed(clients ...*process) error {
	for _, p := range clients {
		p.skip()
		for range 2 {
			if _, err := p.expect("progress"); err != nil {
				return err
			}
		}
	}
	return nil
}

// skip forgets the lines that are there already.
func (p *process) skip() {
	for {
		select {
		case _, open := <-p.lines:
			if !open {
				return
			}
		default:
			return
		}
	}
}

// endProducer stops a producer that runs until its standard input ends, and
// returns how many records it sent; all of them have to be acknowledged.
func endProducer(p *process) (sent, slowest int64, err error) {
	p.Stdin.Close()
	result, err := p.finish()
	if err != nil {
		return 0, 0, err
	}
	sent = figure(result, "sent")
	if sent <= 0 || figure(result, "acked") != sent {
		return 0, 0, fmt.Errorf("the producer got no acknowledgement for some records: %s", result)
	}
	return sent, figure(result, "slowest-ack-ms"), nil
}

func endConsumer(p *process, distinct int64) (string, error) {
	if err := p.order("until %d", distinct); err != nil {
		return "", err
	}
	result, err := p.finish()
	if err == nil && figure(result, "distinct") != distinct {
		err = fmt.Errorf("%d records were sent, the consumer was given %s", distinct, result)
	}
	return result, err
}

// lead makes brokers lead the partitions of a topic in turn: the first one
// partition 0, the second one partition 1, and so on from the start again.
func (c *cluster) lead(ctx context.Context, topic string, leaders ...int32) error {
	now, err := c.leaders(ctx, topic)
	if err != nil {
		return err
	}
	var assignments kadm.AlterPartitionAssignmentsReq
	want := map[int32]int32{}
	for partition := range now {
		leader := leaders[int(partition)%len(leaders)]
		want[partition] = leader
		replicas := []int32{leader}
		for _, b := range c.brokers {
			if b.id != leader {
				replicas = append(replicas, b.id)
			}
		}
		assignments.Assign(topic, partition, replicas)
	}
	altered, err := c.admin.AlterPartitionAssignments(ctx, assignments)
	if err = errors.Join(err, altered.Error()); err != nil {
		return fmt.Errorf("ordering the replicas of %s: %w", topic, err)
	}
	return harness.Await(ctx, "moving the leaders of "+topic, func() error {
		// What the results say of each partition does not matter: one that is
		// led as wanted already is an error, too.
		if _, err := c.admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, kadm.TopicsSet{topic: setOf(want)}); err != nil {
			return err
		}
		now, err := c.leaders(ctx, topic)
		if err != nil {
			return err
		}
		for partition, leader := range want {
			if now[partition] != leader {
				return fmt.Errorf("partition %d is led by %d, not yet by %d", partition, now[partition], leader)
			}
		}
		return nil
	})
}

func setOf(partitions map[int32]int32) map[int32]struct{} {
	set := map[int32]struct{}{}
	for partition := range partitions {
		set[partition] = struct{}{}
	}
	return set
}

// leaderMoves moves the leaders of partitions about, kills a broker and brings
// it back, while a Java producer, a Java consumer, a share consumer, and a
// franz-go producer and consumer are at work. Brokers tell clients of the new
// leader and where it lives in their answers to Produce, Fetch and ShareFetch
// (KIP-951, KIP-932); these addresses have to be the proxy's.
func leaderMoves(ctx context.Context, s *scenarioRun) (string, error) {
	const topic = "leader-moves"
	if err := s.cluster.createTopic(ctx, topic, 6, 3); err != nil {
		return "", err
	}
	var java [3]*process
	for i, subcommand := range [][]string{
		{"consume", topic, topic + "-group"},
		{"share", topic, topic + "-share"},
		{"produce", topic, "java", "1000", "0"},
	} {
		var err error
		if java[i], err = s.startJava(ctx, s.tapped, subcommand[0], subcommand[1:]...); err != nil {
			return "", err
		}
	}
	consumer, share, producer := java[0], java[1], java[2]
	franzConsumer, err := s.startFranzConsumer(ctx, s.tapped, topic, 0)
	if err != nil {
		return "", err
	}
	franzProducer, err := s.startFranzProducer(ctx, s.tapped, topic)
	if err != nil {
		return "", err
	}

	all := func() error {
		if err := progressed(producer, consumer, share); err != nil {
			return err
		}
		return errors.Join(franzProducer.progressed(ctx), franzConsumer.progressed(ctx))
	}
	moves := 0
	move := func(leaders ...int32) error {
		if err := s.cluster.lead(ctx, topic, leaders...); err != nil {
			return err
		}
		moves++
		return all()
	}
	if err := all(); err != nil {
		return "", err
	}
	for _, leaders := range [][]int32{{1, 2, 3}, {2, 3, 1}, {3}, {1}, {1, 2, 3}} {
		if err := move(leaders...); err != nil {
			return "", fmt.Errorf("after move %d of leaders: %w", moves, err)
		}
	}
	b := s.cluster.brokers[1]
	b.crash()
	if err := all(); err != nil {
		return "", fmt.Errorf("after the crash of a broker: %w", err)
	}
	if err := s.cluster.start(b); err != nil {
		return "", err
	}
	if err := s.cluster.whole(ctx); err != nil {
		return "", err
	}
	if err := move(2, 3, 1); err != nil {
		return "", fmt.Errorf("after the return of a broker: %w", err)
	}

	sent, slowest, err := endProducer(producer)
	if err != nil {
		return "", err
	}
	franzSent, err := franzProducer.end(ctx)
	if err != nil {
		return "", err
	}
	total := sent + franzSent
	consumed, err := endConsumer(consumer, total)
	if err != nil {
		return "", err
	}
	shared, err := endConsumer(share, total)
	if err != nil {
		return "", fmt.Errorf("share group: %w", err)
	}
	franzConsumed, err := franzConsumer.end(ctx, total)
	if err != nil {
		return "", err
	}
	log, err := s.cluster.audit(ctx, topic)
	if err == nil {
		err = log.exactly(map[string]int64{"java": sent, "franz": franzSent})
	}
	if err != nil {
		return "", err
	}
	told, err := toldLeaders(s.direct, producer, consumer, share)
	figures := fmt.Sprintf("%d moves and a kill -9: %d records, each once in the log, slowest ack %d ms\n", moves, total, slowest)
	figures += fmt.Sprintf("  Java consumer   %s\n  share consumer  %s\n  franz-go        %s\n%s", consumed, shared, franzConsumed, told)
	return figures, err
}

var (
	receivedEndpoints = regexp.MustCompile(`Received ([A-Z_]+) response .*nodeEndpoints=\[(NodeEndpoint\(.*?\))\]`)
	endpointHost      = regexp.MustCompile(`host='([^']*)', port=([0-9]+)`)
	tookLeader        = regexp.MustCompile(`updating leader information, updated metadata is`)
)

// toldLeaders reads off the DEBUG logs of Java clients which addresses of new
// leaders they were told of in answers other than Metadata, and how often they
// went by them. Its three kinds of lines: NetworkClient writes each answer it
// has decoded; Metadata writes "updating leader information" when it takes a
// leader from one; both come before any new Metadata answer.
func toldLeaders(direct bool, clients ...*process) (string, error) {
	told := map[string]int{}
	taken := 0
	var sample string
	for _, p := range clients {
		err := eachLine(p.log(), func(line string) {
			if tookLeader.MatchString(line) {
				taken++
			}
			m := receivedEndpoints.FindStringSubmatch(line)
			if m == nil {
				return
			}
			for _, host := range endpointHost.FindAllStringSubmatch(m[2], -1) {
				told[m[1]]++
				sample = fmt.Sprintf("%s:%s", host[1], host[2])
				if !direct && !strings.HasSuffix(host[1], "."+suffix) {
					told["WRONG"]++
				}
			}
		})
		if err != nil {
			return "", err
		}
	}
	figures := fmt.Sprintf("  new leaders the Java clients were told of: Produce %d, Fetch %d, ShareFetch %d, ShareAcknowledge %d, for example %s; went by them %d times",
		told["PRODUCE"], told["FETCH"], told["SHARE_FETCH"], told["SHARE_ACKNOWLEDGE"], sample, taken)
	switch {
	case told["WRONG"] > 0:
		return figures, fmt.Errorf("%d of the addresses are not the proxy's: %v", told["WRONG"], told)
	case told["PRODUCE"] == 0 || told["FETCH"] == 0 || told["SHARE_FETCH"] == 0 || taken == 0:
		return figures, errors.New("not every kind of answer told of a new leader, or no client went by it:\n" + figures)
	}
	return figures, nil
}

// movingLeaders are who leads each of the twelve partitions of a topic.
type movingLeaders struct {
	cluster *cluster
	topic   string
	ids     []int32
}

// dealLeaders has the partitions of a topic led by the three brokers in turn.
func (s *scenarioRun) dealLeaders(ctx context.Context, topic string) (*movingLeaders, error) {
	l := &movingLeaders{s.cluster, topic, []int32{1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3}}
	return l, l.cluster.lead(ctx, topic, l.ids...)
}

// move gives a quarter of the partitions to the next broker, so that the old one
// has records of the others to send along.
func (l *movingLeaders) move(ctx context.Context, step int) error {
	for partition := 3 * (step % 4); partition < 3*(step%4)+3; partition++ {
		l.ids[partition] = l.ids[partition]%brokerCount + 1
	}
	return l.cluster.lead(ctx, l.topic, l.ids...)
}
