package config

import (
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/suggest"
)

// Validate returns all that is wrong with the configuration, and warnings of what does
// nothing or is dangerous. It brings settings into the form that the program uses:
// suffixes without their leading "*.", upstreams without blanks.
func (c *Config) Validate() (wrong, warnings Errors) {
	v := validator{config: c, byPortsOnly: c.servedByPortsOnly()}
	v.log()
	v.trace()
	for _, name := range slices.Sorted(maps.Keys(c.Clusters)) {
		v.cluster(name, c.Clusters[name])
	}
	if len(c.Clusters) == 0 {
		v.wrong.addf("clusters", "required: the Kafka clusters, each under a name of your choice")
	}
	v.limits()
	v.timeouts()
	if len(c.Listeners) == 0 {
		v.wrong.addf("listeners", "required: where clients connect, such as [{bind: 0.0.0.0:9092, …}]")
	}
	for i, l := range c.Listeners {
		v.listener(i, l)
	}
	v.names()
	v.admin()
	v.addresses()
	v.ownFiles()
	return v.wrong, v.warnings
}

type validator struct {
	config          *Config
	byPortsOnly     map[string]bool // clusters whose clients know no names
	wrong, warnings Errors
}

// warnf is a warning about a setting.
func (v *validator) warnf(path, format string, args ...any) {
	v.warnings.addf(path, format, args...)
}

func (v *validator) log() {
	if levels := []string{"debug", "info", "warn", "error"}; !slices.Contains(levels, v.config.Log.Level) {
		v.wrong.addf("log.level", "%q is not a level: choose debug, info, warn or error", v.config.Log.Level)
	}
	if formats := []string{"text", "json"}; !slices.Contains(formats, v.config.Log.Format) {
		v.wrong.addf("log.format", "%q is not a format: choose text or json", v.config.Log.Format)
	}
	if access := v.config.Log.Access; access != "" && (strings.TrimSpace(access) == "" || strings.HasSuffix(access, "/")) {
		v.wrong.addf("log.access", "%q is not a file: name one, or - for standard output", access)
	}
}

// trace checks where traces are sent.
func (v *validator) trace() {
	t := v.config.Trace
	for _, share := range []struct {
		setting string
		value   Ratio
	}{{"trace.connections", t.Connections}, {"trace.requests", t.Requests}} {
		if !(share.value >= 0 && share.value <= 1) { // a flag's
			v.wrong.addf(share.setting, "%v is not a share: choose a number from 0 for none to 1 for all, such as 0.01", share.value)
		}
	}
	if t.Endpoint == "" {
		return
	}
	u, err := url.Parse(t.Endpoint)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		v.wrong.addf("trace.endpoint", "%q is not the URL of a collector: write it like http://localhost:4318", t.Endpoint)
	case u.User != nil:
		v.wrong.addf("trace.endpoint", "a user or a password does not belong into the URL of a collector: send to one on this machine, which knows how to go on")
	case u.RawQuery != "" || u.Fragment != "":
		v.wrong.addf("trace.endpoint", "there is something behind the path of the collector's URL: write it like http://localhost:4318")
	case u.Port() == "4317":
		v.warnf("trace.endpoint", "4317 is the port for gRPC, which this is not: OTLP over HTTP is on 4318 as a rule")
	case t.Connections == 0 && t.Requests == 0:
		v.warnf("trace.endpoint", "nothing is sent there: the shares of connections and requests are 0")
	}
}

func (v *validator) cluster(name string, c *Cluster) {
	path := func(setting string) string { return ClusterPath(name, setting) }
	v.clusterNames(name, c, path)
	v.port(path("advertised-port"), c.AdvertisedPort)
	if c.Limits.MaxConnections < 0 {
		v.wrong.addf(path("limits.max-connections"), "%d is not a number of connections: choose 1 or more, or 0 for no limit", c.Limits.MaxConnections)
	}
	v.targets(c, path)
	v.authentication(name, c, path)
	if rule, err := ParseRule(c.BrokerMappingRule); err != nil {
		v.wrong.Add(err, path("broker-mapping-rule"))
	} else if rule != nil && c.SNISuffix != "" {
		if err := rule.Outside(c.SNISuffix); err != nil {
			v.warnings.Add(err, path("broker-mapping-rule"))
		}
	}
}

