package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// longAnswers moves leaders while consumers have a backlog to read, so that
// brokers tell of the new leader at the end of an answer full of records. The
// proxy has sent the beginning of such an answer on, and its length with it,
// when it sees the address at its end; the names that it puts there have to
// fit into what stood there before, or are left out. Clients have to take
// both. Names that do not fit are those that the SASL proxy gives.
func longAnswers(noFit bool) func(context.Context, *scenarioRun) (string, error) {
	return func(ctx context.Context, s *scenarioRun) (string, error) {
		topic, e := "long-answers", s.tapped
		if noFit {
			topic, e = "long-answers-no-fit", s.sasl.with(login("PLAIN", saslSecret)...)
		}
		return s.longAnswers(ctx, e, topic, noFit && !s.direct)
	}
}

const backlog = 100_000 // records of about 1000 bytes

func (s *scenarioRun) longAnswers(ctx context.Context, e *endpoint, topic string, noFit bool) (string, error) {
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
	paced := e.with("max.poll.records=50", "max.partition.fetch.bytes=200000")
	consumer, err := s.startJava(ctx, paced, "consume", topic, topic+"-group", "10")
	if err != nil {
		return "", err
	}
	share, err := s.startJava(ctx, e, "share", topic, topic+"-share", "50")
	if err != nil {
		return "", err
	}
	var franz *franzConsumer
	if !strings.HasPrefix(e.name, "sasl") {
		if franz, err = s.startFranzConsumer(ctx, e, topic, 10*time.Millisecond); err != nil {
			return "", err
		}
	}
	for step := range 6 {
		if err := progressed(consumer, share); err != nil {
			return "", err
		}
		if err := leaders.move(ctx, step); err != nil {
			return "", err
		}
	}
	consumed, err := endConsumer(consumer, backlog)
	if err != nil {
		return "", err
	}
	shared, err := endConsumer(share, backlog)
	if err != nil {
		return "", fmt.Errorf("share group: %w", err)
	}
	read := ""
	if franz != nil {
		if read, err = franz.end(ctx, backlog); err != nil {
			return "", err
		}
		read = "; franz-go " + read
	}
	found, err := longAnswersIn(consumer.log(), share.log())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s\n  consumer %s; share consumer %s%s", found, consumed, shared, read), found.check(noFit, s.direct)
}

// answers counts the long answers that told of a new leader.
type answers struct {
	withOurs, withOthers, without map[string]int // by API: the new leader's address is ours, is another, was left out
}

var (
	receivedRecords = regexp.MustCompile(`Received (FETCH|SHARE_FETCH) response .*[rR]esponseData\(`)
	recordsSize     = regexp.MustCompile(`MemoryRecords\(size=([0-9]+)`)
	leaderMoved     = regexp.MustCompile(`partitionIndex=[0-9]+, errorCode=(6|74),`) // NOT_LEADER_OR_FOLLOWER, FENCED_LEADER_EPOCH
)

// longAnswersIn reads the DEBUG logs of Java consumers.
func longAnswersIn(logs ...string) (answers, error) {
	found := answers{map[string]int{}, map[string]int{}, map[string]int{}}
	for _, path := range logs {
		err := eachLine(path, func(line string) {
			m := receivedRecords.FindStringSubmatch(line)
			if m == nil || !leaderMoved.MatchString(line) {
				return
			}
			bytes := 0
			for _, size := range recordsSize.FindAllStringSubmatch(line, -1) {
				n, _ := strconv.Atoi(size[1])
				bytes += n
			}
			if bytes < 64<<10 { // the proxy keeps shorter ones until they are complete
				return
			}
			_, endpoints, _ := strings.Cut(line, "nodeEndpoints=")
			hosts := endpointHost.FindAllStringSubmatch(endpoints, -1)
			for _, host := range hosts {
				if !strings.HasSuffix(host[1], "."+suffix) {
					found.withOthers[m[1]]++
					return
				}
			}
			if len(hosts) > 0 {
				found.withOurs[m[1]]++
			} else {
				found.without[m[1]]++
			}
		})
		if err != nil {
			return found, err
		}
	}
	return found, nil
}

func (a answers) String() string {
	return fmt.Sprintf("long answers that told of a new leader: Fetch %d with its address, %d without; ShareFetch %d and %d",
		a.withOurs["FETCH"]+a.withOthers["FETCH"], a.without["FETCH"], a.withOurs["SHARE_FETCH"]+a.withOthers["SHARE_FETCH"], a.without["SHARE_FETCH"])
}

func (a answers) check(noFit, direct bool) error {
	if direct {
		return nil
	}
	want, other := a.withOurs, a.without
	if noFit {
		want, other = a.without, a.withOurs
	}
	switch {
	case len(a.withOthers) > 0:
		return fmt.Errorf("addresses that are not the proxy's: %v", a.withOthers)
	case want["FETCH"] == 0:
		return errors.New("no Fetch answer was the kind this is about: " + a.String())
	case len(other) > 0:
		return errors.New("an answer was not of the kind that it had to be: " + a.String())
	}
	return nil
}

// fill writes numbered records of about 1000 bytes through the internal listeners.
func (c *cluster) fill(ctx context.Context, topic string, count int64) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(c.seeds()...),
		kgo.DefaultProduceTopic(topic),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()),
		kgo.ProducerLinger(5*time.Millisecond),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	var failure kgo.FirstErrPromise
	for number := range count {
		client.Produce(ctx, &kgo.Record{Value: numbered("fill", number, 1000)}, failure.Promise())
	}
	return failure.Err()
}
