package main

import (
	"context"
	"errors"
	"fmt"
	"html"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"kafka-sni-proxy/internal/harness"
	"kafka-sni-proxy/internal/harness/terminal"
)

// faultsDoc says what can be seen of each fault, and where. Each text in its tables is one that
// the scenario has to see.
const faultsDoc = "docs/faults.md"

// Where something can be seen, as the document calls it.
const (
	onPage      = "page"
	inStatus    = "status"
	inTop       = "top"
	inMetrics   = "metrics"
	inAlerts    = "alert"
	inAccessLog = "access log"
	inLog       = "log"
)

// afterTheEnd are those that are read when all connections have ended.
var afterTheEnd = []string{inAccessLog, inLog}

// faultsConfig is the proxy's file: all faults at once, each in a cluster of its own where it
// is one of a cluster.
const faultsConfig = `
listeners:
  - {name: public, bind: "127.0.0.1:{public}", certificates: [{cert: {certs}/server.pem, key: {certs}/server_key.pem}]}
  - {name: ports, bind: "127.0.0.1:{plain}", plaintext: true, ports: {cluster: orders, brokers: "{first}-{first}", first-node-id: 1, advertised-host: localhost}}
clusters:
  orders: {names: {bootstrap: orders.edge.test, broker: "b{id}-orders.edge.test"}, upstream: ["{broker}:{tls}"], upstream-tls: {ca-certs: {ca}}, hosts-file: {hosts}}
  down: {names: {bootstrap: down.edge.test, broker: "b{id}-down.edge.test"}, upstream: ["127.0.0.1:{none}"]}
  wrong-ca: {names: {bootstrap: wrong-ca.edge.test, broker: "b{id}-wrong-ca.edge.test"}, upstream: ["{broker}:{tls}"], upstream-tls: {ca-certs: {certs}/ca.pem}, hosts-file: {hosts}}
  moved: {names: {bootstrap: moved.edge.test, broker: "b{id}-moved.edge.test"}, upstream: ["127.0.0.1:{moved}"], upstream-plaintext: true}
  wants-certificate: {names: {bootstrap: wants-certificate.edge.test, broker: "b{id}-wants-certificate.edge.test"}, upstream: ["{broker}:{mtls}"], upstream-tls: {ca-certs: {ca}}, hosts-file: {hosts}}
  small: {names: {bootstrap: small.edge.test, broker: "b{id}-small.edge.test"}, upstream: ["{broker}:{tls}"], upstream-tls: {ca-certs: {ca}}, hosts-file: {hosts}, limits: {max-connections: 1}}
  slow: {names: {bootstrap: slow.edge.test, broker: "b{id}-slow.edge.test"}, upstream: ["{broker}:{slow}"], upstream-tls: {ca-certs: {ca}}, hosts-file: {hosts}}
  unread: {names: {bootstrap: unread.edge.test, broker: "b{id}-unread.edge.test"}, upstream: ["{broker}:{tls}"], upstream-tls: {ca-certs: {ca}}, hosts-file: {hosts}}
admin: {bind: "127.0.0.1:{admin}"}
log: {access: {access}}
`

// seeFaults has all faults happen at once, to one proxy, and compares what is to be seen of
// each with the document.
func seeFaults(ctx context.Context, s *scenarioRun) (string, error) {
	var names []string
	for _, f := range faults {
		names = append(names, f.name)
	}
	expected, err := readTexts(filepath.Join(s.java.software.root, faultsDoc), "fault", names)
	if err != nil {
		return "", err
	}
	life, stop := context.WithCancel(ctx)
	o := &faulty{scenarioRun: s, work: filepath.Join(s.dir, "direct"), expected: expected, seen: map[string]map[string]bool{}}
	defer o.running.Wait()
	defer stop()
	if err := o.setUp(ctx, life); err != nil {
		return "", err
	}
	defer o.proxy.Kill()
	for _, f := range faults {
		for range f.clients {
			o.running.Go(func() { o.again(life, f.come) })
		}
	}
	o.running.Go(func() { o.again(life, asks("orders")) }) // to whom nothing is wrong
	err = o.watch(life)
	stop()
	err = errors.Join(err, o.proxy.drain(), o.readLogs())
	found, differs := compareTexts(expected, o.said)
	if err = errors.Join(err, differs, o.unexpected()); err != nil {
		return "", errors.Join(err, o.write())
	}
	return fmt.Sprintf("%d faults, %d texts of %s", len(faults), found, faultsDoc), nil
}

