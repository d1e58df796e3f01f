package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/hosts"
)

// downstreamTLS is the configuration towards clients.
func (m *material) downstreamTLS() *tls.Config {
	config := &tls.Config{Certificates: []tls.Certificate{m.server.value}}
	if len(m.clients.files) > 0 {
		config.ClientAuth = tls.RequireAndVerifyClientCert
		config.ClientCAs = m.clients.value.pool
		// This one is asked when a client resumes a TLS session, too.
		revoked := m.clients.value.revoked
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
func (m *material) upstreamTLS() *tls.Config {
	config := &tls.Config{
		ClientSessionCache: tls.NewLRUClientSessionCache(rememberedSessions),
		InsecureSkipVerify: m.trustBrokers,
		RootCAs:            m.brokers.value,
	}
	if len(m.upstream.files) > 0 {
		config.Certificates = []tls.Certificate{m.upstream.value}
	}
	return config
}

// loadMaterial reads all files for the first time, and returns warnings of what
// is likely to be wrong.
func loadMaterial(f *flags, suffix string, wrong *mistakes) (m *material, warnings []string) {
	m = &material{trustBrokers: f.trustUpstream}
	m.loadHosts(f, wrong)
	m.loadServer(f, suffix, wrong)
	warnings = append(warnings, m.loadClients(f, wrong)...)
	warnings = append(warnings, m.loadBrokers(f, wrong)...)
	m.loadUpstream(f, wrong)
	if len(*wrong) == 0 {
		warnings = slices.Concat(m.server.doubts(), m.clients.doubts(), m.upstream.doubts(), warnings)
	}
	return m, warnings
}

// loadHosts reads where brokers are, before DNS is asked.
func (m *material) loadHosts(f *flags, wrong *mistakes) {
	if f.hostsFile == "" {
		return
	}
	m.hosts = source[*hosts.Table]{
		part:  part{flags: "--hosts-file", files: []string{f.hostsFile}},
		read:  func() (*hosts.Table, error) { return readHosts(f.hostsFile) },
		same:  (*hosts.Table).Equal,
		about: func(t *hosts.Table) []any { return []any{"hosts", t.Len()} },
	}
	if err := m.hosts.first(); err != nil {
		wrong.add("--hosts-file", err)
	}
}

// readHosts reads a hosts file. Each mistake in it is a line of the error.
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

// loadServer reads what is shown to clients.
func (m *material) loadServer(f *flags, suffix string, wrong *mistakes) {
	m.server = source[tls.Certificate]{
		part:  part{flags: "--cert, --key", files: []string{f.cert, f.key}},
		read:  func() (tls.Certificate, error) { return certs.LoadKeyPair(f.cert, f.key) },
		same:  sameCertificate,
		about: aboutCertificate,
		doubt: func(c tls.Certificate) []string { return serverDoubts(f.cert, c.Leaf, suffix) },
	}
	switch err := m.server.first(); {
	case errors.Is(err, fs.ErrNotExist):
		wrong.add("--cert, --key", fmt.Errorf("%w: say where your certificate is, or make one here with kafka-sni-proxy --sni-suffix %s --generate-certs", err, cmp.Or(suffix, "<domain>")))
	case err != nil:
		wrong.add("--cert, --key", err)
	}
}

// serverDoubts says what clients may refuse a certificate for.
func serverDoubts(file string, leaf *x509.Certificate, suffix string) []string {
	var doubts []string
	if suffix != "" {
		if missing := certs.Uncovered(leaf, "bootstrap."+suffix, "b0."+suffix); len(missing) > 0 {
			doubts = append(doubts, fmt.Sprintf("%s does not cover %s: clients will refuse it; it should be for *.%s", file, strings.Join(missing, " and "), suffix))
		}
	}
	if err := certs.CheckUsage(leaf, x509.ExtKeyUsageServerAuth); err != nil {
		doubts = append(doubts, fmt.Sprintf("%s: %v: clients will refuse it", file, err))
	}
	return append(doubts, endsSoon(file, leaf)...)
}

func endsSoon(file string, leaf *x509.Certificate) []string {
	if time.Until(leaf.NotAfter) > 30*24*time.Hour {
		return nil
	}
	return []string{fmt.Sprintf("%s ends on %s: renew it soon", file, leaf.NotAfter.UTC().Format("2006-01-02 15:04 MST"))}
}

// loadClients reads what clients' certificates are checked with.
func (m *material) loadClients(f *flags, wrong *mistakes) (warnings []string) {
	switch {
	case f.mtlsEnable && f.mtlsDisable:
		wrong.add("--mtls-enable, --mtls-disable", errors.New("contradict each other: leave one of them out"))
	case f.mtlsEnable && f.caCerts == "":
		wrong.add("--mtls-enable", errors.New("needs --ca-certs, the file with the authorities that sign clients' certificates (ca.pem, when --generate-certs made them)"))
	case f.mtlsEnable:
		m.clients = source[clientTrust]{
			part:  part{flags: "--ca-certs", files: []string{f.caCerts}},
			read:  func() (clientTrust, error) { return loadClientTrust(f.caCerts, f.crl) },
			same:  sameTrust,
			about: aboutTrust,
			doubt: func(t clientTrust) []string { return t.revoked.Doubts() },
		}
		if f.crl != "" {
			m.clients.flags = "--ca-certs, --crl"
			m.clients.files = append(m.clients.files, f.crl)
		}
		if err := m.clients.first(); err != nil {
			wrong.add(m.clients.flags, err)
		}
	default:
		if f.caCerts != "" {
			warnings = append(warnings, "--ca-certs does nothing without --mtls-enable: clients are not asked for certificates")
		}
		if f.crl != "" {
			warnings = append(warnings, "--crl does nothing without --mtls-enable: clients are not asked for certificates")
		}
	}
	return warnings
}

// loadBrokers reads what brokers' certificates are verified with.
func (m *material) loadBrokers(f *flags, wrong *mistakes) (warnings []string) {
	switch {
	case f.trustUpstream && f.upstreamCAs != "":
		wrong.add("--upstream-ca-certs, --trust-upstream-certs", errors.New("contradict each other: leave one of them out"))
	case f.trustUpstream:
		warnings = append(warnings, "NOT VERIFYING BROKERS: with --trust-upstream-certs any certificate is taken, so that whoever gets in between can read and change everything, passwords included; use --upstream-ca-certs outside of tests")
	case f.upstreamCAs != "":
		m.brokers = source[*x509.CertPool]{
			part:  part{flags: "--upstream-ca-certs", files: []string{f.upstreamCAs}},
			read:  func() (*x509.CertPool, error) { return certs.LoadPool(f.upstreamCAs) },
			same:  (*x509.CertPool).Equal,
			about: func(*x509.CertPool) []any { return nil },
		}
		if err := m.brokers.first(); err != nil {
			wrong.add("--upstream-ca-certs", err)
		}
	default:
		system, err := x509.SystemCertPool()
		if err != nil || system.Equal(x509.NewCertPool()) {
			wrong.add("--upstream-ca-certs", errors.New("this system has no certificate authorities of its own: install ca-certificates, or name a file with those of the brokers"))
		}
		m.brokers.value = system
	}
	return warnings
}

// loadUpstream reads what is shown to brokers.
func (m *material) loadUpstream(f *flags, wrong *mistakes) {
	switch {
	case f.upstreamCert != "" && f.upstreamKey != "":
		m.upstream = source[tls.Certificate]{
			part:  part{flags: "--upstream-cert, --upstream-key", files: []string{f.upstreamCert, f.upstreamKey}},
			read:  func() (tls.Certificate, error) { return certs.LoadKeyPair(f.upstreamCert, f.upstreamKey) },
			same:  sameCertificate,
			about: aboutCertificate,
			doubt: func(c tls.Certificate) []string {
				doubts := endsSoon(f.upstreamCert, c.Leaf)
				if err := certs.CheckUsage(c.Leaf, x509.ExtKeyUsageClientAuth); err != nil {
					doubts = append(doubts, fmt.Sprintf("%s: %v: brokers will refuse it", f.upstreamCert, err))
				}
				return doubts
			},
		}
		if err := m.upstream.first(); err != nil {
			wrong.add("--upstream-cert, --upstream-key", err)
		}
	case f.upstreamCert != "":
		wrong.add("--upstream-cert", errors.New("needs --upstream-key, the certificate's private key"))
	case f.upstreamKey != "":
		wrong.add("--upstream-key", errors.New("needs --upstream-cert, the key's certificate"))
	}
}
