package oauth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"kafka-sni-proxy/internal/sasl"
)

const (
	issuerName = "https://login.example"
	audience   = "kafka"
)

// issuer serves keys over HTTPS.
type issuer struct {
	*httptest.Server
	asked  atomic.Int32
	answer atomic.Pointer[func(w http.ResponseWriter, r *http.Request)]
}

func startIssuer(t *testing.T, keys ...jose.JSONWebKey) *issuer {
	i := &issuer{}
	i.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		(*i.answer.Load())(w, r)
	}))
	i.Config.ErrorLog = log.New(io.Discard, "", 0)
	i.StartTLS()
	t.Cleanup(i.Close)
	i.has(keys...)
	return i
}

func (i *issuer) says(f func(w http.ResponseWriter, r *http.Request)) { i.answer.Store(&f) }

func (i *issuer) has(keys ...jose.JSONWebKey) {
	i.says(func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: keys})
	})
}

func (i *issuer) authority() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw})
}

// clock is a clock that is moved by hand.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time           { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(by time.Duration) { c.at.Add(int64(by)) }

// verifier returns one whose log goes to a channel; nil: nowhere.
func verifier(t *testing.T, i *issuer, told chan error) (*Verifier, *clock) {
	t.Helper()
	v, err := NewVerifier(Options{JWKS: i.URL + "/keys", CACerts: i.authority(), Issuer: issuerName, Audience: audience, Log: func(err error) {
		if told != nil {
			told <- err
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	c := &clock{}
	c.at.Store(time.Now().UnixNano())
	v.now = c.now
	return v, c
}

// signer makes tokens.
type signer struct {
	key crypto.Signer
	alg jose.SignatureAlgorithm
	kid string
}

func (s *signer) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: s.key.Public(), KeyID: s.kid, Use: "sig"}
}

func newRSA(t testing.TB, kid string) *signer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{key, jose.RS256, kid}
}

type claims map[string]any

func at(c *clock, by time.Duration) int64 { return c.now().Add(by).Unix() }

// good returns the claims of a token that is taken, with some changed; nil takes one out.
func good(c *clock, changed claims) claims {
	all := claims{"iss": issuerName, "aud": audience, "sub": "alice", "exp": at(c, time.Hour), "iat": at(c, -time.Minute)}
	for name, value := range changed {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	return all
}

func (s *signer) sign(t testing.TB, c claims) sasl.Secret {
	t.Helper()
	return signWith(t, s.alg, s.key, s.kid, c)
}

func signWith(t testing.TB, alg jose.SignatureAlgorithm, key any, kid string, c claims) sasl.Secret {
	t.Helper()
	options := &jose.SignerOptions{}
	if kid != "" {
		options = options.WithHeader("kid", kid)
	}
	signs, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signs.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return sasl.Secret(text)
}

// refuses wants a token to be refused, for a reason.
func (v *Verifier) refuses(t *testing.T, token sasl.Secret, reason string) {
	t.Helper()
	who, err := v.Verify(t.Context(), token)
	if err == nil || who != (sasl.Identity{}) || !strings.Contains(err.Error(), reason) || errors.As(err, new(*UnavailableError)) {
		t.Errorf("%+v, %v; want %s", who, err, reason)
		return
	}
	if parts := strings.Split(token.Reveal(), "."); len(parts) > 2 && len(parts[1]) > 20 && (strings.Contains(err.Error(), parts[1]) || len(parts[2]) > 20 && strings.Contains(err.Error(), parts[2])) {
		t.Errorf("the error has the token in it: %v", err)
	}
	if len(err.Error()) > 600 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}

func (v *Verifier) takes(t *testing.T, token sasl.Secret, principal string) {
	t.Helper()
	if who, err := v.Verify(t.Context(), token); err != nil || who.Principal != principal {
		t.Errorf("%+v, %v; want %s", who, err, principal)
	}
}

func TestAlgorithmsThatAreTaken(t *testing.T) {
	rsaKey := newRSA(t, "r").key
	all := []*signer{{rsaKey, jose.RS256, "r"}, {rsaKey, jose.RS512, "r"}, {rsaKey, jose.PS384, "r"}}
	for alg, curve := range map[jose.SignatureAlgorithm]elliptic.Curve{jose.ES256: elliptic.P256(), jose.ES384: elliptic.P384(), jose.ES512: elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, &signer{key, alg, string(alg)})
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, &signer{edKey, jose.EdDSA, "ed"})
	var public []jose.JSONWebKey
	for _, s := range all {
		public = append(public, s.public())
	}
	i := startIssuer(t, public...)
	v, c := verifier(t, i, nil)
	for _, s := range all {
		v.takes(t, s.sign(t, good(c, nil)), "alice")
		s.kid = "" // then all that fit are tried
		v.takes(t, s.sign(t, good(c, nil)), "alice")
	}
	if i.asked.Load() != 1 {
		t.Errorf("the issuer was asked %d times", i.asked.Load())
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	s, other := newRSA(t, "1"), newRSA(t, "1")
	v, c := verifier(t, startIssuer(t, s.public()), nil)
	far := strings.Repeat("x", 5000)
	for _, one := range []struct {
		changed claims
		reason  string
	}{
		{claims{"exp": at(c, -31*time.Second)}, "has expired on "},
		{claims{"exp": nil}, "does not say when it expires"},
		{claims{"exp": "tomorrow"}, "not well formed"},
		{claims{"nbf": at(c, 32*time.Second)}, "is not valid before"},
		{claims{"iat": at(c, 32*time.Second)}, "in the future"},
		{claims{"iss": "https://evil.example"}, `issuer (iss) is "https://evil.example", and must be "https://login.example"`},
		{claims{"iss": issuerName + "/"}, "issuer (iss)"},
		{claims{"iss": nil}, `issuer (iss) is ""`},
		{claims{"iss": far}, "issuer (iss)"},
		{claims{"aud": "payments"}, `is for (aud) "payments", and must be for "kafka"`},
		{claims{"aud": []string{"a", "b"}}, `is for (aud) "a, b"`},
		{claims{"aud": nil}, `is for (aud) ""`},
		{claims{"aud": "Kafka"}, "is for (aud)"},
		{claims{"sub": nil}, "has no claim sub"},
		{claims{"sub": ""}, "cannot be a principal"},
		{claims{"sub": 7}, "is not a text"},
		{claims{"sub": []string{"alice"}}, "is not a text"},
		{claims{"sub": "a\nb"}, "cannot be a principal"},
		{claims{"sub": far[:300]}, "cannot be a principal"},
	} {
		v.refuses(t, s.sign(t, good(c, one.changed)), one.reason)
	}
	v.takes(t, s.sign(t, good(c, claims{"exp": at(c, -29*time.Second), "nbf": at(c, 29*time.Second), "iat": at(c, 29*time.Second), "aud": []string{"x", audience}})), "alice")
	v.refuses(t, other.sign(t, good(c, nil)), "signature is wrong")
	v.refuses(t, sasl.Secret(strings.Repeat("a", 1<<20)), "has 1048576 bytes")
	for _, bad := range []sasl.Secret{"", "a", "a.b", "a.b.c", "....", "{}", "opaque-token"} {
		v.refuses(t, bad, "")
	}
	// The payload of one with the signature of another.
	mine, theirs := strings.Split(s.sign(t, good(c, claims{"sub": "root"})).Reveal(), "."), strings.Split(s.sign(t, good(c, nil)).Reveal(), ".")
	v.refuses(t, sasl.Secret(mine[0]+"."+mine[1]+"."+theirs[2]), "signature is wrong")
}

// RFC 8725, section 2: the algorithm is not the token's to choose, nor is the key.
func TestAttacksOnAlgorithmAndKey(t *testing.T) {
	s, evil := newRSA(t, "1"), newRSA(t, "1")
	i := startIssuer(t, s.public())
	v, c := verifier(t, i, nil)
	encode := base64.RawURLEncoding.EncodeToString
	payload, _ := json.Marshal(good(c, nil))
	for _, none := range []string{"none", "None", "NONE"} {
		v.refuses(t, sasl.Secret(encode([]byte(`{"alg":"`+none+`","kid":"1"}`))+"."+encode(payload)+"."), "")
	}
	der, _ := x509.MarshalPKIXPublicKey(s.key.Public())
	pkcs1 := x509.MarshalPKCS1PublicKey(s.key.Public().(*rsa.PublicKey))
	for _, public := range [][]byte{der, pkcs1, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), s.key.Public().(*rsa.PublicKey).N.Bytes()} {
		v.refuses(t, signWith(t, jose.HS256, public, "1", good(c, nil)), `algorithm (alg) is "HS256"`)
	}
	// Keys that the token brings along.
	for name, value := range map[string]any{"jwk": evil.public(), "jku": i.URL + "/evil", "x5u": i.URL + "/evil"} {
		options := (&jose.SignerOptions{}).WithHeader("kid", "1")
		if name == "jwk" {
			options.EmbedJWK = true
		} else {
			options = options.WithHeader(jose.HeaderKey(name), value)
		}
		signs, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: evil.key}, options)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := signs.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := signed.CompactSerialize()
		v.refuses(t, sasl.Secret(text), "")
	}
	critical, _ := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: s.key}, (&jose.SignerOptions{}).WithHeader("kid", "1").WithHeader("crit", []string{"mine"}).WithHeader("mine", 1))
	signed, err := critical.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := signed.CompactSerialize()
	v.refuses(t, sasl.Secret(text), "")
	encrypter, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.RSA_OAEP, Key: s.key.Public()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	sealed, _ := encrypter.Encrypt(payload)
	text, _ = sealed.CompactSerialize()
	v.refuses(t, sasl.Secret(text), "is encrypted (JWE)")
}

