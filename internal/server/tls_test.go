package server

import (
	"crypto/tls"
	"strings"
	"testing"

	"kafka-sni-proxy/internal/kafkatest"
)

// What is refused from clients, cmd/kafka-sni-proxy tests with openssl.
func TestBrokersMustSpeakNewTLS(t *testing.T) {
	tests := []struct {
		name   string
		broker *tls.Config
		ok     bool
	}{
		{"TLS 1.3", &tls.Config{MinVersion: tls.VersionTLS13}, true},
		{"TLS 1.2 with AEAD", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}, true},
		{"TLS 1.2 with CBC", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}, false},
		{"TLS 1.1", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
	}
	for _, test := range tests {
		cluster := kafkatest.Start(t, kafkatest.Options{Brokers: 1, TLS: func(_ int32, config *tls.Config) {
			config.MinVersion, config.MaxVersion, config.CipherSuites = test.broker.MinVersion, test.broker.MaxVersion, test.broker.CipherSuites
		}})
		r := start(t, cluster, cluster.Bootstrap(), nil)
		err := r.cluster.Check(testContext(t))
		if (err == nil) != test.ok || err != nil && !strings.Contains(err.Error(), "tls: ") {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
