package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"kafka-sni-proxy/internal/server"
)

// serveAdmin answers /metrics, /healthz and /readyz until stop is called.
func serveAdmin(a *app) (stop func()) {
	web := &http.Server{
		Handler:           adminHandler(a),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := web.Serve(a.admin); !errors.Is(err, net.ErrClosed) {
			a.log.Error("metrics and health checks have ended", "error", err)
		}
	}()
	a.log.Info("metrics and health checks", "address", a.admin.Addr().String())
	return func() {
		// What was accepted is answered, also when another process answers what comes
		// next. Only when Serve has ended, Shutdown knows of all of that.
		a.admin.Close()
		<-ended
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if web.Shutdown(ctx) != nil {
			web.Close()
		}
	}
}

func adminHandler(a *app) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		metrics{a.server},
		reloadMetrics{a},
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if err := checkAlive(r.Context(), a, healthTimeout); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /readyz", &readiness{server: a.server})
	return mux
}

// healthTimeout is how long accepting a client may take before the proxy counts
// as dead. It pauses for a second when it is out of file descriptors.
const healthTimeout = 5 * time.Second

// readiness answers whether a new client would be served: the proxy is not
// draining, and an upstream can be reached. It asks the upstream at most once
// in a few seconds, however many ask it.
type readiness struct {
	server *server.Server

	mu      sync.Mutex
	checked time.Time
	problem error
}

const (
	readinessTTL     = 5 * time.Second
	readinessTimeout = 5 * time.Second
)

func (r *readiness) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if err := r.check(); err != nil {
		http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

func (r *readiness) check() error {
	if r.server.Draining() {
		return errors.New("draining")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.checked.IsZero() || time.Since(r.checked) > readinessTTL {
		// Not the request's context: the answer is for those who ask next, too.
		ctx, cancel := context.WithTimeout(context.Background(), readinessTimeout)
		defer cancel()
		r.problem = r.server.Cluster().Check(ctx)
		r.checked = time.Now()
	}
	if r.problem != nil {
		return fmt.Errorf("no upstream can be reached: %w", r.problem)
	}
	return nil
}

// metrics presents the proxy's counters to Prometheus.
type metrics struct{ server *server.Server }

var (
	metricAccepted     = metric("connections_accepted_total", "Client connections accepted.")
	metricAcceptErrors = metric("accept_errors_total", "Client connections that could not be accepted, for want of file descriptors for instance.")
	metricActive       = metric("connections", "Client connections now open.")
	metricFailures     = metric("connection_failures_total", "Client connections that ended with an error, by the phase it happened in.", "phase")
	metricRefused      = metric("connections_refused_total", "Client connections reset on arrival, by the limit that they would have exceeded.", "limit")
	metricRetired      = metric("connections_retired_total", "Client connections ended in good order, for being idle or old.", "reason")
	metricPanics       = metric("panics_total", "Panics that were caught; each has ended one connection at the most, and is a bug.")
	metricBytes        = metric("bytes_total", "Plaintext bytes forwarded: requests towards brokers, responses towards clients.", "kind")
	metricFrames       = metric("frames_total", "Kafka frames forwarded: requests towards brokers, responses towards clients.", "kind")
	metricRewritten    = metric("responses_rewritten_total", "Responses in which broker addresses or version ranges were replaced.")
	metricDropped      = metric("endpoints_dropped_total", "Broker endpoints left out of a response because their replacement did not fit.")
	metricBrokers      = metric("brokers_learned", "Brokers whose addresses have been learned.")
	metricOneName      = metric("one_server_name_clients_total", "Client addresses that name one server for all brokers, or none, and so reach one broker only.")
	metricOther        = metric("other_cluster_addresses", "Broker addresses that have told another cluster's id, and are refused.")
	metricDraining     = metric("draining", "1 while the proxy is shutting down.")
)

func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("kafka_sni_proxy_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (m metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector. One snapshot serves all, so that the
// numbers go together.
func (m metrics) Collect(ch chan<- prometheus.Metric) {
	s := m.server.Stats()
	send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	draining := 0.0
	if s.Draining {
		draining = 1
	}
	send(metricAccepted, prometheus.CounterValue, float64(s.Accepted))
	send(metricAcceptErrors, prometheus.CounterValue, float64(s.AcceptErrors))
	send(metricActive, prometheus.GaugeValue, float64(s.Active))
	for phase, n := range s.Failures {
		send(metricFailures, prometheus.CounterValue, float64(n), phase)
	}
	for limit, n := range s.Refused {
		send(metricRefused, prometheus.CounterValue, float64(n), limit)
	}
	for reason, n := range s.Retired {
		send(metricRetired, prometheus.CounterValue, float64(n), reason)
	}
	send(metricPanics, prometheus.CounterValue, float64(s.Panics))
	send(metricBytes, prometheus.CounterValue, float64(s.RequestBytes), "request")
	send(metricBytes, prometheus.CounterValue, float64(s.ResponseBytes), "response")
	send(metricFrames, prometheus.CounterValue, float64(s.Requests), "request")
	send(metricFrames, prometheus.CounterValue, float64(s.Responses), "response")
	send(metricRewritten, prometheus.CounterValue, float64(s.Rewritten))
	send(metricDropped, prometheus.CounterValue, float64(s.EndpointsDropped))
	send(metricBrokers, prometheus.GaugeValue, float64(s.Brokers))
	send(metricOneName, prometheus.CounterValue, float64(s.OneNameClients))
	send(metricOther, prometheus.GaugeValue, float64(s.OtherClusterAddresses))
	send(metricDraining, prometheus.GaugeValue, draining)
}
