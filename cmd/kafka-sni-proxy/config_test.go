package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafka-sni-proxy/internal/api"
	"kafka-sni-proxy/internal/kafkatest"
)

// freePorts returns ports that nobody listens on, one behind the other.
func freePorts(t *testing.T, n int) (first int) {
	t.Helper()
	for range 100 {
		var all []net.Listener
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		first = ln.Addr().(*net.TCPAddr).Port
		for i := 1; err == nil && i < n; i++ {
			all = append(all, ln)
			ln, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+i))
		}
		for _, ln := range all {
			ln.Close()
		}
		if err == nil {
			ln.Close()
			return first
		}
	}
	t.Fatal("no free ports")
	return 0
}

// realm is a directory with a configuration file, and clusters that it is about.
type realm struct {
	t   *testing.T
	dir string
	ca  *kafkatest.Authority
}

func newRealm(t *testing.T) *realm {
	t.Helper()
	r := &realm{t: t, dir: t.TempDir(), ca: kafkatest.NewAuthority("downstream")}
	r.write("hosts", "127.0.0.1 *.orders.test *.audit.test\n")
	r.write("ca.pem", string(r.ca.PEM()))
	r.certificate("server", "*.kafka.example", "localhost")
	return r
}

func (r *realm) write(name, content string) {
	r.t.Helper()
	check(r.t, os.WriteFile(filepath.Join(r.dir, name+".new"), []byte(content), 0o600), os.Rename(filepath.Join(r.dir, name+".new"), filepath.Join(r.dir, name)))
}

// certificate writes a certificate and its key, to NAME.pem and NAME_key.pem.
func (r *realm) certificate(name string, names ...string) {
	r.t.Helper()
	cert, key := kafkatest.PEM(r.ca.Server(names...))
	r.write(name+".pem", string(cert))
	r.write(name+"_key.pem", string(key))
}

// cluster starts a cluster whose brokers the hosts file knows, and writes its authority to
// NAME-ca.pem.
func (r *realm) cluster(name string, brokers int) *kafkatest.Cluster {
	r.t.Helper()
	first := freePorts(r.t, brokers)
	ports := make([]int, brokers)
	for i := range ports {
		ports[i] = first + i
	}
	c := kafkatest.Start(r.t, kafkatest.Options{Brokers: brokers, Domain: name + ".test", Ports: ports, Topics: map[string]int32{"t": 6}})
	r.write(name+"-ca.pem", string(c.Authority.PEM()))
	return c
}

// launch starts the program with the file.
func (r *realm) launch(args ...string) *program {
	r.t.Helper()
	return launch(r.t, r.dir, append([]string{"--config", "proxy.yaml"}, args...)...)
}

// addressOf waits until a listener is listened on.
func (p *program) addressOf(listener string) string {
	p.t.Helper()
	expr := `msg=listening address=(\S+) .*listener=` + regexp.QuoteMeta(listener) + `\b`
	if m := regexp.MustCompile(expr).FindStringSubmatch(p.log.String()); m != nil {
		return m[1]
	}
	return p.await(expr)
}

// client returns a client whose connections all go to an address, with TLS if there is a
// configuration.
func (r *realm) client(seed string, dial func(ctx context.Context, network, addr string) (net.Conn, error), opts ...kgo.Opt) *kgo.Client {
	r.t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(seed), kgo.Dialer(dial), kgo.DefaultProduceTopic("t"))...)
	check(r.t, err)
	r.t.Cleanup(c.Close)
	return c
}

// bySNI has all names lead to a listener.
func (r *realm) bySNI(proxy string) *kafkatest.Dialer {
	return &kafkatest.Dialer{Suffix: "kafka.example", Proxy: proxy, TLS: r.ca.ClientConfig(), Scanner: kafkatest.NewScanner("orders.test", "audit.test")}
}

