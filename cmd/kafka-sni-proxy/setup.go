package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"

	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/config"
	"kafka-sni-proxy/internal/dial"
	"kafka-sni-proxy/internal/login"
	"kafka-sni-proxy/internal/reload"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/sasl"
	"kafka-sni-proxy/internal/server"
	"kafka-sni-proxy/internal/session"
)

// setup is what a configuration was made into: the files that it names have been read, the
// ports are open, and nothing has been served. It is put to use as a whole, in place of the
// one before, with which it shares what has not changed.
type setup struct {
	config    *config.Config
	warnings  []string // of the configuration
	ofFiles   []string // of the files of what is new
	clusters  map[string]*clusterPart
	listeners []*listenerPart
}

// clusterPart is a cluster of a setup.
type clusterPart struct {
	config *config.Cluster
	files  *clusterFiles
	dialer *dial.Dialer
	table  *route.Table
	server *server.Cluster
	login  *authentication // nil: that is between clients and brokers

	// shown are the certificates that clients of the cluster are shown; nil: none, as its
	// clients do not check names.
	shown atomic.Pointer[[]*x509.Certificate]

	routesFile string // "": none
	stopRoutes func() // ends keeping them in the file; nil: not begun
}

// listenerPart is a listener of a setup.
type listenerPart struct {
	index   int // in the configuration
	config  *config.Listener
	files   *listenerFiles
	sockets []*socket // with ports: of bootstrap, and then of the brokers

	isLogged bool // where it listens
}

// prepare makes a setup of a configuration in which nothing is wrong. What is in the one
// before, and has not changed, is used again. When something is wrong with what the
// configuration names, it is added to wrong; the caller then closes what was opened.
func (a *app) prepare(c *config.Config, before *setup, wrong *mistakes) *setup {
	s := a.load(c, before, wrong)
	a.sockets.open(s.listeners, wrong)
	return s
}

// load is prepare without sockets.
func (a *app) load(c *config.Config, before *setup, wrong *mistakes) *setup {
	s := &setup{config: c, clusters: map[string]*clusterPart{}}
	l := &loader{mistakes: mistakes{text: wrong.text}, name: a.settingName, asks: c.AsksForCertificates, mask: a.maskOf(c), gate: a.gate, log: a.log, generate: "--config " + a.file}
	if a.file == "" {
		l.generate = "--sni-suffix " + cmp.Or(c.Clusters[config.DefaultCluster].SNISuffix, "<domain>")
	}
	for name, cl := range c.Clusters {
		if part := before.cluster(name); part != nil && reflect.DeepEqual(part.config, cl) && before.sameForClusters(c) {
			s.clusters[name] = part
			continue
		}
		part := &clusterPart{config: cl, files: l.cluster(name, cl), login: l.authentication(name, cl)}
		target := cl.ActiveTarget()
		part.routesFile = checkRoutesFile(target.RoutesFile, func(err error) { l.add(err, config.TargetPath(name, cl, "routes-file")) })
		s.clusters[name] = part
	}
	for i, li := range c.Listeners {
		part := &listenerPart{index: i, config: li}
		if old := before.listener(li); old != nil && sameFiles(old.config, li) && before.config.AsksForCertificates(old.config) == c.AsksForCertificates(li) {
			part.files = old.files
		} else {
			part.files = l.listener(i, li, s.covers(li))
		}
		s.listeners = append(s.listeners, part)
	}
	wrong.found = append(wrong.found, l.found...)
	return s
}

// makeClusters makes the clusters of a prepared setup that the one before does not have as
// they are.
func (a *app) makeClusters(s, before *setup, wrong *mistakes) {
	s.ofFiles = a.fileWarnings(s)
	for name, part := range s.clusters {
		if part.server != nil {
			continue
		}
		if err := a.makeCluster(name, part, before.cluster(name), s.config); err != nil {
			wrong.add(err, config.ClusterPath(name, "sni-suffix"))
		}
	}
}

// fileWarnings are of what is likely to be wrong with the files of what is new in a setup.
func (a *app) fileWarnings(s *setup) (all []string) {
	for _, l := range s.listeners {
		all = append(all, l.files.warnings(s.covers(l.config))...)
	}
	for _, part := range s.clusters {
		if part.server == nil {
			all = append(append(all, part.files.shown.Warn()...), part.login.warnings()...)
		}
	}
	return all
}

// cluster returns a cluster; nil for none, or of a nil setup.
func (s *setup) cluster(name string) *clusterPart {
	if s == nil {
		return nil
	}
	return s.clusters[name]
}

