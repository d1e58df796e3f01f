package admin

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/histogram"
	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/session"
)

// metrics presents what the proxy counts to Prometheus.
type metrics struct{ proxy Proxy }

var (
	metricAccepted       = Metric("connections_accepted_total", "Client connections accepted.", "listener")
	metricAcceptErrors   = Metric("accept_errors_total", "Client connections that could not be accepted, for want of file descriptors for instance.")
	metricActive         = Metric("connections", "Client connections now open; with an empty cluster those that are not yet led to one.", "cluster", "listener")
	metricFailures       = Metric("connection_failures_total", "Client connections that ended with an error, by the phase it happened in; with an empty cluster those that were led to none.", "phase", "cluster", "listener")
	metricRefused        = Metric("connections_refused_total", "Client connections reset on arrival, by the limit that they would have exceeded.", "limit")
	metricRetired        = Metric("connections_retired_total", "Client connections ended in good order, for being idle or old.", "reason")
	metricPanics         = Metric("panics_total", "Panics that were caught; each has ended one connection at the most, and is a bug.")
	metricHandshakes     = Metric("handshakes_total", "Handshakes with clients that were completed, by whether they resumed an earlier TLS session.", "listener", "resumed")
	metricHandshakeTime  = Metric("handshake_duration_seconds", "From accepting a client to the end of its handshake, of those that were completed.", "listener")
	metricBytes          = Metric("bytes_total", "Plaintext bytes forwarded: requests towards brokers, responses towards clients.", "kind", "cluster", "listener")
	metricFrames         = Metric("frames_total", "Kafka frames forwarded: requests towards brokers, responses towards clients.", "kind", "cluster", "listener")
	metricLatency        = Metric("request_duration_seconds", "From reading the header of a request to reading that of its response: the broker, and the network behind the proxy.", "cluster", "api")
	metricAdded          = Metric("added_seconds", "Time that the proxy itself has added to a batch of requests or responses, from when it read it until the kernel had it, without waiting for a peer that does not read.", "cluster", "kind")
	metricStalled        = Metric("stalled_seconds_total", "Time for which forwarding waited for a peer that does not read: brokers for requests, clients for responses.", "cluster", "kind")
	metricInFlight       = Metric("requests_in_flight", "Requests that have no response yet.", "cluster")
	metricOldest         = Metric("oldest_request_age_seconds", "For how long the oldest request in flight has had no response; 0 without one.", "cluster")
	metricThrottled      = Metric("throttled_responses_total", "Responses by which a broker told its client to wait (throttle_time_ms), as far as they were seen.", "cluster")
	metricThrottle       = Metric("throttle_seconds_total", "For how long brokers told clients to wait, together.", "cluster")
	metricLogins         = Metric("logins_total", "Logins of clients at the proxy, and of the proxy at brokers: let in (ok), refused, not finished (broken), or another one of a connection that was let in (again).", "cluster", "side", "mechanism", "result")
	metricDialTime       = Metric("broker_dial_duration_seconds", "Connecting to a broker, TLS included, where that succeeded.", "cluster", "broker")
	metricDialErrors     = Metric("broker_dial_errors_total", "Attempts to connect to a broker that failed, by how far they came.", "cluster", "broker", "stage")
	metricBrokerUp       = Metric("broker_up", "1 if the last attempt to connect to the broker succeeded.", "cluster", "broker")
	metricRewritten      = Metric("responses_rewritten_total", "Responses in which broker addresses or version ranges were replaced.", "cluster")
	metricDropped        = Metric("endpoints_dropped_total", "Broker endpoints left out of a response because their replacement did not fit.", "cluster")
	metricNoPort         = Metric("broker_without_port_responses_total", "Responses refused because they name a broker that has no port at the listener.", "cluster")
	metricProvisional    = Metric("provisional_connections_total", "Client connections that asked for a broker which was not known, and were led to a bootstrap server.", "cluster")
	metricQueries        = Metric("cluster_queries_total", "The proxy's own questions where the brokers are.", "cluster", "result")
	metricBrokers        = Metric("brokers_learned", "Brokers whose addresses have been learned.", "cluster")
	metricOther          = Metric("other_cluster_addresses", "Broker addresses that have told another cluster's id, and are refused.", "cluster")
	metricClusterRefused = Metric("cluster_connections_refused_total", "Client connections reset because the cluster has as many as it may have.", "cluster")
	metricLimit          = Metric("connection_limit", "How many clients may be connected.")
	metricClusterLimit   = Metric("cluster_connection_limit", "How many clients of a cluster may be connected.", "cluster")
	metricOneName        = Metric("one_server_name_clients_total", "Client addresses that name one server for all brokers, or none, and so reach one broker only.")
	metricDraining       = Metric("draining", "1 while the proxy is shutting down.")
	metricBuild          = Metric("build_info", "1, with the version of the program.", "version", "goversion")
)

