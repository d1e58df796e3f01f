package config

import (
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"kafka-sni-proxy/internal/route"
)

// maxPorts is how many ports a listener may have for brokers. Each takes a file descriptor.
const maxPorts = 10_000

func (v *validator) listener(i int, l *Listener) {
	path := func(setting string) string { return ListenerPath(i, setting) }
	if l.Bind == "" {
		v.wrong.addf(path("bind"), "required: the address and port to listen on, such as 0.0.0.0:9092")
	} else if err := CheckBind(l.Bind); err != nil {
		v.wrong.Add(err, path("bind"))
	}
	if l.Name != "" && !IsName(l.Name) {
		v.wrong.addf(path("name"), "%q is not a name: it is made of letters, digits, - and _, 64 at the most", l.Name)
	}
	v.port(path("advertised-port"), l.AdvertisedPort)
	v.listenerClusters(l, path)
	if l.Ports != nil {
		v.ports(l, path)
	}
	v.listenerTLS(l, path)
	if p := l.ProxyProtocol; p != nil {
		v.proxyProtocol(p, path("proxy-protocol.from"))
	}
}

// listenerClusters checks which clusters are served.
func (v *validator) listenerClusters(l *Listener, path func(string) string) {
	if l.Ports != nil {
		for setting, given := range map[string]bool{
			"advertised-port":   l.AdvertisedPort != 0,
			"clusters":          len(l.Clusters) > 0,
			"allow-missing-sni": l.AllowMissingSNI,
		} {
			if given {
				v.wrong.refer([]string{path(setting)}, "does not go with %s: leave it out", path("ports"))
			}
		}
		return
	}
	for j, name := range l.Clusters {
		if v.config.Clusters[name] == nil {
			v.wrong.addf(path(fmt.Sprintf("clusters[%d]", j)), "there is no cluster %q%s", name, didYouMean(name, maps.Keys(v.config.Clusters)))
		}
		if slices.Contains(l.Clusters[:j], name) {
			v.wrong.addf(path(fmt.Sprintf("clusters[%d]", j)), "%s is in the list twice", name)
		}
	}
	if served := v.config.Served(l); l.AllowMissingSNI && len(served) > 1 {
		v.wrong.refer([]string{path("allow-missing-sni")}, fmt.Sprintf("nobody can tell which of %d clusters such a client wants: name one with %%s, or give them a listener of their own with %%s", len(served)), path("clusters"), path("ports"))
	}
}

// ports checks a listener with a port for each broker.
func (v *validator) ports(l *Listener, path func(string) string) {
	p := l.Ports
	switch {
	case p.Cluster == "":
		v.wrong.addf(path("ports.cluster"), "required: the cluster whose brokers have these ports%s", didYouMean("", maps.Keys(v.config.Clusters)))
	case v.config.Clusters[p.Cluster] == nil:
		v.wrong.addf(path("ports.cluster"), "there is no cluster %q%s", p.Cluster, didYouMean(p.Cluster, maps.Keys(v.config.Clusters)))
	}
	if err := checkHost(p.AdvertisedHost); err != nil {
		v.wrong.Add(err, path("ports.advertised-host"))
	}
	switch last := int64(p.FirstNodeID) + int64(p.Brokers.Len()) - 1; {
	case p.FirstNodeID < 0:
		v.wrong.addf(path("ports.first-node-id"), "%d is not a node id: they are 0 and above", p.FirstNodeID)
	case last > math.MaxInt32:
		v.wrong.addf(path("ports.first-node-id"), "the last port would be that of broker %d, and node ids end at %d", last, math.MaxInt32)
	}
	switch port := l.port(); {
	case p.Brokers == PortRange{}:
		v.wrong.addf(path("ports.brokers"), "required: the ports of the brokers, first and last, such as 9193-9292")
	case p.Brokers.Len() > maxPorts:
		v.wrong.addf(path("ports.brokers"), "%s are %d ports: %d are possible", p.Brokers, p.Brokers.Len(), maxPorts)
	case p.Brokers.has(port):
		v.wrong.refer([]string{path("ports.brokers")}, fmt.Sprintf("%s has %d in it, where clients bootstrap (%%s): choose another range", p.Brokers, port), path("bind"))
	}
}

