package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// everything has each setting, none with its default.
const everything = `
listeners:
  - name: public
    bind: 0.0.0.0:9092
    advertised-port: 19092
    allow-missing-sni: true
    clusters: [orders]
    certificates: [{cert: server.pem, key: server_key.pem}]
    client-certificates: {require: true, ca-certs: ca.pem, crl: [revoked.pem]}
    proxy-protocol: {from: [10.0.0.0/8, fd00::/8]}
  - bind: 127.0.0.1:9192
    plaintext: true
    ports: {cluster: orders, brokers: 9193-9292, advertised-host: localhost, first-node-id: 1}
clusters:
  orders:
    names: {bootstrap: orders.kafka.example, broker: 'b{id}-orders.kafka.example'}
    advertised-port: 9093
    broker-mapping-rule: '^(?P<name>b\d+)\..*$::$${name}-orders.kafka.example'
    limits: {max-connections: 7}
    authentication:
      clients:
        - {mechanism: OAUTHBEARER, jwks: "https://login.example/keys", issuer: "https://login.example", audience: kafka, principal-claim: name, clock-skew: 1m, ca-certs: issuer.pem}
        - {mechanism: SCRAM-SHA-512, users: users.scram}
        - {mechanism: TLS, principal-mapping-rules: 'RULE:^CN=(.*?),.*$/$1/L, DEFAULT'}
        - {mechanism: ANONYMOUS, principal: guest}
      brokers:
        mechanism: OAUTHBEARER
        token-endpoint: https://login.example/token
        scope: kafka
        audience: brokers
        ca-certs: issuer.pem
        extensions: {logicalCluster: lkc-1}
        max-credential-age: 1h
        credentials: {exec: [get, 'kafka/${principal}'], exec-timeout: 6s}
    active: blue
    targets:
      blue:
        upstream: [up.example:9092, up2.example:9092]
        upstream-tls: {trust-any: true, cert: c.pem, key: k.pem}
        hosts-file: blue.hosts
        routes-file: blue.routes
      green:
        upstream: [down.example:9092]
        upstream-tls: {ca-certs: down.pem}
        authentication: {brokers: {mechanism: PLAIN, credentials: {file: credentials.yaml}}}
      black:
        upstream: [plain.example:9092]
        upstream-plaintext: true
  audit:
    sni-suffix: audit.example
    upstream: [audit.example.com:9092]
    authentication:
      clients: [{mechanism: PLAIN, users: users.scram}]
      brokers: {mechanism: AWS_MSK_IAM, region: eu-west-1, credentials: {template: 'file:/roles/${principal}'}}
  more:
    sni-suffix: more.example
    upstream: [more.example.com:9092]
    authentication:
      clients: [{mechanism: ANONYMOUS}]
      brokers: {mechanism: SCRAM-SHA-512, credentials: {folder: /credentials}}
admin: {bind: 127.0.0.1:9090, token-file: token, cert: a.pem, key: a_key.pem, client-ca-certs: operators.pem, pprof: true}
limits: {max-connections: 20000, max-handshakes-per-address: 200, max-frame: 50MiB}
timeouts: {handshake: 11s, dial: 12s, idle: 13s, connection-age: 14m, tcp-user: 1m30s, drain: 1ms}
log: {level: debug, format: json, access: access.log}
trace: {endpoint: "http://localhost:4318", connections: 0.5, requests: 1e-6}
`

func TestWhatIsShownMeansTheSame(t *testing.T) {
	for name, file := range map[string]string{
		"everything": everything,
		"design 1":   design(t, "one-cluster"),
		"design 3":   design(t, "authentication"),
	} {
		c := read(t, file)
		c.Validate()
		short, err := c.Short()
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(read(t, string(short)), c) {
			t.Errorf("%s: read again it is another configuration:\n%s", name, short)
		}
		shown, err := c.Show()
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(read(t, string(shown)), c.withDefaults()) {
			t.Errorf("%s: read again it is another configuration:\n%s", name, shown)
		}
		if wrong, _ := read(t, string(shown)).Validate(); name != "design 3" && len(wrong) > 0 {
			t.Errorf("%s: what is shown is wrong: %v", name, wrong)
		}
		if strings.Contains(string(shown), "targets:") && strings.Contains(string(shown), "\n    upstream-plaintext:") != (name == "everything") {
			t.Errorf("%s: a cluster with targets has settings of theirs:\n%s", name, shown)
		}
		again, err := read(t, string(shown)).Show()
		if err != nil || string(again) != string(shown) {
			t.Errorf("%s: shown again:\n%s\nwant\n%s", name, again, shown)
		}
	}
}