// faulty is a proxy to which all faults happen, and what was seen of them. What has names of
// brokers in it is in a folder that is not searched for leaks.
type faulty struct {
	*scenarioRun
	work      string
	proxy     *proxy
	plain     int    // the port of the listener without TLS
	partition int32  // of the topic, that can be read through the proxy
	moved     *relay // what leads to another cluster
	slow      *relay // a broker that is slow
	monitor   *monitor
	top       *terminal.Terminal
	first     map[string]float64 // the metrics, before there was any fault
	expected  map[string][]spoken
	seen      map[string]map[string]bool // lines, by where they were
	running   sync.WaitGroup
}

// setUp starts the proxy, what is around it, and those who look at it. All but the proxy end
// with life.
func (o *faulty) setUp(ctx, life context.Context) error {
	if err := os.MkdirAll(o.work, 0o755); err != nil {
		return err
	}
	other, err := startCluster(ctx, o.java, o.ports, filepath.Join(filepath.Dir(o.cluster.dir), "cluster-elsewhere"), oneBroker)
	if err != nil {
		return err
	}
	context.AfterFunc(life, other.stop)
	real := o.cluster.brokers[0]
	if err := o.writeTopic(ctx, real.id); err != nil {
		return err
	}
	address := func(b *broker, listener string) string { return fmt.Sprintf("127.0.0.1:%d", b.ports[listener]) }
	if o.moved, err = startRelay(life, &o.running, address(real, listenPlain)); err != nil {
		return err
	}
	if o.slow, err = startRelay(life, &o.running, address(real, listenTLS)); err != nil {
		return err
	}
	if err := o.startProxy(ctx, real); err != nil {
		return err
	}
	if o.first, _, err = o.metrics(ctx); err != nil {
		return err
	}
	if err := asks("moved")(o, ctx); err != nil { // the proxy learns which cluster it is
		return err
	}
	elsewhere := address(other.brokers[0], listenPlain)
	o.moved.target.Store(&elsewhere)
	if err := o.startMonitor(life); err != nil {
		return err
	}
	top := exec.CommandContext(life, o.java.software.proxy, "top", "--admin", o.admin(), "--interval", "500ms")
	if o.top, err = o.inTerminal(top); err != nil {
		return err
	}
	o.running.Go(o.top.Close)
	return nil
}

func (o *faulty) startProxy(ctx context.Context, real *broker) error {
	o.proxy = &proxy{name: "faults", dir: o.work}
	var first, none int
	if err := o.ports.TakeAll(&o.proxy.port, &o.proxy.admin, &o.plain, &first, &none); err != nil {
		return err
	}
	file := filepath.Join(o.work, "proxy.yaml")
	config := strings.NewReplacer("{public}", fmt.Sprint(o.proxy.port), "{plain}", fmt.Sprint(o.plain), "{first}", fmt.Sprint(first), "{none}", fmt.Sprint(none),
		"{admin}", fmt.Sprint(o.proxy.admin), "{certs}", o.certs.dir, "{ca}", o.cluster.ca.file, "{hosts}", filepath.Join(o.proxyDir, "upstream-hosts"),
		"{broker}", real.name, "{tls}", fmt.Sprint(real.ports[listenTLS]), "{mtls}", fmt.Sprint(real.ports[listenMTLS]),
		"{moved}", fmt.Sprint(o.moved.port()), "{slow}", fmt.Sprint(o.slow.port()), "{access}", o.accessLog()).Replace(faultsConfig)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	o.proxy.args = []string{o.java.software.proxy, "--config", file}
	return o.proxy.start(ctx)
}

func (o *faulty) accessLog() string { return filepath.Join(o.work, "access.log") }

func (o *faulty) admin() string { return fmt.Sprintf("127.0.0.1:%d", o.proxy.admin) }

// durations are those in rules of Prometheus.
var durations = regexp.MustCompile(`(\[|offset |for: |interval: )(\d+)([mhd])\b`)

// faster returns rules in which a minute takes a second. Nothing else of them changes.
func faster(rules string) string {
	return durations.ReplaceAllStringFunc(rules, func(duration string) string {
		m := durations.FindStringSubmatch(duration)
		n, _ := strconv.Atoi(m[2])
		switch m[3] {
		case "m":
			return fmt.Sprintf("%s%ds", m[1], n)
		case "h":
			return fmt.Sprintf("%s%dm", m[1], n)
		}
		return fmt.Sprintf("%s%dm", m[1], 24*n)
	})
}

