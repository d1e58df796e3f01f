package oauth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

const (
	// requestTimeout bounds a request to an issuer, for which clients may wait.
	requestTimeout = 10 * time.Second
	// maxRedirects is how many redirects are followed.
	maxRedirects = 3
)

// newClient returns what asks an issuer. authorities are those of its server, in PEM; nil:
// those of the system. A proxy is as the environment says (HTTPS_PROXY).
func newClient(authorities []byte) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	transport.MaxIdleConns, transport.MaxResponseHeaderBytes = 4, 64<<10
	if authorities != nil {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(authorities) {
			return nil, errors.New("there is no certificate in the file of authorities")
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	return &http.Client{Transport: transport, Timeout: requestTimeout, CheckRedirect: checkRedirect}, nil
}

// checkRedirect keeps to https, but on this machine.
func checkRedirect(next *http.Request, before []*http.Request) error {
	switch {
	case len(before) > maxRedirects:
		return fmt.Errorf("more than %d redirects", maxRedirects)
	case next.URL.Scheme != "https" && !(before[0].URL.Scheme == "http" && isLoopback(next.URL.Hostname())):
		return errors.New("it redirects to " + next.URL.Scheme + "://, which anybody could change on its way")
	}
	return nil
}

func isLoopback(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }
