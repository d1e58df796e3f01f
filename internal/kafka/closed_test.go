package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// everyMode calls f for every response in the table that carries addresses,
// and for every way it can take.
func everyMode(t *testing.T, f func(t *testing.T, s *schema, version int16, tune tuning)) {
	everyVersion(t, func(t *testing.T, s *schema, version int16) {
		l := lookup(s.key).versions[version]
		if l == nil {
			return
		}
		f(t, s, version, tuning{})
		if l.tail != noTail {
			f(t, s, version, tuning{wholeFrame: 1})
		}
	})
}

// withAddresses returns a small random response that has some.
func (g *generator) withAddresses(key, version int16) *message {
	for {
		if m := g.small(key, version); len(m.written()) > 0 {
			return m
		}
	}
}

// try forwards one frame that may not be well formed, and fails the test when
// any of a broker's name gets through, or when a name was asked for though it
// was not well formed.
func try(t *testing.T, m *message, frame []byte, tune tuning, next pieces) (err error) {
	t.Helper()
	asked := 0
	r := &Responses{tune: tune, Names: func(node int32, host []byte, port int32) (string, int32, error) {
		asked++
		return "a-name-for-clients", 1, nil
	}}
	var out bytes.Buffer
	r.Out, r.InFlight = &out, new(InFlight)
	ask(t, r.InFlight, m.Key(), m.GetVersion(), m.correlation)
	err = feed(r.Forward, frame, next)

	switch got := bytes.Count(out.Bytes(), []byte(secret)); {
	case err == nil && lookup(m.Key()).versions[m.GetVersion()].tail == noTail:
		// What follows the last address is not looked at.
	case got > 0 && (err != nil || got > elsewhere(m, frame)):
		t.Errorf("%s v%d: a broker's name was forwarded\nsent %x\ngot  %x\n%v",
			kmsg.NameForKey(m.Key()), m.GetVersion(), frame, out.Bytes(), err)
	}
	if err == nil {
		return nil
	}
	var refused *Error
	if !errors.As(err, &refused) || refused.Key != m.Key() || refused.Version != m.GetVersion() ||
		refused.Offset < 8 || refused.Offset > int64(len(frame)) || !strings.HasPrefix(refused.Reason, "response: ") {
		t.Errorf("%s v%d: the error is %v", kmsg.NameForKey(m.Key()), m.GetVersion(), err)
	}
	if asked > 0 {
		t.Errorf("%s v%d: %d names were asked for, and then there was %v", kmsg.NameForKey(m.Key()), m.GetVersion(), asked, err)
	}
	before := out.Len()
	if again := r.Forward(frame); again != err || out.Len() != before {
		t.Errorf("after %v, Forward went on with %v", err, again)
	}
	return err
}

// elsewhere counts the names of brokers in a frame that are, as kmsg reads it,
// not addresses but records, racks or unknown fields.
func elsewhere(m *message, frame []byte) int {
	d, err := m.decode(frame)
	if err != nil {
		return 0
	}
	n := bytes.Count(frame, []byte(secret))
	for _, a := range d.addresses() {
		n -= strings.Count(*a.host, secret)
	}
	return n
}

func TestTruncatedResponsesAreNotForwarded(t *testing.T) {
	everyMode(t, func(t *testing.T, s *schema, version int16, tune tuning) {
		g := newGenerator(seed(s, version))
		for range rounds(5) {
			m := g.withAddresses(s.key, version)
			frame := m.encode()
			for n := 8; n < len(frame); n++ {
				for _, next := range []pieces{inOne, byteByByte} {
					err := try(t, m, refit(frame[:n]), tune, next)
					if err == nil && lookup(s.key).versions[version].tail != noTail {
						t.Errorf("%s v%d: %d bytes of %x were forwarded", s.name, version, n, frame)
					}
				}
			}
		}
	})
}

func TestSpoiledResponsesAreNotForwarded(t *testing.T) {
	everyMode(t, func(t *testing.T, s *schema, version int16, tune tuning) {
		g := newGenerator(seed(s, version))
		refused := 0
		for range rounds(5) {
			m := g.withAddresses(s.key, version)
			frame := m.encode()
			for at := 8; at < len(frame); at++ {
				for _, to := range []byte{0, 1, 0x7f, 0x80, 0xff, frame[at] + 1, frame[at] - 1, frame[at] ^ 0x80, frame[at] ^ 1} {
					if err := try(t, m, spoil(frame, at, to), tune, g.cuts()); err != nil {
						refused++
					}
				}
			}
		}
		if refused == 0 {
			t.Error("nothing was refused")
		}
	})
}

