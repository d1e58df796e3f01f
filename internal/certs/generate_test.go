package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const suffix = "kafka.example.com"

var names = []string{"ca.pem", "ca_key.pem", "client.pem", "client.properties", "client_key.pem", "server.pem", "server_key.pem"}

// generated writes a fresh set of files and returns their directory.
func generated(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := Generate(GenerateOptions{Dir: dir, Suffix: suffix, Port: 9092}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// contents returns what a directory holds, hidden files included.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		all[e.Name()] = read(t, filepath.Join(dir, e.Name()))
	}
	return all
}

func read(t testing.TB, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t testing.TB, dir, name, content string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func cert(t testing.TB, file string) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode([]byte(read(t, file)))
	if block == nil || len(rest) > 0 {
		t.Fatalf("%s does not hold exactly one PEM block", file)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestGeneratedFilesAreTheDocumentedOnesAndKeysArePrivate(t *testing.T) {
	dir := t.TempDir()
	files, err := Generate(GenerateOptions{Dir: dir, Suffix: suffix, Port: 9092})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for name := range contents(t, dir) {
		got = append(got, name)
	}
	slices.Sort(got)
	if !slices.Equal(got, names) {
		t.Errorf("directory holds %v, want %v", got, names)
	}
	if len(files) != len(names) {
		t.Errorf("%d files returned, want %d", len(files), len(names))
	}
	for _, f := range files {
		info, err := os.Stat(filepath.Join(dir, f.Name))
		if err != nil {
			t.Fatal(err)
		}
		hasKey := strings.Contains(read(t, filepath.Join(dir, f.Name)), "PRIVATE KEY")
		want := fs.FileMode(0o644)
		if hasKey {
			want = 0o600
		}
		if info.Mode() != want || f.Secret != hasKey {
			t.Errorf("%s: mode %v, Secret %v, want %v, %v", f.Name, info.Mode(), f.Secret, want, hasKey)
		}
		if f.Purpose == "" || f.NotAfter.IsZero() != strings.HasSuffix(f.Name, "_key.pem") {
			t.Errorf("%s: purpose %q, ends %v", f.Name, f.Purpose, f.NotAfter)
		}
	}
}

func TestGeneratedCertificatesAreWhatTLSClientsAskFor(t *testing.T) {
	dir := generated(t)
	ca, server, client := cert(t, dir+"/ca.pem"), cert(t, dir+"/server.pem"), cert(t, dir+"/client.pem")

	if !ca.IsCA || !ca.BasicConstraintsValid || ca.MaxPathLen != 0 || !ca.MaxPathLenZero ||
		ca.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || len(ca.ExtKeyUsage) > 0 {
		t.Errorf("authority: CA %v, path length %d, key usage %b, extended %v", ca.IsCA, ca.MaxPathLen, ca.KeyUsage, ca.ExtKeyUsage)
	}
	for _, leaf := range []struct {
		*x509.Certificate
		usage x509.ExtKeyUsage
	}{{server, x509.ExtKeyUsageServerAuth}, {client, x509.ExtKeyUsageClientAuth}} {
		if leaf.IsCA || !leaf.BasicConstraintsValid || leaf.KeyUsage != x509.KeyUsageDigitalSignature ||
			!slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{leaf.usage}) {
			t.Errorf("%s: CA %v, key usage %b, extended %v", leaf.Subject, leaf.IsCA, leaf.KeyUsage, leaf.ExtKeyUsage)
		}
		if len(leaf.AuthorityKeyId) != 20 || string(leaf.AuthorityKeyId) != string(ca.SubjectKeyId) {
			t.Errorf("%s: authority key id %x, that of the CA is %x", leaf.Subject, leaf.AuthorityKeyId, ca.SubjectKeyId)
		}
	}
	if want := []string{suffix, "*." + suffix, "localhost"}; !slices.Equal(server.DNSNames, want) {
		t.Errorf("server names %v, want %v", server.DNSNames, want)
	}
	if len(server.IPAddresses) != 2 || !server.IPAddresses[0].Equal(net.IPv4(127, 0, 0, 1)) || !server.IPAddresses[1].Equal(net.IPv6loopback) {
		t.Errorf("server addresses %v", server.IPAddresses)
	}

	roots := x509.NewCertPool()
	roots.AddCert(ca)
	for _, c := range []*x509.Certificate{ca, server, client} {
		if len(c.SubjectKeyId) != 20 {
			t.Errorf("%s: subject key id %x", c.Subject, c.SubjectKeyId)
		}
		if key, ok := c.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
			t.Errorf("%s: key %T is not ECDSA P-256", c.Subject, c.PublicKey)
		}
		// One day less than 20 years from now, and not a day more than that.
		for years, want := range map[time.Duration]bool{0: true, 20*365*24*time.Hour + 4*24*time.Hour: true, 20*365*24*time.Hour + 6*24*time.Hour: false} {
			_, err := c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: time.Now().Add(years), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			if (err == nil) != want {
				t.Errorf("%s: valid %v from now: %v, want %v (%v)", c.Subject, years, err == nil, want, err)
			}
		}
	}
	if got := Uncovered(server, suffix, "bootstrap."+suffix, "b0."+suffix, "localhost", "127.0.0.1", "::1"); len(got) > 0 {
		t.Errorf("server certificate does not cover %v", got)
	}
	if got := Uncovered(server, "a.b."+suffix, "b0.kafka.example", "b1."+suffix); !slices.Equal(got, []string{"a.b." + suffix, "b0.kafka.example"}) {
		t.Errorf("Uncovered = %v", got)
	}
	if CheckUsage(server, x509.ExtKeyUsageServerAuth) != nil || CheckUsage(client, x509.ExtKeyUsageClientAuth) != nil || CheckUsage(ca, x509.ExtKeyUsageServerAuth) != nil {
		t.Error("CheckUsage forbids the intended use")
	}
	if CheckUsage(server, x509.ExtKeyUsageClientAuth) == nil || CheckUsage(client, x509.ExtKeyUsageServerAuth) == nil {
		t.Error("CheckUsage allows the other's use")
	}
}

func TestGeneratedCertificatesPassOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	dir := generated(t)
	for _, args := range []string{
		"verify -x509_strict -CAfile ca.pem ca.pem",
		"verify -x509_strict -CAfile ca.pem -purpose sslserver -verify_hostname bootstrap." + suffix + " server.pem",
		"verify -x509_strict -CAfile ca.pem -purpose sslserver -verify_hostname b12." + suffix + " server.pem",
		"verify -x509_strict -CAfile ca.pem -purpose sslserver -verify_ip 127.0.0.1 server.pem",
		"verify -x509_strict -CAfile ca.pem -purpose sslclient client.pem",
		"pkey -in server_key.pem -noout -check",
		"! verify -x509_strict -CAfile ca.pem -purpose sslserver client.pem",
		"! verify -x509_strict -CAfile ca.pem -purpose sslserver -verify_hostname a.b." + suffix + " server.pem",
	} {
		args, wantFailure := strings.CutPrefix(args, "! ")
		cmd := exec.CommandContext(t.Context(), openssl, strings.Fields(args)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if (err != nil) != wantFailure {
			t.Errorf("openssl %s: %v\n%s", args, err, out)
		}
	}
}

func TestGeneratedPairsMakeAMutualTLSConnection(t *testing.T) {
	dir := generated(t)
	server, err := LoadKeyPair(dir+"/server.pem", dir+"/server_key.pem")
	if err != nil {
		t.Fatal(err)
	}
	client, err := LoadKeyPair(dir+"/client.pem", dir+"/client_key.pem")
	if err != nil {
		t.Fatal(err)
	}
	pool, err := LoadPool(dir + "/ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	served := make(chan error, 1)
	go func() {
		served <- tls.Server(a, &tls.Config{
			Certificates: []tls.Certificate{server}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
			SessionTicketsDisabled: true, // nobody reads the ticket off the pipe
		}).HandshakeContext(t.Context())
	}()
	conn := tls.Client(b, &tls.Config{Certificates: []tls.Certificate{client}, RootCAs: pool, ServerName: "b7." + suffix})
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Error("client:", err)
	}
	if err := <-served; err != nil {
		t.Error("server:", err)
	}
}

// properties reads what clientProperties uses of the format of
// java.util.Properties.
func properties(text string) map[string]string {
	all := map[string]string{}
	text = strings.ReplaceAll(text, "\\\n", "")
	for line := range strings.Lines(text) {
		key, value, found := strings.Cut(strings.TrimSpace(line), "=")
		if found && !strings.HasPrefix(key, "#") {
			all[key] = strings.ReplaceAll(value, `\n`, "\n")
		}
	}
	return all
}

