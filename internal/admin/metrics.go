package admin

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics presents the proxy's counters to Prometheus.
type metrics struct{ proxy Proxy }

var (
	metricAccepted     = Metric("connections_accepted_total", "Client connections accepted.")
	metricAcceptErrors = Metric("accept_errors_total", "Client connections that could not be accepted, for want of file descriptors for instance.")
	metricActive       = Metric("connections", "Client connections now open.")
	metricFailures     = Metric("connection_failures_total", "Client connections that ended with an error, by the phase it happened in.", "phase")
	metricRefused      = Metric("connections_refused_total", "Client connections reset on arrival, by the limit that they would have exceeded.", "limit")
	metricRetired      = Metric("connections_retired_total", "Client connections ended in good order, for being idle or old.", "reason")
	metricPanics       = Metric("panics_total", "Panics that were caught; each has ended one connection at the most, and is a bug.")
	metricBytes        = Metric("bytes_total", "Plaintext bytes forwarded: requests towards brokers, responses towards clients.", "kind")
	metricFrames       = Metric("frames_total", "Kafka frames forwarded: requests towards brokers, responses towards clients.", "kind")
	metricRewritten    = Metric("responses_rewritten_total", "Responses in which broker addresses or version ranges were replaced.")
	metricDropped      = Metric("endpoints_dropped_total", "Broker endpoints left out of a response because their replacement did not fit.")
	metricBrokers      = Metric("brokers_learned", "Brokers whose addresses have been learned.")
	metricOneName      = Metric("one_server_name_clients_total", "Client addresses that name one server for all brokers, or none, and so reach one broker only.")
	metricOther        = Metric("other_cluster_addresses", "Broker addresses that have told another cluster's id, and are refused.")
	metricDraining     = Metric("draining", "1 while the proxy is shutting down.")
)

// Metric describes a metric of the program.
func Metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("kafka_sni_proxy_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (m metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector. One snapshot serves all, so that the
// numbers go together.
func (m metrics) Collect(ch chan<- prometheus.Metric) {
	s := m.proxy.Stats()
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
