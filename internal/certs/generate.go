package certs

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"time"
)

// GenerateOptions says what to make and where.
type GenerateOptions struct {
	// Dir is the directory to write to; it must exist. "" is the current one.
	Dir string
	// Suffix is the domain under which clients see the brokers, in lower case
	// and without dots at its ends. The server certificate is for it and for
	// every name one label below it.
	Suffix string
	// Names are what the server certificate is for instead of Suffix: host names, also
	// with a wildcard, and IP addresses.
	Names []string
	// Bootstrap is the host that clients bootstrap from. "": bootstrap.<Suffix>.
	Bootstrap string
	// Port is the port that clients are told to connect to.
	Port int
	// Force replaces files that exist.
	Force bool
	// Now is the time from which the certificates are valid; zero is the present.
	Now time.Time
}

// File is one generated file.
type File struct {
	Name    string
	Purpose string
	// Secret is set for files with a private key in them; they have mode 0600,
	// the others 0644.
	Secret bool
	// NotAfter is when the certificate in it ends; zero for keys.
	NotAfter time.Time

	content []byte
}

const validYears = 20

// Generate makes a certificate authority, a server certificate for the proxy,
// a client certificate and the settings of a Java client, each with its key,
// and writes them as ca.pem, ca_key.pem, server.pem, server_key.pem,
// client.pem, client_key.pem and client.properties. Keys are ECDSA P-256 in
// PKCS#8; all certificates end on the same day in 20 years.
//
// Either all files are written or none is. When some exist and Force is not
// set, the error names them and errors.Is finds [io/fs.ErrExist] in it.
func Generate(o GenerateOptions) ([]File, error) {
	files, err := generate(o)
	if err != nil {
		return nil, err
	}
	if err := install(o.Dir, files, o.Force); err != nil {
		return nil, err
	}
	return files, nil
}

func generate(o GenerateOptions) ([]File, error) {
	now := o.Now
	if now.IsZero() {
		now = time.Now()
	}
	// An hour back, for clients whose clocks are behind.
	notBefore, notAfter := now.Add(-time.Hour), now.AddDate(validYears, 0, 0)

	ca, err := issue(nil, x509.Certificate{
		NotBefore: notBefore, NotAfter: notAfter,
		IsCA: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, "kafka-sni-proxy CA")
	if err != nil {
		return nil, fmt.Errorf("making the certificate authority: %w", err)
	}
	names, addresses := o.serverNames()
	server, err := issue(ca, x509.Certificate{
		NotBefore: notBefore, NotAfter: notAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    names,
		IPAddresses: addresses,
	}, "kafka-sni-proxy server")
	if err != nil {
		return nil, fmt.Errorf("making the server certificate: %w", err)
	}
	client, err := issue(ca, x509.Certificate{
		NotBefore: notBefore, NotAfter: notAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, "kafka-sni-proxy client")
	if err != nil {
		return nil, fmt.Errorf("making the client certificate: %w", err)
	}

	return []File{
		{Name: "ca.pem", NotAfter: notAfter, content: ca.certPEM,
			Purpose: "certificate authority: what clients trust; and the proxy, of clients, with mTLS"},
		{Name: "ca_key.pem", Secret: true, content: ca.keyPEM,
			Purpose: "its key: signs further certificates; not needed to run, keep it elsewhere"},
		{Name: "server.pem", NotAfter: notAfter, content: server.certPEM,
			Purpose: "the proxy's certificate: " + strings.Join(names, ", ")},
		{Name: "server_key.pem", Secret: true, content: server.keyPEM,
			Purpose: "its key"},
		{Name: "client.pem", NotAfter: notAfter, content: client.certPEM,
			Purpose: "a client's certificate, for mTLS"},
		{Name: "client_key.pem", Secret: true, content: client.keyPEM,
			Purpose: "its key"},
		{Name: "client.properties", Secret: true, NotAfter: notAfter, content: clientProperties(o, ca, client),
			Purpose: "settings of a Java client: all it needs is inside, its certificate and key too"},
	}, nil
}

// serverNames are what the server certificate is for.
func (o *GenerateOptions) serverNames() (names []string, addresses []net.IP) {
	all := o.Names
	if len(all) == 0 {
		all = []string{o.Suffix, "*." + o.Suffix}
	}
	addresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	for _, name := range append(slices.Clone(all), "localhost") {
		switch ip := net.ParseIP(name); {
		case ip != nil:
			addresses = append(addresses, ip)
		case !slices.Contains(names, name):
			names = append(names, name)
		}
	}
	return names, addresses
}

// authority is a certificate that was issued, with its key.
type authority struct {
	cert            *x509.Certificate
	key             *ecdsa.PrivateKey
	certPEM, keyPEM []byte
}

// issue makes a key and has a certificate for it signed by the parent, or by
// itself when there is none.
func issue(parent *authority, template x509.Certificate, name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	// The point is the last 65 bytes of a P-256 public key (RFC 5480); its
	// truncated hash names the key (RFC 7093, method 1).
	id := sha256.Sum256(public[len(public)-65:])
	template.SubjectKeyId = id[:20]
	// With a part of the key in it the name of an authority is its own, so that
	// trust stores never take an earlier one for it.
	template.Subject = pkix.Name{CommonName: fmt.Sprintf("%s %x", name, id[:4])}
	template.BasicConstraintsValid = true
	template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}

	signer, signerKey := &template, key
	if parent != nil {
		signer, signerKey = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, signer, key.Public(), signerKey)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &authority{
		cert:    cert,
		key:     key,
		certPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		keyPEM:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	}, nil
}

// clientProperties writes the settings with the certificates in them (KIP-651)
// rather than beside them: a path would be relative to wherever the client is
// started, and one file is easier to hand on than four. Giving a certificate
// does no harm when the proxy asks for none.
func clientProperties(o GenerateOptions, ca, client *authority) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `# TLS settings for Java clients of kafka-sni-proxy, for example
#   kafka-topics.sh --bootstrap-server %[1]s:%[2]d --command-config client.properties --list
# This file contains a private key.

bootstrap.servers=%[1]s:%[2]d

# When the cluster wants a login, as Confluent Cloud does, take SASL_SSL instead
# and fill in the two lines below it.
security.protocol=SSL
#security.protocol=SASL_SSL
#sasl.mechanism=PLAIN
#sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="KEY" password="SECRET";

# Whom to trust: the certificate authority of the proxy (ca.pem).
ssl.truststore.type=PEM
ssl.truststore.certificates=%[3]s

# Who this client is, for a proxy that runs with --mtls-enable (client.pem and
# client_key.pem). Without mTLS these lines can be deleted.
ssl.keystore.type=PEM
ssl.keystore.certificate.chain=%[4]s
ssl.keystore.key=%[5]s
`, cmp.Or(o.Bootstrap, "bootstrap."+o.Suffix), o.Port, propertyValue(ca.certPEM), propertyValue(client.certPEM), propertyValue(client.keyPEM))
	return []byte(b.String())
}

// propertyValue writes a text of several lines as one value of a Java
// properties file: "\n" stands for the line's end, and "\" for the value going
// on.
func propertyValue(text []byte) string {
	return strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\\n\\\n")
}
