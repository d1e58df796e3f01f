package tlswire

import "crypto/tls"

// cipherSuites are those of TLS 1.2 that are spoken: with forward secrecy and
// authenticated encryption. The list of crypto/tls also has some with CBC and SHA-1.
// TLS 1.3 has only such suites.
var cipherSuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// Harden returns a copy of a configuration with what every connection needs here: TLS
// 1.2 or newer, authenticated encryption, and full records from the first one on.
func Harden(config *tls.Config) *tls.Config {
	config = config.Clone()
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	config.CipherSuites = cipherSuites
	config.DynamicRecordSizingDisabled = true
	return config
}
