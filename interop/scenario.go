package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafka-sni-proxy/internal/harness"
)

// scenario is one row of the table.
type scenario struct {
	name  string
	limit time.Duration
	// run returns figures for the table, or what went wrong.
	run            func(context.Context, *scenarioRun) (string, error)
	configsAllowed bool // see leakScanner.AllowConfigs
	needsProxy     bool // has no meaning without one
}

// scenarioRun is one scenario being run, and what it has: the running cluster and proxies, and a
// folder of its own for what its clients write.
type scenarioRun struct {
	*environment
	dir      string
	programs int     // started so far, for file names
	python   *python // nil until a librdkafka client is started
}

// environment is what all scenarios share.
type environment struct {
	java        *java
	cluster     *cluster
	certs       *proxyCerts
	ports       *harness.Ports
	proxies     map[string]*proxy
	proxyDir    string // of their logs
	perfRecords int
	eventRounds int
	recoveries  recoveries
	direct      bool // the run is one without proxies

	// The four ways in. All lead through a proxy unless the run is a direct one.
	tls    *endpoint // TLS, nothing else; not tapped: for what is measured
	tapped *endpoint // the same, each byte to the client is read
	sasl   *endpoint // SASL_SSL; tapped; names of brokers come from a mapping rule
	mtls   *endpoint // client certificates on both sides of the proxy; not tapped
	// And one that never does, to compare with.
	directTLS *endpoint
}

// client prepares the next Java program of an endpoint: its virtual machine, the
// folder it runs in, which tells clients through the proxy from others, and
// the name its files begin with.
func (s *scenarioRun) client(e *endpoint, name string) (v jvm, dir, file string, err error) {
	dir = s.dir
	if !e.proxied {
		dir = filepath.Join(s.dir, "direct")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return v, "", "", err
		}
	}
	s.programs++
	file = fmt.Sprintf("%02d-%s", s.programs, name)
	v = jvm{HeapMB: 256, Short: true, Hosts: e.hosts, Log: filepath.Join(dir, file+".log")}
	return v, dir, file, nil
}

// properties writes the settings of an endpoint where a Java program finds them.
func (e *endpoint) properties(path string) (string, error) {
	content := "bootstrap.servers=" + e.bootstrap + "\n" + strings.Join(e.settings, "\n") + "\n"
	return path, os.WriteFile(path, []byte(content), 0o600)
}

// startJava starts one of our Java clients; see interop/java/Main.java. Its log
// is at DEBUG: it tells each response the client has decoded.
func (s *scenarioRun) startJava(ctx context.Context, e *endpoint, subcommand string, args ...string) (*process, error) {
	v, dir, file, err := s.client(e, subcommand)
	if err != nil {
		return nil, err
	}
	v.Level = "DEBUG"
	properties, err := e.properties(filepath.Join(dir, file+".properties"))
	if err != nil {
		return nil, err
	}
	program := s.java.clientArgs
	if e.oldClient {
		program = s.java.oldClientArgs
	}
	line := program(v, "Main", append([]string{subcommand, properties}, args...)...)
	return start(ctx, harness.Command{Name: file, Args: line, Dir: dir})
}

// runJava runs one of our Java clients to its end and returns its last line.
func (s *scenarioRun) runJava(ctx context.Context, e *endpoint, subcommand string, args ...string) (string, error) {
	p, err := s.startJava(ctx, e, subcommand, args...)
	if err != nil {
		return "", err
	}
	return p.finish()
}

// tool runs a program of Kafka's own and returns what it printed. The way to
// name the settings file differs from tool to tool.
func (s *scenarioRun) tool(ctx context.Context, e *endpoint, class string, args ...string) (string, error) {
	v, dir, file, err := s.client(e, class[strings.LastIndexByte(class, '.')+1:])
	if err != nil {
		return "", err
	}
	properties, err := e.properties(filepath.Join(dir, file+".properties"))
	if err != nil {
		return "", err
	}
	args = append([]string{"--bootstrap-server", e.bootstrap, "--command-config", properties}, args...)
	if strings.Contains(class, "Perf") {
		v.Short, v.HeapMB = false, 512
	}
	line := s.java.clientArgs(v, class, args...)
	if strings.HasSuffix(class, "BrokerApiVersionsCommand") {
		// It uses inner parts of the client that the newer one no longer has.
		line = s.java.brokerClientArgs(v, class, args...)
	}
	return harness.Run(ctx, harness.Command{Name: file, Args: line, Dir: dir})
}

// expect reads the program's lines until one starts with a word, and returns
// the rest of that line.
func (p *process) expect(word string) (string, error) {
	for line := range p.lines {
		if rest, found := strings.CutPrefix(line, word); found {
			return strings.TrimSpace(rest), nil
		}
		if strings.HasPrefix(line, "failed ") {
			return "", fmt.Errorf("%s: %s", p.Name, line)
		}
	}
	if err := p.Wait(); err != nil {
		return "", fmt.Errorf("before it said %q: %w", word, err)
	}
	return "", fmt.Errorf("%s ended without saying %q", p.Name, word)
}

// log is where a Java client of ours writes its log.
func (p *process) log() string { return strings.TrimSuffix(p.Output, ".out") + ".log" }

// order sends one line to the program's standard input.
func (p *process) order(format string, args ...any) error {
	_, err := fmt.Fprintf(p.Stdin, format+"\n", args...)
	return err
}

// finish waits until the program is done and returns what it said of it.
func (p *process) finish() (string, error) {
	result, err := p.expect("done")
	if err != nil {
		return "", err
	}
	for range p.lines {
	}
	return result, p.Wait()
}

// figure takes one number out of "records=10 distinct=10".
func figure(line, name string) int64 {
	for field := range strings.FieldsSeq(line) {
		if value, found := strings.CutPrefix(field, name+"="); found {
			var n int64
			if _, err := fmt.Sscan(value, &n); err == nil {
				return n
			}
		}
	}
	return -1
}

// goClient is a franz-go client that, as the Java ones do, can resolve only the
// names of its endpoint.
func (s *scenarioRun) goClient(e *endpoint, options ...kgo.Opt) (*kgo.Client, error) {
	dial := func(ctx context.Context, _, address string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(address)
		address, err := e.locate(address)
		if err != nil {
			return nil, err
		}
		if e.isPlaintext() {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
		dialer := tls.Dialer{Config: &tls.Config{ServerName: host, RootCAs: e.pool}}
		return dialer.DialContext(ctx, "tcp", address)
	}
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(strings.Split(e.bootstrap, ",")...), kgo.Dialer(dial)}, options...)...)
}

// locate resolves the name in an address for a Go client, if it is one of the
// endpoint's.
func (e *endpoint) locate(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	known, err := os.ReadFile(e.hosts)
	if err != nil {
		return "", err
	}
	if !strings.Contains(string(known), " "+host+"\n") {
		return "", fmt.Errorf("a client was told to connect to %q, a name it cannot know", host)
	}
	return net.JoinHostPort("127.0.0.1", port), nil
}
