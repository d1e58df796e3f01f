package main

import "math"

// What the variables have chosen. A cluster or listener that was not known when a client
// failed is empty, and is shown with "All" alone.
const (
	copies    = `job=~"$job", instance=~"$instance"`
	clusters  = copies + `, cluster=~"$cluster"`
	listeners = copies + `, listener=~"$listener"`
	both      = clusters + `, listener=~"$listener"`
	ours      = ` and on (job, instance) kafka_sni_proxy_build_info`
)

// lowest is where the first colour begins.
var lowest = math.Inf(-1)

// rate is the growth per second of a counter, summed by labels.
func rate(counter, chosen, by string) string {
	return "sum by (" + by + ") (rate(kafka_sni_proxy_" + counter + "{" + chosen + "}[$__rate_interval]))"
}

// total is the sum of a gauge by labels.
func total(gauge, chosen, by string) string {
	return "sum by (" + by + ") (kafka_sni_proxy_" + gauge + "{" + chosen + "})"
}

// quantile is one of a histogram: of its classic series, or else of its native one.
func quantile(q, histogram, chosen, by string) string {
	of := "kafka_sni_proxy_" + histogram
	return "histogram_quantile(" + q + ", sum by (" + by + ", le) (rate(" + of + "_bucket{" + chosen + "}[$__rate_interval])))" +
		" or histogram_quantile(" + q + ", sum by (" + by + ") (rate(" + of + "{" + chosen + "}[$__rate_interval])))"
}

// count is how many values a histogram gets per second: of either form, too.
func count(histogram, chosen, by string) string {
	of := "kafka_sni_proxy_" + histogram
	return "sum by (" + by + ") (rate(" + of + "_count{" + chosen + "}[$__rate_interval]))" +
		" or sum by (" + by + ") (histogram_count(rate(" + of + "{" + chosen + "}[$__rate_interval])))"
}

func bad(from float64) []step { return []step{{from, "red"}} }

