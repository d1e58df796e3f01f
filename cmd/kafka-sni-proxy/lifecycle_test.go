package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/kafkatest"
)

const suffix = "kafka.example.com"

// program is a running kafka-sni-proxy.
type program struct {
	t      *testing.T
	dir    string
	cmd    *exec.Cmd
	now    *os.Process // that of cmd, or the one that has taken over from it
	lines  chan string // of standard error
	log    strings.Builder
	admin  string
	listen string
}

// launch starts the program in a directory with generated certificates, on
// ports of its own choice, and waits until it listens.
func launch(t *testing.T, dir string, args ...string) *program {
	t.Helper()
	return launchWith(t, dir, nil, nil, args...)
}

// launchWith passes files to the program, and starts it by another one, to
// which its name and arguments are added.
func launchWith(t *testing.T, dir string, files []*os.File, by []string, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	for flag, value := range map[string]string{"--sni-suffix": suffix, "--bind": "127.0.0.1:0", "--admin-bind": "localhost:0"} {
		if !slices.Contains(args, flag) && !slices.Contains(args, "--config") {
			args = append(args, flag, value)
		}
	}
	line := append(append(slices.Clone(by), "kafka-sni-proxy"), args...)
	p := &program{t: t, dir: dir, cmd: exec.CommandContext(ctx, line[0], line[1:]...), lines: make(chan string, 100)}
	p.cmd.Dir = dir
	p.cmd.ExtraFiles = files
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.now = p.cmd.Process
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(p.lines)
		for in := bufio.NewScanner(stderr); in.Scan(); {
			p.lines <- in.Text()
		}
	}()
	t.Cleanup(func() {
		cancel() // kills it, where the test has not ended it
		for range p.lines {
		}
		<-read
		p.cmd.Wait()
	})
	p.admin = "http://" + p.await(`health checks.*\baddress"?[=:]"?([^ ",]+)`)
	p.listen = p.await(`listening.*\baddress"?[=:]"?([^ ",]+)`)
	return p
}

// await reads the log until a line matches, and returns the first group.
func (p *program) await(expr string) string {
	p.t.Helper()
	pattern := regexp.MustCompile(expr)
	for line := range p.lines {
		p.log.WriteString(line + "\n")
		if m := pattern.FindStringSubmatch(line); m != nil {
			return m[len(m)-1]
		}
	}
	p.t.Fatalf("no line like %s in the log:\n%s", expr, p.log.String())
	return ""
}

