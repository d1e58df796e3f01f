package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// requestMessage is a request as a client would send it.
type requestMessage struct {
	kmsg.Request
	correlation int32
	client      *string
	tags        kmsg.Tags // of its header
}

func (m *requestMessage) encode() []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 4), uint16(m.Key()))
	b = binary.BigEndian.AppendUint16(b, uint16(m.GetVersion()))
	b = binary.BigEndian.AppendUint32(b, uint32(m.correlation))
	if m.client == nil {
		b = append(b, 0xff, 0xff)
	} else {
		b = binary.BigEndian.AppendUint16(b, uint16(len(*m.client)))
		b = append(b, *m.client...)
	}
	if m.IsFlexible() {
		b = binary.AppendUvarint(b, uint64(m.tags.Len()))
		b = m.tags.AppendEach(b)
	}
	b = m.AppendTo(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// request returns a random request.
func (g *generator) request(key, version int16) *requestMessage {
	m := &requestMessage{Request: kmsg.RequestForKey(key), correlation: int32(g.Uint32())}
	m.SetVersion(version)
	g.value(reflect.ValueOf(m.Request).Elem())
	if g.oneIn(2) {
		m.client = kmsg.StringPtr(g.text())
	}
	if g.oneIn(2) {
		m.tags = g.tags()
	}
	if p, ok := m.Request.(*kmsg.ProduceRequest); ok {
		p.Acks = int16(g.IntN(4) - 1)
	}
	return m
}

// anyRequest returns a random request of any API, in a version that is offered.
func (g *generator) anyRequest() *requestMessage {
	for {
		key := int16(g.IntN(kmsg.MaxKey + 1))
		if g.oneIn(3) {
			key = keyProduce
		}
		req := kmsg.RequestForKey(key)
		if req == nil || key == keySaslHandshake {
			continue
		}
		newest, limited := new(Responses).newestOffered(key)
		if !limited {
			newest = req.MaxVersion()
		}
		return g.request(key, int16(g.IntN(int(newest)+1)))
	}
}

// owes returns what a broker owes for a request.
func (m *requestMessage) owes() []pending {
	if p, ok := m.Request.(*kmsg.ProduceRequest); ok && p.Acks == 0 {
		return nil
	}
	return []pending{{correlation: m.correlation, key: m.Key(), version: m.GetVersion(), api: lookup(m.Key())}}
}

// owing takes everything out of o.
func owing(o *InFlight) (all []pending) {
	for {
		p, ok := o.head()
		if !ok {
			return all
		}
		o.pop()
		all = append(all, p)
	}
}

func TestRequestsAreForwardedAsTheyAreAndOwed(t *testing.T) {
	g := newGenerator(3)
	g.most, g.long = 2, 100
	for round := range rounds(3000) {
		var stream []byte
		var want []pending
		n := 1 + g.IntN(5)
		for range n {
			m := g.anyRequest()
			stream = append(stream, m.encode()...)
			want = append(want, m.owes()...)
		}
		checkRequests(t, stream, n, want, g.cuts())
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
}

func TestRequestsAtEveryCut(t *testing.T) {
	long := strings.Repeat("c", 300)
	var tags kmsg.Tags
	tags.Set(0, nil)
	tags.Set(300, []byte(strings.Repeat("v", 200)))
	for version := range int16(14) {
		for _, acks := range []int16{0, 1, -1} {
			for _, client := range []*string{nil, kmsg.StringPtr(""), kmsg.StringPtr("rdkafka"), &long} {
				p := &kmsg.ProduceRequest{Version: version, Acks: acks, TimeoutMillis: 9}
				if acks != 1 && version >= 3 {
					p.TransactionID = kmsg.StringPtr("a transaction")
				}
				m := &requestMessage{Request: p, correlation: 1, client: client}
				if acks != -1 {
					m.tags = tags
				}
				stream := m.encode()
				next := &requestMessage{Request: &kmsg.HeartbeatRequest{Version: 4}, correlation: 2}
				stream = append(stream, next.encode()...)
				want := append(m.owes(), next.owes()...)
				checkRequests(t, stream, 2, want, byteByByte)
				for at := 1; at <= len(stream); at++ {
					checkRequests(t, stream, 2, want, cutAt(at))
				}
				if t.Failed() {
					t.Fatalf("Produce v%d, acks %d: %x", version, acks, stream)
				}
			}
		}
	}
}

// checkRequests forwards a stream of n requests for which want is in flight.
func checkRequests(t *testing.T, stream []byte, n int, want []pending, next pieces) {
	t.Helper()
	var out bytes.Buffer
	r := Requests{Out: &out, InFlight: new(InFlight)}
	if err := feed(sender(&r), stream, next); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(out.Bytes(), stream) {
		t.Errorf("forwarded %x\nof        %x", out.Bytes(), stream)
	}
	if got := owing(r.InFlight); !slices.Equal(got, want) {
		t.Errorf("in flight %+v, want %+v", got, want)
	}
	if r.Frames != int64(n) || !r.AtBoundary() {
		t.Errorf("counted %d requests, want %d; AtBoundary is %t", r.Frames, n, r.AtBoundary())
	}
}

// TestNoRequestIsWholeAtTheBrokerBeforeItIsInFlight: else its answer could come
// before anybody knows of what.
func TestNoRequestIsWholeAtTheBrokerBeforeItIsInFlight(t *testing.T) {
	g := newGenerator(4)
	for range 500 {
		var stream []byte
		var ends []int // of the frames for which something is inFlight
		for range 4 {
			m := g.anyRequest()
			stream = append(stream, m.encode()...)
			if m.owes() != nil {
				ends = append(ends, len(stream))
			}
		}
		inFlight := new(InFlight)
		sent := 0
		r := Requests{InFlight: inFlight, Out: writerFunc(func(p []byte) (int, error) {
			sent += len(p)
			due, _ := slices.BinarySearch(ends, sent+1)
			if inFlight.Len() < due {
				t.Fatalf("%d requests are at the broker, %d are in flight", due, inFlight.Len())
			}
			return len(p), nil
		})}
		if err := feed(sender(&r), stream, g.cuts()); err != nil {
			t.Fatal(err)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestRequestsThatCannotBeForwarded(t *testing.T) {
	frame := func(size int32, rest ...byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(size)), rest...)
	}
	produce := func(version byte, rest ...byte) []byte {
		return frame(int32(8+len(rest)), append([]byte{0, 0, 0, version, 0, 0, 0, 1}, rest...)...)
	}
	cases := map[string]struct {
		sent []byte
		want string
	}{
		"negative size":             {frame(-1), "offset 0: request of -1 bytes: want 0 to 104857600"},
		"smallest size":             {frame(math.MinInt32), "offset 0: request of -2147483648 bytes"},
		"huge size":                 {frame(math.MaxInt32), "offset 0: request of 2147483647 bytes"},
		"one too long":              {frame(DefaultMaxFrame + 1), "offset 0: request of 104857601 bytes"},
		"empty":                     {frame(0), "offset 0: request of 0 bytes: shorter than a request header"},
		"shorter than a header":     {frame(7, 0, 3, 0, 0, 0, 0, 0), "offset 0: request of 7 bytes: shorter"},
		"produce without a body":    {produce(9), "Produce v9, offset 12: request: the frame ends before its acks"},
		"client id too long":        {produce(3, 0, 1), "Produce v3, offset 14: request: client_id: 1 bytes in the 0 left"},
		"client id negative":        {produce(3, 0xff, 0xfe, 0, 0), "Produce v3, offset 14: request: client_id: negative length -2"},
		"produce without acks":      {produce(3, 0, 0, 0xff, 0xff, 0), "Produce v3, offset 17: request: acks: the frame ends within this field"},
		"tags that do not end":      {produce(9, 0, 0, 2, 1, 5), "Produce v9, offset 17: request: header tags: 5 bytes in the 0 left"},
		"more tags than bytes":      {produce(9, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 1), "Produce v9, offset 19: request: header tags: count 4294967295"},
		"transactional id too long": {produce(9, 0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0), "Produce v9, offset 20: request: transactional_id: a varint of more than 5 bytes"},
	}
	for name, tc := range cases {
		for _, next := range []pieces{inOne, byteByByte} {
			var out bytes.Buffer
			r := Requests{Out: &out, InFlight: new(InFlight)}
			err := feed(sender(&r), tc.sent, next)
			var refused *Error
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: got %v, want %q", name, err, tc.want)
			}
			if r.InFlight.Len() > 0 {
				t.Errorf("%s: something is in flight for it", name)
			}
			before := out.Len()
			if again := send(&r, request(keyMetadata, 1, 1)); again != err || out.Len() != before {
				t.Errorf("%s: what came behind it was forwarded, with %v", name, again)
			}
		}
	}
}

func TestMaxFrameLimitsRequests(t *testing.T) {
	r := Requests{Out: io.Discard, InFlight: new(InFlight), MaxFrame: 20}
	if err := send(&r, []byte{0, 0, 0, 20, 0, 3, 0, 0}); err != nil {
		t.Error(err)
	}
	r = Requests{Out: io.Discard, InFlight: new(InFlight), MaxFrame: 20}
	if err := send(&r, []byte{0, 0, 0, 21}); err == nil || !strings.Contains(err.Error(), "want 0 to 20") {
		t.Error(err)
	}
}

func TestVersionsThatWereNotOfferedAreRefused(t *testing.T) {
	for _, s := range schemas {
		for _, version := range []int16{s.newest + 1, math.MaxInt16, -1, math.MinInt16} {
			for _, next := range []pieces{inOne, byteByByte} {
				frame := request(s.key, 0, 1)
				binary.BigEndian.PutUint16(frame[6:], uint16(version))
				var out bytes.Buffer
				r := Requests{Out: &out, InFlight: new(InFlight)}
				err := feed(sender(&r), frame, next)
				var refused *Error
				if !errors.As(err, &refused) || refused.Key != s.key || refused.Version != version || refused.Offset != 6 || !errors.Is(err, ErrNotOffered) {
					t.Errorf("%s v%d: %v", s.name, version, err)
				}
				if out.Len() > 0 || r.InFlight.Len() > 0 {
					t.Errorf("%s v%d: %d bytes were forwarded", s.name, version, out.Len())
				}
			}
		}
	}
}

// TestOutEndsRequests: an error of Out is returned as it is.
func TestOutEndsRequests(t *testing.T) {
	broken := errors.New("broken pipe")
	r := Requests{InFlight: new(InFlight), Out: writerFunc(func([]byte) (int, error) { return 0, broken })}
	if err := send(&r, request(keyMetadata, 1, 1)); err != broken {
		t.Error(err)
	}
	r = Requests{InFlight: new(InFlight), Out: writerFunc(func([]byte) (int, error) { return 0, broken })}
	if err := feed(sender(&r), request(keyMetadata, 1, 1), byteByByte); err != broken {
		t.Error(err)
	}
}

// TestManyTagsAreNoBurden: a header of a hundred thousand tagged fields takes
// no memory, and no more time when a cut runs through it.
func TestManyTagsAreNoBurden(t *testing.T) {
	const tags = 100_000
	b := append([]byte{0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0xff, 0xff}, binary.AppendUvarint(nil, tags)...)
	b = append(b, make([]byte, 2*tags)...) // each of tag 0 and empty
	b = append(b, 0, 0, 1)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	r := Requests{Out: io.Discard, InFlight: new(InFlight)}
	piece := make([]byte, 1)
	if n := testing.AllocsPerRun(1, func() {
		r = Requests{Out: r.Out, InFlight: r.InFlight}
		for _, c := range b {
			piece[0] = c
			if err := send(&r, piece); err != nil {
				t.Fatal(err)
			}
		}
	}); n > 1 {
		t.Errorf("%v allocations", n)
	}
	if r.InFlight.Len() != 2 {
		t.Errorf("%d in flight", r.InFlight.Len())
	}
}

// TestRequestsWaitWhenTooManyAreInFlight: memory is bounded, whatever is pipelined.
func TestRequestsWaitWhenTooManyAreInFlight(t *testing.T) {
	shortest := []byte{0, 0, 0, 8, 0, 9, 0, 0, 0, 0, 0, 0}
	if MaxForward != len(shortest)*(maxInFlight-1) {
		t.Fatalf("MaxForward is %d", MaxForward)
	}
	inFlight := new(InFlight)
	r := Requests{Out: io.Discard, InFlight: inFlight}

	// What is given at once never waits for requests that are not forwarded.
	if err := send(&r, bytes.Repeat(shortest, maxInFlight-1)); err != nil || inFlight.Len() != maxInFlight-1 {
		t.Fatal(inFlight.Len(), err)
	}
	for range maxInFlight - 1 {
		inFlight.pop()
	}

	forwarded := make(chan error)
	go func() {
		for range 3 {
			forwarded <- send(&r, bytes.Repeat(shortest, maxInFlight/2))
		}
	}()
	for range 2 {
		if err := <-forwarded; err != nil {
			t.Fatal(err)
		}
	}
	if inFlight.Len() != maxInFlight {
		t.Fatalf("%d in flight, want %d", inFlight.Len(), maxInFlight)
	}
	for waits := false; !waits; runtime.Gosched() {
		inFlight.mu.Lock()
		waits = inFlight.room.L != nil
		inFlight.mu.Unlock()
	}
	for range maxInFlight/2 - 1 {
		inFlight.pop()
	}
	select {
	case <-forwarded:
		t.Fatal("a request did not wait though there is no room")
	default:
	}
	inFlight.pop()
	if err := <-forwarded; err != nil {
		t.Fatal(err)
	}
	if len(inFlight.ring) != maxInFlight {
		t.Errorf("room for %d", len(inFlight.ring))
	}

	// And when the session ends, it waits no more.
	go func() { forwarded <- send(&r, shortest) }()
	inFlight.Close()
	if err := <-forwarded; err != ErrClosed {
		t.Error(err)
	}
}

func TestOwedIsInOrder(t *testing.T) {
	g := newGenerator(5)
	var inFlight InFlight
	next, want := int32(0), int32(0)
	for range 10_000 {
		if g.oneIn(2) && next-want < 100 {
			inFlight.push(pending{correlation: next})
			next++
		} else if p, ok := inFlight.head(); ok {
			inFlight.pop()
			if p.correlation != want {
				t.Fatalf("got %d, want %d", p.correlation, want)
			}
			want++
		}
		if inFlight.Len() != int(next-want) {
			t.Fatalf("%d in flight, want %d", inFlight.Len(), next-want)
		}
	}
}
