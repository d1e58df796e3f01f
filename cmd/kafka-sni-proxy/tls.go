package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/config"
	"kafka-sni-proxy/internal/hosts"
	"kafka-sni-proxy/internal/reload"
	"kafka-sni-proxy/internal/sasl"
)

// listenerFiles is what a listener's files say, which may change.
type listenerFiles struct {
	shown   []*reload.Source[tls.Certificate] // to clients
	clients reload.Source[clientTrust]        // with mTLS

	required bool // a certificate of the client
}

// clusterFiles is what a cluster's files say, which may change.
type clusterFiles struct {
	shown   reload.Source[tls.Certificate] // to brokers
	brokers reload.Source[*x509.CertPool]  // authorities of theirs
	hosts   reload.Source[*hosts.Table]

	plaintext, trustAny bool
}

func (f *listenerFiles) parts() (all []reload.Part) {
	for _, shown := range f.shown {
		all = append(all, shown)
	}
	return append(all, &f.clients)
}

func (f *clusterFiles) parts() []reload.Part { return []reload.Part{&f.shown, &f.brokers, &f.hosts} }

// rename gives the files the names that they have in the log as those of a listener.
func (f *listenerFiles) rename(i int, name func(path string) string) {
	path := func(setting string) string { return name(config.ListenerPath(i, setting)) }
	for j, shown := range f.shown {
		shown.Setting = path(fmt.Sprintf("certificates[%d]", j))
	}
	if len(f.clients.Files) > 0 {
		f.clients.Setting = path("client-certificates.ca-certs")
	}
	if len(f.clients.Files) > 1 {
		f.clients.Setting += ", " + path("client-certificates.crl")
	}
}

// tlsConfig is the configuration towards clients; nil in plaintext.
func (f *listenerFiles) tlsConfig() *tls.Config {
	if len(f.shown) == 0 {
		return nil
	}
	c := &tls.Config{}
	for _, shown := range f.shown {
		c.Certificates = append(c.Certificates, shown.Value())
	}
	if len(c.Certificates) > 1 {
		c.GetCertificate = certs.ByName(c.Certificates)
	}
	if len(f.clients.Files) > 0 {
		c.ClientAuth = tls.VerifyClientCertIfGiven
		if f.required {
			c.ClientAuth = tls.RequireAndVerifyClientCert
		}
		c.ClientCAs = f.clients.Value().pool
		// This one is asked when a client resumes a TLS session, too.
		revoked := f.clients.Value().revoked
		c.VerifyConnection = func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 { // none is required, or crypto/tls has refused it
				return nil
			}
			return revoked.Check(s.VerifiedChains)
		}
	}
	return c
}

// leaves are the certificates that clients are shown.
func (f *listenerFiles) leaves() (all []*x509.Certificate) {
	for _, shown := range f.shown {
		all = append(all, shown.Value().Leaf)
	}
	return all
}

// rememberedSessions is for how many brokers TLS sessions are kept, to be
// resumed with less work: more than any cluster has.
const rememberedSessions = 1024

// tlsConfig is the configuration towards brokers; nil in plaintext. A resumed TLS session
// would still be that of the client certificate it began with, and so each
// configuration remembers its own.
func (f *clusterFiles) tlsConfig() *tls.Config {
	if f.plaintext {
		return nil
	}
	c := &tls.Config{
		ClientSessionCache: tls.NewLRUClientSessionCache(rememberedSessions),
		InsecureSkipVerify: f.trustAny,
		RootCAs:            f.brokers.Value(),
	}
	if len(f.shown.Files) > 0 {
		c.Certificates = []tls.Certificate{f.shown.Value()}
	}
	return c
}

// loader reads the files that a configuration names.
type loader struct {
	mistakes
	name     func(path string) string    // of a setting, in the log
	asks     func(*config.Listener) bool // whether clients are asked for certificates
	mask     func() sasl.Mask            // of users that do not exist
	log      *slog.Logger
	gate     *sasl.Gate // of work with passwords
	generate string     // flags that go with --generate-certs
}

// listener reads a listener's files. covers are the names that its certificates should be
// good for.
func (l *loader) listener(i int, c *config.Listener, covers []string) *listenerFiles {
	f := &listenerFiles{}
	if !c.Plaintext {
		for j, pair := range c.Certificates {
			f.shown = append(f.shown, l.shownToClients(config.ListenerPath(i, fmt.Sprintf("certificates[%d]", j)), pair, covers, len(c.Certificates) == 1))
		}
	}
	l.clients(f, c, func(setting string) string { return config.ListenerPath(i, setting) })
	return f
}

// cluster reads a cluster's files.
func (l *loader) cluster(name string, c *config.Cluster) *clusterFiles {
	target := c.ActiveTarget()
	f := &clusterFiles{plaintext: target.UpstreamPlaintext, trustAny: target.UpstreamTLS.TrustAny}
	path := func(setting string) string { return config.TargetPath(name, c, setting) }
	l.hosts(f, target.HostsFile, path("hosts-file"))
	if !f.plaintext {
		l.brokers(f, target.UpstreamTLS, path("upstream-tls.ca-certs"))
		l.shownToBrokers(f, target.UpstreamTLS.Client(), path)
	}
	return f
}

