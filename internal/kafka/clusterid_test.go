package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// withClusterID returns the responses that tell a cluster id, in all versions that do.
func withClusterID(id *string) (all []*message) {
	for version := int16(2); version <= schemaFor(keyMetadata).newest; version++ {
		all = append(all, &message{correlation: 1, Response: &kmsg.MetadataResponse{Version: version, ClusterID: id,
			Brokers: []kmsg.MetadataResponseBroker{{NodeID: 7, Host: secret, Port: 9092}}}})
	}
	for version := range schemaFor(keyDescribeCluster).newest + 1 {
		m := &kmsg.DescribeClusterResponse{Version: version, Brokers: []kmsg.DescribeClusterResponseBroker{{NodeID: 7, Host: secret, Port: 9092}}}
		if id != nil {
			m.ClusterID = *id
		}
		all = append(all, &message{correlation: 1, Response: m})
	}
	return all
}

// TestClusterIDIsToldBeforeTheBrokers cuts each response at every byte.
func TestClusterIDIsToldBeforeTheBrokers(t *testing.T) {
	id := "Zm9vYmFyYmF6cXV1eA"
	for _, m := range withClusterID(&id) {
		frame := m.encode()
		for at := 1; at <= len(frame); at++ {
			var out bytes.Buffer
			var told []string
			r := Responses{Out: &out, InFlight: new(InFlight),
				ClusterID: func(id []byte) error { told = append(told, string(id)); return nil },
				Names: func(node int32, _ []byte, _ int32) (string, int32, error) {
					told = append(told, fmt.Sprint("node ", node))
					return "b7.kafka.example", 9092, nil
				}}
			ask(t, r.InFlight, m.Key(), m.GetVersion(), 1)
			if err := feed(r.Forward, frame, cutAt(at)); err != nil {
				t.Fatal(err)
			}
			if want := []string{id, "node 7"}; !slices.Equal(told, want) {
				t.Fatalf("API %d v%d, cut at %d: told %q, want %q", m.Key(), m.GetVersion(), at, told, want)
			}
			if bytes.Contains(out.Bytes(), []byte(secret)) || out.Len() == 0 {
				t.Fatalf("API %d v%d, cut at %d: the client got %q", m.Key(), m.GetVersion(), at, out.Bytes())
			}
		}
	}
}

// TestNothingOfAnotherClusterIsForwardedOrLearned has the id refused.
func TestNothingOfAnotherClusterIsForwardedOrLearned(t *testing.T) {
	other := errors.New("another cluster")
	id := "b3RoZXJvdGhlcm90aA"
	before := []byte{0, 0, 0, 5, 0, 0, 0, 0, 9} // a response that is good
	for _, m := range withClusterID(&id) {
		stream := append(slices.Clone(before), m.encode()...)
		for at := 1; at <= len(stream); at++ {
			var out bytes.Buffer
			r := Responses{Out: &out, InFlight: new(InFlight),
				ClusterID: func([]byte) error { return other },
				Names:     func(int32, []byte, int32) (string, int32, error) { t.Error("learned"); return "", 0, nil }}
			ask(t, r.InFlight, 12, 4, 0)
			ask(t, r.InFlight, m.Key(), m.GetVersion(), 1)
			if err := feed(r.Forward, stream, cutAt(at)); err != other {
				t.Fatalf("API %d v%d, cut at %d: %v", m.Key(), m.GetVersion(), at, err)
			}
			if !bytes.Equal(out.Bytes(), before) {
				t.Fatalf("API %d v%d, cut at %d: the client got %x", m.Key(), m.GetVersion(), at, out.Bytes())
			}
		}
	}
}

func TestNoClusterIDIsNotTold(t *testing.T) {
	empty := ""
	for _, id := range []*string{nil, &empty} {
		for _, m := range withClusterID(id) {
			r := Responses{Out: new(bytes.Buffer), InFlight: new(InFlight), Names: namer(10),
				ClusterID: func(id []byte) error { return fmt.Errorf("told %q", id) }}
			ask(t, r.InFlight, m.Key(), m.GetVersion(), 1)
			if err := r.Forward(m.encode()); err != nil {
				t.Errorf("API %d v%d: %v", m.Key(), m.GetVersion(), err)
			}
		}
	}
}

func TestQueryToldByAnotherClusterEndsTheStream(t *testing.T) {
	other := errors.New("another cluster")
	d := newDialogue()
	d.responses.ClusterID = func([]byte) error { return other }
	if err := d.forward(request(12, 4, 1)); err != nil {
		t.Fatal(err)
	}
	id := "b3RoZXJvdGhlcm90aA"
	m := message{Response: &kmsg.MetadataResponse{Version: 4, ClusterID: &id, Brokers: []kmsg.MetadataResponseBroker{{NodeID: 1, Host: secret, Port: 1}}}}
	if err := feed(d.responses.Forward, m.encode(), byteByByte); err != other || len(d.told) > 0 || len(d.answered) > 0 || d.down.Len() > 0 {
		t.Errorf("%v, told of %v, answered %v, the client got %x", err, d.told, d.answered, d.down.Bytes())
	}
}
