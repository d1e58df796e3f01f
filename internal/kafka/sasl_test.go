package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// dialog is a session in which client and broker speak in turns.
type dialog struct {
	t         *testing.T
	next      pieces
	inFlight  InFlight
	up, down  bytes.Buffer
	requests  Requests
	responses Responses
}

func newDialog(t *testing.T, next pieces) *dialog {
	d := &dialog{t: t, next: next}
	d.requests = Requests{Out: &d.up, InFlight: &d.inFlight}
	d.responses = Responses{Out: &d.down, InFlight: &d.inFlight, Names: namer(0)}
	return d
}

// client sends what must come out at the broker as it is.
func (d *dialog) client(frames ...[]byte) {
	d.t.Helper()
	sent := bytes.Join(frames, nil)
	d.up.Reset()
	if err := feed(sender(&d.requests), sent, d.next); err != nil {
		d.t.Fatal(err)
	}
	if !bytes.Equal(d.up.Bytes(), sent) || !d.requests.AtBoundary() {
		d.t.Fatalf("the broker got %x of %x", d.up.Bytes(), sent)
	}
}

// broker answers with what must come out at the client as it is.
func (d *dialog) broker(frames ...[]byte) {
	d.t.Helper()
	d.answer(bytes.Join(frames, nil), bytes.Join(frames, nil))
}

func (d *dialog) answer(sent, want []byte) {
	d.t.Helper()
	d.down.Reset()
	if err := feed(d.responses.Forward, sent, d.next); err != nil {
		d.t.Fatal(err)
	}
	if !bytes.Equal(d.down.Bytes(), want) || !d.responses.AtBoundary() {
		d.t.Fatalf("the client got %x, want %x", d.down.Bytes(), want)
	}
}

// metadata is a request and an answer that must be rewritten.
func (d *dialog) metadata() {
	d.t.Helper()
	m := &message{correlation: 77, Response: &kmsg.MetadataResponse{Version: 1,
		Brokers: []kmsg.MetadataResponseBroker{{NodeID: 1, Host: "b1." + secret, Port: 9092}}}}
	d.client(request(keyMetadata, 1, 77))
	sent := m.encode()
	m.rename(d.responses.Names)
	d.answer(sent, m.encode())
	if n := d.inFlight.Len(); n != 0 {
		d.t.Fatalf("%d still in flight", n)
	}
}

// refused has the client send what must not be forwarded.
func (d *dialog) refused(sent []byte, want string) {
	d.t.Helper()
	d.up.Reset()
	inFlight := d.inFlight.Len()
	err := feed(sender(&d.requests), sent, d.next)
	var refused *Error
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), want) || refused.Key != keySaslHandshake {
		d.t.Errorf("got %v, want %q", err, want)
	}
	if d.up.Len() > 0 || d.inFlight.Len() != inFlight {
		d.t.Errorf("the broker got %x, and owes %d", d.up.Bytes(), d.inFlight.Len())
	}
}

func handshake(version int16, mechanism string) []byte {
	m := requestMessage{Request: &kmsg.SASLHandshakeRequest{Version: version, Mechanism: mechanism}, correlation: 1}
	return m.encode()
}

func handshakeAnswer(code int16) []byte {
	m := message{Response: &kmsg.SASLHandshakeResponse{ErrorCode: code, SupportedMechanisms: []string{"PLAIN"}}, correlation: 1}
	return m.encode()
}

func token(s string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)
}

// vendorRequest is a request of an API that Kafka does not have. Its key is
// above 255, as Confluent's are.
func vendorRequest(correlation int32) []byte {
	b := request(12, 4, correlation)
	binary.BigEndian.PutUint16(b[4:], 10003)
	return b
}

// everyPace runs a test with streams in one piece per turn, and byte by byte.
func everyPace(t *testing.T, f func(t *testing.T, next pieces)) {
	t.Run("in one", func(t *testing.T) { f(t, inOne) })
	t.Run("byte by byte", func(t *testing.T) { f(t, byteByByte) })
}

