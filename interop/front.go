package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The addresses of this machine that make clients, taps and the proxy differ.
const (
	// behindTaps is where the proxy listens with ports: a tap listens at the same ports of
	// 127.0.0.1, as clients are told the ports that the proxy listens on.
	behindTaps = "127.0.0.3"
	// balancedFrom is where a tap in front of the balancer connects from. That is who the
	// proxy has to think its clients are.
	balancedFrom = "127.0.0.9"
)

// front is a proxy that is configured by a file, and the taps in front of its listeners.
// Clients of the first cluster, orders, see it under suffix.
type front struct {
	*scenarioRun
	name      string
	dir       string
	certs     []*proxyCerts // which all its listeners with TLS have
	proxy     *proxy
	taps      []*tap
	listeners map[string]*frontListener
}

// frontListener is a listener, and how clients reach it.
type frontListener struct {
	yaml string // its keys, but for certificates
	tls  bool
	port int // of bootstrap, or the only one
	taps []*tap
}

// newFront makes a proxy that has no listener yet, and is not started.
func (s *scenarioRun) newFront(name string) (*front, error) {
	f := &front{scenarioRun: s, name: name, dir: filepath.Join(s.proxyDir, name), certs: []*proxyCerts{s.certs}, listeners: map[string]*frontListener{}}
	f.proxy = &proxy{name: name, dir: s.proxyDir}
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return nil, err
	}
	// The gate's password comes from the environment, escaped as URLs want it.
	f.proxy.args = []string{"env", "GATE_PASSWORD=" + url.QueryEscape(gatePassword), s.java.software.proxy, "--config", f.file()}
	var err error
	f.proxy.admin, err = s.ports.Take()
	return f, err
}

func (f *front) file() string { return filepath.Join(f.dir, "proxy.yaml") }

// addCerts has the proxy generate certificates for another domain, by another CA.
func (f *front) addCerts(ctx context.Context, domain string) error {
	certs, err := generateCerts(ctx, f.java.software, filepath.Join(f.dir, domain), domain)
	f.certs = append(f.certs, certs)
	return err
}

// byName adds a listener that tells clusters and brokers apart by name.
func (f *front) byName(ctx context.Context, name string) error {
	var port, client int
	if err := f.ports.TakeAll(&port, &client); err != nil {
		return err
	}
	l := &frontListener{tls: true, port: client, yaml: fmt.Sprintf("bind: 127.0.0.1:%d, advertised-port: %d", port, client)}
	return f.add(ctx, name, l, fmt.Sprintf("127.0.0.1:%d", client), fmt.Sprintf("127.0.0.1:%d", port), nil)
}

// balanced adds a listener by name that is reached through HAProxy, which tells it who its
// clients are.
func (f *front) balanced(ctx context.Context, name string) error {
	var port, balancer, client int
	if err := f.ports.TakeAll(&port, &balancer, &client); err != nil {
		return err
	}
	if _, err := f.startHAProxy(ctx, balancer, fmt.Sprintf("proxy 127.0.0.1:%d send-proxy-v2 check port %d", port, f.proxy.admin)); err != nil {
		return err
	}
	l := &frontListener{tls: true, port: client, yaml: fmt.Sprintf("bind: 127.0.0.1:%d, advertised-port: %d, proxy-protocol: {from: [127.0.0.1/32]}", port, client)}
	return f.add(ctx, name, l, fmt.Sprintf("127.0.0.1:%d", client), fmt.Sprintf("127.0.0.1:%d", balancer), net.ParseIP(balancedFrom))
}

// byPort adds a listener with a port for each broker of a cluster, whose node ids begin with 1.
func (f *front) byPort(ctx context.Context, name, cluster string, brokers int, host string, withTLS bool) error {
	port, err := f.ports.TakeRange(1 + brokers)
	if err != nil {
		return err
	}
	l := &frontListener{tls: withTLS, port: port, yaml: fmt.Sprintf("bind: %s:%d, ports: {cluster: %s, brokers: %d-%d, advertised-host: %s, first-node-id: 1}",
		behindTaps, port, cluster, port+1, port+brokers, host)}
	if !withTLS {
		l.yaml += ", plaintext: true"
	}
	for p := port; p <= port+brokers; p++ {
		if err := f.add(ctx, name, l, fmt.Sprintf("127.0.0.1:%d", p), fmt.Sprintf("%s:%d", behindTaps, p), nil); err != nil {
			return err
		}
	}
	return nil
}

