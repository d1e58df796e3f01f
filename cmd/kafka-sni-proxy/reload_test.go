package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
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

// renewed returns the directory of another set of certificates.
func renewed(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := certs.Generate(certs.GenerateOptions{Dir: dir, Suffix: suffix, Port: 9092}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// serial is the serial number of the certificate in a file, as it is logged.
func serial(t *testing.T, file string) string {
	t.Helper()
	authorities, err := certs.LoadAuthorities(file)
	if err != nil {
		t.Fatal(err)
	}
	return authorities[0].SerialNumber.Text(16)
}

// shown returns the serial number of the certificate that new clients get.
func (p *program) shown() string {
	p.t.Helper()
	conn, err := tls.Dial("tcp", p.listen, &tls.Config{InsecureSkipVerify: true, ServerName: "bootstrap." + suffix})
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Text(16)
}

// roundTrip sends a heartbeat and has the broker answer it.
func (c *testCluster) roundTrip(t *testing.T, conn net.Conn) error {
	t.Helper()
	if _, err := conn.Write(heartbeat); err != nil {
		return err
	}
	c.answers <- heartbeatResponse
	_, err := kafkatest.ReadFrame(conn)
	if err != nil {
		<-c.answers // it has not come that far
		return err
	}
	<-c.requests
	<-c.peers
	return nil
}

// However files are replaced, it is noticed, and the sessions there are go on.
func TestAChangedCertificateIsShownToNewClients(t *testing.T) {
	// The program reads certs/server.pem and certs/server_key.pem in a directory.
	install := func(t *testing.T, from, to string) {
		check(t, os.MkdirAll(to, 0o755))
		for _, name := range []string{"server.pem", "server_key.pem"} {
			copyFile(t, filepath.Join(from, name), filepath.Join(to, name))
		}
	}
	inPlace := func(t *testing.T, dir, from string) { install(t, from, filepath.Join(dir, "certs")) }
	// link makes a link, or has it lead elsewhere, in one step.
	link := func(t *testing.T, target, place string) {
		check(t, os.Symlink(target, place+".new"), os.Rename(place+".new", place))
	}
	kubernetes := func(t *testing.T, dir, from string) {
		version := ".." + filepath.Base(from)
		old, _ := os.Readlink(filepath.Join(dir, "certs", "..data"))
		install(t, from, filepath.Join(dir, "certs", version))
		link(t, version, filepath.Join(dir, "certs", "..data"))
		if old != "" {
			check(t, os.RemoveAll(filepath.Join(dir, "certs", old)))
		}
	}
	certbot := func(t *testing.T, dir, from string) {
		version := filepath.Base(from)
		install(t, from, filepath.Join(dir, "archive", version))
		check(t, os.MkdirAll(filepath.Join(dir, "live"), 0o755))
		for _, name := range []string{"server.pem", "server_key.pem"} {
			link(t, "../archive/"+version+"/"+name, filepath.Join(dir, "live", name))
		}
	}
	tests := []struct {
		name            string
		prepare, change func(t *testing.T, dir, from string)
		signal          bool
	}{
		{"written in place", inPlace, inPlace, false},
		{"written in place, and a signal", inPlace, inPlace, true},
		{"renamed over", inPlace, func(t *testing.T, dir, from string) {
			install(t, from, filepath.Join(dir, "new"))
			for _, name := range []string{"server.pem", "server_key.pem"} {
				check(t, os.Rename(filepath.Join(dir, "new", name), filepath.Join(dir, "certs", name)))
			}
		}, false},
		{"as Kubernetes does", func(t *testing.T, dir, from string) {
			kubernetes(t, dir, from)
			for _, name := range []string{"server.pem", "server_key.pem"} {
				link(t, "..data/"+name, filepath.Join(dir, "certs", name))
			}
		}, kubernetes, false},
		{"as certbot does", func(t *testing.T, dir, from string) {
			certbot(t, dir, from)
			check(t, os.MkdirAll(filepath.Join(dir, "certs"), 0o755))
			for _, name := range []string{"server.pem", "server_key.pem"} {
				link(t, filepath.Join(dir, "live", name), filepath.Join(dir, "certs", name))
			}
		}, certbot, false},
		{"the directory replaced", inPlace, func(t *testing.T, dir, from string) {
			install(t, from, filepath.Join(dir, "new"))
			check(t, os.RemoveAll(filepath.Join(dir, "old")), os.Rename(filepath.Join(dir, "certs"), filepath.Join(dir, "old")),
				os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "certs")))
		}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t)
			dir := t.TempDir()
			test.prepare(t, dir, c.dir)
			p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem", "--cert", dir+"/certs/server.pem", "--key", dir+"/certs/server_key.pem")
			conn := p.connect(false)
			check(t, c.roundTrip(t, conn))

			for range 2 { // the second time everything there was is new
				next := renewed(t)
				want := serial(t, next+"/server.pem")
				test.change(t, dir, next)
				if test.signal {
					p.signal(syscall.SIGHUP)
				}
				if got := p.await(`level=INFO msg=reloaded setting="--cert, --key" names="` + suffix + `, .*serial=([0-9a-f]+)`); got != want {
					t.Fatalf("the log tells of %s, want %s", got, want)
				}
				if got := p.shown(); got != want {
					t.Fatalf("new clients are shown %s, want %s", got, want)
				}
			}
			check(t, c.roundTrip(t, conn))
			if log := p.log.String(); strings.Contains(log, "level=ERROR") && test.name == "as Kubernetes does" { // in one step
				t.Errorf("errors in the log:\n%s", log)
			}
		})
	}
}

