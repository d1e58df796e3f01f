package main

import (
	"crypto/x509"
	"net/url"
	"os"
	"runtime"
	"slices"
	"time"

	"kafka-sni-proxy/internal/admin"
	"kafka-sni-proxy/internal/api"
	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/server"
	"kafka-sni-proxy/internal/session"
)

// facts are what the admin port tells of the setup in force. They never change.
type facts struct {
	listeners    []api.Listener
	certificates []api.Certificate
	via          map[string]string

	authentication map[string]admin.Authentication
}

// phase is what the program is at.
type phase struct {
	state string // as in api.Status
	since time.Time
}

func (a *app) setPhase(state string) { a.phase.Store(&phase{state, time.Now()}) }

// setFacts notes what is in force.
func (a *app) setFacts(s *setup) {
	f := &facts{via: map[string]string{}, authentication: map[string]admin.Authentication{}}
	for _, l := range s.listeners {
		f.listeners = append(f.listeners, s.factsOf(l))
		for _, shown := range l.files.shown {
			f.certificates = append(f.certificates, certificateFacts("listener", l.config.Label(), shown.Files[0], shown.Value().Leaf))
		}
		for _, authority := range l.files.clients.Value().authorities {
			f.certificates = append(f.certificates, certificateFacts("client-authority", l.config.Label(), l.files.clients.Files[0], authority))
		}
	}
	for _, name := range sortedNames(s.clusters) {
		part := s.clusters[name]
		if shown := part.files.shown; shown.Value().Leaf != nil {
			f.certificates = append(f.certificates, certificateFacts("upstream", name, shown.Files[0], shown.Value().Leaf))
		}
		if via, err := url.Parse(string(part.config.ActiveTarget().Via)); err == nil && via.Host != "" {
			f.via[name] = via.Scheme + "://" + via.Host
		}
		if brokers := part.config.BrokerMechanism(); brokers != nil {
			f.authentication[name] = admin.Authentication{Clients: part.config.ClientMechanisms(), Brokers: brokers.Mechanism}
		}
	}
	if shown := a.adminFiles.shown; shown.Value().Leaf != nil {
		f.certificates = append(f.certificates, certificateFacts("admin", "", shown.Files[0], shown.Value().Leaf))
	}
	a.facts.Store(f)
}

// keepWarnings keeps for the admin port what is likely to be wrong: with the configuration, as
// was said when it was put to use, and with files as they are now.
func (a *app) keepWarnings() {
	s := a.now.Load()
	all := slices.Concat(a.ofSockets, a.said)
	for _, l := range s.listeners {
		all = append(all, l.files.warnings(s.covers(l.config))...)
	}
	for _, name := range sortedNames(s.clusters) {
		all = append(append(all, s.clusters[name].files.shown.Warn()...), s.clusters[name].login.warnings()...)
	}
	all = append(all, a.adminFiles.warnings()...)
	a.warnings.Store(&all)
}

func sortedNames(all map[string]*clusterPart) (names []string) {
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (s *setup) factsOf(l *listenerPart) api.Listener {
	f := api.Listener{
		Name: l.config.Label(), Address: l.sockets[0].Addr().String(), Mode: "sni", TLS: !l.config.Plaintext,
		MTLS: l.config.ClientCertificates.Require, Clusters: s.config.Served(l.config), Bootstrap: s.bootstraps(l),
	}
	if p := l.config.Ports; p != nil {
		f.Mode, f.BrokerPorts = "ports", p.Brokers.String()
	}
	return f
}

func certificateFacts(use, of, file string, cert *x509.Certificate) api.Certificate {
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	if names == nil {
		names = []string{}
	}
	return api.Certificate{
		Use: use, Of: of, File: file, Subject: cert.Subject.String(), Issuer: cert.Issuer.String(), Names: names,
		NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(), Serial: cert.SerialNumber.Text(16), Fingerprint: fingerprint(cert),
	}
}

// Facts implements admin.Proxy.
func (a *app) Facts() admin.Facts {
	host, _ := os.Hostname()
	is, phase, limits := a.facts.Load(), a.phase.Load(), a.server.Limits()
	f := admin.Facts{
		Version: versionOnly(), GoVersion: runtime.Version(), Host: host, PID: os.Getpid(),
		Started: a.started, State: phase.state, StateSince: phase.since, Configuration: a.file,
		MaxConnections: limits.MaxConnections, Listeners: slices.Clone(is.listeners), Certificates: slices.Clone(is.certificates),
		Reload: a.reloadFacts(), HandOver: a.handOverFacts(), Via: is.via, Authentication: is.authentication,
		ShowConfiguration: a.showConfiguration, Log: a.lines.last,
	}
	for i := range f.Certificates {
		c := &f.Certificates[i]
		if left := time.Until(c.NotAfter); left <= certs.RenewBefore {
			c.Warning = "renew it soon"
			if left <= 0 {
				c.Warning = "it has expired"
			}
		}
	}
	for _, warning := range *a.warnings.Load() {
		f.Warnings = append(f.Warnings, a.inTerms(warning))
	}
	return f
}

func (a *app) reloadFacts() api.Reload {
	r := a.reload.Result()
	f := api.Reload{Changed: r.Changed, Failed: r.Failed, LastGood: r.LastGood.UTC()}
	for _, reading := range r.Readings {
		f.Events = append(f.Events, api.ReloadEvent{Time: reading.Time.UTC(), Asked: reading.Asked,
			Changed: slices.Concat([]string{}, reading.Changed), Failed: slices.Concat([]string{}, reading.Failed)})
	}
	for _, p := range r.Unusable {
		f.Problems = append(f.Problems, api.FileProblem{Setting: p.Setting, Files: p.Files, Since: p.Since.UTC(), Error: p.Text})
	}
	return f
}

// handOverFacts says whether another process is coming, or the one before is still there.
func (a *app) handOverFacts() *api.HandOver {
	if since := a.handingOver.Load(); since != 0 {
		return &api.HandOver{Since: time.Unix(0, since).UTC()}
	}
	if a.predecessor != nil && os.Getppid() == a.parent {
		return &api.HandOver{Since: a.started.UTC(), From: a.parent}
	}
	return nil
}

// Sessions implements admin.Proxy.
func (a *app) Sessions() []server.SessionView { return a.server.Sessions() }

// Failures implements admin.Proxy.
func (a *app) Failures() []server.Failure { return a.server.Failures() }

// Waiting implements admin.Proxy.
func (a *app) Waiting() map[string]session.Waiting { return a.server.Waiting() }

// Details implements admin.Proxy.
func (a *app) Details() []server.ClusterDetails { return a.server.Details() }

// Hint implements admin.Proxy.
func (a *app) Hint(err error) string { return a.hint(err) }
