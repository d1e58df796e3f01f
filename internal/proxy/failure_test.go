package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"kafka-sni-proxy/internal/kafkatest"
	"kafka-sni-proxy/internal/route"
)

// TestRefusedCertificatesSayWhatToDo has certificates refused by each end of
// each side, in both versions of TLS.
func TestRefusedCertificatesSayWhatToDo(t *testing.T) {
	later := func() time.Time { return time.Now().Add(48 * time.Hour) } // when the tests' certificates have expired
	strangers, clients := kafkatest.NewAuthority("strangers"), kafkatest.NewAuthority("clients")
	mtls := func(p *Proxy) {
		p.Downstream.ClientAuth, p.Downstream.ClientCAs = tls.RequireAndVerifyClientCert, clients.Pool()
	}
	brokerMTLS := func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, clients.Pool() }
	for name, tc := range map[string]struct {
		client func(c *tls.Config)
		proxy  func(p *Proxy)
		broker func(c *tls.Config)
		phase  []string // one of them, by the version of TLS
		want   string
	}{
		"client does not know our CA":       {client: func(c *tls.Config) { c.RootCAs = strangers.Pool() }, phase: []string{"handshake"}, want: "give it the CA that signed --cert"},
		"client has no certificate":         {proxy: mtls, phase: []string{"handshake"}, want: "mTLS is enabled"},
		"client's certificate has expired":  {client: func(c *tls.Config) { c.Certificates = []tls.Certificate{clients.Client("alice")} }, proxy: func(p *Proxy) { mtls(p); p.Downstream.Time = later }, phase: []string{"handshake"}, want: "see its dates"},
		"broker's certificate has expired":  {proxy: func(p *Proxy) { p.Upstream.Time = later }, phase: []string{"upstream-tls"}, want: "see its dates"},
		"broker's CA is not known":          {proxy: func(p *Proxy) { p.Upstream.RootCAs = strangers.Pool() }, phase: []string{"upstream-tls"}, want: "--upstream-ca-certs"},
		"broker wants a certificate":        {broker: brokerMTLS, phase: []string{"upstream-tls", "response"}, want: "see --upstream-cert"},
		"broker does not know our CA":       {proxy: func(p *Proxy) { p.Upstream.Certificates = []tls.Certificate{strangers.Client("proxy")} }, broker: brokerMTLS, phase: []string{"upstream-tls", "response"}, want: "see --upstream-cert"},
		"our certificate expired at broker": {proxy: func(p *Proxy) { p.Upstream.Certificates = []tls.Certificate{clients.Client("proxy")} }, broker: func(c *tls.Config) { brokerMTLS(c); c.Time = later }, phase: []string{"upstream-tls", "response"}, want: "--upstream-cert"},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(fmt.Sprintf("%s, %s", name, tls.VersionName(version)), func(t *testing.T) {
				cluster := kafkatest.Start(t, kafkatest.Options{TLS: func(_ int32, c *tls.Config) {
					c.MaxVersion = version
					if tc.broker != nil {
						tc.broker(c)
					}
				}})
				r := start(t, cluster, cluster.Bootstrap(), func(p *Proxy, _ *route.Config) {
					p.Downstream.MaxVersion = version
					if tc.proxy != nil {
						tc.proxy(p)
					}
				})
				config := r.ca.ClientConfig()
				config.ServerName = "bootstrap." + suffix
				if tc.client != nil {
					tc.client(config)
				}
				if c, err := tls.Dial("tcp", r.addr, config); err == nil {
					c.Write(request(18, 0, 1))
					kafkatest.ReadFrame(c)
					c.Close()
				}
				line := r.log.wait(t, "level=WARN", "hint=", tc.want)
				for _, phase := range tc.phase {
					if r.Stats().Failures[phase] == 1 {
						return
					}
				}
				t.Errorf("want a failure in phase %v: %s", tc.phase, line)
			})
		}
	}
}

// TestAlertsOfOtherMakers has those that Go's own TLS does not send.
func TestAlertsOfOtherMakers(t *testing.T) {
	for alert, want := range map[tls.AlertError]map[phase]string{
		46:  {phaseHandshake: distrustHint, phaseUpstreamTLS: brokerDistrustHint, phaseResponse: brokerDistrustHint}, // certificate_unknown, Java's
		48:  {phaseHandshake: distrustHint, phaseRequest: distrustHint},                                              // unknown_ca, OpenSSL's
		44:  {phaseUpstreamTLS: "to the broker, the proxy's client certificate has been revoked: replace --upstream-cert"},
		116: {phaseResponse: brokerDistrustHint},
	} {
		for phase, hinted := range want {
			err := &net.OpError{Op: "remote error", Err: errors.New(alert.Error())}
			if got := hint(&phaseError{phase, fmt.Errorf("TLS with broker b: %w", err)}); got != hinted {
				t.Errorf("%v: hint %q, want %q", err, got, hinted)
			}
		}
	}
}
