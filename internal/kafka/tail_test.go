package kafka

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// trailers returns a trailer of every kind: plain or tagged, with no, one or
// many endpoints, and with tagged fields that are in the way of the padding.
func trailers() map[string]*trailer {
	all := map[string]*trailer{}
	for _, layout := range []tail{plainEndpoints, taggedEndpoints} {
		for _, count := range []int{0, 1, 2, 130} {
			for name, tags := range map[string][]int{
				"no tags": nil, "127": {127}, "128": {128}, "127 and 128": {127, 128}, "126 to 129": {126, 127, 128, 129},
				"126 tags": upTo(126), "127 tags": upTo(127), "128 tags": upTo(128), "all of one byte": upTo(128)[:127],
				"ends": {1, 16383, 16384},
			} {
				t := &trailer{layout: layout}
				for i := range count {
					// Rack null, no tagged fields.
					t.endpoints = append(t.endpoints, endpoint{node: int32(i), port: 9092, host: fmt.Appendf(nil, "b%d.%s.example", i, secret), rest: []byte{0, 0}})
				}
				for _, tag := range tags {
					t.tags = append(t.tags, taggedField{tag, []byte("value")[:tag%3]})
				}
				all[fmt.Sprintf("layout %d, %d endpoints, %s", layout, count, name)] = t
			}
		}
	}
	return all
}

func upTo(n int) (tags []int) {
	for tag := 1; tag <= n; tag++ {
		tags = append(tags, tag)
	}
	return tags
}

func (t *trailer) clone() *trailer {
	c := *t
	c.endpoints, c.tags = slices.Clone(t.endpoints), slices.Clone(t.tags)
	return &c
}

func (t *trailer) size() int { return len(t.clone().append(nil)) }

// TestFitFillsEverySpace tries every space around those at which the length of
// a length jumps.
func TestFitFillsEverySpace(t *testing.T) {
	for name, tr := range trailers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			empty := &trailer{layout: tr.layout, tags: tr.tags}
			least, most := empty.size(), tr.size()
			by := 150
			if rounds(2) < 2 || len(tr.endpoints) > 2 {
				by = 20
			}
			for _, around := range []struct{ at, by int }{{least, by}, {most, by}, {most + 130, 5}, {most + 16384, 10}} {
				for n := max(0, around.at-around.by); n < around.at+around.by; n++ {
					fitted(t, tr, n, least, most)
				}
			}
		})
	}
}

// TestFitFillsTwentyThousandSpaces tries all spaces to begin with.
func TestFitFillsTwentyThousandSpaces(t *testing.T) {
	for _, name := range []string{"layout 1, 2 endpoints, 127 and 128", "layout 2, 2 endpoints, 127 and 128"} {
		tr := trailers()[name]
		least, most := (&trailer{layout: tr.layout, tags: tr.tags}).size(), tr.size()
		for n := range rounds(20_000) {
			fitted(t, tr, n, least, most)
		}
		for _, n := range []int{1<<21 - 2, 1<<21 + 4} { // and where the length of the size jumps once more
			for n += most; n%16 != 0; n++ {
				fitted(t, tr, n, least, most)
			}
		}
	}
}

// fitted fits a trailer, which takes most bytes and without its endpoints
// least, into n bytes.
func fitted(t *testing.T, tr *trailer, n, least, most int) {
	t.Helper()
	f := tr.clone()
	ok := f.fit(n)
	dropped := f.dropped
	allShortTags := len(tr.tags) >= 127 // then there are gaps that nothing fills
	if !ok {
		// With an endpoint to replace there was always room for two bytes more.
		if n > least+3 && !allShortTags {
			t.Errorf("into %d bytes, when %d are needed, it does not fit", n, least)
		}
		return
	}
	got := f.append(nil)
	if len(got) != n {
		t.Fatalf("into %d bytes it was fitted with %d", n, len(got))
	}

	if all := n == most || n > most+3; all && dropped != 0 && !allShortTags {
		t.Errorf("%d endpoints were left out of %d bytes, when %d are needed", dropped, n, most)
	}
	if dropped != len(tr.endpoints)-len(f.endpoints) || n < most && len(tr.endpoints) > 0 && dropped == 0 {
		t.Errorf("into %d bytes of %d, %d of %d endpoints fit, %d were left out", n, most, len(f.endpoints), len(tr.endpoints), dropped)
	}
	again, ok := parseTail(got, tr.layout)
	if !ok || !slices.EqualFunc(again.endpoints, f.endpoints, equalEndpoints) {
		t.Fatalf("into %d bytes: what came of it does not parse: %x", n, got)
	}
	i := 0
	for _, e := range f.endpoints {
		for i < len(tr.endpoints) && !equalEndpoints(tr.endpoints[i], e) {
			i++
		}
		if i == len(tr.endpoints) {
			t.Fatalf("into %d bytes: an endpoint was made up: %+v", n, e)
		}
		i++
	}
	padding := slices.DeleteFunc(again.tags, func(f taggedField) bool {
		return slices.ContainsFunc(tr.tags, func(o taggedField) bool { return o.tag == f.tag && bytes.Equal(o.value, f.value) })
	})
	if len(again.tags)+1 < len(tr.tags) || len(padding) > 1 || len(padding) == 1 && len(bytes.Trim(padding[0].value, "\x00")) > 0 {
		t.Errorf("into %d bytes: the padding is %v", n, padding)
	}
}