func (p *program) signal(s os.Signal) {
	p.t.Helper()
	if err := p.now.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// end waits for the program's end and checks its exit code.
func (p *program) end(want int) {
	p.t.Helper()
	for line := range p.lines {
		p.log.WriteString(line + "\n")
	}
	p.cmd.Wait()
	if got := p.cmd.ProcessState.ExitCode(); got != want {
		p.t.Errorf("exit code %d, want %d:\n%s", got, want, p.log.String())
	}
}

// get asks the admin port.
func (p *program) get(path string) (int, string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", p.admin+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// connect opens a client's connection to bootstrap, with the generated
// authority and, if it is to, the generated client certificate.
func (p *program) connect(withCertificate bool) *tls.Conn {
	p.t.Helper()
	return p.connectTo("bootstrap."+suffix, withCertificate)
}

func (p *program) connectTo(name string, withCertificate bool) *tls.Conn {
	p.t.Helper()
	pool, err := certs.LoadPool(filepath.Join(p.dir, "ca.pem"))
	if err != nil {
		p.t.Fatal(err)
	}
	config := &tls.Config{RootCAs: pool, ServerName: name}
	if withCertificate {
		pair, err := certs.LoadKeyPair(filepath.Join(p.dir, "client.pem"), filepath.Join(p.dir, "client_key.pem"))
		if err != nil {
			p.t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 20 * time.Second}, "tcp", p.listen, config)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// heartbeat is a request that the proxy passes on as it is: Heartbeat v0 with
// correlation id 7. Its response begins with that id.
var heartbeat = kafkatest.Frame([]byte{0, 12, 0, 0, 0, 0, 0, 7, 0xff, 0xff}, []byte("\x00\x01g\x00\x00\x00\x01\x00\x01m"))

var heartbeatResponse = kafkatest.Frame([]byte{0, 0, 0, 7, 0, 0})

// The one broker there is goes by two names.
const (
	brokerName = "broker-0.upstream.test"
	otherName  = "other.upstream.test"
)

// testCluster is one broker under a name that only the hosts file in dir knows.
type testCluster struct {
	dir, upstream string
	requests      chan []byte              // what it got
	answers       chan []byte              // what it is to say, for each
	peers         chan []*x509.Certificate // whom it talked to, for each request
}

func newCluster(t *testing.T) *testCluster {
	t.Helper()
	authority := kafkatest.NewAuthority("upstream")
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{authority.Server(brokerName, otherName)},
		ClientAuth:   tls.RequestClientCert,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	c := &testCluster{
		dir:      t.TempDir(),
		upstream: net.JoinHostPort(brokerName, port),
		requests: make(chan []byte, 10),
		answers:  make(chan []byte, 10),
		peers:    make(chan []*x509.Certificate, 10),
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go c.talk(t.Context(), conn.(*tls.Conn))
		}
	}()
	if _, err := certs.Generate(certs.GenerateOptions{Dir: c.dir, Suffix: suffix, Port: 9092}); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"hosts": "127.0.0.1 *.upstream.test\n", "upstream_ca.pem": string(authority.PEM())} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *testCluster) talk(ctx context.Context, conn *tls.Conn) {
	defer conn.Close()
	for {
		frame, err := kafkatest.ReadFrame(conn)
		if err != nil {
			return
		}
		c.peers <- conn.ConnectionState().PeerCertificates
		c.requests <- frame
		select {
		case answer := <-c.answers:
			conn.Write(answer)
		case <-ctx.Done():
			return
		}
	}
}

// await waits for a request.
func (c *testCluster) await(t *testing.T) {
	t.Helper()
	select {
	case <-c.requests:
	case <-time.After(20 * time.Second):
		t.Fatal("no request has come to the broker")
	}
}

// launch starts a proxy that reaches the cluster.
func (c *testCluster) launch(t *testing.T, args ...string) *program {
	t.Helper()
	return launch(t, c.dir, append([]string{"--upstream", c.upstream, "--hosts-file", "hosts"}, args...)...)
}

func TestItSaysWhatItServesAndEndsWithASignal(t *testing.T) {
	c := newCluster(t)
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem")
		for _, want := range []string{"suffix=" + suffix, "bootstrap=bootstrap." + suffix + ":", "upstreams=" + c.upstream, "mtls=false", "hosts=1"} {
			if !strings.Contains(p.log.String(), want) {
				t.Errorf("the log lacks %s:\n%s", want, p.log.String())
			}
		}
		if _, port, _ := net.SplitHostPort(p.listen); !strings.Contains(p.log.String(), "bootstrap=bootstrap."+suffix+":"+port+" ") {
			t.Errorf("the advertised port is not %s, which it listens on:\n%s", port, p.log.String())
		}
		if strings.Contains(p.log.String(), "WARN") {
			t.Errorf("warnings without a cause:\n%s", p.log.String())
		}
		p.signal(signal)
		p.await("drained")
		p.end(0)
	}
}

func TestLogCanBeJSONAndQuiet(t *testing.T) {
	c := newCluster(t)
	p := c.launch(t, "--trust-upstream-certs", "--log-format", "json")
	p.signal(syscall.SIGTERM)
	p.end(0)
	for line := range strings.Lines(p.log.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}

	var stderr strings.Builder
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // ends it as soon as it serves
	t.Chdir(c.dir)
	args := []string{"--sni-suffix", suffix, "--upstream", c.upstream, "--bind", "127.0.0.1:0", "--upstream-ca-certs", "upstream_ca.pem", "--hosts-file", "hosts", "--log-level", "warn"}
	if code := run(ctx, args, io.Discard, &stderr); code != 0 || stderr.Len() > 0 {
		t.Errorf("exit code %d, standard error:\n%s", code, stderr.String())
	}
}

