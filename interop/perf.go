package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// perfRun is what the two perf tools say of one way to the cluster.
type perfRun struct {
	produced, consumed     string        // the tools' own lines
	produceMBs, consumeMBs float64       // as the tools count them
	produceCPU, consumeCPU time.Duration // of the proxy
}

// perfTools sends and reads back the same data directly and through the proxy,
// with Kafka's own tools. The topics have one replica, so that brokers copying
// to each other do not hide what the proxy costs. Client, brokers and proxy
// share this machine's cores: the ratio is what counts, and it is a lower
// bound of what separate machines would give.
func perfTools(ctx context.Context, s *scene) (string, error) {
	// Each run finds the brokers warmer than the one before it did. The direct
	// one comes last, so that the ratio is not flattered.
	if _, err := s.perf(ctx, s.directTLS, "perf-warm-up", s.perfRecords/4, nil); err != nil {
		return "", err
	}
	through, err := s.perf(ctx, s.tls, "perf-proxied", s.perfRecords, s.proxies["tls"])
	if err != nil {
		return "", err
	}
	direct, err := s.perf(ctx, s.directTLS, "perf-direct", s.perfRecords, nil)
	if err != nil {
		return "", err
	}
	gigabytes := float64(s.perfRecords) * perfRecordSize / 1e9
	figures := fmt.Sprintf("produce %.0f MB/s (%.2f of direct), consume %.0f MB/s (%.2f); proxy CPU %.2f and %.2f s/GB",
		through.produceMBs, through.produceMBs/direct.produceMBs, through.consumeMBs, through.consumeMBs/direct.consumeMBs,
		through.produceCPU.Seconds()/gigabytes, through.consumeCPU.Seconds()/gigabytes)
	lines := fmt.Sprintf("  produce direct   %s\n  produce proxied  %s\n  consume direct   %s\n  consume proxied  %s",
		direct.produced, through.produced, direct.consumed, through.consumed)
	return figures + "\n" + lines, nil
}

const perfRecordSize = 1000

var (
	producerLine = regexp.MustCompile(`(?m)^[0-9]+ records sent, [0-9.]+ records/sec \(([0-9.]+) MB/sec\),.*99\.9th\.?$`)
	// start, end, MB, MB/s, records, …
	consumerLine = regexp.MustCompile(`(?m)^[0-9-]+ [0-9:.]+, [0-9-]+ [0-9:.]+, [0-9.]+, ([0-9.]+), ([0-9]+),.*$`)
)

// perf writes and reads back one topic by one way to the cluster; p is the
// proxy on that way, or nil.
func (s *scene) perf(ctx context.Context, e *endpoint, topic string, count int, p *proxy) (perfRun, error) {
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
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold anything; utime and stime are the 12th
	// and 13th fields after it, in ticks of 10 ms (proc(5)).
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var ticks time.Duration
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, err
		}
		ticks += time.Duration(n)
	}
	return ticks * 10 * time.Millisecond, nil
}
