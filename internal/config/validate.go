package config

import (
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"kafka-sni-proxy/internal/route"
)

// Validate returns all that is wrong with the configuration, and warnings of what does
// nothing or is dangerous. It brings settings into the form that the program uses:
// suffixes without their leading "*.", upstreams without blanks.
func (c *Config) Validate() (wrong, warnings Errors) {
	v := validator{config: c}
	v.log()
	for _, name := range slices.Sorted(maps.Keys(c.Clusters)) {
		v.cluster(name, c.Clusters[name])
	}
	v.limits()
	v.timeouts()
	for i := range c.Listeners {
		v.listener(i, c.Listeners[i])
	}
	v.admin()
	return v.wrong, v.warnings
}

type validator struct {
	config          *Config
	wrong, warnings Errors
}

func (v *validator) log() {
	if levels := []string{"debug", "info", "warn", "error"}; !slices.Contains(levels, v.config.Log.Level) {
		v.wrong.addf("log.level", "%q is not a level: choose debug, info, warn or error", v.config.Log.Level)
	}
	if formats := []string{"text", "json"}; !slices.Contains(formats, v.config.Log.Format) {
		v.wrong.addf("log.format", "%q is not a format: choose text or json", v.config.Log.Format)
	}
}

func (v *validator) cluster(name string, c *Cluster) {
	path := func(setting string) string { return ClusterPath(name, setting) }
	suffix, err := CheckSuffix(c.SNISuffix)
	if err != nil {
		v.wrong.Add(err, path("sni-suffix"))
	}
	c.SNISuffix = suffix
	v.upstreams(c, path("upstream"))
	if rule, err := ParseRule(c.BrokerMappingRule); err != nil {
		v.wrong.Add(err, path("broker-mapping-rule"))
	} else if rule != nil && suffix != "" {
		if err := rule.Outside(suffix); err != nil {
			v.warnings.Add(err, path("broker-mapping-rule"))
		}
	}
	v.upstreamTLS(c.UpstreamTLS, path)
}

// CheckSuffix returns a suffix as the program uses it. People also write it as
// ".kafka.example.com" and "*.kafka.example.com".
func CheckSuffix(suffix string) (string, error) {
	if suffix == "" {
		return "", fmt.Errorf("required: the domain under which clients see the brokers, such as kafka.example.com")
	}
	trimmed := strings.TrimPrefix(strings.TrimPrefix(suffix, "*"), ".")
	// The table knows what a suffix may be; the rest of it does not matter here.
	table, err := route.New(route.Config{Suffix: trimmed, Upstreams: []route.Address{{Host: "any", Port: 1}}})
	if err != nil {
		return "", fmt.Errorf("%q is not a domain name, such as kafka.example.com", suffix)
	}
	return table.Suffix(), nil
}

func (v *validator) upstreams(c *Cluster, path string) {
	c.Upstream = slices.DeleteFunc(trimAll(c.Upstream), func(s string) bool { return s == "" }) // a comma too many
	if len(c.Upstream) == 0 {
		v.wrong.addf(path, "required: the cluster's bootstrap servers, such as lkc-abcde.confluent.cloud:9092")
	}
	for _, upstream := range c.Upstream {
		a, err := route.ParseAddress(upstream)
		if err != nil {
			v.wrong.Add(err, path)
			continue
		}
		if why := v.isSelf(a, c.SNISuffix); why != "" {
			v.wrong.addf(path, "%s is this proxy itself: it %s. Name the cluster's own bootstrap servers", upstream, why)
		}
	}
}

func trimAll(all []string) []string {
	trimmed := make([]string, len(all))
	for i, s := range all {
		trimmed[i] = strings.TrimSpace(s)
	}
	return trimmed
}

// isSelf says why an upstream leads back to the proxy, as far as that can be seen without
// looking names up; "" if it does not.
func (v *validator) isSelf(a route.Address, suffix string) string {
	host := strings.ToLower(strings.TrimSuffix(a.Host, "."))
	if suffix != "" && (host == suffix || strings.HasSuffix(host, "."+suffix)) {
		return "is under the suffix " + suffix
	}
	for _, l := range v.config.Listeners {
		if l.listensOn(host, a.Port) {
			return "is where it listens for clients"
		}
	}
	return ""
}

