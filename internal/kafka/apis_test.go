package kafka

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// observed keeps what it is told.
type observed []Answer

func (o *observed) Answered(a Answer) { *o = append(*o, a) }

// frame gives a response its length, its correlation id and, where versions have them, the
// tagged fields of its header.
func frame(m kmsg.Response, correlation int32) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 4), uint32(correlation))
	if m.IsFlexible() && m.Key() != keyAPIVersions {
		b = append(b, 0)
	}
	b = m.AppendTo(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// TestAPIFacts holds the table against the message definitions: names, and where the
// throttle time is.
func TestAPIFacts(t *testing.T) {
	seen := 0
	for key := int16(0); key < APIs-1; key++ {
		m := kmsg.RequestForKey(key)
		if m == nil {
			t.Errorf("there is no API %d", key)
			continue
		}
		if name := kmsg.NameForKey(key); !strings.EqualFold(name, APIName(int(key))) && key != 45 { // which franz-go calls otherwise
			t.Errorf("API %d is called %s, want %s", key, APIName(int(key)), name)
		}
		answer := m.ResponseKind()
		throttled, has := answer.(kmsg.SetThrottleResponse)
		for version := int16(0); version <= m.MaxVersion(); version++ {
			answer.SetVersion(version)
			if answer.IsFlexible() != (version >= allAPIs[key].flexible) {
				t.Errorf("%s v%d: flexible is %v", APIName(int(key)), version, answer.IsFlexible())
			}
			if !has {
				continue
			}
			throttled.SetThrottle(123456)
			b := frame(answer, 7)
			got := throttleTime(pending{key: key, version: version}, b, int64(len(b)))
			if at := bytes.Index(b, []byte{0, 1, 0xe2, 0x40}); at < 0 || allAPIs[key].throttle == never && key != keyProduce {
				if got == 123456 {
					t.Errorf("%s v%d: there is none", APIName(int(key)), version)
				}
				continue
			}
			if seen++; got != 123456 {
				t.Errorf("%s v%d: %d ms, want 123456", APIName(int(key)), version, got)
			}
			for cut := range b[:min(len(b), 13)] { // no panic, and nothing made up
				if got := throttleTime(pending{key: key, version: version}, b[:cut], int64(len(b))); got != 0 && got != 123456 {
					t.Errorf("%s v%d, %d bytes: %d ms", APIName(int(key)), version, cut, got)
				}
			}
		}
	}
	if seen < 200 {
		t.Errorf("only %d versions have a throttle time", seen)
	}
	for index, want := range map[int]string{-1: "other", 0: "Produce", APIs - 1: "other", APIs + 1: "other"} {
		if got := APIName(index); got != want {
			t.Errorf("%d is called %s", index, got)
		}
	}
}

func TestResponsesAreObservedOnceEach(t *testing.T) {
	var seen observed
	inFlight := new(InFlight)
	var up, down bytes.Buffer
	requests := Requests{Out: &up, InFlight: inFlight}
	responses := Responses{Out: &down, InFlight: inFlight, Observer: &seen, Names: func(int32, []byte, int32) (string, int32, error) { return "x", 1, nil }}
	for i, key := range []int16{18, 3, 1} {
		requests.Now = int64(100 * (i + 1))
		if _, err := requests.Forward(request(key, 2, int32(i))); err != nil {
			t.Fatal(err)
		}
	}
	if at, key, waiting := inFlight.Oldest(); at != 100 || key != 18 || waiting != 3 {
		t.Errorf("the oldest of %d is of %d, at %d", waiting, key, at)
	}
	var all []byte
	for i, key := range []int16{18, 3, 1} {
		m := kmsg.RequestForKey(key).ResponseKind()
		m.SetVersion(2)
		if key == 1 {
			m.(kmsg.SetThrottleResponse).SetThrottle(55)
		}
		all = append(all, frame(m, int32(i))...)
	}
	for _, b := range all[:20] { // the first ones a byte at a time
		if err := responses.Forward([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if err := responses.Forward(all[20:]); err != nil {
		t.Fatal(err)
	}
	want := observed{{18, 2, 0, 100, 0, false}, {3, 2, 1, 200, 0, false}, {1, 2, 2, 300, 55, false}}
	if len(seen) != 3 || seen[0] != want[0] || seen[1] != want[1] || seen[2] != want[2] {
		t.Errorf("observed %v, want %v", seen, want)
	}
	if _, _, waiting := inFlight.Oldest(); waiting != 0 {
		t.Errorf("%d are waiting", waiting)
	}
}

// hello returns an ApiVersions request.
func hello(id *string, software, version string) []byte {
	m := kmsg.ApiVersionsRequest{Version: 3, ClientSoftwareName: software, ClientSoftwareVersion: version}
	f := kmsg.NewRequestFormatter()
	if id != nil {
		f = kmsg.NewRequestFormatter(kmsg.FormatterClientID(*id))
	}
	return f.AppendRequest(nil, &m, 1)
}

func TestClientsAreIntroduced(t *testing.T) {
	id := "orders-1"
	long := strings.Repeat("é", 400)
	for name, test := range map[string]struct {
		sent [][]byte
		want *Introduction
	}{
		"Java":                      {[][]byte{hello(&id, "apache-kafka-java", "4.4.0")}, &Introduction{"orders-1", "apache-kafka-java", "4.4.0"}},
		"no client id":              {[][]byte{hello(nil, "librdkafka", "2.16")}, &Introduction{"", "librdkafka", "2.16"}},
		"hostile":                   {[][]byte{hello(&id, "<script>\x1b[2J", "\xff\xfe")}, &Introduction{"orders-1", "<script>\x1b[2J", "\ufffd"}},
		"long":                      {[][]byte{hello(&long, long, "")}, &Introduction{long[:128], long[:128], ""}},
		"an old client":             {[][]byte{request(keyMetadata, 1, 0)}, &Introduction{ClientID: "test"}},
		"an old one with an id":     {[][]byte{append([]byte{0, 0, 0, 13, 0, 3, 0, 1, 0, 0, 0, 1, 0, 3}, "abc"...)}, &Introduction{ClientID: "abc"}},
		"an id that is cut":         {[][]byte{append([]byte{0, 0, 0, 13, 0, 3, 0, 1, 0, 0, 0, 1, 0, 9}, "abc"...)}, nil},
		"again, under another id":   {[][]byte{hello(nil, "x", "1"), append([]byte{0, 0, 0, 13, 0, 3, 0, 1, 0, 0, 0, 1, 0, 3}, "abc"...)}, &Introduction{"abc", "x", "1"}},
		"a request that is cut":     {[][]byte{hello(&id, "x", "1")[:20]}, nil},
		"tags that say lies":        {[][]byte{{0, 0, 0, 17, 0, 18, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}}, &Introduction{}},
		"software that lies":        {[][]byte{{0, 0, 0, 14, 0, 18, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 0, 0xfe, 0xff, 0x0f}}, &Introduction{}},
		"a header, and then the id": {[][]byte{{0, 0, 0, 13, 0, 3, 0, 1, 0, 0, 0, 1}, []byte("\x00\x03abc")}, nil},
	} {
		r := Requests{Out: new(bytes.Buffer), InFlight: new(InFlight)}
		for _, b := range test.sent {
			if _, err := r.Forward(b); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		got := r.Introduction.Load()
		if (got == nil) != (test.want == nil) || got != nil && *got != *test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