func TestDoubtfulConfigurationsAreServedWithAWarning(t *testing.T) {
	c := newCluster(t)
	if _, err := certs.Generate(certs.GenerateOptions{Dir: c.dir, Suffix: "other.example.com", Force: true, Now: time.Now().AddDate(-20, 0, 10)}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(c.dir+"/client_key.pem", 0o644), os.Rename(c.dir+"/ca.pem", c.dir+"/authority.pem")); err != nil {
		t.Fatal(err)
	}
	p := c.launch(t, "--trust-upstream-certs", "--ca-certs", "authority.pem", "--cert", "client.pem", "--key", "client_key.pem", "--upstream-cert", "server.pem", "--upstream-key", "server_key.pem")
	for _, want := range []string{
		"NOT VERIFYING BROKERS",
		"client.pem does not cover bootstrap." + suffix + " and b0." + suffix,
		"client.pem: its extended key usage lacks server authentication",
		"client.pem expires on",
		"--ca-certs: does nothing without --mtls-enable",
		"server.pem: its extended key usage lacks client authentication",
		"chmod 600 client_key.pem",
		"client.pem holds no certificate of",
		"server.pem holds no certificate of",
	} {
		found := false
		for line := range strings.Lines(p.log.String()) {
			found = found || strings.Contains(line, "level=WARN") && strings.Contains(line, want)
		}
		if !found {
			t.Errorf("no warning of %q:\n%s", want, p.log.String())
		}
	}
}

// After SIGTERM the port is closed and /readyz says no, but a request that the
// broker has yet to answer is answered.
func TestRequestUnderWayIsAnsweredAfterTheSignal(t *testing.T) {
	c := newCluster(t)
	p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem")
	conn := p.connect(false)
	if _, err := conn.Write(heartbeat); err != nil {
		t.Fatal(err)
	}
	c.await(t)
	p.signal(syscall.SIGTERM)
	p.await("draining")
	for {
		status, body := p.get("/readyz")
		if status == http.StatusServiceUnavailable && strings.Contains(body, "draining") {
			break
		}
	}
	if conn, err := net.Dial("tcp", p.listen); err == nil {
		conn.Close()
		t.Error("the port is still open")
	}
	if status, _ := p.get("/healthz"); status != http.StatusOK {
		t.Errorf("/healthz says %d while draining", status)
	}
	c.answers <- heartbeatResponse
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != string(heartbeatResponse) {
		t.Errorf("the client got %x, %v; want %x and the end", got, err, heartbeatResponse)
	}
	conn.Close()
	p.await("drained")
	p.end(0)
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	c := newCluster(t)
	p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem")
	conn := p.connect(false)
	if _, err := conn.Write(heartbeat); err != nil {
		t.Fatal(err)
	}
	c.await(t) // and no answer
	p.signal(syscall.SIGTERM)
	p.await("draining")
	p.signal(syscall.SIGTERM)
	p.await("connections were cut with requests under way: a second signal came")
	p.end(1)
}

// A client that will never be done holds the end up for as long as it may, and
// no longer.
func TestStuckClientsAreCutAfterTheDrainTimeout(t *testing.T) {
	tests := map[string]func(t *testing.T, c *testCluster, conn net.Conn){
		"half a request": func(t *testing.T, c *testCluster, conn net.Conn) {
			check(t, c.roundTrip(t, conn))
			_, err := conn.Write(heartbeat[:len(heartbeat)-1])
			check(t, err)
		},
		"no answer from the broker": func(t *testing.T, c *testCluster, conn net.Conn) {
			_, err := conn.Write(heartbeat)
			check(t, err)
			c.await(t)
		},
		"an answer that it does not read": func(t *testing.T, c *testCluster, conn net.Conn) {
			c.answers <- kafkatest.Frame([]byte{0, 0, 0, 7}, make([]byte, 64<<20)) // more than sockets hold
			_, err := conn.Write(heartbeat)
			check(t, err)
			_, err = io.ReadFull(conn, make([]byte, 1<<20)) // it is under way
			check(t, err)
		},
	}
	for name, stick := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem", "--drain-timeout", "300ms")
			stick(t, c, p.connect(false))
			p.signal(syscall.SIGTERM)
			p.await("draining .*timeout=300ms connections=1")
			p.await("level=WARN .*cutting .*connections=1")
			p.await("connections were cut with requests under way: they took longer than 300ms .--drain-timeout")
			p.end(1)
		})
	}
}