// listener returns the listener that one of another configuration takes the place of; nil
// for none.
func (s *setup) listener(of *config.Listener) *listenerPart {
	if s == nil {
		return nil
	}
	for _, l := range s.listeners {
		if l.config.Bind == of.Bind {
			return l
		}
	}
	return nil
}

// sameForClusters reports whether another configuration has the same settings that are
// common to all clusters.
func (s *setup) sameForClusters(c *config.Config) bool {
	return s.config.Timeouts.Dial == c.Timeouts.Dial && s.config.Limits.MaxFrame == c.Limits.MaxFrame
}

func sameFiles(a, b *config.Listener) bool {
	return a.Plaintext == b.Plaintext && slices.Equal(a.Certificates, b.Certificates) && reflect.DeepEqual(a.ClientCertificates, b.ClientCertificates)
}

// covers are the names that a listener's certificates should be good for, as far as they
// are known.
func (s *setup) covers(l *config.Listener) (names []string) {
	if l.Plaintext {
		return nil
	}
	if l.Ports != nil {
		return []string{l.Ports.AdvertisedHost}
	}
	for _, name := range s.config.Served(l) {
		names = append(names, s.config.Clusters[name].NamesOf()...)
	}
	return names
}

// makeCluster makes the parts of a cluster. What an earlier one of that name knows is taken
// over.
func (a *app) makeCluster(name string, part, before *clusterPart, c *config.Config) error {
	log := a.log
	if a.file != "" {
		log = log.With("cluster", name)
	}
	var gate *dial.Gate
	var err error
	if via := part.config.ActiveTarget().Via; via != "" {
		if gate, err = dial.ParseGate(string(via)); err != nil {
			return err
		}
	}
	part.dialer = dial.New(part.files.hosts.Value(), gate)
	if part.table, err = newTable(name, part, log); err != nil {
		return err
	}
	if before != nil {
		part.table.Adopt(before.table)
	}
	var asProxy func(context.Context, route.Address) (sasl.Client, error)
	if part.login != nil {
		// One policy for all clusters that there will be under this name, so that sessions that
		// run are held to what is in force.
		if part.login.policy = login.New(a.gate); before != nil && before.login != nil {
			part.login.policy = before.login.policy
		}
		asProxy = part.login.policy.LoginAsProxy
	}
	part.server = &server.Cluster{
		Cluster: cluster.New(cluster.Config{
			Name:          name,
			Routes:        part.table,
			TLS:           part.files.tlsConfig(),
			Dial:          part.dialer.Dial,
			DialTimeout:   c.Timeouts.Dial,
			MaxFrameBytes: int(c.Limits.MaxFrame),
			IsSelf:        a.isSelf,
			IsOwnSocket:   a.sockets.isOwn,
			Login:         asProxy,
			Log:           log,
		}),
		MaxConnections: part.config.Limits.MaxConnections,
	}
	if part.login != nil {
		part.server.Auth = part.login.policy
	}
	return nil
}

// useLogins puts in force how clients of the clusters log in.
func (s *setup) useLogins() {
	for _, part := range s.clusters {
		if part.login != nil {
			part.login.policy.SetCluster(part.server.Cluster, part.files.tlsConfig())
			part.login.policy.Set(part.login.inForce())
		}
	}
}

// maskOf returns the mask of users that do not exist, which stays what it was at first: who
// sees two of them can tell which users exist.
func (a *app) maskOf(c *config.Config) func() sasl.Mask {
	return func() sasl.Mask {
		a.maskOnce.Do(func() { a.mask = newMask(c) })
		return a.mask
	}
}

