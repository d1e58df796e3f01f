package main

import (
	"context"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kafka-sni-proxy/internal/admin"
	"kafka-sni-proxy/internal/config"
	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/server"
	"kafka-sni-proxy/internal/session"
	"kafka-sni-proxy/internal/trace"
)

// traces are sent to a collector; nil where that is off.
type traces struct{ exporter *trace.Exporter }

// traceTimeout is how long what waits to be sent may take at the end, at the most.
const traceTimeout = 5 * time.Second

// startTraces begins to send traces, if the configuration says where to.
func (a *app) startTraces(c *config.Config) {
	if c.Trace.Endpoint == "" {
		return
	}
	service := map[string]string{"service.name": "kafka-sni-proxy", "service.version": versionText()}
	if host, err := os.Hostname(); err == nil {
		service["host.name"] = host
	}
	exporter, err := trace.New(trace.Config{
		Endpoint:    c.Trace.Endpoint,
		Connections: float64(c.Trace.Connections),
		Requests:    float64(c.Trace.Requests),
		Service:     service,
		Log:         a.log,
		Hint:        a.inTerms(traceHint),
		SlowHint:    a.inTerms(traceSlowHint),
	})
	if err != nil { // which Validate has looked at
		a.log.Error("no traces", "error", err)
		return
	}
	a.traces = &traces{exporter}
}

// flush sends what waits, and ends.
func (t *traces) flush(ctx context.Context) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, traceTimeout)
	defer cancel()
	t.exporter.Shutdown(ctx)
}

// close ends at once what flush has not.
func (t *traces) close() {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	t.flush(over)
}

// onAnswer returns what is told of responses; nil: nothing.
func (t *traces) onAnswer() func(*session.Session, kafka.Answer, int64) {
	if t == nil {
		return nil
	}
	return func(s *session.Session, a kafka.Answer, came int64) {
		if t.exporter.SampleRequest() {
			t.request(s.Snapshot(), a, came)
		}
	}
}

// request sends the span of a request.
func (t *traces) request(s session.Snapshot, a kafka.Answer, came int64) {
	c := &trace.Client{
		Began: s.Began, Address: s.Client, Listener: s.Listener, SNI: s.ServerName, TLS: s.TLSVersion, Broker: s.Broker.String(),
		ID: s.ClientID, Software: s.Software, SoftwareVersion: s.Version,
	}
	if s.Destination != nil {
		c.Cluster = s.Destination.Name()
	}
	t.exporter.Request(c, &trace.Request{
		API: kafka.APIName(kafka.APIIndex(a.Key)), Key: a.Key, Version: a.Version, Correlation: a.Correlation,
		Asked: session.Time(a.Asked), Answered: session.Time(came), Throttle: time.Duration(a.Throttle) * time.Millisecond,
	})
}

// ended sends the spans of a connection.
func (t *traces) ended(e *server.End) {
	c := &trace.Connection{
		Client: trace.Client{
			Began: e.Began, Address: e.Client, Listener: e.Label, SNI: e.ServerName, TLS: e.TLSVersion,
			ID: e.Introduction.ClientID, Software: e.Introduction.Software, SoftwareVersion: e.Introduction.Version,
		},
		Took: e.Took, Handshake: e.Handshake, Connect: e.Connect, Resumed: e.Resumed,
		RequestBytes: e.Traffic.RequestBytes.Load(), ResponseBytes: e.Traffic.ResponseBytes.Load(),
		Requests: e.Traffic.Requests.Load(), Responses: e.Traffic.Responses.Load(), Rewritten: e.Traffic.Rewritten.Load(),
		Result: string(e.Outcome), Failed: e.Outcome != server.OutcomeOK && e.Outcome != server.OutcomeRetired,
		Phase: e.Phase, Retired: string(e.Retired), Limit: string(e.Limit),
	}
	if e.Destination != nil {
		c.Cluster = e.Destination.Name()
	}
	if e.Reached {
		c.Broker = e.Upstream.String()
	}
	if e.Err != nil && e.Retired == "" && e.Limit == "" {
		c.Reason = e.Err.Error()
	}
	t.exporter.Connection(c)
}

var metricTracesDropped = admin.Metric("traces_dropped_total", "Spans that were lost: they came faster than the collector takes them, or it did not take them.")

// metrics are what is told to Prometheus of traces.
func (t *traces) metrics() []prometheus.Collector {
	if t == nil {
		return nil
	}
	return []prometheus.Collector{counter{metricTracesDropped, t.exporter.Dropped}}
}