// What cannot be used is told once, and what was loaded before stays.
func TestABadFileLeavesWhatWasLoaded(t *testing.T) {
	c := newCluster(t)
	other := renewed(t)
	before := serial(t, c.dir+"/server.pem")
	p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem")
	good := map[string][]byte{}
	for _, name := range []string{"server.pem", "server_key.pem", "hosts"} {
		content, err := os.ReadFile(filepath.Join(c.dir, name))
		check(t, err)
		good[name] = content
	}
	put := func(name string, content []byte) {
		t.Helper()
		file := filepath.Join(c.dir, name)
		check(t, os.WriteFile(file+".new", content, 0o600), os.Rename(file+".new", file))
	}
	otherKey, err := os.ReadFile(other + "/server_key.pem")
	check(t, err)
	past := t.TempDir()
	_, err = certs.Generate(certs.GenerateOptions{Dir: past, Suffix: suffix, Port: 9092, Now: time.Now().AddDate(-21, 0, 0)})
	check(t, err)
	ended, err := os.ReadFile(past + "/server.pem")
	check(t, err)

	steps := []struct {
		file    string
		content []byte
		want    string
	}{
		{"server_key.pem", otherKey, `setting="--cert, --key" error=".*server_key.pem is not the private key of the certificate`},
		{"server.pem", []byte("no certificate"), `setting="--cert, --key" error=".*server.pem is not PEM`},
		{"server.pem", ended, `setting="--cert, --key" error=".*expired on .*: renew it; server_key.pem is not`},
		{"hosts", []byte("# fine\nnowhere"), `setting=--hosts-file error="hosts: line 2: .*is not an address: put one before it`},
	}
	for _, step := range steps {
		put(step.file, step.content)
		p.await("level=ERROR .*stays in use until it is put right.* " + step.want)
	}
	check(t, os.Remove(filepath.Join(c.dir, "hosts")))
	p.await("level=ERROR .*hosts does not exist")
	if got := p.shown(); got != before {
		t.Errorf("clients are shown %s, want %s as before", got, before)
	}
	check(t, c.roundTrip(t, p.connect(false))) // which needs the hosts file
	p.wantMetrics("kafka_sni_proxy_reload_problems 2", `kafka_sni_proxy_reloads_total{result="failed"} [1-9]`, `kafka_sni_proxy_reloads_total{result="changed"} 0`)

	// What has been told is not told again, unless somebody asks.
	put("hosts", good["hosts"])
	p.await("is again as it was loaded.* setting=--hosts-file")
	errors := strings.Count(p.log.String(), "level=ERROR")
	if errors != len(steps)+1 {
		t.Errorf("%d errors, want %d:\n%s", errors, len(steps)+1, p.log.String())
	}
	p.signal(syscall.SIGHUP)
	p.await("level=ERROR .*--cert, --key")
	for name, content := range good {
		put(name, content)
	}
	p.await("is again as it was loaded.*--cert, --key")
	p.signal(syscall.SIGHUP)
	p.await("nothing to reload")
	p.wantMetrics("kafka_sni_proxy_reload_problems 0", `kafka_sni_proxy_certificate_not_after_timestamp_seconds{certificate="server",file="server.pem"} `, "kafka_sni_proxy_reload_last_good_timestamp_seconds 1")
}

