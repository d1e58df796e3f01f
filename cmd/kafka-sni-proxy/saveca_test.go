//go:build unix

package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"kafka-sni-proxy/internal/kafkatest"
)

// showing listens, and shows certificates to whoever comes. What clients send behind the
// handshake is counted.
func showing(t *testing.T, change func(*tls.Config), chain ...[]byte) (port int, sent chan int64) {
	t.Helper()
	config := &tls.Config{}
	if change != nil {
		change(config)
	}
	config.Certificates[0].Certificate = append(config.Certificates[0].Certificate, chain...)
	ln := must(tls.Listen("tcp", "127.0.0.1:0", config))
	t.Cleanup(func() { ln.Close() })
	sent = make(chan int64, 100)
	go func() {
		for conn, err := ln.Accept(); err == nil; conn, err = ln.Accept() {
			go func() {
				defer conn.Close()
				n, _ := io.Copy(io.Discard, conn)
				sent <- n
			}()
		}
	}()
	return ln.Addr().(*net.TCPAddr).Port, sent
}

// with shows a certificate.
func with(pair tls.Certificate) func(*tls.Config) {
	return func(c *tls.Config) { c.Certificates = []tls.Certificate{pair} }
}

// saveCA runs the program against a port of b1.orders.test.
func (r *realm) saveCA(port int, args ...string) (exit int, stdout, stderr string) {
	r.t.Helper()
	return runIn(r.t, r.dir, append([]string{"kafka-sni-proxy", "--hosts-file=hosts", "--" + saveUpstreamCA, fmt.Sprintf("b1.orders.test:%d", port)}, args...)...)
}

