package oauth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"kafka-sni-proxy/internal/sasl"
)

// Endpoint is where tokens are fetched.
type Endpoint struct {
	// URL is the token endpoint.
	URL string
	// Scope and Audience are asked for; "": none.
	Scope, Audience string
	// CACerts are the authorities of its server, in PEM. Nil: those of the system.
	CACerts []byte
}

// Source fetches tokens for brokers, one for each client id and secret, and keeps them. A new
// one is fetched ahead of time, by the way, when four fifths of its life are over. It may be
// used concurrently.
type Source struct {
	endpoint Endpoint
	client   *http.Client
	now      func() time.Time

	mu  sync.Mutex
	all map[[32]byte]*fetched // by the hash of the credential
}

// fetched is the token of a credential.
type fetched struct {
	token   func() sasl.Secret // fmt prints no more of a function than its address; nil: none yet
	expires time.Time
	renew   time.Time     // when to fetch the next one
	err     error         // of the last attempt
	tried   time.Time     // the last time
	running chan struct{} // closed when the attempt under way has ended; nil: none is
}

const (
	// maxSources is how many tokens are kept.
	maxSources = 10_000
	// fetchPause is between two attempts after a failure.
	fetchPause = 5 * time.Second
	// unknownLife is for how long a token is used of which nobody says when it expires.
	unknownLife = 5 * time.Minute
)

// NewSource returns a source. It fetches nothing yet.
func NewSource(e Endpoint) (*Source, error) {
	client, err := newClient(e.CACerts)
	if err != nil {
		return nil, err
	}
	return &Source{endpoint: e, client: client, now: time.Now, all: map[[32]byte]*fetched{}}, nil
}

// Token returns the token of a credential, CLIENT-ID:CLIENT-SECRET, and when it expires.
func (s *Source) Token(ctx context.Context, id string, secret sasl.Secret) (sasl.Credential, error) {
	s.mu.Lock()
	key := sha256.Sum256([]byte(id + "\x00" + secret.Reveal()))
	f := s.all[key]
	if f == nil {
		s.makeRoom()
		f = &fetched{}
		s.all[key] = f
	}
	for {
		now := s.now()
		good := f.token != nil && now.Before(f.expires)
		rested := f.err == nil || now.Sub(f.tried) >= fetchPause
		if f.running == nil && rested && (!good || !now.Before(f.renew)) {
			f.running = make(chan struct{})
			go s.fetch(f, id, secret)
		}
		running := f.running
		if good || running == nil {
			token, expires, err := f.token, f.expires, f.err
			s.mu.Unlock()
			if !good {
				return sasl.Credential{}, cmp.Or(err, errors.New("the token that was fetched has expired already; is a clock wrong?"))
			}
			return sasl.Credential{Token: token(), Expires: expires}, nil
		}
		s.mu.Unlock()
		select {
		case <-running:
		case <-ctx.Done():
			return sasl.Credential{}, fmt.Errorf("fetching a token: %w", context.Cause(ctx))
		}
		s.mu.Lock()
		if f.err == nil && !s.now().Before(f.expires) { // fetched just now
			s.mu.Unlock()
			return sasl.Credential{}, errors.New("the token that was fetched has expired already; is a clock wrong?")
		}
	}
}

// makeRoom drops tokens that have expired, or else any. The caller holds the lock.
func (s *Source) makeRoom() {
	if len(s.all) < maxSources {
		return
	}
	for key, f := range s.all {
		if f.running == nil && !s.now().Before(f.expires) {
			delete(s.all, key)
		}
	}
	for key, f := range s.all {
		if len(s.all) < maxSources {
			return
		}
		if f.running == nil {
			delete(s.all, key)
		}
	}
}

// fetch fetches a token, and wakes those who wait for it.
func (s *Source) fetch(f *fetched, id string, secret sasl.Secret) {
	token, expires, err := s.ask(id, secret)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	f.tried, f.err = now, err
	if err == nil {
		f.token = func() sasl.Secret { return token }
		f.expires, f.renew = expires, now.Add(expires.Sub(now)*4/5)
	}
	close(f.running)
	f.running = nil
}

func (s *Source) ask(id string, secret sasl.Secret) (sasl.Secret, time.Time, error) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	config := clientcredentials.Config{ClientID: id, ClientSecret: secret.Reveal(), TokenURL: s.endpoint.URL}
	if s.endpoint.Scope != "" {
		config.Scopes = strings.Fields(s.endpoint.Scope)
	}
	if s.endpoint.Audience != "" {
		config.EndpointParams = url.Values{"audience": {s.endpoint.Audience}}
	}
	got, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, s.client))
	if err != nil {
		return "", time.Time{}, s.whyNot(err)
	}
	if got.AccessToken == "" || !strings.EqualFold(got.Type(), "bearer") {
		return "", time.Time{}, fmt.Errorf("%s gave a token of type %s: want Bearer", s.endpoint.URL, shown(got.TokenType))
	}
	token, expires := sasl.Secret(got.AccessToken), got.Expiry
	if expires.IsZero() {
		expires = Expiry(token)
	}
	if expires.IsZero() {
		expires = s.now().Add(unknownLife)
	}
	return token, expires, nil
}

// whyNot says why there is no token, without what the issuer has sent but for the code that
// RFC 6749 has, and never with the secret.
func (s *Source) whyNot(err error) error {
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) {
		var inURL *url.Error
		if errors.As(err, &inURL) {
			return fmt.Errorf("fetching a token from %s: %w", s.endpoint.URL, inURL.Err)
		}
		return fmt.Errorf("%s gives no token: there is none in its answer", s.endpoint.URL)
	}
	if refused.ErrorCode != "" {
		return fmt.Errorf("%s gives no token: %s", s.endpoint.URL, shown(refused.ErrorCode))
	}
	status := "no token in its answer"
	if refused.Response != nil {
		status = refused.Response.Status
	}
	return fmt.Errorf("%s gives no token: %s", s.endpoint.URL, status)
}

// Expiry returns when a token says that it expires, which is not verified; zero when it does
// not tell.
func Expiry(token sasl.Secret) time.Time {
	parts := strings.Split(token.Reveal(), ".")
	if len(parts) != 3 || len(token) > maxToken {
		return time.Time{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}
	}
	var claims struct{ Exp float64 }
	if json.Unmarshal(payload, &claims) != nil || claims.Exp <= 0 || claims.Exp > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(claims.Exp), 0)
}
