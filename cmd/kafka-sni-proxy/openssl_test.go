package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/kafkatest"
)

// The tests in this file ask another implementation of TLS what the program's is
// like.

// tlsTarget is a program to be examined, with a broker that answers every
// heartbeat.
type tlsTarget struct {
	*program
	answered *atomic.Int64 // how many heartbeats have reached the broker
}

func newTLSTarget(t *testing.T, dirHasOwnCertificate func(dir string), args ...string) *tlsTarget {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	c := newCluster(t)
	if dirHasOwnCertificate != nil {
		dirHasOwnCertificate(c.dir)
	}
	answered := new(atomic.Int64)
	go func() {
		for {
			select {
			case c.answers <- heartbeatResponse:
			case <-c.requests:
				answered.Add(1)
			case <-c.peers:
			case <-t.Context().Done():
				return
			}
		}
	}()
	return &tlsTarget{c.launch(t, append([]string{"--upstream-ca-certs", "upstream_ca.pem"}, args...)...), answered}
}

// sClient connects with "openssl s_client", sends a heartbeat and waits for the
// answer or the end. It returns what s_client has to say about the connection.
func (p *tlsTarget) sClient(args ...string) (said string, answered bool) {
	p.t.Helper()
	return p.sClientSends(heartbeat, args...)
}

func (p *tlsTarget) sClientSends(request []byte, args ...string) (said string, answered bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "openssl", append([]string{"s_client", "-connect", p.listen, "-servername", "bootstrap." + suffix,
		"-CAfile", filepath.Join(p.dir, "ca.pem"), "-verify_return_error", "-verify_hostname", "b7." + suffix}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		p.t.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	stdin.Write(request)
	var out []byte
	for buffer := make([]byte, 4096); ; {
		n, err := stdout.Read(buffer)
		out = append(out, buffer[:n]...)
		if !answered && bytes.Contains(out, heartbeatResponse) {
			answered = true
			stdin.Close() // s_client says goodbye
		}
		if err != nil {
			break
		}
	}
	stdin.Close()
	cmd.Wait() // its exit code differs between versions; what it says does not
	if ctx.Err() != nil {
		p.t.Errorf("openssl s_client %q took too long", args)
	}
	return string(out) + stderr.String(), answered
}

// refuses expects a connection that carries nothing, and an alert.
func (p *tlsTarget) refuses(alert string, args ...string) {
	p.t.Helper()
	before := p.answered.Load()
	said, answered := p.sClient(args...)
	if answered || p.answered.Load() != before || !regexp.MustCompile(alert).MatchString(said) {
		p.t.Errorf("openssl s_client %q: answered: %v, want only an alert like %s; it says:\n%s", args, answered, alert, said)
	}
}

// accepts expects an answer, and that s_client says these things.
func (p *tlsTarget) accepts(wanted []string, args ...string) {
	p.t.Helper()
	said, answered := p.sClient(args...)
	for _, want := range append(wanted, "Verification: OK") {
		if !answered || !strings.Contains(said, want) {
			p.t.Errorf("openssl s_client %q: answered: %v, want %q as well; it says:\n%s", args, answered, want, said)
		}
	}
}

func TestOnlyTLS12And13AreSpoken(t *testing.T) {
	p := newTLSTarget(t, nil)
	p.accepts([]string{"New, TLSv1.3", "Compression: NONE"}, "-tls1_3")
	p.accepts([]string{"New, TLSv1.2", "Compression: NONE", "Secure Renegotiation IS supported"}, "-tls1_2", "-comp")
	for _, old := range []string{"-tls1", "-tls1_1"} {
		p.refuses("alert protocol version|unknown option", old, "-cipher", "ALL:@SECLEVEL=0")
	}
	p.refuses("alert inappropriate fallback", "-no_tls1_3", "-fallback_scsv")
	p.refuses("unrecognized name", "-servername", "broker-0.upstream.test")
}

// With TLS 1.2 the client chooses among many cipher suites. Those that are
// accepted have forward secrecy and authenticated encryption.
func TestTLS12CipherSuitesAreECDHEAndAEADOnly(t *testing.T) {
	for _, kind := range []string{"ECDSA", "RSA"} {
		t.Run(kind, func(t *testing.T) {
			p := newTLSTarget(t, func(dir string) {
				if kind == "RSA" {
					key, err := rsa.GenerateKey(rand.Reader, 2048)
					if err != nil {
						t.Fatal(err)
					}
					sign(t, dir, "server", key, &x509.Certificate{DNSNames: []string{"*." + suffix, suffix}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
				}
			})
			list, err := exec.CommandContext(t.Context(), "openssl", "ciphers", "-s", "-tls1_2", "ALL:COMPLEMENTOFALL:@SECLEVEL=0").Output()
			if err != nil {
				t.Fatal(err)
			}
			good := []string{"ECDHE-" + kind + "-AES128-GCM-SHA256", "ECDHE-" + kind + "-AES256-GCM-SHA384", "ECDHE-" + kind + "-CHACHA20-POLY1305"}
			bad := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(list)), ":"), func(suite string) bool { return slices.Contains(good, suite) })
			if all := strings.Join(bad, " "); !strings.Contains(all, "-CBC-") && !strings.Contains(all, "-SHA ") || !strings.Contains(all, "NULL") {
				t.Fatalf("openssl does not know enough cipher suites to be refused: %s", all)
			}
			for _, suite := range good {
				p.accepts([]string{"Cipher is " + suite}, "-tls1_2", "-cipher", suite)
			}
			p.refuses("alert handshake failure", "-tls1_2", "-cipher", strings.Join(bad, ":")+":@SECLEVEL=0")
		})
	}
}

