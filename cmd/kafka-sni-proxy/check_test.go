package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"kafka-sni-proxy/internal/kafkatest"
)

// issuer signs certificates of any kind.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issue signs a certificate for brokers, which change may spoil. A nil issuer signs itself.
func (i *issuer) issue(t *testing.T, name string, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{"*.orders.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	parent, signer := template, key
	if i != nil {
		parent, signer = i.cert, i.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	check(t, err)
	leaf, err := x509.ParseCertificate(der)
	check(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func isAuthority(c *x509.Certificate) {
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.DNSNames, c.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil, nil
}

// authority returns one that the issuer has signed.
func (i *issuer) authority(t *testing.T, name string) *issuer {
	pair := i.issue(t, name, isAuthority)
	return &issuer{pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey)}
}

func (i *issuer) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw}))
}

// shows has all brokers show a certificate.
func shows(pair tls.Certificate) func(int32, *tls.Config) {
	return func(_ int32, c *tls.Config) { c.Certificates = []tls.Certificate{pair} }
}

// checkRun is what a check has said.
type checkRun struct {
	exit    int
	text    string
	Works   bool
	Results []struct{ Subject, What, Level, Result, Remedy string }
}

// runCheck runs the program, with --json.
func runCheck(t *testing.T, dir string, args ...string) *checkRun {
	t.Helper()
	r := &checkRun{}
	exit, stdout, stderr := runIn(t, dir, append([]string{"kafka-sni-proxy", "check", "--json"}, args...)...)
	r.exit, r.text = exit, stdout+stderr
	if exit != exitUsage {
		if err := json.Unmarshal([]byte(stdout), r); err != nil {
			t.Fatalf("%v in what check says:\n%s", err, r.text)
		}
	}
	return r
}