// says looks for each of some regular expressions.
func says(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !regexp.MustCompile("(?m)" + want).MatchString(text) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

// certificateIn is the only certificate in a PEM file.
func certificateIn(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode(must(os.ReadFile(path)))
	if block == nil || len(rest) > 0 {
		t.Fatalf("%s holds not one certificate", path)
	}
	return must(x509.ParseCertificate(block.Bytes))
}

func TestTheAuthorityOfABrokerIsShownAndSaved(t *testing.T) {
	r := newRealm(t)
	root := (*issuer)(nil).authority(t, "Root of the Brokers")
	middle := root.authority(t, "Intermediate of the Brokers")
	stray := (*issuer)(nil).authority(t, "Stray")
	port, sent := showing(t, with(middle.issue(t, "broker", nil)), stray.cert.Raw, root.cert.Raw, middle.cert.Raw)

	exit, stdout, stderr := r.saveCA(port, "ca.new.pem")
	if exit != exitRuntime {
		t.Errorf("exit code %d without a terminal", exit)
	}
	says(t, stderr, `^kafka-sni-proxy: nothing was written: there is no terminal to ask on$`, `→ .*--yes`)
	says(t, stdout,
		`^b1\.orders\.test:\d+ \(127\.0\.0\.1:\d+\) shows, with TLS 1\.3:$`,
		`^  1  the broker's own certificate\n     subject  CN=broker\n     issuer   CN=Intermediate of the Brokers\n     names    \*\.orders\.test\n     valid    \d{4}-\d\d-\d\d \d\d:\d\d UTC to \d{4}-\d\d-\d\d \d\d:\d\d UTC\n     SHA-256  [0-9A-F:]{95}$`,
		`^  2  another certificate, which has signed none of the above$`,
		`^  3  a root authority, which signed number 4\n     subject  CN=Root of the Brokers\n     issuer   CN=Root of the Brokers\n     valid .*\n     SHA-256  `+colons(root.cert.Raw),
		`^  4  an intermediate authority, which signed number 1$`,
		`^Number 3 can be saved\.$`, `^With number 3 the proxy would take this broker: its name and its dates are right\.$`,
		`NOTHING HERE PROVES THAT THIS IS YOUR CLUSTER`, `compare the fingerprint of number 3`)
	if _, err := os.Lstat(filepath.Join(r.dir, "ca.new.pem")); err == nil {
		t.Error("a file was written")
	}
	if n := <-sent; n != 0 {
		t.Errorf("%d bytes were sent behind the handshake", n)
	}

	exit, stdout, stderr = r.saveCA(port, "ca.new.pem", "--yes")
	if exit != exitOK || stderr != "" {
		t.Errorf("exit code %d: %s", exit, stderr)
	}
	says(t, stdout, `^ca\.new\.pem is written\.$`, `^With it the proxy takes b1\.orders\.test:\d+`, `^Next:  kafka-sni-proxy … --upstream-ca-certs ca\.new\.pem$`)
	if saved := certificateIn(t, filepath.Join(r.dir, "ca.new.pem")); !saved.Equal(root.cert) {
		t.Errorf("%q is saved", saved.Subject)
	}

	exit, stdout, _ = r.saveCA(port, "ca.new.pem") // nobody has to be asked
	if says(t, stdout, `^ca\.new\.pem holds number 3 already: nothing was written\.$`, `^With it the proxy takes`); exit != exitOK {
		t.Errorf("exit code %d", exit)
	}
	before := string(must(os.ReadFile(filepath.Join(r.dir, "ca.pem"))))
	exit, _, stderr = r.saveCA(port, "ca.pem", "--yes")
	if says(t, stderr, `nothing was written: file already exists: ca\.pem, and does not hold this certificate`, `→ name another file`); exit != exitRuntime {
		t.Errorf("exit code %d", exit)
	}
	if now := string(must(os.ReadFile(filepath.Join(r.dir, "ca.pem")))); now != before {
		t.Error("a file was replaced")
	}
}

// Each of these has something to say of its own, and saves what can be saved.
func TestAuthoritiesThatAreNotThereOrNotRight(t *testing.T) {
	root := (*issuer)(nil).authority(t, "Root of the Brokers")
	middle := root.authority(t, "Intermediate of the Brokers")
	alone := (*issuer)(nil).issue(t, "alone", nil)
	old := (*issuer)(nil).issue(t, "Old Root", func(c *x509.Certificate) { isAuthority(c); c.NotAfter = time.Now().Add(-time.Minute) })
	byOld := (&issuer{old.Leaf, old.PrivateKey.(*ecdsa.PrivateKey)}).issue(t, "broker", nil)
	forged := root.issue(t, "broker", func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "x\nNumber 1 can be saved.\x1b[2J"}
		c.DNSNames = []string{"other.test"}
	})
	for name, test := range map[string]struct {
		serve          func(*tls.Config)
		chain          [][]byte
		exit           int
		saved          *x509.Certificate // nil: none
		stdout, stderr []string
	}{
		"the root is not sent": {with(middle.issue(t, "broker", nil)), [][]byte{middle.cert.Raw}, exitOK, middle.cert,
			[]string{`^Number 2 can be saved: the root above it was not sent`, `^With it the proxy takes`}, nil},
		"no authority is sent": {with(middle.issue(t, "broker", nil)), nil, exitRuntime, nil, nil,
			[]string{`nothing was written: there is no certificate of an authority to save: the certificate "CN=broker" is signed by "CN=Intermediate of the Brokers", key id [0-9A-F:]+, which was not sent`, `→ if .* is an intermediate authority, the chain is incomplete`}},
		"and it says where it is": {with(middle.issue(t, "broker", func(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://pki.test/middle.crt"} })), nil, exitRuntime, nil, nil,
			[]string{`→ .*; the certificate says that it is at http://pki\.test/middle\.crt$`}},
		"signed by itself": {with(alone), nil, exitOK, alone.Leaf,
			[]string{`^  1  the broker's own certificate, signed by itself$`, `^Number 1 can be saved\. It is the broker's own, and no authority`, `^With it the proxy takes`}, nil},
		"the authority has expired": {with(byOld), [][]byte{old.Leaf.Raw}, exitRuntime, nil, []string{`^     valid .*: EXPIRED$`},
			[]string{`nothing was written: number 2 is not valid now`, `→ have the cluster's owner renew it`}},
		"the broker's certificate has expired": {with(root.issue(t, "broker", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })), [][]byte{root.cert.Raw}, exitRuntime, root.cert,
			[]string{`^Even with number 2 the proxy would refuse this broker: the certificate "CN=broker" expired on .*\n  → have its owner renew it`, `^ca\.new\.pem is written\.`},
			[]string{`^kafka-sni-proxy: with ca\.new\.pem the proxy would refuse this broker: the certificate "CN=broker" expired on`}},
		"another name": {with(forged), [][]byte{root.cert.Raw}, exitRuntime, root.cert,
			[]string{`^Even with number 2 the proxy would refuse this broker: the certificate is for other\.test, and not for b1\.orders\.test$`}, []string{`→ connect by a name that the certificate covers`}},
		"client certificates are wanted": {func(c *tls.Config) {
			with(root.issue(t, "broker", nil))(c)
			c.ClientAuth = tls.RequireAnyClientCert
		}, [][]byte{root.cert.Raw}, exitOK, root.cert, []string{`TLS 1\.3`, `^The broker asks for a client certificate, too: see --upstream-cert and --upstream-key\.$`}, nil},
		"client certificates are wanted, with TLS 1.2": {func(c *tls.Config) {
			with(root.issue(t, "broker", nil))(c)
			c.ClientAuth, c.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12
		}, [][]byte{root.cert.Raw}, exitOK, root.cert, []string{`TLS 1\.2`, `^The broker asks for a client certificate, too`}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRealm(t)
			port, _ := showing(t, test.serve, test.chain...)
			exit, stdout, stderr := r.saveCA(port, "--yes", "ca.new.pem")
			if exit != test.exit {
				t.Errorf("exit code %d", exit)
			}
			says(t, stdout, test.stdout...)
			says(t, stderr, test.stderr...)
			if strings.Contains(stdout+stderr, "\x1b") || test.exit == exitRuntime && regexp.MustCompile(`(?m)^Number 1 can`).MatchString(stdout) {
				t.Errorf("the broker has written lines of its own:\n%q", stdout)
			}
			path := filepath.Join(r.dir, "ca.new.pem")
			switch _, err := os.Lstat(path); {
			case test.saved == nil && err == nil:
				t.Error("a file was written")
			case test.saved != nil && !certificateIn(t, path).Equal(test.saved):
				t.Error("another certificate is saved")
			}
		})
	}
}