func produce(t *testing.T, c *kgo.Client, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range n {
		if err := c.ProduceSync(ctx, kgo.StringRecord("x")).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

const twoClusters = `
listeners:
  - name: public
    bind: 127.0.0.1:0
    clusters: [orders, audit]
    certificates:
      - {cert: server.pem, key: server_key.pem}
      - {cert: orders.pem, key: orders_key.pem}
  - name: ports
    bind: 127.0.0.1:%[1]d
    ports: {cluster: orders, brokers: %[2]d-%[3]d, advertised-host: localhost}
    certificates: [{cert: server.pem, key: server_key.pem}]
  - name: plain
    bind: 127.0.0.1:%[4]d
    ports: {cluster: audit, brokers: %[5]d, advertised-host: localhost}
    plaintext: true
clusters:
  orders:
    sni-suffix: orders.kafka.example
    upstream: ["%[6]s"]
    upstream-tls: {ca-certs: orders-ca.pem}
    hosts-file: hosts
    routes-file: orders.routes
  audit:
    names: {bootstrap: audit.kafka.example, broker: 'b{id}-audit.kafka.example'}
    upstream: ["%[7]s"]
    upstream-tls: {ca-certs: audit-ca.pem}
    hosts-file: hosts
admin: {bind: 127.0.0.1:0}
timeouts: {drain: 20s}
log: {level: debug}
`

func TestAFileServesSeveralClustersAndKindsOfListeners(t *testing.T) {
	r := newRealm(t)
	r.certificate("orders", "*.orders.kafka.example")
	orders, audit := r.cluster("orders", 3), r.cluster("audit", 1)
	port := freePorts(t, 6)
	r.write("proxy.yaml", fmt.Sprintf(twoClusters, port, port+1, port+3, port+4, port+5, orders.Bootstrap(), audit.Bootstrap()))
	p := r.launch()
	public := p.addressOf("public")

	d := r.bySNI(public)
	produce(t, r.client("bootstrap.orders.kafka.example:1", d.DialContext), 50)
	produce(t, r.client("audit.kafka.example:1", d.DialContext), 50)
	byPort := func(config *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
		return func(ctx context.Context, network, addr string) (net.Conn, error) {
			host, _, _ := net.SplitHostPort(addr)
			if host != "localhost" {
				return nil, fmt.Errorf("told of %s", addr)
			}
			if config == nil {
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
			return (&tls.Dialer{Config: config}).DialContext(ctx, network, addr)
		}
	}
	fixed := r.ca.ClientConfig()
	fixed.ServerName = "one-name-for-all.kafka.example"
	produce(t, r.client(fmt.Sprintf("localhost:%d", port), byPort(fixed)), 50)
	produce(t, r.client(fmt.Sprintf("localhost:%d", port+4), byPort(nil)), 50)
	check(t, d.Err())

	p.wantMetrics(`kafka_sni_proxy_brokers_learned{cluster="orders"} 3`, `kafka_sni_proxy_brokers_learned{cluster="audit"} 1`,
		`kafka_sni_proxy_frames_total{cluster="audit",kind="request",listener="[^"]+"} [1-9]`,
		`kafka_sni_proxy_certificate_not_after_timestamp_seconds{certificate="server",file="orders.pem"} `)
	if code, body := p.get("/readyz"); code != 200 || body != "ready\n" {
		t.Errorf("%d %s", code, body)
	}
	audit.Close()
	for want, path := range map[string]string{
		"200 ready, but for: cluster audit: no upstream can be reached": "/readyz",
		"503 not ready: cluster audit: no upstream can be reached":      "/readyz?cluster=audit",
		"200 ready\n":                       "/readyz?cluster=orders",
		`404 there is no cluster "unknown"`: "/readyz?cluster=unknown",
	} {
		waitFor(t, func() bool { // the cluster was checked a moment ago
			code, body := p.get(path)
			return strings.HasPrefix(fmt.Sprintf("%d %s", code, body), want)
		}, want)
	}
	p.signal(syscall.SIGTERM)
	p.end(0)
	if routes, err := os.ReadFile(filepath.Join(r.dir, "orders.routes")); err != nil || strings.Count(string(routes), `"node"`) != 3 {
		t.Errorf("%s, %v", routes, err)
	}
}

// waitFor waits until something is so.
func waitFor(t *testing.T, is func() bool, what string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long until %s", what)
		}
	}
}

// TestAReloadChangesWhatHasChangedAndNothingElse while a client of one cluster works: its
// connection stays the same through all of it.
func TestAReloadChangesWhatHasChangedAndNothingElse(t *testing.T) {
	r := newRealm(t)
	orders, audit := r.cluster("orders", 1), r.cluster("audit", 1)
	const head = "listeners:\n- {name: public, bind: 127.0.0.1:0, certificates: [{cert: server.pem, key: server_key.pem}]}\n"
	const tail = "admin: {bind: 127.0.0.1:0}\ntimeouts: {drain: 10s}\nlog: {level: debug}\n"
	cluster := func(name, upstream, more string) string {
		return fmt.Sprintf("  %[1]s: {names: {bootstrap: %[1]s.kafka.example, broker: 'b{id}-%[1]s.kafka.example'}, upstream: [\"%[2]s\"], upstream-tls: {ca-certs: %[1]s-ca.pem}, hosts-file: hosts%[3]s}\n", name, upstream, more)
	}
	file := func(listeners, clusters string) string { return head + listeners + "clusters:\n" + clusters + tail }
	stays := cluster("orders", orders.Bootstrap(), "")
	r.write("proxy.yaml", file("", stays))
	p := r.launch()
	public := p.addressOf("public")
	d := r.bySNI(public)
	conn, err := d.DialContext(t.Context(), "tcp", "orders.kafka.example:1")
	check(t, err)
	defer conn.Close()
	works := func() {
		t.Helper()
		_, err := conn.Write(kafkatest.Frame([]byte{0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff})) // ApiVersions
		check(t, err)
		_, err = kafkatest.ReadFrame(conn)
		check(t, err)
	}
	works()

	t.Log("a cluster comes")
	r.write("proxy.yaml", file("", stays+cluster("audit", audit.Bootstrap(), "")))
	p.await("the configuration is in use.* clusters=2")
	works()
	produce(t, r.client("audit.kafka.example:1", d.DialContext), 5)

	t.Log("and a listener")
	port := freePorts(t, 2)
	plain := fmt.Sprintf("- {name: plain, bind: 127.0.0.1:%d, plaintext: true, ports: {cluster: audit, brokers: %d, advertised-host: localhost}}\n", port, port+1)
	r.write("proxy.yaml", file(plain, stays+cluster("audit", audit.Bootstrap(), "")))
	p.addressOf("plain")
	byPlain := r.client(fmt.Sprintf("localhost:%d", port), new(net.Dialer).DialContext)
	produce(t, byPlain, 5)
	works()

	t.Log("a bad file changes nothing, and is told once")
	r.write("proxy.yaml", file(plain, strings.Replace(stays, "upstream:", "upstraem:", 1)+"  audit: {upstream: x}\n"))
	p.await(`level=ERROR .*cannot be used.*proxy.yaml:\d+:\d+: clusters.orders.upstraem: there is no such setting: did you mean upstream\?.*clusters.audit.upstream: this is one value`)
	p.wantMetrics("kafka_sni_proxy_reload_problems 1", `kafka_sni_proxy_reloads_total{result="failed"} 1`)
	works()
	produce(t, byPlain, 1)
	r.write("proxy.yaml", file(plain, stays+cluster("audit", audit.Bootstrap(), ", routes-file: nowhere/routes")))
	p.await(`level=ERROR .*cannot be used.*clusters.audit.routes-file: the directory nowhere does not exist`)
	works()

	t.Log("a cluster changes: whoever comes gets the new one, with what is known of it")
	r.write("proxy.yaml", file(plain, stays+cluster("audit", audit.Bootstrap(), ", limits: {max-connections: 1}")))
	p.await("the configuration is in use")
	works()
	if problems := p.metric("kafka_sni_proxy_reload_problems"); problems != "0" {
		t.Errorf("%s problems", problems)
	}
	if known := p.metric(`kafka_sni_proxy_brokers_learned{cluster="audit"}`); known != "1" {
		t.Errorf("%s brokers are known after the change", known)
	}

	t.Log("and goes, with its listener")
	r.write("proxy.yaml", file("", stays))
	p.await("a listener's address is gone")
	p.await("a cluster is gone.* cluster=audit")
	waitFor(t, func() bool {
		return p.metric(`kafka_sni_proxy_connections{cluster="orders"}`) == "1" && p.metric(`kafka_sni_proxy_connections{cluster=""}`) == "0"
	}, "the others have ended")
	if _, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
		t.Error("the listener that is gone is still listened on")
	}
	if _, err := d.DialContext(t.Context(), "tcp", "audit.kafka.example:1"); err == nil {
		t.Error("the cluster that is gone is still served")
	}
	works()

	t.Log("a secret in a file of its own is read when it changes")
	r.write("gate", "socks5://nobody:old@127.0.0.1:1")
	gated := cluster("audit", audit.Bootstrap(), ", via: 'file:gate'")
	r.write("proxy.yaml", file("", stays+gated))
	p.await("the configuration is in use")
	r.write("gate", "socks5://nobody:new@127.0.0.1:1")
	p.await("the configuration is in use")
	works()
	r.write("proxy.yaml", file("", stays))
	p.await("the configuration is in use")

	t.Log("an address that this proxy's own one is in the way of")
	_, own, _ := net.SplitHostPort(public)
	more := fmt.Sprintf("- {name: wide, bind: '0.0.0.0:%s', certificates: [{cert: server.pem, key: server_key.pem}]}\n", own)
	r.write("proxy.yaml", file(more, stays))
	p.await(`level=ERROR .*cannot be opened while this proxy listens on`)
	r.write("proxy.yaml", file("", stays))
	p.await("is again as it was loaded")

	t.Log("what cannot change is said, for as long as it is so")
	const bind, trace = "admin.bind has changed: that takes effect when the program is started anew", "trace has changed: that takes effect when the program is started anew"
	changed := strings.Replace(file("", stays), "admin: {bind: 127.0.0.1:0}", "admin: {bind: 127.0.0.1:1}\ntrace: {requests: 1}", 1)
	r.write("proxy.yaml", changed)
	p.await("level=WARN .*" + bind)
	p.await("level=WARN .*" + trace)
	works()
	warns := func(want ...string) {
		t.Helper()
		var status api.Status
		_, body := p.get("/api/v1/status")
		check(t, json.Unmarshal([]byte(body), &status))
		got := slices.DeleteFunc(status.Warnings, func(w string) bool { return !strings.Contains(w, "started anew") })
		if !slices.Equal(got, want) {
			t.Errorf("the warnings are %q, want %q", got, want)
		}
	}
	reloaded := func(file string) {
		t.Helper()
		r.write("proxy.yaml", file)
		p.await("the configuration is in use")
		works()
	}
	warns(bind, trace)
	reloaded(strings.Replace(changed, "drain: 10s", "drain: 11s", 1)) // which has nothing to do with it
	warns(bind, trace)
	reloaded(file("", stays)) // as the program was started
	warns()
	reloaded(changed)
	warns(bind, trace)
	p.signal(syscall.SIGHUP)
	p.await("nothing to reload")
	if opened := orders.Opened(0); opened > 3 { // the connection, and checks of the upstream
		t.Errorf("the cluster that never changed was connected to %d times", opened)
	}
	conn.Close()
	p.signal(syscall.SIGTERM)
	p.end(0)
}