func equalEndpoints(a, b endpoint) bool {
	return a.node == b.node && a.port == b.port && bytes.Equal(a.host, b.host) && bytes.Equal(a.rest, b.rest)
}

// TestNamesOfEveryLengthInPlace replaces host names by shorter and longer ones
// in a long response, as the engine does it.
func TestNamesOfEveryLengthInPlace(t *testing.T) {
	for _, s := range []*schema{schemaFor(keyProduce), schemaFor(keyFetch), schemaFor(keyShareFetch), schemaFor(keyShareAcknowledge)} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			g := newGenerator(seed(s, 0))
			for range rounds(20) {
				m := g.withAddresses(s.key, s.newest)
				frame := m.encode()
				for length := range 300 {
					c := check{tune: tuning{wholeFrame: 1}, names: namer(length)}
					c.run(t, []*message{m}, frame, g.cuts())
				}
			}
		})
	}
}

// TestShortNamesKeepEveryEndpoint: when our names are not longer than the
// brokers', no endpoint is left out, but for a gap of one byte.
func TestShortNamesKeepEveryEndpoint(t *testing.T) {
	for _, layout := range []tail{plainEndpoints, taggedEndpoints} {
		for count := 1; count < 200; count++ {
			for shorter := range 20 {
				tr := &trailer{layout: layout}
				for i := range count {
					tr.endpoints = append(tr.endpoints, endpoint{node: int32(i), host: []byte(strings.Repeat("u", 50)), port: 1, rest: []byte{0, 0}})
				}
				n := tr.size()
				tr.rename(func(int32, []byte, int32) (string, int32, error) { return strings.Repeat("n", 50-shorter), 1, nil })
				gap := n - tr.size()
				ok := tr.fit(n)
				dropped := tr.dropped
				if !ok || dropped > 0 && gap != 1 || dropped > 1 {
					t.Fatalf("%d of %d endpoints were left out, %t, for a gap of %d", dropped, count, ok, gap)
				}
			}
		}
	}
}

// TestTailsThatDoNotParse: what the scanner lets through and parseTail must not.
func TestTailsThatDoNotParse(t *testing.T) {
	one := append(binary.BigEndian.AppendUint32([]byte{2}, 1), "\x02h\x00\x00\x00\x01\x00\x00"...)
	tagged := func(fields ...string) []byte {
		b := []byte{byte(len(fields))}
		for _, f := range fields {
			b = append(b, f...)
		}
		return b
	}
	endpoints := "\x00" + string(rune(len(one))) + string(one)
	for name, tc := range map[string]struct {
		layout tail
		b      []byte
	}{
		"twice":              {taggedEndpoints, tagged(endpoints, endpoints)},
		"descending":         {taggedEndpoints, tagged(endpoints, "\x05\x00", "\x04\x00")},
		"a tag twice":        {plainEndpoints, append(slices.Clone(one), tagged("\x05\x00", "\x05\x00")...)},
		"behind the end":     {taggedEndpoints, append(tagged(endpoints), 0)},
		"cut":                {taggedEndpoints, tagged(endpoints)[:8]},
		"too many":           {plainEndpoints, []byte{0x7f, 0, 0, 0, 0}},
		"a varint too long":  {plainEndpoints, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		"one in six bytes":   {plainEndpoints, []byte{0x81, 0x80, 0x80, 0x80, 0x80, 0, 0}},
		"longer than needed": {taggedEndpoints, tagged("\x00" + string(rune(len(one)+1)) + string(one) + "\x00")},
		"a varint too large": {plainEndpoints, []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0}},
	} {
		if tr, ok := parseTail(tc.b, tc.layout); ok {
			t.Errorf("%s: %x parses as %+v", name, tc.b, tr)
		}
	}
	if tr, ok := parseTail(tagged(endpoints, "\x05\x00"), taggedEndpoints); !ok || len(tr.endpoints) != 1 || len(tr.tags) != 1 {
		t.Errorf("a good one is %+v, %t", tr, ok)
	}
}
