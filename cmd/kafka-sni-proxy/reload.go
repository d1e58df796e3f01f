package main

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kafka-sni-proxy/internal/admin"
	"kafka-sni-proxy/internal/config"
	"kafka-sni-proxy/internal/reload"
	"kafka-sni-proxy/internal/server"
)

// readAgain reads the configuration's file, and prepares what is new in it. It returns what
// is in force when that means the same. The error has all that is wrong; then nothing has
// changed.
func (a *app) readAgain() (*setup, error) {
	now := a.now.Load()
	c := a.read()
	if len(c.wrong) > 0 {
		return nil, c.wrong.firstLines()
	}
	a.configFile.Files = append([]string{a.file}, c.secretFiles()...)
	if sameConfig(c.config, now.config) {
		return now, nil
	}
	wrong := &mistakes{text: c.text}
	s := a.prepare(c.config, now, wrong)
	if !wrong.any() {
		a.makeClusters(s, now, wrong)
	}
	if wrong.any() {
		closeAll(a.sockets.keep(now.listeners))
		return nil, wrong.errors().firstLines()
	}
	s.warnings = append(append(c.warnings, s.warnings...), unchangeable(a.atStart, c.config)...)
	return s, nil
}

func closeAll(all []*socket) {
	for _, s := range all {
		s.Close()
	}
}

// use puts a setup in the place of the one before. Sessions go on as they began, but for
// those of listeners and clusters that are gone: these are ended one by one.
func (a *app) use(s *setup) {
	before := a.now.Load()
	a.takeRoutes(before, s)
	a.drainLimit.Store(int64(s.config.Timeouts.Drain))
	a.level.UnmarshalText([]byte(s.config.Log.Level))
	a.server.SetLimits(limits(s.config))
	s.show()
	s.useLogins()
	a.setOwnKeys(s)

	var clusters []*server.Cluster
	for _, part := range s.clusters {
		clusters = append(clusters, part.server)
	}
	a.server.SetClusters(clusters...)
	for _, l := range s.listeners {
		l.files.rename(l.index, a.settingName)
		for i, socket := range l.sockets {
			if how := s.how(l, i); socket.at == nil {
				socket.at = a.server.NewSocket(socket.Listener, how)
			} else {
				socket.at.Set(how)
			}
		}
	}
	a.now.Store(s)
	a.expiry.Store(s.expiry())
	a.adminFiles.use()
	a.setFacts(s)
	if before == nil || before == s {
		return
	}
	a.keepRoutes(s)
	a.end(before, s)
	a.serveSockets(s)
	a.leftovers.Go(func() { a.checkUpstreams(a.life, s.newSince(before)) })
}

// end ends what is not in a setup any more.
func (a *app) end(before, s *setup) {
	var sockets []*server.Socket
	for _, gone := range a.sockets.keep(s.listeners) {
		sockets = append(sockets, gone.at)
		a.log.Info("a listener's address is gone: its connections are ended one by one", "address", gone.Addr().String())
	}
	var clusters []*server.Cluster
	for name, part := range before.clusters {
		if s.clusters[name] == nil {
			clusters = append(clusters, part.server)
			a.log.Info("a cluster is gone: its connections are ended one by one", "cluster", name)
		}
	}
	limit := a.drainTimeout()
	within := func(end func(ctx context.Context)) { // which ends when the server is shut down, too
		a.leftovers.Go(func() {
			ctx, cancel := context.WithTimeout(a.life, limit)
			defer cancel()
			end(ctx)
		})
	}
	if len(sockets) > 0 {
		within(func(ctx context.Context) { a.server.Retire(ctx, limit/2, sockets...) })
	}
	if len(clusters) > 0 {
		within(func(ctx context.Context) { a.server.EndClusters(ctx, limit/2, clusters...) })
	}
}

// newSince are the clusters that are not as they were in an earlier setup.
func (s *setup) newSince(before *setup) (names []string) {
	for name, part := range s.clusters {
		if before.clusters[name] != part {
			names = append(names, name)
		}
	}
	return names
}

// unchangeable warns of settings that cannot change while the program runs. The warnings are true for as
// long as they are not as they were when the program was started, whatever else changes meanwhile.
func unchangeable(atStart, next *config.Config) (warnings []string) {
	const text = "%s has changed: that takes effect when the program is started anew"
	was, is := atStart.Admin, next.Admin
	for _, setting := range []struct {
		name    string
		changed bool
	}{
		{"bind", was.Bind != is.Bind}, {"token-file", was.TokenFile != is.TokenFile}, {"cert", was.Cert != is.Cert}, {"key", was.Key != is.Key},
		{"client-ca-certs", was.ClientCACerts != is.ClientCACerts}, {"pprof", was.Pprof != is.Pprof},
	} { // what these files have is another matter: it is used at once
		if setting.changed {
			warnings = append(warnings, fmt.Sprintf(text, "admin."+setting.name))
		}
	}
	if atStart.Log.Format != next.Log.Format {
		warnings = append(warnings, fmt.Sprintf(text, "log.format"))
	}
	if atStart.Log.Access != next.Log.Access {
		warnings = append(warnings, fmt.Sprintf(text, "log.access"))
	}
	if atStart.Trace != next.Trace {
		warnings = append(warnings, fmt.Sprintf(text, "trace"))
	}
	return warnings
}

