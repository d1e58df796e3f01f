package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/harness"
	"kafka-sni-proxy/internal/kafkatest"
)

const (
	brokers    = 3
	topic      = "demo"
	partitions = 12
	group      = "demo-group"
)

// environment is everything that runs, and the folder it runs in.
type environment struct {
	settings
	dir     string
	proxy   *harness.Process
	cluster *kafkatest.Cluster
	audit   *kafkatest.Cluster // the second one, with --config
	dialer  *kafkatest.Dialer  // of all clients
	admin   string             // where the proxy's status page is, with --keep
}

// newEnvironment makes the folder and finds out early whether the ports can be
// had.
func newEnvironment(s settings) (_ *environment, err error) {
	if s.port == 0 {
		s.port, err = new(harness.Ports).Take()
	} else {
		err = checkPort("--port", s.port)
	}
	ports := brokers
	if s.config {
		ports++
	}
	for i := 0; i < ports && s.brokerPort != 0 && err == nil; i++ {
		err = checkPort("--broker-port", s.brokerPort+i)
	}
	if err != nil {
		return nil, err
	}
	env := &environment{settings: s}
	if s.keep {
		port, err := new(harness.Ports).Take()
		if err != nil {
			return nil, err
		}
		env.admin = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	if env.dir, err = os.MkdirTemp("", "kafka-sni-proxy-demo-"); err != nil {
		return nil, fmt.Errorf("making a temporary folder: %w", err)
	}
	return env, nil
}

// checkPort says so when the port cannot be listened on.
func checkPort(flag string, port int) error {
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("port %d on 127.0.0.1 is in use by something else: choose another with %s, or %s 0 for any free one", port, flag, flag)
	}
	if err != nil {
		return fmt.Errorf("listening on port %d (%s): %w", port, flag, err)
	}
	return ln.Close()
}

func (env *environment) close() {
	if env.proxy != nil {
		env.proxy.Kill()
	}
	if env.cluster != nil {
		env.cluster.Close()
	}
	if env.audit != nil {
		env.audit.Close()
	}
	os.RemoveAll(env.dir)
}

// build makes the proxy from source, unless there is one already.
func (env *environment) build(ctx context.Context, p *printer) (err error) {
	if env.binary == "" {
		p.line("$ go build ./cmd/kafka-sni-proxy")
	}
	began := time.Now()
	if env.binary, err = harness.Build(ctx, harness.BuildOptions{Binary: env.binary, Dir: env.dir}); err != nil {
		return err
	}
	if took := time.Since(began); took > 3*time.Second {
		p.line("built in %.0f s; the next time will be quick", took.Seconds())
	}
	return nil
}

// generateCerts has the proxy make its own certificates, as a newcomer would.
func (env *environment) generateCerts(ctx context.Context, p *printer) error {
	args := []string{"--sni-suffix", env.suffix, "--bind", env.proxyAddr(), "--generate-certs"}
	if env.config {
		args = []string{"--config", configFile, "--generate-certs"}
	}
	p.command("kafka-sni-proxy", args...)
	out, err := harness.Run(ctx, harness.Command{Name: "generate-certs", Args: append([]string{env.binary}, args...), Dir: env.dir})
	if err != nil {
		return fmt.Errorf("generating certificates: %w", err)
	}
	// The files; what to do next, the demo does itself.
	files, _, _ := strings.Cut(out, "\n\n")
	for line := range strings.SplitSeq(strings.TrimSpace(files), "\n") {
		p.line("  %s", line)
	}
	return nil
}

