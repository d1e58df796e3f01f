package certs

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// LoadKeyPair reads a certificate, followed by intermediate ones if there are
// any, and its private key (PKCS#8, PKCS#1 or SEC 1), all in PEM; both may be
// in one file. The certificate must be valid now. The error joins all that is
// wrong, and each part names the file. The Leaf of the result is set.
func LoadKeyPair(certFile, keyFile string) (tls.Certificate, error) {
	chain, certErr := loadChain(certFile)
	key, keyErr := loadKey(keyFile)
	if len(chain) > 0 && key != nil {
		keyErr = matches(chain, key, certFile, keyFile)
	}
	if err := errors.Join(certErr, keyErr); err != nil {
		return tls.Certificate{}, err
	}
	pair := tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, cert := range chain {
		pair.Certificate = append(pair.Certificate, cert.Raw)
	}
	return pair, nil
}

// MismatchError is of a certificate and a key that do not belong together, as is so
// for a moment when they are replaced one after the other.
type MismatchError struct{ CertFile, KeyFile string }

func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s is not the private key of the certificate in %s: take the two files that were made together", e.KeyFile, e.CertFile)
}

// LoadAuthorities reads the certificates to trust from a PEM file. At least one
// must be valid now: bundles keep some that have expired.
func LoadAuthorities(file string) ([]*x509.Certificate, error) {
	blocks, err := readPEM(file)
	if err != nil {
		return nil, err
	}
	certs, err := parseCertificates(file, blocks)
	if err != nil {
		return nil, err
	}
	var expired error
	for _, cert := range certs {
		if expired = checkValidity(file, cert); expired == nil {
			return certs, nil
		}
	}
	return nil, expired
}

// LoadPool is [LoadAuthorities], for crypto/tls.
func LoadPool(file string) (*x509.CertPool, error) {
	authorities, err := LoadAuthorities(file)
	if err != nil {
		return nil, err
	}
	return Pool(authorities), nil
}

// Pool makes a pool of certificates.
func Pool(certs []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, cert := range certs {
		pool.AddCert(cert)
	}
	return pool
}

// loadChain returns the certificates also when the first one is not valid now,
// so that its key can be checked all the same.
func loadChain(file string) ([]*x509.Certificate, error) {
	blocks, err := readPEM(file)
	if err != nil {
		return nil, err
	}
	chain, err := parseCertificates(file, blocks)
	if err != nil {
		return nil, err
	}
	return chain, checkValidity(file, chain[0])
}

func parseCertificates(file string, blocks []*pem.Block) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	hasKey := false
	for _, block := range blocks {
		hasKey = hasKey || strings.HasSuffix(block.Type, "PRIVATE KEY")
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d in it is damaged: %w", file, len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 && hasKey {
		return nil, fmt.Errorf("%s holds a private key and no certificate: are the two files swapped?", file)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%s holds no certificate, only %q", file, blocks[0].Type)
	}
	return certs, nil
}

// minute is the form of points in time in messages.
const minute = "2006-01-02 15:04 MST"

func checkValidity(file string, cert *x509.Certificate) error {
	now := time.Now()
	switch {
	case now.After(cert.NotAfter):
		return fmt.Errorf("%s: the certificate %s expired on %s: renew it", file, title(cert), cert.NotAfter.UTC().Format(minute))
	case now.Before(cert.NotBefore):
		return fmt.Errorf("%s: the certificate %s is not valid before %s: is this machine's clock right?", file, title(cert), cert.NotBefore.UTC().Format(minute))
	}
	return nil
}

func title(cert *x509.Certificate) string {
	if name := cert.Subject.String(); name != "" {
		return fmt.Sprintf("%q", name)
	}
	return fmt.Sprintf("for %q", strings.Join(cert.DNSNames, ", "))
}

func loadKey(file string) (crypto.Signer, error) {
	blocks, err := readPEM(file)
	if err != nil {
		return nil, err
	}
	for _, block := range blocks {
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue // certificates, "EC PARAMETERS"
		}
		return parseKey(file, block)
	}
	if blocks[0].Type == "CERTIFICATE" {
		return nil, fmt.Errorf("%s holds a certificate and no private key: are the two files swapped?", file)
	}
	return nil, fmt.Errorf("%s holds no private key, only %q", file, blocks[0].Type)
}

