package main

import (
	"bytes"
	"cmp"
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
	"time"

	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/config"
	"kafka-sni-proxy/internal/hosts"
	"kafka-sni-proxy/internal/reload"
)

// tlsFiles is all that is read from files and may change.
type tlsFiles struct {
	server   reload.Source[tls.Certificate] // shown to clients
	clients  reload.Source[clientTrust]     // with mTLS
	upstream reload.Source[tls.Certificate] // shown to brokers
	brokers  reload.Source[*x509.CertPool]  // authorities of theirs
	hosts    reload.Source[*hosts.Table]

	trustBrokers bool // whatever certificate they show
}

// group watches the files for an owner.
func (t *tlsFiles) group(log *slog.Logger, owner reload.Owner) *reload.Group {
	return reload.NewGroup(log, owner, &t.server, &t.clients, &t.upstream, &t.brokers, &t.hosts)
}

// downstreamTLS is the configuration towards clients.
func (t *tlsFiles) downstreamTLS() *tls.Config {
	config := &tls.Config{Certificates: []tls.Certificate{t.server.Value()}}
	if len(t.clients.Files) > 0 {
		config.ClientAuth = tls.RequireAndVerifyClientCert
		config.ClientCAs = t.clients.Value().pool
		// This one is asked when a client resumes a TLS session, too.
		revoked := t.clients.Value().revoked
		config.VerifyConnection = func(s tls.ConnectionState) error { return revoked.Check(s.VerifiedChains) }
	}
	return config
}

// rememberedSessions is for how many brokers TLS sessions are kept, to be
// resumed with less work: more than any cluster has.
const rememberedSessions = 1024

// upstreamTLS is the configuration towards brokers. A resumed TLS session would
// still be that of the client certificate it began with, and so each
// configuration remembers its own.
func (t *tlsFiles) upstreamTLS() *tls.Config {
	config := &tls.Config{
		ClientSessionCache: tls.NewLRUClientSessionCache(rememberedSessions),
		InsecureSkipVerify: t.trustBrokers,
		RootCAs:            t.brokers.Value(),
	}
	if len(t.upstream.Files) > 0 {
		config.Certificates = []tls.Certificate{t.upstream.Value()}
	}
	return config
}

// loadFiles reads all files for the first time, and returns warnings of what
// is likely to be wrong.
func loadFiles(c *config.Config, wrong *usageErrors) (t *tlsFiles, warnings []string) {
	listener, cluster := c.Listeners[0], c.Clusters[config.DefaultCluster]
	t = &tlsFiles{trustBrokers: cluster.UpstreamTLS.TrustAny}
	t.loadHosts(cluster.HostsFile, wrong)
	t.loadServer(listener.Certificates[0], cluster.SNISuffix, wrong)
	t.loadClients(listener.ClientCertificates, wrong)
	t.loadBrokers(cluster.UpstreamTLS, wrong)
	t.loadUpstream(cluster.UpstreamTLS.Client(), wrong)
	if len(*wrong) == 0 {
		warnings = slices.Concat(t.server.Warn(), t.clients.Warn(), t.upstream.Warn())
	}
	return t, warnings
}

// loadHosts reads where brokers are, before DNS is asked.
func (t *tlsFiles) loadHosts(file string, wrong *usageErrors) {
	if file == "" {
		return
	}
	t.hosts = reload.Source[*hosts.Table]{
		Setting:  flagName("hosts-file"),
		Files:    []string{file},
		Read:     func() (*hosts.Table, error) { return readHosts(file) },
		Same:     (*hosts.Table).Equal,
		Describe: func(table *hosts.Table) []any { return []any{"hosts", table.Len()} },
	}
	if err := t.hosts.Load(); err != nil {
		wrong.add("hosts-file", err)
	}
}

