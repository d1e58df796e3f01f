package main

import (
	"context"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// reloader puts changed files to use while the program runs. Connections that
// there are go on as they began; new ones get what is new.
type reloader struct {
	c     *config
	files []string

	mu     sync.Mutex
	result reloadResult
}

// reloadResult is what is told about reloading.
type reloadResult struct {
	changed, failed int64     // reloads that brought something new, and that met a file that cannot be used
	problems        int       // flags whose files cannot be used now
	good            time.Time // when all files were last found to be good
	certificates    map[string]time.Time
	nextUpdate      time.Time // of revocation lists; zero: none
}

func newReloader(c *config) *reloader {
	r := &reloader{c: c}
	for _, part := range c.material.parts() {
		r.files = append(r.files, part.files...)
	}
	r.note(false, true)
	return r
}

// matchAgain is when to look at a certificate and a key again that did not match
// when one of them had just changed.
const matchAgain = 2 * time.Second

// run reloads when files change, and whenever somebody asks, until ctx ends.
func (r *reloader) run(ctx context.Context, asks <-chan os.Signal) {
	for why, again := due, lookAgain; why != over; {
		// Watching begins before reading, so that no change falls in between.
		w := newWatcher(r.files)
		if why != due || again == matchAgain || slices.ContainsFunc(r.c.material.parts(), (*part).stale) {
			again = lookAgain
			if why == asked {
				notifyReloading(r.c.log)
			}
			if slices.Contains(r.reload(why), early) {
				again = matchAgain
			}
			if why == asked {
				notifyReady(r.c)
			}
		}
		why = w.wait(ctx, asks, again)
		w.close()
	}
}

// reload reads all files. What is good is used, whatever the others are.
func (r *reloader) reload(why wakeup) []outcome {
	m, log := r.c.material, r.c.log
	downstream := func() {
		r.c.server.SetTLS(m.downstreamTLS())
		r.c.leaf.Store(m.server.value.Leaf)
	}
	upstream := func() { r.c.server.SetCluster(r.c.server.Cluster().With(m.upstreamTLS())) }
	hosts := func() { r.c.dialer.hosts.Store(m.hosts.value) }

	outcomes := []outcome{
		m.server.refresh(log, why, downstream),
		m.clients.refresh(log, why, downstream),
		m.upstream.refresh(log, why, upstream),
		m.brokers.refresh(log, why, upstream),
		m.hosts.refresh(log, why, hosts),
	}
	isNew, isBad, isEarly := slices.Contains(outcomes, changed), slices.Contains(outcomes, unusable), slices.Contains(outcomes, early)
	if why == asked { // an operator may have replaced the cluster
		r.c.server.Cluster().Reconsider()
	}
	if why == asked && !isNew && !isBad {
		log.Info("nothing to reload: no file has changed")
	}
	if isNew || isBad || !isEarly {
		r.note(isNew, !isBad)
	}
	return outcomes
}

// note keeps for the metrics what a reload has led to.
func (r *reloader) note(isNew, allGood bool) {
	m := r.c.material
	r.mu.Lock()
	defer r.mu.Unlock()
	if isNew {
		r.result.changed++
	}
	if allGood {
		r.result.good = time.Now()
	} else {
		r.result.failed++
	}
	r.result.problems = 0
	for _, part := range m.parts() {
		if part.problem != "" {
			r.result.problems++
		}
	}
	r.result.certificates = map[string]time.Time{"server": m.server.value.Leaf.NotAfter}
	if upstream := m.upstream.value.Leaf; upstream != nil {
		r.result.certificates["upstream"] = upstream.NotAfter
	}
	r.result.nextUpdate = time.Time{}
	if revoked := m.clients.value.revoked; revoked != nil {
		r.result.nextUpdate = revoked.NextUpdate
	}
}

func (r *reloader) last() reloadResult {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.result
}

var (
	metricReloads         = metric("reloads_total", "Changed files that were put to use (changed), or could not be (failed), what was loaded before staying in use.", "result")
	metricReloadProblems  = metric("reload_problems", "Flags whose files cannot be used as they are now.")
	metricReloadGood      = metric("reload_last_good_timestamp_seconds", "When all files were last read and found to be good.")
	metricCertificateEnds = metric("certificate_not_after_timestamp_seconds", "When the certificate in use ends.", "certificate")
	metricNextUpdate      = metric("crl_next_update_timestamp_seconds", "When the revocation list in use should have been replaced.")
)

// Describe implements prometheus.Collector.
func (r *reloader) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(r, ch) }

// Collect implements prometheus.Collector.
func (r *reloader) Collect(ch chan<- prometheus.Metric) {
	result := r.last()
	send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	send(metricReloads, prometheus.CounterValue, float64(result.changed), "changed")
	send(metricReloads, prometheus.CounterValue, float64(result.failed), "failed")
	send(metricReloadProblems, prometheus.GaugeValue, float64(result.problems))
	send(metricReloadGood, prometheus.GaugeValue, float64(result.good.Unix()))
	for name, ends := range result.certificates {
		send(metricCertificateEnds, prometheus.GaugeValue, float64(ends.Unix()), name)
	}
	if !result.nextUpdate.IsZero() {
		send(metricNextUpdate, prometheus.GaugeValue, float64(result.nextUpdate.Unix()))
	}
}