// Metric describes a metric of the program.
func Metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("kafka_sni_proxy_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (m metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// maxBrokerLabels is of how many brokers of a cluster there are metrics: those that come first
// by name.
const maxBrokerLabels = 200

// stages are the values of the label stage.
var stages = map[cluster.Stage]string{cluster.StageDial: "dial", cluster.StageTLS: "upstream-tls", cluster.StageIdentity: "cluster"}

// kinds are the values of the label kind.
var kinds = []session.Kind{session.Requests, session.Responses}

// Collect implements prometheus.Collector. One snapshot serves all, so that the
// numbers go together.
func (m metrics) Collect(ch chan<- prometheus.Metric) {
	s, facts, waiting := m.proxy.Stats(), m.proxy.Facts(), m.proxy.Waiting()
	send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue

	send(metricBuild, gauge, 1, facts.Version, facts.GoVersion)
	send(metricAcceptErrors, counter, float64(s.AcceptErrors))
	for _, share := range s.Shares {
		send(metricActive, gauge, float64(share.Active), share.Cluster, share.Listener)
		for phase, n := range share.Failures {
			send(metricFailures, counter, float64(n), phase, share.Cluster, share.Listener)
		}
		for i, n := range []int64{share.RequestBytes, share.ResponseBytes} {
			send(metricBytes, counter, float64(n), kinds[i].String(), share.Cluster, share.Listener)
		}
		for i, n := range []int64{share.Requests, share.Responses} {
			send(metricFrames, counter, float64(n), kinds[i].String(), share.Cluster, share.Listener)
		}
		if share.Cluster == "" {
			send(metricAccepted, counter, float64(share.Accepted), share.Listener)
			send(metricHandshakes, counter, float64(share.Handshakes), share.Listener, "false")
			send(metricHandshakes, counter, float64(share.Resumed), share.Listener, "true")
			ch <- newHistogram(metricHandshakeTime, &share.HandshakeTimes, slow, share.Listener)
		}
	}
	for name, c := range s.Clusters {
		send(metricRewritten, counter, float64(c.Rewritten), name)
		send(metricDropped, counter, float64(c.EndpointsDropped), name)
		send(metricBrokers, gauge, float64(c.Brokers), name)
		send(metricOther, gauge, float64(c.OtherClusterAddresses), name)
		send(metricNoPort, counter, float64(c.BrokersWithoutPort), name)
		send(metricClusterRefused, counter, float64(c.Refused), name)
		send(metricProvisional, counter, float64(c.Provisional), name)
		send(metricQueries, counter, float64(c.Answered), name, "answered")
		send(metricQueries, counter, float64(c.Counts.Failed), name, "failed")
		send(metricInFlight, gauge, float64(waiting[name].Requests), name)
		send(metricOldest, gauge, waiting[name].Oldest.Seconds(), name)
		if c.MaxConnections > 0 {
			send(metricClusterLimit, gauge, float64(c.MaxConnections), name)
		}
		m.measured(ch, name, c.Meter, waiting[name])
		for _, h := range c.Health[:min(len(c.Health), maxBrokerLabels)] {
			broker, up := h.Address.String(), 0.0
			if h.OK {
				up = 1
			}
			send(metricBrokerUp, gauge, up, name, broker)
			ch <- newHistogram(metricDialTime, &h.Times, slow, name, broker)
			for _, stage := range cluster.Stages {
				send(metricDialErrors, counter, float64(h.Errors[stage]), name, broker, stages[stage])
			}
		}
	}
	for limit, n := range s.Refused {
		send(metricRefused, counter, float64(n), limit)
	}
	for reason, n := range s.Retired {
		send(metricRetired, counter, float64(n), reason)
	}
	if facts.MaxConnections > 0 {
		send(metricLimit, gauge, float64(facts.MaxConnections))
	}
	send(metricPanics, counter, float64(s.Panics))
	send(metricOneName, counter, float64(s.OneNameClients))
	draining := 0.0
	if s.Draining {
		draining = 1
	}
	send(metricDraining, gauge, draining)
}

// measured presents what the sessions of a cluster have measured.
func (m metrics) measured(ch chan<- prometheus.Metric, name string, meter *session.Meter, waiting session.Waiting) {
	for i := range kafka.APIs {
		var s histogram.Snapshot
		if meter.Latency(i, &s) {
			ch <- newHistogram(metricLatency, &s, slow, name, kafka.APIName(i))
		}
	}
	for _, k := range kinds {
		var s histogram.Snapshot
		meter.Added(k, &s)
		ch <- newHistogram(metricAdded, &s, fast, name, k.String())
		ch <- prometheus.MustNewConstMetric(metricStalled, prometheus.CounterValue, (meter.Stalled(k) + waiting.Stalled[k]).Seconds(), name, k.String())
	}
	meter.Logins(func(side session.Side, mechanism string, became session.Outcome, n int64) {
		ch <- prometheus.MustNewConstMetric(metricLogins, prometheus.CounterValue, float64(n), name, side.String(), mechanism, became.String())
	})
	n, wait := meter.Throttled()
	ch <- prometheus.MustNewConstMetric(metricThrottled, prometheus.CounterValue, float64(n), name)
	ch <- prometheus.MustNewConstMetric(metricThrottle, prometheus.CounterValue, wait.Seconds(), name)
}

// octaves are classic buckets: each ends with that power of two seconds.
type octaves []int

var (
	slow = octaves{-12, -11, -10, -9, -8, -7, -6, -5, -4, -3, -2, -1, 0, 2, 4, 6}  // 0.24 ms to 64 s
	fast = octaves{-18, -17, -16, -15, -14, -13, -12, -11, -10, -9, -8, -6, -4, 0} // 3.8 µs to 1 s
)

// constHistogram is a histogram with native buckets for those who can read them, and classic
// ones for all.
type constHistogram struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair
	counts *histogram.Snapshot
	ends   octaves
}

