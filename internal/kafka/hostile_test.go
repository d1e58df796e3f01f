package kafka

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"testing"
)

// fetchWithEndpoints is a Fetch v16 response with one partition of records and so many
// endpoints.
func fetchWithEndpoints(records, endpoints int) []byte {
	b := make([]byte, 4)
	b = binary.BigEndian.AppendUint32(b, 1) // correlation id
	b = append(b, 0)                        // header tags
	b = append(b, 0, 0, 0, 0, 0, 0)         // throttle, error
	b = append(b, 0, 0, 0, 0, 2)            // session, one topic
	b = append(b, make([]byte, 16)...)      // topic id
	b = append(b, 2, 0, 0, 0, 0, 0, 6)      // one partition, NOT_LEADER_OR_FOLLOWER
	b = append(b, make([]byte, 24)...)      // high watermark, last stable, log start offsets
	b = append(b, 1)                        // aborted transactions
	b = append(b, 0xff, 0xff, 0xff, 0xff)   // preferred read replica
	b = binary.AppendUvarint(b, uint64(records+1))
	b = append(b, make([]byte, records)...)
	b = append(b, 0, 0) // tags of partition and topic
	var list []byte
	list = binary.AppendUvarint(list, uint64(endpoints+1))
	for i := range endpoints {
		host := fmt.Sprintf("b%d.%s", i, secret)
		list = binary.BigEndian.AppendUint32(list, uint32(i))
		list = binary.AppendUvarint(list, uint64(len(host)+1))
		list = append(list, host...)
		list = append(list, 0, 0, 0x23, 0x84, 0, 0) // port 9092, no rack, no tags
	}
	b = append(b, 1, 0) // one tagged field, the endpoints
	b = binary.AppendUvarint(b, uint64(len(list)))
	b = append(b, list...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// BenchmarkHostileTail has a broker name a hundred thousand endpoints.
func BenchmarkHostileTail(b *testing.B) {
	for _, endpoints := range []int{1000, 10_000, 100_000, 500_000} {
		frame := fetchWithEndpoints(100_000, endpoints)
		b.Run(fmt.Sprint(endpoints), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := Responses{Out: io.Discard, InFlight: new(InFlight), Names: namer(40)}
				r.InFlight.push(pending{correlation: 1, key: keyFetch, version: 16, api: lookup(keyFetch)})
				for rest := frame; len(rest) > 0; {
					n := min(len(rest), 128<<10)
					if err := r.Forward(rest[:n]); err != nil {
						b.Fatal(err)
					}
					rest = rest[n:]
				}
			}
		})
	}
}

// TestTooManyEndpointsAreLeftOut: nothing of them is forwarded, and no name is made.
func TestTooManyEndpointsAreLeftOut(t *testing.T) {
	for _, records := range []int{0, 100_000} { // kept as a whole up to 32 KiB, and in place
		for endpoints, want := range map[int]int64{maxEndpoints: 0, maxEndpoints + 1: maxEndpoints + 1} {
			var out bytes.Buffer
			named := int64(0)
			r := Responses{Out: &out, InFlight: new(InFlight), tune: tuning{wholeFrame: 1 << 30}}
			if records > 0 {
				r.tune = tuning{}
			}
			r.Names = func(int32, []byte, int32) (string, int32, error) { named++; return "b", 1, nil }
			r.InFlight.push(pending{correlation: 1, key: keyFetch, version: 16, api: lookup(keyFetch)})
			if err := feed(r.Forward, fetchWithEndpoints(records, endpoints), func(left int) int { return 100_000 }); err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(out.Bytes(), []byte(secret)) {
				t.Error("a broker's name is forwarded")
			}
			if r.Dropped != want || named != int64(endpoints)-want {
				t.Errorf("%d endpoints: %d left out, %d named, want %d left out", endpoints, r.Dropped, named, want)
			}
			splitFrames(t, out.Bytes())
		}
	}
}

// TestTooManyTaggedFieldsAreRefused: they would be kept, one by one.
func TestTooManyTaggedFieldsAreRefused(t *testing.T) {
	for tags, ok := range map[int]bool{maxTags: true, maxTags + 1: false} {
		b := binary.AppendUvarint(nil, uint64(tags))
		for tag := range tags {
			b = binary.AppendUvarint(b, uint64(tag+1))
			b = append(b, 0)
		}
		if _, got := parseTail(b, taggedEndpoints); got != ok {
			t.Errorf("%d tagged fields: parsed %t", tags, got)
		}
	}
}

// TestManyAPIKeysAreNoBurden has a broker offer as many APIs as fit what is kept, and more.
func TestManyAPIKeysAreNoBurden(t *testing.T) {
	for keys, want := range map[int]bool{1_000_000: true, 4_000_000: false} {
		b := make([]byte, 4, 14+6*keys)
		b = binary.BigEndian.AppendUint32(b, 1)
		b = append(b, 0, 0)
		b = binary.BigEndian.AppendUint32(b, uint32(keys))
		for i := range keys {
			b = append(b, byte(i>>8), byte(i), 0, 0, 0, 20)
		}
		binary.BigEndian.PutUint32(b, uint32(len(b)-4))
		out := 0
		r := Responses{Out: writerFunc(func(p []byte) (int, error) { out += len(p); return len(p), nil }), InFlight: new(InFlight), Names: namer(0)}
		r.InFlight.push(pending{correlation: 1, key: keyAPIVersions})
		err := feed(r.Forward, b, func(int) int { return 128 << 10 })
		if (err == nil) != want || want && out == 0 {
			t.Errorf("%d keys: %v, %d bytes forwarded", keys, err, out)
		}
	}
}