func TestKeysThatAreNotUsed(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skip(err) // this Go makes none
	}
	s := newRSA(t, "good")
	enc := newRSA(t, "enc").public()
	enc.Use = "enc"
	v, c := verifier(t, startIssuer(t, s.public(), enc, jose.JSONWebKey{Key: []byte("secret"), KeyID: "oct"}, jose.JSONWebKey{Key: weak.Public(), KeyID: "weak"}), nil)
	v.takes(t, s.sign(t, good(c, nil)), "alice")
	if n, _ := v.Keys(); n != 1 {
		t.Errorf("%d keys are used, want 1", n)
	}
	for _, wrong := range []string{`{}`, `{"keys":[]}`, `[]`, `x`, `{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`,
		`{"keys":[{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}]}`, strings.Repeat(" ", 2<<20), `{"keys":[` + strings.Repeat("{},", 2000) + `{}]}`} {
		if _, err := parseKeys("it", []byte(wrong)); err == nil || strings.Contains(err.Error(), "c2VjcmV0") || len(err.Error()) > 300 {
			t.Errorf("%.40s: %v", wrong, err)
		}
	}
}

func TestKeyIsRotated(t *testing.T) {
	first, second := newRSA(t, "1"), newRSA(t, "2")
	i := startIssuer(t, first.public())
	v, c := verifier(t, i, nil)
	v.takes(t, first.sign(t, good(c, nil)), "alice")
	i.has(first.public(), second.public())
	// It was asked just now: an unknown key is not worth another question yet.
	v.refuses(t, second.sign(t, good(c, nil)), `the key (kid) "2", which is none of the 1`)
	c.advance(keysPause)
	v.takes(t, second.sign(t, good(c, nil)), "alice")
	v.takes(t, first.sign(t, good(c, nil)), "alice")
	// The old one is taken back: that is seen when the keys are old.
	i.has(second.public())
	before := i.asked.Load()
	c.advance(keysAge + time.Second)
	v.takes(t, second.sign(t, good(c, nil)), "alice") // without waiting
	for i.asked.Load() == before {
		v.takes(t, second.sign(t, good(c, nil)), "alice")
	}
	for n, _ := v.Keys(); n != 1; n, _ = v.Keys() {
	}
	v.refuses(t, first.sign(t, good(c, nil)), "which is none of the 1")
}

