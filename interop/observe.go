package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"kafka-sni-proxy/internal/harness"
)

// observe has two real Prometheus servers scrape a proxy each second, one for classic and one
// for native histograms, while real clients work and some fail. Then everything that
// contrib/prometheus and contrib/grafana ask for has to be there, and docs/metrics.md has to
// have what is there.
func observe(ctx context.Context, s *scenarioRun) (string, error) {
	o := &observed{scenarioRun: s, work: filepath.Join(s.dir, "direct")}
	if err := o.setUp(ctx); err != nil {
		return "", err
	}
	defer o.proxy.Kill()
	life, stop := context.WithCancel(ctx)
	defer stop()
	if err := o.load(life); err != nil {
		return "", err
	}
	queries, err := o.panels()
	if err != nil {
		return "", err
	}
	var figures []string
	for _, one := range []struct{ name, flag string }{{"classic", ""}, {"native", "--enable-feature=native-histograms"}} {
		p, err := o.startPrometheus(ctx, prometheusSetup{Name: one.name, Dir: o.work, Rules: filepath.Join(o.java.software.root, "contrib/prometheus"), Target: o.proxy, Flag: one.flag})
		if err != nil {
			return "", err
		}
		if err := p.answers(ctx, queries); err != nil {
			return "", err
		}
		form, err := p.histograms(ctx)
		if err == nil && form != one.name {
			err = fmt.Errorf("the server has %s histograms, want %s", form, one.name)
		}
		rules, rulesErr := p.rules(ctx)
		if err := errors.Join(err, rulesErr, p.Stop(20*time.Second)); err != nil {
			return "", err
		}
		figures = append(figures, fmt.Sprintf("%s histograms: %d queries have answers, %d rules are evaluated", one.name, len(queries), rules))
	}
	metrics, err := o.compareWithDocuments(ctx)
	if err != nil {
		return "", err
	}
	figures = append(figures, fmt.Sprintf("%d metrics are as docs/metrics.md says", metrics))
	if err := o.promtool(ctx); err != nil {
		return "", err
	}
	stop()
	return strings.Join(figures, "; "), o.proxy.drain()
}

// observed is a proxy whose metrics are looked at. What has names of brokers in it is in
// a folder that is not searched for leaks.
type observed struct {
	*scenarioRun
	work     string
	proxy    *proxy
	partners int // the port of the listener with client certificates
	endpoint *endpoint
}

// observeConfig is the file of a proxy that has everything of which there are metrics: several
// listeners, limits, client certificates with a revocation list, an upstream that is down, logins
// at brokers, an access log, traces.
const observeConfig = `
listeners:
  - {name: public, bind: "127.0.0.1:{public}", certificates: [{cert: {certs}/server.pem, key: {certs}/server_key.pem}]}
  - {name: partners, bind: "127.0.0.1:{partners}", certificates: [{cert: {certs}/server.pem, key: {certs}/server_key.pem}], client-certificates: {require: true, ca-certs: {certs}/ca.pem, crl: [{crl}]}}
clusters:
  orders: {sni-suffix: edge.test, upstream: ["nobody.upstream.test:{nobody}", {orders}], upstream-tls: {ca-certs: {ca}}, hosts-file: {hosts}, limits: {max-connections: 500}}
  secured:
    names: {bootstrap: secured.edge.test, broker: "s{id}.edge.test"}
    upstream: [{secured}]
    upstream-tls: {ca-certs: {ca}}
    hosts-file: {hosts}
    authentication: {clients: [{mechanism: ANONYMOUS}], brokers: {mechanism: PLAIN, credentials: {default: "{credential}"}}}
limits: {max-connections: 1000}
admin: {bind: "127.0.0.1:{admin}"}
log: {level: debug, access: {access}}
trace: {endpoint: "{collector}"}
`