// hosts reads where brokers are, before DNS is asked.
func (l *loader) hosts(f *clusterFiles, file, path string) {
	if file == "" {
		return
	}
	f.hosts = reload.Source[*hosts.Table]{
		Setting:  l.name(path),
		Files:    []string{file},
		Read:     func() (*hosts.Table, error) { return readHosts(file) },
		Same:     (*hosts.Table).Equal,
		Describe: func(table *hosts.Table) []any { return []any{"hosts", table.Len()} },
	}
	if err := f.hosts.Load(); err != nil {
		l.add(err, path)
	}
}

// readHosts reads a hosts file. Each error in it is a line of the error.
func readHosts(file string) (*hosts.Table, error) {
	content, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist: correct the path, or leave it out to use DNS alone", file)
	}
	if err != nil {
		return nil, err
	}
	defer content.Close()
	table, err := hosts.Parse(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %s", file, strings.ReplaceAll(err.Error(), "\n", "\n"+file+": "))
	}
	return table, nil
}

// keyPair is the source of a certificate and its key.
func keyPair(setting string, pair config.KeyPair, warnings func(tls.Certificate) []string) reload.Source[tls.Certificate] {
	return reload.Source[tls.Certificate]{
		Setting:    setting,
		Files:      []string{pair.Cert, pair.Key},
		Read:       func() (tls.Certificate, error) { return certs.LoadKeyPair(pair.Cert, pair.Key) },
		Same:       sameCertificate,
		Describe:   describeCertificate,
		Warnings:   warnings,
		Incomplete: func(err error) bool { return errors.As(err, new(*certs.MismatchError)) },
	}
}

// shownToClients reads one of a listener's certificates. When it is the only one, it should
// be good for all names.
func (l *loader) shownToClients(path string, pair config.KeyPair, covers []string, only bool) *reload.Source[tls.Certificate] {
	s := keyPair(l.name(path), pair, func(c tls.Certificate) []string {
		return append(serverWarnings(pair.Cert, c.Leaf, covers, only), pairWarnings(pair, c)...)
	})
	switch err := s.Load(); {
	case errors.Is(err, fs.ErrNotExist):
		l.add(fmt.Errorf("%w: say where your certificate is, or make one here with kafka-sni-proxy %s --generate-certs", err, l.generate), path)
	case err != nil:
		l.add(err, path)
	}
	return &s
}

// serverWarnings says what clients may refuse a certificate for. One of several certificates
// should cover some of the names.
func serverWarnings(file string, leaf *x509.Certificate, covers []string, only bool) []string {
	var warnings []string
	switch missing := certs.Uncovered(leaf, covers...); {
	case len(covers) == 0 || len(missing) == 0:
	case only:
		shown := missing[:min(len(missing), 4)]
		text := strings.Join(shown, " and ")
		if more := len(missing) - len(shown); more > 0 {
			text += fmt.Sprintf(" and %d more names", more)
		}
		_, domain, _ := strings.Cut(missing[0], ".")
		warnings = append(warnings, fmt.Sprintf("%s does not cover %s: clients will refuse it; it should be for *.%s", file, text, domain))
	case len(missing) == len(covers):
		warnings = append(warnings, fmt.Sprintf("%s covers none of the names that clients ask for, such as %s: it is never shown", file, missing[0]))
	}
	if err := certs.CheckUsage(leaf, x509.ExtKeyUsageServerAuth); err != nil {
		warnings = append(warnings, fmt.Sprintf("%s: %v: clients will refuse it", file, err))
	}
	return append(warnings, expiresSoon(file, leaf)...)
}

// uncovered warns of names that none of a listener's several certificates covers.
func (f *listenerFiles) uncovered(covers []string) []string {
	if len(f.shown) < 2 {
		return nil // which serverWarnings tells
	}
	missing := covers
	for _, leaf := range f.leaves() {
		missing = certs.Uncovered(leaf, missing...)
	}
	if len(missing) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("no certificate covers %s: clients will refuse what they are shown", strings.Join(missing[:min(len(missing), 4)], " and "))}
}

// pairWarnings says what is likely to be wrong with any certificate and its key. The
// authority that --generate-certs makes is beside its certificates.
func pairWarnings(pair config.KeyPair, c tls.Certificate) []string {
	return slices.DeleteFunc([]string{
		certs.ChainWarning(pair.Cert, c, filepath.Join(filepath.Dir(pair.Cert), "ca.pem")),
		certs.KeyWarning(pair.Key),
	}, func(s string) bool { return s == "" })
}

func expiresSoon(file string, leaf *x509.Certificate) []string {
	if time.Until(leaf.NotAfter) > certs.RenewBefore {
		return nil
	}
	return []string{fmt.Sprintf("%s expires on %s: renew it soon", file, leaf.NotAfter.UTC().Format("2006-01-02 15:04 MST"))}
}

