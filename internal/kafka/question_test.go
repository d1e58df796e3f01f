package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
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

// inquiry is a session into which a question is put before the first request
// that Before is called for.
type inquiry struct {
	requests  Requests
	responses Responses
	owed      Owed
	up, down  bytes.Buffer
	told      []int32
	before    int // how often Before was called
}

func newInquiry() *inquiry {
	q := new(inquiry)
	q.requests = Requests{Out: &q.up, Owed: &q.owed}
	q.requests.Before = func() error {
		if q.before++; q.before > 1 {
			return nil
		}
		return q.requests.Ask(ours)
	}
	q.responses = Responses{Out: &q.down, Owed: &q.owed, Names: func(node int32, host []byte, port int32) (string, int32) {
		q.told = append(q.told, node)
		return "a-name-for-clients", 1
	}}
	return q
}

func TestQuestionComesBeforeTheFirstRequestBehindTheGreeting(t *testing.T) {
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
		q := newInquiry()
		if err := feed(q.requests.Forward, slices.Concat(greeting, rest), cutAt(at)); err != nil {
			t.Fatal(err)
		}
		if want := slices.Concat(greeting, ours, rest); !bytes.Equal(q.up.Bytes(), want) {
			t.Fatalf("cut at %d: the broker got %x\nwant %x", at, q.up.Bytes(), want)
		}
		if q.before != 3 || q.requests.Frames != 6 || !q.requests.AtBoundary() {
			t.Fatalf("cut at %d: Before was called %d times, %d requests counted", at, q.before, q.requests.Frames)
		}
	}
	whole := slices.Concat(before[:len(before)-12], answerToOurs(7, 8), before[len(before)-12:])
	for at := 1; at <= len(whole); at++ {
		q := newInquiry()
		if err := q.requests.Forward(slices.Concat(greeting, rest)); err != nil {
			t.Fatal(err)
		}
		if err := feed(q.responses.Forward, whole, cutAt(at)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(q.down.Bytes(), before) {
			t.Fatalf("cut at %d: the client got %x\nwant %x", at, q.down.Bytes(), before)
		}
		if !slices.Equal(q.told, []int32{7, 8}) || !q.owed.AwaitAnswer() {
			t.Fatalf("cut at %d: told of the brokers %v", at, q.told)
		}
		if q.responses.Frames != 4 || q.responses.Rewritten != 0 || q.owed.Len() != 2 || !q.responses.AtBoundary() {
			t.Fatalf("cut at %d: %d answers counted, %d rewritten, %d owed", at, q.responses.Frames, q.responses.Rewritten, q.owed.Len())
		}
	}
}

// TestNothingGetsBetweenTokensAndTheirAnswers: SASL in its first form is left
// alone.
func TestNothingGetsBetweenTokensAndTheirAnswers(t *testing.T) {
	everyPace(t, func(t *testing.T, next pieces) {
		d := newDialog(t, next)
		asked := 0
		d.requests.Before = func() error { asked++; return nil }
		d.client(handshake(0, "GSSAPI"))
		d.broker(handshakeAnswer(0))
		d.client(token("\x60ticket"))
		d.broker(token("\x60reply"))
		d.client(token(""))
		d.broker(token("\x05wrapped"))
		d.client(token("\x05wrapped"), request(12, 4, 2)) // the token is not answered
		if asked != 0 {
			t.Error("called while a token had no answer")
		}
		d.client(request(12, 4, 3))
		if asked != 1 {
			t.Errorf("called %d times, want 1", asked)
		}
	})
}

func TestRequestIsHeldBackByAnErrorOfBefore(t *testing.T) {
	greeting, held := request(keyAPIVersions, 3, 1), request(keyProduce, 9, 2)
	stop := errors.New("stop")
	for at := 1; at <= len(greeting)+len(held); at++ {
		var up bytes.Buffer
		r := Requests{Out: &up, Owed: new(Owed), Before: func() error { return stop }}
		if err := feed(r.Forward, slices.Concat(greeting, held), cutAt(at)); err != stop {
			t.Fatalf("cut at %d: %v", at, err)
		}
		if !bytes.Equal(up.Bytes(), greeting) || r.Owed.Len() != 1 || r.Frames != 1 {
			t.Fatalf("cut at %d: the broker got %x, and owes %d", at, up.Bytes(), r.Owed.Len())
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
		q := newInquiry()
		if err := q.requests.Forward(request(12, 4, 1)); err != nil {
			t.Fatal(err)
		}
		theirs := []byte{0, 0, 0, 5, 0, 0, 0, 1, 9}
		if err := feed(q.responses.Forward, append(answer, theirs...), byteByByte); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if q.owed.AwaitAnswer() || len(q.told) > 0 || !bytes.Equal(q.down.Bytes(), theirs) {
			t.Errorf("%s: told of %v, the client got %x", name, q.told, q.down.Bytes())
		}
	}
}

func TestAwaitingAnAnswerEndsWithTheSession(t *testing.T) {
	q := newInquiry()
	if err := q.requests.Forward(request(12, 4, 1)); err != nil {
		t.Fatal(err)
	}
	answered := make(chan bool)
	go func() { answered <- q.owed.AwaitAnswer() }()
	q.owed.Close()
	if <-answered {
		t.Error("an answer that has not come")
	}
}

func TestAnswersThatComeTooLateAreLearnedAllTheSame(t *testing.T) {
	q := newInquiry()
	if err := q.requests.Forward(request(12, 4, 1)); err != nil {
		t.Fatal(err)
	}
	q.owed.GiveUp()
	if q.owed.AwaitAnswer() {
		t.Error("an answer that has not come")
	}
	theirs := []byte{0, 0, 0, 5, 0, 0, 0, 1, 9}
	if err := feed(q.responses.Forward, append(answerToOurs(7), theirs...), byteByByte); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(q.told, []int32{7}) || !bytes.Equal(q.down.Bytes(), theirs) {
		t.Errorf("told of %v, the client got %x", q.told, q.down.Bytes())
	}
}

// FuzzQuestion holds that a client is sent nothing of the answer to a question
// of the proxy's own, whatever is in it, and all of its own answers.
func FuzzQuestion(f *testing.F) {
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
			q := newInquiry()
			q.owed.push(pending{correlation: 1, key: 12})
			if err := q.requests.Forward(request(12, 4, 2)); err != nil {
				t.Fatal(err)
			}
			if err := feed(q.responses.Forward, slices.Concat(first, frame, second), next); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(q.down.Bytes(), append(first, second...)) {
				t.Fatalf("the client got %x", q.down.Bytes())
			}
			if told == nil {
				told = q.told
			}
			if q.owed.AwaitAnswer() != (len(q.told) > 0) || !slices.Equal(q.told, told) {
				t.Fatalf("told of %v, and in one piece of %v", q.told, told)
			}
		}
	})
}
