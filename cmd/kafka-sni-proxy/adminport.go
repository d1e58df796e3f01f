package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"

	"kafka-sni-proxy/internal/admin"
	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/config"
	"kafka-sni-proxy/internal/reload"
)

// adminFiles is what the files of the admin port say, which may change.
type adminFiles struct {
	config  config.Admin
	token   reload.Source[string]
	shown   reload.Source[tls.Certificate]
	clients reload.Source[*x509.CertPool]

	// What is in use, of these.
	tokenNow atomic.Pointer[string]
	tlsNow   atomic.Pointer[tls.Config]
}

// minToken is how many characters a token has at the least: fewer can be guessed.
const minToken = 16

// maxToken is the most that is read of a token's file, in bytes.
const maxToken = 4096

// loadToken reads the file of a token.
func loadToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	switch {
	case len(token) < minToken:
		return "", fmt.Errorf("%s has %d characters: a token has %d or more, as from: openssl rand -hex 32", path, len(token), minToken)
	case len(token) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("%s is no token: one line of printable ASCII without spaces, up to %d characters", path, maxToken)
	}
	return token, nil
}

// loadAdmin reads the files of the admin port.
func (a *app) loadAdmin(c config.Admin, wrong *mistakes) *adminFiles {
	f := &adminFiles{config: c}
	if c.TokenFile != "" {
		f.token = reload.Source[string]{
			Setting: a.settingName("admin.token-file"),
			Files:   []string{c.TokenFile},
			Read:    func() (string, error) { return loadToken(c.TokenFile) },
			Same:    func(a, b string) bool { return a == b },
		}
		if err := f.token.Load(); err != nil {
			wrong.add(err, "admin.token-file")
		}
	}
	if c.Cert != "" && c.Key != "" {
		pair := config.KeyPair{Cert: c.Cert, Key: c.Key}
		f.shown = keyPair(a.settingName("admin.cert")+", "+a.settingName("admin.key"), pair, func(c tls.Certificate) []string {
			return expiresSoon(pair.Cert, c.Leaf)
		})
		if err := f.shown.Load(); err != nil {
			wrong.add(err, "admin.cert", "admin.key")
		}
	}
	if c.ClientCACerts != "" {
		f.clients = reload.Source[*x509.CertPool]{
			Setting: a.settingName("admin.client-ca-certs"),
			Files:   []string{c.ClientCACerts},
			Read:    func() (*x509.CertPool, error) { return certs.LoadPool(c.ClientCACerts) },
			Same:    (*x509.CertPool).Equal,
		}
		if err := f.clients.Load(); err != nil {
			wrong.add(err, "admin.client-ca-certs")
		}
	}
	return f
}

func (f *adminFiles) parts() []reload.Part {
	return []reload.Part{&f.token, &f.shown, &f.clients}
}

// use puts to use what was read.
func (f *adminFiles) use() {
	token := f.token.Value()
	f.tokenNow.Store(&token)
	if len(f.shown.Files) == 0 {
		return
	}
	c := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{f.shown.Value()},
		// A resumed session would be that of a certificate whose authority may be gone. This has to
		// be said here as well as in options: crypto/tls asks this configuration whether to make a
		// ticket, and that one for the key.
		SessionTicketsDisabled: true,
	}
	if len(f.clients.Files) > 0 {
		// Probes have none; admin.Access wants one for all else.
		c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, f.clients.Value()
	}
	f.tlsNow.Store(c)
}

// options are how the port is served.
func (f *adminFiles) options() admin.Options {
	o := admin.Options{Debug: f.config.Pprof}
	if len(f.token.Files) > 0 {
		o.Token = func() string { return *f.tokenNow.Load() }
	}
	if len(f.shown.Files) > 0 {
		o.TLS = &tls.Config{
			MinVersion:             tls.VersionTLS12,
			SessionTicketsDisabled: true,
			GetConfigForClient:     func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.tlsNow.Load(), nil },
		}
	}
	o.ClientCertificate = len(f.clients.Files) > 0
	return o
}

// warnings are of what is likely to be wrong with the port.
func (f *adminFiles) warnings() []string {
	all := append(f.shown.Warn(), f.token.Warn()...)
	if f.config.Bind == "" {
		return all
	}
	isOpen := f.config.TokenFile == "" && f.config.ClientCACerts == ""
	if isOpen && !isLoopback(f.config.Bind) {
		all = append(all, "--admin-bind: everybody who can reach it sees who is connected and what is configured: set --admin-token-file, or --admin-client-ca-certs, or bind it to 127.0.0.1")
	}
	if f.config.TokenFile != "" && f.config.Cert == "" && !isLoopback(f.config.Bind) {
		all = append(all, "--admin-token-file: the token crosses the network in plaintext: set --admin-cert and --admin-key, or bind it to 127.0.0.1")
	}
	return all
}

// isLoopback reports whether an address to listen on can be reached from this machine alone.
func isLoopback(bind string) bool {
	host, _, err := net.SplitHostPort(bind)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// fingerprint is how a certificate is named by its bytes: SHA-256, in hexadecimal.
func fingerprint(cert *x509.Certificate) string { return fmt.Sprintf("%x", sha256.Sum256(cert.Raw)) }

// showConfiguration returns the file that means what is in force, with secrets as ***.
func (a *app) showConfiguration() string {
	text, err := a.now.Load().config.Show()
	if err != nil {
		return fmt.Sprintf("# the configuration cannot be shown: %v\n", err)
	}
	return string(text)
}