func runIn(t *testing.T, dir string, line ...string) (exit int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), line[0], line[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errs
	var failed *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// brokers starts brokers that only the hosts file of the realm knows.
func (r *realm) brokers(options kafkatest.Options) *kafkatest.Cluster {
	r.t.Helper()
	options.Domain, options.Brokers = "orders.test", 3
	first := freePorts(r.t, 3)
	options.Ports = []int{first, first + 1, first + 2}
	c := kafkatest.Start(r.t, options)
	r.write("orders-ca.pem", string(c.Authority.PEM()))
	return c
}

// upstream are the flags with which the cluster is reached.
func upstream(c *kafkatest.Cluster, more ...string) []string {
	return append([]string{"--sni-suffix=kafka.example", "--bind=127.0.0.1:0", "--hosts-file=hosts", "--upstream-ca-certs=orders-ca.pem", "--upstream=" + c.Bootstrap()}, more...)
}

// Each of these would keep clients from working, and a check says so before they try, and
// what to do. Whoever changes the words sees here that they still say it.
func TestCheckFindsWhatWouldNotWork(t *testing.T) {
	root := (*issuer)(nil).authority(t, "Root of the Brokers")
	middle := root.authority(t, "Intermediate of the Brokers")
	for name, broken := range map[string]struct {
		setup  func(t *testing.T, r *realm) []string
		what   string // regular expressions
		result string
		remedy string
	}{
		"a name that the broker's certificate does not have": {func(t *testing.T, r *realm) []string {
			ln := must(tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{root.issue(t, "broker", nil)}}))
			t.Cleanup(func() { ln.Close() })
			go func() {
				for conn, err := ln.Accept(); err == nil; conn, err = ln.Accept() {
					conn.(*tls.Conn).HandshakeContext(t.Context())
					conn.Close()
				}
			}()
			c := r.brokers(kafkatest.Options{})
			r.write("orders-ca.pem", root.pem())
			r.write("hosts", "127.0.0.1 *.orders.test kafka.other.test\n")
			return upstream(c, fmt.Sprintf("--upstream=kafka.other.test:%d", ln.Addr().(*net.TCPAddr).Port))
		}, `upstream kafka\.other\.test:\d+`, `certificate is for .*orders\.test, and not for kafka\.other\.test`, `connect by a name that the certificate covers`},
		"an expired certificate": {func(t *testing.T, r *realm) []string {
			pair := root.issue(t, "broker", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
			c := r.brokers(kafkatest.Options{TLS: shows(pair)})
			r.write("orders-ca.pem", root.pem())
			return upstream(c)
		}, `upstream broker-0\S+`, `"CN=broker" expired on \d{4}-\d\d-\d\d \d\d:\d\d UTC, and this machine's clock says`, `renew it`},
		"a clock that is behind": {func(t *testing.T, r *realm) []string {
			pair := root.issue(t, "broker", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(48 * time.Hour) })
			c := r.brokers(kafkatest.Options{TLS: shows(pair)})
			r.write("orders-ca.pem", root.pem())
			return upstream(c)
		}, `upstream broker-0\S+`, `is valid from .* on, and this machine's clock says`, `set this machine's clock`},
		"an incomplete chain": {func(t *testing.T, r *realm) []string {
			c := r.brokers(kafkatest.Options{TLS: shows(middle.issue(t, "broker", nil))})
			r.write("orders-ca.pem", root.pem())
			return upstream(c)
		}, `upstream broker-0\S+`, `signed by "CN=Intermediate of the Brokers", key id [0-9A-F:]+, which was not sent and is not trusted`, `the chain is incomplete: the server has to send`},
		"a wrong authority, which the broker sends": {func(t *testing.T, r *realm) []string {
			pair := middle.issue(t, "broker", nil)
			pair.Certificate = append(pair.Certificate, middle.cert.Raw, root.cert.Raw)
			return upstream(r.brokers(kafkatest.Options{TLS: shows(pair)}))
		}, `upstream broker-0\S+`, `signed by the authority "CN=Root of the Brokers", which is not trusted \(its SHA-256 fingerprint: ` + colons(root.cert.Raw), `--upstream-ca-certs`},
		"a wrong port": {func(t *testing.T, r *realm) []string {
			return upstream(r.brokers(kafkatest.Options{}), "--upstream=broker-0.orders.test:"+fmt.Sprint(freePorts(t, 1)))
		}, `upstream broker-0\S+`, `connection refused`, `does not accept connections`},
		"a plaintext broker": {func(t *testing.T, r *realm) []string {
			return upstream(r.brokers(kafkatest.Options{}), "--upstream=localhost:"+answering(t, "HTTP/1.1 400 Bad Request\r\n\r\n"))
		}, `upstream localhost\S+`, `does not look like a TLS handshake`, `does not speak TLS: use its SSL or SASL_SSL listener`},
		"a broker whose name no certificate covers": {func(t *testing.T, r *realm) []string {
			return upstream(r.brokers(kafkatest.Options{}), `--broker-mapping-rule=^(.*)\.orders\.test$::${1}.prod.kafka.example`)
		}, `names in certificates`, `no certificate covers broker-0\.prod\.kafka\.example, broker-1`, `certificate for \*\.prod\.kafka\.example \(a wildcard stands for one label\)`},
		"two brokers with one name": {func(t *testing.T, r *realm) []string {
			return upstream(r.brokers(kafkatest.Options{}), `--broker-mapping-rule=^broker-\d+\.(orders)\.test$::${1}.kafka.example`)
		}, `name of broker 1`, `makes "orders\.kafka\.example" of broker-1\.orders\.test, which broker 0 has already; it would be seen as b1\.kafka\.example`, `what tells the brokers apart`},
		"a broker that does not resolve": {func(t *testing.T, r *realm) []string {
			r.write("hosts", "127.0.0.1 broker-0.orders.test broker-1.orders.test\n")
			return upstream(r.brokers(kafkatest.Options{}))
		}, `broker 2 at broker-2\.orders\.test:\d+`, `lookup broker-2\.orders\.test`, `does not resolve: see DNS, or give it an address in --hosts-file`},
		"a black hole": {func(t *testing.T, r *realm) []string {
			return upstream(r.brokers(kafkatest.Options{}), "--upstream=localhost:"+answering(t, ""), "--dial-timeout=1s")
		}, `upstream localhost\S+`, `no answer within 1s`, `did not answer the handshake in time`},
		"a wrong authority of a private kind": {func(t *testing.T, r *realm) []string {
			c := r.brokers(kafkatest.Options{})
			r.write("orders-ca.pem", root.pem())
			return upstream(c)
		}, `upstream broker-0\S+`, `which was not sent and is not trusted`, `If it is a root, give its certificate with --upstream-ca-certs`},
		"brokers that want a client certificate": {func(t *testing.T, r *realm) []string {
			return upstream(r.brokers(kafkatest.Options{TLS: func(_ int32, c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }}))
		}, `upstream broker-0\S+`, `certificate required`, `it asks for a client certificate \(mTLS\), and there is none: give one with --upstream-cert`},
		"a port in use": {func(t *testing.T, r *realm) []string {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			check(t, err)
			t.Cleanup(func() { ln.Close() })
			return upstream(r.brokers(kafkatest.Options{}), "--bind="+ln.Addr().String())
		}, `--bind`, `127\.0\.0\.1:\d+ is in use by another program`, `choose another port`},
		"two clusters as one": {func(t *testing.T, r *realm) []string {
			one, other := r.cluster("audit", 1), r.brokers(kafkatest.Options{Kafka: []kfake.Opt{kfake.ClusterID("another")}})
			both := append(must(os.ReadFile(filepath.Join(r.dir, "orders-ca.pem"))), must(os.ReadFile(filepath.Join(r.dir, "audit-ca.pem")))...)
			r.write("orders-ca.pem", string(both))
			return upstream(other, "--upstream="+one.Bootstrap())
		}, `cluster id`, `these are two clusters`, `of one cluster alone`},
		"the proxy itself": {func(t *testing.T, r *realm) []string {
			c := r.brokers(kafkatest.Options{TLS: func(_ int32, c *tls.Config) {
				c.Certificates = []tls.Certificate{must(tls.LoadX509KeyPair(filepath.Join(r.dir, "server.pem"), filepath.Join(r.dir, "server_key.pem")))}
			}})
			return upstream(c)
		}, `upstream broker-0\S+`, `is this proxy itself`, `it has to lead to the brokers`},
		"a file that is missing": {func(t *testing.T, r *realm) []string {
			return upstream(r.brokers(kafkatest.Options{}), "--cert=nosuch.pem")
		}, `--cert, --key`, `nosuch\.pem does not exist`, `--generate-certs`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRealm(t)
			args := broken.setup(t, r)
			if at := lastOf(args, "--bind="); len(at) > 1 { // a flag cannot be given twice
				args = append(args[:at[0]:at[0]], args[at[0]+1:]...)
			}
			got := runCheck(t, r.dir, args...)
			got.expect(t, broken.what, "failed", broken.result, broken.remedy)
			if got.exit != exitRuntime || got.Works {
				t.Errorf("exit code %d, works: %v", got.exit, got.Works)
			}
		})
	}
}

