package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"
)

// TestEditorsMayHaveBeenThere: a byte order mark, other line ends, and text around.
func TestEditorsMayHaveBeenThere(t *testing.T) {
	good := generated(t)
	dir := t.TempDir()
	cert, key := read(t, good+"/server.pem"), read(t, good+"/server_key.pem")
	for name, edit := range map[string]func(string) string{
		"byte order mark": func(s string) string { return "\xef\xbb\xbf" + s },
		"CRLF":            func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
		"both":            func(s string) string { return "\xef\xbb\xbf" + strings.ReplaceAll(s, "\n", "\r\n") },
		"text around":     func(s string) string { return "subject=CN = server\n\n" + s + "\nand so on\n" },
	} {
		pair, err := LoadKeyPair(write(t, dir, "cert.pem", edit(cert)), write(t, dir, "key.pem", edit(key)))
		if err != nil || len(pair.Certificate) != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// signer signs certificates; parent nil makes a root.
type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func sign(t *testing.T, name string, isCA bool, parent *signer) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: isCA, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name + ".example"}}
	if isCA {
		template.KeyUsage = x509.KeyUsageCertSign
	}
	a := &signer{key: key}
	by := a
	issuer := template
	if parent != nil {
		by, issuer = parent, parent.cert
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestIncompleteChainsAreWarnedAbout(t *testing.T) {
	root := sign(t, "root", true, nil)
	intermediate := sign(t, "intermediate", true, root)
	leaf := sign(t, "leaf", false, intermediate)
	direct := sign(t, "direct", false, root)
	dir := t.TempDir()
	rootFile := write(t, dir, "ca.pem", encode("CERTIFICATE", root.cert.Raw))
	both := write(t, dir, "both.pem", encode("CERTIFICATE", intermediate.cert.Raw)+encode("CERTIFICATE", root.cert.Raw))
	for name, tc := range map[string]struct {
		chain  []*signer
		beside []string
		want   string
	}{
		"leaf alone":                         {[]*signer{leaf}, []string{rootFile}, `holds no certificate of "CN=intermediate"`},
		"its issuer is beside, and no root":  {[]*signer{leaf}, []string{both}, `holds no certificate of "CN=intermediate"`},
		"leaf and intermediate":              {[]*signer{leaf, intermediate}, nil, ""},
		"all of it":                          {[]*signer{leaf, intermediate, root}, nil, ""},
		"leaf and another's":                 {[]*signer{leaf, root}, nil, "CN=intermediate"},
		"signed by a root beside":            {[]*signer{direct}, []string{rootFile}, ""},
		"signed by a root that is not known": {[]*signer{direct}, []string{dir + "/nothing.pem"}, `"CN=root"`},
		"self-signed":                        {[]*signer{root}, nil, ""},
	} {
		pair := tls.Certificate{Leaf: tc.chain[0].cert}
		for _, a := range tc.chain {
			pair.Certificate = append(pair.Certificate, a.cert.Raw)
		}
		got := ChainWarning("server.pem", pair, tc.beside...)
		if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestKeysThatEverybodyMayReadAreWarnedAbout(t *testing.T) {
	file := write(t, t.TempDir(), "key.pem", "key")
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true, 0o604: true} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		if got := KeyWarning(file); (got != "") != want || want && !strings.Contains(got, "chmod 600 "+file) {
			t.Errorf("mode %o: %q", mode, got)
		}
	}
	if got := KeyWarning(file + ".gone"); got != "" {
		t.Errorf("no file: %q", got)
	}
}