func newHistogram(d *prometheus.Desc, counts *histogram.Snapshot, ends octaves, labels ...string) prometheus.Metric {
	return &constHistogram{d, prometheus.MakeLabelPairs(d, labels), counts, ends}
}

// Desc implements prometheus.Metric.
func (h *constHistogram) Desc() *prometheus.Desc { return h.desc }

// zeroThreshold is client_golang's default: nothing is counted as zero.
const zeroThreshold = 0x1p-128

// Write implements prometheus.Metric.
func (h *constHistogram) Write(to *dto.Metric) error {
	is := &dto.Histogram{
		SampleCount:   proto.Uint64(h.counts.Count),
		SampleSum:     proto.Float64(h.counts.Sum.Seconds()),
		Schema:        proto.Int32(histogram.Schema),
		ZeroThreshold: proto.Float64(zeroThreshold),
		ZeroCount:     proto.Uint64(0),
	}
	var sum uint64
	i := 0
	for _, octave := range h.ends {
		for ; i <= 4*octave-histogram.First; i++ {
			sum += h.counts.Counts[i]
		}
		is.Bucket = append(is.Bucket, &dto.Bucket{CumulativeCount: proto.Uint64(sum), UpperBound: proto.Float64(math.Exp2(float64(octave)))})
	}
	var last int64
	next := math.MinInt // the bucket behind the last span
	for i, n := range h.counts.Counts {
		if n == 0 {
			continue
		}
		index := i + histogram.First
		switch {
		case next == math.MinInt:
			is.PositiveSpan = append(is.PositiveSpan, &dto.BucketSpan{Offset: proto.Int32(int32(index)), Length: proto.Uint32(0)})
		case index != next:
			is.PositiveSpan = append(is.PositiveSpan, &dto.BucketSpan{Offset: proto.Int32(int32(index - next)), Length: proto.Uint32(0)})
		}
		*is.PositiveSpan[len(is.PositiveSpan)-1].Length++
		is.PositiveDelta = append(is.PositiveDelta, int64(n)-last)
		last, next = int64(n), index+1
	}
	if len(is.PositiveSpan) == 0 { // which tells that it is a native one
		is.PositiveSpan = []*dto.BucketSpan{{Offset: proto.Int32(0), Length: proto.Uint32(0)}}
	}
	to.Histogram, to.Label = is, h.labels
	return nil
}