// lastOf returns where arguments with a prefix are.
func lastOf(args []string, prefix string) (at []int) {
	for i, arg := range args {
		if strings.HasPrefix(arg, prefix) {
			at = append(at, i)
		}
	}
	return at
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// colons is the beginning of a fingerprint.
func colons(der []byte) string {
	out, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	cmd := exec.Command("openssl", "x509", "-inform", "DER", "-noout", "-fingerprint", "-sha256")
	cmd.Stdin = bytes.NewReader(out.Raw)
	text, err := cmd.Output()
	if err != nil { // without openssl, any will do
		return ""
	}
	_, print, _ := strings.Cut(strings.TrimSpace(string(text)), "=")
	return print
}

// answering listens on a port and sends a text to whoever has sent something; nothing, if
// it is empty.
func answering(t *testing.T, text string) (port string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			if text != "" {
				conn.Read(make([]byte, 1))
				conn.Write([]byte(text))
			}
		}
	}()
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	return port
}

// expect looks for a result.
func (r *checkRun) expect(t *testing.T, what, level, result, remedy string) {
	t.Helper()
	for _, got := range r.Results {
		if regexp.MustCompile("^"+what+"$").MatchString(got.What) && got.Level == level &&
			regexp.MustCompile(result).MatchString(got.Result) && regexp.MustCompile(remedy).MatchString(got.Remedy) {
			t.Logf("%s  %s: %s\n→ %s", got.Level, got.What, got.Result, got.Remedy)
			return
		}
	}
	t.Errorf("%s has no result %q, %s, %q, %q:\n%s", level, what, level, result, remedy, r.text)
}

func TestCheckWarnsOfLinesOfTheHostsFileThatAreNeverUsed(t *testing.T) {
	r := newRealm(t)
	r.write("hosts", "127.0.0.1 *.orders.test\n127.0.0.2 b*.audit.test\n")
	got := runCheck(t, r.dir, upstream(r.brokers(kafkatest.Options{}))...)
	got.expect(t, "hosts file", "warning", `no broker is called b\*\.audit\.test`, "--hosts-file")
	if got.exit != exitOK {
		t.Errorf("exit code %d", got.exit)
	}
}

func TestCheckSaysWhatItCouldNotTry(t *testing.T) {
	r := newRealm(t)
	got := runCheck(t, r.dir, "--sni-suffix=kafka.example", "--bind=127.0.0.1:0", "--upstream=localhost:1", "--hosts-file=nosuch")
	got.expect(t, "--hosts-file", "failed", "nosuch does not exist", "correct the path")
	got.expect(t, "brokers", "note", "not checked: correct its files first", "")
}