// wantMetrics waits until /metrics has lines that begin with what these
// expressions match.
func (p *program) wantMetrics(lines ...string) {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		_, body := p.get("/metrics")
		missing := slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return regexp.MustCompile("(?m)^" + line).MatchString(body) })
		if len(missing) == 0 {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("/metrics lacks %q:\n%s", missing, body)
		}
	}
}

// authority is the one whose files are in a directory.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func authorityIn(t *testing.T, dir string) authority {
	t.Helper()
	pair, err := certs.LoadKeyPair(dir+"/ca.pem", dir+"/ca_key.pem")
	check(t, err)
	return authority{pair.Leaf, pair.PrivateKey.(crypto.Signer)}
}

// client issues a certificate.
func (a authority) client(t *testing.T, serial int64) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, a.key.Public(), a.key)
	check(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
}

// revoke puts a list into a file, by a rename.
func (a authority) revoke(t *testing.T, file string, nextUpdate time.Time, serials ...int64) {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-2 * time.Hour), NextUpdate: nextUpdate}
	for _, serial := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(serial), RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	check(t, err)
	check(t, os.WriteFile(file+".new", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), 0o600), os.Rename(file+".new", file))
}

// A client remembers its TLS session, to resume it.
type resumer struct {
	p      *program
	config *tls.Config
}

func newResumer(p *program, root *x509.CertPool, cert tls.Certificate, version uint16) resumer {
	return resumer{p, &tls.Config{
		RootCAs: root, ServerName: "bootstrap." + suffix, MaxVersion: version,
		ClientSessionCache:   tls.NewLRUClientSessionCache(1),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
	}}
}

