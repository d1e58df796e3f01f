package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"kafka-sni-proxy/internal/harness/procfs"
)

// perfRun is what the two perf tools say of one way to the cluster.
type perfRun struct {
	produced, consumed     string        // the tools' own lines
	produceMBs, consumeMBs float64       // as the tools count them
	produceCPU, consumeCPU time.Duration // of the proxy
}

// perfPairs is how often each way is measured, and perfWarmUp how much of the
// data is sent each way before that. Brokers that have just started compile
// their code while they serve, on the same cores: the first gigabyte takes them
// several times as long as the fourth, whatever the way.
const (
	perfPairs  = 3
	perfWarmUp = 2
)

// perfTools sends and reads back the same data directly and through the proxy,
// with Kafka's own tools: in pairs, in turns first, so that neither way always
// meets the warmer brokers. The topics have one replica, so that brokers copying
// to each other do not hide what the proxy costs. Client, brokers and proxy
// share this machine's cores: the ratio is what counts, and it is a lower
// bound of what separate machines would give.
func perfTools(ctx context.Context, s *scenarioRun) (string, error) {
	direct := func(topic string) (perfRun, error) { return s.perf(ctx, s.directTLS, topic, s.perfRecords, nil) }
	proxied := func(topic string) (perfRun, error) { return s.perf(ctx, s.tls, topic, s.perfRecords, s.proxies["tls"]) }
	for n := range perfWarmUp {
		if _, err := direct(fmt.Sprintf("perf-warm-up-direct-%d", n)); err != nil {
			return "", err
		}
		if _, err := proxied(fmt.Sprintf("perf-warm-up-proxied-%d", n)); err != nil {
			return "", err
		}
	}
	var lines []string
	var produceMBs, consumeMBs, produceRatio, consumeRatio, produceCPU, consumeCPU []float64
	gigabytes := float64(s.perfRecords) * perfRecordSize / 1e9
	for n := range perfPairs {
		var d, p perfRun
		ways := []func() error{
			func() (err error) { p, err = proxied(fmt.Sprintf("perf-proxied-%d", n)); return err },
			func() (err error) { d, err = direct(fmt.Sprintf("perf-direct-%d", n)); return err },
		}
		for i := range ways {
			if err := ways[(i+n)%len(ways)](); err != nil {
				return "", err
			}
		}
		produceMBs, consumeMBs = append(produceMBs, p.produceMBs), append(consumeMBs, p.consumeMBs)
		produceRatio = append(produceRatio, p.produceMBs/d.produceMBs)
		consumeRatio = append(consumeRatio, p.consumeMBs/d.consumeMBs)
		produceCPU = append(produceCPU, p.produceCPU.Seconds()/gigabytes)
		consumeCPU = append(consumeCPU, p.consumeCPU.Seconds()/gigabytes)
		lines = append(lines,
			fmt.Sprintf("  %d produce direct   %s", n+1, d.produced), fmt.Sprintf("  %d produce proxied  %s", n+1, p.produced),
			fmt.Sprintf("  %d consume direct   %s", n+1, d.consumed), fmt.Sprintf("  %d consume proxied  %s", n+1, p.consumed))
	}
	figures := fmt.Sprintf("medians: produce %.0f MB/s (%s of direct), consume %.0f MB/s (%s); proxy CPU %s and %s s/GB",
		median(produceMBs), medianAndRange(produceRatio), median(consumeMBs), medianAndRange(consumeRatio), medianAndRange(produceCPU), medianAndRange(consumeCPU))
	return figures + "\n" + strings.Join(lines, "\n"), nil
}

func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}

// medianAndRange tells the median, and from where to where the values go.
func medianAndRange(of []float64) string {
	return fmt.Sprintf("%.2f [%.2f–%.2f]", median(of), slices.Min(of), slices.Max(of))
}

const perfRecordSize = 1000

var (
	producerLine = regexp.MustCompile(`(?m)^[0-9]+ records sent, [0-9.]+ records/sec \(([0-9.]+) MB/sec\),.*99\.9th\.?$`)
	// start, end, MB, MB/s, records, …
	consumerLine = regexp.MustCompile(`(?m)^[0-9-]+ [0-9:.]+, [0-9-]+ [0-9:.]+, [0-9.]+, ([0-9.]+), ([0-9]+),.*$`)
)

// perf writes and reads back one topic by one way to the cluster; p is the
// proxy on that way, or nil.
func (s *scenarioRun) perf(ctx context.Context, e *endpoint, topic string, count int, p *proxy) (perfRun, error) {
	var r perfRun
	if err := s.cluster.createTopic(ctx, topic, 6, 1); err != nil {
		return r, err
	}
	var before, between, after time.Duration
	var err error
	if before, err = p.cpu(); err != nil {
		return r, err
	}
	output, err := s.tool(ctx, e, "org.apache.kafka.tools.ProducerPerformance", "--topic", topic,
		"--num-records", fmt.Sprint(count), "--record-size", fmt.Sprint(perfRecordSize), "--throughput", "-1")
	if err != nil {
		return r, err
	}
	found := producerLine.FindStringSubmatch(output)
	if found == nil || !strings.HasPrefix(found[0], fmt.Sprint(count)+" ") {
		return r, fmt.Errorf("the producer tool does not say that it has sent all records:\n%s", output)
	}
	r.produced = found[0]
	r.produceMBs, _ = strconv.ParseFloat(found[1], 64)
	if between, err = p.cpu(); err != nil {
		return r, err
	}
	output, err = s.tool(ctx, e, "org.apache.kafka.tools.ConsumerPerformance", "--topic", topic,
		"--num-records", fmt.Sprint(count), "--timeout", "30000", "--group", topic)
	if err != nil {
		return r, err
	}
	if after, err = p.cpu(); err != nil {
		return r, err
	}
	found = consumerLine.FindStringSubmatch(output)
	if found == nil || found[2] != fmt.Sprint(count) {
		return r, fmt.Errorf("the consumer tool does not say that it has read all records:\n%s", output)
	}
	r.consumed = found[0]
	r.consumeMBs, _ = strconv.ParseFloat(found[1], 64)
	r.produceCPU, r.consumeCPU = between-before, after-between
	return r, s.cluster.deleteTopic(ctx, topic)
}

// cpu is the processor time a proxy has used so far; a nil proxy uses none.
// Only Linux tells it.
func (p *proxy) cpu() (time.Duration, error) {
	if p == nil {
		return 0, nil
	}
	used, err := procfs.Read(p.PID())
	if errors.Is(err, errors.ErrUnsupported) {
		return 0, nil
	}
	return used.CPU, err
}
