package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/kafkatest"
)

const (
	brokers    = 3
	topic      = "demo"
	partitions = 12
	group      = "demo-group"
)

// stage is everything that runs, and the folder it runs in.
type stage struct {
	settings
	dir     string
	proxy   *process
	cluster *kafkatest.Cluster
	dialer  *kafkatest.Dialer // of all clients
}

// newStage makes the folder and finds out early whether the ports can be had.
func newStage(ctx context.Context, s settings) (*stage, error) {
	port, err := freePort(ctx, "--port", s.port)
	if err != nil {
		return nil, err
	}
	s.port = port
	for i := range brokers {
		if s.brokerPort == 0 {
			break
		}
		if _, err := freePort(ctx, "--broker-port", s.brokerPort+i); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp("", "kafka-sni-proxy-demo-")
	if err != nil {
		return nil, fmt.Errorf("making a temporary folder: %w", err)
	}
	return &stage{settings: s, dir: dir}, nil
}

// freePort checks that the port can be listened on, and chooses one for 0.
func freePort(ctx context.Context, flag string, port int) (int, error) {
	var config net.ListenConfig
	ln, err := config.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return 0, fmt.Errorf("port %d on 127.0.0.1 is in use by something else: choose another with %s, or %s 0 for any free one", port, flag, flag)
	}
	if err != nil {
		return 0, fmt.Errorf("listening on port %d (%s): %w", port, flag, err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

func (st *stage) close() {
	if st.proxy != nil {
		st.proxy.kill()
	}
	if st.cluster != nil {
		st.cluster.Close()
	}
	os.RemoveAll(st.dir)
}

// build makes the proxy from source, unless there is one already.
func (st *stage) build(ctx context.Context, p *printer) error {
	if st.binary != "" {
		path, err := filepath.Abs(st.binary)
		if err != nil {
			return err
		}
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("--binary: %w", err)
		}
		st.binary = path
		return nil
	}
	st.binary = filepath.Join(st.dir, "kafka-sni-proxy")
	p.line("$ go build ./cmd/kafka-sni-proxy")
	began := time.Now()
	// By import path: it is found from any folder of the module. Without the
	// version control's stamp, which fails in a checkout owned by another user.
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", st.binary, "kafka-sni-proxy/cmd/kafka-sni-proxy")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the proxy (is this the project's folder? otherwise say where a built one is, with --binary): %w\n%s", err, out)
	}
	if took := time.Since(began); took > 3*time.Second {
		p.line("built in %.0f s; the next time will be quick", took.Seconds())
	}
	return nil
}

// generateCerts has the proxy make its own certificates, as a newcomer would.
func (st *stage) generateCerts(ctx context.Context, p *printer) error {
	args := []string{"--sni-suffix", st.suffix, "--bind", st.proxyAddr(), "--generate-certs"}
	p.command("kafka-sni-proxy", args...)
	generate := exec.CommandContext(ctx, st.binary, args...)
	generate.Dir, generate.Env = st.dir, environment()
	out, err := generate.CombinedOutput()
	if err != nil {
		return fmt.Errorf("generating certificates: %w\n%s", err, out)
	}
	// The files; what to do next, the demo does itself.
	files, _, _ := strings.Cut(string(out), "\n\n")
	for line := range strings.SplitSeq(strings.TrimSpace(files), "\n") {
		p.line("  %s", line)
	}
	return nil
}

// startCluster starts the brokers, and writes down for the proxy what it alone
// is to know: their authority and where their names lead.
func (st *stage) startCluster(p *printer) error {
	ports := make([]int, brokers)
	for i := range ports {
		if st.brokerPort != 0 {
			ports[i] = st.brokerPort + i
		}
	}
	cluster, err := kafkatest.NewCluster(kafkatest.Options{Brokers: brokers, Ports: ports, CreateTopics: true})
	if err != nil {
		return err
	}
	st.cluster = cluster
	p.row("NODE", "ADVERTISES ITSELF AS")
	for id := range int32(brokers) {
		p.row(strconv.Itoa(int(id)), cluster.Addr(id))
	}
	hosts := "127.0.0.1 *." + kafkatest.Domain + "\n"
	return errors.Join(
		os.WriteFile(filepath.Join(st.dir, "upstream-ca.pem"), cluster.Authority.PEM(), 0o600),
		os.WriteFile(filepath.Join(st.dir, "hosts"), []byte(hosts), 0o600),
	)
}

// startProxy starts the proxy and returns once it takes connections.
func (st *stage) startProxy(ctx context.Context, p *printer) error {
	args := []string{
		"--bind", st.proxyAddr(),
		"--sni-suffix", st.suffix,
		"--upstream", st.cluster.Bootstrap(),
		"--upstream-ca-certs", "upstream-ca.pem",
		"--hosts-file", "hosts",
	}
	p.command("kafka-sni-proxy", args...)
	// The demo reads the log, people do not: hence JSON, and not shown.
	proxy, err := start(st.binary, st.dir, append(args, "--log-format", "json"))
	if err != nil {
		return err
	}
	st.proxy = proxy

	pool, err := certs.LoadPool(filepath.Join(st.dir, "ca.pem"))
	if err != nil {
		return fmt.Errorf("reading the certificate authority that the proxy made: %w", err)
	}
	st.dialer = st.newDialer(pool)
	if err := st.proxy.await(ctx, func(ctx context.Context) error {
		// Not the clients' dialer: this is not one of their connections.
		conn, err := st.newDialer(pool).DialContext(ctx, "tcp", st.bootstrap())
		if err == nil {
			conn.Close()
		}
		return err
	}); err != nil {
		return st.explain(err)
	}
	p.line("It listens. Clients are given one address: %s", st.bootstrap())
	return nil
}

// environment is ours without the variables that the proxy takes flags from:
// the demo gives all it needs on the command line.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "KAFKA_SNI_PROXY_") })
}

func (st *stage) newDialer(pool *x509.CertPool) *kafkatest.Dialer {
	return &kafkatest.Dialer{
		Suffix:  st.suffix,
		Proxy:   st.proxyAddr(),
		TLS:     &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		Scanner: st.cluster.Scanner(),
	}
}

func (st *stage) proxyAddr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(st.port)) }

func (st *stage) bootstrap() string {
	return net.JoinHostPort("bootstrap."+st.suffix, strconv.Itoa(st.port))
}

// endEarly returns a context that ends as soon as the demo cannot succeed any
// more: clients go on trying for as long as they may.
func (st *stage) endEarly(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-st.dialer.Scanner.Found():
			cancel(st.leaked(nil))
		case <-st.proxy.ended:
			cancel(fmt.Errorf("the proxy has ended: %w", st.proxy.exit()))
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// leaked prefers a leak, if there was one, to what came of it.
func (st *stage) leaked(err error) error {
	if leak := st.dialer.Scanner.Err(); leak != nil {
		return fmt.Errorf("a name of the cluster got through the proxy: %w", leak)
	}
	return err
}

// stopProxy ends the proxy as an operator would and expects a clean exit.
func (st *stage) stopProxy() error {
	if err := st.proxy.stop(10 * time.Second); err != nil {
		return fmt.Errorf("stopping the proxy: %w", err)
	}
	return nil
}

// explain adds what the proxy said last.
func (st *stage) explain(err error) error {
	if err == nil || st.proxy == nil {
		return err
	}
	tail := st.proxy.tail(15)
	if len(tail) == 0 {
		return err
	}
	return fmt.Errorf("%w\n\nThe proxy's last words:\n  %s", err, strings.Join(tail, "\n  "))
}
