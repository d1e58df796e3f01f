package certs

import (
	"crypto/tls"
	"testing"

	"kafka-sni-proxy/internal/kafkatest"
)

func TestCertificatesAreChosenByName(t *testing.T) {
	a := kafkatest.NewAuthority("a")
	all := []tls.Certificate{a.Server("first.example"), a.Server("*.orders.example", "orders.example"), a.Server("*.audit.example"), a.Server("b1.orders.example")}
	choose := ByName(all)
	for name, want := range map[string]int{
		"orders.example":     1,
		"b2.orders.example":  1,
		"B2.Orders.Example":  1,
		"b1.orders.example":  3, // the exact name comes before the wildcard
		"b1.audit.example":   2,
		"a.b1.audit.example": 0, // a wildcard is one label
		"elsewhere.example":  0,
		"":                   0,
	} {
		got, err := choose(&tls.ClientHelloInfo{ServerName: name, SupportedVersions: []uint16{tls.VersionTLS13},
			SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256}, SupportedCurves: []tls.CurveID{tls.CurveP256}})
		if err != nil || got != &all[want] {
			t.Errorf("%s: %v, %v", name, got.Leaf.DNSNames, err)
		}
	}
}
