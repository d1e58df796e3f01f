package kafka

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ours is a request of the proxy's own.
var ours = request(keyMetadata, 4, 0)

// answerToOurs tells of these brokers.
func answerToOurs(nodes ...int32) []byte {
	m := message{Response: &kmsg.MetadataResponse{Version: 4}}
	for _, node := range nodes {
		m.Response.(*kmsg.MetadataResponse).Brokers = append(m.Response.(*kmsg.MetadataResponse).Brokers,
			kmsg.MetadataResponseBroker{NodeID: node, Host: secret, Port: 9092})
	}
	return m.encode()
}

// dialogue is a session into which a query is put before the first request that is held.
type dialogue struct {
	requests  Requests
	responses Responses
	inFlight  InFlight
	up, down  bytes.Buffer
	told      []int32
	answered  []int // what QueryAnswered was told
	held      int   // how many requests were
}

func newDialogue() *dialogue {
	d := new(dialogue)
	d.requests = Requests{Out: &d.up, InFlight: &d.inFlight, Hold: true}
	d.responses = Responses{Out: &d.down, InFlight: &d.inFlight,
		QueryAnswered: func(brokers int) { d.answered = append(d.answered, brokers) },
		Names: func(node int32, host []byte, port int32) (string, int32, error) {
			d.told = append(d.told, node)
			return "a-name-for-clients", 1, nil
		}}
	return d
}

// forward forwards requests, and queries before the first one that is held.
func (d *dialogue) forward(p []byte) error {
	for {
		n, err := d.requests.Forward(p)
		if err != ErrHeld {
			return err
		}
		p = p[n:]
		if d.held++; d.held == 1 {
			if err := d.requests.Query(ours); err != nil {
				return err
			}
		}
		d.requests.Pass()
	}
}