func design(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEverySettingIsInTheFileWithEverything(t *testing.T) {
	c := read(t, everything)
	if wrong, _ := c.Validate(); len(wrong) > 0 {
		t.Fatal(wrong)
	}
	seen := map[string]bool{}
	note(reflect.ValueOf(c), "", seen)
	for path, set := range seen {
		inTarget := strings.Replace(path, "clusters.NAME.", "clusters.NAME.targets.NAME.", 1)
		ofAll := strings.Replace(path, "targets.NAME.authentication", "authentication", 1)
		if !set && !seen[inTarget] && !seen[ofAll] && !hidden(path) {
			t.Errorf("%s is nowhere set: %s needs it", path, "everything")
		}
	}
	if len(seen) < 50 {
		t.Errorf("only %d settings were found", len(seen))
	}
}

// hidden reports whether what a setting has is not shown.
func hidden(path string) bool {
	return strings.HasSuffix(path, ".via") || strings.HasSuffix(path, ".credentials.default") || strings.HasSuffix(path, ".credentials.proxy")
}

// What a setting has that is a secret is neither shown, nor printed, nor part of a complaint.
func TestCredentialsAreNotShown(t *testing.T) {
	for _, credentials := range []string{"default: 'id:Sesame'", "folder: f, proxy: 'id:Sesame'", "template: '${principal}:Sesame'"} {
		text := withBrokers("mechanism: PLAIN, credentials: {" + credentials + "}")
		c, file, wrong := Read("p.yaml", []byte(text), testEnv)
		if len(wrong) > 0 {
			t.Fatal(wrong)
		}
		if wrong, _ := c.Validate(); len(wrong) > 0 {
			t.Fatal(wrong)
		}
		shown, err := c.Show()
		if err != nil {
			t.Fatal(err)
		}
		b := c.Clusters["a"].Authentication.Brokers
		e := &Error{Paths: []string{ClusterPath("a", "authentication.brokers.credentials")}, text: "is wrong"}
		for _, text := range []string{string(shown), fmt.Sprintf("%v %+v %#v %s", b, *b, *b, b.Credentials), file.Text(e)} {
			if strings.Contains(text, "Sesame") {
				t.Errorf("%s: %s", credentials, text)
			}
		}
	}
}

// note notes which settings differ from their defaults.
func note(v reflect.Value, path string, seen map[string]bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			note(v.Elem(), path, seen)
		}
	case reflect.Slice:
		for i := range v.Len() {
			note(v.Index(i), path+"[]", seen)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			note(v.MapIndex(key), path+".NAME", seen)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			name, inline := keyOf(v.Type().Field(i))
			switch {
			case inline:
				note(v.Field(i), path, seen)
			case name != "":
				seen[join(path, name)] = seen[join(path, name)] || !v.Field(i).IsZero()
				note(v.Field(i), join(path, name), seen)
			}
		}
	}
}

func TestShowHasEveryDefaultAndNoSecret(t *testing.T) {
	c := read(t, "listeners: [{bind: ':1', certificates: [{cert: a, key: b}]}]\nclusters: {a: {sni-suffix: a.example, upstream: ['up:1'], via: 'socks5://gate:geheim@h:1'}}")
	text, err := c.Show()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"clusters:\n      - a\n", "max-frame: 100MiB", "handshake: 10s", "drain: 30s", "tcp-user: 1m0s", "idle: 0s", "level: info", "format: text", "upstream-plaintext: false", "require: false", "via: '***'"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "geheim") {
		t.Errorf("%s", text)
	}
	wrong, _ := told(string(text))
	if len(wrong) != 1 || !strings.Contains(wrong[0], "clusters.a.via: *** stands where a secret is not shown: write the gate's address in its place") {
		t.Errorf("%s", strings.Join(wrong, "\n"))
	}
}

func TestShortHasWhatDiffersFromTheDefaultsAlone(t *testing.T) {
	c := Default()
	c.Clusters[DefaultCluster] = &Cluster{SNISuffix: "kafka.example", Target: Target{Upstream: []string{"up.example:9092"}}}
	c.Timeouts.Idle = time.Minute
	c.Log.Level = "debug"
	text, err := c.Short()
	if err != nil {
		t.Fatal(err)
	}
	const want = `listeners:
  - bind: 0.0.0.0:9092
    certificates:
      - cert: server.pem
        key: server_key.pem
clusters:
  kafka:
    sni-suffix: kafka.example
    upstream:
      - up.example:9092
timeouts:
  idle: 1m0s
log:
  level: debug
`
	if string(text) != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

func TestTextsThatLookLikeSomethingElseAreShownAsTheyAre(t *testing.T) {
	for _, text := range []string{"${HOST}", "$${HOST}", "$$${HOST}", "${1}", "$${1}", "${", "$", "${a", "${a:-b}", "${${HOST}}", "true", "null", "~", "1", "0x1", "a: b", "# c", "- a", "'", "\"", "a\nb", " a ", "*a", "&a", "!a", "<<", "{a}", "ä\u0085\u2028", "\t", "file:/x"} {
		c := New()
		c.Listeners = []*Listener{{Bind: text, Clusters: []string{text}}}
		for _, show := range []func() ([]byte, error){c.Show, c.Short} {
			shown, err := show()
			if err != nil {
				t.Fatal(err)
			}
			got := read(t, string(shown))
			if got.Listeners[0].Bind != text || got.Listeners[0].Clusters[0] != text {
				t.Errorf("%q became %q:\n%s", text, got.Listeners[0].Bind, shown)
			}
		}
	}
}
