package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/config"
	"kafka-sni-proxy/internal/sasl"
)

// authenticated loads a configuration file of one cluster with an authentication, in a folder
// with certificates. The error is all that is wrong.
func authenticated(t *testing.T, dir, listener, authentication string) (*setup, error) {
	t.Helper()
	text := fmt.Sprintf("listeners: [{bind: '127.0.0.1:0', certificates: [{cert: %[1]s/server.pem, key: %[1]s/server_key.pem}], %[2]s}]\nclusters:\n  orders: {sni-suffix: %[3]s, upstream: ['up.test:9092'], authentication: {%[4]s}}\n",
		dir, listener, suffix, authentication)
	c, file, wrong := config.Read("proxy.yaml", []byte(text), config.Env{})
	if len(wrong) > 0 {
		t.Fatal(file.Text(wrong[0]))
	}
	if invalid, _ := c.Validate(); len(invalid) > 0 {
		t.Fatal(invalid)
	}
	a := &app{file: "proxy.yaml", log: slog.New(slog.DiscardHandler)}
	found := &mistakes{text: file.Text}
	s := a.load(c, nil, found)
	if found.any() {
		return nil, found.errors()
	}
	return s, nil
}

func generated(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	_, err := certs.Generate(certs.GenerateOptions{Dir: dir, Suffix: suffix, Port: 9092})
	check(t, err)
	return dir
}

// Where a cluster knows clients by certificates, they may come without one, and log in. One
// that is shown must be good, and not revoked.
func TestCertificatesOfClientsThatNeedNone(t *testing.T) {
	dir := generated(t)
	a := authorityIn(t, dir)
	a.revoke(t, dir+"/revoked.pem", time.Now().Add(time.Hour), 7)
	s, err := authenticated(t, dir, fmt.Sprintf("client-certificates: {ca-certs: %[1]s/ca.pem, crl: [%[1]s/revoked.pem]}", dir), "clients: [{mechanism: TLS}, {mechanism: ANONYMOUS}], brokers: {mechanism: NONE}")
	check(t, err)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", s.listeners[0].files.tlsConfig())
	check(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				c.Write([]byte{1})
				c.Close()
			}()
		}
	}()
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	for name, client := range map[string]struct {
		shown []tls.Certificate
		isIn  bool
	}{
		"none":                {nil, true},
		"good":                {[]tls.Certificate{a.client(t, 6)}, true},
		"revoked":             {[]tls.Certificate{a.client(t, 7)}, false},
		"another authority's": {[]tls.Certificate{authorityIn(t, generated(t)).client(t, 6)}, false},
	} {
		conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "bootstrap." + suffix,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if client.shown == nil {
					return &tls.Certificate{}, nil
				}
				return &client.shown[0], nil
			}})
		check(t, err) // in TLS 1.3 it learns later
		if _, err := conn.Read(make([]byte, 1)); (err == nil) != client.isIn {
			t.Errorf("%s: %v", name, err)
		}
		conn.Close()
	}
}

// A file of users is read once for all mechanisms, and each of them has a warning of its own.
func TestMechanismsShareAFileOfUsers(t *testing.T) {
	dir := generated(t)
	file := filepath.Join(dir, "users.scram")
	check(t, os.WriteFile(file, []byte("alice:SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$zUXl+1ZRfodsjKb8PvI9NsaBxj+44tkwr6VvwjJfQVc=:PdwYDelwe3l0lxUN60lMx9SRQsaidqBWgagvO+JqMbY=\n"), 0o644))
	s, err := authenticated(t, dir, "name: public", fmt.Sprintf("clients: [{mechanism: PLAIN, users: %[1]s}, {mechanism: SCRAM-SHA-256, users: %[1]s}, {mechanism: SCRAM-SHA-512, users: %[1]s}], brokers: {mechanism: NONE}", file))
	check(t, err)
	login := s.clusters["orders"].login
	users := login.inForce().Clients.Users
	if len(login.parts()) != 1 || len(users) != 3 || users[sasl.Plain] != users[sasl.ScramSHA512] || users[sasl.Plain].Len() != 1 {
		t.Errorf("%d files, users %v", len(login.parts()), users)
	}
	if w := strings.Join(login.warnings(), "\n"); strings.Count(w, "nobody can log in by SCRAM-SHA-512") != 1 || strings.Count(w, "chmod o-r") != 1 || strings.Count(w, "\n") != 1 {
		t.Errorf("the warnings are\n%s", w)
	}
}

// What is wrong with what a cluster's authentication names is told with its setting, and what
// to do.
func TestFilesOfAnAuthenticationThatAreWrong(t *testing.T) {
	dir := generated(t)
	check(t, os.WriteFile(dir+"/users", []byte("alice:Sesame\n"), 0o600), os.WriteFile(dir+"/keys", []byte("{}"), 0o600))
	none := "brokers: {mechanism: NONE}"
	for authentication, want := range map[string]string{
		"clients: [{mechanism: PLAIN, users: /nowhere}], " + none:                                                                                          "clients[0].users: /nowhere does not exist: make it with kafka-sni-proxy passwd /nowhere USER",
		"clients: [{mechanism: PLAIN, users: DIR/users}], " + none:                                                                                         "clients[0].users: DIR/users: ",
		"clients: [{mechanism: OAUTHBEARER, jwks: DIR/keys, issuer: x, audience: y}], " + none:                                                             "clients[0].jwks: DIR/keys has no keys in the form of a JWKS",
		"clients: [{mechanism: OAUTHBEARER, jwks: 'https://x/', issuer: x, audience: y, ca-certs: DIR/no}], " + none:                                       "clients[0].ca-certs: DIR/no does not exist",
		"clients: [{mechanism: ANONYMOUS}], brokers: {mechanism: PLAIN, credentials: {folder: DIR/no}}":                                                    "brokers.credentials.folder: the folder DIR/no does not exist: make it",
		"clients: [{mechanism: ANONYMOUS}], brokers: {mechanism: PLAIN, credentials: {exec: [DIR/no]}}":                                                    "brokers.credentials.exec: the command for credentials cannot be run",
		"clients: [{mechanism: ANONYMOUS}], brokers: {mechanism: AWS_MSK_IAM, credentials: {default: chain}}":                                              "brokers.mechanism: this version does not log in by AWS_MSK_IAM yet",
		"clients: [{mechanism: ANONYMOUS}], brokers: {mechanism: OAUTHBEARER, token-endpoint: 'https://x/', ca-certs: DIR/no, credentials: {folder: DIR}}": "brokers.ca-certs: DIR/no does not exist",
	} {
		in := func(s string) string { return strings.ReplaceAll(s, "DIR", dir) }
		_, err := authenticated(t, dir, "name: public", in(authentication))
		if err == nil || !strings.Contains(err.Error(), "clusters.orders.authentication."+in(want)) || strings.Contains(err.Error(), "Sesame") {
			t.Errorf("%s: %v\nwant %s", authentication, err, want)
		}
	}
	_, err := authenticated(t, dir, "client-certificates: {ca-certs: "+dir+"/ca.pem}", "clients: [{mechanism: TLS, principal-mapping-rules: 'RULE:a/b'}], "+none)
	if err == nil || !strings.Contains(err.Error(), "clients[0].principal-mapping-rules: the rule \"RULE:a/b\"") {
		t.Error(err)
	}
}