func TestBytesBehindTheEndAreNotForwarded(t *testing.T) {
	everyMode(t, func(t *testing.T, s *schema, version int16, tune tuning) {
		if lookup(s.key).versions[version].tail == noTail {
			return // what follows the last address is not looked at
		}
		m := newGenerator(seed(s, version)).withAddresses(s.key, version)
		for _, next := range []pieces{inOne, byteByByte} {
			frame := refit(append(m.encode(), 0))
			if err := try(t, m, frame, tune, next); err == nil || !strings.Contains(err.Error(), "1 bytes behind the end") {
				t.Errorf("%s v%d: %v", s.name, version, err)
			}
		}
	})
}

func TestResponsesToNothing(t *testing.T) {
	frame := (&message{Response: &kmsg.MetadataResponse{}, correlation: 7}).encode()
	for _, next := range []pieces{inOne, byteByByte} {
		var out bytes.Buffer
		r := Responses{Out: &out, InFlight: new(InFlight)}
		err := feed(r.Forward, frame, next)
		if err == nil || err.Error() != "offset 0: response of 12 bytes that no request asked for" || out.Len() > 0 {
			t.Errorf("%v, and %x was forwarded", err, out.Bytes())
		}

		ask(t, r.InFlight, keyMetadata, 0, 8)
		r = Responses{Out: &out, InFlight: r.InFlight}
		err = feed(r.Forward, frame, next)
		if err == nil || !strings.HasPrefix(err.Error(), "Metadata v0, offset 4: response: its correlation id is not") || out.Len() > 0 {
			t.Errorf("%v, and %x was forwarded", err, out.Bytes())
		}
	}
}

func TestSizesOfResponses(t *testing.T) {
	for _, tc := range []struct {
		size int32
		want string
	}{
		{-1, "offset 0: response of -1 bytes: want 0 to 104857600"},
		{math.MinInt32, "offset 0: response of -2147483648 bytes"},
		{math.MaxInt32, "offset 0: response of 2147483647 bytes"},
		{DefaultMaxFrame + 1, "offset 0: response of 104857601 bytes"},
		{0, "offset 0: response of 0 bytes: shorter than a response header"},
		{3, "offset 0: response of 3 bytes: shorter than a response header"},
		{4, "Metadata v0, offset 8: response: a frame of 8 bytes has no body"},
	} {
		for _, next := range []pieces{inOne, byteByByte} {
			var out bytes.Buffer
			r := Responses{Out: &out, InFlight: new(InFlight)}
			ask(t, r.InFlight, keyMetadata, 0, 1)
			err := feed(r.Forward, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(tc.size)), 1), next)
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) || out.Len() > 0 {
				t.Errorf("%d: %v, want %q", tc.size, err, tc.want)
			}
		}
	}
	r := Responses{InFlight: new(InFlight), MaxFrame: 10}
	ask(t, r.InFlight, keyMetadata, 0, 1)
	if err := r.Forward([]byte{0, 0, 0, 11}); err == nil || !strings.Contains(err.Error(), "want 0 to 10") {
		t.Error(err)
	}
}

