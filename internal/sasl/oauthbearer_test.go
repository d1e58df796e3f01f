package sasl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	oauth "github.com/twmb/franz-go/pkg/sasl/oauth"
)

const token = "aaa.bbb.ccc"

func bearer(verify VerifyToken) *tokenServer {
	return NewTokenServer(context.Background(), verify).(*tokenServer)
}

func ofAlice(_ context.Context, t Secret) (Identity, error) {
	if t != token {
		return Identity{}, fmt.Errorf("the token has expired")
	}
	return Identity{Principal: "alice", Expires: time.Unix(1000, 0)}, nil
}

func TestTokenIsTaken(t *testing.T) {
	for _, message := range []string{
		"n,,\x01auth=Bearer " + token + "\x01\x01",
		"n,a=alice,\x01auth=bearer   " + token + "\x01\x01",
		"n,,\x01host=b\x01auth=Bearer " + token + "\x01port=1\x01\x01",
	} {
		s := bearer(ofAlice)
		out, done, err := s.Next([]byte(message))
		if err != nil || !done || out == nil || len(out) != 0 || s.Identity() != (Identity{"alice", OAuthBearer, time.Unix(1000, 0)}) {
			t.Errorf("%q: %q, %v, %v, %+v", message, out, done, err, s.Identity())
		}
		if _, _, err := s.Next([]byte(message)); err == nil {
			t.Error("a message after the end is taken")
		}
	}
}

// A broker tells in a challenge that a token is not taken, and refuses when it is answered.
func TestTokenIsRefusedInTwoSteps(t *testing.T) {
	s := bearer(ofAlice)
	out, done, err := s.Next([]byte("n,,\x01auth=Bearer x.y.z\x01\x01"))
	if string(out) != `{"status":"invalid_token"}` || done || err != nil || s.Refused() == nil {
		t.Fatalf("%q, %v, %v", out, done, err)
	}
	_, _, err = s.Next([]byte{1})
	var failure *Failure
	if !errors.As(err, &failure) || failure.Text != `{"status":"invalid_token"}` || failure.Reason != "the token has expired" {
		t.Errorf("%v", err)
	}
	again := bearer(ofAlice)
	again.Next([]byte("n,,\x01auth=Bearer x.y.z\x01\x01"))
	if _, done, err := again.Next([]byte("n,,\x01auth=Bearer " + token + "\x01\x01")); err == nil || done {
		t.Error("a second token is taken")
	}
}

type later struct{ error }

func (later) Unavailable() bool { return true }

func TestWhatCannotBeToldIsNoRefusal(t *testing.T) {
	s := bearer(func(context.Context, Secret) (Identity, error) { return Identity{}, later{errors.New("no keys")} })
	if _, _, err := s.Next([]byte("n,,\x01auth=Bearer " + token + "\x01\x01")); !errors.As(err, new(later)) || errors.As(err, new(*Failure)) {
		t.Errorf("%v", err)
	}
}

func TestMessagesThatAreNoneOfOAuthBearer(t *testing.T) {
	const text = "Authentication failed during authentication due to invalid credentials with SASL mechanism OAUTHBEARER"
	for message, reason := range map[string]string{
		"": "not one of",
		"p=tls-unique,,\x01auth=Bearer a\x01\x01":                        "channel binding is asked for",
		"y,,\x01auth=Bearer a\x01\x01":                                   "channel binding is asked for",
		"n,,\x01auth=Bearer a\x01":                                       "not one of",
		"n,,\x01auth=Bearer a":                                           "not one of",
		"n,,auth=Bearer a\x01\x01":                                       "not one of",
		"n,,\x01\x01":                                                    "auth is not Bearer",
		"n,,\x01auth=Basic a\x01\x01":                                    "auth is not Bearer",
		"n,,\x01auth=Bearer a b\x01\x01":                                 "auth is not Bearer",
		"n,,\x01auth=Bearer a\x01auth=Bearer b\x01\x01":                  "auth is there twice",
		"n,,\x01auth=Bearer a\x00\x01\x01":                               "not one of",
		"n,,\x01auth=Bearer ä\x01\x01":                                   "not one of",
		"n,a=" + strings.Repeat("x", 300) + ",\x01auth=Bearer a\x01\x01": "authorization id of 300 bytes",
		"n,,\x01auth=Bearer " + strings.Repeat("a", 1<<20) + "\x01\x01":  "a message of",
	} {
		s := bearer(func(context.Context, Secret) (Identity, error) {
			t.Error("it was looked at")
			return Identity{}, nil
		})
		_, done, err := s.Next([]byte(message))
		var failure *Failure
		if done || !errors.As(err, &failure) || failure.Text != text || !strings.Contains(failure.Reason, reason) {
			t.Errorf("%.40q: %v, %+v", message, done, failure)
		}
	}
	s := bearer(ofAlice)
	if _, done, err := s.Next([]byte("n,a=bob,\x01auth=Bearer " + token + "\x01\x01")); done || err == nil || !strings.Contains(err.Error(), "authorization id that is different") {
		t.Errorf("as somebody else: %v, %v", done, err)
	}
}

// What franz-go sends is taken, and what it would take is what is sent.
func TestClientOfTokens(t *testing.T) {
	extensions := map[string]string{"logicalCluster": "lkc-1", "identityPoolId": "pool"}
	c, err := NewTokenClient(token, extensions)
	if err != nil {
		t.Fatal(err)
	}
	message, done, err := c.Next(nil)
	_, theirs, _ := oauth.Auth{Token: token, Extensions: extensions}.AsMechanism().Authenticate(context.Background(), "b:1")
	if err != nil || done || len(message) != len(theirs) || !strings.HasPrefix(string(message), "n,,\x01auth=Bearer "+token+"\x01identityPoolId=pool\x01logicalCluster=lkc-1\x01\x01") {
		t.Errorf("%q, want something like %q", message, theirs)
	}
	if out, done, err := bearer(ofAlice).Next(theirs); !done || err != nil {
		t.Errorf("%q: %v", out, err)
	}
	if response, done, err := c.Next(nil); response != nil || !done || err != nil {
		t.Errorf("%q, %v, %v", response, done, err)
	}
	if text := fmt.Sprintf("%v %+v %#v", c, c, c); strings.Contains(text, token) {
		t.Error(text)
	}
	c, _ = NewTokenClient(token, nil)
	c.Next(nil)
	if response, done, err := c.Next([]byte(invalidToken)); string(response) != "\x01" || done || err != nil {
		t.Errorf("%q, %v, %v", response, done, err)
	}
	if _, _, err := c.Next(nil); err == nil {
		t.Error("there is more")
	}
	for _, wrong := range []Secret{"", "a b", "a\x01b", "ä"} {
		if _, err := NewTokenClient(wrong, nil); err == nil {
			t.Errorf("%q is a token", wrong.Reveal())
		}
	}
}

func FuzzTokenServer(f *testing.F) {
	f.Add([]byte("n,a=alice,\x01auth=Bearer " + token + "\x01x=y\x01\x01"))
	f.Add([]byte("p=x,,\x01\x01"))
	f.Fuzz(func(t *testing.T, in []byte) {
		s := bearer(ofAlice)
		_, done, err := s.Next(in)
		if done && (err != nil || s.Identity().Principal != "alice" || !strings.Contains(string(in), token)) {
			t.Errorf("%q: %v, %+v", in, err, s.Identity())
		}
	})
}