// sameConfig reports whether two configurations mean the same.
func sameConfig(a, b *config.Config) bool { return reflect.DeepEqual(a, b) }

// Reloading implements reload.Owner: the service manager is told.
func (a *app) Reloading() { notifyReloading(a.log) }

// Reloaded implements reload.Owner. Connections that there are go on as they began; new
// ones get what is new.
func (a *app) Reloaded(e reload.Event) {
	isNew := func(settings ...string) bool {
		return slices.ContainsFunc(settings, func(s string) bool { return s != "" && slices.Contains(e.Changed, s) })
	}
	s := a.now.Load()
	for _, part := range s.clusters {
		f := part.files
		if isNew(f.shown.Setting, f.brokers.Setting) {
			part.server = &server.Cluster{Cluster: part.server.With(f.tlsConfig()), MaxConnections: part.server.MaxConnections, Auth: part.server.Auth}
		}
		if isNew(f.hosts.Setting) {
			part.dialer.SetHosts(f.hosts.Value())
		}
	}
	isConfig := isNew(a.configFile.Setting)
	switch {
	case isConfig:
		next := a.configFile.Value()
		a.use(next)
		a.reload.Set(a.parts(next)...)
		a.said = next.warnings
		a.keepWarnings()
		a.log.Info("the configuration is in use", "listeners", len(next.listeners), "clusters", len(next.clusters))
		for _, warning := range slices.Concat(next.warnings, next.ofFiles) {
			a.log.Warn(a.inTerms(warning))
		}
	default:
		if len(e.Changed) > 0 {
			a.use(s)
		}
		a.keepWarnings()
	}
	if e.Asked { // an operator may have replaced a cluster, or renamed a file
		a.accessLog.reopen()
		for _, c := range a.server.Clusters() {
			c.Reconsider()
		}
		notifyReady(a)
	}
	a.expiry.Store(a.now.Load().expiry())
}

// expiry is until when what is in use is good.
type expiry struct {
	certificates []certificateExpiry
	nextUpdate   time.Time // of revocation lists, the first one; zero: none
}

type certificateExpiry struct {
	whose, file string // "server" or "upstream"
	notAfter    time.Time
}

func (s *setup) expiry() *expiry {
	e := &expiry{}
	add := func(c certificateExpiry) {
		if !slices.ContainsFunc(e.certificates, func(o certificateExpiry) bool { return o.whose == c.whose && o.file == c.file }) {
			e.certificates = append(e.certificates, c)
		}
	}
	for _, l := range s.listeners {
		for _, shown := range l.files.shown {
			add(certificateExpiry{"server", shown.Files[0], shown.Value().Leaf.NotAfter})
		}
		if revoked := l.files.clients.Value().revoked; revoked != nil && (e.nextUpdate.IsZero() || revoked.NextUpdate.Before(e.nextUpdate)) {
			e.nextUpdate = revoked.NextUpdate
		}
	}
	for _, c := range s.clusters {
		if shown := c.files.shown; shown.Value().Leaf != nil {
			add(certificateExpiry{"upstream", shown.Files[0], shown.Value().Leaf.NotAfter})
		}
	}
	return e
}

var (
	metricReloads         = admin.Metric("reloads_total", "Changed files that were put to use (changed), or could not be (failed), what was loaded before staying in use.", "result")
	metricReloadProblems  = admin.Metric("reload_problems", "Settings whose files cannot be used as they are now; the configuration's own file is one of them.")
	metricReloadGood      = admin.Metric("reload_last_good_timestamp_seconds", "When all files were last read and found to be good.")
	metricCertificateEnds = admin.Metric("certificate_not_after_timestamp_seconds", "When a certificate in use expires.", "certificate", "file")
	metricNextUpdate      = admin.Metric("crl_next_update_timestamp_seconds", "When the revocation list in use should have been replaced, the first of several.")
)

// reloadMetrics presents reloading to Prometheus.
type reloadMetrics struct{ app *app }

// Describe implements prometheus.Collector.
func (r reloadMetrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(r, ch) }

// Collect implements prometheus.Collector.
func (r reloadMetrics) Collect(ch chan<- prometheus.Metric) {
	result, expiry := r.app.reload.Result(), r.app.expiry.Load()
	send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	send(metricReloads, prometheus.CounterValue, float64(result.Changed), "changed")
	send(metricReloads, prometheus.CounterValue, float64(result.Failed), "failed")
	send(metricReloadProblems, prometheus.GaugeValue, float64(result.Problems))
	send(metricReloadGood, prometheus.GaugeValue, float64(result.LastGood.Unix()))
	for _, c := range expiry.certificates {
		send(metricCertificateEnds, prometheus.GaugeValue, float64(c.notAfter.Unix()), c.whose, c.file)
	}
	if !expiry.nextUpdate.IsZero() {
		send(metricNextUpdate, prometheus.GaugeValue, float64(expiry.nextUpdate.Unix()))
	}
}