func TestRenegotiationIsRefused(t *testing.T) {
	p := newTLSTarget(t, nil)
	// "R" at the start of a line asks s_client for it.
	said, answered := p.sClientSends([]byte("R\n"), "-tls1_2")
	if answered || !regexp.MustCompile(`RENEGOTIATING\s+.*alert (unexpected message|no renegotiation)`).MatchString(said) {
		t.Errorf("openssl s_client says:\n%s", said)
	}
}

func TestSessionsAreResumed(t *testing.T) {
	p := newTLSTarget(t, nil, "--mtls-enable", "--ca-certs", "ca.pem")
	for _, version := range []string{"1.2", "1.3"} {
		option := "-tls" + strings.Replace(version, ".", "_", 1)
		session := filepath.Join(t.TempDir(), "session")
		certificate := []string{option, "-cert", filepath.Join(p.dir, "client.pem"), "-key", filepath.Join(p.dir, "client_key.pem")}
		p.accepts([]string{"New, TLSv" + version}, append(certificate, "-sess_out", session)...)
		p.accepts([]string{"Reused, TLSv" + version}, append(certificate, "-sess_in", session)...)
	}
}

func TestClientCertificatesAreVerified(t *testing.T) {
	p := newTLSTarget(t, nil, "--mtls-enable", "--ca-certs", "ca.pem")
	elsewhere := t.TempDir()
	if _, err := certs.Generate(certs.GenerateOptions{Dir: elsewhere, Suffix: suffix}); err != nil {
		t.Fatal(err)
	}
	forClients := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	ecKey := func() crypto.Signer {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	sign(t, p.dir, "expired", ecKey(), &x509.Certificate{ExtKeyUsage: forClients, NotAfter: time.Now().Add(-time.Minute)})
	sign(t, p.dir, "early", ecKey(), &x509.Certificate{ExtKeyUsage: forClients, NotBefore: time.Now().Add(time.Hour)})
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		with := func(dir, name string) []string {
			return []string{version, "-cert", filepath.Join(dir, name+".pem"), "-key", filepath.Join(dir, name+"_key.pem")}
		}
		p.accepts(nil, with(p.dir, "client")...)
		p.refuses("alert (certificate required|bad certificate|handshake failure)", version)
		p.refuses("alert certificate expired", with(p.dir, "expired")...)
		p.refuses("alert certificate expired", with(p.dir, "early")...) // crypto/tls has one alert for both
		p.refuses("alert unknown ca", with(elsewhere, "client")...)
		p.refuses("alert bad certificate", with(p.dir, "server")...) // not meant for clients
	}
}