// add starts a tap in front of a listener.
func (f *front) add(ctx context.Context, name string, l *frontListener, address, target string, from net.IP) error {
	var server, client *tls.Config
	if l.tls {
		server, client = f.certs[0].serverTLS(f.certs[1:]...), &tls.Config{RootCAs: x509.NewCertPool()}
		for _, c := range f.certs {
			if err := c.trustedBy(client.RootCAs); err != nil {
				return err
			}
		}
	}
	t, err := newTap(address, server, client, target)
	if err != nil {
		return err
	}
	t.from = from
	go t.serve(ctx)
	f.taps, l.taps = append(f.taps, t), append(l.taps, t)
	f.listeners[name] = l
	return nil
}

// write writes the file, whole: with some of the listeners, and the clusters as YAML.
func (f *front) write(clusters string, listeners ...string) error {
	var certs []string
	for _, c := range f.certs {
		certs = append(certs, fmt.Sprintf("{cert: %s, key: %s}", c.path("server.pem"), c.path("server_key.pem")))
	}
	var b strings.Builder
	b.WriteString("listeners:\n")
	for _, name := range listeners {
		l := f.listeners[name]
		fmt.Fprintf(&b, "  - {name: %s, %s", name, l.yaml)
		if l.tls {
			fmt.Fprintf(&b, ", certificates: [%s]", strings.Join(certs, ", "))
		}
		b.WriteString("}\n")
	}
	fmt.Fprintf(&b, "clusters:\n%sadmin: {bind: 127.0.0.1:%d}\nlog: {level: debug}\n", clusters, f.proxy.admin)
	return f.replace(b.String())
}

// replace puts a file in the place of the one that is there.
func (f *front) replace(content string) error {
	next := f.file() + ".next"
	return errors.Join(os.WriteFile(next, []byte(content), 0o600), os.Rename(next, f.file()))
}

// orders is the cluster of all scenarios.
func (f *front) orders() string {
	return fmt.Sprintf("  orders:\n    sni-suffix: %s\n    upstream: [%s]\n    upstream-tls: {ca-certs: %s}\n    hosts-file: %s\n",
		suffix, strings.ReplaceAll(f.cluster.bootstrap(listenTLS), ",", ", "), f.cluster.ca.file, filepath.Join(f.proxyDir, "upstream-hosts"))
}

// endpoint is how clients reach a cluster by a listener: where they bootstrap, and all names
// that they can resolve.
func (f *front) endpoint(listener string, certs *proxyCerts, names ...string) (*endpoint, error) {
	l := f.listeners[listener]
	e := &endpoint{
		name:      f.name + "-" + listener,
		bootstrap: fmt.Sprintf("%s:%d", names[0], l.port),
		hosts:     filepath.Join(f.dir, "hosts-"+listener+"-"+names[0]),
		settings:  plaintext,
		ca:        certs.path("ca.pem"),
		pool:      certs.pool,
		proxied:   true,
	}
	if l.tls {
		e.settings = javaTLS("SSL", e.ca)
	}
	return e, writeHosts(e.hosts, names)
}

// reload waits until the proxy has taken up a changed file, or has found that it cannot.
func (f *front) reload(ctx context.Context, result string, change func() error) error {
	count := func() (int, error) { return f.proxy.metric(ctx, `reloads_total{result="`+result+`"}`) }
	before, err := count()
	if err == nil {
		err = change()
	}
	if err != nil {
		return err
	}
	return f.proxy.Await(ctx, 30*time.Second, "waiting for the file to be read", func() error {
		now, err := count()
		if err == nil && now == before {
			err = fmt.Errorf("%d times %s, as before", now, result)
		}
		return err
	})
}

// takeLeaks returns what the taps have found.
func (f *front) takeLeaks() (leaks []string) {
	for name, l := range f.listeners {
		for _, t := range l.taps {
			for _, leak := range t.takeLeaks() {
				leaks = append(leaks, "tap of "+name+" "+leak)
			}
		}
	}
	return leaks
}

// bytes is how much a listener has sent to clients.
func (l *frontListener) bytes() (sum int64) {
	for _, t := range l.taps {
		sum += t.bytes.Load()
	}
	return sum
}

// silent wants every listener to have sent something, and no upstream name in it.
func (f *front) silent() error {
	for name, l := range f.listeners {
		if l.bytes() == 0 {
			return fmt.Errorf("the tap of %s has heard nothing", name)
		}
	}
	if leaks := f.takeLeaks(); len(leaks) > 0 {
		return fmt.Errorf("%d upstream names reached a client, among them:\n  %s", len(leaks), strings.Join(leaks[:min(5, len(leaks))], "\n  "))
	}
	return nil
}

func (f *front) stop() {
	if f.proxy.Process != nil {
		f.proxy.Kill()
	}
	for _, t := range f.taps {
		t.stop()
	}
}
