package principal

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"flag"
	"os"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write testdata/cases.txt; testdata/Golden.java says what to do with it")

const subjectOfDuke = "CN=Duke,OU=ServiceUsers,O=Org,C=US"

// ruleCases are rules, and subjects that they are tried on.
var ruleCases = [][2]string{
	{"", subjectOfDuke},
	{"DEFAULT", subjectOfDuke},
	{" DEFAULT ", subjectOfDuke},
	{"RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/", subjectOfDuke},
	{"RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/L", subjectOfDuke},
	{"RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/U", subjectOfDuke},
	{"RULE:^CN=(.*?), *OU=(.*?), *O=(.*?), *C=(.*?)$/$1@$2/L,DEFAULT", subjectOfDuke},
	{"RULE:^CN=(.*?),OU=Nobody.*$/$1/", subjectOfDuke},
	{"RULE:^CN=(.*?),OU=Nobody.*$/$1/, DEFAULT", subjectOfDuke},
	{"RULE:^cn=(.*?),ou=(.*?)$/$1@$2/L , RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/L,DEFAULT", subjectOfDuke},
	{"RULE:^CN=([^,]*).*$/$1@$4/", subjectOfDuke},
	{"RULE:^CN=([^,]*).*$/$1@$10/", subjectOfDuke},
	{"RULE:^CN=([^,]*).*$/$01/", subjectOfDuke},
	{"RULE:^CN=([^,]*).*$/$0/", subjectOfDuke},
	{`RULE:^CN=([^,]*).*$/\$1/`, subjectOfDuke},
	{`RULE:^CN=([^,]*).*$/a\/b\\$1/`, subjectOfDuke},
	{`RULE:^CN=(a\/b).*$/$1/`, "CN=a/b,O=x"},
	{"RULE:.*/user/", subjectOfDuke},
	{"RULE:(.*)/<$1>/", subjectOfDuke},
	{"RULE:^(.*)$/<$1>/", subjectOfDuke},
	{"RULE:(.*?)/<$1>/", "CN=x"},
	{"RULE:CN=(.*?)/<$1>/", "CN=x"},
	{"RULE:.*(S?)/<$1>/", subjectOfDuke},
	{"RULE:CN=.+|x*/u/", "CN=x"},
	{"RULE:^CN=(.*)$/$1/L", "CN=ÄÖÜ"},
	{"RULE:^CN=(.*)$/user/", subjectOfDuke},
	{"RULE:^CN=.*$/$1/", subjectOfDuke},
	{"RULE:^CN=([^,]*).*$/$/", subjectOfDuke},
	{"RULE:^CN=([^,]*).*$/$x/", subjectOfDuke},
	{"RULE:^CN=([^,]*).*$//", subjectOfDuke},
	{"default", subjectOfDuke},
	{"DEFAULT,", subjectOfDuke},
	{",DEFAULT", subjectOfDuke},
	{"DEFAULTS", subjectOfDuke},
	{"RULE:", subjectOfDuke},
	{"RULE:CN", subjectOfDuke},
	{"RULE:CN/x", subjectOfDuke},
	{"RULE:CN=(.*),.*/$1/X", subjectOfDuke},
	{"RULE:CN=(.*),.*/$1/LU", subjectOfDuke},
	{"RULE:CN=(.*),.*/$1/L DEFAULT", subjectOfDuke},
	{"RULE:CN=[/$1/L", subjectOfDuke},
	{"RULE:^CN=(.*?),OU=(.*?),.*$/$2.$1/,RULE:^CN=(.*)$/$1/", subjectOfDuke},
	{"RULE:^CN=(.*?),OU=(.*?),.*$/$2.$1/,RULE:^CN=(.*)$/$1/", "CN=alone"},
	{`RULE:^CN=(\w+),.*$/$1/`, subjectOfDuke},
	{`RULE:^(?:.*,)?UID=([^,+]+)(?:[,+].*)?$/$1/`, `CN=a\,b,UID=u1+OU=x,O=y`},
	{"RULE:^CN=(.*)$/$1$1/U", "CN=a b"},
}