// clusterNames checks the names by which clients see a cluster.
func (v *validator) clusterNames(name string, c *Cluster, path func(string) string) {
	switch {
	case c.Names != nil && c.SNISuffix != "":
		v.wrong.refer([]string{path("names"), path("sni-suffix")}, "contradict each other: leave one of them out")
	case c.Names != nil:
		if err := c.Names.check(); err != nil {
			v.wrong.Add(err, path("names"))
		}
	case c.SNISuffix == "" && v.byPortsOnly[name]:
	default:
		suffix, err := CheckSuffix(c.SNISuffix)
		if err != nil {
			v.wrong.Add(err, path("sni-suffix"))
		}
		c.SNISuffix = suffix
	}
}

// check reports what is wrong with names of one's own.
func (n *Names) check() error {
	switch {
	case n.Bootstrap == "":
		return fmt.Errorf("wants bootstrap, the name that clients bootstrap from, such as orders.kafka.example")
	case n.Broker == "":
		return fmt.Errorf("wants broker, the name of each broker with {id} for its node id, such as b{id}-orders.kafka.example")
	}
	// The table knows what names may be; the rest of it does not matter here.
	table, err := route.New(route.Config{Names: &route.Names{Bootstrap: n.Bootstrap, Broker: n.Broker}, Upstreams: anyUpstream})
	if err != nil {
		return err
	}
	if table.CanExist(table.Bootstrap()) {
		return fmt.Errorf("%s is also the name of a broker, by %s: choose another one", n.Bootstrap, n.Broker)
	}
	n.Bootstrap, n.Broker = table.Bootstrap(), table.Template()
	return nil
}

var anyUpstream = []route.Address{{Host: "any", Port: 1}}

// CheckSuffix returns a suffix as the program uses it. People also write it as
// ".kafka.example.com" and "*.kafka.example.com".
func CheckSuffix(suffix string) (string, error) {
	if suffix == "" {
		return "", fmt.Errorf("required: the domain under which clients see the brokers, such as kafka.example.com")
	}
	trimmed := strings.TrimPrefix(strings.TrimPrefix(suffix, "*"), ".")
	table, err := route.New(route.Config{Suffix: trimmed, Upstreams: anyUpstream})
	if err != nil {
		return "", fmt.Errorf("%q is not a domain name, such as kafka.example.com", suffix)
	}
	return table.Suffix(), nil
}

// targets checks where a cluster is.
func (v *validator) targets(c *Cluster, path func(string) string) {
	if len(c.Targets) == 0 {
		if c.Active != "" {
			v.wrong.refer([]string{path("active")}, "names a target, but there are none: add %s, or leave it out", path("targets"))
		}
		v.target(c, &c.Target, path)
		return
	}
	for setting, given := range c.Target.given() {
		if given {
			v.wrong.refer([]string{path(setting)}, "belongs to a target: the cluster has %s", path("targets"))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Targets)) {
		v.target(c, &c.Targets[name].Target, func(setting string) string { return path("targets." + name + "." + setting) })
	}
	switch {
	case c.Active == "":
		v.wrong.addf(path("active"), "required: which of the targets clients are led to: %s", strings.Join(slices.Sorted(maps.Keys(c.Targets)), ", "))
	case c.Targets[c.Active] == nil:
		v.wrong.addf(path("active"), "there is no target %q%s", c.Active, didYouMean(c.Active, maps.Keys(c.Targets)))
	}
}

// given says which settings of a target there are.
func (t *Target) given() map[string]bool {
	return map[string]bool{
		"upstream":           len(t.Upstream) > 0,
		"upstream-tls":       t.UpstreamTLS != UpstreamTLS{},
		"upstream-plaintext": t.UpstreamPlaintext,
		"via":                t.Via != "",
		"hosts-file":         t.HostsFile != "",
		"routes-file":        t.RoutesFile != "",
	}
}

