package peer

import (
	"bytes"
	"os"
	"path/filepath"

	"kafka-sni-proxy/internal/kafkatest"
)

// WriteCertificates makes an authority and writes its certificate, and ECDSA
// P-256 certificates with keys for a proxy and for the broker under these
// names, into a folder. They are valid for a day.
func WriteCertificates(dir, proxy, broker string) error {
	authority := kafkatest.NewAuthority("bench")
	proxyCert, proxyKey := kafkatest.EncodeKeyPair(authority.Server(proxy))
	brokerCert, brokerKey := kafkatest.EncodeKeyPair(authority.Server(broker))
	for name, content := range map[string][]byte{
		CAFile:         authority.PEM(),
		ProxyCertFile:  append(bytes.Clone(proxyCert), proxyKey...),
		ProxyKeyFile:   proxyKey,
		BrokerCertFile: brokerCert,
		BrokerKeyFile:  brokerKey,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}