// setUp starts the proxy.
func (o *observed) setUp(ctx context.Context) error {
	if err := os.MkdirAll(o.work, 0o755); err != nil {
		return err
	}
	o.proxy = &proxy{name: "observe", dir: o.proxyDir}
	var nobody int
	if err := o.ports.TakeAll(&o.proxy.port, &o.proxy.admin, &o.partners, &nobody); err != nil {
		return err
	}
	list, err := revokeNobody(o.certs, filepath.Join(o.work, "revoked.pem"))
	if err != nil {
		return err
	}
	collector, err := startCollector(ctx)
	if err != nil {
		return err
	}
	file := filepath.Join(o.work, "proxy.yaml")
	config := strings.NewReplacer("{public}", fmt.Sprint(o.proxy.port), "{partners}", fmt.Sprint(o.partners), "{admin}", fmt.Sprint(o.proxy.admin), "{nobody}", fmt.Sprint(nobody),
		"{certs}", o.certs.dir, "{crl}", list, "{ca}", o.cluster.ca.file, "{hosts}", filepath.Join(o.proxyDir, "upstream-hosts"),
		"{orders}", o.cluster.bootstrap(listenTLS), "{secured}", o.cluster.bootstrap(listenSASL), "{credential}", saslUser+":"+saslSecret,
		"{access}", filepath.Join(o.work, "access.log"), "{collector}", collector).Replace(observeConfig)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	o.proxy.args = []string{o.java.software.proxy, "--config", file}
	o.endpoint = o.proxy.endpoint(o.certs, "observe", o.tls.hosts, "SSL")
	return o.proxy.start(ctx)
}

// startCollector starts a server that takes all traces, until the context ends, and returns its URL.
func startCollector(ctx context.Context) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
	})}
	context.AfterFunc(ctx, func() { server.Close() })
	go server.Serve(listener)
	return "http://" + listener.Addr().String(), nil
}

// revokeNobody writes a revocation list without entries.
func revokeNobody(c *proxyCerts, path string) (string, error) {
	pair, err := tls.LoadX509KeyPair(c.path("ca.pem"), c.path("ca_key.pem"))
	if err != nil {
		return "", err
	}
	issuer, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return "", err
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return "", fmt.Errorf("a key of type %T cannot sign", pair.PrivateKey)
	}
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1),
		ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(24 * time.Hour)}, issuer, signer)
	if err != nil {
		return "", err
	}
	return path, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list}), 0o644)
}

// load has clients of two makers work, and others come and fail, until the context ends.
func (o *observed) load(ctx context.Context) error {
	const topic = "observe"
	if err := o.cluster.createTopic(ctx, topic, 3, 3); err != nil {
		return err
	}
	if _, err := o.startFranzProducer(ctx, o.endpoint, topic); err != nil {
		return err
	}
	consumer, err := o.startFranzConsumer(ctx, o.endpoint, topic, 0)
	if err != nil {
		return err
	}
	if _, err := o.startJava(ctx, o.endpoint, "consume", topic, topic); err != nil {
		return err
	}
	go o.comeAndFail(ctx)
	return consumer.progressed(ctx)
}

// comeAndFail has clients connect twice a second: two that work and leave, of which one is logged in by the proxy,
// one that asks for a name that is not served, one without the certificate that is wanted, and one that speaks no TLS.
func (o *observed) comeAndFail(ctx context.Context) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	public, partners := fmt.Sprintf("127.0.0.1:%d", o.proxy.port), fmt.Sprintf("127.0.0.1:%d", o.partners)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		var group errgroup.Group
		group.Go(func() error {
			client, err := o.goClient(o.endpoint)
			if err == nil {
				defer client.Close()
				err = client.Ping(ctx)
			}
			return err
		})
		group.Go(func() error {
			conn, err := (&tls.Dialer{Config: &tls.Config{ServerName: "secured." + suffix, RootCAs: o.certs.pool}}).DialContext(ctx, "tcp", public)
			if err != nil {
				return err
			}
			client := newRawClient(ctx, conn, "secured")
			defer client.Close()
			return client.ask(whoIsThere(metadataVersion))
		})
		group.Go(func() error { return connectAs(ctx, public, "stranger.test", o.certs.pool) })
		group.Go(func() error { return connectAs(ctx, partners, "bootstrap."+suffix, o.certs.pool) })
		group.Go(func() error {
			c, err := new(net.Dialer).DialContext(ctx, "tcp", public)
			if err == nil {
				defer c.Close()
				_, err = fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
			}
			return err
		})
		group.Wait() // most of them have to fail; the metrics tell
	}
}

