package kafka

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// apiVersions returns a broker's answer to an ApiVersions request.
func apiVersions(version, code int16, ranges ...[3]int16) *message {
	r := &kmsg.ApiVersionsResponse{Version: version, ErrorCode: code}
	for _, k := range ranges {
		r.ApiKeys = append(r.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: k[0], MinVersion: k[1], MaxVersion: k[2]})
	}
	return &message{Response: r, correlation: 5}
}

func TestAPIVersionsOffersOnlyWhatCanBeRewritten(t *testing.T) {
	for _, tc := range []struct {
		what          string
		offered, want [][3]int16
	}{
		{"all within", [][3]int16{{0, 0, 13}, {1, 4, 18}, {3, 0, 13}, {18, 0, 5}}, [][3]int16{{0, 0, 13}, {1, 4, 18}, {3, 0, 13}, {18, 0, 5}}},
		{"maxima are lowered, minima stay",
			[][3]int16{{0, 0, 14}, {1, 4, 99}, {3, 12, 14}, {10, 6, 7}, {18, 3, 6}, {55, 0, 2}, {60, 0, 3}, {78, 1, 3}, {79, 1, 3}},
			[][3]int16{{0, 0, 13}, {1, 4, 18}, {3, 12, 13}, {10, 6, 6}, {18, 3, 5}, {55, 0, 1}, {60, 0, 2}, {78, 1, 2}, {79, 1, 2}}},
		{"what has no version left is taken out", [][3]int16{{2, 0, 9}, {3, 14, 15}, {55, 2, 2}, {78, 3, 4}, {8, 1, 2}}, [][3]int16{{2, 0, 9}, {8, 1, 2}}},
		{"even if nothing is left", [][3]int16{{3, 14, 15}}, nil},
		{"other APIs stay, those of vendors too", [][3]int16{{10003, 0, 99}, {32767, 1, 2}, {-1, 0, 0}, {17, 0, 9}, {92, 0, 50}}, [][3]int16{{10003, 0, 99}, {32767, 1, 2}, {-1, 0, 0}, {17, 0, 9}, {92, 0, 50}}},
		{"no API", nil, nil},
	} {
		for version := range int16(newestAPIVersions + 1) {
			sent, want := apiVersions(version, 0, tc.offered...), apiVersions(version, 0, tc.want...)
			for _, next := range []pieces{inOne, byteByByte} {
				r := &Responses{}
				got, err := respond(t, r, []*message{sent}, sent.encode(), next)
				if err != nil {
					t.Fatalf("%s, v%d: %v", tc.what, version, err)
				}
				if !bytes.Equal(got, want.encode()) {
					t.Errorf("%s, v%d: got\n%x, want\n%x", tc.what, version, got, want.encode())
				}
			}
		}
	}
}

// TestAPIVersionsIsCappedAsKmsgWouldDoIt tries random answers: with features,
// tagged fields, and APIs in the table and out of it.
func TestAPIVersionsIsCappedAsKmsgWouldDoIt(t *testing.T) {
	for version := range int16(newestAPIVersions + 1) {
		g := newGenerator(uint64(version))
		for range rounds(2000) {
			m := g.message(keyAPIVersions, version)
			r := m.Response.(*kmsg.ApiVersionsResponse)
			if r.ErrorCode == unsupportedVersion {
				r.ErrorCode = 0
			}
			for i := range r.ApiKeys {
				k := &r.ApiKeys[i]
				if g.oneIn(2) {
					k.ApiKey = schemas[g.IntN(len(schemas))].key
				}
				k.MinVersion = int16(g.IntN(20))
				k.MaxVersion = k.MinVersion + int16(g.IntN(20))
			}
			sent := m.encode()
			got, err := respond(t, &Responses{}, []*message{m}, sent, g.cuts())
			if err != nil {
				t.Fatalf("v%d: %v\n%x", version, err, sent)
			}

			offerLess(r)
			if want := m.encode(); !bytes.Equal(got, want) {
				t.Fatalf("v%d: sent\n%x, got\n%x, want\n%x", version, sent, got, want)
			}
		}
	}
}

// offerLess caps an answer as it should be.
func offerLess(r *kmsg.ApiVersionsResponse) {
	kept := r.ApiKeys[:0]
	for _, k := range r.ApiKeys {
		newest := int16(math.MaxInt16)
		for _, s := range schemas {
			if s.key == k.ApiKey {
				newest = s.newest
			}
		}
		if k.ApiKey == keyAPIVersions {
			newest = 5
		}
		k.MaxVersion = min(k.MaxVersion, newest)
		if k.MinVersion <= k.MaxVersion {
			kept = append(kept, k)
		}
	}
	r.ApiKeys = kept
}