func TestPortsThatShowNoCertificate(t *testing.T) {
	// A broker takes the beginning of a handshake for the length of a request, which is too long.
	plaintext := must(net.Listen("tcp", "127.0.0.1:0"))
	t.Cleanup(func() { plaintext.Close() })
	go func() {
		for conn, err := plaintext.Accept(); err == nil; conn, err = plaintext.Accept() {
			io.ReadFull(conn, make([]byte, 4))
			conn.Close()
		}
	}()
	for name, test := range map[string]struct{ address, says, hint string }{
		"plaintext":      {fmt.Sprint("b1.orders.test:", plaintext.Addr().(*net.TCPAddr).Port), `(EOF|reset by peer)$`, `→ this port does not speak TLS: give that of an SSL or SASL_SSL listener`},
		"something else": {"b1.orders.test:" + answering(t, "HTTP/1.1 400 Bad Request\r\n\r\n"), `does not look like a TLS handshake$`, `→ this port does not speak TLS`},
		"silence":        {"b1.orders.test:" + answering(t, ""), `(timeout|deadline exceeded)$`, `→ the broker did not answer the handshake in time: see that its port is a TLS listener`},
		"closed":         {fmt.Sprint("b1.orders.test:", freePorts(t, 1)), `connection refused$`, `→ the broker does not accept connections`},
		"unknown":        {"nosuch.invalid:9093", `nosuch\.invalid`, `→ the host name does not resolve: see DNS, or give it an address in --hosts-file`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRealm(t)
			exit, stdout, stderr := runIn(t, r.dir, "kafka-sni-proxy", "--hosts-file=hosts", "--dial-timeout=1s", "--yes", "--"+saveUpstreamCA, test.address, "ca.new.pem")
			if exit != exitRuntime || stdout != "" {
				t.Errorf("exit code %d, %q", exit, stdout)
			}
			says(t, stderr, `^kafka-sni-proxy: nothing was written: `+regexp.QuoteMeta(test.address)+` shows no certificate: .*`+test.says, test.hint)
		})
	}
}