func TestCheckSaysWhenThereAreTooFewDescriptors(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no such limit")
	}
	r := newRealm(t)
	args := append([]string{"-c", `ulimit -n 200; exec kafka-sni-proxy check --json "$@"`, "sh"}, upstream(r.brokers(kafkatest.Options{}), "--max-connections=1000")...)
	exit, stdout, stderr := runIn(t, r.dir, append([]string{"sh"}, args...)...)
	got := &checkRun{text: stdout + stderr}
	check(t, json.Unmarshal([]byte(stdout), got))
	got.expect(t, "open files", "failed", `200 allowed: enough for 68 connections`, `--max-connections is 1000: raise the limit of open files`)
	if exit != exitRuntime {
		t.Errorf("exit code %d", exit)
	}
}

// What is said of a file is said in its keys.
func TestCheckOfAFileSpeaksOfItsKeys(t *testing.T) {
	r := newRealm(t)
	c := r.brokers(kafkatest.Options{})
	r.write("proxy.yaml", `
listeners:
  - {name: public, bind: 127.0.0.1:0, certificates: [{cert: server.pem, key: server_key.pem}], clusters: [orders]}
  - {name: plain, bind: "127.0.0.1:`+fmt.Sprint(freePorts(t, 1))+`", plaintext: true, ports: {cluster: orders, brokers: 29193-29194, advertised-host: localhost}}
clusters:
  orders: {sni-suffix: kafka.example, upstream: [`+c.Bootstrap()+`], hosts-file: hosts, upstream-tls: {ca-certs: orders-ca.pem}}
`)
	got := runCheck(t, r.dir, "--config=proxy.yaml")
	got.expect(t, "broker 2 of cluster orders", "failed", `broker 2 has no port: 29193-29194 are for the node ids 0 to 1`, `widen ports\.brokers`)
	got.expect(t, "brokers", "ok", `3, told by broker-0\.orders\.test:\d+, cluster id`, "")
	got.expect(t, "DNS localhost", "ok", `this machine`, "")
	r.write("orders-ca.pem", string(kafkatest.NewAuthority("other").PEM()))
	got = runCheck(t, r.dir, "--config=proxy.yaml")
	got.expect(t, `upstream broker-0\S+`, "failed", `not trusted`, `with upstream-tls\.ca-certs`)
	if strings.Contains(got.text, "--upstream") {
		t.Errorf("flags are named:\n%s", got.text)
	}
}

func TestCheckLogsInWhereBrokersAreToldOnlyThen(t *testing.T) {
	r := newRealm(t)
	c := r.brokers(kafkatest.Options{SASL: []kafkatest.Credential{{Mechanism: "PLAIN", User: "key", Password: "sec:ret"}}})
	got := runCheck(t, r.dir, upstream(c)...)
	got.expect(t, "brokers", "note", "only to clients that have logged in", "--login FILE")
	if got.exit != exitOK {
		t.Errorf("exit code %d", got.exit)
	}
	r.write("login", "key:sec:ret\n")
	got = runCheck(t, r.dir, upstream(c, "--login=login")...)
	got.expect(t, `broker 2 at .*`, "warning", `TLS 1\.3, certificate for`, "expires soon") // it is valid for an hour
	if strings.Contains(got.text, "sec:ret") {
		t.Error("the password is shown")
	}
	r.write("login", "key:guessed\n")
	got = runCheck(t, r.dir, upstream(c, "--login=login")...)
	got.expect(t, `upstream .*`, "failed", `ended the connection, as brokers do for a wrong user or password`, "USER:PASSWORD")
	if strings.Contains(got.text, "guessed") {
		t.Error("the password is shown")
	}
}

func TestCheckGoesTheWayOfAClient(t *testing.T) {
	r := newRealm(t)
	address := launch(t, r.dir, append(upstream(r.brokers(kafkatest.Options{}))[2:], "--sni-suffix", "kafka.example")...).listen
	_, port, _ := net.SplitHostPort(address)
	way := []string{"--as-client=bootstrap.kafka.example:" + port, "--connect-to=" + address}
	got := runCheck(t, r.dir, append(way, "--client-ca-certs=ca.pem")...)
	got.expect(t, "Metadata", "ok", "3 brokers", "")
	got.expect(t, `broker 2 at b2\.kafka\.example:`+port, "ok", `TLS 1\.3, certificate for .*speaks Kafka`, "")
	if got.exit != exitOK || !got.Works {
		t.Errorf("exit code %d:\n%s", got.exit, got.text)
	}

	got = runCheck(t, r.dir, append(way, "--client-ca-certs=orders-ca.pem")...)
	got.expect(t, `bootstrap .*`, "failed", "which was not sent and is not trusted", "--client-ca-certs")
	got = runCheck(t, r.dir, "--as-client=bootstrap.other.example:"+port, "--connect-to="+address, "--client-ca-certs=ca.pem")
	got.expect(t, `bootstrap .*`, "failed", "", "the proxy serves no such name|the certificate|a name that the certificate covers")
	got = runCheck(t, r.dir, append(way, "--client-plaintext")...)
	got.expect(t, `bootstrap .*`, "failed", "", "leave out --client-plaintext")
	got = runCheck(t, r.dir, "--as-client=bootstrap.kafka.example:"+port, "--client-ca-certs=ca.pem")
	got.expect(t, `bootstrap .*`, "failed", "does not resolve", `\*\.kafka\.example`)
	got = runCheck(t, r.dir, "--as-client=localhost:"+fmt.Sprint(freePorts(t, 1)))
	got.expect(t, `bootstrap .*`, "failed", "connection refused", "nobody listens there")
}