// use has a round trip on a new connection, which stays open.
func (r resumer) use(t *testing.T, c *testCluster) (conn *tls.Conn, resumed bool, err error) {
	t.Helper()
	conn, err = tls.Dial("tcp", r.p.listen, r.config)
	if err != nil {
		return nil, false, err
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn, conn.ConnectionState().DidResume, c.roundTrip(t, conn)
}

// Neither a new handshake nor one that resumes a TLS session lets a client in
// whose certificate has been revoked, or whose authority has gone.
func TestClientsThatAreNoLongerTrustedAreNotLetIn(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, test := range []string{"revoked", "authority gone"} {
			t.Run(test+", "+tls.VersionName(version), func(t *testing.T) {
				c := newCluster(t)
				ours, theirs := authorityIn(t, c.dir), authorityIn(t, renewed(t))
				file := func(name string) string { return filepath.Join(c.dir, name) }
				trust := func(authorities ...authority) {
					var bundle bytes.Buffer
					for _, a := range authorities {
						pem.Encode(&bundle, &pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
					}
					check(t, os.WriteFile(file("clients.pem.new"), bundle.Bytes(), 0o600), os.Rename(file("clients.pem.new"), file("clients.pem")))
				}
				trust(ours, theirs)
				ours.revoke(t, file("crl.pem"), time.Now().Add(time.Hour), 66)
				p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem", "--mtls-enable", "--ca-certs", "clients.pem", "--crl", "crl.pem")
				root := certs.Pool([]*x509.Certificate{ours.cert})
				bad := newResumer(p, root, theirs.client(t, 1), version)
				if test == "revoked" {
					bad = newResumer(p, root, ours.client(t, 2), version)
				}
				good := newResumer(p, root, ours.client(t, 3), version)

				if _, _, err := newResumer(p, root, ours.client(t, 66), version).use(t, c); err == nil {
					t.Fatal("a certificate revoked from the start is let in")
				}
				p.await("phase=handshake .*the certificate .*, serial number 42, was revoked on 20")
				var open *tls.Conn
				for _, client := range []resumer{bad, good} {
					for again := range 2 {
						conn, resumed, err := client.use(t, c)
						if err != nil || resumed != (again == 1) {
							t.Fatalf("before, resumed: %v, error: %v", resumed, err)
						}
						if client == bad {
							open = conn
						}
					}
				}

				if test == "revoked" {
					ours.revoke(t, file("crl.pem"), time.Now().Add(time.Hour), 66, 2)
					p.await(`msg=reloaded setting="--ca-certs, --crl" .*revoked=2`)
				} else {
					trust(ours)
					p.await(`msg=reloaded setting="--ca-certs, --crl" authorities="CN=[^;]*" `)
				}
				check(t, c.roundTrip(t, open)) // what is there goes on
				if _, resumed, err := bad.use(t, c); err == nil {
					t.Errorf("it is let in, resumed: %v", resumed)
				}
				bad.config.ClientSessionCache = nil
				if _, _, err := bad.use(t, c); err == nil {
					t.Error("it is let in with a new handshake")
				}
				if _, resumed, err := good.use(t, c); err != nil || !resumed {
					t.Errorf("the other one: resumed: %v, error: %v", resumed, err)
				}
			})
		}
	}
}

// An old list is better than none, and than to let nobody in.
func TestARevocationListThatIsTooOldIsUsedWithAWarning(t *testing.T) {
	c := newCluster(t)
	ours := authorityIn(t, c.dir)
	ours.revoke(t, c.dir+"/crl.pem", time.Now().Add(-time.Hour), 66)
	p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem", "--mtls-enable", "--ca-certs", "ca.pem", "--crl", "crl.pem")
	if !strings.Contains(p.log.String(), "crl.pem should have been replaced by 20") {
		t.Errorf("no warning:\n%s", p.log.String())
	}
	root := certs.Pool([]*x509.Certificate{ours.cert})
	for serial, want := range map[int64]bool{66: false, 1: true} {
		if _, _, err := newResumer(p, root, ours.client(t, serial), tls.VersionTLS13).use(t, c); (err == nil) != want {
			t.Errorf("serial number %d: %v", serial, err)
		}
	}
	p.wantMetrics("kafka_sni_proxy_crl_next_update_timestamp_seconds 1")

	// One that cannot be used leaves the old one, and so does none.
	check(t, os.WriteFile(c.dir+"/crl.pem", []byte("-----BEGIN X509 CRL-----\n"), 0o600))
	p.await("level=ERROR .*crl.pem holds no revocation list")
	if _, _, err := newResumer(p, root, ours.client(t, 66), tls.VersionTLS13).use(t, c); err == nil {
		t.Error("without a good list a revoked certificate is let in")
	}
}

// Brokers see the new client certificate at once: TLS sessions that began with
// the old one are not resumed.
func TestBrokersSeeAChangedUpstreamCertificate(t *testing.T) {
	c := newCluster(t)
	next := renewed(t)
	p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem", "--upstream-cert", "client.pem", "--upstream-key", "client_key.pem")
	shown := func(conn net.Conn) string {
		t.Helper()
		c.answers <- heartbeatResponse
		_, err := conn.Write(heartbeat)
		check(t, err)
		_, err = kafkatest.ReadFrame(conn)
		check(t, err)
		<-c.requests
		return (<-c.peers)[0].SerialNumber.Text(16)
	}
	old, want := serial(t, c.dir+"/client.pem"), serial(t, next+"/client.pem")
	open := p.connect(false)
	if got := shown(open); got != old {
		t.Fatalf("brokers see %s, want %s", got, old)
	}
	shown(p.connect(false)) // resumes
	for _, name := range []string{"client.pem", "client_key.pem"} {
		copyFile(t, filepath.Join(next, name), filepath.Join(c.dir, name))
	}
	p.await(`reloaded setting="--upstream-cert, --upstream-key".* serial=` + want)
	if got := shown(p.connect(false)); got != want {
		t.Errorf("brokers see %s, want %s", got, want)
	}
	if got := shown(open); got != old {
		t.Errorf("on the session that was open: %s, want %s", got, old)
	}
}

func TestChangedAuthoritiesOfBrokersCount(t *testing.T) {
	c := newCluster(t)
	p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem")
	check(t, c.roundTrip(t, p.connect(false)))
	copyFile(t, c.dir+"/ca.pem", c.dir+"/upstream_ca.pem")
	p.await("reloaded setting=--upstream-ca-certs")
	conn := p.connect(false)
	conn.Write(heartbeat)
	if _, err := kafkatest.ReadFrame(conn); err == nil {
		t.Error("a broker is believed whose authority has gone")
	}
	p.await("phase=upstream-tls")
}

func TestAChangedHostsFileCounts(t *testing.T) {
	c := newCluster(t)
	p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem")
	check(t, c.roundTrip(t, p.connect(false)))
	check(t, os.WriteFile(c.dir+"/hosts", []byte("127.0.0.2 *.upstream.test\n"), 0o600))
	p.await("reloaded setting=--hosts-file hosts=1")
	conn := p.connect(false)
	if _, err := kafkatest.ReadFrame(conn); err == nil {
		t.Error("an answer from nowhere")
	}
	p.await("phase=dial .*127.0.0.2")
}

// A change of which nobody tells is found by what the file system says.