// TestMalformed names what is wrong in frames built by hand, where kmsg would
// not write them.
func TestMalformed(t *testing.T) {
	join := func(parts ...string) string { return strings.Join(parts, "") }
	const (
		node, port  = "\x00\x00\x00\x01", "\x00\x00\x23\x84"
		host        = "\x0dupstream.test"
		rackAndTags = "\x00\x00"
		endpoint    = node + "\x0eupstream.test" + port + rackAndTags
		one         = "\x02" + endpoint
		two         = "\x03" + endpoint + endpoint
		fetch       = "\x00" + "\x00\x00\x00\x00" + "\x00\x00" + "\x00\x00\x00\x01" + "\x01" // up to the end of the topics
		share       = "\x00" + "\x00\x00\x00\x00" + "\x00\x00" + "\x00" + "\x00\x00\x00\x00" + "\x01"
	)
	field := func(tag, value string) string {
		return tag + string(binary.AppendUvarint(nil, uint64(len(value)))) + value
	}
	for name, tc := range map[string]struct {
		key, version int16
		body, want   string
	}{
		"metadata: negative count": {3, 0, "\xff\xff\xff\xfe", "Metadata v0, offset 12: response: brokers: negative length -2"},
		"metadata: too many":       {3, 0, join("\x00\x00\x00\x40", node), "Metadata v0, offset 12: response: brokers: count 64 is more than the 4 bytes left"},
		"metadata: most":           {3, 0, join("\x7f\xff\xff\xff", node), "count 2147483647 is more"},
		"metadata: negative host":  {3, 0, join("\x00\x00\x00\x01", node, "\xff\xfe", port), "Metadata v0, offset 18: response: brokers.host: negative length -2"},
		"metadata: null host":      {3, 0, join("\x00\x00\x00\x01", node, "\xff\xff", port), "brokers.host: null"},
		"metadata: long host":      {3, 0, join("\x00\x00\x00\x01", node, "\x00\x0e", "upstream.", port), "brokers.host: 14 bytes in the 13 left"},
		"metadata: no port":        {3, 0, join("\x00\x00\x00\x01", node, "\x00", host, "\x00"), "brokers.port: the frame ends within"},
		"metadata: port 0":         {3, 0, join("\x00\x00\x00\x01", node, "\x00", host, "\x00\x00\x00\x00"), "brokers.port: node 1 with a host has port 0"},
		"metadata: port 65536":     {3, 0, join("\x00\x00\x00\x01", node, "\x00", host, "\x00\x01\x00\x00"), "has port 65536"},
		"metadata: node -1":        {3, 0, join("\x00\x00\x00\x01", "\xff\xff\xff\xff", "\x00", host, port), "node -1 with a host"},
		"metadata: the second":     {3, 0, join("\x00\x00\x00\x02", node, "\x00", host, port, node, "\x00", host), "brokers.port: the frame ends within"},
		"metadata: rack":           {3, 9, join("\x00", "\x00\x00\x00\x00", "\x02", node, "\x0eupstream.test", port, "\x05ab"), "brokers.rack: 4 bytes in the 2 left"},
		"metadata: tags":           {3, 9, join("\x00", "\x00\x00\x00\x00", "\x02", node, "\x0eupstream.test", port, "\x00", "\x01\x05\x09ab"), "brokers.tags: 9 bytes in the 2 left"},
		"metadata: header tags":    {3, 9, "\x01\x05\x09ab", "header tags: 9 bytes in the 2 left"},
		"varint of 6 bytes":        {3, 9, "\x80\x80\x80\x80\x80\x00", "header tags: a varint of more than 5 bytes"},
		"varint of 33 bits":        {3, 9, "\xff\xff\xff\xff\x1f\x00", "header tags: the varint 8589934591 has more than 32 bits"},
		"varint cut":               {3, 9, "\x80", "header tags: the frame ends within"},

		"fetch: endpoints twice":       {1, 16, join(fetch, "\x02", field("\x00", one), field("\x00", one)), "its endpoints do not parse"},
		"fetch: tags out of order":     {1, 16, join(fetch, "\x03", field("\x00", one), field("\x09", "a"), field("\x08", "b")), "its endpoints do not parse"},
		"fetch: a tag twice":           {1, 16, join(fetch, "\x03", field("\x00", one), field("\x09", "a"), field("\x09", "b")), "its endpoints do not parse"},
		"fetch: field is longer":       {1, 16, join(fetch, "\x01", field("\x00", one+"\x00")), "tagged field 0 ends at offset"},
		"fetch: field is shorter":      {1, 16, join(fetch, "\x01", field("\x00", one)[:2], two), "tagged field 0 ends at offset"},
		"fetch: field is cut":          {1, 16, join(fetch, "\x01\x00\x7f", one), "tagged field 0 of 127 bytes in the"},
		"fetch: field of no endpoints": {1, 16, join(fetch, "\x02", field("\x00", ""), field("\x01", endpoint)), "tagged field 0 ends at offset"},
		"fetch: null host":             {1, 16, join(fetch, "\x01", field("\x00", join("\x02", node, "\x00", port, rackAndTags))), "node_endpoints.host: null"},
		"fetch: no tags":               {1, 16, fetch, "the frame ends"},
		"share: no endpoints":          {78, 1, share, "the frame ends"},
		"share: no tags":               {78, 1, join(share, one), "the frame ends"},
		"share: cut within":            {78, 1, join(share, "\x03", endpoint), "the frame ends"},
		"share: behind the end":        {78, 1, join(share, one, "\x00", endpoint), "behind the end"},
	} {
		m := &message{Response: kmsg.ResponseForKey(tc.key), correlation: 9}
		m.SetVersion(tc.version)
		frame := refit(append([]byte{0, 0, 0, 0, 0, 0, 0, 9}, tc.body...))
		for _, tune := range []tuning{{}, {wholeFrame: 1}, {wholeFrame: 1, margin: 1}} {
			for _, next := range []pieces{inOne, byteByByte} {
				if err := try(t, m, frame, tune, next); err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("%s: got %v, want %q", name, err, tc.want)
				}
			}
		}
	}
}