// metric returns the value of a metric.
func (p *program) metric(series string) string {
	p.t.Helper()
	_, body := p.get("/metrics")
	name, labels, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
	sum, found := 0.0, false
	for line := range strings.Lines(body) {
		is, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		isName, has, _ := strings.Cut(is, "{")
		if isName != name || slices.ContainsFunc(strings.Split(labels, ","), func(label string) bool { return !strings.Contains(has, label) }) {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			p.t.Fatal(err)
		}
		sum, found = sum+n, true
	}
	if !found {
		return ""
	}
	return strconv.FormatFloat(sum, 'f', -1, 64)
}

// manyClusters is a file with n clusters at one upstream.
func manyClusters(n int, upstream string) string {
	var b strings.Builder
	b.WriteString("listeners: [{bind: 127.0.0.1:0, name: public, certificates: [{cert: server.pem, key: server_key.pem}]}]\nadmin: {bind: 127.0.0.1:0}\nclusters:\n")
	for i := range n {
		fmt.Fprintf(&b, "  c%[1]d: {names: {bootstrap: c%[1]d.kafka.example, broker: 'b{id}-c%[1]d.kafka.example'}, upstream: [\"%[2]s\"], upstream-tls: {ca-certs: orders-ca.pem}, hosts-file: hosts}\n", i, upstream)
	}
	return b.String()
}