// subjects are distinguished names in DER.
func subjects(t testing.TB) (all [][]byte) {
	oid := func(numbers ...int) asn1.ObjectIdentifier { return numbers }
	cn, ou, email := oid(2, 5, 4, 3), oid(2, 5, 4, 11), oid(1, 2, 840, 113549, 1, 9, 1)
	text := func(tag int, s string) asn1.RawValue { return asn1.RawValue{Tag: tag, Bytes: []byte(s)} }
	name := func(rdns ...attributesSET) {
		der, err := asn1.Marshal(rdns)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, der)
	}
	one := func(of asn1.ObjectIdentifier, v asn1.RawValue) attributesSET { return attributesSET{{of, v}} }
	name()
	for _, s := range []string{"Duke", "a,b", `a"b\c`, " a ", "  ", "", "#a", "a#b", "a+b=c<d>e;f", "Ünï 日本 😀", "a\x00b", "a\nb", "\ra\r", "a=b", "a/b", "a  b", "a\xff\xfeb", "'()*+,-./:?@!%&"} {
		name(one(cn, text(asn1.TagUTF8String, s)))
	}
	for _, tag := range []int{asn1.TagPrintableString, asn1.TagT61String, asn1.TagIA5String, 27, asn1.TagNumericString, 26} {
		name(one(cn, text(tag, "a 1")))
	}
	name(one(cn, text(asn1.TagBMPString, "\x00a\x00b")))
	name(one(cn, text(28, "\x00\x00\x00a")))
	name(one(cn, text(asn1.TagT61String, "\xe4")))
	name(one(oid(2, 5, 4, 6), text(asn1.TagPrintableString, "US")), one(oid(2, 5, 4, 10), text(asn1.TagUTF8String, "Org")), one(ou, text(asn1.TagUTF8String, "ServiceUsers")), one(cn, text(asn1.TagUTF8String, "Duke")))
	name(one(oid(0, 9, 2342, 19200300, 100, 1, 25), text(asn1.TagIA5String, "example")), one(oid(0, 9, 2342, 19200300, 100, 1, 1), text(asn1.TagUTF8String, "u1")))
	name(one(email, text(asn1.TagIA5String, "duke@example.com")), one(cn, text(asn1.TagUTF8String, "Duke")))
	name(one(oid(2, 5, 4, 8), text(asn1.TagUTF8String, "S")), one(oid(2, 5, 4, 9), text(asn1.TagUTF8String, "St")), one(oid(2, 5, 4, 5), text(asn1.TagPrintableString, "77")), one(oid(2, 5, 4, 7), text(asn1.TagUTF8String, "L")))
	name(attributesSET{{cn, text(asn1.TagUTF8String, "b")}, {ou, text(asn1.TagUTF8String, "a")}, {email, text(asn1.TagIA5String, "x@y")}}, one(cn, text(asn1.TagUTF8String, "z")))
	name(one(oid(1, 3, 6, 1, 4, 1, 99999, 1), asn1.RawValue{Tag: asn1.TagInteger, Bytes: []byte{7}}))
	return all
}

