package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"os"
)

// ChainWarning returns a warning when a certificate is shown without the one of the
// authority that signed it, and that is not known to be one that clients trust by itself:
// a root of this system, or self-signed in one of the files beside. Clients that do not
// have the intermediate certificate refuse such a chain. "" when there is nothing to say.
func ChainWarning(file string, pair tls.Certificate, beside ...string) string {
	last := pair.Leaf
	for _, der := range pair.Certificate[1:] {
		next, err := x509.ParseCertificate(der)
		if err != nil || !bytes.Equal(next.RawSubject, last.RawIssuer) {
			break
		}
		last = next
	}
	if last != pair.Leaf || bytes.Equal(last.RawIssuer, last.RawSubject) || isRootIn(last, beside) || isSystemRoot(last) { // in this order: the system's roots take a megabyte
		return ""
	}
	const text = "%s holds no certificate of %q, which signed the one in it: if that is an intermediate authority, append its certificate to the file, or clients will refuse the connection; if clients trust it directly, all is well"
	return fmt.Sprintf(text, file, last.Issuer.String())
}

// isSystemRoot reports whether a root of this system signed a certificate.
func isSystemRoot(cert *x509.Certificate) bool {
	roots, err := x509.SystemCertPool()
	if err != nil {
		return false
	}
	_, err = cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err == nil
}

// isRootIn reports whether a self-signed certificate in one of the files signed a
// certificate. Files that cannot be read have none.
func isRootIn(cert *x509.Certificate, files []string) bool {
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for _, block := range decodePEM(content) {
			root, err := x509.ParseCertificate(block.Bytes)
			if err == nil && bytes.Equal(root.RawSubject, root.RawIssuer) && cert.CheckSignatureFrom(root) == nil {
				return true
			}
		}
	}
	return false
}

// KeyWarning returns a warning when everybody on the machine may read a private key; ""
// when not.
func KeyWarning(file string) string {
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm()&0o004 == 0 {
		return ""
	}
	return fmt.Sprintf("%s is a private key that everybody on this machine may read (mode %s): chmod 600 %s, or defaultMode: 0400 for a Kubernetes secret", file, fs.FileMode.Perm(info.Mode()), file)
}