// newTable returns the table of routes of a cluster, with nothing in it.
func newTable(name string, part *clusterPart, log *slog.Logger) (*route.Table, error) {
	c := part.config
	var upstreams []route.Address
	for _, upstream := range c.ActiveTarget().Upstream {
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
	r := route.Config{
		Suffix:    c.SNISuffix,
		Upstreams: upstreams,
		Rule:      rule,
		Covers:    part.covers,
		Log:       log,
	}
	switch {
	case c.Names != nil:
		r.Names = &route.Names{Bootstrap: c.Names.Bootstrap, Broker: c.Names.Broker}
	case c.SNISuffix == "": // its clients know ports alone
		r.Suffix = strings.ReplaceAll(strings.ToLower(name), "_", "-") + ".ports.invalid"
	}
	return route.New(r)
}

// covers reports whether a certificate that clients are shown is good for a name.
func (p *clusterPart) covers(name string) bool {
	shown := p.shown.Load()
	if shown == nil {
		return true
	}
	return slices.ContainsFunc(*shown, func(leaf *x509.Certificate) bool { return len(certs.Uncovered(leaf, name)) == 0 })
}

// show tells the clusters which certificates their clients are shown.
func (s *setup) show() {
	for name, part := range s.clusters {
		var leaves []*x509.Certificate
		for _, l := range s.listeners {
			if l.config.Ports == nil && slices.Contains(s.config.Served(l.config), name) {
				leaves = append(leaves, l.files.leaves()...)
			}
		}
		if leaves == nil {
			part.shown.Store(nil)
		} else {
			part.shown.Store(&leaves)
		}
	}
}

// parts are all files of the setup.
func (s *setup) parts() (all []reload.Part) {
	for _, l := range s.listeners {
		all = append(all, l.files.parts()...)
	}
	for _, c := range s.clusters {
		all = append(append(all, c.files.parts()...), c.login.parts()...)
	}
	return all
}

// how returns how the clients of a listener's socket are served: of the first one, with
// ports, those who bootstrap, of the others those of a broker.
func (s *setup) how(l *listenerPart, socket int) *server.Listener {
	t := s.config.Timeouts
	h := &server.Listener{
		TLS: l.files.tlsConfig(),
		Session: session.Config{
			HandshakeTimeout: t.Handshake,
			IdleTimeout:      t.Idle,
			MaxAge:           t.ConnectionAge,
			TCPUserTimeout:   t.TCPUser,
			MaxFrameBytes:    int(s.config.Limits.MaxFrame),
		},
		Route: s.router(l, socket),
	}
	h.Label = l.config.Label()
	if len(s.listeners) > 1 || l.config.Name != "" {
		h.Name = h.Label
	}
	if p := l.config.ProxyProtocol; p != nil {
		for _, n := range p.From {
			h.ProxyFrom = append(h.ProxyFrom, n.Prefix)
		}
	}
	return h
}

func (s *setup) router(l *listenerPart, socket int) server.Router {
	if p := l.config.Ports; p != nil {
		naming := portNaming(p)
		m := server.Member{Cluster: s.clusters[p.Cluster].server, Naming: naming}
		return server.ByPort(m, naming.Node(int32(p.Brokers.First+socket-1)), socket == 0)
	}
	var members []server.Member
	for _, name := range s.config.Served(l.config) {
		members = append(members, server.Member{Cluster: s.clusters[name].server, Naming: route.OnePort(s.advertisedPort(l, name))})
	}
	return server.ByName(l.config.AllowMissingSNI, members...)
}

func portNaming(p *config.Ports) *route.Ports {
	return &route.Ports{Host: p.AdvertisedHost, First: int32(p.Brokers.First), Last: int32(p.Brokers.Last), FirstNode: p.FirstNodeID}
}

// advertisedPort is the port that clients of a cluster are told to connect to.
func (s *setup) advertisedPort(l *listenerPart, cluster string) int {
	if port := l.config.AdvertisedPort; port != 0 {
		return port
	}
	if port := s.clusters[cluster].config.AdvertisedPort; port != 0 {
		return port
	}
	return l.sockets[0].Addr().(*net.TCPAddr).Port
}

// bootstraps are the addresses that clients of a listener know, by cluster.
func (s *setup) bootstraps(l *listenerPart) (all []string) {
	if p := l.config.Ports; p != nil {
		return []string{fmt.Sprintf("%s:%d", p.AdvertisedHost, l.sockets[0].Addr().(*net.TCPAddr).Port)}
	}
	for _, name := range s.config.Served(l.config) {
		all = append(all, fmt.Sprintf("%s:%d", s.clusters[name].table.Bootstrap(), s.advertisedPort(l, name)))
	}
	return all
}

// isSelf reports whether a certificate has the key of one that clients are shown: then
// whoever shows it is this proxy, or a copy of it.
func (a *app) isSelf(cert *x509.Certificate) bool {
	keys := a.ownKeys.Load()
	return keys != nil && (*keys)[string(cert.RawSubjectPublicKeyInfo)]
}

// setOwnKeys notes the keys of the certificates that clients are shown.
func (a *app) setOwnKeys(s *setup) {
	keys := map[string]bool{}
	for _, l := range s.listeners {
		for _, leaf := range l.files.leaves() {
			if leaf != nil { // nil: a check goes on without it
				keys[string(leaf.RawSubjectPublicKeyInfo)] = true
			}
		}
	}
	a.ownKeys.Store(&keys)
}