// startMonitor starts a Prometheus server for which a minute takes a second.
func (o *faulty) startMonitor(ctx context.Context) error {
	for _, file := range []string{"rules.yaml", "alerts.yaml"} {
		rules, err := os.ReadFile(filepath.Join(o.java.software.root, "contrib/prometheus", file))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(o.work, file), []byte(faster(string(rules))), 0o644); err != nil {
			return err
		}
	}
	var err error
	o.monitor, err = o.startPrometheus(ctx, prometheusSetup{Name: "faults", Dir: o.work, Rules: o.work, Target: o.proxy, Every: "500ms", Flag: "--enable-feature=native-histograms"})
	if err != nil {
		return err
	}
	// A Prometheus server looks for its targets only five seconds after its start: until then there is no proxy.
	return o.monitor.Await(ctx, time.Minute, "waiting for the end of all alerts", func() error {
		firing, err := o.monitor.query(ctx, `ALERTS{alertstate="firing"}`)
		if err == nil && len(firing) > 0 {
			err = fmt.Errorf("%d alerts fire", len(firing))
		}
		return err
	})
}

// inTerminal starts a command in a terminal that is wide enough for all columns.
func (o *faulty) inTerminal(cmd *exec.Cmd) (*terminal.Terminal, error) {
	cmd.Env = append(harness.Environment(), "TERM=xterm-256color", "NO_COLOR=1", "TZ=UTC")
	return terminal.Start(cmd, 240, 150)
}

