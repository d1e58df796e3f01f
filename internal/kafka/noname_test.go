package kafka

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

var errNoName = errors.New("broker 1 has no port")

// nameless has no name for broker 1.
func nameless(node int32, _ []byte, _ int32) (string, int32, error) {
	if node == 1 {
		return "", 0, errNoName
	}
	return "b0.kafka.example", 9092, nil
}

// TestAResponseWithABrokerThatHasNoNameIsRefused wherever it is cut, and whatever names come
// before that one: nothing of it reaches the client.
func TestAResponseWithABrokerThatHasNoNameIsRefused(t *testing.T) {
	id := "Zm9v"
	before := []byte{0, 0, 0, 5, 0, 0, 0, 0, 9} // a response that is good
	for _, m := range withClusterID(&id) {
		switch r := m.Response.(type) {
		case *kmsg.MetadataResponse:
			r.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 0, Host: secret, Port: 1}, {NodeID: 1, Host: secret, Port: 2}}
		case *kmsg.DescribeClusterResponse:
			r.Brokers = []kmsg.DescribeClusterResponseBroker{{NodeID: 0, Host: secret, Port: 1}, {NodeID: 1, Host: secret, Port: 2}}
		}
		stream := append(slices.Clone(before), m.encode()...)
		for at := 1; at <= len(stream); at++ {
			var out bytes.Buffer
			r := Responses{Out: &out, InFlight: new(InFlight), Names: nameless}
			ask(t, r.InFlight, 12, 4, 0)
			ask(t, r.InFlight, m.Key(), m.GetVersion(), 1)
			err := feed(r.Forward, stream, cutAt(at))
			var refused *Error
			if !errors.As(err, &refused) || !errors.Is(err, errNoName) || refused.Key != m.Key() {
				t.Fatalf("API %d v%d, cut at %d: %v", m.Key(), m.GetVersion(), at, err)
			}
			if !bytes.Equal(out.Bytes(), before) {
				t.Fatalf("API %d v%d, cut at %d: the client got %x", m.Key(), m.GetVersion(), at, out.Bytes())
			}
		}
	}
}

// TestEndpointsWithoutANameAreLeftOut of a response whose records are forwarded: whole, and in
// place.
func TestEndpointsWithoutANameAreLeftOut(t *testing.T) {
	for _, records := range []int{100, 100_000} {
		var out bytes.Buffer
		r := Responses{Out: &out, InFlight: new(InFlight), Names: nameless}
		r.InFlight.push(pending{correlation: 1, key: keyFetch, version: 16, api: lookup(keyFetch)})
		if err := feed(r.Forward, fetchWithEndpoints(records, 3), func(int) int { return 50_000 }); err != nil {
			t.Fatal(err)
		}
		if r.Dropped != 1 || bytes.Contains(out.Bytes(), []byte(secret)) || bytes.Count(out.Bytes(), []byte("b0.kafka.example")) != 2 {
			t.Errorf("%d records: %d endpoints dropped, %d named", records, r.Dropped, bytes.Count(out.Bytes(), []byte("b0.kafka.example")))
		}
	}
}

// TestBrokersWithoutANameAreLearnedAllTheSame from the proxy's own query, of which nothing is
// forwarded.
func TestBrokersWithoutANameAreLearnedAllTheSame(t *testing.T) {
	d := newDialogue()
	d.responses.Names = nameless
	if err := d.forward(request(12, 4, 1)); err != nil {
		t.Fatal(err)
	}
	m := message{Response: &kmsg.MetadataResponse{Version: 4, Brokers: []kmsg.MetadataResponseBroker{{NodeID: 1, Host: secret, Port: 1}}}}
	if err := feed(d.responses.Forward, m.encode(), byteByByte); err != nil || len(d.answered) != 1 || d.answered[0] != 1 || d.down.Len() > 0 {
		t.Errorf("%v, answered %v, the client got %x", err, d.answered, d.down.Bytes())
	}
}