// What Java's X500Principal.getName() and Kafka's SslPrincipalMapper say of the same.
func TestPrincipalsAreThoseOfKafka(t *testing.T) {
	var cases []string
	for _, s := range subjects(t) {
		cases = append(cases, "subject "+hex.EncodeToString(s))
	}
	for _, c := range ruleCases {
		cases = append(cases, "rule\t"+c[0]+"\t"+c[1])
	}
	if *update {
		if err := os.WriteFile("testdata/cases.txt", []byte(strings.Join(cases, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written, err := os.ReadFile("testdata/cases.txt")
	if err != nil || string(written) != strings.Join(cases, "\n")+"\n" {
		t.Fatalf("testdata/cases.txt is not what is here: -update, and then testdata/Golden.java (%v)", err)
	}
	golden, err := os.ReadFile("testdata/golden.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSuffix(string(golden), "\n"), "\n")
	if len(want) != len(cases) {
		t.Fatalf("%d lines in testdata/golden.txt, want %d", len(want), len(cases))
	}
	quote := strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`)
	for i, c := range cases {
		got := ""
		if der, isSubject := strings.CutPrefix(c, "subject "); isSubject {
			raw, err := hex.DecodeString(der)
			if err != nil {
				t.Fatal(err)
			}
			name, err := Subject(raw)
			if err != nil {
				t.Errorf("%s: %v", c, err)
			}
			got = "=" + quote.Replace(name)
		} else {
			fields := strings.Split(c, "\t")
			m, err := Parse(fields[1])
			if err != nil {
				got = "invalid"
			} else if name, ok := m.first(fields[2]); !ok {
				got = "none"
			} else {
				got = "=" + quote.Replace(name)
			}
		}
		if got != want[i] && ours[c] != got {
			t.Errorf("%s: %s, and Java says %s", c, got, want[i])
		}
	}
}

// ours is what is meant to be otherwise than in Kafka.
var ours = map[string]string{
	"rule\t\t" + subjectOfDuke: "=" + subjectOfDuke, // no rules are DEFAULT
}

// first returns what the first rule makes that is for a subject.
func (m *Mapper) first(subject string) (string, bool) {
	for i := range m.rules {
		if name, ok := m.rules[i].apply(subject); ok {
			return name, true
		}
	}
	return "", false
}

func TestRulesThatAreWrongSayWhy(t *testing.T) {
	for rules, want := range map[string]string{
		"FOO":                     `"FOO" is not a rule: want RULE:pattern/replacement/ or DEFAULT`,
		"RULE:a/b":                `the rule "RULE:a/b": want RULE:pattern/replacement/`,
		"RULE:(?=x).*/b/":         "look-around and atomic groups are not done here",
		"RULE:(a/b/":              "missing closing )",
		"RULE:a/$1/":              "the replacement has $1, and the pattern has no group",
		"RULE:(a)/$x/":            `a $ in the replacement wants the number of a group behind it`,
		",":                       "there is no rule",
		"DEFAULT, RULE:x/y/z":     `the rule "RULE:x/y/z"`,
		"RULE:^CN=(.*)$/$1/, foo": `"foo" is not a rule`,
	} {
		if _, err := Parse(rules); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", rules, err, want)
		}
	}
}

func TestPrincipalsAreBounded(t *testing.T) {
	m, err := Parse("RULE:^CN=(.*)$/$1/")
	if err != nil {
		t.Fatal(err)
	}
	for subject, want := range map[string]string{
		"CN=": "empty name", "CN=a\x01b": "characters that cannot be", "CN=" + strings.Repeat("a", MaxLen+1): "1025 bytes", "CN=a\xffb": "characters that cannot be",
	} {
		if _, ok, err := m.Of(subject); ok || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, %v", subject, ok, err)
		}
	}
	if name, ok, err := m.Of("OU=x"); name != "" || ok || err != nil {
		t.Errorf("no rule is for it: %q, %v, %v", name, ok, err)
	}
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: "x"}, RawSubject: []byte{1, 2, 3}}
	if _, ok, err := m.Principal(cert); ok || err == nil {
		t.Error("a subject that is not well formed is taken")
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range ruleCases {
		f.Add(c[0], c[1])
	}
	f.Fuzz(func(t *testing.T, rules, subject string) {
		m, err := Parse(rules)
		if err != nil {
			return
		}
		name, ok, err := m.Of(subject)
		if ok && (err != nil || name == "" || len(name) > MaxLen || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl)) {
			t.Errorf("%q, %v", name, err)
		}
	})
}

func FuzzSubject(f *testing.F) {
	for _, s := range subjects(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		if name, err := Subject(der); err == nil && !utf8.ValidString(name) {
			t.Errorf("%q", name)
		}
	})
}