func TestATerminalIsAskedBeforeAnAuthorityIsSaved(t *testing.T) {
	root := (*issuer)(nil).authority(t, "Root of the Brokers")
	r := newRealm(t)
	port, _ := showing(t, with(root.issue(t, "broker", nil)), root.cert.Raw)
	path := filepath.Join(r.dir, "ca.new.pem")
	for _, answer := range []struct {
		keys string
		want string // "": nothing is written
	}{{"\r", ""}, {"n\r", ""}, {"yo\r", ""}, {"\x04", ""}, {"y\r", "is written"}} {
		x := inTerminal(t, "--hosts-file", filepath.Join(r.dir, "hosts"), "--"+saveUpstreamCA, fmt.Sprint("b1.orders.test:", port), path)
		x.Resize(200, 60)
		x.sees("is number 2 to be written to", "[y/N]")
		if _, err := os.Lstat(path); err == nil {
			t.Fatal("it was written before anybody was asked")
		}
		if answer.want == "" {
			x.press(answer.keys, "nothing was written")
			x.left(exitRuntime)
			continue
		}
		x.press(answer.keys, answer.want, "With it the proxy takes")
		x.left(exitOK)
	}
	if !certificateIn(t, path).Equal(root.cert) {
		t.Error("another certificate is saved")
	}
}

// With a configuration file a broker is reached as the cluster that it belongs to: by its hosts file, and
// its gate.
func TestTheFileSaysHowABrokerIsReached(t *testing.T) {
	r := newRealm(t)
	c := r.brokers(kafkatest.Options{})
	r.write("proxy.yaml", `listeners: [{bind: "127.0.0.1:0", certificates: [{cert: server.pem, key: server_key.pem}]}]
clusters:
  audit: {sni-suffix: audit.example, upstream: ["broker-0.audit.test:9092"]}
  orders:
    sni-suffix: orders.example
    active: new
    targets:
      old: {upstream: ["broker-0.orders.test:1"]}
      new: {upstream: [`+c.Bootstrap()+`], hosts-file: hosts, upstream-tls: {ca-certs: ca.new.pem}}
`)
	run := func(address string, more ...string) (int, string, string) {
		return runIn(t, r.dir, append([]string{"kafka-sni-proxy", "--config=proxy.yaml", "--yes", "--" + saveUpstreamCA, address, "ca.new.pem"}, more...)...)
	}
	exit, _, stderr := run("broker-9.orders.test:9092")
	if says(t, stderr, `no cluster of proxy\.yaml has the bootstrap server broker-9\.orders\.test:9092, so how it is reached is not known: give one of broker-0\.audit\.test:9092, `); exit != exitUsage {
		t.Errorf("exit code %d", exit)
	}
	_, _, stderr = run(c.Bootstrap(), "--hosts-file=hosts")
	says(t, stderr, `--hosts-file: does not go with --config`)
	// Brokers of this cluster send no authority, so that is written here.
	exit, _, stderr = run(c.Bootstrap())
	if says(t, stderr, `which was not sent`, `→ .*upstream-tls\.ca-certs`); exit != exitRuntime {
		t.Errorf("exit code %d", exit)
	}

	gate := must(net.Listen("tcp", "127.0.0.1:0"))
	t.Cleanup(func() { gate.Close() })
	root := (*issuer)(nil).authority(t, "Root of the Brokers")
	port, _ := showing(t, with(root.issue(t, "broker", nil)), root.cert.Raw)
	go connectGate(gate, fmt.Sprint("127.0.0.1:", port))
	r.write("proxy.yaml", `listeners: [{bind: "127.0.0.1:0", certificates: [{cert: server.pem, key: server_key.pem}]}]
clusters: {orders: {sni-suffix: orders.example, upstream: ["b1.orders.test:9092"], via: "http://`+gate.Addr().String()+`"}}
`)
	exit, stdout, stderr := run("b2.orders.test:9092") // no bootstrap server, but there is one cluster alone
	if says(t, stdout, `^Next:  in proxy\.yaml,  clusters\.orders\.upstream-tls\.ca-certs: ca\.new\.pem$`); exit != exitOK {
		t.Errorf("exit code %d: %s", exit, stderr)
	}
}

// connectGate is an HTTP proxy that connects everybody to the same address.
func connectGate(ln net.Listener, to string) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
				return
			}
			broker, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer broker.Close()
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			go io.Copy(broker, conn)
			io.Copy(conn, broker)
		}()
	}
}
