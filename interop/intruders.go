package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/twmb/franz-go/pkg/kerr"
	mechanisms "github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"kafka-sni-proxy/internal/harness"
)

// withoutCredential has a client that may come in, and that has no credential at the brokers.
func (g *guarded) withoutCredential(ctx context.Context) error {
	before, err := g.connectionsAtBrokers(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	client, err := g.franzAs(plain.Auth{User: "without", Pass: secretIn + "without"}.AsMechanism(), nil, "plain")
	if err != nil {
		return err
	}
	defer client.Close()
	err = client.Ping(ctx)
	if !errors.Is(err, kerr.SaslAuthenticationFailed) || !strings.Contains(err.Error(), `there is no credential for "without" at the brokers`) {
		return fmt.Errorf("a client without a credential is told: %w", err)
	}
	after, err := g.connectionsAtBrokers(ctx)
	if err == nil && after != before {
		err = fmt.Errorf("a client without a credential has caused %d connections to brokers", after-before)
	}
	return err
}

// connectionsAtBrokers is how often the proxy has logged in at brokers.
func (g *guarded) connectionsAtBrokers(ctx context.Context) (int, error) {
	return g.proxy.metric(ctx, `logins_total{side="broker"}`)
}

// hostileClients try to get in with what is no proof of anything.
func (g *guarded) hostileClients(ctx context.Context) (string, error) {
	now := time.Now().Unix()
	claims := func(changed map[string]any) map[string]any {
		all := map[string]any{"iss": g.issuer.name, "sub": clientOf("oauth"), "aud": proxyAudience, "iat": now, "exp": now + 600}
		maps.Copy(all, changed)
		return all
	}
	refused := 0
	wants := func(mechanism mechanisms.Mechanism, want string) error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		client, err := g.franzAs(mechanism, nil, "plain")
		if err != nil {
			return err
		}
		defer client.Close()
		if err := client.Ping(ctx); err == nil || !strings.Contains(err.Error(), want) {
			return fmt.Errorf("a client that must not get in is told %w; want %s", err, want)
		}
		refused++
		return nil
	}
	token := func(t string, err error) mechanisms.Mechanism {
		if err != nil {
			t = "none"
		}
		return oauth.Auth{Token: t}.AsMechanism()
	}
	public, err := g.issuer.publicKeyPEM()
	if err != nil {
		return "", err
	}
	none := "eyJhbGciOiJub25lIn0.eyJzdWIiOiJvYXV0aC1jbGllbnQifQ."
	for _, bad := range []mechanisms.Mechanism{
		token(g.issuer.sign(claims(map[string]any{"exp": now - 60}))),
		token(g.issuer.sign(claims(map[string]any{"nbf": now + 60}))),
		token(g.issuer.sign(claims(map[string]any{"aud": "somebody else"}))),
		token(g.issuer.sign(claims(map[string]any{"iss": "https://evil.example"}))),
		token(signWith(jose.SigningKey{Algorithm: jose.HS256, Key: public}, g.issuer.keyID(), claims(nil))),
		token(none, nil),
	} {
		if err := wants(bad, "unexpected data in oauth response"); err != nil { // which is how franz-go says that the challenge is not empty
			return "", err
		}
	}
	// Who does not exist is told what a wrong password is told.
	for _, user := range []string{clientOf("plain"), "nobody"} {
		if err := wants(plain.Auth{User: user, Pass: "a wrong one"}.AsMechanism(), "Authentication failed: Invalid username or password"); err != nil {
			return "", err
		}
	}
	for _, user := range []string{clientOf("scram256"), "nobody"} {
		if err := wants(scram.Auth{User: user, Pass: "a wrong one"}.AsSha256Mechanism(), "invalid credentials with SASL mechanism SCRAM-SHA-256"); err != nil {
			return "", err
		}
	}
	// A key is rotated, and then the issuer goes away: tokens of the keys that are known do.
	if err := g.issuer.rotate(false); err != nil {
		return "", err
	}
	err = harness.Await(ctx, "waiting for the proxy to know the new key", func() error { return g.cell(ctx, "oauth", "plain") })
	if err != nil {
		return "", err
	}
	g.issuer.setDown(true)
	if err := g.cell(ctx, "oauth", "plain"); err != nil {
		return "", fmt.Errorf("while the issuer is down: %w", err)
	}
	g.issuer.setDown(false)
	return fmt.Sprintf("%d clients refused, a key rotated, the issuer down", refused), nil
}

// searchSecrets looks for each password in all that the proxy says.
func (g *guarded) searchSecrets(ctx context.Context) (string, error) {
	said := map[string]string{}
	for _, path := range []string{"/metrics", "/", "/api/v1/status", "/api/v1/clusters", "/api/v1/sessions", "/api/v1/failures", "/api/v1/support"} {
		text, err := g.proxy.ask(ctx, path)
		if err != nil {
			return "", err
		}
		said[path] = text
	}
	shown, err := harness.Run(ctx, harness.Command{Name: "config-show", Dir: g.dir, Args: []string{g.java.software.proxy, "config", "show", g.proxy.args[2]}})
	if err != nil {
		return "", err
	}
	said["config show"] = shown
	for name, path := range map[string]string{"the log": g.proxy.Output, "the access log": filepath.Join(g.dir, "access.log"), "the file of users": g.users} {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		said[name] = string(text)
	}
	for name, text := range said {
		if len(text) == 0 {
			return "", fmt.Errorf("%s is empty: nothing was searched", name)
		}
		for _, secret := range append(g.secrets, "Bearer ey", "BEGIN PRIVATE KEY") {
			if strings.Contains(text, secret) {
				return "", fmt.Errorf("%s has the secret %s", name, secret)
			}
		}
	}
	if !strings.Contains(said["the access log"], `"principal":"plain-client","mechanism":"PLAIN","broker_mechanism":"SCRAM-SHA-256"`) {
		return "", errors.New("the access log does not say who came, and how")
	}
	return "log, access log, page, API, metrics, config show", nil
}
