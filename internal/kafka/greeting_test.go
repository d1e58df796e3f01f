package kafka

import (
	"errors"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestGreetingsAreReadAsBrokersReadThem holds the reader and the answers against the message
// definitions.
func TestGreetingsAreReadAsBrokersReadThem(t *testing.T) {
	for _, id := range []string{"", "client"} {
		f := kmsg.NewRequestFormatter(kmsg.FormatterClientID(id))
		for version := int16(0); version <= newestHandshake; version++ {
			m := &kmsg.SASLHandshakeRequest{Version: version, Mechanism: "SCRAM-SHA-256"}
			g, err := ReadGreeting(f.AppendRequest(nil, m, 7)[4:])
			if err != nil || g.Mechanism != "SCRAM-SHA-256" || g.Correlation != 7 || g.Key != KeySaslHandshake {
				t.Errorf("v%d: %+v, %v", version, g, err)
			}
			answer := g.AnswerHandshake(CodeUnsupportedMechanism, []string{"PLAIN", "OAUTHBEARER"})
			r := m.ResponseKind().(*kmsg.SASLHandshakeResponse)
			if err := r.ReadFrom(answer[8:]); err != nil || r.ErrorCode != 33 || !slices.Equal(r.SupportedMechanisms, []string{"PLAIN", "OAUTHBEARER"}) {
				t.Errorf("v%d: %+v, %v", version, r, err)
			}
			var refused *LoginError
			if err := ReadHandshake(answer[4:], 7); !errors.As(err, &refused) || len(refused.Mechanisms) != 2 {
				t.Errorf("v%d: %v", version, err)
			}
			if err := ReadHandshake(g.AnswerHandshake(0, nil)[4:], 7); err != nil {
				t.Errorf("v%d: %v", version, err)
			}
		}
		for version := int16(0); version <= newestAuthenticate; version++ {
			m := &kmsg.SASLAuthenticateRequest{Version: version, SASLAuthBytes: []byte("\x00user\x00secret")}
			frame := f.AppendRequest(nil, m, 8)[4:]
			g, err := ReadGreeting(frame)
			if err != nil || string(g.Token) != "\x00user\x00secret" || g.Correlation != 8 {
				t.Errorf("v%d: %+v, %v", version, g, err)
			}
			for i := range frame {
				if g, err := ReadGreeting(frame[:i]); err == nil && i != len(frame)-1 { // the tags at the end are not read
					t.Errorf("v%d, cut at %d of %d: %+v", version, i, len(frame), g)
				}
			}
			at := 8
			if version == 2 {
				at = 9
			}
			r := m.ResponseKind().(*kmsg.SASLAuthenticateResponse)
			if err := r.ReadFrom(g.AnswerAuthenticate(58, "no", nil, 0)[at:]); err != nil || r.ErrorCode != 58 || *r.ErrorMessage != "no" {
				t.Errorf("v%d: %+v, %v", version, r, err)
			}
			answer := g.AnswerAuthenticate(0, "", []byte("proof"), 60_000)
			r = m.ResponseKind().(*kmsg.SASLAuthenticateResponse)
			if err := r.ReadFrom(answer[at:]); err != nil || r.ErrorCode != 0 || r.ErrorMessage != nil || string(r.SASLAuthBytes) != "proof" || version > 0 && r.SessionLifetimeMillis != 60_000 {
				t.Errorf("v%d: %+v, %v", version, r, err)
			}
			if version != 1 {
				continue
			}
			token, lifetime, err := ReadAuthenticate(answer[4:], 8)
			if err != nil || string(token) != "proof" || lifetime != 60_000 {
				t.Errorf("%q, %v, %v", token, lifetime, err)
			}
			var refused *LoginError
			if _, _, err = ReadAuthenticate(g.AnswerAuthenticate(58, "no", nil, 0)[4:], 8); !errors.As(err, &refused) || refused.Message != "no" || refused.Code != 58 {
				t.Errorf("%v", err)
			}
			for i := range answer[4:] {
				if _, _, err := ReadAuthenticate(answer[4:][:i], 8); err == nil {
					t.Errorf("an answer cut at %d is read", i)
				}
			}
		}
	}
	if g, err := ReadGreeting([]byte{0, 3, 0, 1, 0, 0, 0, 1, 9}); err != nil || g.Key != keyMetadata {
		t.Errorf("another request: %+v, %v", g, err)
	}
	if _, err := ReadGreeting([]byte{0, 17, 0, 2, 0, 0, 0, 1, 0xff, 0xff, 0, 0}); err == nil {
		t.Error("a version that there is not")
	}
}

func TestAskingIsAsClientsDo(t *testing.T) {
	h := kmsg.SASLHandshakeRequest{Version: 1}
	b := AskHandshake(1, "PLAIN")
	if err := h.ReadFrom(b[12+2+len(loginID):]); err != nil || h.Mechanism != "PLAIN" || int(be32(b)) != len(b)-4 {
		t.Errorf("%+v, %v", h, err)
	}
	a := kmsg.SASLAuthenticateRequest{Version: 1}
	b = AskAuthenticate(2, []byte("token"))
	if err := a.ReadFrom(b[12+2+len(loginID):]); err != nil || string(a.SASLAuthBytes) != "token" || be32(b[8:]) != 2 {
		t.Errorf("%+v, %v", a, err)
	}
}

func FuzzGreeting(f *testing.F) {
	f.Add(AskHandshake(1, "PLAIN")[4:])
	f.Add(AskAuthenticate(1, []byte("x"))[4:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if g, err := ReadGreeting(b); err == nil {
			g.AnswerHandshake(0, []string{g.Mechanism})
			g.AnswerAuthenticate(0, "", g.Token, 0)
		}
		ReadHandshake(b, 1)
		ReadAuthenticate(b, 1)
	})
}