func parseKey(file string, block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch {
	case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
		return nil, fmt.Errorf("%s: the private key is encrypted: write it without a password, with openssl pkey -in %s -out plain_key.pem", file, file)
	case block.Type == "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case block.Type == "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case block.Type == "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("%s: a private key of the form %q cannot be used here: convert it with openssl pkey", file, block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: the private key is damaged: %w", file, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: a key of type %T cannot sign: TLS needs RSA, ECDSA or Ed25519", file, key)
	}
	return signer, nil
}

// matches reports a key that is not that of the first certificate.
func matches(chain []*x509.Certificate, key crypto.Signer, certFile, keyFile string) error {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return fmt.Errorf("%s: a key of type %T cannot be used for TLS", keyFile, key)
	}
	for i, cert := range chain {
		if !public.Equal(cert.PublicKey) {
			continue
		}
		if i > 0 {
			return fmt.Errorf("%s: the certificate of the key in %s is number %d there: put it first, and the one that signed it after it", certFile, keyFile, i+1)
		}
		return nil
	}
	return &MismatchError{certFile, keyFile}
}

// readPEM returns the PEM blocks in a file, at least one.
func readPEM(file string) ([]*pem.Block, error) {
	content, err := readFile(file)
	if err != nil {
		return nil, err
	}
	blocks := decodePEM(content)
	if len(blocks) == 0 {
		return nil, fmt.Errorf("%s %s", file, otherFormat(file, content))
	}
	if want := bytes.Count(content, pemBegin); want > len(blocks) { // some were passed over
		return nil, fmt.Errorf("%s has %d parts that begin with -----BEGIN, of which only %d can be read: each has to be on lines of its own, with a -----END that matches; compare the file with its original", file, want, len(blocks))
	}
	return blocks, nil
}

var pemBegin = []byte("-----BEGIN ")

// byteOrderMark is what some editors put before text in UTF-8. encoding/pem would pass
// over the first block for it.
var byteOrderMark = []byte{0xef, 0xbb, 0xbf}

func decodePEM(content []byte) (blocks []*pem.Block) {
	content = bytes.TrimPrefix(content, byteOrderMark)
	for {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			return blocks
		}
		blocks = append(blocks, block)
	}
}

func readFile(file string) ([]byte, error) {
	content, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &fileError{file, "does not exist", err}
	case errors.Is(err, fs.ErrPermission):
		return nil, &fileError{file, "may not be read by this user: look at its owner and mode, and those of its directory", err}
	}
	return content, err
}

// otherFormat says what a file is that is not PEM, as well as one can tell.
func otherFormat(file string, content []byte) string {
	if len(content) == 0 {
		return "is empty"
	}
	if bytes.HasPrefix(content, []byte{0xff, 0xfe}) || bytes.HasPrefix(content, []byte{0xfe, 0xff}) {
		return "is text in UTF-16: save it as plain text (ASCII or UTF-8)"
	}
	if bytes.Contains(content, pemBegin) {
		return "holds damaged PEM: compare it with its original"
	}
	if bytes.HasPrefix(content, []byte{0xfe, 0xed, 0xfe, 0xed}) {
		return "is a Java key store: PEM is needed, see keytool -importkeystore -deststoretype PKCS12 and openssl pkcs12"
	}
	if _, err := x509.ParseCertificate(content); err == nil {
		return "is a certificate in DER: PEM is needed, see openssl x509 -inform der -in " + file
	}
	if content[0] == 0x30 { // an ASN.1 sequence
		return "is binary: PEM is needed, see openssl pkcs12 -nodes -in " + file + " (.p12, .pfx) or openssl pkey -inform der -in " + file + " (a key in DER)"
	}
	return "is not PEM: there is no line with -----BEGIN in it"
}

// fileError says in our words why a file could not be read, and keeps the cause
// for errors.Is.
type fileError struct {
	file, problem string
	cause         error
}

func (e *fileError) Error() string { return e.file + " " + e.problem }
func (e *fileError) Unwrap() error { return e.cause }
