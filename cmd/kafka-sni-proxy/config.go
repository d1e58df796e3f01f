package main

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/server"
	"kafka-sni-proxy/internal/session"
)

// config is a configuration without mistakes, ready to be served.
type config struct {
	server      *server.Server
	table       *route.Table
	places      // where clients and administrators connect
	predecessor *predecessor
	routes      string // file to keep routes in; "": none
	log         *slog.Logger
	suffix      string

	drainTimeout time.Duration

	// What can be reloaded, and who is told.
	material *material
	reloader *reloader
	dialer   *dialer
	leaf     atomic.Pointer[x509.Certificate] // shown to clients
}

// configure checks the flags and all that they name: the files are read, the
// ports are opened. The error has every mistake there is; then the ports are
// closed again and nothing has been served.
func configure(f *flags, stderr io.Writer) (*config, error) {
	wrong := f.wrong
	warnings := f.doubtful
	c := &config{drainTimeout: f.drainTimeout}

	c.log = newLog(f, stderr, &wrong)
	c.suffix = checkSuffix(f.sniSuffix, &wrong)
	upstreams := checkUpstreams(f.upstream, &wrong)
	rule := checkRule(f.mappingRule, &wrong)
	if rule != nil && c.suffix != "" {
		if err := rule.Outside(c.suffix); err != nil {
			warnings = append(warnings, "--broker-mapping-rule: "+err.Error())
		}
	}
	c.routes = checkRoutesFile(f.routesFile, &wrong)
	var doubts []string
	c.material, doubts = loadMaterial(f, c.suffix, &wrong)
	warnings = append(warnings, doubts...)
	if f.maxFrameBytes < 1024 || f.maxFrameBytes > math.MaxInt32 {
		wrong.add("--max-frame-bytes", fmt.Errorf("%d is not within 1024 and %d; 104857600 (100 MiB) is what brokers accept by default", f.maxFrameBytes, math.MaxInt32))
	}
	if f.drainTimeout < 0 {
		wrong.add("--drain-timeout", fmt.Errorf("%v is less than nothing: choose how long requests under way may take, such as 30s", f.drainTimeout))
	}
	checkLimits(f, &wrong)
	if f.force {
		wrong.add("--force", errors.New("goes with --generate-certs only: leave it out to run the proxy"))
	}
	c.places, c.predecessor = open(f, &wrong, &warnings)
	advertised := f.advertisedPort
	if advertised == 0 && len(c.clients) > 0 {
		advertised = c.clients[0].Addr().(*net.TCPAddr).Port
	} else if advertised < 0 || advertised > math.MaxUint16 {
		wrong.add("--advertised-port", fmt.Errorf("%d is not a port: choose one from 1 to 65535, or 0 for that of --bind", advertised))
	}
	if len(wrong) > 0 {
		c.close()
		for _, doubt := range f.doubtful { // a misspelt variable may be why
			wrong = append(wrong, errors.New(doubt))
		}
		return nil, wrong
	}

	c.leaf.Store(c.material.server.value.Leaf)
	c.dialer = newDialer(c.material.hosts.value)
	routes, err := route.New(route.Config{
		Suffix:         c.suffix,
		Upstreams:      upstreams,
		Rule:           rule,
		AdvertisedPort: int32(advertised),
		Covers:         func(name string) bool { return len(certs.Uncovered(c.leaf.Load(), name)) == 0 },
		Log:            c.log,
	})
	if err == nil {
		err = openRoutes(routes, c.routes)
	}
	if err != nil {
		c.close()
		return nil, mistakes{err}
	}
	c.table = routes
	c.server = server.New(server.Config{
		Cluster: cluster.New(cluster.Config{
			Routes:        routes,
			TLS:           c.material.upstreamTLS(),
			Dial:          c.dialer.dial,
			DialTimeout:   f.timeouts.dial,
			MaxFrameBytes: f.maxFrameBytes,
			IsSelf:        c.isSelf,
			Log:           c.log,
		}),
		TLS: c.material.downstreamTLS(),
		Session: session.Config{
			HandshakeTimeout: f.timeouts.handshake,
			IdleTimeout:      f.timeouts.idle,
			MaxAge:           f.timeouts.age,
			TCPUserTimeout:   f.timeouts.tcpUser,
			MaxFrameBytes:    f.maxFrameBytes,
		},
		AllowMissingSNI:         f.allowNoSNI,
		MaxConnections:          f.maxConnections,
		MaxHandshakesPerAddress: f.maxHandshakes,
		Log:                     c.log,
		Hint:                    hint,
	})
	c.reloader = newReloader(c)
	c.log.Info("configured",
		"suffix", c.suffix,
		"bootstrap", fmt.Sprintf("%s:%d", routes.Bootstrap(), advertised),
		"upstreams", strings.Join(f.upstream, ","),
		"mtls", f.mtlsEnable,
		"hosts", c.material.hosts.value.Len())
	for _, warning := range warnings {
		c.log.Warn(warning)
	}
	return c, nil
}

