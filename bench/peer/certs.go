package peer

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"

	"kafka-sni-proxy/internal/kafkatest"
)

// WriteCertificates makes an authority and writes its certificate, and ECDSA
// P-256 certificates with keys for a proxy and for the broker under these
// names, into a folder. They are valid for a day.
func WriteCertificates(dir, proxy, broker string) error {
	authority := kafkatest.NewAuthority("bench")
	proxyCert, proxyKey, err := encode(authority.Server(proxy))
	if err != nil {
		return err
	}
	brokerCert, brokerKey, err := encode(authority.Server(broker))
	if err != nil {
		return err
	}
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

func encode(c tls.Certificate) (cert, key []byte, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
