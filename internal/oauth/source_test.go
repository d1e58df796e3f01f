package oauth

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kafka-sni-proxy/internal/sasl"
)

const secret = sasl.Secret("Sesame&=+")

// tokens has an issuer give tokens, numbered, that live for so long.
func (i *issuer) tokens(t *testing.T, life time.Duration) *atomic.Int32 {
	var given atomic.Int32
	i.says(func(w http.ResponseWriter, r *http.Request) {
		id, password, _ := r.BasicAuth()
		if id != "app%3A1" && id != "app:1" || password != "Sesame%26%3D%2B" || r.PostFormValue("grant_type") != "client_credentials" || r.PostFormValue("scope") != "kafka write" || r.PostFormValue("audience") != "brokers" {
			t.Errorf("%q %q %v", id, password, r.PostForm)
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"access_token": fmt.Sprintf("a.b.%d", given.Add(1)), "token_type": "Bearer", "expires_in": int(life.Seconds())})
	})
	return &given
}

func source(t *testing.T, i *issuer) (*Source, *clock) {
	t.Helper()
	s, err := NewSource(Endpoint{URL: i.URL + "/token", Scope: "kafka write", Audience: "brokers", CACerts: i.authority()})
	if err != nil {
		t.Fatal(err)
	}
	c := &clock{}
	c.at.Store(time.Now().UnixNano())
	s.now = c.now
	return s, c
}

func (s *Source) gives(t *testing.T, want string) {
	t.Helper()
	if got, err := s.Token(t.Context(), "app:1", secret); err != nil || got.Token.Reveal() != want {
		t.Errorf("%s, %v; want %s", got.Token.Reveal(), err, want)
	}
}

func TestTokensAreKeptAndRenewedAheadOfTime(t *testing.T) {
	i := startIssuer(t)
	given := i.tokens(t, time.Hour)
	s, c := source(t, i)
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() { s.gives(t, "a.b.1") })
	}
	group.Wait()
	c.advance(47 * time.Minute)
	s.gives(t, "a.b.1")
	if given.Load() != 1 {
		t.Errorf("%d tokens were given", given.Load())
	}
	c.advance(2 * time.Minute) // four fifths are over
	s.gives(t, "a.b.1")        // nobody waits for the next one
	for given.Load() == 1 {
	}
	for got, _ := s.Token(t.Context(), "app:1", secret); got.Token != "a.b.2"; got, _ = s.Token(t.Context(), "app:1", secret) {
	}
	if text := fmt.Sprintf("%v %+v %#v", s, s, s); strings.Contains(text, "Sesame") || strings.Contains(text, "a.b.2") {
		t.Error(text)
	}
}

func TestIssuerThatGivesNoToken(t *testing.T) {
	i := startIssuer(t)
	s, c := source(t, i)
	fails := func(want string) {
		t.Helper()
		got, err := s.Token(t.Context(), "app:1", secret)
		if err == nil || got != (sasl.Credential{}) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "Sesame") || strings.Contains(err.Error(), "app:1") {
			t.Errorf("%v, want %s", err, want)
		}
	}
	i.says(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":"invalid_client","error_description":"app:1 Sesame&=+ is wrong"}`)
	})
	fails(`gives no token: "invalid_client"`)
	asked := i.asked.Load()
	fails("invalid_client") // and it is not asked again at once
	if i.asked.Load() != asked {
		t.Error("it is asked again")
	}
	for _, one := range []struct{ answer, want string }{
		{`Sesame`, "gives no token"}, {`{}`, "gives no token"}, {`{"access_token":"x","token_type":"mac"}`, `a token of type "mac"`},
	} {
		c.advance(fetchPause)
		i.says(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, one.answer)
		})
		fails(one.want)
	}
	// A token in use outlives the issuer's absence, and no longer than it lives.
	c.advance(fetchPause)
	i.tokens(t, time.Hour)
	s.gives(t, "a.b.1")
	i.Close()
	c.advance(50 * time.Minute)
	s.gives(t, "a.b.1")
	c.advance(9 * time.Minute)
	s.gives(t, "a.b.1")
	c.advance(2 * time.Minute)
	fails("fetching a token from " + i.URL)
}

func TestExpiryOfAToken(t *testing.T) {
	s := newRSA(t, "")
	c := &clock{}
	c.at.Store(time.Now().UnixNano())
	if got := Expiry(s.sign(t, claims{"exp": 1000})); !got.Equal(time.Unix(1000, 0)) {
		t.Error(got)
	}
	for _, other := range []sasl.Secret{"", "opaque", "a.b.c", s.sign(t, claims{}), s.sign(t, claims{"exp": "x"}), s.sign(t, claims{"exp": -1}), s.sign(t, claims{"exp": 1e300})} {
		if got := Expiry(other); !got.IsZero() {
			t.Errorf("%v", got)
		}
	}
}