func TestSASLHandshakeV0IsFollowedByTokens(t *testing.T) {
	type turn struct{ client, broker string }
	const unanswered = "(nothing)"
	for name, turns := range map[string][]turn{
		"PLAIN":                    {{"\x00user\x00password", ""}},
		"PLAIN with a short name":  {{"\x00N\x00secret", ""}},
		"PLAIN with an identity":   {{"user\x00user\x00password", ""}},
		"SCRAM-SHA-256":            {{"n,,n=user,r=nonce", "r=noncemore,s=salt,i=4096"}, {"c=biws,r=noncemore,p=proof", "v=signature"}},
		"OAUTHBEARER":              {{"n,,\x01auth=Bearer token\x01\x01", ""}},
		"OAUTHBEARER that fails":   {{"n,,\x01auth=Bearer token\x01\x01", `{"status":"invalid_token"}`}, {"\x01", ""}},
		"GSSAPI":                   {{"\x60\x82ticket", "\x60\x23reply"}, {"", "\x05\x04\x05\xffwrapped"}, {"\x05\x04\x04\xffwrapped", unanswered}},
		"GSSAPI, answered":         {{"\x60\x82ticket", "\x60\x23reply"}, {"", "\x05\x04\x05\xffwrapped"}, {"\x05\x04\x04\xffwrapped", ""}},
		"answers shorter than ids": {{"xyz", "a"}, {"x", "abc"}},
		"an answer like an id":     {{"x", "\x00\x00\x00\x4dmore"}},
		"an empty token":           {{"", "four"}},
	} {
		t.Run(name, func(t *testing.T) {
			everyPace(t, func(t *testing.T, next pieces) {
				d := newDialog(t, next)
				for range 10 {
					d.metadata()
				}
				mechanism, _, _ := strings.Cut(name, " ")
				d.client(handshake(0, mechanism))
				d.broker(handshakeAnswer(0))
				for _, turn := range turns {
					d.client(token(turn.client))
					if turn.broker != unanswered {
						d.broker(token(turn.broker))
					}
				}
				if turns[len(turns)-1].broker != unanswered && d.inFlight.Len() > 0 {
					t.Error("something is in flight")
				}
				d.metadata()

				// And then no request is a token, whatever its API key.
				d.client(request(12, 4, 5), vendorRequest(6), request(12, 4, 7))
				all := owing(&d.inFlight)
				if len(all) != 3 || slices.ContainsFunc(all, func(p pending) bool { return p.kind != kafkaRequest }) {
					t.Errorf("in flight: %+v", all)
				}
			})
		})
	}
}

// TestRequestsBehindAnUnansweredToken: those behind the last token of GSSAPI
// may be pipelined, and the broker may answer that token all the same.
func TestRequestsBehindAnUnansweredToken(t *testing.T) {
	heartbeat := func(id int32) []byte {
		return (&message{Response: &kmsg.HeartbeatResponse{Version: 4}, correlation: id}).encode()
	}
	everyPace(t, func(t *testing.T, next pieces) {
		for _, answer := range []string{"", "\x05", "\x05\x04\x05\xffwrapped", "none"} {
			d := newDialog(t, next)
			d.client(handshake(0, "GSSAPI"))
			d.broker(handshakeAnswer(0))
			d.client(token("\x60last"), request(12, 4, 2), request(12, 4, 3))
			if answer != "none" {
				d.broker(token(answer))
			}
			d.broker(heartbeat(2), heartbeat(3))
			d.metadata()
		}
	})
}

func TestARefusedHandshakeIsFollowedByRequests(t *testing.T) {
	everyPace(t, func(t *testing.T, next pieces) {
		d := newDialog(t, next)
		d.client(handshake(0, "GSSAPI"))
		d.broker(handshakeAnswer(33))
		d.metadata()
		d.client(handshake(0, "PLAIN"))
		d.broker(handshakeAnswer(0))
		d.client(token("\x00user\x00password"))
		d.broker(token(""))
		d.metadata()
	})
}

func TestSASLHandshakeV1IsFollowedByRequests(t *testing.T) {
	everyPace(t, func(t *testing.T, next pieces) {
		d := newDialog(t, next)
		d.client(handshake(1, "PLAIN"))
		d.broker((&message{Response: &kmsg.SASLHandshakeResponse{Version: 1}, correlation: 1}).encode())
		d.client((&requestMessage{Request: &kmsg.SASLAuthenticateRequest{Version: 2, SASLAuthBytes: []byte("\x00user\x00password")}, correlation: 2}).encode())
		d.broker((&message{Response: &kmsg.SASLAuthenticateResponse{Version: 2}, correlation: 2}).encode())
		d.metadata()
		if d.inFlight.sasl.state.Load() != noHandshake {
			t.Error("tokens were waited for")
		}
	})
}

// TestTokensAreNoWayAroundTheRewriting: whatever a client sends as a token, or
// behind one, its answer is either of no API or rewritten.
func TestTokensAreNoWayAroundTheRewriting(t *testing.T) {
	everyPace(t, func(t *testing.T, next pieces) {
		begin := func(mechanism string, answered bool) *dialog {
			d := newDialog(t, next)
			d.client(handshake(0, mechanism))
			if answered {
				d.broker(handshakeAnswer(0))
			}
			return d
		}

		d := begin("PLAIN", false)
		d.refused(request(keyMetadata, 1, 2), "before the handshake was answered")
		d = begin("PLAIN", false)
		d.refused(token("\x00user\x00password"), "before the handshake was answered")

		// A request in place of the first token: a broker that does not insist on
		// a token would answer it, and nobody would know of what.
		for _, s := range schemas {
			d = begin("PLAIN", true)
			d.refused(request(s.key, s.newest, 2), "a request where a SASL token belongs")
		}

		// In place of a later one it is a request.
		d = begin("SCRAM-SHA-256", true)
		d.client(token("n,,n=user,r=nonce"))
		d.broker(token("r=noncemore,s=salt,i=4096"))
		d.metadata()

		// Behind a token that is always answered. Its answer could begin with a
		// correlation id of the client's choice.
		for _, mechanism := range []string{"\x00user\x00password", "n,,n=user,r=nonce", "", "N"} {
			d = begin("any", true)
			d.client(token(mechanism))
			d.refused(request(12, 4, 2), "a request before its SASL token was answered")
		}

		// Two tokens at once.
		for _, second := range []string{"", "token", "\x01"} {
			d = begin("GSSAPI", true)
			d.client(token("\x60first"))
			d.refused(token(second), "a SASL token before the last one was answered")
		}
	})
}