// TestNoMoreIsKeptThanTheLimit: what a broker claims to be addresses without
// end is not kept without end.
func TestNoMoreIsKeptThanTheLimit(t *testing.T) {
	piece := make([]byte, 1<<20)
	for name, tc := range map[string]struct {
		m    *message
		head []byte
	}{
		"metadata": {&message{Response: &kmsg.MetadataResponse{Version: 0}}, []byte{0, 0x20, 0, 0}},
		"fetch": {&message{Response: &kmsg.FetchResponse{Version: 16}}, // an unknown tagged field of 32 MiB
			[]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 5, 0x80, 0x80, 0x80, 0x10}},
		"api versions": {&message{Response: &kmsg.ApiVersionsResponse{Version: 0}}, []byte{0, 0, 0, 0x40, 0, 0}},
	} {
		var out bytes.Buffer
		r := Responses{Out: &out, InFlight: new(InFlight)}
		ask(t, r.InFlight, tc.m.Key(), tc.m.GetVersion(), 0)
		head := binary.BigEndian.AppendUint32(nil, 40<<20)
		head = append(head, 0, 0, 0, 0)
		head = append(head, tc.head...)
		err := r.Forward(head)
		most := 0
		for range 39 {
			if err == nil {
				err = r.Forward(piece)
				most = max(most, cap(r.kept))
			}
		}
		var refused *Error
		if !errors.As(err, &refused) || !strings.Contains(refused.Reason, "would have to be kept") {
			t.Errorf("%s: got %v", name, err)
		}
		if most > 2*maxKept || out.Len() > 100 {
			t.Errorf("%s: %d bytes were kept, %d forwarded", name, most, out.Len())
		}
	}
}

// TestOutEndsResponses: an error of Out is returned as it is, wherever it
// happens.
func TestOutEndsResponses(t *testing.T) {
	broken := errors.New("broken pipe")
	everyMode(t, func(t *testing.T, s *schema, version int16, tune tuning) {
		m := newGenerator(seed(s, version)).withAddresses(s.key, version)
		for n := range 20 {
			writes := 0
			r := Responses{InFlight: new(InFlight), Names: namer(3), tune: tune, Out: writerFunc(func(p []byte) (int, error) {
				if writes++; writes > n {
					return 0, broken
				}
				return len(p), nil
			})}
			ask(t, r.InFlight, s.key, version, m.correlation)
			if err := feed(r.Forward, m.encode(), byteByByte); err != nil && err != broken || err == nil && writes > n {
				t.Errorf("after %d writes: %v", n, err)
			}
		}
	})
}

// TestResponsesBeforeAMalformedOneAreForwarded: they were good, and the client
// would else send their requests again.
func TestResponsesBeforeAMalformedOneAreForwarded(t *testing.T) {
	good := []*message{produced(13), cluster(2, 3), produced(8)}
	var before []byte
	for _, m := range good {
		before = append(before, m.encode()...)
	}
	want, err := respond(t, &Responses{Names: namer(3)}, good, before, inOne)
	if err != nil {
		t.Fatal(err)
	}
	everyMode(t, func(t *testing.T, s *schema, version int16, tune tuning) {
		bad := newGenerator(seed(s, version)).withAddresses(s.key, version)
		frame := bad.encode()
		if lookup(s.key).versions[version].tail == noTail {
			frame = frame[:14]
		}
		stream := append(bytes.Clone(before), refit(frame[:len(frame)-1])...)
		got, err := respond(t, &Responses{Names: namer(3), tune: tune}, append(good, bad), stream, inOne)
		if err == nil || !bytes.HasPrefix(got, want) || bytes.Contains(got, []byte(secret)) {
			t.Errorf("%v; got\n%x, want\n%x", err, got, want)
		}
	})
}