// again has a client come each second, until the context ends. What becomes of it is for
// others to tell.
func (o *faulty) again(ctx context.Context, come func(*faulty, context.Context) error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		come(o, ctx)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// watch looks until all has been seen that can be seen while the proxy runs. The slow broker
// becomes slow once Prometheus knows what is usual.
func (o *faulty) watch(ctx context.Context) error {
	const patience = 150 * time.Second
	const usual = `quantile_over_time(0.5, cluster_api:kafka_sni_proxy_request_duration_seconds:p99_5m{cluster="slow"}[24m] offset 1m)`
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not all was seen within %v", patience))
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	now := map[string][]spoken{}
	for name, texts := range o.expected {
		now[name] = slices.DeleteFunc(slices.Clone(texts), func(s spoken) bool { return slices.Contains(afterTheEnd, s.who) })
	}
	for {
		if err := o.look(ctx); ctx.Err() != nil {
			return context.Cause(ctx)
		} else if err != nil {
			return err
		}
		if known, err := o.monitor.query(ctx, usual); err != nil {
			return err
		} else if len(known) > 0 {
			o.slow.delay.Store(int64(slowness))
		}
		if _, missing := compareTexts(now, o.said); missing == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// look looks everywhere once.
func (o *faulty) look(ctx context.Context) error {
	page, err := o.proxy.ask(ctx, "/")
	if err != nil {
		return err
	}
	o.see(onPage, pageText(page)...)
	status, err := o.inTerminal(exec.CommandContext(ctx, o.java.software.proxy, "status", "--admin", o.admin()))
	if err != nil {
		return err
	}
	status.Close()
	o.see(inStatus, status.Lines()...)
	for _, screen := range []struct{ key, title string }{{"f", "LAST FAILURES"}, {"b", "BROKERS"}, {"b", "SESSIONS"}} {
		if err := o.lookAtTop(ctx, screen.key, screen.title); err != nil {
			return err
		}
	}
	values, kinds, err := o.metrics(ctx)
	if err != nil {
		return err
	}
	for series, value := range values {
		name, _, _ := strings.Cut(series, "{")
		switch {
		case kinds[name] == "gauge":
			o.see(inMetrics, fmt.Sprintf("%s %v", series, value))
		case value > o.first[series]:
			o.see(inMetrics, series+" rises")
		}
	}
	const p99 = `cluster_api:kafka_sni_proxy_request_duration_seconds:p99_5m{api="Metadata",cluster="slow"}`
	recorded, err := o.monitor.query(ctx, p99)
	if err != nil {
		return err
	}
	for _, value := range recorded {
		o.see(inMetrics, p99+" "+value)
	}
	return o.lookAtAlerts(ctx)
}

// see notes lines.
func (o *faulty) see(where string, lines ...string) {
	if o.seen[where] == nil {
		o.seen[where] = map[string]bool{}
	}
	for _, line := range lines {
		o.seen[where][line] = true
	}
}

// said is all that was seen in a place. Of which fault it is, the text tells.
func (o *faulty) said(_, where string) string {
	return strings.Join(slices.Sorted(maps.Keys(o.seen[where])), "\n")
}

var (
	pageTag    = regexp.MustCompile(`<[^>]*>`)
	pageBlanks = regexp.MustCompile(`\s+`)
)

// pageText returns what a page of HTML says, a line for each item of a list, row of a table,
// named value, heading and paragraph.
func pageText(page string) (lines []string) {
	page = pageBlanks.ReplaceAllString(page, " ")
	for _, end := range []string{"</li>", "</tr>", "</div>", "</p>", "</h1>", "</h2>"} {
		page = strings.ReplaceAll(page, end, "\n")
	}
	for line := range strings.Lines(page) {
		line = html.UnescapeString(pageTag.ReplaceAllString(line, " "))
		if line = strings.TrimSpace(pageBlanks.ReplaceAllString(line, " ")); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// lookAtTop presses a key, and sees what comes of it.
func (o *faulty) lookAtTop(ctx context.Context, key, title string) error {
	if err := o.top.Press(key); err != nil {
		return err
	}
	late := time.After(10 * time.Second)
	for {
		lines := o.top.Lines()
		if slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, title) }) {
			o.see(inTop, lines...)
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-o.top.Ended:
			return fmt.Errorf("top has ended:\n%s", strings.Join(lines, "\n"))
		case <-late:
			return fmt.Errorf("top does not show %s:\n%s", title, strings.Join(lines, "\n"))
		case <-o.top.Changed:
		}
	}
}

var metricSample = regexp.MustCompile(`(?m)^kafka_sni_proxy_(\S+?) (\S+)$`)

// metrics returns the proxy's own metrics, and of what type they are. Of histograms there is
// the count.
func (o *faulty) metrics(ctx context.Context) (values map[string]float64, kinds map[string]string, err error) {
	scrape, err := o.proxy.ask(ctx, "/metrics")
	if err != nil {
		return nil, nil, err
	}
	values, kinds = map[string]float64{}, map[string]string{}
	for _, m := range scrapedType.FindAllStringSubmatch(scrape, -1) {
		kinds[m[1]] = m[2]
	}
	for _, m := range metricSample.FindAllStringSubmatch(scrape, -1) {
		if name, _, _ := strings.Cut(m[1], "{"); strings.HasSuffix(name, "_bucket") {
			continue
		}
		if values[m[1]], err = strconv.ParseFloat(m[2], 64); err != nil {
			return nil, nil, err
		}
	}
	return values, kinds, nil
}

// lookAtAlerts sees the alerts that fire.
func (o *faulty) lookAtAlerts(ctx context.Context) error {
	var data struct {
		Alerts []struct {
			Labels, Annotations map[string]string
			State               string
		}
	}
	if err := o.monitor.ask(ctx, "alerts", nil, &data); err != nil {
		return err
	}
	for _, a := range data.Alerts {
		if a.State == "firing" {
			o.see(inAlerts, fmt.Sprintf("%s, %s: %s", a.Labels["alertname"], a.Labels["severity"], a.Annotations["summary"]))
		}
	}
	return nil
}

// readLogs sees the log and the access log, when all connections have ended.
func (o *faulty) readLogs() error {
	for where, file := range map[string]string{inLog: o.proxy.Output, inAccessLog: o.accessLog()} {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		o.see(where, strings.Split(strings.TrimSpace(string(text)), "\n")...)
	}
	return nil
}

// loadAlerts may fire without a fault, when this machine has too much to do.
var loadAlerts = []string{"KafkaSniProxyAddedLatencyHigh", "KafkaSniProxyLatencyHigh"}

// unexpected is an error if an alert fires that the document does not have: then one fault
// looks like another one.
func (o *faulty) unexpected() (err error) {
	for alert := range o.seen[inAlerts] {
		known := slices.ContainsFunc(loadAlerts, func(name string) bool { return strings.HasPrefix(alert, name+",") })
		for _, texts := range o.expected {
			for _, s := range texts {
				known = known || s.who == inAlerts && containsInOrder(alert, strings.Split(s.text, "…"))
			}
		}
		if !known {
			err = errors.Join(err, fmt.Errorf("an alert fires that %s does not have: %s", faultsDoc, alert))
		}
	}
	return err
}

// write writes all that was seen to a file, for whoever corrects the document.
func (o *faulty) write() error {
	var b strings.Builder
	for _, where := range slices.Sorted(maps.Keys(o.seen)) {
		fmt.Fprintf(&b, "== %s\n%s\n\n", where, o.said("", where))
	}
	file := filepath.Join(o.work, "seen.txt")
	return errors.Join(fmt.Errorf("all that was seen is in %s", file), os.WriteFile(file, []byte(b.String()), 0o644))
}