func TestHealthcheckAsksTheProxy(t *testing.T) {
	r := newRealm(t)
	c := r.brokers(kafkatest.Options{})
	admin := fmt.Sprint(freePorts(t, 1))
	r.write("proxy.yaml", `
listeners: [{bind: 127.0.0.1:0, certificates: [{cert: server.pem, key: server_key.pem}]}]
clusters: {orders: {sni-suffix: kafka.example, upstream: [`+c.Bootstrap()+`], hosts-file: hosts, upstream-tls: {ca-certs: orders-ca.pem}}}
admin: {bind: "localhost:`+admin+`"}
`)
	ask := func(want int, args ...string) string {
		t.Helper()
		exit, stdout, stderr := runIn(t, r.dir, append([]string{"kafka-sni-proxy", "healthcheck"}, args...)...)
		if exit != want {
			t.Errorf("%q: exit code %d, want %d: %s%s", args, exit, want, stdout, stderr)
		}
		return stdout + stderr
	}
	ask(exitRuntime, "--config=proxy.yaml") // nothing runs
	r.launch()
	ask(exitOK, "--config=proxy.yaml")
	ask(exitOK, "--admin-bind=:"+admin, "--ready")
	for id := range int32(3) {
		c.StopBroker(id)
	}
	ask(exitOK, "--config=proxy.yaml")
	if text := ask(exitUsage); !strings.Contains(text, "--admin-bind") {
		t.Errorf("no word of what is missing: %s", text)
	}
}

// TestAnInterruptedCheckSaysWhatItHasFound has an upstream that never answers, and a Ctrl-C.
func TestAnInterruptedCheckSaysWhatItHasFound(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer silent.Close()
	dir := renewed(t)
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "kafka-sni-proxy", "check", "--sni-suffix="+suffix, "--bind=127.0.0.1:0", "--upstream="+silent.Addr().String(), "--trust-upstream-certs", "--dial-timeout=10m")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	check(t, cmd.Start())
	_, err = silent.Accept() // it is waiting for the handshake now
	check(t, err, cmd.Process.Signal(os.Interrupt))
	cmd.Wait()
	text := out.String()
	if code := cmd.ProcessState.ExitCode(); code != exitRuntime || !strings.Contains(text, "was interrupted: what comes here is not checked") || !strings.Contains(text, "open files") || strings.Contains(text, "canceled") {
		t.Errorf("exit code %d:\n%s", code, text)
	}
}

// TestCheckTriesWhereTheAccessLogAndTracesGo, and makes no file.
func TestCheckTriesWhereTheAccessLogAndTracesGo(t *testing.T) {
	var body []byte
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { body, _ = io.ReadAll(r.Body) }))
	r := newRealm(t)
	c := r.brokers(kafkatest.Options{})
	log := filepath.Join(r.dir, "access.log")
	got := runCheck(t, r.dir, upstream(c, "--access-log="+log, "--trace-endpoint="+collector.URL)...)
	got.expect(t, "access log .*", "ok", "it can be written", "")
	got.expect(t, "collector .*", "ok", "it takes traces", "")
	if _, err := os.Stat(log); err == nil || len(body) > 0 {
		t.Errorf("there is a file (%v), or the collector was sent %q", err, body)
	}
	collector.Close()
	got = runCheck(t, r.dir, upstream(c, "--access-log="+filepath.Join(r.dir, "nowhere", "access.log"), "--trace-endpoint="+collector.URL)...)
	got.expect(t, "access log .*", "failed", "no such file or directory", "see that the folder of --access-log exists")
	got.expect(t, "collector .*", "warning", "connection refused", "see that --trace-endpoint is where a collector takes OTLP")
}
