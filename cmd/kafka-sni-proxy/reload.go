package main

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kafka-sni-proxy/internal/admin"
	"kafka-sni-proxy/internal/reload"
)

// Reloading implements reload.Owner: the service manager is told.
func (a *app) Reloading() { notifyReloading(a.log) }

// Reloaded implements reload.Owner. Connections that there are go on as they began; new
// ones get what is new.
func (a *app) Reloaded(e reload.Event) {
	isNew := func(settings ...string) bool {
		return slices.ContainsFunc(settings, func(s string) bool { return s != "" && slices.Contains(e.Changed, s) })
	}
	f := a.files
	if isNew(f.server.Setting, f.clients.Setting) {
		a.leaf.Store(f.server.Value().Leaf)
		a.server.SetTLS(f.downstreamTLS())
	}
	if isNew(f.upstream.Setting, f.brokers.Setting) {
		a.server.SetCluster(a.server.Cluster().With(f.upstreamTLS()))
	}
	if isNew(f.hosts.Setting) {
		a.dialer.hosts.Store(f.hosts.Value())
	}
	if e.Asked { // an operator may have replaced the cluster
		a.server.Cluster().Reconsider()
		notifyReady(a)
	}
	a.expiry.Store(f.expiry())
}

// expiry is until when what is in use is good.
type expiry struct {
	certificates map[string]time.Time // by whose: "server" or "upstream"
	nextUpdate   time.Time            // of revocation lists; zero: none
}

func (t *tlsFiles) expiry() *expiry {
	e := &expiry{certificates: map[string]time.Time{"server": t.server.Value().Leaf.NotAfter}}
	if upstream := t.upstream.Value().Leaf; upstream != nil {
		e.certificates["upstream"] = upstream.NotAfter
	}
	if revoked := t.clients.Value().revoked; revoked != nil {
		e.nextUpdate = revoked.NextUpdate
	}
	return e
}

var (
	metricReloads         = admin.Metric("reloads_total", "Changed files that were put to use (changed), or could not be (failed), what was loaded before staying in use.", "result")
	metricReloadProblems  = admin.Metric("reload_problems", "Flags whose files cannot be used as they are now.")
	metricReloadGood      = admin.Metric("reload_last_good_timestamp_seconds", "When all files were last read and found to be good.")
	metricCertificateEnds = admin.Metric("certificate_not_after_timestamp_seconds", "When the certificate in use expires.", "certificate")
	metricNextUpdate      = admin.Metric("crl_next_update_timestamp_seconds", "When the revocation list in use should have been replaced.")
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
	for name, at := range expiry.certificates {
		send(metricCertificateEnds, prometheus.GaugeValue, float64(at.Unix()), name)
	}
	if !expiry.nextUpdate.IsZero() {
		send(metricNextUpdate, prometheus.GaugeValue, float64(expiry.nextUpdate.Unix()))
	}
}