// checkHost checks a host that clients are told.
func checkHost(host string) error {
	if host == "" {
		return fmt.Errorf("required: the host name or address by which clients reach the ports")
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if _, err := route.New(route.Config{Suffix: host, Upstreams: anyUpstream}); err != nil {
		return fmt.Errorf("%q is neither a host name nor an address: write it without a port", host)
	}
	return nil
}

// listenerTLS checks what clients are shown, and what they have to show.
func (v *validator) listenerTLS(l *Listener, path func(string) string) {
	m := l.ClientCertificates
	if l.Plaintext {
		if l.Ports == nil {
			v.wrong.refer([]string{path("plaintext")}, "needs %s: without TLS there is no server name that tells brokers apart", path("ports"))
		}
		if len(l.Certificates) > 0 {
			v.wrong.refer([]string{path("plaintext"), path("certificates")}, "contradict each other: leave one of them out")
		}
		if m.Require || m.CACerts != "" || len(m.CRL) > 0 {
			v.wrong.refer([]string{path("plaintext"), path("client-certificates")}, "contradict each other: there are certificates with TLS alone")
		}
		return
	}
	if len(l.Certificates) == 0 {
		v.wrong.refer([]string{path("certificates")}, "required: what clients are shown, such as [{cert: server.pem, key: server_key.pem}]; or %s", path("plaintext"))
	}
	for j, pair := range l.Certificates {
		cert, key := path(fmt.Sprintf("certificates[%d].cert", j)), path(fmt.Sprintf("certificates[%d].key", j))
		if pair == (KeyPair{}) {
			v.wrong.addf(path(fmt.Sprintf("certificates[%d]", j)), "wants cert and key, two PEM files")
		}
		v.pair(pair.Cert, pair.Key, cert, key)
	}
	v.clientCertificates(l, path)
}

func (v *validator) clientCertificates(l *Listener, path func(string) string) {
	m := l.ClientCertificates
	require, caCerts, crl := path("client-certificates.require"), path("client-certificates.ca-certs"), path("client-certificates.crl")
	if m.Require {
		if m.CACerts == "" {
			v.wrong.refer([]string{require}, "needs %s, the file with the authorities that sign clients' certificates (ca.pem, when --generate-certs made them)", caCerts)
		}
		return
	}
	if v.config.AsksForCertificates(l) {
		return
	}
	const useless = "does nothing without %s, nor a cluster with the mechanism TLS: clients are not asked for certificates"
	if m.CACerts != "" {
		v.warnings.refer([]string{caCerts}, useless, require)
	}
	if len(m.CRL) > 0 {
		v.warnings.refer([]string{crl}, useless, require)
	}
}

func (v *validator) proxyProtocol(p *ProxyProtocol, path string) {
	if len(p.From) == 0 {
		v.wrong.addf(path, "required: the networks of the load balancers, such as [10.0.0.0/8]")
	}
	for _, n := range p.From {
		if n.Bits() == 0 {
			v.warnf(path, "%s is everybody: whoever connects can pretend any address, in logs and to limits", n)
		}
	}
}

// servedByPortsOnly returns the clusters that no listener serves by name, but one by port.
func (c *Config) servedByPortsOnly() map[string]bool {
	only := map[string]bool{}
	for _, l := range c.Listeners {
		if l.Ports != nil {
			only[l.Ports.Cluster] = true
		}
	}
	for _, l := range c.Listeners {
		if l.Ports == nil {
			for _, name := range l.Clusters {
				delete(only, name)
			}
			if len(l.Clusters) == 0 { // all
				for name, cl := range c.Clusters {
					if cl != nil && (cl.Names != nil || cl.SNISuffix != "") {
						delete(only, name)
					}
				}
			}
		}
	}
	return only
}

// names checks that clients can tell the clusters of a listener apart, and that each cluster
// is served.
func (v *validator) names() {
	served := map[string]bool{}
	var told []string // clashes, which other listeners have, too
	for i, l := range v.config.Listeners {
		names := v.config.Served(l)
		for _, name := range names {
			served[name] = true
		}
		if l.Ports == nil && len(names) > 1 {
			told = v.clashes(i, names, told)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.config.Clusters)) {
		if !served[name] {
			v.warnf("clusters."+name, "no listener serves it: its clients are refused")
		}
	}
}

// clashes finds clusters of one listener that have a name in common. A longer suffix within
// a shorter one is none: each name is of one of them.
func (v *validator) clashes(listener int, names, told []string) []string {
	byBootstrap, byTemplate := map[string]string{}, map[string]string{}
	tables := map[string]*route.Table{}
	clash := func(a, b, what string) {
		if text := a + " " + b; !slices.Contains(told, text) {
			told = append(told, text)
			v.wrong.refer([]string{"clusters." + a, "clusters." + b}, "both have the name "+strings.ReplaceAll(what, "%", "%%")+", and clients of %s could not tell them apart: give one of them other names", fmt.Sprintf("listeners[%d]", listener))
		}
	}
	for _, name := range names {
		t := v.config.Clusters[name].table()
		if t == nil {
			continue // which has been said
		}
		tables[name] = t
		if other, taken := byBootstrap[t.Bootstrap()]; taken {
			clash(other, name, t.Bootstrap())
		}
		if other, taken := byTemplate[t.Template()]; taken {
			clash(other, name, strings.ReplaceAll(t.Template(), "{id}", "0"))
		}
		byBootstrap[t.Bootstrap()], byTemplate[t.Template()] = name, name
	}
	type owner struct{ name, digits string }
	twice := map[string]map[bool]owner{} // by what two templates have in common
	for _, name := range names {
		t := tables[name]
		if t == nil {
			continue
		}
		if other := templateOf(t.Bootstrap(), byTemplate); other != "" && other != name {
			clash(other, name, t.Bootstrap())
		}
		for _, n := range numbersIn(t.Template()) {
			if other := twice[n.both][!n.before]; other.name != "" {
				numbers := []string{other.digits, n.digits}
				if n.before {
					slices.Reverse(numbers)
				}
				first := strings.Replace(n.both, idPlace, numbers[0], 1)
				clash(other.name, name, strings.Replace(first, idPlace, numbers[1], 1))
			}
			if twice[n.both] == nil {
				twice[n.both] = map[bool]owner{}
			}
			twice[n.both][n.before] = owner{name, n.digits}
		}
		v.rule(name, names, clash)
	}
	return told
}

// rule finds clusters whose names a cluster's rule gives to its own brokers.
func (v *validator) rule(name string, names []string, clash func(a, b, what string)) {
	text := v.config.Clusters[name].BrokerMappingRule
	for _, other := range names {
		suffix := v.config.Clusters[other].SNISuffix
		if other == name || suffix == "" || !strings.HasSuffix(strings.ToLower(text), "."+suffix) {
			continue
		}
		rule, err := ParseRule(text)
		if rule == nil || err != nil {
			return // which has been said
		}
		for _, what := range []string{"bootstrap." + suffix, "b0." + suffix} {
			if rule.CanMake(what) {
				clash(other, name, what+" (by the broker-mapping-rule of "+name+")")
				break
			}
		}
	}
}

// idPlace is what stands for the node id in a broker's name.
const idPlace = "{id}"

// number is a number that is part of a template. Two templates have a name in common if each
// has a number where the other one has the node id, and they are the same otherwise.
type number struct {
	digits string
	both   string // the template with {id} in the place of the number, too
	before bool   // the number is before the node id
}

// numbersIn returns the numbers in a template that can be node ids.
func numbersIn(template string) (all []number) {
	id := strings.Index(template, idPlace)
	for begin := 0; begin < len(template); begin++ {
		end := begin
		for end < len(template) && '0' <= template[end] && template[end] <= '9' {
			end++
		}
		if digits := template[begin:end]; digits == "0" || digits != "" && digits[0] != '0' {
			all = append(all, number{digits, template[:begin] + idPlace + template[end:], begin < id})
		}
		begin = end
	}
	return all
}

// table returns an empty table of routes of a cluster; nil when its names are wrong.
func (c *Cluster) table() *route.Table {
	r := route.Config{Suffix: c.SNISuffix, Upstreams: anyUpstream}
	if c.Names != nil {
		r.Names = &route.Names{Bootstrap: c.Names.Bootstrap, Broker: c.Names.Broker}
	}
	t, err := route.New(r)
	if err != nil {
		return nil
	}
	return t
}

// templateOf returns the cluster that calls a broker by a name.
func templateOf(name string, byTemplate map[string]string) string {
	for template := range route.TemplatesOf(name) {
		if other, ok := byTemplate[template]; ok {
			return other
		}
	}
	return ""
}

// addresses checks that no address is listened on twice.
func (v *validator) addresses() {
	type place struct {
		path string
		host string
	}
	byPort := map[string][]place{}
	add := func(path, address string) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return
		}
		if port = strings.TrimLeft(port, "0"); port == "" {
			port = "0" // the system chooses
		}
		for _, other := range byPort[port] {
			if same := sameHost(other.host, host); same && port != "0" || host == other.host && path != "admin.bind" {
				v.wrong.refer([]string{path}, fmt.Sprintf("%s is listened on already, by %%s: choose another port", strings.ReplaceAll(address, "%", "%%")), other.path)
				return
			}
		}
		byPort[port] = append(byPort[port], place{path, host})
	}
	names := map[string]int{}
	for i, l := range v.config.Listeners {
		if other, taken := names[l.Name]; taken && l.Name != "" {
			v.wrong.refer([]string{ListenerPath(i, "name")}, fmt.Sprintf("%s is the name of %%s, too: choose another one", l.Name), fmt.Sprintf("listeners[%d]", other))
		}
		names[l.Name] = i
		add(ListenerPath(i, "bind"), l.Bind)
	}
	for i, l := range v.config.Listeners {
		if l.Ports == nil || l.Ports.Brokers.Len() > maxPorts || l.Ports.Brokers.has(l.port()) {
			continue // what has been said is enough
		}
		before := len(v.wrong)
		for _, address := range l.Addresses()[1:] {
			add(ListenerPath(i, "ports.brokers"), address)
			if len(v.wrong) > before {
				break // one of them is enough
			}
		}
	}
	if bind := v.config.Admin.Bind; bind != "" && !slices.ContainsFunc(v.config.Listeners, func(l *Listener) bool { return l.Bind == bind }) {
		add("admin.bind", bind)
	}
}

