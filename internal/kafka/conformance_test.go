package kafka

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// everyVersion calls f for every version of every API in the table, in
// parallel.
func everyVersion(t *testing.T, f func(t *testing.T, s *schema, version int16)) {
	for i := range schemas {
		s := &schemas[i]
		for version := range s.newest + 1 {
			t.Run(fmt.Sprintf("%s/v%d", s.name, version), func(t *testing.T) {
				t.Parallel()
				f(t, s, version)
			})
		}
	}
}

// rounds is how many of n rounds there is time for.
func rounds(n int) int {
	if underRace || testing.Short() {
		return max(1, n/12)
	}
	return n
}

// seed gives each API and version messages of its own.
func seed(s *schema, version int16) uint64 { return uint64(s.key)<<16 | uint64(version) }

// TestResponsesAreRewrittenAsKmsgWouldDoIt sends random responses, one behind
// the other and cut at random.
func TestResponsesAreRewrittenAsKmsgWouldDoIt(t *testing.T) {
	everyVersion(t, func(t *testing.T, s *schema, version int16) {
		g := newGenerator(seed(s, version))
		for round := range rounds(400) {
			var msgs []*message
			var stream []byte
			for range 1 + g.IntN(6) {
				m := g.message(s.key, version)
				if g.oneIn(4) {
					m = g.bystander()
				}
				msgs = append(msgs, m)
				stream = append(stream, m.encode()...)
			}
			c := check{tune: g.tuning(), names: namer(g.IntN(150)), round: round}
			c.run(t, msgs, stream, g.cuts())
			if t.Failed() {
				return
			}
		}
	})
}

// TestEveryCut sends one small response, cut into two at every place, and byte
// by byte.
func TestEveryCut(t *testing.T) {
	everyVersion(t, func(t *testing.T, s *schema, version int16) {
		g := newGenerator(seed(s, version))
		for round := range rounds(12) {
			m := g.small(s.key, version)
			stream := m.encode()
			for _, tune := range []tuning{{}, {wholeFrame: 1}, {wholeFrame: 1, margin: 1}, {wholeFrame: 1, margin: 40}} {
				c := check{tune: tune, names: namer(20), round: round}
				c.run(t, []*message{m}, stream, byteByByte)
				for at := 1; at < len(stream); at++ {
					c.run(t, []*message{m}, stream, cutAt(at))
				}
			}
			if t.Failed() {
				return
			}
		}
	})
}

// bystander returns a random response of an API that is not in the table.
func (g *generator) bystander() *message {
	key := []int16{2, 8, 9, 11, 12, 19, 22, 32, 36, 50, 68, 75, 76}[g.IntN(13)]
	return g.fill(key, kmsg.ResponseForKey(key).MaxVersion())
}

// tuning returns the length up to which responses that end with addresses are
// kept whole, and how much of the others waits: often the real ones.
func (g *generator) tuning() tuning {
	return tuning{
		wholeFrame: []int64{0, 0, 1, 1, g.Int64N(1000)}[g.IntN(5)],
		margin:     []int64{0, 1, 1 + g.Int64N(300)}[g.IntN(3)],
	}
}

// check says how responses are to be rewritten.
type check struct {
	tune  tuning
	names Names
	round int
}

// run forwards the responses and compares every one with what kmsg makes of it.
func (c check) run(t testing.TB, msgs []*message, stream []byte, next pieces) {
	t.Helper()
	r := &Responses{Names: c.names, tune: c.tune}
	out, err := respond(t, r, msgs, stream, next)
	if err != nil {
		t.Fatalf("round %d: %v", c.round, err)
	}
	got := splitFrames(t, out)
	sent := splitFrames(t, stream)
	if len(got) != len(msgs) {
		t.Fatalf("round %d: %d frames came of %d", c.round, len(got), len(msgs))
	}
	rewritten, dropped := 0, 0
	for i, m := range msgs {
		want, err := m.decode(sent[i])
		if err != nil {
			t.Fatal(err)
		}
		want.rename(c.names)
		if c.inPlace(m, len(sent[i])) {
			dropped += sameButEndpoints(t, want, sent[i], got[i])
		} else if !bytes.Equal(got[i], want.encode()) {
			t.Errorf("round %d, frame %d: %s v%d of %d bytes\nsent %x\ngot  %x\nwant %x", c.round, i,
				kmsg.NameForKey(m.Key()), m.GetVersion(), len(sent[i]), sent[i], got[i], want.encode())
		}
		if !bytes.Equal(got[i], sent[i]) {
			rewritten++
		}
	}
	if int(r.Frames) != len(msgs) || int(r.Rewritten) != rewritten || int(r.Dropped) != dropped {
		t.Errorf("round %d: counted %d frames, %d rewritten, %d endpoints dropped; want %d, %d, %d",
			c.round, r.Frames, r.Rewritten, r.Dropped, len(msgs), rewritten, dropped)
	}
}

// inPlace tells whether a response of size bytes keeps its length.
func (c check) inPlace(m *message, size int) bool {
	a := lookup(m.Key())
	if a == nil || a.versions[m.GetVersion()] == nil || a.versions[m.GetVersion()].tail == noTail {
		return false
	}
	return int64(size) > cmp.Or(c.tune.wholeFrame, wholeFrame)
}

