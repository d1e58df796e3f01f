package kafkatest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Authority signs certificates. It lives in memory only.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes a certificate authority of its own.
func NewAuthority(name string) *Authority {
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "kafkatest " + name},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	a := new(Authority)
	a.cert, a.key = a.sign(template)
	return a
}

// Pool returns a pool with the authority's certificate alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// PEM returns the authority's certificate as a file would hold it.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// Server returns a server's certificate for these host names and IP addresses.
func (a *Authority) Server(names ...string) tls.Certificate {
	return a.ServerUntil(time.Time{}, names...)
}

// ServerUntil is Server for a certificate that expires at a certain time, to the second; the
// zero time stands for that of all others.
func (a *Authority) ServerUntil(end time.Time, names ...string) tls.Certificate {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: names[0]},
		NotAfter:    end,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return a.leaf(template)
}

// Client returns a client's certificate.
func (a *Authority) Client(name string) tls.Certificate {
	return a.leaf(&x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// ServerConfig returns what a proxy needs towards its clients: a certificate
// for the suffix and every name one label below it.
func (a *Authority) ServerConfig(suffix string) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{a.Server("*."+suffix, suffix, "localhost", "127.0.0.1", "::1")},
		MinVersion:   tls.VersionTLS12,
	}
}

// ClientConfig returns what a client needs to trust the authority's servers,
// with these certificates to show when it is asked for one.
func (a *Authority) ClientConfig(certs ...tls.Certificate) *tls.Config {
	return &tls.Config{
		RootCAs:      a.Pool(),
		Certificates: certs,
		MinVersion:   tls.VersionTLS12,
	}
}

// EncodeKeyPair returns a certificate and its key as PEM files would hold them.
func EncodeKeyPair(pair tls.Certificate) (cert, key []byte) {
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		panic(fmt.Sprintf("kafkatest: encoding a key: %v", err))
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// WriteKeyPair writes name.pem and name_key.pem into a folder. Each takes the
// place of an older one at once, the key first: who watches the certificate's file
// finds its key there.
func WriteKeyPair(dir, name string, pair tls.Certificate) error {
	cert, key := EncodeKeyPair(pair)
	replace := func(file string, content []byte) error {
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path+".new", content, 0o600); err != nil {
			return err
		}
		return os.Rename(path+".new", path)
	}
	return errors.Join(replace(name+"_key.pem", key), replace(name+".pem", cert))
}

func (a *Authority) leaf(template *x509.Certificate) tls.Certificate {
	cert, key := a.sign(template)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// sign makes a key and has the authority, or the key itself when the authority
// has none yet, sign the template. What can go wrong here is a mistake in a
// test (a name that no certificate can carry), hence the panic.
func (a *Authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(fmt.Sprintf("kafkatest: making a key: %v", err))
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(fmt.Sprintf("kafkatest: choosing a serial number: %v", err))
	}
	template.SerialNumber = serial
	// An hour on either side: clocks of test machines jump.
	template.NotBefore = time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(24 * time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		panic(fmt.Sprintf("kafkatest: signing a certificate for %q: %v", template.Subject.CommonName, err))
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(fmt.Sprintf("kafkatest: reading back a certificate: %v", err))
	}
	return cert, key
}

// PEM returns a certificate and its key as files have them.
func PEM(c tls.Certificate) (cert, key []byte) {
	for _, der := range c.Certificate {
		cert = append(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		panic(err) // it was made here
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
