package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"kafka-sni-proxy/internal/harness"
)

// suffix is the domain under which clients see the cluster.
const suffix = "edge.test"

// proxyCerts is a folder filled by the proxy's own --generate-certs.
type proxyCerts struct {
	dir    string
	server tls.Certificate
	client tls.Certificate
	pool   *x509.CertPool
}

// generateCerts has the proxy generate certificates for the names under a domain.
func generateCerts(ctx context.Context, s *software, dir, domain string) (*proxyCerts, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	_, err := harness.Run(ctx, harness.Command{Name: "generate-certs", Dir: dir, Args: []string{s.proxy, "--sni-suffix", domain, "--generate-certs"}})
	if err != nil {
		return nil, err
	}
	c := &proxyCerts{dir: dir, pool: x509.NewCertPool()}
	if err := c.trustedBy(c.pool); err != nil {
		return nil, err
	}
	if c.server, err = tls.LoadX509KeyPair(c.path("server.pem"), c.path("server_key.pem")); err != nil {
		return nil, err
	}
	c.client, err = tls.LoadX509KeyPair(c.path("client.pem"), c.path("client_key.pem"))
	return c, err
}

// serverTLS is what shows the proxy's certificate, or one of several proxies' by the name
// that the client asks for.
func (c *proxyCerts) serverTLS(more ...*proxyCerts) *tls.Config {
	config := &tls.Config{Certificates: []tls.Certificate{c.server}}
	for _, other := range more {
		config.Certificates = append(config.Certificates, other.server)
	}
	return config
}

// trustedBy adds the CA of the certificates to a pool.
func (c *proxyCerts) trustedBy(pool *x509.CertPool) error {
	ca, err := os.ReadFile(c.path("ca.pem"))
	if err == nil && !pool.AppendCertsFromPEM(ca) {
		err = errors.New("the generated ca.pem holds no certificate")
	}
	return err
}

func (c *proxyCerts) path(file string) string { return filepath.Join(c.dir, file) }

// proxy is one running kafka-sni-proxy, and the tap in front of it if it has one.
type proxy struct {
	*harness.Process
	name   string
	dir    string
	args   []string
	starts int
	port   int // what it is bound to
	admin  int
	tap    *tap
}

// proxySetup is how a proxy is started.
type proxySetup struct {
	Name     string
	Listener string   // the brokers' listener it leads to
	Before   string   // upstreams before the brokers, each with a comma behind it
	Args     []string // further flags
	Tapped   bool
	Suffix   string      // "": that of all scenarios
	Certs    *proxyCerts // nil: those of all scenarios
}

// startProxy starts a proxy and waits until it says that it is ready.
func (s *environment) startProxy(ctx context.Context, setup proxySetup) (*proxy, error) {
	p := &proxy{name: setup.Name, dir: s.proxyDir}
	if err := s.ports.TakeAll(&p.port, &p.admin); err != nil {
		return nil, err
	}
	hosts := filepath.Join(p.dir, "upstream-hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 *."+upstreamDomain+"\n"+movedAddress+" *."+movedDomain+"\n"), 0o644); err != nil {
		return nil, err
	}
	certs := cmp.Or(setup.Certs, s.certs)
	p.args = append([]string{s.java.software.proxy,
		"--bind", fmt.Sprintf("127.0.0.1:%d", p.port),
		"--sni-suffix", cmp.Or(setup.Suffix, suffix),
		"--cert", certs.path("server.pem"),
		"--key", certs.path("server_key.pem"),
		"--upstream", setup.Before + s.cluster.bootstrap(setup.Listener),
		"--upstream-ca-certs", s.cluster.ca.file,
		"--hosts-file", hosts,
		"--admin-bind", fmt.Sprintf("127.0.0.1:%d", p.admin),
		"--log-level", "debug",
	}, setup.Args...)
	if setup.Tapped {
		port, err := s.ports.Take()
		if err != nil {
			return nil, err
		}
		if err := p.startTap(ctx, certs, port); err != nil {
			return nil, err
		}
		p.args = append(p.args, "--advertised-port", fmt.Sprint(p.clientPort()))
	}
	return p, p.start(ctx)
}

