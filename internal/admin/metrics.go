package admin

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics presents the proxy's counters to Prometheus.
type metrics struct{ proxy Proxy }

var (
	metricAccepted       = Metric("connections_accepted_total", "Client connections accepted.")
	metricAcceptErrors   = Metric("accept_errors_total", "Client connections that could not be accepted, for want of file descriptors for instance.")
	metricActive         = Metric("connections", "Client connections now open; with an empty cluster those that are not yet led to one.", "cluster")
	metricFailures       = Metric("connection_failures_total", "Client connections that ended with an error, by the phase it happened in; with an empty cluster those that were led to none, or to one that is no more.", "phase", "cluster")
	metricRefused        = Metric("connections_refused_total", "Client connections reset on arrival, by the limit that they would have exceeded.", "limit")
	metricRetired        = Metric("connections_retired_total", "Client connections ended in good order, for being idle or old.", "reason")
	metricPanics         = Metric("panics_total", "Panics that were caught; each has ended one connection at the most, and is a bug.")
	metricBytes          = Metric("bytes_total", "Plaintext bytes forwarded: requests towards brokers, responses towards clients.", "kind", "cluster")
	metricFrames         = Metric("frames_total", "Kafka frames forwarded: requests towards brokers, responses towards clients.", "kind", "cluster")
	metricRewritten      = Metric("responses_rewritten_total", "Responses in which broker addresses or version ranges were replaced.", "cluster")
	metricDropped        = Metric("endpoints_dropped_total", "Broker endpoints left out of a response because their replacement did not fit.", "cluster")
	metricBrokers        = Metric("brokers_learned", "Brokers whose addresses have been learned.", "cluster")
	metricOneName        = Metric("one_server_name_clients_total", "Client addresses that name one server for all brokers, or none, and so reach one broker only.")
	metricOther          = Metric("other_cluster_addresses", "Broker addresses that have told another cluster's id, and are refused.", "cluster")
	metricNoPort         = Metric("broker_without_port_responses_total", "Responses refused because they name a broker that has no port at the listener.", "cluster")
	metricClusterRefused = Metric("cluster_connections_refused_total", "Client connections reset because the cluster has as many as it may have.", "cluster")
	metricDraining       = Metric("draining", "1 while the proxy is shutting down.")
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
	unrouted := s.Active
	for name, c := range s.Clusters {
		unrouted -= c.Active
		send(metricActive, prometheus.GaugeValue, float64(c.Active), name)
		for phase, n := range c.Failures {
			s.Failures[phase] -= n
			send(metricFailures, prometheus.CounterValue, float64(n), phase, name)
		}
		send(metricBytes, prometheus.CounterValue, float64(c.RequestBytes), "request", name)
		send(metricBytes, prometheus.CounterValue, float64(c.ResponseBytes), "response", name)
		send(metricFrames, prometheus.CounterValue, float64(c.Requests), "request", name)
		send(metricFrames, prometheus.CounterValue, float64(c.Responses), "response", name)
		send(metricRewritten, prometheus.CounterValue, float64(c.Rewritten), name)
		send(metricDropped, prometheus.CounterValue, float64(c.EndpointsDropped), name)
		send(metricBrokers, prometheus.GaugeValue, float64(c.Brokers), name)
		send(metricOther, prometheus.GaugeValue, float64(c.OtherClusterAddresses), name)
		send(metricNoPort, prometheus.CounterValue, float64(c.BrokersWithoutPort), name)
		send(metricClusterRefused, prometheus.CounterValue, float64(c.Refused), name)
	}
	send(metricActive, prometheus.GaugeValue, float64(max(unrouted, 0)), "")
	for phase, n := range s.Failures {
		send(metricFailures, prometheus.CounterValue, float64(max(n, 0)), phase, "")
	}
	for limit, n := range s.Refused {
		send(metricRefused, prometheus.CounterValue, float64(n), limit)
	}
	for reason, n := range s.Retired {
		send(metricRetired, prometheus.CounterValue, float64(n), reason)
	}
	send(metricPanics, prometheus.CounterValue, float64(s.Panics))
	send(metricOneName, prometheus.CounterValue, float64(s.OneNameClients))
	send(metricDraining, prometheus.GaugeValue, draining)
}
