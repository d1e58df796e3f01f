// Package certs makes and reads the certificates of the proxy.
//
// [Generate] writes everything that a first proxy and its first client need
// into one directory. [LoadKeyPair], [LoadPool] and [LoadRevoked] read files,
// whoever made them, and when they cannot, say what is wrong with the file in
// words that can be acted on. [Uncovered] and [CheckUsage] find what a certificate that
// loads well would still be refused for.
//
// The package knows nothing of flags: hints that name one are added by the
// command.
package certs

import (
	"crypto/x509"
	"errors"
	"time"
)

// RenewBefore is how long before its end a certificate is warned about.
const RenewBefore = 30 * 24 * time.Hour

// Uncovered returns those of the names that the certificate is not valid for,
// by the rules of TLS clients: subject alternative names alone count, and a
// wildcard covers one label.
func Uncovered(leaf *x509.Certificate, names ...string) []string {
	var missing []string
	for _, name := range names {
		if leaf.VerifyHostname(name) != nil {
			missing = append(missing, name)
		}
	}
	return missing
}

// CheckUsage reports a certificate whose extended key usage forbids what it is
// wanted for. One that names no usage is good for all.
func CheckUsage(leaf *x509.Certificate, want x509.ExtKeyUsage) error {
	if len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) == 0 {
		return nil
	}
	for _, usage := range leaf.ExtKeyUsage {
		if usage == want || usage == x509.ExtKeyUsageAny {
			return nil
		}
	}
	switch want {
	case x509.ExtKeyUsageServerAuth:
		return errors.New("its extended key usage lacks server authentication (serverAuth)")
	case x509.ExtKeyUsageClientAuth:
		return errors.New("its extended key usage lacks client authentication (clientAuth)")
	}
	return errors.New("its extended key usage forbids the use")
}