// TestHandshakeAnswersFailClosed: when it is not clear whether tokens follow,
// nothing is forwarded.
func TestHandshakeAnswersFailClosed(t *testing.T) {
	for _, answer := range [][]byte{{0, 0, 0, 4, 0, 0, 0, 1}, {0, 0, 0, 5, 0, 0, 0, 1, 0}} {
		var down bytes.Buffer
		r := Responses{Out: &down, InFlight: new(InFlight)}
		ask(t, r.InFlight, keySaslHandshake, 0, 1)
		err := r.Forward(answer)
		var refused *Error
		if !errors.As(err, &refused) || refused.Key != keySaslHandshake || down.Len() > 0 {
			t.Errorf("%x: forwarded %x and said %v", answer, down.Bytes(), err)
		}
	}
}

// TestVendorRequestsBehindALoginArePipelined: API keys of vendors are above 10 000, and do
// not begin with a zero byte.
func TestVendorRequestsBehindALoginArePipelined(t *testing.T) {
	everyPace(t, func(t *testing.T, next pieces) {
		for mechanism, exchange := range map[string][][2]string{
			"PLAIN":         {{"\x00user\x00password", ""}},
			"SCRAM-SHA-256": {{"n,,n=user,r=nonce", "r=noncemore,s=salt,i=4096"}, {"c=biws,r=noncemore,p=proof", "v=signature"}},
			"OAUTHBEARER":   {{"n,,\x01auth=Bearer token\x01\x01", ""}},
			"GSSAPI":        {{"\x60ticket", "\x60reply"}, {"", "\x05\x04offer"}, {"\x05\x04choice", ""}},
		} {
			d := newDialog(t, next)
			d.client(handshake(0, mechanism))
			d.broker(handshakeAnswer(0))
			for _, turn := range exchange {
				d.client(token(turn[0]))
				d.broker(token(turn[1]))
			}
			d.client(vendorRequest(2), request(12, 4, 3), vendorRequest(4))
			if n := d.inFlight.Len(); n != 3 {
				t.Errorf("%s: %d requests in flight, want 3", mechanism, n)
			}
			if head, _ := d.inFlight.head(); head.kind != kafkaRequest || head.correlation != 2 {
				t.Errorf("%s: %+v is in flight first, want the vendor's request", mechanism, head)
			}
			d.broker([]byte{0, 0, 0, 5, 0, 0, 0, 2, 9}, []byte{0, 0, 0, 5, 0, 0, 0, 3, 9}, []byte{0, 0, 0, 5, 0, 0, 0, 4, 9})
			d.metadata()
		}
	})
}

// TestErrorOfOAUTHBEARERIsAcknowledgedByAToken (RFC 7628, 3.2.3).
func TestErrorOfOAUTHBEARERIsAcknowledgedByAToken(t *testing.T) {
	everyPace(t, func(t *testing.T, next pieces) {
		d := newDialog(t, next)
		d.client(handshake(0, "OAUTHBEARER"))
		d.broker(handshakeAnswer(0))
		d.client(token("n,,\x01auth=Bearer wrong\x01\x01"))
		d.broker(token(`{"status":"invalid_token"}`))
		d.client(token("\x01"))
		if head, _ := d.inFlight.head(); head.kind != saslToken {
			t.Errorf("%+v is in flight, want a token", head)
		}
	})
}

// TestVendorRequestsOfAnUnknownMechanismFailClosed: there is no telling them from tokens.
func TestVendorRequestsOfAnUnknownMechanismFailClosed(t *testing.T) {
	everyPace(t, func(t *testing.T, next pieces) {
		d := newDialog(t, next)
		d.client(handshake(0, "HOMEMADE"))
		d.broker(handshakeAnswer(0))
		d.client(token("one"))
		d.broker(token("two"))
		d.client(vendorRequest(2)) // taken for a token
		d.refused(request(12, 4, 3), "a request before its SASL token was answered")
	})
}

func TestMechanismIsReadFromTheHandshake(t *testing.T) {
	for body, want := range map[string]string{
		"\x00\x03abc\x00\x05PLAIN": "PLAIN",
		"\xff\xff\x00\x05PLAIN":    "PLAIN",
		"\x00\x00\x00\x06GSSAPI":   "GSSAPI",
		"\x00\x03abc\x00\x06PLAIN": "", // cut
		"\x00\x03abc":              "",
		"\x00":                     "",
		"":                         "",
	} {
		e := exchange{body: []byte(body)}
		if got := e.mechanism(); got != want {
			t.Errorf("%q: %q, want %q", body, got, want)
		}
	}
	e := exchange{}
	e.begin(maxHandshake + 1)
	if e.reading {
		t.Error("a handshake of any length is kept")
	}
	if e.begin(0); e.reading {
		t.Error("a token would be read for a handshake without a body")
	}
}
