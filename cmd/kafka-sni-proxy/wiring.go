package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/config"
	"kafka-sni-proxy/internal/reload"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/server"
	"kafka-sni-proxy/internal/session"
)

// app is the program, made of a configuration without errors and ready to serve.
type app struct {
	log    *slog.Logger
	server *server.Server
	table  *route.Table
	dialer *dialer
	files  *tlsFiles
	reload *reload.Group

	listeners   // where clients and administrators connect
	predecessor *predecessor

	routesFile   string // "": none
	drainTimeout time.Duration
	leaf         atomic.Pointer[x509.Certificate] // shown to clients
	expiry       atomic.Pointer[expiry]
}

// build checks the configuration and all that it names: the files are read, the
// ports are opened. The error has everything that is wrong; then the ports are
// closed again and nothing has been served.
func build(f *flags, stderr io.Writer) (*app, error) {
	c := f.config
	wrong, warnings := f.check()
	a := &app{drainTimeout: c.Timeouts.Drain, log: newLog(c.Log, stderr)}
	a.routesFile = checkRoutesFile(f.cluster.RoutesFile, &wrong)
	var fileWarnings []string
	a.files, fileWarnings = loadFiles(c, &wrong)
	warnings = append(warnings, fileWarnings...)
	a.listeners, a.predecessor = open(c, &wrong, &warnings)
	if len(wrong) > 0 {
		a.close()
		for _, warning := range f.warnings { // a misspelt variable may be why
			wrong = append(wrong, errors.New(warning))
		}
		return nil, wrong
	}
	if err := a.wire(c); err != nil {
		a.close()
		return nil, usageErrors{err}
	}
	a.log.Info("configured",
		"suffix", f.cluster.SNISuffix,
		"bootstrap", fmt.Sprintf("%s:%d", a.table.Bootstrap(), a.advertisedPort(f.listener)),
		"upstreams", strings.Join(f.cluster.Upstream, ","),
		"mtls", f.listener.ClientCertificates.Require,
		"hosts", a.files.hosts.Value().Len())
	for _, warning := range warnings {
		a.log.Warn(warning)
	}
	return a, nil
}

// check returns all that is wrong with the flags themselves, and warnings.
func (f *flags) check() (wrong usageErrors, warnings []string) {
	wrong, warnings = f.errors, f.warnings
	if f.force {
		wrong.add("force", errors.New("goes with --generate-certs only: leave it out to run the proxy"))
	}
	if f.listener.ClientCertificates.Require && f.mtlsDisable {
		wrong = append(wrong, errors.New("--mtls-enable, --mtls-disable: contradict each other: leave one of them out"))
		f.listener.ClientCertificates.Require = false // one error is enough
	}
	f.listener.ClientCertificates.CRL = nil
	if f.crl != "" {
		f.listener.ClientCertificates.CRL = []string{f.crl}
	}
	bad, doubtful := f.config.Validate()
	for _, err := range bad {
		wrong = append(wrong, errors.New(err.Text(flagName)))
	}
	for _, warning := range doubtful {
		warnings = append(warnings, warning.Text(flagName))
	}
	return wrong, warnings
}

// wire makes the parts of the program and puts them together.
func (a *app) wire(c *config.Config) error {
	listener, cl := c.Listeners[0], c.Clusters[config.DefaultCluster]
	a.leaf.Store(a.files.server.Value().Leaf)
	a.dialer = newDialer(a.files.hosts.Value())
	var err error
	if a.table, err = a.newTable(listener, cl); err != nil {
		return err
	}
	if err := openRoutes(a.table, a.routesFile); err != nil {
		return err
	}
	a.server = server.New(server.Config{
		Cluster: cluster.New(cluster.Config{
			Routes:        a.table,
			TLS:           a.files.upstreamTLS(),
			Dial:          a.dialer.dial,
			DialTimeout:   c.Timeouts.Dial,
			MaxFrameBytes: int(c.Limits.MaxFrame),
			IsSelf:        a.isSelf,
			Log:           a.log,
		}),
		TLS: a.files.downstreamTLS(),
		Session: session.Config{
			HandshakeTimeout: c.Timeouts.Handshake,
			IdleTimeout:      c.Timeouts.Idle,
			MaxAge:           c.Timeouts.ConnectionAge,
			TCPUserTimeout:   c.Timeouts.TCPUser,
			MaxFrameBytes:    int(c.Limits.MaxFrame),
		},
		AllowMissingSNI:         listener.AllowMissingSNI,
		MaxConnections:          c.Limits.MaxConnections,
		MaxHandshakesPerAddress: c.Limits.MaxHandshakesPerAddress,
		Log:                     a.log,
		Hint:                    hint,
	})
	a.expiry.Store(a.files.expiry())
	a.reload = a.files.group(a.log, a)
	return nil
}

// newTable returns the table of routes, with nothing in it.
func (a *app) newTable(l *config.Listener, c *config.Cluster) (*route.Table, error) {
	var upstreams []route.Address
	for _, upstream := range c.Upstream {
		address, err := route.ParseAddress(upstream)
		if err != nil {
			return nil, err
		}
		upstreams = append(upstreams, address)
	}
	rule, err := config.ParseRule(c.BrokerMappingRule)
	if err != nil {
		return nil, err
	}
	return route.New(route.Config{
		Suffix:         c.SNISuffix,
		Upstreams:      upstreams,
		Rule:           rule,
		AdvertisedPort: int32(a.advertisedPort(l)),
		Covers:         func(name string) bool { return len(certs.Uncovered(a.leaf.Load(), name)) == 0 },
		Log:            a.log,
	})
}

// advertisedPort is the port that clients are told to connect to.
func (a *app) advertisedPort(l *config.Listener) int {
	if l.AdvertisedPort != 0 {
		return l.AdvertisedPort
	}
	return a.clients[0].Addr().(*net.TCPAddr).Port
}

// isSelf reports whether a certificate has the key of the one that clients are shown: then
// whoever shows it is this proxy, or a copy of it.
func (a *app) isSelf(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawSubjectPublicKeyInfo, a.leaf.Load().RawSubjectPublicKeyInfo)
}

// Stats implements admin.Proxy.
func (a *app) Stats() server.Stats { return a.server.Stats() }

// Draining implements admin.Proxy.
func (a *app) Draining() bool { return a.server.Draining() }

// CheckUpstream implements admin.Proxy.
func (a *app) CheckUpstream(ctx context.Context) error { return a.server.Cluster().Check(ctx) }

// CheckAlive implements admin.Proxy.
func (a *app) CheckAlive(ctx context.Context, patience time.Duration) error {
	if a.server.Draining() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := a.server.CheckAccepting(ctx)
	if a.server.Draining() { // since then
		return nil
	}
	return err
}

// newLog returns the log; with settings that are wrong, one that can say so.
func newLog(c config.Log, stderr io.Writer) *slog.Logger {
	var level slog.Level
	level.UnmarshalText([]byte(c.Level))
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(stderr, options))
	}
	return slog.New(slog.NewTextHandler(stderr, options))
}
