package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"

	"kafka-sni-proxy/internal/kafkatest"
)

// brokerCA signs the certificates on the brokers' side of the proxy, and keeps
// them in files. Clients that trust the proxy's own CA refuse every one of them,
// which is one more way for a leaked address to be noticed.
type brokerCA struct {
	*kafkatest.Authority
	dir  string
	file string // ca.pem
	pool *x509.CertPool
}

func newBrokerCA(dir string) (*brokerCA, error) {
	ca := &brokerCA{Authority: kafkatest.NewAuthority("interop brokers"), dir: dir, file: filepath.Join(dir, "ca.pem")}
	ca.pool = ca.Pool()
	return ca, os.WriteFile(ca.file, ca.PEM(), 0o644)
}

// issued are the files of one certificate. store is both in one, as a Java key
// store in PEM wants them.
type issued struct{ cert, key, store string }

// write writes <name>.crt, <name>.key and <name>.pem.
func (ca *brokerCA) write(name string, pair tls.Certificate) (issued, error) {
	path := func(ending string) string { return filepath.Join(ca.dir, name+ending) }
	files := issued{cert: path(".crt"), key: path(".key"), store: path(".pem")}
	cert, key := kafkatest.EncodeKeyPair(pair)
	return files, errors.Join(
		os.WriteFile(files.cert, cert, 0o600),
		os.WriteFile(files.key, key, 0o600),
		os.WriteFile(files.store, append(bytes.Clone(key), cert...), 0o600),
	)
}
