// Package oauth verifies the tokens that clients log in with, and fetches those that the
// proxy shows brokers (OAUTHBEARER). A [Verifier] goes by an issuer's keys (JWKS, RFC 7517),
// which [keys] keeps; a [Source] is a client of an issuer (client credentials, RFC 6749,
// section 4.4).
//
// Signatures are verified by go-jose. What a token says of keys itself (jku, x5u, jwk) is
// never looked at; which algorithms there are is said here and not by the token.
package oauth

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"kafka-sni-proxy/internal/sasl"
	"kafka-sni-proxy/internal/text"
)

// Options say which tokens are taken.
type Options struct {
	// JWKS is where the issuer's keys are: a URL, or a file.
	JWKS string
	// CACerts are the authorities of the URL's server, in PEM. Nil: those of the system.
	CACerts []byte
	// Issuer and Audience are what the claims iss and aud must be, or have.
	Issuer, Audience string
	// PrincipalClaim is the claim that has the principal. "": sub.
	PrincipalClaim string
	// ClockSkew is how far the issuer's clock may be from this one. 0: 30 s.
	ClockSkew time.Duration
	// Log is told when keys cannot be fetched, while older ones are in use, and when they can
	// be again. Nil: nobody is.
	Log func(err error)
}

const (
	// maxToken is the longest token that is looked at, in bytes.
	maxToken = 16 << 10
	// minRSA is the shortest key of RSA, in bits.
	minRSA = 2048
	// maxPrincipal is the longest principal, in bytes.
	maxPrincipal = 255
	// maxShown is how much of a claim the log is told, in bytes.
	maxShown = 100
)

// algorithms are those that are taken. None of them has a secret that the issuer and the
// proxy share: a public key would pass for one (RFC 8725, section 2.1).
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// Verifier says who a token is of. It may be used concurrently.
type Verifier struct {
	options Options
	keys    *keys
	now     func() time.Time
}

// NewVerifier returns a verifier. It fetches nothing; a file is read.
func NewVerifier(o Options) (*Verifier, error) {
	o.PrincipalClaim, o.ClockSkew = cmp.Or(o.PrincipalClaim, "sub"), cmp.Or(o.ClockSkew, 30*time.Second)
	if o.Log == nil {
		o.Log = func(error) {}
	}
	v := &Verifier{options: o, now: time.Now}
	var err error
	v.keys, err = newKeys(&v.options, func() time.Time { return v.now() })
	return v, err
}

// Warm fetches the keys, unless there are any.
func (v *Verifier) Warm(ctx context.Context) error {
	_, err := v.keys.get(ctx, "")
	return err
}

// Keys returns how many keys there are, and when they were fetched last; zero: never.
func (v *Verifier) Keys() (int, time.Time) { return v.keys.state() }

// UnavailableError is of keys that cannot be had, so that nothing can be said of a token.
type UnavailableError struct{ Err error }

func (e *UnavailableError) Error() string {
	return "the keys of the issuer cannot be had: " + e.Err.Error()
}
func (e *UnavailableError) Unwrap() error { return e.Err }

// Unavailable tells it from a refusal.
func (e *UnavailableError) Unavailable() bool { return true }

// Verify implements [sasl.VerifyToken].
func (v *Verifier) Verify(ctx context.Context, token sasl.Secret) (sasl.Identity, error) {
	if len(token) > maxToken {
		return sasl.Identity{}, fmt.Errorf("the token has %d bytes: more than %d", len(token), maxToken)
	}
	signed, err := jose.ParseSignedCompact(token.Reveal(), algorithms)
	if err != nil {
		return sasl.Identity{}, whyNotParsed(token.Reveal(), err)
	}
	payload, err := v.payload(ctx, signed)
	if err != nil {
		return sasl.Identity{}, err
	}
	return v.claims(payload)
}

// whyNotParsed says what is wrong with the form of a token, without the token.
func whyNotParsed(token string, err error) error {
	if strings.Count(token, ".") == 4 {
		return errors.New("the token is encrypted (JWE): want a signed one (JWS)")
	}
	var other *jose.ErrUnexpectedSignatureAlgorithm
	if errors.As(err, &other) {
		return fmt.Errorf("the token's algorithm (alg) is %s: it must be one that signs with a private key, such as RS256 or ES256", shown(string(other.Got)))
	}
	return errors.New("the token is not a signed JWT; is it an opaque one?")
}

