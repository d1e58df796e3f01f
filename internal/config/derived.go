package config

import (
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
)

// What follows from the settings, and is needed in more than one place.

// Label returns what a listener is called: its name, or its bind address.
func (l *Listener) Label() string {
	if l.Name != "" {
		return l.Name
	}
	return l.Bind
}

// Addresses returns all addresses that the listener listens on: with ports, that of
// bootstrap, and then those of the brokers in turn.
func (l *Listener) Addresses() []string {
	all := []string{l.Bind}
	if l.Ports == nil {
		return all
	}
	host, _, _ := net.SplitHostPort(l.Bind)
	for port := l.Ports.Brokers.First; port <= l.Ports.Brokers.Last && port > 0; port++ {
		all = append(all, net.JoinHostPort(host, strconv.Itoa(port)))
	}
	return all
}

// port returns the port of the bind address; 0 when it has none.
func (l *Listener) port() int {
	_, port, _ := net.SplitHostPort(l.Bind)
	n, _ := strconv.Atoi(port)
	return n
}

// Served returns the names of the clusters that a listener serves, in order.
func (c *Config) Served(l *Listener) []string {
	switch {
	case l.Ports != nil:
		return []string{l.Ports.Cluster}
	case len(l.Clusters) > 0:
		return slices.Compact(slices.Sorted(slices.Values(l.Clusters)))
	}
	return slices.Sorted(maps.Keys(c.Clusters))
}

// AsksForCertificates reports whether clients of a listener are asked for certificates: those
// must have one, or a cluster knows them by it.
func (c *Config) AsksForCertificates(l *Listener) bool {
	if l.ClientCertificates.CACerts == "" || l.ClientCertificates.Require {
		return l.ClientCertificates.Require
	}
	for _, name := range c.Served(l) {
		if cl := c.Clusters[name]; cl != nil && cl.Authentication != nil &&
			slices.ContainsFunc(cl.Authentication.Clients, func(m *ClientMechanism) bool { return m.Mechanism == TLS }) {
			return true
		}
	}
	return false
}

// CertificateNames returns what one certificate has to be for, so that it covers all names
// that clients of the listeners with TLS ask for: host names, with wildcards, and addresses;
// and those of them that no wildcard can cover.
func (c *Config) CertificateNames() (names, uncovered []string) {
	add := func(all *[]string, name string) {
		if !slices.Contains(*all, name) {
			*all = append(*all, name)
		}
	}
	for _, l := range c.Listeners {
		switch {
		case l.Plaintext:
			continue
		case l.Ports != nil:
			add(&names, l.Ports.AdvertisedHost)
			continue
		}
		for _, name := range c.Served(l) {
			cl := c.Clusters[name]
			if cl.Names == nil {
				add(&names, cl.SNISuffix)
				add(&names, "*."+cl.SNISuffix)
				continue
			}
			add(&names, cl.Names.Bootstrap)
			if first, domain, _ := strings.Cut(cl.Names.Broker, "."); strings.Contains(first, "{id}") {
				add(&names, "*."+domain)
			} else {
				add(&uncovered, cl.Names.Broker)
			}
		}
	}
	return names, uncovered
}

// NamesOf returns the bootstrap name and the name of broker 0 by which clients see a
// cluster; none when it has no names.
func (c *Cluster) NamesOf() []string {
	switch {
	case c.Names != nil:
		return []string{c.Names.Bootstrap, strings.ReplaceAll(c.Names.Broker, "{id}", "0")}
	case c.SNISuffix != "":
		return []string{"bootstrap." + c.SNISuffix, "b0." + c.SNISuffix}
	}
	return nil
}
