package kafka

import (
	"bytes"
	"encoding/hex"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// real is a response that a real broker sent.
type real struct {
	key, version int16 // of the request
	frame        []byte
}

func realResponses(t testing.TB) (all []real) {
	keys := map[string]int16{}
	for key := range int16(kmsg.MaxKey + 1) {
		keys[strings.ToLower(kmsg.NameForKey(key))] = key
	}
	text, err := os.ReadFile("testdata/kafka-4.3.1.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if f[0] == "#" {
			continue
		}
		key, ok := keys[strings.ToLower(f[0])]
		version, err := strconv.ParseInt(f[1], 10, 16)
		frame, hexErr := hex.DecodeString(f[2])
		if !ok || err != nil || hexErr != nil {
			t.Fatalf("%.60s: %v, %v", line, err, hexErr)
		}
		all = append(all, real{key, int16(version), frame})
	}
	return all
}

// decode reads the response with kmsg.
func (r real) decode(t testing.TB) *message {
	m := &message{Response: kmsg.ResponseForKey(r.key)}
	m.SetVersion(r.version)
	if r.key == keyAPIVersions && be16(r.frame[8:]) == unsupportedVersion {
		m.SetVersion(0)
	}
	d, err := m.decode(r.frame)
	if err != nil || !bytes.Equal(d.encode(), r.frame) {
		t.Fatalf("%s v%d: kmsg reads %x as %+v, %v", kmsg.NameForKey(r.key), r.version, r.frame, d.Response, err)
	}
	return d
}

// TestRealResponses sends what a real broker sent, cut at every place.
func TestRealResponses(t *testing.T) {
	rewritten := map[int16]int{}
	for _, r := range realResponses(t) {
		m := r.decode(t)
		want := r.decode(t)
		if v, ok := want.Response.(*kmsg.ApiVersionsResponse); ok {
			offerLess(v)
		}
		for at := 1; at < len(r.frame); at++ {
			if m.Key() != keyAPIVersions {
				for _, tune := range []tuning{{}, {wholeFrame: 1, margin: 1}, {wholeFrame: 1, margin: 30}} {
					check{tune: tune, names: namer(30)}.run(t, []*message{m}, r.frame, cutAt(at))
				}
				continue
			}
			responses := Responses{InFlight: new(InFlight)}
			var out bytes.Buffer
			responses.Out = &out
			responses.InFlight.push(pending{key: r.key, version: r.version, correlation: m.correlation})
			if err := feed(responses.Forward, r.frame, cutAt(at)); err != nil || !bytes.Equal(out.Bytes(), want.encode()) {
				t.Fatalf("ApiVersions v%d: got %x, %v, want %x", r.version, out.Bytes(), err, want.encode())
			}
		}
		if bytes.Contains(r.frame, []byte(secret)) {
			rewritten[r.key]++
		}
	}
	for _, s := range schemas {
		if rewritten[s.key] == 0 && s.key != keyShareAcknowledge && s.key != keyDescribeQuorum {
			t.Errorf("there is no real %s response with an address", s.name)
		}
	}
}