// Those that have asked for nothing yet, or have all their answers, hold up
// nothing.
func TestIdleClientsDoNotHoldTheEndUp(t *testing.T) {
	c := newCluster(t)
	p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem", "--drain-timeout", "1h")
	silent, err := net.Dial("tcp", p.listen)
	check(t, err)
	defer silent.Close()
	check(t, c.roundTrip(t, p.connect(false)))
	p.connect(false)
	p.signal(syscall.SIGTERM)
	p.signal(syscall.SIGHUP) // means nothing now
	p.await("drained")
	p.end(0)
}

func TestClientCertificatesAreRequiredWithMTLS(t *testing.T) {
	c := newCluster(t)
	p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem", "--mtls-enable", "--ca-certs", "ca.pem")
	c.answers <- heartbeatResponse
	if !strings.Contains(p.log.String(), "mtls=true") {
		t.Errorf("the log lacks mtls=true:\n%s", p.log.String())
	}
	for _, withCertificate := range []bool{false, true} {
		conn := p.connect(withCertificate) // with TLS 1.3 a refusal comes after the handshake
		conn.Write(heartbeat)
		_, err := kafkatest.ReadFrame(conn)
		if (err == nil) != withCertificate {
			t.Errorf("with a certificate: %v, error: %v", withCertificate, err)
		}
	}
}

func TestReadyzSaysWhetherAnUpstreamCanBeReached(t *testing.T) {
	c := newCluster(t)
	tests := []struct {
		name   string
		args   []string
		status int
		body   string
	}{
		{"its CA is trusted", []string{"--upstream-ca-certs", "upstream_ca.pem"}, 200, "ready"},
		{"any is trusted", []string{"--trust-upstream-certs"}, 200, "ready"},
		{"another CA is trusted", []string{"--upstream-ca-certs", "ca.pem"}, 503, "not ready: no upstream can be reached: .*unknown authority"},
		{"the system's CAs are trusted", nil, 503, "unknown authority"},
		{"another name", []string{"--upstream-ca-certs", "upstream_ca.pem", "--upstream", strings.Replace(c.upstream, "broker-0", "broker-1", 1)}, 503, "certificate is valid for " + brokerName},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"--hosts-file", "hosts"}, test.args...)
			if test.name != "another name" {
				args = append(args, "--upstream", c.upstream)
			}
			if test.name == "the system's CAs are trusted" {
				if pool, err := x509.SystemCertPool(); err != nil || pool.Equal(x509.NewCertPool()) {
					t.Skip("the system has none")
				}
			}
			p := launch(t, c.dir, args...)
			status, body := p.get("/readyz")
			if status != test.status || !regexp.MustCompile(test.body).MatchString(body) {
				t.Errorf("%d %s, want %d %s", status, body, test.status, test.body)
			}
		})
	}
}

// The rule and the port show in a Metadata response, version 0 here.
func TestBrokersAreAdvertisedByTheRuleAndThePortOfTheFlags(t *testing.T) {
	c := newCluster(t)
	p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem", "--advertised-port", "19092",
		"--broker-mapping-rule", `^broker-(\d+)\.upstream\.test$::node${1}.`+suffix)
	got := c.teach(t, p, brokerName, 9092)
	if want := metadataResponse("node0."+suffix, 19092); string(got) != string(want[4:]) {
		t.Errorf("the client got %q; want %q", got, want[4:])
	}
}