func TestUnknownKeysDoNotHammerTheIssuer(t *testing.T) {
	s := newRSA(t, "1")
	i := startIssuer(t, s.public())
	v, c := verifier(t, i, nil)
	v.takes(t, s.sign(t, good(c, nil)), "alice")
	c.advance(keysPause)
	var group sync.WaitGroup
	for n := range 50 {
		group.Go(func() {
			v.refuses(t, (&signer{s.key, jose.RS256, fmt.Sprint("unknown", n)}).sign(t, good(c, nil)), "which is none of the")
		})
	}
	group.Wait()
	if i.asked.Load() != 2 {
		t.Errorf("the issuer was asked %d times, want 2", i.asked.Load())
	}
}

// Keys outlive the issuer's absence.
func TestIssuerThatIsDown(t *testing.T) {
	s, next := newRSA(t, "1"), newRSA(t, "2")
	i := startIssuer(t, s.public())
	told := make(chan error, 10)
	v, c := verifier(t, i, told)
	down := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "Sesame", http.StatusServiceUnavailable) }
	i.says(down)
	unavailable := func(token sasl.Secret) {
		t.Helper()
		if _, err := v.Verify(t.Context(), token); !errors.As(err, new(*UnavailableError)) || !strings.Contains(err.Error(), "answers 503") || strings.Contains(err.Error(), "Sesame") {
			t.Errorf("%v", err)
		}
	}
	unavailable(s.sign(t, good(c, nil)))
	unavailable(s.sign(t, good(c, nil))) // and it is not asked again at once
	if i.asked.Load() != 1 || v.Warm(t.Context()) == nil {
		t.Errorf("the issuer was asked %d times", i.asked.Load())
	}
	i.has(s.public())
	c.advance(keysPause)
	v.takes(t, s.sign(t, good(c, nil)), "alice")
	i.says(down)
	c.advance(24 * time.Hour)
	v.takes(t, s.sign(t, good(c, nil)), "alice")
	for asked := i.asked.Load(); asked < 3; asked = i.asked.Load() {
	}
	unavailable(next.sign(t, good(c, nil))) // which may be a new one
	v.takes(t, s.sign(t, good(c, nil)), "alice")
	if err := <-told; err != nil { // by what came after the first failure
		t.Errorf("that it is there is not told: %v", err)
	}
	if err := <-told; err == nil {
		t.Error("that it is down is not told")
	}
	i.has(s.public(), next.public())
	c.advance(keysPause)
	v.takes(t, next.sign(t, good(c, nil)), "alice")
	if err := <-told; err != nil {
		t.Errorf("that it is back is not told: %v", err)
	}
}