// startCluster starts the brokers, and writes down for the proxy what it alone
// is to know: their authority and where their names lead.
func (env *environment) startCluster(p *printer) error {
	ports := make([]int, brokers)
	for i := range ports {
		if env.brokerPort != 0 {
			ports[i] = env.brokerPort + i
		}
	}
	cluster, err := kafkatest.NewCluster(kafkatest.Options{Brokers: brokers, Ports: ports, CreateTopics: true})
	if err != nil {
		return err
	}
	env.cluster = cluster
	p.row("NODE", "ADVERTISES ITSELF AS")
	for id := range int32(brokers) {
		p.row(strconv.Itoa(int(id)), cluster.Addr(id))
	}
	hosts := "127.0.0.1 *." + kafkatest.Domain + "\n"
	if env.config {
		if err := env.startAudit(p); err != nil {
			return err
		}
		hosts += "127.0.0.1 *." + auditDomain + "\n"
	}
	return errors.Join(
		os.WriteFile(filepath.Join(env.dir, "upstream-ca.pem"), cluster.Authority.PEM(), 0o600),
		os.WriteFile(filepath.Join(env.dir, "hosts"), []byte(hosts), 0o600),
	)
}

// startProxy starts the proxy, which ends with the life of the demo at the
// latest, and returns once it takes connections.
func (env *environment) startProxy(life, ctx context.Context, p *printer) error {
	args := []string{
		"--bind", env.proxyAddr(),
		"--sni-suffix", env.suffix,
		"--upstream", env.cluster.Bootstrap(),
		"--upstream-ca-certs", "upstream-ca.pem",
		"--hosts-file", "hosts",
	}
	if env.admin != "" {
		args = append(args, "--admin-bind", env.admin)
	}
	logFormat := []string{"--log-format", "json"}
	if env.config {
		args, logFormat = []string{"--config", configFile}, nil
	}
	p.command("kafka-sni-proxy", args...)
	// The demo reads the log, people do not: hence JSON, and not shown.
	proxy, err := harness.Start(life, harness.Command{
		Name: "the proxy",
		Args: append(append([]string{env.binary}, args...), logFormat...),
		Dir:  env.dir, Output: filepath.Join(env.dir, "proxy.log"),
	})
	if err != nil {
		return err
	}
	env.proxy = proxy

	pool, err := certs.LoadPool(filepath.Join(env.dir, "ca.pem"))
	if err != nil {
		return fmt.Errorf("reading the certificate authority that the proxy made: %w", err)
	}
	env.dialer = env.newDialer(pool)
	if err := env.proxy.Await(ctx, 10*time.Second, "the proxy does not take connections", func() error {
		// Not the clients' dialer: this is not one of their connections.
		conn, err := env.newDialer(pool).DialContext(ctx, "tcp", env.bootstrap())
		if err == nil {
			conn.Close()
		}
		return err
	}); err != nil {
		return err
	}
	p.line("It listens. Clients are given one address: %s", env.bootstrap())
	return nil
}

func (env *environment) newDialer(pool *x509.CertPool) *kafkatest.Dialer {
	return &kafkatest.Dialer{
		Suffix:  env.suffix,
		Proxy:   env.proxyAddr(),
		TLS:     &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		Scanner: kafkatest.NewScanner(kafkatest.Domain, auditDomain),
	}
}

func (env *environment) proxyAddr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(env.port))
}

func (env *environment) bootstrap() string {
	return net.JoinHostPort("bootstrap."+env.suffix, strconv.Itoa(env.port))
}

// endEarly returns a context that ends as soon as the demo cannot succeed any
// more: clients go on trying for as long as they may.
func (env *environment) endEarly(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-env.dialer.Scanner.Found():
			cancel(env.leaked(nil))
		case <-env.proxy.Done():
			cancel(env.proxy.Alive())
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// leaked prefers a leak, if there was one, to what came of it.
func (env *environment) leaked(err error) error {
	if leak := env.dialer.Scanner.Err(); leak != nil {
		return fmt.Errorf("a name of the cluster got through the proxy: %w", leak)
	}
	return err
}

// stopProxy ends the proxy as an operator would and expects a clean exit.
func (env *environment) stopProxy() error {
	return env.proxy.Stop(10 * time.Second)
}

// explain adds what the proxy said last, unless the error has it already.
func (env *environment) explain(err error) error {
	if err == nil || env.proxy == nil || strings.Contains(err.Error(), env.proxy.Output) {
		return err
	}
	return fmt.Errorf("%w\n\nThe end of the proxy's log:\n%s", err, env.proxy.Tail(15))
}