func (p *proxy) start(ctx context.Context) error {
	p.starts++
	var err error
	p.Process, err = harness.Start(ctx, harness.Command{Name: fmt.Sprintf("proxy-%s-%d", p.name, p.starts), Dir: p.dir, Args: p.args})
	if err != nil {
		return err
	}
	return p.Await(ctx, time.Minute, "waiting for the proxy to be ready", func() error { return p.ready(ctx) })
}

// drain tells the proxy to end and wants it to say that it went in good order.
func (p *proxy) drain() error { return p.Stop(40 * time.Second) }

func (p *proxy) startTap(ctx context.Context, certs *proxyCerts, port int) error {
	var err error
	p.tap, err = newTap(fmt.Sprintf("127.0.0.1:%d", port), certs.serverTLS(), &tls.Config{RootCAs: certs.pool}, fmt.Sprintf("127.0.0.1:%d", p.port))
	if err != nil {
		return err
	}
	go p.tap.serve(ctx)
	return nil
}

// clientPort is where clients connect to.
func (p *proxy) clientPort() int {
	if p.tap != nil {
		return p.tap.listener.Addr().(*net.TCPAddr).Port
	}
	return p.port
}

func (p *proxy) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := p.ask(ctx, "/readyz")
	return err
}

// ask gets a page of the proxy's admin port.
func (p *proxy) ask(ctx context.Context, path string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", p.admin, path), nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s says %s", path, response.Status)
	}
	return string(body), err
}

// metric returns the value of a metric, the sum of all that have the labels which are given.
func (p *proxy) metric(ctx context.Context, name string) (int, error) {
	page, err := p.ask(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	name, labels, _ := strings.Cut(strings.TrimSuffix(name, "}"), "{")
	sum, found := 0.0, false
	for line := range strings.Lines(page) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		is, has, _ := strings.Cut(series, "{")
		if is != "kafka_sni_proxy_"+name || !strings.Contains(has, labels) {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, err
		}
		sum, found = sum+n, true
	}
	if !found {
		return 0, fmt.Errorf("the proxy has no metric %s", name)
	}
	return int(sum), nil
}

// endpoint is one way for a client to reach the cluster: where it starts, the
// names it can resolve, and the settings it needs.
type endpoint struct {
	name      string
	bootstrap string
	hosts     string         // file for Java, with all the names there are
	settings  []string       // lines of Java properties
	ca        string         // PEM file of who signed what is shown here
	pool      *x509.CertPool // the same for Go clients
	proxied   bool
	oldClient bool // our Java clients are to run on the old Java client
}

// with returns the endpoint with more settings for Java clients; of two lines
// for one setting the later one counts.
func (e *endpoint) with(settings ...string) *endpoint {
	changed := *e
	changed.settings = append(append([]string{}, e.settings...), settings...)
	return &changed
}

// endpoint is how clients reach the cluster through the proxy. The names are
// those that the proxy is to give: a client that is told any other name finds
// nothing.
func (p *proxy) endpoint(certs *proxyCerts, name, hosts, protocol string) *endpoint {
	return &endpoint{
		name:      name,
		bootstrap: fmt.Sprintf("bootstrap.%s:%d", suffix, p.clientPort()),
		hosts:     hosts,
		settings:  javaTLS(protocol, certs.path("ca.pem")),
		ca:        certs.path("ca.pem"),
		pool:      certs.pool,
		proxied:   true,
	}
}

// direct is how clients would reach a listener without a proxy.
func (c *cluster) direct(listener, protocol string) *endpoint {
	return &endpoint{
		name:      "direct-" + listener,
		bootstrap: c.bootstrap(listener),
		hosts:     c.brokers[0].hosts,
		settings:  javaTLS(protocol, c.ca.file),
		ca:        c.ca.file,
		pool:      c.ca.pool,
	}
}

// writeHosts writes a hosts file in which all names are this machine.
func writeHosts(path string, names []string) error {
	var content []byte
	for _, name := range names {
		content = fmt.Appendf(content, "127.0.0.1 %s\n", name)
	}
	return os.WriteFile(path, content, 0o644)
}

// plaintext are the settings of Java clients without TLS.
var plaintext = []string{"security.protocol=PLAINTEXT"}

func (e *endpoint) isPlaintext() bool { return slices.Contains(e.settings, plaintext[0]) }

func javaTLS(protocol, ca string) []string {
	return []string{
		"security.protocol=" + protocol,
		"ssl.truststore.type=PEM",
		"ssl.truststore.location=" + ca,
	}
}