// sameHost reports whether sockets of one port at these hosts exclude each other.
func sameHost(a, b string) bool {
	return a == b || isAny(a) || isAny(b) || addressOf(a) == addressOf(b) && addressOf(a).IsValid()
}

// addressOf returns the address that a host certainly is; none when it is a name.
func addressOf(host string) netip.Addr {
	if host == "localhost" {
		host = "127.0.0.1"
	}
	addr, _ := netip.ParseAddr(host)
	return addr.Unmap()
}

func isAny(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "" || err == nil && addr.IsUnspecified()
}

// ownFiles checks that no two clusters keep their routes in one file, nor where the access
// log is.
func (v *validator) ownFiles() {
	first := map[string]string{}
	if access := v.config.Log.Access; access != "" && access != "-" {
		first[filepath.Clean(access)] = "log.access"
	}
	for _, name := range slices.Sorted(maps.Keys(v.config.Clusters)) {
		c := v.config.Clusters[name]
		files := map[string]string{ClusterPath(name, "routes-file"): c.RoutesFile}
		for target, t := range c.Targets {
			files[ClusterPath(name, "targets."+target+".routes-file")] = t.RoutesFile
		}
		for _, path := range slices.Sorted(maps.Keys(files)) {
			if files[path] == "" {
				continue
			}
			file := filepath.Clean(files[path])
			if other := first[file]; other != "" {
				v.wrong.refer([]string{path}, strings.ReplaceAll(files[path], "%", "%%")+" is that of %s, too: each needs a file of its own", other)
				continue
			}
			first[file] = path
		}
	}
}