// rows are the dashboard, from the top.
var rows = []row{
	{title: "Is anything wrong?", panels: []panel{
		{title: "Alerts", kind: stat, unit: "short", steps: bad(1),
			description: "Alerts that fire now. docs/alerts.md has a section for each.",
			queries:     []query{{`sum(ALERTS{alertname=~"KafkaSniProxy.*", alertstate="firing", severity!="info"}) or vector(0)`, "firing"}}},
		{title: "Copies", kind: stat, unit: "short", steps: []step{{lowest, "red"}, {1, "green"}},
			description: "Copies of the proxy that Prometheus can scrape.",
			queries:     []query{{"count(kafka_sni_proxy_build_info{" + copies + "}) or vector(0)", "copies"}}},
		{title: "Failures", kind: stat, unit: "cps", steps: []step{{0.1, "orange"}, {1, "red"}},
			description: "Client connections per second that end with an error. The row of failures has the phases.",
			queries:     []query{{"sum(rate(kafka_sni_proxy_connection_failures_total{" + both + "}[$__rate_interval]))", "failures"}}},
		{title: "Brokers down", kind: stat, unit: "short", steps: bad(1),
			description: "Brokers that could not be reached at the last try, counted for each copy.",
			queries:     []query{{"sum(kafka_sni_proxy_broker_up{" + clusters + "} == bool 0)", "down"}}},
		{title: "Oldest request", kind: stat, unit: "s", steps: []step{{35, "orange"}, {300, "red"}},
			description: "The age of the oldest request that has no response yet. A Fetch waits for records, a JoinGroup for the other members: up to minutes. Longer ones are stuck.",
			queries:     []query{{"max(kafka_sni_proxy_oldest_request_age_seconds{" + clusters + "})", "oldest"}}},
		{title: "Next certificate expires in", kind: stat, unit: "s", steps: []step{{lowest, "red"}, {3 * 86400, "orange"}, {21 * 86400, "green"}},
			description: "Until the first certificate of the proxy expires. The row of certificates says which.",
			queries:     []query{{"min(kafka_sni_proxy_certificate_not_after_timestamp_seconds{" + copies + "}) - time()", "first"}}},
		{title: "Files not usable", kind: stat, unit: "short", steps: bad(1),
			description: "Settings whose changed files cannot be used. What was loaded before stays in force; the log says what is wrong.",
			queries:     []query{{"sum(kafka_sni_proxy_reload_problems{" + copies + "})", "problems"}}},
		{title: "Draining", kind: stat, unit: "short", steps: []step{{1, "blue"}},
			description: "Copies that are ending: they accept no clients, and finish what is in flight.",
			queries:     []query{{"sum(kafka_sni_proxy_draining{" + copies + "})", "draining"}}},
	}},

	{title: "Traffic", panels: []panel{
		{title: "Bytes", kind: curve, unit: "Bps",
			description: "Decrypted bytes per second: requests towards brokers, responses towards clients.",
			queries:     []query{{rate("bytes_total", both, "cluster, kind"), "{{cluster}} {{kind}}"}}},
		{title: "Requests and responses", kind: curve, unit: "reqps",
			description: "Kafka frames per second. More requests than responses is normal: a producer with acks=0 gets none.",
			queries:     []query{{rate("frames_total", both, "cluster, kind"), "{{cluster}} {{kind}}"}}},
		{title: "Open connections", kind: curve, unit: "short", stacked: true,
			description: "Client connections that are open now; without a cluster those that are still in their handshake. Each has one connection to a broker.",
			queries:     []query{{total("connections", both, "cluster, listener"), "{{cluster}} {{listener}}"}}},
		{title: "New connections", kind: curve, unit: "cps",
			description: "Client connections accepted per second. Much of it, with few open ones, is a client that connects again and again.",
			queries:     []query{{rate("connections_accepted_total", listeners, "listener"), "{{listener}}"}}},
		{title: "TLS handshakes", kind: curve, unit: "cps",
			description: "Handshakes with clients per second. Resumed ones cost a fraction of the others; Java clients do not resume between brokers.",
			queries:     []query{{rate("handshakes_total", listeners, "listener, resumed"), "{{listener}} resumed={{resumed}}"}}},
		{title: "Requests in flight", kind: curve, unit: "short",
			description: "Requests without a response yet. A level that rises and stays says that brokers are slower than clients ask.",
			queries:     []query{{total("requests_in_flight", clusters, "cluster"), "{{cluster}}"}}},
	}},

	{title: "Latency by API: brokers, and the network behind the proxy", panels: []panel{
		{title: "p99", kind: curve, unit: "s", wide: true,
			description: "99 of 100 requests are answered within this time, from the proxy to the broker and back. Fetch, ShareFetch, JoinGroup and SyncGroup wait on purpose.",
			queries:     []query{{quantile("0.99", "request_duration_seconds", clusters, "cluster, api"), "{{cluster}} {{api}}"}}},
		{title: "p50", kind: curve, unit: "s", wide: true,
			description: "Half of the requests are answered within this time, from the proxy to the broker and back.",
			queries:     []query{{quantile("0.5", "request_duration_seconds", clusters, "cluster, api"), "{{cluster}} {{api}}"}}},
		{title: "Requests by API", kind: curve, unit: "reqps", wide: true,
			description: "Answered requests per second, by API.",
			queries:     []query{{count("request_duration_seconds", clusters, "cluster, api"), "{{cluster}} {{api}}"}}},
		{title: "Oldest request in flight", kind: curve, unit: "s", wide: true,
			description: "The age of the oldest request without a response, by cluster.",
			queries:     []query{{"max by (cluster) (kafka_sni_proxy_oldest_request_age_seconds{" + clusters + "})", "{{cluster}}"}}},
	}},

	{title: "Time added by the proxy", panels: []panel{
		{title: "Added, p99 and p50", kind: curve, unit: "s",
			description: "Time between reading a batch and having handed it to the kernel: decrypting, rewriting, encrypting. Above a millisecond, look at the processors.",
			queries: []query{
				{quantile("0.99", "added_seconds", clusters, "cluster, kind"), "{{cluster}} {{kind}} p99"},
				{quantile("0.5", "added_seconds", clusters, "cluster, kind"), "{{cluster}} {{kind}} p50"}}},
		{title: "Connections that wait for a peer", kind: curve, unit: "short",
			description: "Connections that wait, on average, for a peer that does not read: for a client (response) or for a broker (request).",
			queries:     []query{{rate("stalled_seconds_total", clusters, "cluster, kind"), "{{cluster}} {{kind}}"}}},
		{title: "Time until a processor is free", kind: curve, unit: "s",
			description: "How long goroutines of the proxy wait for a processor, p99. It rises before everything else when the machine is too small, or its CPU is limited.",
			queries:     []query{{"histogram_quantile(0.99, sum by (instance, le) (rate(go_sched_latencies_seconds_bucket{" + copies + "}[$__rate_interval])" + ours + "))", "{{instance}}"}}},
	}},

	{title: "Connections that fail", panels: []panel{
		{title: "By phase", kind: curve, unit: "cps", stacked: true,
			description: "Connections per second that end with an error, by the phase in which they failed. docs/troubleshooting.md has a section for each phase.",
			queries:     []query{{rate("connection_failures_total", both, "phase"), "{{phase}}"}}},
		{title: "By cluster and listener", kind: curve, unit: "cps", stacked: true,
			description: "The same by cluster and listener; without a cluster those that were led to none.",
			queries:     []query{{rate("connection_failures_total", both, "cluster, listener"), "{{cluster}} {{listener}}"}}},
		{title: "Refused and not accepted", kind: curve, unit: "cps",
			description: "Clients per second that are reset by a limit, and connections that could not be accepted for want of file descriptors.",
			queries: []query{
				{rate("connections_refused_total", copies, "limit"), "limit {{limit}}"},
				{rate("cluster_connections_refused_total", clusters, "cluster"), "limit of {{cluster}}"},
				{"sum(rate(kafka_sni_proxy_accept_errors_total{" + copies + "}[$__rate_interval]))", "not accepted"}}},
		{title: "Duration of TLS handshakes", kind: curve, unit: "s",
			description: "How long TLS handshakes with clients take: mostly the clients' network, and the proxy's processors when many come at once.",
			queries: []query{
				{quantile("0.99", "handshake_duration_seconds", listeners, "listener"), "{{listener}} p99"},
				{quantile("0.5", "handshake_duration_seconds", listeners, "listener"), "{{listener}} p50"}}},
		{title: "Ended in good order", kind: curve, unit: "cps",
			description: "Connections per second that the proxy ends between two frames, for being idle or old.",
			queries:     []query{{rate("connections_retired_total", copies, "reason"), "{{reason}}"}}},
		{title: "Clients that reach one broker only, and panics", kind: curve, unit: "short",
			description: "Client addresses that send one server name for all brokers, since the start (docs/troubleshooting.md), and panics that were caught, each a bug.",
			queries: []query{
				{"sum(kafka_sni_proxy_one_server_name_clients_total{" + copies + "})", "one server name"},
				{"sum(kafka_sni_proxy_panics_total{" + copies + "})", "panics"}}},
	}},

	{title: "Brokers", panels: []panel{
		{title: "Reached at the last try", kind: state, unit: "short", wide: true, steps: []step{{lowest, "red"}, {1, "green"}},
			description: "Whether the last connection to a broker could be made, from all copies of the proxy.",
			queries:     []query{{"min by (cluster, broker) (kafka_sni_proxy_broker_up{" + clusters + "})", "{{cluster}} {{broker}}"}}},
		{title: "Dials that fail", kind: curve, unit: "cps", wide: true,
			description: "Connections to brokers per second that could not be made: no TCP (dial), no TLS or the wrong certificate (upstream-tls), another cluster (cluster).",
			queries:     []query{{rate("broker_dial_errors_total", clusters, "cluster, broker, stage"), "{{cluster}} {{broker}} {{stage}}"}}},
		{title: "Duration of dials, p99", kind: curve, unit: "s",
			description: "How long it takes to connect to a broker, TCP and TLS together.",
			queries:     []query{{quantile("0.99", "broker_dial_duration_seconds", clusters, "cluster, broker"), "{{cluster}} {{broker}}"}}},
		{title: "Brokers known", kind: curve, unit: "short",
			description: "Brokers whose addresses have been learned, and addresses that lead to another cluster, of which there should be none.",
			queries: []query{
				{"max by (cluster) (kafka_sni_proxy_brokers_learned{" + clusters + "})", "{{cluster}} learned"},
				{"max by (cluster) (kafka_sni_proxy_other_cluster_addresses{" + clusters + "})", "{{cluster}} other cluster"}}},
		{title: "Responses rewritten", kind: curve, unit: "reqps",
			description: "Responses per second in which addresses or versions were replaced, and what did not fit: endpoints left out, and brokers without a port at a listener.",
			queries: []query{
				{rate("responses_rewritten_total", clusters, "cluster"), "{{cluster}}"},
				{rate("endpoints_dropped_total", clusters, "cluster"), "{{cluster}} endpoints left out"},
				{rate("broker_without_port_responses_total", clusters, "cluster"), "{{cluster}} no port"}}},
		{title: "Brokers not known when a client asked", kind: curve, unit: "cps",
			description: "Connections per second for brokers that were not learned yet, as after a start, and queries that the proxy sent to the cluster for them.",
			queries: []query{
				{rate("provisional_connections_total", clusters, "cluster"), "{{cluster}} connections"},
				{rate("cluster_queries_total", clusters, "cluster, result"), "{{cluster}} queries {{result}}"}}},
		{title: "Throttled responses", kind: curve, unit: "percentunit",
			description: "The share of responses in which brokers tell clients to wait, by a quota.",
			queries:     []query{{rate("throttled_responses_total", clusters, "cluster") + ` / ` + rate("frames_total", both+`, kind="response"`, "cluster"), "{{cluster}}"}}},
		{title: "Time that brokers tell clients to wait", kind: curve, unit: "s",
			description: "The sum of these times for each second. At 10, ten clients wait at each moment.",
			queries:     []query{{rate("throttle_seconds_total", clusters, "cluster"), "{{cluster}}"}}},
	}},

	{title: "Certificates, files and limits", panels: []panel{
		{title: "Certificates expire in", kind: table, unit: "s", steps: []step{{lowest, "red"}, {3 * 86400, "orange"}, {21 * 86400, "green"}},
			description: "Until each certificate that is in use expires; of several copies the first.",
			queries:     []query{{"sort(min by (certificate, file) (kafka_sni_proxy_certificate_not_after_timestamp_seconds{" + copies + "}) - time())", "{{certificate}} {{file}}"}}},
		{title: "Revocation list due in", kind: curve, unit: "s",
			description: "Until the first revocation list in use should be replaced. Negative: it is overdue, and stays in use. Empty without lists.",
			queries:     []query{{"min by (instance) (kafka_sni_proxy_crl_next_update_timestamp_seconds{" + copies + "}) - time()", "{{instance}}"}}},
		{title: "Files read anew", kind: curve, unit: "short",
			description: "Readings that brought something new, and ones that met a file that cannot be used, within five minutes.",
			queries:     []query{{"sum by (result) (increase(kafka_sni_proxy_reloads_total{" + copies + "}[5m]))", "{{result}}"}}},
		{title: "Since all files were good", kind: curve, unit: "s",
			description: "Time since all files were last read and found to be good. It rises while nothing changes; beside a reload problem it says how old the configuration in force is.",
			queries:     []query{{"time() - kafka_sni_proxy_reload_last_good_timestamp_seconds{" + copies + "}", "{{instance}}"}}},
		{title: "Connections of the limit", kind: curve, unit: "percentunit",
			description: "Open connections as a share of the limit of a copy, and of a cluster in a copy. At 100 %, clients are reset. Empty without limits.",
			queries: []query{
				{total("connections", copies, "job, instance") + " / on (job, instance) kafka_sni_proxy_connection_limit", "{{instance}}"},
				{total("connections", clusters, "job, instance, cluster") + " / on (job, instance, cluster) kafka_sni_proxy_cluster_connection_limit", "{{instance}} {{cluster}}"}}},
		{title: "Access log lines dropped", kind: curve, unit: "cps",
			description: "Lines per second that could not be written because whoever takes them is too slow. Empty without an access log.",
			queries:     []query{{"sum by (instance) (rate(kafka_sni_proxy_access_log_dropped_total{" + copies + "}[$__rate_interval]))", "{{instance}}"}}},
	}},

	{title: "Process", panels: []panel{
		{title: "CPU", kind: curve, unit: "short",
			description: "Processors in use, by copy. docs/sizing.md has the cost of bytes, requests and connections.",
			queries:     []query{{"rate(process_cpu_seconds_total{" + copies + "}[$__rate_interval])" + ours, "{{instance}}"}}},
		{title: "Memory", kind: curve, unit: "bytes",
			description: "Resident memory, and the heap of the Go runtime in it.",
			queries: []query{
				{"process_resident_memory_bytes{" + copies + "}" + ours, "{{instance}} resident"},
				{"go_memstats_heap_inuse_bytes{" + copies + "}" + ours, "{{instance}} heap"}}},
		{title: "File descriptors of the limit", kind: curve, unit: "percentunit",
			description: "Open file descriptors as a share of what the process may have. Each client connection needs two.",
			queries:     []query{{"process_open_fds{" + copies + "} / process_max_fds{" + copies + "}" + ours, "{{instance}}"}}},
		{title: "Goroutines", kind: curve, unit: "short",
			description: "About two for each connection. More, with the same number of connections, is a leak: please report it.",
			queries:     []query{{"go_goroutines{" + copies + "}" + ours, "{{instance}}"}}},
		{title: "Garbage collection", kind: curve, unit: "percentunit",
			description: "The share of time in which the whole process is stopped for the garbage collector.",
			queries:     []query{{"rate(go_gc_duration_seconds_sum{" + copies + "}[$__rate_interval])" + ours, "{{instance}}"}}},
		{title: "Running since", kind: curve, unit: "s",
			description: "Time since the start of each copy. Where it falls to zero, the process was started anew, or handed over.",
			queries:     []query{{"time() - process_start_time_seconds{" + copies + "}" + ours, "{{instance}}"}}},
	}},
}