// A new revocation list counts for new handshakes and for sessions that began
// before it, and the rest of what TLS is like stays as it was.
func TestRevokedClientsAreRefusedWithTheSessionsTheyHave(t *testing.T) {
	var ca authority
	p := newTLSTarget(t, func(dir string) {
		ca = authorityIn(t, dir)
		ca.revoke(t, filepath.Join(dir, "crl.pem"), time.Now().Add(time.Hour), 66)
	}, "--mtls-enable", "--ca-certs", "ca.pem", "--crl", "crl.pem")
	leaf := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	sign(t, p.dir, "leaver", key, leaf)
	sessions := t.TempDir()
	certificate := []string{"-cert", filepath.Join(p.dir, "leaver.pem"), "-key", filepath.Join(p.dir, "leaver_key.pem")}
	versions := []string{"-tls1_2", "-tls1_3"}
	for _, version := range versions {
		p.accepts(nil, append(certificate, version, "-sess_out", sessions+version)...)
	}
	ca.revoke(t, filepath.Join(p.dir, "crl.pem"), time.Now().Add(time.Hour), 66, leaf.SerialNumber.Int64())
	p.signal(syscall.SIGHUP)
	p.await(`msg=reloaded .*revoked=2`)
	for _, version := range versions {
		p.refuses("alert bad certificate", append(certificate, version)...)
		p.refuses("alert bad certificate", append(certificate, version, "-sess_in", sessions+version)...)
		p.accepts(nil, version, "-cert", filepath.Join(p.dir, "client.pem"), "-key", filepath.Join(p.dir, "client_key.pem"))
	}
	p.refuses("alert handshake failure", "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA")
	p.refuses("alert protocol version|unknown option", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
}

// What a client sends by mistake may be a password. Nothing of it goes into the
// log, and nothing of it comes back.
func TestWhatIsNotTLSIsNeitherLoggedNorAnswered(t *testing.T) {
	c := newCluster(t)
	p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem", "--log-level", "debug")
	const secret = "hunter2-correct-horse"
	for _, said := range [][]byte{
		kafkatest.Frame([]byte{0, 36, 0, 0, 0, 0, 0, 7, 0xff, 0xff}, []byte("\x00\x00\x00\x1d\x00alice\x00"+secret)),
		[]byte("GET / HTTP/1.1\r\nAuthorization: Bearer " + secret + "\r\n\r\n"),
		[]byte(secret),
		append([]byte{22, 3, 1, 0, byte(len(secret))}, secret...), // as a handshake message
	} {
		conn, err := net.DialTimeout("tcp", p.listen, 20*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		conn.Write(said)
		got, _ := io.ReadAll(conn) // an alert of TLS, or a reset, at most
		conn.Close()
		if len(got) > 7 || bytes.Contains(got, []byte("hunter2")) {
			t.Errorf("%q is answered with %q", said, got)
		}
		p.await("connection failed")
	}
	p.signal(os.Interrupt)
	p.end(0)
	if strings.Contains(p.log.String(), "hunter2") || strings.Contains(p.log.String(), "alice") {
		t.Errorf("the log has what a client sent:\n%s", p.log.String())
	}
}

// sign has the generated authority in dir sign a certificate for key, and
// writes both there. What the template leaves out is as it should be.
func sign(t *testing.T, dir, name string, key crypto.Signer, template *x509.Certificate) {
	t.Helper()
	ca := authorityIn(t, dir)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: name}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(24 * time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	check(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	for file, block := range map[string]*pem.Block{
		name + ".pem":     {Type: "CERTIFICATE", Bytes: der},
		name + "_key.pem": {Type: "PRIVATE KEY", Bytes: private},
	} {
		check(t, os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600))
	}
}

// TestDistrustOfOpenSSLIsNamed has OpenSSL refuse the proxy's certificate. In TLS 1.3 it
// says so without encryption, which crypto/tls takes for a bad record.
func TestDistrustOfOpenSSLIsNamed(t *testing.T) {
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		p := newTLSTarget(t, nil)
		if said, answered := p.sClient("-CAfile", filepath.Join(p.dir, "upstream_ca.pem"), version); answered { // another authority
			t.Fatalf("%s: it trusts anybody:\n%s", version, said)
		}
		line := p.await("(level=WARN.*)")
		for _, want := range []string{"phase=handshake", "remote error: tls: unknown certificate authority", "does not trust this proxy's certificate"} {
			if !strings.Contains(line, want) {
				t.Errorf("%s: want %q: %s", version, want, line)
			}
		}
	}
}
