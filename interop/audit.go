package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
)

// tally counts records by who sent them. A record's value is
// "tag:number:padding"; each producer has its tag and numbers its records
// from 0 (interop/java/Tally.java counts the same way).
type tally struct {
	seen     map[string]map[int]bool
	records  int64
	distinct int64
}

func newTally() *tally { return &tally{seen: map[string]map[int]bool{}} }

func (t *tally) add(value []byte) error {
	parts := bytes.SplitN(value, []byte(":"), 3)
	if len(parts) != 3 {
		return fmt.Errorf("a record that no producer of ours sent: %.60q", value)
	}
	number, err := strconv.Atoi(string(parts[1]))
	if err != nil {
		return err
	}
	tag := string(parts[0])
	if t.seen[tag] == nil {
		t.seen[tag] = map[int]bool{}
	}
	t.records++
	if !t.seen[tag][number] {
		t.seen[tag][number] = true
		t.distinct++
	}
	return nil
}

// exactly reports whether a producer's records 0 … sent-1 are all there, each
// of them once.
func (t *tally) exactly(sent map[string]int64) error {
	var total int64
	for tag, count := range sent {
		for number := range int(count) {
			if !t.seen[tag][number] {
				return fmt.Errorf("the log has lost record %d of %d from %s", number, count, tag)
			}
		}
		total += count
	}
	if t.records != total {
		return fmt.Errorf("%d records were sent, %d are in the log, %d of them different", total, t.records, t.distinct)
	}
	return nil
}

// audit reads a topic from its start to its end through the brokers' internal
// listeners: what the log holds, whatever clients think of it.
func (c *cluster) audit(ctx context.Context, topic string) (*tally, error) {
	ends, err := c.admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	from := map[int32]kgo.Offset{}
	left := map[int32]int64{}
	for _, end := range ends[topic] {
		if end.Err != nil {
			return nil, end.Err
		}
		if end.Offset > 0 {
			from[end.Partition] = kgo.NewOffset().AtStart()
			left[end.Partition] = end.Offset
		}
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(c.seeds()...),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		// Control records take up offsets too.
		kgo.KeepControlRecords(),
	)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	t := newTally()
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("reading %s back: %w", topic, err)
		}
		for record := range fetches.RecordsAll() {
			if !record.Attrs.IsControl() {
				if err := t.add(record.Value); err != nil {
					return nil, err
				}
			}
			if record.Offset+1 >= left[record.Partition] {
				delete(left, record.Partition)
			}
		}
	}
	return t, nil
}