// payload returns what was signed by one of the issuer's keys.
func (v *Verifier) payload(ctx context.Context, signed *jose.JSONWebSignature) ([]byte, error) {
	header := signed.Signatures[0].Protected
	all, err := v.keys.get(ctx, header.KeyID)
	if err != nil {
		return nil, err
	}
	tried := 0
	for _, key := range all {
		if header.KeyID != "" && key.KeyID != header.KeyID || !fits(&key, header.Algorithm) {
			continue
		}
		if tried++; tried > maxTried {
			break
		}
		if payload, err := signed.Verify(key.Key); err == nil {
			return payload, nil
		}
	}
	switch {
	case tried > 0:
		return nil, errors.New("the token's signature is wrong")
	case header.KeyID != "":
		return nil, fmt.Errorf("the token is signed by the key (kid) %s, which is none of the %d of the issuer that can be used with %s", shown(header.KeyID), len(all), header.Algorithm)
	}
	return nil, fmt.Errorf("the token does not name its key (kid), and the issuer has none that can be used with %s", header.Algorithm)
}

// maxTried is how many keys are tried on a token that does not say by which it is signed.
const maxTried = 8

// fits reports whether a key may have made a signature of an algorithm.
func fits(key *jose.JSONWebKey, algorithm string) bool {
	if key.Algorithm != "" && key.Algorithm != algorithm {
		return false
	}
	switch k := key.Key.(type) {
	case *rsa.PublicKey:
		return algorithm[:2] == "RS" || algorithm[:2] == "PS"
	case *ecdsa.PublicKey:
		return algorithm == map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[k.Params().BitSize]
	case ed25519.PublicKey:
		return algorithm == "EdDSA"
	}
	return false
}

// claims says who a token is of that was signed by the issuer.
func (v *Verifier) claims(payload []byte) (sasl.Identity, error) {
	var c struct { // RFC 7519, section 4.1
		Issuer    string           `json:"iss"`
		Audience  jwt.Audience     `json:"aud"`
		Expiry    *jwt.NumericDate `json:"exp"`
		NotBefore *jwt.NumericDate `json:"nbf"`
		IssuedAt  *jwt.NumericDate `json:"iat"`
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(payload, &all) != nil || json.Unmarshal(payload, &c) != nil {
		return sasl.Identity{}, errors.New("the token's claims are not well formed")
	}
	now, skew := v.now(), v.options.ClockSkew
	switch {
	case c.Issuer != v.options.Issuer:
		return sasl.Identity{}, fmt.Errorf("the token's issuer (iss) is %s, and must be %q", shown(c.Issuer), v.options.Issuer)
	case !slices.Contains(c.Audience, v.options.Audience):
		return sasl.Identity{}, fmt.Errorf("the token is for (aud) %s, and must be for %q", shown(strings.Join(c.Audience, ", ")), v.options.Audience)
	case c.Expiry == nil:
		return sasl.Identity{}, errors.New("the token does not say when it expires (exp)")
	case now.After(c.Expiry.Time().Add(skew)):
		return sasl.Identity{}, fmt.Errorf("the token has expired on %s (exp), %v ago", when(c.Expiry), now.Sub(c.Expiry.Time()).Round(time.Second))
	case c.NotBefore != nil && now.Add(skew).Before(c.NotBefore.Time()):
		return sasl.Identity{}, fmt.Errorf("the token is not valid before %s (nbf); is a clock wrong?", when(c.NotBefore))
	case c.IssuedAt != nil && now.Add(skew).Before(c.IssuedAt.Time()):
		return sasl.Identity{}, fmt.Errorf("the token was issued on %s (iat), which is in the future; is a clock wrong?", when(c.IssuedAt))
	}
	var principal string
	claim := v.options.PrincipalClaim
	switch raw, has := all[claim]; {
	case !has:
		return sasl.Identity{}, fmt.Errorf("the token has no claim %s, which has the principal", claim)
	case json.Unmarshal(raw, &principal) != nil:
		return sasl.Identity{}, fmt.Errorf("the token's claim %s is not a text", claim)
	case principal == "" || len(principal) > maxPrincipal || strings.ContainsFunc(principal, unicode.IsControl) || !utf8.ValidString(principal):
		return sasl.Identity{}, fmt.Errorf("the token's claim %s, %s, cannot be a principal", claim, shown(principal))
	}
	return sasl.Identity{Principal: principal, Mechanism: sasl.OAuthBearer, Expires: c.Expiry.Time().Add(skew)}, nil
}

// shown returns what of a token's text is logged.
func shown(s string) string { return fmt.Sprintf("%q", text.Cut(s, maxShown)) }

func when(d *jwt.NumericDate) string { return d.Time().UTC().Format("2006-01-02 15:04:05 MST") }