func TestClientPropertiesHoldAllAClientNeeds(t *testing.T) {
	dir := generated(t)
	want := map[string]string{
		"bootstrap.servers":              "bootstrap." + suffix + ":9092",
		"security.protocol":              "SSL",
		"ssl.truststore.type":            "PEM",
		"ssl.truststore.certificates":    strings.TrimSpace(read(t, dir+"/ca.pem")),
		"ssl.keystore.type":              "PEM",
		"ssl.keystore.certificate.chain": strings.TrimSpace(read(t, dir+"/client.pem")),
		"ssl.keystore.key":               strings.TrimSpace(read(t, dir+"/client_key.pem")),
	}
	got := properties(read(t, dir+"/client.properties"))
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s = %q, want %q", key, got[key], value)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d settings, want %d: %v", len(got), len(want), got)
	}
}

func TestEachGenerationHasAnAuthorityOfItsOwnName(t *testing.T) {
	a, b := cert(t, generated(t)+"/ca.pem"), cert(t, generated(t)+"/ca.pem")
	if a.Subject.String() == b.Subject.String() {
		t.Errorf("two authorities are both called %s", a.Subject)
	}
}

func TestExistingFilesAreNamedAndKept(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "ca.pem", "precious")
	write(t, dir, "client.properties", "precious, too")
	_, err := Generate(GenerateOptions{Dir: dir, Suffix: suffix, Port: 9092})
	if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "ca.pem, client.properties") {
		t.Errorf("error %v, want one that names both files", err)
	}
	if got := contents(t, dir); len(got) != 2 || got["ca.pem"] != "precious" || got["client.properties"] != "precious, too" {
		t.Errorf("directory holds %q", got)
	}
}

func TestForceReplacesAllFiles(t *testing.T) {
	dir := generated(t)
	before := contents(t, dir)
	if _, err := Generate(GenerateOptions{Dir: dir, Suffix: suffix, Port: 9092, Force: true}); err != nil {
		t.Fatal(err)
	}
	after := contents(t, dir)
	if len(after) != len(names) {
		t.Errorf("directory holds %d files, want %d", len(after), len(names))
	}
	for name, content := range before {
		if after[name] == content {
			t.Errorf("%s is the old one", name)
		}
	}
}

func TestADirectoryInTheWayIsNeverReplaced(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/server.pem", 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := Generate(GenerateOptions{Dir: dir, Suffix: suffix, Port: 9092, Force: true})
	if err == nil || !strings.Contains(err.Error(), "server.pem is a directory") {
		t.Errorf("error %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("directory holds %v", entries)
	}
}

// Each file in turn is the one that cannot be put in its place.
func TestAFailureHalfWayLeavesEverythingAsItWas(t *testing.T) {
	for _, force := range []bool{false, true} {
		for i := range names {
			dir := t.TempDir()
			if force {
				if _, err := Generate(GenerateOptions{Dir: dir, Suffix: suffix, Port: 9092}); err != nil {
					t.Fatal(err)
				}
				if err := os.Remove(filepath.Join(dir, names[0])); err != nil { // some exist, some do not
					t.Fatal(err)
				}
			}
			before := contents(t, dir)
			files, err := generate(GenerateOptions{Suffix: suffix, Port: 9092})
			if err != nil {
				t.Fatal(err)
			}
			staged, err := stage(dir, files)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(staged[i]); err != nil {
				t.Fatal(err)
			}
			if err := commit(dir, files, staged, force); err == nil || !strings.Contains(err.Error(), "writing "+files[i].Name) {
				t.Errorf("force %v: error %v, want one for %s", force, err, files[i].Name)
			}
			for _, name := range staged {
				os.Remove(name)
			}
			after := contents(t, dir)
			if len(after) != len(before) {
				t.Errorf("force %v, %s fails: %d files before, %d after", force, files[i].Name, len(before), len(after))
			}
			for name := range before {
				if before[name] != after[name] {
					t.Errorf("force %v, %s fails: %s has changed", force, files[i].Name, name)
				}
			}
		}
	}
}

func TestAFileThatCannotBeWrittenLeavesNoTemporaryFiles(t *testing.T) {
	dir := t.TempDir()
	files, err := generate(GenerateOptions{Suffix: suffix, Port: 9092})
	if err != nil {
		t.Fatal(err)
	}
	files[3].Name = strings.Repeat("n", 250) // the temporary name is too long for any file system
	if err := install(dir, files, false); err == nil {
		t.Error("no error")
	}
	if got := contents(t, dir); len(got) > 0 {
		t.Errorf("left behind: %v", got)
	}
}