func TestIssuersThatAreWrong(t *testing.T) {
	s := newRSA(t, "1")
	i := startIssuer(t, s.public())
	for name, one := range map[string]struct {
		says func(w http.ResponseWriter, r *http.Request)
		want string
	}{
		"long":   {func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 2<<20)) }, "more than 1048576 bytes"},
		"a page": {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>")) }, "no keys in the form of a JWKS"},
		"to http": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}, "it redirects to http://"},
		"round":       {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) }, "more than 3 redirects"},
		"not allowed": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "answers 403"},
	} {
		v, c := verifier(t, i, nil)
		i.says(one.says)
		if _, err := v.Verify(t.Context(), s.sign(t, good(c, nil))); !errors.As(err, new(*UnavailableError)) || !strings.Contains(err.Error(), one.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	stranger, err := NewVerifier(Options{JWKS: i.URL, Issuer: issuerName, Audience: audience})
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.Warm(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an authority that is not trusted: %v", err)
	}
	// One that does not answer: who waits goes when its time is over.
	i.says(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	v, c := verifier(t, i, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Verify(ctx, s.sign(t, good(c, nil))); !errors.As(err, new(*UnavailableError)) {
		t.Errorf("%v", err)
	}
	i.CloseClientConnections()
}

func TestKeysInAFile(t *testing.T) {
	first, second := newRSA(t, ""), newRSA(t, "")
	path := filepath.Join(t.TempDir(), "keys.json")
	write := func(content []byte) {
		if err := os.WriteFile(path+".new", content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	set := func(s *signer) []byte {
		text, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{s.public()}})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	options := Options{JWKS: path, Issuer: issuerName, Audience: audience, PrincipalClaim: "name"}
	if _, err := NewVerifier(options); err == nil {
		t.Error("a file that is not there is taken")
	}
	write(set(first))
	v, err := NewVerifier(options)
	if err != nil {
		t.Fatal(err)
	}
	c := &clock{}
	c.at.Store(time.Now().UnixNano())
	v.now = c.now
	v.takes(t, first.sign(t, good(c, claims{"name": "bob"})), "bob")
	write(set(second))
	v.refuses(t, first.sign(t, good(c, claims{"name": "bob"})), "signature is wrong")
	v.takes(t, second.sign(t, good(c, claims{"name": "bob"})), "bob")
	write([]byte("broken"))
	v.takes(t, second.sign(t, good(c, claims{"name": "bob"})), "bob")
}

func FuzzVerify(f *testing.F) {
	s := newRSA(f, "1")
	text, _ := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{s.public()}})
	path := filepath.Join(f.TempDir(), "keys.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		f.Fatal(err)
	}
	v, err := NewVerifier(Options{JWKS: path, Issuer: issuerName, Audience: audience})
	if err != nil {
		f.Fatal(err)
	}
	c := &clock{}
	c.at.Store(time.Now().UnixNano())
	token := s.sign(f, good(c, nil))
	f.Add(token.Reveal())
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, in string) {
		if who, err := v.Verify(t.Context(), sasl.Secret(in)); err == nil && (in != token.Reveal() || who.Principal != "alice") {
			t.Errorf("%q is taken: %+v", in, who)
		}
	})
}
