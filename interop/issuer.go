package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Whom tokens are for: the proxy, and brokers.
const (
	proxyAudience   = "proxy"
	brokersAudience = "brokers"
)

// issuer issues tokens: those that clients of this run ask it for, and those that the proxy
// fetches with a client's id and secret. It serves its keys over HTTP, on this machine.
type issuer struct {
	name    string
	server  *http.Server
	address string

	mu      sync.Mutex
	keys    []*signingKey // the last one signs
	clients map[string]string
	life    time.Duration // of tokens that are fetched
	down    bool
	given   int
}

type signingKey struct {
	id  string
	key *ecdsa.PrivateKey
}

func startIssuer(ctx context.Context, address string, clients map[string]string) (*issuer, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	i := &issuer{name: "https://login.interop.test", address: address, clients: clients, life: time.Hour}
	if err := i.rotate(false); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /keys", i.serveKeys)
	mux.HandleFunc("POST /token", i.serveToken)
	i.server = &http.Server{Handler: mux}
	go i.server.Serve(listener)
	context.AfterFunc(ctx, func() { i.server.Close() })
	return i, nil
}

func (i *issuer) keysURL() string  { return "http://" + i.address + "/keys" }
func (i *issuer) tokenURL() string { return "http://" + i.address + "/token" }

// rotate has a new key sign; alone: the old ones are taken back.
func (i *issuer) rotate(alone bool) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if alone {
		i.keys = nil
	}
	i.keys = append(i.keys, &signingKey{fmt.Sprintf("key-%d", time.Now().UnixNano()), key})
	return nil
}

func (i *issuer) setDown(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

func (i *issuer) serveKeys(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.down {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	var set jose.JSONWebKeySet
	for _, k := range i.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.key.Public(), KeyID: k.id, Algorithm: "ES256", Use: "sig"})
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(set)
}

// serveToken is the client credentials grant (RFC 6749, section 4.4).
func (i *issuer) serveToken(w http.ResponseWriter, r *http.Request) {
	id, secret, _ := r.BasicAuth()
	w.Header().Set("Content-Type", "application/json")
	i.mu.Lock()
	known, life := i.clients[id], i.life
	i.given++
	i.mu.Unlock()
	if known == "" || known != secret || r.PostFormValue("grant_type") != "client_credentials" {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":"invalid_client"}`)
		return
	}
	token, err := i.token(id, brokersAudience, life)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": int(life.Seconds())})
}

// token returns one that is good now.
func (i *issuer) token(subject, audience string, life time.Duration) (string, error) {
	return i.sign(map[string]any{"iss": i.name, "sub": subject, "aud": audience, "iat": time.Now().Unix(), "exp": time.Now().Add(life).Unix()})
}

// sign signs claims with the newest key.
func (i *issuer) sign(claims map[string]any) (string, error) {
	i.mu.Lock()
	k := i.keys[len(i.keys)-1]
	i.mu.Unlock()
	return signWith(jose.SigningKey{Algorithm: jose.ES256, Key: k.key}, k.id, claims)
}

func signWith(key jose.SigningKey, id string, claims map[string]any) (string, error) {
	signer, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithHeader("kid", id))
	payload, err2 := json.Marshal(claims)
	if err := errors.Join(err, err2); err != nil {
		return "", err
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// keyID is what the newest key is called.
func (i *issuer) keyID() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[len(i.keys)-1].id
}

// publicKeyPEM is the newest key, which everybody may know.
func (i *issuer) publicKeyPEM() ([]byte, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	der, err := x509.MarshalPKIXPublicKey(i.keys[len(i.keys)-1].key.Public())
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), err
}
