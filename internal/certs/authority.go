package certs

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Chain is what a server shows of itself in a handshake, in the order in which one signed the
// other. What it shows proves nothing: whoever answers there can show what he likes.
type Chain struct {
	// Shown are the certificates in the order in which they came; the first one is the server's own.
	Shown []*x509.Certificate
	// Signed are those of Shown of which each was signed by the next one, the server's own first.
	Signed []*x509.Certificate
}

// maxShown is how many certificates are looked at: each may have signed each.
const maxShown = 20

// NewChain finds out who signed whom. shown has at least one certificate; those beyond the twentieth are
// left out. But for the first one they may be in any order, and some may have signed nothing (RFC 8446, 4.4.2).
func NewChain(shown []*x509.Certificate) *Chain {
	shown = shown[:min(len(shown), maxShown)]
	c := &Chain{Shown: shown, Signed: shown[:1:1]}
	for last := shown[0]; !isSelfSigned(last); {
		i := slices.IndexFunc(shown, func(cert *x509.Certificate) bool {
			return !slices.Contains(c.Signed, cert) && bytes.Equal(cert.RawSubject, last.RawIssuer) && last.CheckSignatureFrom(cert) == nil
		})
		if i < 0 {
			break
		}
		last = shown[i]
		c.Signed = append(c.Signed, last)
	}
	return c
}

// Authority returns the certificate to trust so that the chain can be verified: the one that signed
// all others, a root if it was sent. When the server's own certificate is signed by itself, it is
// that one. nil: the server has sent none that signed its own.
func (c *Chain) Authority() *x509.Certificate {
	last := c.Signed[len(c.Signed)-1]
	if len(c.Signed) == 1 && !isSelfSigned(last) {
		return nil
	}
	return last
}

// HasRoot reports whether the chain ends with a certificate that signed itself. Otherwise there is an
// authority above the last one, which was not sent.
func (c *Chain) HasRoot() bool { return isSelfSigned(c.Signed[len(c.Signed)-1]) }

// isSelfSigned reports whether a certificate was signed with its own key. A signature of a kind that
// is not taken any more is believed: nobody looks at the one of a root.
func isSelfSigned(cert *x509.Certificate) bool {
	if !bytes.Equal(cert.RawSubject, cert.RawIssuer) {
		return false
	}
	err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature)
	return err == nil || errors.As(err, new(x509.InsecureAlgorithmError))
}

// FindAuthority reports whether a PEM file holds a certificate. When there is something else in the place
// of the file, the error says what, and errors.Is finds [io/fs.ErrExist] in it. No file is no error.
func FindAuthority(file string, cert *x509.Certificate) (bool, error) {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !info.Mode().IsRegular():
		return false, fmt.Errorf("%s is no file (%w)", file, fs.ErrExist)
	}
	content, err := readFile(file)
	if err != nil {
		return false, err
	}
	for _, block := range decodePEM(content) {
		if block.Type == "CERTIFICATE" && bytes.Equal(block.Bytes, cert.Raw) {
			return true, nil
		}
	}
	return false, fmt.Errorf("%w: %s, and does not hold this certificate", fs.ErrExist, file)
}

// SaveAuthority writes a certificate into a PEM file that everybody may read. The file is there whole or
// not at all, and never takes the place of another one: errors.Is finds [io/fs.ErrExist] then.
func SaveAuthority(file string, cert *x509.Certificate) error {
	content := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	return install(filepath.Dir(file), []File{{Name: filepath.Base(file), content: content}}, false)
}
