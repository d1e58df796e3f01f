package kafka

import (
	"bytes"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// withErrors returns responses to Produce and Fetch, in all versions, that have these
// errors, each of a partition of its own.
func withErrors(codes ...int16) (all []*message) {
	for version := range schemaFor(keyProduce).newest + 1 {
		m := &kmsg.ProduceResponse{Version: version}
		for i, code := range codes {
			m.Topics = append(m.Topics, kmsg.ProduceResponseTopic{Topic: "orders", Partitions: []kmsg.ProduceResponseTopicPartition{
				{Partition: int32(i), ErrorCode: code, ErrorRecords: []kmsg.ProduceResponseTopicPartitionErrorRecord{{RelativeOffset: 6}}}}})
		}
		all = append(all, &message{correlation: 1, Response: m})
	}
	for version := range schemaFor(keyFetch).newest + 1 {
		m := &kmsg.FetchResponse{Version: version, SessionID: 6}
		for i, code := range codes {
			m.Topics = append(m.Topics, kmsg.FetchResponseTopic{Topic: "orders", Partitions: []kmsg.FetchResponseTopicPartition{
				{Partition: int32(i), ErrorCode: code, HighWatermark: 6, RecordBatches: bytes.Repeat([]byte{0, 6}, 20),
					AbortedTransactions: []kmsg.FetchResponseTopicPartitionAbortedTransaction{{ProducerID: 6}}}}})
		}
		all = append(all, &message{correlation: 1, Response: m})
	}
	return all
}

// TestResponsesOfOtherBrokersPartitionsAreCounted cuts each response at every byte.
func TestResponsesOfOtherBrokersPartitionsAreCounted(t *testing.T) {
	for _, tc := range []struct {
		codes []int16
		want  int64
	}{{[]int16{6}, 1}, {[]int16{0, 0, 6, 6}, 1}, {[]int16{0, 3, 5, 7}, 0}, {nil, 0}} {
		for _, m := range withErrors(tc.codes...) {
			frame := m.encode()
			two := append(slices.Clone(frame), frame...)
			for at := 1; at <= len(frame); at++ {
				var out bytes.Buffer
				r := Responses{Out: &out, InFlight: new(InFlight), Names: namer(0), CountNotLeader: true}
				for range 2 {
					r.InFlight.push(pending{correlation: 1, key: m.Key(), version: m.GetVersion(), api: lookup(m.Key())})
				}
				if err := feed(r.Forward, two, cutAt(at)); err != nil {
					t.Fatal(err)
				}
				if r.NotLeader != 2*tc.want {
					t.Fatalf("API %d v%d with %v, cut at %d: %d counted, want %d", m.Key(), m.GetVersion(), tc.codes, at, r.NotLeader, 2*tc.want)
				}
				if !bytes.Equal(out.Bytes(), two) {
					t.Fatalf("API %d v%d: the client got something else", m.Key(), m.GetVersion())
				}
			}
		}
	}
}

// TestCountingChangesNothing: what does not parse is forwarded, or refused, as without it.
func TestCountingChangesNothing(t *testing.T) {
	g := newGenerator(1)
	for range 20_000 {
		key := []int16{keyProduce, keyFetch}[g.IntN(2)]
		version := int16(g.IntN(int(schemaFor(key).newest) + 1))
		frame := g.small(key, version).encode()
		for range g.IntN(4) {
			frame[8+g.IntN(max(len(frame)-8, 1))%max(len(frame)-8, 1)] = byte(g.IntN(256))
		}
		run := func(count bool) (string, []byte) {
			var out bytes.Buffer
			r := Responses{Out: &out, InFlight: new(InFlight), Names: namer(0), CountNotLeader: count}
			r.InFlight.push(pending{correlation: int32(be32(frame[4:])), key: key, version: version, api: lookup(key)})
			err := feed(r.Forward, frame, inOne)
			if err != nil {
				return err.Error(), out.Bytes()
			}
			return "", out.Bytes()
		}
		plainErr, plain := run(false)
		countedErr, counted := run(true)
		if plainErr != countedErr || !bytes.Equal(plain, counted) {
			t.Fatalf("API %d v%d: %q, and with counting %q", key, version, plainErr, countedErr)
		}
	}
}
