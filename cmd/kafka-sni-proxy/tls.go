package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"kafka-sni-proxy/internal/certs"
)

// downstreamTLS is the configuration towards clients.
func downstreamTLS(f *flags, c *config, wrong *mistakes) *tls.Config {
	config := &tls.Config{}

	pair, err := certs.LoadKeyPair(f.cert, f.key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		wrong.add("--cert, --key", fmt.Errorf("%w: say where your certificate is, or make one here with kafka-sni-proxy --sni-suffix %s --generate-certs", err, cmp.Or(c.suffix, "<domain>")))
	case err != nil:
		wrong.add("--cert, --key", err)
	default:
		config.Certificates = []tls.Certificate{pair}
		c.warnings = append(c.warnings, doubts(f.cert, pair.Leaf, c.suffix)...)
	}

	switch {
	case f.mtlsEnable && f.mtlsDisable:
		wrong.add("--mtls-enable, --mtls-disable", errors.New("contradict each other: leave one of them out"))
	case f.mtlsEnable && f.caCerts == "":
		wrong.add("--mtls-enable", errors.New("needs --ca-certs, the file with the authorities that sign clients' certificates (ca.pem, when --generate-certs made them)"))
	case !f.mtlsEnable && f.caCerts != "":
		c.warnings = append(c.warnings, "--ca-certs does nothing without --mtls-enable: clients are not asked for certificates")
	case f.mtlsEnable:
		config.ClientAuth = tls.RequireAndVerifyClientCert
		if config.ClientCAs, err = certs.LoadPool(f.caCerts); err != nil {
			wrong.add("--ca-certs", err)
		}
	}
	return config
}

// doubts says what clients may refuse a certificate for.
func doubts(file string, leaf *x509.Certificate, suffix string) []string {
	var doubts []string
	if suffix != "" {
		if missing := certs.Uncovered(leaf, "bootstrap."+suffix, "b0."+suffix); len(missing) > 0 {
			doubts = append(doubts, fmt.Sprintf("%s does not cover %s: clients will refuse it; it should be for *.%s", file, strings.Join(missing, " and "), suffix))
		}
	}
	if err := certs.CheckUsage(leaf, x509.ExtKeyUsageServerAuth); err != nil {
		doubts = append(doubts, fmt.Sprintf("%s: %v: clients will refuse it", file, err))
	}
	if left := time.Until(leaf.NotAfter); left < 30*24*time.Hour {
		doubts = append(doubts, fmt.Sprintf("%s ends on %s: renew it soon", file, leaf.NotAfter.UTC().Format("2006-01-02 15:04 MST")))
	}
	return doubts
}

// rememberedSessions is for how many brokers TLS sessions are kept, to be
// resumed with less work: more than any cluster has.
const rememberedSessions = 1024

// upstreamTLS is the configuration towards brokers.
func upstreamTLS(f *flags, c *config, wrong *mistakes) *tls.Config {
	config := &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(rememberedSessions)}

	var err error
	switch {
	case f.trustUpstream && f.upstreamCAs != "":
		wrong.add("--upstream-ca-certs, --trust-upstream-certs", errors.New("contradict each other: leave one of them out"))
	case f.trustUpstream:
		config.InsecureSkipVerify = true
		c.warnings = append(c.warnings, "NOT VERIFYING BROKERS: with --trust-upstream-certs any certificate is taken, so that whoever gets in between can read and change everything, passwords included; use --upstream-ca-certs outside of tests")
	case f.upstreamCAs != "":
		if config.RootCAs, err = certs.LoadPool(f.upstreamCAs); err != nil {
			wrong.add("--upstream-ca-certs", err)
		}
	default:
		if config.RootCAs, err = x509.SystemCertPool(); err != nil || config.RootCAs.Equal(x509.NewCertPool()) {
			wrong.add("--upstream-ca-certs", errors.New("this system has no certificate authorities of its own: install ca-certificates, or name a file with those of the brokers"))
		}
	}

	switch {
	case f.upstreamCert != "" && f.upstreamKey != "":
		pair, err := certs.LoadKeyPair(f.upstreamCert, f.upstreamKey)
		if err != nil {
			wrong.add("--upstream-cert, --upstream-key", err)
			break
		}
		config.Certificates = []tls.Certificate{pair}
		if err := certs.CheckUsage(pair.Leaf, x509.ExtKeyUsageClientAuth); err != nil {
			c.warnings = append(c.warnings, fmt.Sprintf("%s: %v: brokers will refuse it", f.upstreamCert, err))
		}
	case f.upstreamCert != "":
		wrong.add("--upstream-cert", errors.New("needs --upstream-key, the certificate's private key"))
	case f.upstreamKey != "":
		wrong.add("--upstream-key", errors.New("needs --upstream-cert, the key's certificate"))
	}
	return config
}
