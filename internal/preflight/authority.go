package preflight

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/route"
)

// Shown is what a broker has shown of itself in a handshake. Nobody has verified it.
type Shown struct {
	Broker route.Address
	// WantsClient is set when the broker has asked for a client certificate.
	WantsClient bool

	*certs.Chain
	at      net.Addr
	version uint16 // of TLS
	left    int    // certificates that are not in Chain
}

// Show has a broker show its certificates. Nothing is sent to it but the handshake. The error is a
// [*cluster.ConnectError]; a broker that wants a client certificate is none.
func Show(ctx context.Context, broker route.Address, dial func(ctx context.Context, host string, port int32) (net.Conn, error), timeout time.Duration) (*Shown, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	a := &answer{}
	conn, err := (&endpoint{address: broker, tls: &tls.Config{InsecureSkipVerify: true}, dial: dial}).connect(ctx, a)
	switch {
	case err == nil:
		conn.Close()
	case a.tls == nil:
		return nil, err
	}
	all := a.tls.PeerCertificates
	s := &Shown{Broker: broker, Chain: certs.NewChain(all), WantsClient: a.wantsClient, at: a.at, version: a.tls.Version}
	s.left = len(all) - len(s.Chain.Shown)
	return s, nil
}

// Verify says why the broker would not be verified with some authorities, and what to do; "" when it would
// be: by its name, its dates, and who has signed it.
func (s *Shown) Verify(authorities *x509.CertPool) (problem, remedy string) {
	e := &endpoint{address: s.Broker, tls: &tls.Config{RootCAs: authorities}}
	err := e.verify(tls.ConnectionState{PeerCertificates: s.Chain.Shown})
	if err == nil {
		return "", ""
	}
	problem, remedy, ok := refused(err, s.Chain.Shown, time.Now(), "--upstream-ca-certs")
	if !ok {
		return oneLine(err.Error()), ""
	}
	return oneLine(problem), oneLine(remedy)
}

// Missing says which authority has signed the broker's certificate, when the broker has not sent that.
func (s *Shown) Missing() (problem, remedy string) {
	problem, remedy = unknownAuthority(s.Chain.Shown[:1], "--upstream-ca-certs")
	if urls := s.Chain.Shown[0].IssuingCertificateURL; len(urls) > 0 {
		remedy += fmt.Sprintf("; the certificate says that it is at %s", urls[0])
	}
	return oneLine(problem), oneLine(remedy)
}

// Number returns the place of a certificate among those that were shown, from 1 on.
func (s *Shown) Number(cert *x509.Certificate) int {
	for i, other := range s.Chain.Shown {
		if other == cert {
			return i + 1
		}
	}
	return 0
}

// Fingerprint is the SHA-256 of a certificate as openssl x509 -fingerprint shows it.
func Fingerprint(cert *x509.Certificate) string { return fingerprint(cert) }

// Write writes each certificate for a person.
func (s *Shown) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s) shows, with %s:\n", oneLine(s.Broker.String()), s.at, tls.VersionName(s.version))
	for i, cert := range s.Chain.Shown {
		fmt.Fprintf(&b, "\n%3d  %s\n", i+1, s.role(cert))
		for _, line := range [][2]string{
			{"subject", cert.Subject.String()},
			{"issuer", cert.Issuer.String()},
			{"names", altNames(cert)},
			{"valid", moment(cert.NotBefore) + " to " + moment(cert.NotAfter) + untimely(cert)},
			{"SHA-256", fingerprint(cert)},
		} {
			if line[1] != "" {
				fmt.Fprintf(&b, "     %-8s %s\n", line[0], oneLine(line[1]))
			}
		}
	}
	if s.left > 0 {
		fmt.Fprintf(&b, "\n%d more certificates are left out.\n", s.left)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// role says what a certificate is in its chain.
func (s *Shown) role(cert *x509.Certificate) string {
	last := s.Chain.Signed[len(s.Chain.Signed)-1]
	for i, signed := range s.Chain.Signed {
		switch {
		case signed != cert:
		case i == 0 && cert == last && s.Chain.HasRoot():
			return "the broker's own certificate, signed by itself"
		case i == 0:
			return "the broker's own certificate"
		case cert == last && s.Chain.HasRoot():
			return fmt.Sprintf("a root authority, which signed number %d", s.Number(s.Chain.Signed[i-1]))
		default:
			return fmt.Sprintf("an intermediate authority, which signed number %d", s.Number(s.Chain.Signed[i-1]))
		}
	}
	return "another certificate, which has signed none of the above"
}

// altNames are the names of a certificate that count; "" when there are none, as in those of authorities.
func altNames(cert *x509.Certificate) string {
	if len(cert.DNSNames)+len(cert.IPAddresses) == 0 {
		return ""
	}
	return namesOf(cert)
}

func untimely(cert *x509.Certificate) string {
	switch now := time.Now(); {
	case now.Before(cert.NotBefore):
		return ": NOT YET VALID"
	case now.After(cert.NotAfter):
		return ": EXPIRED"
	}
	return ""
}