// clients reads what clients' certificates are checked with.
func (l *loader) clients(f *listenerFiles, c *config.Listener, path func(setting string) string) {
	m := c.ClientCertificates
	if !l.asks(c) || m.CACerts == "" {
		return
	}
	f.required = m.Require
	paths := []string{path("client-certificates.ca-certs")}
	f.clients = reload.Source[clientTrust]{
		Setting:  l.name(paths[0]),
		Files:    append([]string{m.CACerts}, m.CRL...),
		Read:     func() (clientTrust, error) { return loadClientTrust(m.CACerts, m.CRL...) },
		Same:     sameTrust,
		Describe: describeTrust,
		Warnings: func(t clientTrust) []string { return t.revoked.Warnings() },
	}
	if len(m.CRL) > 0 {
		paths = append(paths, path("client-certificates.crl"))
		f.clients.Setting += ", " + l.name(paths[1])
	}
	if err := f.clients.Load(); err != nil {
		l.add(err, paths...)
	}
}

// systemAuthorities are those of the system, which are read once.
var systemAuthorities = sync.OnceValues(x509.SystemCertPool)

// brokers reads what brokers' certificates are verified with.
func (l *loader) brokers(f *clusterFiles, u config.UpstreamTLS, path string) {
	switch {
	case u.TrustAny:
	case u.CACerts != "":
		f.brokers = reload.Source[*x509.CertPool]{
			Setting: l.name(path),
			Files:   []string{u.CACerts},
			Read:    func() (*x509.CertPool, error) { return certs.LoadPool(u.CACerts) },
			Same:    (*x509.CertPool).Equal,
		}
		if err := f.brokers.Load(); err != nil {
			l.add(err, path)
		}
	default:
		system, err := systemAuthorities()
		if err != nil || system.Equal(x509.NewCertPool()) {
			l.add(errors.New("this system has no certificate authorities of its own: install ca-certificates, or name a file with those of the brokers"), path)
		}
		f.brokers.Set(system)
	}
}

// shownToBrokers reads what is shown to brokers.
func (l *loader) shownToBrokers(f *clusterFiles, pair config.KeyPair, path func(setting string) string) {
	if pair.Cert == "" || pair.Key == "" {
		return
	}
	cert, key := path("upstream-tls.cert"), path("upstream-tls.key")
	f.shown = keyPair(l.name(cert)+", "+l.name(key), pair, func(c tls.Certificate) []string {
		warnings := expiresSoon(pair.Cert, c.Leaf)
		if err := certs.CheckUsage(c.Leaf, x509.ExtKeyUsageClientAuth); err != nil {
			warnings = append(warnings, fmt.Sprintf("%s: %v: brokers will refuse it", pair.Cert, err))
		}
		return append(warnings, pairWarnings(pair, c)...)
	})
	if err := f.shown.Load(); err != nil {
		l.add(err, cert, key)
	}
}

// warnings are of what is likely to be wrong with the files.
func (f *listenerFiles) warnings(covers []string) (all []string) {
	for _, shown := range f.shown {
		all = append(all, shown.Warn()...)
	}
	return append(append(all, f.uncovered(covers)...), f.clients.Warn()...)
}

// clientTrust says which clients' certificates are taken.
type clientTrust struct {
	authorities []*x509.Certificate
	pool        *x509.CertPool
	revoked     *certs.Revoked // nil: no list
}

func loadClientTrust(caFile string, crlFiles ...string) (clientTrust, error) {
	authorities, err := certs.LoadAuthorities(caFile)
	if err != nil {
		return clientTrust{}, err
	}
	trust := clientTrust{authorities: authorities, pool: certs.Pool(authorities)}
	if len(crlFiles) > 0 {
		trust.revoked, err = certs.LoadRevoked(authorities, crlFiles...)
	}
	return trust, err
}

func sameTrust(a, b clientTrust) bool {
	return a.pool.Equal(b.pool) && a.revoked.Equal(b.revoked)
}

func describeTrust(t clientTrust) []any {
	var names []string
	for _, authority := range t.authorities {
		names = append(names, authority.Subject.String())
	}
	attrs := []any{"authorities", strings.Join(names, "; ")}
	if t.revoked != nil {
		attrs = append(attrs, "revoked", t.revoked.Len(), "next-update", t.revoked.NextUpdate.UTC().Format(time.RFC3339))
	}
	return attrs
}

func sameCertificate(a, b tls.Certificate) bool {
	return slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
}

func describeCertificate(c tls.Certificate) []any {
	names := strings.Join(c.Leaf.DNSNames, ", ")
	if names == "" {
		names = c.Leaf.Subject.String()
	}
	return []any{"names", names, "expires", c.Leaf.NotAfter.UTC().Format(time.RFC3339), "serial", c.Leaf.SerialNumber.Text(16)}
}