func TestQueryComesBeforeTheFirstRequestBehindTheGreeting(t *testing.T) {
	greeting := slices.Concat(request(keyAPIVersions, 3, 1), handshake(1, "PLAIN"), request(keySaslAuthenticate, 2, 2))
	rest := slices.Concat(request(12, 4, 3), request(keyProduce, 9, 4), request(keyMetadata, 9, 5))
	answers := func(ids ...int32) (b []byte) {
		for _, id := range ids {
			b = append(b, 0, 0, 0, 8)
			b = binary.BigEndian.AppendUint32(b, uint32(id))
			b = append(b, "body"...)
		}
		return b
	}
	versions := message{Response: &kmsg.ApiVersionsResponse{Version: 3}, correlation: 1}
	before := slices.Concat(versions.encode(), answers(1, 2, 3))
	for at := 1; at <= len(greeting)+len(rest); at++ {
		d := newDialogue()
		if err := feed(d.forward, slices.Concat(greeting, rest), cutAt(at)); err != nil {
			t.Fatal(err)
		}
		if want := slices.Concat(greeting, ours, rest); !bytes.Equal(d.up.Bytes(), want) {
			t.Fatalf("cut at %d: the broker got %x\nwant %x", at, d.up.Bytes(), want)
		}
		if d.held != 3 || d.requests.Frames != 6 || !d.requests.AtBoundary() {
			t.Fatalf("cut at %d: %d requests were held, %d requests counted", at, d.held, d.requests.Frames)
		}
	}
	whole := slices.Concat(before[:len(before)-12], answerToOurs(7, 8), before[len(before)-12:])
	for at := 1; at <= len(whole); at++ {
		d := newDialogue()
		if err := d.forward(slices.Concat(greeting, rest)); err != nil {
			t.Fatal(err)
		}
		if err := feed(d.responses.Forward, whole, cutAt(at)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(d.down.Bytes(), before) {
			t.Fatalf("cut at %d: the client got %x\nwant %x", at, d.down.Bytes(), before)
		}
		if !slices.Equal(d.told, []int32{7, 8}) || !slices.Equal(d.answered, []int{2}) {
			t.Fatalf("cut at %d: told of the brokers %v", at, d.told)
		}
		if d.responses.Frames != 4 || d.responses.Rewritten != 0 || d.inFlight.Len() != 2 || !d.responses.AtBoundary() {
			t.Fatalf("cut at %d: %d answers counted, %d rewritten, %d in flight", at, d.responses.Frames, d.responses.Rewritten, d.inFlight.Len())
		}
	}
}

// TestNothingGetsBetweenTokensAndTheirAnswers: SASL in its first form is left
// alone.
func TestNothingGetsBetweenTokensAndTheirAnswers(t *testing.T) {
	everyPace(t, func(t *testing.T, next pieces) {
		d := newDialog(t, next)
		d.requests.Hold = true
		d.client(handshake(0, "GSSAPI"))
		d.broker(handshakeAnswer(0))
		d.client(token("\x60ticket"))
		d.broker(token("\x60reply"))
		d.client(token(""))
		d.broker(token("\x05wrapped"))
		d.client(token("\x05wrapped"), request(12, 4, 2)) // the token is not answered
		if _, err := d.requests.Forward(request(12, 4, 3)); err != ErrHeld {
			t.Errorf("the second request behind the tokens: %v, want it held", err)
		}
	})
}

func TestNothingOfAHeldRequestIsForwardedBeforeItMayPass(t *testing.T) {
	greeting, held := request(keyAPIVersions, 3, 1), request(keyProduce, 9, 2)
	stream := slices.Concat(greeting, held, request(12, 4, 3))
	for at := 1; at <= len(stream); at++ {
		var up bytes.Buffer
		r := Requests{Out: &up, InFlight: new(InFlight), Hold: true}
		stopped := 0
		err := feed(func(p []byte) error {
			for {
				n, err := r.Forward(p)
				if err != ErrHeld {
					return err
				}
				if want := [][]byte{greeting, slices.Concat(greeting, held)}[stopped]; !bytes.Equal(up.Bytes(), want) {
					t.Fatalf("cut at %d: the broker got %x before request %d may pass", at, up.Bytes(), stopped)
				}
				if _, again := r.Forward(p[n:]); again != ErrHeld {
					t.Fatalf("cut at %d: without Pass: %v", at, again)
				}
				if r.InFlight.Len() != 1+stopped || r.Frames != int64(1+stopped) {
					t.Fatalf("cut at %d: %d requests are in flight", at, r.InFlight.Len())
				}
				p, stopped = p[n:], stopped+1
				r.Pass()
			}
		}, stream, cutAt(at))
		if err != nil || stopped != 2 || !bytes.Equal(up.Bytes(), stream) {
			t.Fatalf("cut at %d: %v, %d held, the broker got %x", at, err, stopped, up.Bytes())
		}
	}
}

// TestUselessAnswersAreNotForwardedEither: they tell nothing, and the session
// goes on.
func TestUselessAnswersAreNotForwardedEither(t *testing.T) {
	for name, answer := range map[string][]byte{
		"nobody":     answerToOurs(),
		"cut short":  append([]byte{0, 0, 0, 12, 0, 0, 0, 0}, answerToOurs(1)[8:16]...),
		"of nothing": append([]byte{0, 0, 0, 8, 0, 0, 0, 0}, 0xff, 0xff, 0xff, 0xff),
	} {
		d := newDialogue()
		if err := d.forward(request(12, 4, 1)); err != nil {
			t.Fatal(err)
		}
		theirs := []byte{0, 0, 0, 5, 0, 0, 0, 1, 9}
		if err := feed(d.responses.Forward, append(answer, theirs...), byteByByte); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !slices.Equal(d.answered, []int{0}) || len(d.told) > 0 || !bytes.Equal(d.down.Bytes(), theirs) {
			t.Errorf("%s: told of %v, the client got %x", name, d.told, d.down.Bytes())
		}
	}
}

// FuzzQuery holds that a client is sent nothing of the response to a query
// of the proxy's own, whatever is in it, and all of its own answers.
func FuzzQuery(f *testing.F) {
	f.Add(answerToOurs(1, 2)[8:], uint64(1))
	f.Add(answerToOurs()[8:], uint64(1))
	for _, r := range realResponses(f) {
		if r.key == keyMetadata {
			f.Add(r.frame[8:], uint64(1))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, cuts uint64) {
		if len(body) == 0 {
			return
		}
		frame := binary.BigEndian.AppendUint32(nil, uint32(4+len(body)))
		frame = append(append(frame, 0, 0, 0, 0), body...)
		first, second := []byte{0, 0, 0, 5, 0, 0, 0, 1, 9}, []byte{0, 0, 0, 4, 0, 0, 0, 2}
		var told []int32
		for _, next := range []pieces{inOne, byteByByte, newGenerator(cuts).cuts()} {
			d := newDialogue()
			d.inFlight.push(pending{correlation: 1, key: 12})
			if err := d.forward(request(12, 4, 2)); err != nil {
				t.Fatal(err)
			}
			if err := feed(d.responses.Forward, slices.Concat(first, frame, second), next); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(d.down.Bytes(), append(first, second...)) {
				t.Fatalf("the client got %x", d.down.Bytes())
			}
			if told == nil {
				told = d.told
			}
			if !slices.Equal(d.answered, []int{len(d.told)}) || !slices.Equal(d.told, told) {
				t.Fatalf("told of %v, and in one piece of %v", d.told, told)
			}
		}
	})
}
