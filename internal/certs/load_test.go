package certs

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"
)

// block returns the bytes in a file's only PEM block.
func block(t testing.TB, file string) []byte {
	t.Helper()
	b, _ := pem.Decode([]byte(read(t, file)))
	return b.Bytes
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestLoadKeyPairExplainsWhatIsWrong(t *testing.T) {
	good := generated(t)
	other := generated(t)
	dir := t.TempDir()
	past, future := t.TempDir(), t.TempDir()
	for d, now := range map[string]time.Time{past: time.Now().AddDate(-21, 0, 0), future: time.Now().AddDate(1, 0, 0)} {
		if _, err := Generate(GenerateOptions{Dir: d, Suffix: suffix, Port: 9092, Now: now}); err != nil {
			t.Fatal(err)
		}
	}
	cert, key := good+"/server.pem", good+"/server_key.pem"

	tests := []struct {
		name, cert, key string
		want            []string // one for each line of the error
	}{
		{"both missing", dir + "/no.pem", dir + "/no_key.pem", []string{"/no.pem does not exist", "/no_key.pem does not exist"}},
		{"swapped", key, cert, []string{"holds a private key and no certificate: are the two files swapped?", "holds a certificate and no private key: are the two files swapped?"}},
		{"of another pair", cert, other + "/server_key.pem", []string{other + "/server_key.pem is not the private key of the certificate in " + cert}},
		{"expired", past + "/server.pem", past + "/server_key.pem", []string{"expired on "}},
		{"expired and of another pair", past + "/server.pem", key, []string{"expired on ", "is not the private key"}},
		{"not valid yet", future + "/server.pem", future + "/server_key.pem", []string{"is not valid before "}},
		{"leaf behind its authority", write(t, dir, "order.pem", read(t, good+"/ca.pem")+read(t, cert)), key, []string{"is number 2 there: put it first"}},
		{"empty", write(t, dir, "empty.pem", ""), key, []string{"empty.pem is empty"}},
		{"text", write(t, dir, "text.pem", "hello"), key, []string{"text.pem is not PEM"}},
		{"cut off", write(t, dir, "cut.pem", read(t, cert)[:200]), key, []string{"holds damaged PEM"}},
		{"UTF-16", write(t, dir, "utf16.pem", "\xff\xfe-\x00-\x00"), key, []string{"is text in UTF-16: save it as plain text"}},
		{"one block passed over", write(t, dir, "indented.pem", "  "+read(t, cert)+read(t, good+"/ca.pem")), key, []string{"has 2 parts that begin with -----BEGIN, of which only 1 can be read"}},
		{"damaged certificate", write(t, dir, "damaged.pem", encode("CERTIFICATE", block(t, cert)[:99])), key, []string{"certificate 1 in it is damaged"}},
		{"certificate in DER", write(t, dir, "der.crt", string(block(t, cert))), key, []string{"DER: PEM is needed, see openssl x509 -inform der"}},
		{"key in DER", cert, write(t, dir, "der.key", string(block(t, key))), []string{"see openssl pkcs12 -nodes"}},
		{"Java key store", write(t, dir, "store.jks", "\xfe\xed\xfe\xed\x00\x00\x00\x02"), key, []string{"is a Java key store"}},
		{"encrypted key", cert, write(t, dir, "enc.pem", encode("ENCRYPTED PRIVATE KEY", []byte{1, 2, 3})), []string{"is encrypted: write it without a password, with openssl pkey"}},
		{"encrypted key of old", cert, write(t, dir, "enc2.pem", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"), []string{"is encrypted"}},
		{"OpenSSH key", cert, write(t, dir, "ssh.pem", encode("OPENSSH PRIVATE KEY", []byte{1})), []string{`"OPENSSH PRIVATE KEY" cannot be used here`}},
		{"damaged key", cert, write(t, dir, "damaged_key.pem", encode("PRIVATE KEY", []byte{1})), []string{"the private key is damaged"}},
		{"public key", cert, write(t, dir, "public.pem", encode("PUBLIC KEY", []byte{1})), []string{`holds no private key, only "PUBLIC KEY"`}},
		{"certificate request", write(t, dir, "csr.pem", encode("CERTIFICATE REQUEST", []byte{1})), key, []string{`holds no certificate, only "CERTIFICATE REQUEST"`}},
		{"directory", dir, key, []string{"is a directory"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := LoadKeyPair(test.cert, test.key)
			if err == nil {
				t.Fatal("no error")
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(test.want) {
				t.Fatalf("%d mistakes, want %d:\n%v", len(lines), len(test.want), err)
			}
			for i, want := range test.want {
				if !strings.Contains(lines[i], want) {
					t.Errorf("mistake %d: %q lacks %q", i, lines[i], want)
				}
			}
		})
	}
	if _, err := LoadKeyPair(dir+"/no.pem", key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
}

func TestUnreadableFileNamesItsMode(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	file := write(t, t.TempDir(), "secret.pem", "x")
	if err := os.Chmod(file, 0); err != nil {
		t.Fatal(err)
	}
	_, err := LoadPool(file)
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "owner and mode") {
		t.Errorf("error %v", err)
	}
}

func TestLoadKeyPairTakesEveryUsualForm(t *testing.T) {
	good := generated(t)
	dir := t.TempDir()
	pkcs8, err := x509.ParsePKCS8PrivateKey(block(t, good+"/server_key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(pkcs8.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	cert, key := read(t, good+"/server.pem"), read(t, good+"/server_key.pem")
	one := write(t, dir, "both.pem", key+cert+read(t, good+"/ca.pem"))
	for _, pair := range [][2]string{
		{one, one},
		{good + "/server.pem", write(t, dir, "sec1.pem", encode("EC PARAMETERS", []byte{6, 0})+encode("EC PRIVATE KEY", sec1))},
		{write(t, dir, "text.pem", "Certificate:\n    Data:\n"+cert), good + "/server_key.pem"},
	} {
		got, err := LoadKeyPair(pair[0], pair[1])
		if err != nil {
			t.Errorf("%v: %v", pair, err)
			continue
		}
		if got.Leaf == nil || len(Uncovered(got.Leaf, "b0."+suffix)) > 0 {
			t.Errorf("%v: leaf %v", pair, got.Leaf)
		}
	}
	if both, err := LoadKeyPair(one, one); err != nil || len(both.Certificate) != 2 {
		t.Errorf("chain of %d certificates, %v", len(both.Certificate), err)
	}
}

func TestEveryKindOfKeyIsMatchedWithItsCertificate(t *testing.T) {
	dir := t.TempDir()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := func(key any) string {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return encode("PRIVATE KEY", der)
	}
	self := func(public, private any) string {
		template := &x509.Certificate{NotAfter: time.Now().Add(time.Hour), DNSNames: []string{suffix}}
		der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
		if err != nil {
			t.Fatal(err)
		}
		return encode("CERTIFICATE", der)
	}
	for name, pair := range map[string][2]string{
		"ed25519": {self(ed.Public(), ed), pkcs8(ed)},
		"p384":    {self(ec.Public(), ec), pkcs8(ec)},
		"rsa":     {self(rsaKey.Public(), rsaKey), encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey))},
	} {
		cert, key := write(t, dir, name+".pem", pair[0]), write(t, dir, name+"_key.pem", pair[1])
		if _, err := LoadKeyPair(cert, key); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := LoadKeyPair(cert, generated(t)+"/server_key.pem"); err == nil {
			t.Errorf("%s: another's key is taken", name)
		}
	}
}

func TestLoadPool(t *testing.T) {
	good := generated(t)
	dir, past := t.TempDir(), t.TempDir()
	if _, err := Generate(GenerateOptions{Dir: past, Suffix: suffix, Port: 9092, Now: time.Now().AddDate(-21, 0, 0)}); err != nil {
		t.Fatal(err)
	}
	pool, err := LoadPool(write(t, dir, "bundle.pem", "# a comment\n"+read(t, past+"/ca.pem")+read(t, good+"/ca.pem")))
	if err != nil {
		t.Fatal("a bundle with one authority that has ended:", err)
	}
	if _, err := cert(t, good+"/server.pem").Verify(x509.VerifyOptions{Roots: pool}); err != nil {
		t.Error(err)
	}
	for file, want := range map[string]string{
		dir + "/no.pem":                      "does not exist",
		good + "/ca_key.pem":                 "holds a private key and no certificate",
		past + "/ca.pem":                     "expired on",
		write(t, dir, "text.pem", "nothing"): "is not PEM",
		write(t, dir, "half.pem", read(t, good+"/ca.pem")+encode("CERTIFICATE", []byte{1})): "certificate 2 in it is damaged",
	} {
		if _, err := LoadPool(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("LoadPool(%s) = %v, want %q", file, err, want)
		}
	}
}
