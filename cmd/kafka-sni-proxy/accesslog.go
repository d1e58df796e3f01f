package main

import (
	"context"
	"crypto/tls"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kafka-sni-proxy/internal/accesslog"
	"kafka-sni-proxy/internal/admin"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/server"
	"kafka-sni-proxy/internal/session"
)

// accessLog is the access log, and nil where there is none.
type accessLog struct {
	app    *app
	writer *accesslog.Writer
}

// accessLogTimeout is how long what waits to be written may take at the end.
const accessLogTimeout = 2 * time.Second

// openAccessLog opens the access log that the configuration names.
func (a *app) openAccessLog(c *configuration, stdout io.Writer, wrong *mistakes) {
	path := c.config.Log.Access
	if path == "" || len(c.wrong) > 0 {
		return
	}
	w, err := accesslog.Open(accesslog.Config{
		Path:     path,
		Stdout:   stdout,
		Log:      a.log,
		Hint:     a.inTerms(accessLogHint),
		SlowHint: a.inTerms(accessLogSlowHint),
	})
	if err != nil {
		wrong.add(err, "log.access")
		return
	}
	a.accessLog = &accessLog{a, w}
}

// reopen has the file be opened anew, after it was renamed.
func (l *accessLog) reopen() {
	if l != nil {
		l.writer.Reopen()
	}
}

// close writes what waits.
func (l *accessLog) close() {
	if l == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), accessLogTimeout)
	defer cancel()
	if err := l.writer.Close(ctx); err != nil {
		l.app.log.Warn("the access log is not complete", "error", err)
	}
}

// ended returns what is told of connections that have ended; nil: nothing.
func (l *accessLog) ended() func(*server.End) {
	if l == nil {
		return nil
	}
	return func(e *server.End) { l.writer.Write(l.app.entryOf(e, time.Now())) }
}

// entryOf returns the line of a connection that has ended.
func (a *app) entryOf(e *server.End, now time.Time) *accesslog.Entry {
	entry := &accesslog.Entry{
		Time:            accesslog.Time(now),
		Began:           accesslog.Time(e.Began),
		Listener:        e.Label,
		Client:          e.Client.String(),
		SNI:             e.ServerName,
		Software:        e.Introduction.Software,
		SoftwareVersion: e.Introduction.Version,
		ClientID:        e.Introduction.ClientID,
		Principal:       e.Login.Principal,
		Mechanism:       e.Login.Mechanism,
		BrokerMechanism: e.Login.BrokerMechanism,
		RequestBytes:    e.Traffic.RequestBytes.Load(),
		ResponseBytes:   e.Traffic.ResponseBytes.Load(),
		Requests:        e.Traffic.Requests.Load(),
		Responses:       e.Traffic.Responses.Load(),
		Rewritten:       e.Traffic.Rewritten.Load(),
		Handshake:       accesslog.Seconds(e.Handshake),
		Connect:         accesslog.Seconds(e.Connect),
		Took:            accesslog.Seconds(e.Took),
		Result:          accesslog.Result(e.Outcome),
		Phase:           e.Phase,
		Retired:         string(e.Retired),
		Limit:           string(e.Limit),
	}
	if e.TLSVersion != 0 {
		entry.TLS = tls.VersionName(e.TLSVersion)
	}
	if e.Destination != nil {
		entry.Cluster = e.Destination.Name()
		if node, ok := a.nodeOf(e.Result); ok {
			entry.Node = &node
		}
	}
	if e.Reached {
		entry.Upstream = e.Upstream.String()
	}
	if e.Err != nil && e.Retired == "" && e.Limit == "" {
		entry.Reason = e.Err.Error()
	}
	return entry
}

// nodeOf returns the node id of the broker that a client has asked for, if it has asked for one
// that is known.
func (a *app) nodeOf(r *session.Result) (node int32, ok bool) {
	part := a.now.Load().cluster(r.Destination.Name())
	switch {
	case r.Route.ByNode:
		return r.Route.Node, true
	case part == nil || r.Route.Kind == route.Bootstrap:
		return 0, false
	}
	return part.table.NodeOf(r.Route.Name)
}

var metricAccessLogDropped = admin.Metric("access_log_dropped_total", "Lines of the access log that were lost: they came faster than they could be written, or could not be.")

// metrics are what is told to Prometheus of an access log.
func (l *accessLog) metrics() []prometheus.Collector {
	if l == nil {
		return nil
	}
	return []prometheus.Collector{counter{metricAccessLogDropped, l.writer.Dropped}}
}

// counter is a metric that is counted elsewhere.
type counter struct {
	desc  *prometheus.Desc
	count func() int64
}

// Describe implements prometheus.Collector.
func (c counter) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c counter) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(c.desc, prometheus.CounterValue, float64(c.count()))
}