// didYouMean returns a question about a name that is near, or what there is.
func didYouMean(name string, known func(func(string) bool)) string {
	near := suggest.To(name)
	for k := range known {
		near.Compare(k)
	}
	if best := near.Best(); best != "" {
		return ": did you mean " + best + "?"
	}
	all := slices.Sorted(known)
	if len(all) == 0 {
		return ""
	}
	const most = 10
	if more := len(all) - most; more > 0 {
		all = append(all[:most], fmt.Sprintf("and %d more", more))
	}
	return ": there are " + strings.Join(all, ", ")
}

func (v *validator) target(c *Cluster, t *Target, path func(string) string) {
	v.upstreams(c, t, path("upstream"))
	if t.UpstreamPlaintext && t.UpstreamTLS != (UpstreamTLS{}) {
		v.wrong.refer([]string{path("upstream-plaintext"), path("upstream-tls")}, "contradict each other: leave one of them out")
	} else {
		v.upstreamTLS(t.UpstreamTLS, path)
	}
	if err := CheckVia(t.Via); err != nil {
		v.wrong.Add(err, path("via"))
	}
}

func (v *validator) upstreams(c *Cluster, t *Target, path string) {
	t.Upstream = slices.DeleteFunc(trimAll(t.Upstream), func(s string) bool { return s == "" }) // a comma too many
	if len(t.Upstream) == 0 {
		v.wrong.addf(path, "required: the cluster's bootstrap servers, such as lkc-abcde.confluent.cloud:9092")
	}
	for _, upstream := range t.Upstream {
		a, err := route.ParseAddress(upstream)
		if err != nil {
			v.wrong.Add(err, path)
			continue
		}
		if why := v.isSelf(a, c); why != "" {
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
func (v *validator) isSelf(a route.Address, c *Cluster) string {
	host := strings.ToLower(strings.TrimSuffix(a.Host, "."))
	if suffix := c.SNISuffix; suffix != "" && (host == suffix || strings.HasSuffix(host, "."+suffix)) {
		return "is under the suffix " + suffix
	}
	if c.Names != nil {
		if t := c.table(); t != nil && (host == t.Bootstrap() || t.CanExist(host)) {
			return "is one of the names that clients see"
		}
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "localhost" {
		return ""
	}
	for _, l := range v.config.Listeners {
		if l.listensOn(host, int(a.Port)) {
			return "is where it listens for clients"
		}
	}
	return ""
}

// listensOn reports whether a host, an address or localhost, is certainly the listener's.
func (l *Listener) listensOn(host string, port int) bool {
	if l.port() != port && (l.Ports == nil || !l.Ports.Brokers.has(port)) {
		return false
	}
	bindHost, _, _ := net.SplitHostPort(l.Bind)
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

// CheckVia checks the address of a gate. It does not show it, as there may be a password in it.
func CheckVia(via Secret) error {
	if via == "" {
		return nil
	}
	u, err := url.Parse(string(via))
	switch {
	case via == "***":
		return fmt.Errorf("*** stands where a secret is not shown: write the gate's address in its place")
	case !strings.Contains(string(via), "://"):
		return fmt.Errorf("this is not the address of a gate: write socks5://host:port or http://host:port")
	case err != nil:
		return fmt.Errorf("this is not the address of a gate: write socks5://user:password@host:port or http://user:password@host:port; in the user and the password, write %%40 for @, %%3A for : and %%2F for /")
	case u.Scheme != "socks5" && u.Scheme != "socks5h" && u.Scheme != "http":
		return fmt.Errorf("gates are socks5:// and http:// (HTTP CONNECT), not %q", u.Scheme+"://")
	case u.Hostname() == "" || !isPort(u.Port()) || u.Port() == "0":
		return fmt.Errorf("the gate's address wants a host and a port: %s://host:port", u.Scheme)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("there is something behind the gate's port: write %s://host:port alone", u.Scheme)
	case u.User != nil:
		return checkViaUser(u)
	}
	return nil
}

// checkViaUser checks that a user and a password can be told to a gate.
func checkViaUser(u *url.URL) error {
	const most = 255 // bytes, in SOCKS5 (RFC 1929)
	user := u.User.Username()
	password, _ := u.User.Password()
	switch {
	case user == "":
		return fmt.Errorf("the gate's address has an @ and no user: write %s://user:password@host:port, or %s://host:port", u.Scheme, u.Scheme)
	case u.Scheme == "http" && strings.Contains(user, ":"):
		return fmt.Errorf("the gate's user has a colon in it, which HTTP does not allow")
	case u.Scheme != "http" && (len(user) > most || len(password) > most):
		return fmt.Errorf("the gate's user or password is longer than the %d bytes of SOCKS5", most)
	}
	return nil
}

func (v *validator) upstreamTLS(t UpstreamTLS, path func(string) string) {
	cert, key := path("upstream-tls.cert"), path("upstream-tls.key")
	switch {
	case t.TrustAny && t.CACerts != "":
		v.wrong.refer([]string{path("upstream-tls.ca-certs"), path("upstream-tls.trust-any")}, "contradict each other: leave one of them out")
	case t.TrustAny:
		v.warnings.refer([]string{path("upstream-tls.trust-any")}, "NOT VERIFYING BROKERS: any certificate is taken, so that whoever gets in between can read and change everything, passwords included; use %s outside of tests", path("upstream-tls.ca-certs"))
	}
	v.pair(t.Cert, t.Key, cert, key)
}

// pair checks that a certificate has its key, and a key its certificate.
func (v *validator) pair(cert, key, certPath, keyPath string) {
	switch {
	case cert != "" && key == "":
		v.wrong.refer([]string{certPath}, "needs %s, the certificate's private key", keyPath)
	case key != "" && cert == "":
		v.wrong.refer([]string{keyPath}, "needs %s, the key's certificate", certPath)
	}
}

func (v *validator) limits() {
	l := v.config.Limits
	if l.MaxFrame < 1024 || l.MaxFrame > math.MaxInt32 {
		v.wrong.addf("limits.max-frame", "%d is not within 1024 and %d; 104857600 (100 MiB) is what brokers accept by default", int64(l.MaxFrame), math.MaxInt32)
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

func (v *validator) port(path string, port int) {
	if port < 0 || port > math.MaxUint16 {
		v.wrong.addf(path, "%d is not a port: choose one from 1 to 65535, or 0 for the one that is listened on", port)
	}
}

func (v *validator) admin() {
	a := v.config.Admin
	v.pair(a.Cert, a.Key, "admin.cert", "admin.key")
	if a.ClientCACerts != "" && a.Cert == "" {
		v.wrong.refer([]string{"admin.client-ca-certs"}, "needs %s: without TLS there are no client certificates", "admin.cert")
	}
	bind := a.Bind
	if bind == "" {
		for _, other := range []struct {
			name  string
			isSet bool
		}{{"token-file", a.TokenFile != ""}, {"cert", a.Cert != ""}, {"client-ca-certs", a.ClientCACerts != ""}, {"pprof", a.Pprof}} {
			if other.isSet {
				v.wrong.refer([]string{"admin." + other.name}, "needs %s, the address of the port", "admin.bind")
			}
		}
		return
	}
	if err := CheckBind(bind); err != nil {
		v.wrong.Add(err, "admin.bind")
		return
	}
	for i, l := range v.config.Listeners {
		if bind == l.Bind && !anyPort(bind) {
			v.wrong.refer([]string{"admin.bind"}, strings.ReplaceAll(bind, "%", "%%")+" is the address of %s: choose another port", ListenerPath(i, "bind"))
		}
	}
}

// anyPort reports whether the system chooses the port of an address.
func anyPort(address string) bool { return strings.HasSuffix(address, ":0") }

// CheckBind checks an address to listen on.
func CheckBind(address string) error {
	host, port, err := net.SplitHostPort(address)
	switch {
	case err != nil || strings.ContainsFunc(host, unicode.IsSpace):
		return fmt.Errorf("%q is not address:port: write 0.0.0.0:9092, or :9092, for all addresses", address)
	case !isPort(port):
		return fmt.Errorf("%q has no valid port: choose one from 1 to 65535, or 0 for any that is free", address)
	}
	return nil
}

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}