func TestTwoHundredClusters(t *testing.T) {
	r := newRealm(t)
	orders := r.cluster("orders", 1)
	r.write("proxy.yaml", manyClusters(200, orders.Bootstrap()))
	began := time.Now()
	p := r.launch()
	t.Logf("serves after %v", time.Since(began))
	d := r.bySNI(p.addressOf("public"))
	for _, i := range []int{0, 77, 199} {
		produce(t, r.client(fmt.Sprintf("c%d.kafka.example:1", i), d.DialContext), 1)
	}
	began = time.Now()
	r.write("proxy.yaml", manyClusters(201, orders.Bootstrap()))
	p.await("the configuration is in use.*clusters=201")
	t.Logf("reloaded after %v, up to a quarter of a second of which is waiting for the file", time.Since(began))
	produce(t, r.client("c200.kafka.example:1", d.DialContext), 1)
	if code, body := p.get("/readyz"); code != 200 || body != "ready\n" {
		t.Errorf("%d %.300s", code, body)
	}
	p.signal(syscall.SIGTERM)
	p.end(0)
}

// TestSocketsAreHandedOverWithAFile to a process that has another listener, too.
func TestSocketsAreHandedOverWithAFile(t *testing.T) {
	r := newRealm(t)
	orders := r.cluster("orders", 1)
	file := manyClusters(2, orders.Bootstrap()) + "timeouts: {drain: 2s}\n"
	r.write("proxy.yaml", file)
	p := r.launch()
	d := r.bySNI(p.addressOf("public"))
	client := r.client("c0.kafka.example:1", d.DialContext)
	produce(t, client, 3)
	port := freePorts(t, 2)
	more := fmt.Sprintf("listeners:\n- {bind: 127.0.0.1:0, name: public, certificates: [{cert: server.pem, key: server_key.pem}]}\n- {name: plain, bind: 127.0.0.1:%d, plaintext: true, ports: {cluster: c1, brokers: %d, advertised-host: localhost}}\n", port, port+1)
	r.write("proxy.yaml", more+file[strings.Index(file, "admin:"):])
	p.await("the configuration is in use")
	plain := r.client(fmt.Sprintf("localhost:%d", port), new(net.Dialer).DialContext)
	produce(t, plain, 3)
	check(t, p.now.Signal(syscall.SIGUSR2))
	var pid int
	fmt.Sscan(p.await(`handed over.* pid=(\d+)`), &pid)
	t.Cleanup(func() {
		if next, err := os.FindProcess(pid); err == nil {
			next.Kill()
		}
	})
	produce(t, client, 3)
	produce(t, plain, 3)
	next, err := os.FindProcess(pid)
	check(t, err, next.Signal(syscall.SIGTERM))
	p.await("drained")
	p.await("drained")
}