// isSelf reports whether a certificate has the key of the one that clients are shown: then
// whoever shows it is this proxy, or a copy of it.
func (c *config) isSelf(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawSubjectPublicKeyInfo, c.leaf.Load().RawSubjectPublicKeyInfo)
}

// checkLimits checks the timeouts and the numbers of connections. What is shorter
// than a second is a mistake in the unit.
func checkLimits(f *flags, wrong *mistakes) {
	for _, limit := range []struct {
		flag     string
		value    time.Duration
		required bool
	}{
		{"--handshake-timeout", f.timeouts.handshake, true},
		{"--dial-timeout", f.timeouts.dial, true},
		{"--idle-timeout", f.timeouts.idle, false},
		{"--max-connection-age", f.timeouts.age, false},
		{"--tcp-user-timeout", f.timeouts.tcpUser, false},
	} {
		switch {
		case limit.value >= time.Second, limit.value == 0 && !limit.required:
		case limit.required:
			wrong.add(limit.flag, fmt.Errorf("%s is too short: choose a second or more, such as 10s", limit.value))
		default:
			wrong.add(limit.flag, fmt.Errorf("%s is too short: choose a second or more, such as 10m, or 0 for none", limit.value))
		}
	}
	if f.maxConnections < 0 {
		wrong.add("--max-connections", fmt.Errorf("%d is not a number of connections: choose 1 or more, or 0 for no limit", f.maxConnections))
	}
	if f.maxHandshakes < 0 {
		wrong.add("--max-handshakes-per-address", fmt.Errorf("%d is not a number of handshakes: choose 1 or more, or 0 for no limit", f.maxHandshakes))
	}
}

func newLog(f *flags, stderr io.Writer, wrong *mistakes) *slog.Logger {
	var level slog.Level
	if levels := []string{"debug", "info", "warn", "error"}; !slices.Contains(levels, f.logLevel) {
		wrong.add("--log-level", fmt.Errorf("%q is not a level: choose debug, info, warn or error", f.logLevel))
	} else if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		wrong.add("--log-level", err)
	}
	options := &slog.HandlerOptions{Level: level}
	switch f.logFormat {
	case "json":
		return slog.New(slog.NewJSONHandler(stderr, options))
	case "text":
	default:
		wrong.add("--log-format", fmt.Errorf("%q is not a format: choose text or json", f.logFormat))
	}
	return slog.New(slog.NewTextHandler(stderr, options))
}

// checkSuffix returns the suffix as the rest of the program wants it. People
// also write it as ".kafka.example.com" and "*.kafka.example.com".
func checkSuffix(suffix string, wrong *mistakes) string {
	if suffix == "" {
		wrong.add("--sni-suffix", errors.New("required: the domain under which clients see the brokers, such as kafka.example.com"))
		return ""
	}
	trimmed := strings.TrimPrefix(strings.TrimPrefix(suffix, "*"), ".")
	// The table knows what a suffix may be; the rest of it does not matter here.
	table, err := route.New(route.Config{Suffix: trimmed, Upstreams: []route.Address{{Host: "any", Port: 1}}, AdvertisedPort: 1})
	if err != nil {
		wrong.add("--sni-suffix", fmt.Errorf("%q is not a domain name, such as kafka.example.com", suffix))
		return ""
	}
	return table.Suffix()
}

func checkUpstreams(upstreams []string, wrong *mistakes) []route.Address {
	var all []route.Address
	for _, upstream := range upstreams {
		upstream = strings.TrimSpace(upstream)
		if upstream == "" {
			continue // a comma too many
		}
		addr, err := route.ParseAddress(upstream)
		if err != nil {
			wrong.add("--upstream", err)
			continue
		}
		all = append(all, addr)
	}
	if strings.Trim(strings.Join(upstreams, ""), " ") == "" {
		wrong.add("--upstream", errors.New("required: the cluster's bootstrap servers, such as lkc-abcde.confluent.cloud:9092"))
	}
	return all
}

func checkRule(rule string, wrong *mistakes) *route.Rule {
	if rule == "" {
		return nil
	}
	r, err := route.ParseRule(rule)
	if err != nil {
		wrong.add("--broker-mapping-rule", err)
	}
	return r
}
