package preflight

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
)

// describeTLS says what was agreed on, and what the other end's certificate is.
func describeTLS(s *tls.ConnectionState) string {
	leaf := s.PeerCertificates[0]
	return fmt.Sprintf("%s, certificate for %s until %s, signed by %q",
		tls.VersionName(s.Version), namesOf(leaf), day(leaf.NotAfter), leaf.Issuer.String())
}

// maxNames is how many names of a certificate are told. It may have thousands.
const maxNames = 3

func namesOf(cert *x509.Certificate) string {
	names := append([]string{}, cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return fmt.Sprintf("no host name (%q)", cert.Subject.String())
	}
	list := strings.Join(names[:min(len(names), maxNames)], ", ")
	if more := len(names) - maxNames; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02") }

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// fingerprint is the SHA-256 of a certificate as openssl x509 -fingerprint shows it.
func fingerprint(cert *x509.Certificate) string {
	return colons(sha256sum(cert.Raw))
}

func sha256sum(b []byte) []byte { sum := sha256.Sum256(b); return sum[:] }

func colons(b []byte) string {
	return strings.ReplaceAll(strings.ToUpper(fmt.Sprintf("% x", b)), " ", ":")
}

// refused says why a certificate was refused, and what to do. trust is the setting for more
// authorities. ok is false for errors of another kind.
func refused(err error, shown []*x509.Certificate, now time.Time, trust string) (result, remedy string, ok bool) {
	var (
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		host      x509.HostnameError
	)
	switch {
	case len(shown) == 0:
		return "", "", false
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		result, remedy = outOfTime(invalid.Cert, now)
	case errors.As(err, &authority):
		result, remedy = unknownAuthority(shown, trust)
	case errors.As(err, &host):
		result = fmt.Sprintf("the certificate is for %s, and not for %s", namesOf(shown[0]), host.Host)
		remedy = "connect by a name that the certificate covers, or have its owner add this one"
	case errors.As(err, &invalid):
		result = fmt.Sprintf("the certificate %q cannot be used: %v", shown[0].Subject.String(), invalid)
		remedy = "have its owner replace it: see its key usage and its chain"
	default:
		return "", "", false
	}
	return result, remedy, true
}

// outOfTime is of a certificate that is not valid now.
func outOfTime(cert *x509.Certificate, now time.Time) (result, remedy string) {
	if now.Before(cert.NotBefore) {
		return fmt.Sprintf("the certificate %q is valid from %s on, and this machine's clock says %s", cert.Subject.String(), moment(cert.NotBefore), moment(now)),
			"set this machine's clock (timedatectl, or its NTP service); if it is right, the certificate was made on a machine whose clock is wrong"
	}
	return fmt.Sprintf("the certificate %q expired on %s, and this machine's clock says %s", cert.Subject.String(), moment(cert.NotAfter), moment(now)),
		"have its owner renew it; if it is not expired, set this machine's clock"
}

// unknownAuthority says which authority would have to be trusted.
func unknownAuthority(shown []*x509.Certificate, trust string) (result, remedy string) {
	last := shown[0]
	for _, next := range shown[1:] {
		if !bytes.Equal(next.RawSubject, last.RawIssuer) {
			break
		}
		last = next
	}
	issuer := last.Issuer.String()
	if bytes.Equal(last.RawIssuer, last.RawSubject) { // the root itself was sent
		return fmt.Sprintf("the certificate is signed by the authority %q, which is not trusted (its SHA-256 fingerprint: %s)", issuer, fingerprint(last)),
			fmt.Sprintf("compare the fingerprint with the owner's, and give that authority's certificate with %s", trust)
	}
	keyID := ""
	if len(last.AuthorityKeyId) > 0 {
		keyID = ", key id " + colons(last.AuthorityKeyId)
	}
	result = fmt.Sprintf("the certificate %q is signed by %q%s, which was not sent and is not trusted", last.Subject.String(), issuer, keyID)
	if last == shown[0] {
		return result, fmt.Sprintf("if %q is an intermediate authority, the chain is incomplete: the server has to send that certificate, too (its keystore needs the whole chain). If it is a root, give its certificate with %s", issuer, trust)
	}
	return result, fmt.Sprintf("give the certificate of %q with %s", issuer, trust)
}