// metadataResponse answers metadataRequest with one broker, number 5, and no
// topics. Both are of version 0.
func metadataResponse(host string, port int) []byte {
	brokers := append([]byte{0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 5, 0, byte(len(host))}, host...)
	return kafkatest.Frame(brokers, []byte{0, 0, byte(port >> 8), byte(port)}, []byte{0, 0, 0, 0})
}

var metadataRequest = kafkatest.Frame([]byte{0, 3, 0, 0, 0, 0, 0, 7, 0xff, 0xff}, []byte{0, 0, 0, 0})

// teach has a client ask for metadata, and the broker answer that broker 5 lives
// at this address. It returns what the client got.
func (c *testCluster) teach(t *testing.T, p *program, host string, port int) []byte {
	t.Helper()
	c.answers <- metadataResponse(host, port)
	conn := p.connect(false)
	defer conn.Close()
	if _, err := conn.Write(metadataRequest); err != nil {
		t.Fatal(err)
	}
	got, err := kafkatest.ReadFrame(conn)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestClientsWithoutAServerNameAreServedWhenAllowed(t *testing.T) {
	c := newCluster(t)
	for _, allowed := range []bool{false, true} {
		p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem", fmt.Sprintf("--allow-missing-sni=%v", allowed))
		conn, err := tls.Dial("tcp", p.listen, &tls.Config{InsecureSkipVerify: true}) // to an address: no name is sent
		if err == nil {
			c.answers <- heartbeatResponse
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			conn.Write(heartbeat)
			_, err = kafkatest.ReadFrame(conn)
			conn.Close()
		}
		if (err == nil) != allowed {
			t.Errorf("allowed: %v, error: %v", allowed, err)
		}
	}
}

func TestFramesLongerThanTheFlagSaysEndTheConnection(t *testing.T) {
	c := newCluster(t)
	p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem", "--max-frame-bytes", "1024")
	conn := p.connect(false)
	if _, err := conn.Write([]byte{0, 0, 4, 1}); err != nil { // 1025
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection was not closed: %v", err)
	}
	p.await("max-frame-bytes")
}

func TestUpstreamCertificateIsShownToBrokers(t *testing.T) {
	c := newCluster(t)
	p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem", "--upstream-cert", "client.pem", "--upstream-key", "client_key.pem")
	c.answers <- heartbeatResponse
	conn := p.connect(false)
	if _, err := conn.Write(heartbeat); err != nil {
		t.Fatal(err)
	}
	if _, err := kafkatest.ReadFrame(conn); err != nil {
		t.Fatal(err)
	}
	peers := <-c.peers
	if len(peers) != 1 || !strings.HasPrefix(peers[0].Subject.CommonName, "kafka-sni-proxy client") {
		t.Errorf("the broker saw %v", peers)
	}
}

func TestMetricsCountWhatHappened(t *testing.T) {
	c := newCluster(t)
	p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem")
	c.answers <- heartbeatResponse
	conn := p.connect(false)
	if _, err := conn.Write(heartbeat); err != nil {
		t.Fatal(err)
	}
	if _, err := kafkatest.ReadFrame(conn); err != nil {
		t.Fatal(err)
	}
	if plain, err := net.Dial("tcp", p.listen); err != nil {
		t.Fatal(err)
	} else {
		plain.Write(heartbeat)
		io.ReadAll(plain) // until it is closed
		plain.Close()
	}
	p.await("does not speak TLS")
	const one = `listener="127.0.0.1:0"`
	p.wantMetrics( // what a client has got may not have been counted yet
		`kafka_sni_proxy_connections_accepted_total{`+one+`} 2`,
		`kafka_sni_proxy_connections{cluster="kafka",`+one+`} 1`,
		`kafka_sni_proxy_connection_failures_total{cluster="",`+one+`,phase="first-byte"} 1`,
		`kafka_sni_proxy_connection_failures_total{cluster="kafka",`+one+`,phase="dial"} 0`,
		fmt.Sprintf(`kafka_sni_proxy_bytes_total{cluster="kafka",kind="request",%s} %d`, one, len(heartbeat)),
		fmt.Sprintf(`kafka_sni_proxy_bytes_total{cluster="kafka",kind="response",%s} %d`, one, len(heartbeatResponse)),
		`kafka_sni_proxy_frames_total{cluster="kafka",kind="request",`+one+`} 1`,
		`kafka_sni_proxy_frames_total{cluster="kafka",kind="response",`+one+`} 1`,
		`kafka_sni_proxy_handshakes_total{`+one+`,resumed="false"} 1`,
		`kafka_sni_proxy_handshake_duration_seconds_count{`+one+`} 1`,
		`kafka_sni_proxy_request_duration_seconds_count{api="Heartbeat",cluster="kafka"} 1`,
		`kafka_sni_proxy_added_seconds_count{cluster="kafka",kind="request"} [1-9]`,
		`kafka_sni_proxy_requests_in_flight{cluster="kafka"} 0`,
		`kafka_sni_proxy_broker_up{broker="`+regexp.QuoteMeta(c.upstream)+`",cluster="kafka"} 1`,
		`kafka_sni_proxy_broker_dial_errors_total{broker="`+regexp.QuoteMeta(c.upstream)+`",cluster="kafka",stage="dial"} 0`,
		`kafka_sni_proxy_build_info{goversion="go1[^"]*",version="[^"]+"} 1`,
		`kafka_sni_proxy_responses_rewritten_total{cluster="kafka"} 0`,
		`kafka_sni_proxy_endpoints_dropped_total{cluster="kafka"} 0`,
		`kafka_sni_proxy_brokers_learned{cluster="kafka"} 0`,
		"kafka_sni_proxy_accept_errors_total 0",
		"kafka_sni_proxy_draining 0",
		"process_open_fds",
		"go_goroutines",
		"go_sched_latencies_seconds_count",
	)
	if status, _ := p.get("/else"); status != http.StatusNotFound {
		t.Errorf("/else says %d", status)
	}
}

func TestWithoutAdminBindThereIsNoAdminPort(t *testing.T) {
	c := newCluster(t)
	var stderr strings.Builder
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	t.Chdir(c.dir)
	if code := run(ctx, []string{"--sni-suffix", suffix, "--upstream", c.upstream, "--bind", "127.0.0.1:0", "--upstream-ca-certs", "upstream_ca.pem"}, io.Discard, &stderr); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if strings.Contains(stderr.String(), "health") {
		t.Errorf("standard error:\n%s", stderr.String())
	}
}

func TestUpstreamThatCannotBeReachedIsSaidAtTheStart(t *testing.T) {
	c := newCluster(t)
	p := c.launch(t, "--upstream-ca-certs", "ca.pem") // which is another authority
	line := p.await("(.*no upstream can be reached.*)")
	for _, want := range []string{"level=WARN", "unknown authority", "give that CA with --upstream-ca-certs"} {
		if !strings.Contains(line, want) {
			t.Errorf("want %q: %s", want, line)
		}
	}
}

func TestAddressIsLoggedAsItWasAskedFor(t *testing.T) {
	for bind, want := range map[string]struct{ address, ipv6 string }{
		"0.0.0.0:0":   {"0.0.0.0:", "true"},
		"127.0.0.1:0": {"127.0.0.1:", "false"},
	} {
		ln, err := net.Listen("tcp", bind)
		check(t, err)
		defer ln.Close()
		if _, err := net.Dial("tcp", "[::1]:"+portOf(ln)); err != nil && want.ipv6 == "true" {
			t.Logf("this system has no IPv6: %v", err)
			continue
		}
		got := fmt.Sprint((&socket{Listener: ln, bind: bind, own: true}).describe()...)
		if got != fmt.Sprint("address", want.address+portOf(ln), "ipv6", want.ipv6 == "true") {
			t.Errorf("%s: %s", bind, got)
		}
	}
}

func portOf(ln net.Listener) string {
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}