// listensOn reports whether a host, an address or localhost, is certainly the listener's.
func (l *Listener) listensOn(host string, port int32) bool {
	bindHost, bindPort, err := net.SplitHostPort(l.Bind)
	if err != nil || bindPort != fmt.Sprint(port) {
		return false
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	bound, err := netip.ParseAddr(bindHost)
	any := bindHost == "" || err == nil && bound.IsUnspecified()
	return any && (addr.IsLoopback() || addr.IsUnspecified()) || err == nil && bound == addr
}

// ParseRule reads a broker mapping rule; nil for none.
func ParseRule(rule string) (*route.Rule, error) {
	if rule == "" {
		return nil, nil
	}
	return route.ParseRule(rule)
}

func (v *validator) upstreamTLS(t UpstreamTLS, path func(string) string) {
	cert, key := path("upstream-tls.cert"), path("upstream-tls.key")
	switch {
	case t.TrustAny && t.CACerts != "":
		v.wrong.refer([]string{path("upstream-tls.ca-certs"), path("upstream-tls.trust-any")}, "contradict each other: leave one of them out")
	case t.TrustAny:
		v.warnings.refer([]string{path("upstream-tls.trust-any")}, "NOT VERIFYING BROKERS: any certificate is taken, so that whoever gets in between can read and change everything, passwords included; use %s outside of tests", path("upstream-tls.ca-certs"))
	}
	switch {
	case t.Cert != "" && t.Key == "":
		v.wrong.refer([]string{cert}, "needs %s, the certificate's private key", key)
	case t.Key != "" && t.Cert == "":
		v.wrong.refer([]string{key}, "needs %s, the key's certificate", cert)
	}
}

func (v *validator) limits() {
	l := v.config.Limits
	if l.MaxFrame < 1024 || l.MaxFrame > math.MaxInt32 {
		v.wrong.addf("limits.max-frame", "%d is not within 1024 and %d; 104857600 (100 MiB) is what brokers accept by default", l.MaxFrame, math.MaxInt32)
	}
	if l.MaxConnections < 0 {
		v.wrong.addf("limits.max-connections", "%d is not a number of connections: choose 1 or more, or 0 for no limit", l.MaxConnections)
	}
	if l.MaxHandshakesPerAddress < 0 {
		v.wrong.addf("limits.max-handshakes-per-address", "%d is not a number of handshakes: choose 1 or more, or 0 for no limit", l.MaxHandshakesPerAddress)
	}
}

// timeouts checks that none is shorter than a second, which is a mistake in the unit.
func (v *validator) timeouts() {
	t := v.config.Timeouts
	if t.Drain < 0 {
		v.wrong.addf("timeouts.drain", "%v is less than nothing: choose how long requests in flight may take, such as 30s", t.Drain)
	}
	for _, limit := range []struct {
		setting  string
		value    time.Duration
		required bool
	}{
		{"handshake", t.Handshake, true},
		{"dial", t.Dial, true},
		{"idle", t.Idle, false},
		{"connection-age", t.ConnectionAge, false},
		{"tcp-user", t.TCPUser, false},
	} {
		switch {
		case limit.value >= time.Second, limit.value == 0 && !limit.required:
		case limit.required:
			v.wrong.addf("timeouts."+limit.setting, "%s is too short: choose a second or more, such as 10s", limit.value)
		default:
			v.wrong.addf("timeouts."+limit.setting, "%s is too short: choose a second or more, such as 10m, or 0 for none", limit.value)
		}
	}
}

func (v *validator) listener(i int, l *Listener) {
	path := func(setting string) string { return ListenerPath(i, setting) }
	if err := CheckBind(l.Bind); err != nil {
		v.wrong.Add(err, path("bind"))
	}
	if l.AdvertisedPort < 0 || l.AdvertisedPort > math.MaxUint16 {
		v.wrong.addf(path("advertised-port"), "%d is not a port: choose one from 1 to 65535, or 0 for the one that is listened on", l.AdvertisedPort)
	}
	v.clientCertificates(l.ClientCertificates, path)
}

func (v *validator) clientCertificates(m ClientCertificates, path func(string) string) {
	require, caCerts, crl := path("client-certificates.require"), path("client-certificates.ca-certs"), path("client-certificates.crl")
	if m.Require {
		if m.CACerts == "" {
			v.wrong.refer([]string{require}, "needs %s, the file with the authorities that sign clients' certificates (ca.pem, when --generate-certs made them)", caCerts)
		}
		return
	}
	const useless = "does nothing without %s: clients are not asked for certificates"
	if m.CACerts != "" {
		v.warnings.refer([]string{caCerts}, useless, require)
	}
	if len(m.CRL) > 0 {
		v.warnings.refer([]string{crl}, useless, require)
	}
}

func (v *validator) admin() {
	bind := v.config.Admin.Bind
	if bind == "" {
		return
	}
	if err := CheckBind(bind); err != nil {
		v.wrong.Add(err, "admin.bind")
		return
	}
	for i, l := range v.config.Listeners {
		if bind == l.Bind {
			v.wrong.refer([]string{"admin.bind"}, strings.ReplaceAll(bind, "%", "%%")+" is the address of %s: choose another port", ListenerPath(i, "bind"))
		}
	}
}

// CheckBind checks an address to listen on.
func CheckBind(address string) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return fmt.Errorf("%q is not address:port: write 0.0.0.0:9092, or :9092, for all addresses", address)
	}
	return nil
}