// readHosts reads a hosts file. Each error in it is a line of the error.
func readHosts(file string) (*hosts.Table, error) {
	content, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist: correct the path, or leave the flag out to use DNS alone", file)
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

// loadServer reads what is shown to clients.
func (t *tlsFiles) loadServer(pair config.KeyPair, suffix string, wrong *usageErrors) {
	t.server = keyPair(flagName("certificate"), pair, func(c tls.Certificate) []string {
		return append(serverWarnings(pair.Cert, c.Leaf, suffix), pairWarnings(pair, c)...)
	})
	switch err := t.server.Load(); {
	case errors.Is(err, fs.ErrNotExist):
		wrong.add("certificate", fmt.Errorf("%w: say where your certificate is, or make one here with kafka-sni-proxy --sni-suffix %s --generate-certs", err, cmp.Or(suffix, "<domain>")))
	case err != nil:
		wrong.add("certificate", err)
	}
}

// serverWarnings says what clients may refuse a certificate for.
func serverWarnings(file string, leaf *x509.Certificate, suffix string) []string {
	var warnings []string
	if suffix != "" {
		if missing := certs.Uncovered(leaf, "bootstrap."+suffix, "b0."+suffix); len(missing) > 0 {
			warnings = append(warnings, fmt.Sprintf("%s does not cover %s: clients will refuse it; it should be for *.%s", file, strings.Join(missing, " and "), suffix))
		}
	}
	if err := certs.CheckUsage(leaf, x509.ExtKeyUsageServerAuth); err != nil {
		warnings = append(warnings, fmt.Sprintf("%s: %v: clients will refuse it", file, err))
	}
	return append(warnings, expiresSoon(file, leaf)...)
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
	if time.Until(leaf.NotAfter) > 30*24*time.Hour {
		return nil
	}
	return []string{fmt.Sprintf("%s expires on %s: renew it soon", file, leaf.NotAfter.UTC().Format("2006-01-02 15:04 MST"))}
}

// loadClients reads what clients' certificates are checked with.
func (t *tlsFiles) loadClients(m config.ClientCertificates, wrong *usageErrors) {
	if !m.Require || m.CACerts == "" {
		return
	}
	t.clients = reload.Source[clientTrust]{
		Setting:  flagName("client-certificates.ca-certs"),
		Files:    []string{m.CACerts},
		Read:     func() (clientTrust, error) { return loadClientTrust(m.CACerts, m.CRL...) },
		Same:     sameTrust,
		Describe: describeTrust,
		Warnings: func(t clientTrust) []string { return t.revoked.Warnings() },
	}
	if len(m.CRL) > 0 {
		t.clients.Setting += ", " + flagName("client-certificates.crl")
		t.clients.Files = append(t.clients.Files, m.CRL...)
	}
	if err := t.clients.Load(); err != nil {
		wrong.addAs(t.clients.Setting, err)
	}
}

// loadBrokers reads what brokers' certificates are verified with.
func (t *tlsFiles) loadBrokers(u config.UpstreamTLS, wrong *usageErrors) {
	switch {
	case u.TrustAny:
	case u.CACerts != "":
		t.brokers = reload.Source[*x509.CertPool]{
			Setting: flagName("upstream-tls.ca-certs"),
			Files:   []string{u.CACerts},
			Read:    func() (*x509.CertPool, error) { return certs.LoadPool(u.CACerts) },
			Same:    (*x509.CertPool).Equal,
		}
		if err := t.brokers.Load(); err != nil {
			wrong.add("upstream-tls.ca-certs", err)
		}
	default:
		system, err := x509.SystemCertPool()
		if err != nil || system.Equal(x509.NewCertPool()) {
			wrong.add("upstream-tls.ca-certs", errors.New("this system has no certificate authorities of its own: install ca-certificates, or name a file with those of the brokers"))
		}
		t.brokers.Set(system)
	}
}

// loadUpstream reads what is shown to brokers.
func (t *tlsFiles) loadUpstream(pair config.KeyPair, wrong *usageErrors) {
	if pair.Cert == "" || pair.Key == "" {
		return
	}
	setting := flagName("upstream-tls.cert") + ", " + flagName("upstream-tls.key")
	t.upstream = keyPair(setting, pair, func(c tls.Certificate) []string {
		warnings := expiresSoon(pair.Cert, c.Leaf)
		if err := certs.CheckUsage(c.Leaf, x509.ExtKeyUsageClientAuth); err != nil {
			warnings = append(warnings, fmt.Sprintf("%s: %v: brokers will refuse it", pair.Cert, err))
		}
		return append(warnings, pairWarnings(pair, c)...)
	})
	if err := t.upstream.Load(); err != nil {
		wrong.addAs(setting, err)
	}
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