// connectAs connects with TLS and reads: in TLS 1.3 a refused client learns of it then.
func connectAs(ctx context.Context, address, name string, pool *x509.CertPool) error {
	c, err := (&tls.Dialer{Config: &tls.Config{ServerName: name, RootCAs: pool}}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err = c.Read(make([]byte, 1))
	return err
}

// panels are all queries of the dashboard, with something in place of its variables.
func (o *observed) panels() (map[string]string, error) {
	text, err := os.ReadFile(filepath.Join(o.java.software.root, "contrib/grafana/kafka-sni-proxy.json"))
	if err != nil {
		return nil, err
	}
	type panel struct {
		Title   string
		Targets []struct{ RefID, Expr string }
		Panels  []panel
	}
	var dashboard struct {
		Panels     []panel
		Templating struct {
			List []struct{ Name, AllValue string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		return nil, err
	}
	variables := []string{"$__rate_interval", "20s"}
	for _, v := range dashboard.Templating.List {
		variables = append(variables, "$"+v.Name, v.AllValue)
	}
	substitute := strings.NewReplacer(variables...)
	queries := map[string]string{}
	var take func([]panel)
	take = func(panels []panel) {
		for _, p := range panels {
			for _, q := range p.Targets {
				queries[p.Title+" "+q.RefID] = substitute.Replace(q.Expr)
			}
			take(p.Panels)
		}
	}
	take(dashboard.Panels)
	return queries, nil
}

// answers waits until each query has an answer.
func (m *monitor) answers(ctx context.Context, queries map[string]string) error {
	open := queries
	return m.Await(ctx, 90*time.Second, "waiting for each panel to have data", func() error {
		missing := map[string]string{}
		for name, query := range open {
			values, err := m.query(ctx, query)
			if err != nil {
				return fmt.Errorf("panel %s: %w", name, err)
			}
			if len(values) == 0 {
				missing[name] = query
			}
		}
		if open = missing; len(open) > 0 {
			var list []string
			for name, query := range open {
				list = append(list, name+": "+query)
			}
			slices.Sort(list)
			return fmt.Errorf("%d of %d queries have no answer:\n  %s", len(open), len(queries), strings.Join(list, "\n  "))
		}
		return nil
	})
}

// histograms says in which form Prometheus has the requests' durations.
func (m *monitor) histograms(ctx context.Context) (string, error) {
	classic, err := m.query(ctx, "kafka_sni_proxy_request_duration_seconds_count")
	if err != nil || len(classic) > 0 {
		return "classic", err
	}
	native, err := m.query(ctx, "histogram_count(kafka_sni_proxy_request_duration_seconds)")
	if err == nil && len(native) == 0 {
		err = errors.New("there is no request_duration_seconds")
	}
	return "native", err
}

// rules waits until each rule has been evaluated, and returns how many there are.
func (m *monitor) rules(ctx context.Context) (count int, err error) {
	err = m.Await(ctx, 90*time.Second, "waiting for all rules to be evaluated", func() error {
		var data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
		if err := m.ask(ctx, "rules", nil, &data); err != nil {
			return err
		}
		count = 0
		for _, g := range data.Groups {
			for _, r := range g.Rules {
				if count++; r.LastError != "" {
					return harness.Final(fmt.Errorf("%s: %s", r.Name, r.LastError))
				}
				if r.Health != "ok" {
					return fmt.Errorf("%s is %s", r.Name, r.Health)
				}
			}
		}
		if count < 20 {
			return harness.Final(fmt.Errorf("there are only %d rules", count))
		}
		return nil
	})
	return count, err
}

var (
	documentedMetric = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (counter|gauge|histogram) \\| ([^|]*)\\|")
	inCode           = regexp.MustCompile("`([a-z]+)`")
	scrapedType      = regexp.MustCompile(`(?m)^# TYPE kafka_sni_proxy_(\S+) (\S+)$`)
	scrapedSeries    = regexp.MustCompile(`(?m)^kafka_sni_proxy_([a-z_]+)(?:\{(.*)\})? \S+$`)
	scrapedLabel     = regexp.MustCompile(`([a-z]+)="(?:[^"\\]|\\.)*"`)
)

// compareWithDocuments wants a scrape and docs/metrics.md to have the same metrics, with the same types and labels.
func (o *observed) compareWithDocuments(ctx context.Context) (int, error) {
	page, err := os.ReadFile(filepath.Join(o.java.software.root, "docs/metrics.md"))
	if err != nil {
		return 0, err
	}
	documented := map[string]string{}
	for _, m := range documentedMetric.FindAllStringSubmatch(string(page), -1) {
		documented[m[1]] = describe(m[2], inCode.FindAllStringSubmatch(m[3], -1))
	}
	scrape, err := o.proxy.ask(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	kinds, scraped := map[string]string{}, map[string]string{}
	for _, m := range scrapedType.FindAllStringSubmatch(scrape, -1) {
		kinds[m[1]] = m[2]
	}
	for _, m := range scrapedSeries.FindAllStringSubmatch(scrape, -1) {
		name := m[1]
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			if base, ok := strings.CutSuffix(name, suffix); ok && kinds[base] == "histogram" {
				name = base
			}
		}
		scraped[name] = describe(kinds[name], slices.DeleteFunc(scrapedLabel.FindAllStringSubmatch(m[2], -1), func(l []string) bool { return l[1] == "le" }))
	}
	var problems []string
	for name, what := range documented {
		if scraped[name] != what {
			problems = append(problems, fmt.Sprintf("%s: docs/metrics.md has %s, the scrape %s", name, what, scraped[name]))
		}
	}
	for name, what := range scraped {
		if documented[name] == "" {
			problems = append(problems, fmt.Sprintf("%s: the scrape has %s, docs/metrics.md has not", name, what))
		}
	}
	slices.Sort(problems)
	if len(problems) > 0 {
		return 0, fmt.Errorf("metrics differ:\n  %s", strings.Join(problems, "\n  "))
	}
	return len(scraped), nil
}

func describe(kind string, labels [][]string) string {
	var names []string
	for _, l := range labels {
		names = append(names, l[1])
	}
	slices.Sort(names)
	return fmt.Sprintf("%s%q", kind, names)
}

// promtool has nothing to say of the metrics and rules, and the rules' tests pass.
func (o *observed) promtool(ctx context.Context) error {
	scrape, err := o.proxy.ask(ctx, "/metrics")
	if err != nil {
		return err
	}
	file := filepath.Join(o.work, "metrics.txt")
	if err := os.WriteFile(file, []byte(scrape), 0o644); err != nil {
		return err
	}
	var problems []error
	for _, script := range []string{
		"promtool check metrics < " + file,
		"promtool check rules rules.yaml alerts.yaml",
		"promtool test rules rules_test.yaml",
	} {
		name := strings.Join(strings.Fields(script)[:3], "-")
		_, err := harness.Run(ctx, harness.Command{Name: name, Args: []string{"sh", "-c", script},
			Dir: filepath.Join(o.java.software.root, "contrib/prometheus"), Output: filepath.Join(o.work, name+".out")})
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}
