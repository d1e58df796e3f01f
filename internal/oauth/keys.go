package oauth

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// keysAge is for how long keys are used before they are fetched again, by the way: logins
	// do not wait for that.
	keysAge = 10 * time.Minute
	// keysPause is between two attempts to fetch them, whoever asks for keys that are not there.
	keysPause = 10 * time.Second
	// maxJWKS is how long an answer may be, in bytes, and maxKeys how many keys there may be.
	maxJWKS = 1 << 20
	maxKeys = 1000
)

// keys are those of an issuer. They are fetched when they are asked for, by one at a time, and
// kept while the issuer cannot be reached: those who have tokens go on. What it takes back it
// has to answer without.
type keys struct {
	options *Options
	now     func() time.Time
	client  *http.Client // nil: they are in a file

	mu      sync.Mutex
	all     []jose.JSONWebKey
	fetched time.Time     // zero: never
	tried   time.Time     // zero: never
	err     error         // of the last attempt
	running chan struct{} // closed when the attempt under way has ended; nil: none is
	stamp   os.FileInfo   // of the file
}

func newKeys(o *Options, now func() time.Time) (*keys, error) {
	k := &keys{options: o, now: now}
	if !strings.Contains(o.JWKS, "://") {
		k.readFile()
		return k, k.err
	}
	client, err := newClient(o.CACerts)
	k.client = client
	return k, err
}

// state returns how many keys there are, and since when.
func (k *keys) state() (int, time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.all), k.fetched
}

// get returns the keys: with the one that is called id among them, if the issuer has it.
func (k *keys) get(ctx context.Context, id string) ([]jose.JSONWebKey, error) {
	k.mu.Lock()
	if k.client == nil {
		defer k.mu.Unlock()
		k.readFile()
		return k.all, nil
	}
	for {
		known := !k.fetched.IsZero()
		isOld, rested := k.now().Sub(k.fetched) > keysAge, k.now().Sub(k.tried) >= keysPause
		if k.running == nil && rested && (!known || isOld || !has(k.all, id)) {
			k.running = make(chan struct{})
			go k.fetch()
		}
		running := k.running
		if known && (has(k.all, id) || running == nil) || running == nil {
			all, err := k.all, k.err
			k.mu.Unlock()
			switch {
			case !known:
				return nil, &UnavailableError{err}
			case err != nil && !has(all, id): // it may be a new one
				return nil, &UnavailableError{err}
			}
			return all, nil
		}
		k.mu.Unlock()
		select {
		case <-running:
		case <-ctx.Done():
			return nil, &UnavailableError{context.Cause(ctx)}
		}
		k.mu.Lock()
	}
}

// has reports whether there is a key that is called id; "": any will do.
func has(all []jose.JSONWebKey, id string) bool {
	if id == "" {
		return true
	}
	for i := range all {
		if all[i].KeyID == id {
			return true
		}
	}
	return false
}

// fetch fetches the keys, and wakes those who wait for them.
func (k *keys) fetch() {
	all, err := k.ask()
	k.mu.Lock()
	before, known := k.err, !k.fetched.IsZero()
	k.tried, k.err = k.now(), err
	if err == nil {
		k.all, k.fetched = all, k.tried
	}
	if err != nil && known || err == nil && before != nil {
		defer k.options.Log(err) // when those who wait have gone on
	}
	close(k.running)
	k.running = nil
	k.mu.Unlock()
}

func (k *keys) ask() ([]jose.JSONWebKey, error) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.options.JWKS, nil)
	if err != nil {
		return nil, err
	}
	response, err := k.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", k.options.JWKS, response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxJWKS+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.options.JWKS, err)
	}
	return parseKeys(k.options.JWKS, body)
}

// readFile reads the file, if it is not what it was. A new one that cannot be used leaves the
// keys of the old one in use.
func (k *keys) readFile() {
	is, err := os.Stat(k.options.JWKS)
	if err == nil && k.stamp != nil && os.SameFile(is, k.stamp) && is.ModTime().Equal(k.stamp.ModTime()) && is.Size() == k.stamp.Size() {
		return
	}
	var body []byte
	if err == nil {
		k.stamp = is
		body, err = readBounded(k.options.JWKS)
	}
	var all []jose.JSONWebKey
	if err == nil {
		all, err = parseKeys(k.options.JWKS, body)
	}
	before := k.err
	k.err = err
	switch {
	case err == nil:
		k.all, k.fetched = all, k.now()
		if before != nil {
			k.options.Log(nil)
		}
	case !k.fetched.IsZero() && (before == nil || before.Error() != err.Error()):
		k.options.Log(err)
	}
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxJWKS+1))
}

// parseKeys reads a JWKS. Keys that cannot verify anything are left out: what else an issuer
// has there is its own business.
func parseKeys(from string, body []byte) ([]jose.JSONWebKey, error) {
	var set struct{ Keys []json.RawMessage }
	switch err := json.Unmarshal(body, &set); {
	case len(body) > maxJWKS:
		return nil, fmt.Errorf("%s has more than %d bytes: these are no keys", from, maxJWKS)
	case err != nil || set.Keys == nil:
		return nil, fmt.Errorf("%s has no keys in the form of a JWKS: {\"keys\": […]}", from)
	case len(set.Keys) > maxKeys:
		return nil, fmt.Errorf("%s has %d keys: more than %d", from, len(set.Keys), maxKeys)
	}
	var good []jose.JSONWebKey
	why := errors.New("it is empty")
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if err := key.UnmarshalJSON(raw); err != nil {
			why = err
			continue
		}
		if err := usable(&key); err != nil {
			why = err
			continue
		}
		good = append(good, key)
	}
	if len(good) == 0 {
		return nil, fmt.Errorf("%s has no key that could verify a token: %w", from, why)
	}
	return good, nil
}

// usable says why a key cannot verify signatures.
func usable(key *jose.JSONWebKey) error {
	switch k := key.Key.(type) {
	case []byte:
		return errors.New("a key is a secret (oct), which the proxy must not have")
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSA {
			return fmt.Errorf("an RSA key has %d bits: fewer than %d", k.N.BitLen(), minRSA)
		}
	}
	switch {
	case key.Use != "" && key.Use != "sig":
		return fmt.Errorf("a key is for another use (%s)", shown(key.Use))
	case !key.Valid():
		return errors.New("a key is not valid")
	}
	*key = key.Public()
	if !key.Valid() {
		return errors.New("a key is not valid")
	}
	return nil
}