// TestAPIVersionsGolden holds two answers byte for byte, cut at every place.
func TestAPIVersionsGolden(t *testing.T) {
	frame := func(s string) []byte {
		b, err := hex.DecodeString(strings.NewReplacer(" ", "", "\n", "", "\t", "").Replace(s))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, tc := range []struct {
		version    int16
		sent, want []byte
	}{
		{0,
			frame("00000022 00000007 0000 00000004  0001 0004 0013  0037 0002 0002  2713 0000 0003  0012 0000 0005"),
			frame("0000001c 00000007 0000 00000003  0001 0004 0012                  2713 0000 0003  0012 0000 0005")},
		{3, // three APIs, each with tagged fields; throttle time; a feature and its epoch
			frame(`00000041 00000007 0000 04  0001 0004 0013 00  0003 000e 000e 00  0012 0000 0006 01 02 01 ff
			       00000064  02 00 11 02 0b 6d657461646174612e 76 0001 0007 00  01 08 000000000000002a`),
			frame(`0000003a 00000007 0000 03  0001 0004 0012 00                     0012 0000 0005 01 02 01 ff
			       00000064  02 00 11 02 0b 6d657461646174612e 76 0001 0007 00  01 08 000000000000002a`)},
	} {
		if n := len(tc.sent); int(tc.sent[3]) != n-4 {
			t.Fatalf("the frame sent in v%d is %d bytes long", tc.version, n)
		}
		sent := &message{Response: &kmsg.ApiVersionsResponse{Version: tc.version}, correlation: 7}
		for at := 1; at <= len(tc.sent); at++ {
			got, err := respond(t, &Responses{}, []*message{sent}, tc.sent, cutAt(at))
			if err != nil || !bytes.Equal(got, tc.want) {
				t.Fatalf("v%d cut at %d: got %x, %v, want %x", tc.version, at, got, err, tc.want)
			}
		}
	}
}

// TestUnknownVersionOfAPIVersions covers KIP-511: the answer to a version that
// the broker does not know has the form of version 0.
func TestUnknownVersionOfAPIVersions(t *testing.T) {
	for _, version := range []int16{0, 1, 2, 3, 4, 5, 6, 7, 127, math.MaxInt16} {
		for _, next := range []pieces{inOne, byteByByte} {
			var up bytes.Buffer
			inFlight := new(InFlight)
			requests := Requests{Out: &up, InFlight: inFlight}
			sent := request(keyAPIVersions, version, 5)
			if err := feed(sender(&requests), sent, next); err != nil {
				t.Fatal(err)
			}
			want := bytes.Clone(sent)
			if version > newestAPIVersions {
				want[6], want[7] = 0x7f, 0xff // one that no broker knows either
			}
			if !bytes.Equal(up.Bytes(), want) {
				t.Errorf("v%d: the broker was sent %x, want %x", version, up.Bytes(), want)
			}

			var down bytes.Buffer
			responses := Responses{Out: &down, InFlight: inFlight}
			answer := apiVersions(0, unsupportedVersion, [3]int16{18, 0, 6}).encode()
			if err := feed(responses.Forward, answer, next); err != nil {
				t.Fatal(err)
			}
			if want := apiVersions(0, unsupportedVersion, [3]int16{18, 0, 5}).encode(); !bytes.Equal(down.Bytes(), want) {
				t.Errorf("v%d: the client was sent %x, want %x", version, down.Bytes(), want)
			}
		}
	}
}

// TestAPIVersionsFailsClosed: nothing of an answer that cannot be read is let
// through, for it could offer what must not be.
func TestAPIVersionsFailsClosed(t *testing.T) {
	good := apiVersions(3, 0, [3]int16{1, 0, 99}, [3]int16{3, 0, 99}).encode()
	for name, tc := range map[string]struct {
		version int16
		sent    []byte
		want    string
	}{
		"no error code":        {3, refit(good[:9]), "ApiVersions v3, offset 9: response: "},
		"no body":              {3, refit(good[:8]), "ApiVersions v3, offset 8: response: "},
		"cut within its list":  {3, refit(good[:20]), "cut short"},
		"a count too large":    {3, spoil(good, 10, 0x7f), "cut short"},
		"a varint too long":    {3, refit(append(good[:10:10], 0xff, 0xff, 0xff, 0xff, 0xff, 0x01)), "cut short"},
		"a form not known":     {6, good, "form is not known"},
		"a count not positive": {0, refit(append(good[:10:10], 0xff, 0xff, 0xff, 0xfe)), "cut short"},
	} {
		for _, next := range []pieces{inOne, byteByByte} {
			var down bytes.Buffer
			r := Responses{Out: &down, InFlight: new(InFlight)}
			ask(t, r.InFlight, keyAPIVersions, tc.version, 5)
			err := feed(r.Forward, tc.sent, next)
			var refused *Error
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), tc.want) || down.Len() > 0 {
				t.Errorf("%s: forwarded %x and said %v, want nothing and %q", name, down.Bytes(), err, tc.want)
			}
		}
	}
}

// refit gives a frame the length that it has.
func refit(frame []byte) []byte {
	b := bytes.Clone(frame)
	b[0], b[1], b[2], b[3] = 0, 0, byte((len(b)-4)>>8), byte(len(b)-4)
	return b
}

// spoil returns the frame with one byte changed.
func spoil(frame []byte, at int, to byte) []byte {
	b := bytes.Clone(frame)
	b[at] = to
	return b
}
