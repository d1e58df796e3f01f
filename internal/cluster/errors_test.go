package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"testing"
)

func TestCertificatesWithManyNamesAreToldInShort(t *testing.T) {
	cert := &x509.Certificate{}
	for i := range 100_000 {
		cert.DNSNames = append(cert.DNSNames, fmt.Sprintf("b%d.test", i))
	}
	told := certificateShown(&tls.CertificateVerificationError{UnverifiedCertificates: []*x509.Certificate{cert}, Err: x509.UnknownAuthorityError{}})
	want := ` (its certificate "" is for b0.test, b1.test, b2.test, b3.test, b4.test and 99995 more, signed by "")`
	if told != want {
		t.Errorf("%.300s", told)
	}
}