// sameButEndpoints checks a frame that was rewritten in place: as long as the
// one sent, and the same as want but that endpoints may be missing and that one
// more unknown tag may be there. It returns how many endpoints are missing.
func sameButEndpoints(t testing.TB, want *message, sent, got []byte) (dropped int) {
	t.Helper()
	if len(got) != len(sent) {
		t.Errorf("a frame of %d bytes has become one of %d", len(sent), len(got))
		return 0
	}
	m, err := want.decode(got)
	if err != nil {
		t.Errorf("what came of it does not decode: %v\n%x", err, got)
		return 0
	}

	// The endpoints that are there, in their order, and only those.
	all, kept := want.endpoints(), m.endpoints()
	dropped = all.Len() - kept.Len()
	i := 0
	for k := range kept.Len() {
		one := message{Response: want.Response}
		for i < all.Len() && !sameEndpoint(all.Index(i).Interface(), kept.Index(k).Interface()) {
			i++
		}
		if i == all.Len() {
			t.Errorf("endpoint %d is %+v: not one that was sent, or not renamed\n%x", k, kept.Index(k), one.encode())
			return dropped
		}
		i++
	}
	if dropped < 0 {
		t.Errorf("%d endpoints have become %d", all.Len(), kept.Len())
	}
	all.Set(kept)

	// The tags that were there, and at the most one more, all of zeros.
	before := map[uint32][]byte{}
	want.unknownTags().Each(func(tag uint32, value []byte) { before[tag] = value })
	added := 0
	m.unknownTags().Each(func(tag uint32, value []byte) {
		if _, ok := before[tag]; !ok {
			added++
			if slices.ContainsFunc(value, func(b byte) bool { return b != 0 }) {
				t.Errorf("the padding is not of zeros: %x", value)
			}
			want.unknownTags().Set(tag, value)
		}
	})
	if added > 1 {
		t.Errorf("%d tagged fields were added", added)
	}

	// And with those, all the rest is as it was.
	if !bytes.Equal(got, want.encode()) {
		t.Errorf("in place:\nsent %x\ngot  %x\nwant %x", sent, got, want.encode())
	}
	return dropped
}

// sameEndpoint compares two endpoints by how they are written.
func sameEndpoint(a, b any) bool { return encodeEndpoint(a) == encodeEndpoint(b) }

func encodeEndpoint(e any) string {
	var r kmsg.Response
	switch e := e.(type) {
	case kmsg.ProduceResponseBroker:
		r = &kmsg.ProduceResponse{Version: 10, Brokers: []kmsg.ProduceResponseBroker{e}}
	case kmsg.FetchResponseBroker:
		r = &kmsg.FetchResponse{Version: 16, Brokers: []kmsg.FetchResponseBroker{e}}
	case kmsg.ShareFetchResponseNodeEndpoint:
		r = &kmsg.ShareFetchResponse{Version: 1, NodeEndpoints: []kmsg.ShareFetchResponseNodeEndpoint{e}}
	case kmsg.ShareAcknowledgeResponseNodeEndpoint:
		r = &kmsg.ShareAcknowledgeResponse{Version: 1, NodeEndpoints: []kmsg.ShareAcknowledgeResponseNodeEndpoint{e}}
	default:
		panic(fmt.Sprintf("%T is no endpoint", e))
	}
	return string(r.AppendTo(nil))
}

// TestWhatStaysIsForwardedTogether: responses that come together and need no
// change are handed on together, for each write is a TLS record. A response
// that does need it is handed on in one piece.
func TestWhatStaysIsForwardedTogether(t *testing.T) {
	stays := []*message{produced(13), fetched(18, 1, 10_000, 0), produced(8), apiVersions(3, 0, [3]int16{1, 0, 18}),
		{Response: &kmsg.FindCoordinatorResponse{Version: 4, Coordinators: []kmsg.FindCoordinatorResponseCoordinator{{NodeID: -1, Port: -1}}}},
		fetched(18, 1, 50_000, 0)}
	for _, tc := range []struct {
		msgs []*message
		want int
	}{
		{stays, 1},
		{append(stays, cluster(3, 10)), 3}, // and what follows its addresses
		{append(append(stays, fetched(18, 1, 10, 2)), stays...), 3},
		{append(append(stays, fetched(18, 1, 50_000, 2)), stays...), 3},
	} {
		var stream []byte
		for _, m := range tc.msgs {
			stream = append(stream, m.encode()...)
		}
		writes := 0
		r := Responses{InFlight: new(InFlight), Names: namer(3), Out: writerFunc(func(p []byte) (int, error) {
			writes++
			return len(p), nil
		})}
		for _, m := range tc.msgs {
			ask(t, r.InFlight, m.Key(), m.GetVersion(), m.correlation)
		}
		if err := r.Forward(stream); err != nil || writes != tc.want {
			t.Errorf("%d writes, want %d; %v", writes, tc.want, err)
		}
	}
}
