package certs

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"
)

// newAuthority makes an authority that may sign lists.
func newAuthority(t testing.TB) *authority {
	t.Helper()
	a, err := issue(nil, x509.Certificate{
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, "authority")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// chain has the authority issue a client's certificate.
func (a *authority) chain(t testing.TB) []*x509.Certificate {
	t.Helper()
	leaf, err := issue(a, x509.Certificate{NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}, "client")
	if err != nil {
		t.Fatal(err)
	}
	return []*x509.Certificate{leaf.cert, a.cert}
}

// list has the authority revoke certificates, in DER.
func (a *authority) list(t testing.TB, list x509.RevocationList, revoked ...*x509.Certificate) string {
	t.Helper()
	for _, cert := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: cert.SerialNumber, RevocationTime: time.Now()})
	}
	list.Number = big.NewInt(1)
	list.ThisUpdate = time.Now().Add(-time.Hour)
	if list.NextUpdate.IsZero() {
		list.NextUpdate = time.Now().Add(time.Hour)
	}
	der, err := x509.CreateRevocationList(rand.Reader, &list, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(der)
}

const crlType = "X509 CRL"

func TestRevokedCertificatesAreToldFromOthers(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	bad, good, badToo, goodToo := a.chain(t), a.chain(t), b.chain(t), b.chain(t)
	authorities := []*x509.Certificate{a.cert, b.cert}
	dir := t.TempDir()
	both := encode(crlType, []byte(a.list(t, x509.RevocationList{}, bad[0]))) + encode(crlType, []byte(b.list(t, x509.RevocationList{}, badToo[0])))
	tests := []struct {
		name, content string
		revoked       [][]*x509.Certificate
		fine          [][]*x509.Certificate
	}{
		{"DER", a.list(t, x509.RevocationList{}, bad[0]), [][]*x509.Certificate{bad}, [][]*x509.Certificate{good, badToo, goodToo}},
		{"PEM", encode(crlType, []byte(a.list(t, x509.RevocationList{}, bad[0]))), [][]*x509.Certificate{bad}, [][]*x509.Certificate{good, badToo, goodToo}},
		{"several", "some text\n" + both, [][]*x509.Certificate{bad, badToo}, [][]*x509.Certificate{good, goodToo}},
		{"an empty list", a.list(t, x509.RevocationList{}), nil, [][]*x509.Certificate{bad, good}},
		{"a list that should have been replaced", a.list(t, x509.RevocationList{NextUpdate: time.Now().Add(-time.Minute)}, bad[0]), [][]*x509.Certificate{bad}, [][]*x509.Certificate{good}},
		{"the authority itself", a.list(t, x509.RevocationList{}, a.cert), [][]*x509.Certificate{good, bad}, [][]*x509.Certificate{goodToo}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, err := LoadRevoked(authorities, write(t, dir, "crl", test.content))
			if err != nil {
				t.Fatal(err)
			}
			for _, chain := range test.revoked {
				if err := r.Check([][]*x509.Certificate{chain}); err == nil || !strings.Contains(err.Error(), "was revoked on 20") {
					t.Errorf("a revoked certificate: %v", err)
				}
				if err := r.Check([][]*x509.Certificate{chain, goodToo}); err != nil {
					t.Errorf("one that has another chain: %v", err)
				}
			}
			for _, chain := range test.fine {
				if err := r.Check([][]*x509.Certificate{chain}); err != nil {
					t.Error(err)
				}
			}
			if r.Check(nil) == nil {
				t.Error("no chain at all is taken")
			}
		})
	}
}

// A serial number is its authority's own.
func TestSerialNumbersOfAnotherAuthorityDoNotMatter(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	theirs := b.chain(t)
	r, err := LoadRevoked([]*x509.Certificate{a.cert, b.cert}, write(t, t.TempDir(), "crl", a.list(t, x509.RevocationList{}, theirs[0])))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Check([][]*x509.Certificate{theirs}); err != nil {
		t.Error(err)
	}
}

func TestLoadRevokedExplainsWhatIsWrong(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	impostor := newAuthority(t)
	impostor.cert.RawSubject, impostor.cert.Subject = a.cert.RawSubject, a.cert.Subject
	signsNothing, err := issue(nil, x509.Certificate{NotAfter: time.Now().Add(time.Hour), IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}, "no lists")
	if err != nil {
		t.Fatal(err)
	}
	noLists := *signsNothing.cert
	noLists.KeyUsage = x509.KeyUsageCertSign
	delta := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}
	indirect := x509.RevocationListEntry{SerialNumber: big.NewInt(1), RevocationTime: time.Now(),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}}}
	good := a.list(t, x509.RevocationList{})
	tests := []struct{ name, content, want string }{
		{"another authority's", stranger.list(t, x509.RevocationList{}), `revocation list 1 in it is by "CN=authority .*", which is none of the authorities`},
		{"forged", impostor.list(t, x509.RevocationList{}), `is not signed by the authority that it names, "CN=authority`},
		{"by an authority that may not", signsNothing.list(t, x509.RevocationList{}), "is not signed by the authority"},
		{"a delta list", a.list(t, x509.RevocationList{ExtraExtensions: []pkix.Extension{delta}}), "critical extension 2.5.29.27: only full lists"},
		{"an indirect list", a.list(t, x509.RevocationList{RevokedCertificateEntries: []x509.RevocationListEntry{indirect}}), "critical extension 2.5.29.29 on an entry"},
		{"cut", good[:len(good)-1], "is damaged"},
		{"the second one damaged", encode(crlType, []byte(good)) + encode(crlType, []byte("x")), "revocation list 2 in it is damaged"},
		{"a certificate", encode("CERTIFICATE", a.cert.Raw), `holds no revocation list \(X509 CRL\), only "CERTIFICATE"`},
		{"empty", "", "holds no revocation list, neither in PEM nor in DER"},
	}
	dir := t.TempDir()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			file := write(t, dir, "crl", test.content)
			_, err := LoadRevoked([]*x509.Certificate{a.cert, &noLists}, file)
			if err == nil || !strings.HasPrefix(err.Error(), file) || !regexp.MustCompile(test.want).MatchString(err.Error()) {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
	if _, err := LoadRevoked(nil, dir+"/nothing"); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("error %v", err)
	}
}

func TestDoubtsAboutListsThatMayNotTellEverything(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	r, err := LoadRevoked([]*x509.Certificate{a.cert, b.cert}, write(t, dir, "crl", a.list(t, x509.RevocationList{NextUpdate: time.Now().Add(-time.Minute)})))
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(r.Warnings(), "\n")
	for _, want := range []string{"crl should have been replaced by 20", `crl has no list by "CN=authority `} {
		if !strings.Contains(got, want) {
			t.Errorf("warnings lack %q:\n%s", want, got)
		}
	}
	r, err = LoadRevoked([]*x509.Certificate{a.cert}, write(t, dir, "crl", a.list(t, x509.RevocationList{})))
	if err != nil || len(r.Warnings()) > 0 {
		t.Errorf("error %v, warnings %q about a good list", err, r.Warnings())
	}
}
