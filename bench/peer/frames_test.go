package peer

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kafka-sni-proxy/internal/kafka"
)

var everyRequest = []Request{
	{Kind: ApiVersions},
	{Kind: Metadata, Brokers: 1},
	{Kind: Metadata, Brokers: 1000},
	{Kind: Heartbeat},
	{Kind: Produce, Bytes: 1 << 20, Partitions: 4},
	{Kind: Produce, Bytes: 100, Partitions: 1},
	{Kind: Fetch, Bytes: 1 << 20, Partitions: 4},
	{Kind: Fetch, Bytes: 1 << 20, Partitions: 10_000},
}

func TestRequestsAreWhatKmsgReads(t *testing.T) {
	for _, r := range everyRequest {
		frame, err := r.frame()
		if err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		if got := int(binary.BigEndian.Uint32(frame)); got != len(frame)-4 {
			t.Errorf("%+v: length %d before %d bytes", r, got, len(frame)-4)
		}
		req, err := decodeRequest(frame[4:])
		if err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		if name := kmsg.NameForKey(req.Key()); name != string(r.Kind) {
			t.Errorf("%+v: it is a %s request", r, name)
		}
		if produce, ok := req.(*kmsg.ProduceRequest); ok {
			if n := len(produce.Topics[0].Partitions); n != r.Partitions {
				t.Errorf("%+v: %d partitions", r, n)
			}
			if len(frame) > r.Bytes+1024 || len(frame) < r.Bytes-1024 {
				t.Errorf("%+v: %d bytes", r, len(frame))
			}
		}
	}
}

func TestResponsesAreWhatKmsgReads(t *testing.T) {
	for _, r := range everyRequest {
		request, err := r.frame()
		if err != nil {
			t.Fatal(err)
		}
		req, err := decodeRequest(request[4:])
		if err != nil {
			t.Fatal(err)
		}
		frame := produced()
		if r.Kind != Produce {
			if frame, err = answer(request[4:]); err != nil {
				t.Fatalf("%+v: %v", r, err)
			}
		}
		if got := int(binary.BigEndian.Uint32(frame)); got != len(frame)-4 {
			t.Errorf("%+v: length %d before %d bytes", r, got, len(frame)-4)
		}
		resp := req.ResponseKind()
		body := frame[8:]
		if resp.IsFlexible() && r.Kind != ApiVersions {
			if body[0] != 0 {
				t.Errorf("%+v: tagged fields in the header", r)
			}
			body = body[1:]
		}
		if err := resp.ReadFrom(body); err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		if again := resp.AppendTo(nil); !bytes.Equal(again, body) {
			t.Errorf("%+v: encoded again, it differs", r)
		}
		switch resp := resp.(type) {
		case *kmsg.MetadataResponse:
			if len(resp.Brokers) != r.Brokers || resp.Brokers[r.Brokers-1].Host == "" {
				t.Errorf("%+v: %d brokers", r, len(resp.Brokers))
			}
		case *kmsg.FetchResponse:
			parts := resp.Topics[0].Partitions
			if len(parts) != r.Partitions {
				t.Errorf("%+v: %d partitions", r, len(parts))
			}
			checkBatch(t, parts[0].RecordBatches, r.Bytes/r.Partitions)
		case *kmsg.ApiVersionsResponse:
			if len(resp.ApiKeys) < 5 {
				t.Errorf("only %d APIs", len(resp.ApiKeys))
			}
		}
	}
}

func checkBatch(t *testing.T, encoded []byte, size int) {
	t.Helper()
	if len(encoded) > size || len(encoded) < size-32 {
		t.Errorf("a batch of %d bytes, %d were asked for", len(encoded), size)
	}
	var batch kmsg.RecordBatch
	if err := batch.ReadFrom(encoded); err != nil {
		t.Fatalf("a batch of %d bytes: %v", size, err)
	}
	if crc := crc32.Checksum(encoded[21:], crc32.MakeTable(crc32.Castagnoli)); uint32(batch.CRC) != crc {
		t.Errorf("checksum %x, it should be %x", uint32(batch.CRC), crc)
	}
	records := batch.Records
	for range batch.NumRecords {
		length, n := binary.Varint(records)
		if n <= 0 || int(length) > len(records)-n {
			t.Fatalf("a record of %d bytes where %d are left", length, len(records))
		}
		var record kmsg.Record
		if err := record.ReadFrom(records[:n+int(length)]); err != nil {
			t.Fatal(err)
		}
		records = records[n+int(length):]
	}
	if len(records) != 0 {
		t.Errorf("%d bytes behind the last record", len(records))
	}
}

func TestRecordBatchesOfManySizes(t *testing.T) {
	for _, size := range []int{0, 61, 73, 74, 104, 500, 1100, 4096, 262_144} {
		encoded := recordBatch(size)
		if size <= 61+12 {
			if encoded != nil {
				t.Errorf("%d bytes for %d", len(encoded), size)
			}
			continue
		}
		checkBatch(t, encoded, size)
	}
}

// TestTheProxysEngineTakesEveryFrame passes what the ends say through the
// proxy's rewriting, which trusts nothing.
func TestTheProxysEngineTakesEveryFrame(t *testing.T) {
	var inFlight kafka.InFlight
	requests := kafka.Requests{Out: io.Discard, InFlight: &inFlight}
	var out bytes.Buffer
	responses := kafka.Responses{Out: &out, InFlight: &inFlight, Names: func(_ int32, host []byte, port int32) (string, int32, error) {
		if !strings.HasSuffix(string(host), ".upstream.example") {
			t.Errorf("broker host %q", host)
		}
		return "renamed", port, nil
	}}
	for _, r := range everyRequest {
		request, err := r.frame()
		if err != nil {
			t.Fatal(err)
		}
		frame := produced()
		if r.Kind != Produce {
			if frame, err = answer(request[4:]); err != nil {
				t.Fatal(err)
			}
		}
		out.Reset()
		for piece := range slicesOf(bytes.Clone(request), 64<<10) {
			if _, err := requests.Forward(piece); err != nil {
				t.Fatalf("%+v: %v", r, err)
			}
		}
		for piece := range slicesOf(frame, 64<<10) {
			if err := responses.Forward(piece); err != nil {
				t.Fatalf("%+v: %v", r, err)
			}
		}
		if !requests.AtBoundary() || !responses.AtBoundary() {
			t.Errorf("%+v: not at a boundary", r)
		}
		if n := strings.Count(out.String(), "renamed"); n != r.Brokers {
			t.Errorf("%+v: %d addresses rewritten", r, n)
		}
	}
}

func slicesOf(b []byte, size int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			n := min(size, len(b))
			if !yield(b[:n]) {
				return
			}
			b = b[n:]
		}
	}
}

func TestTheStandInRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, r := range []Request{
		{Kind: Fetch, Bytes: 1 << 30, Partitions: 1},
		{Kind: Fetch, Bytes: 1, Partitions: 1 << 30},
		{Kind: Metadata, Brokers: 1 << 30},
		{Kind: Metadata, Brokers: -1},
	} {
		request, err := r.frame()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := answer(request[4:]); err == nil {
			t.Errorf("%+v was answered", r)
		}
	}
	for _, body := range []string{"", "\x00\x01", "\x7f\xff\x00\x00\x00\x00\x00\x00\xff\xff", "\x00\x01\x00\x12\x00\x00\x00\x00\x00\xff"} {
		if _, err := answer([]byte(body)); err == nil {
			t.Errorf("%q was answered", body)
		}
	}
}
