package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// testEnv has some variables and files.
var testEnv = Env{
	Lookup: func(name string) (string, bool) {
		v, ok := map[string]string{"HOST": "up.example", "PORT": "9092", "EMPTY": "", "IDLE": "5m", "N": "17", "YES": "true",
			"YAML": "x, y]}\nlog: {level: debug}", "GATE_PASSWORD": "hunter2"}[name]
		return v, ok
	},
	ReadFile: func(path string) ([]byte, error) {
		switch path {
		case "/gate":
			return []byte("socks5://u:p@gate:1080\r\n"), nil
		case "/empty":
			return []byte("\n"), nil
		case "/large":
			return make([]byte, 1<<20), nil
		}
		return nil, fmt.Errorf("open %s: %w", path, fs.ErrNotExist)
	},
}

// told returns what a user is told of a file: what is wrong with its form, or else with its
// values.
func told(text string) (wrong, warnings []string) {
	c, f, errs := Read("p.yaml", []byte(text), testEnv)
	for _, e := range errs {
		wrong = append(wrong, f.Text(e))
	}
	if len(errs) > 0 {
		return wrong, nil
	}
	bad, doubtful := c.Validate()
	f.Sort(bad)
	for _, e := range bad {
		wrong = append(wrong, f.Text(e))
	}
	for _, e := range doubtful {
		warnings = append(warnings, f.Text(e))
	}
	return wrong, warnings
}

func TestEachMistakeOfFormIsToldWithItsLineAndWhatToDo(t *testing.T) {
	for _, test := range []struct{ name, file, want string }{
		{"nothing", "", "p.yaml:1:1: the file is empty: it needs listeners and clusters"},
		{"comments", "# nothing\n", "p.yaml:1:1: the file is empty: it needs listeners and clusters"},
		{"null", "---\n~\n", "p.yaml:1:1: the file is empty: it needs listeners and clusters"},
		{"text", "hello", "p.yaml:1:1: this is one value, and should be a group of settings: one of listeners, clusters, admin, limits, timeouts, log, trace on each line"},
		{"a list", "- a", "p.yaml:1:1: this is a list, and should be a group of settings"},
		{"tab", "listeners:\n\t- bind: x\n", "p.yaml:2:1: this is not YAML: found character that cannot start any token: indent with spaces, not with tabs"},
		{"no end of a list", "log:\n  level: [info\n", "p.yaml:2:10: this is not YAML: did not find expected ',' or ']', while parsing a flow sequence that begins here"},
		{"no end of a text", "log: {level: 'info}\n", "p.yaml:1:14: this is not YAML: found unexpected end of stream, while scanning a quoted scalar that begins here"},
		{"variable in braces", "admin: {bind: ${HOST}}", "within { } and [ ], a value with ${…} must be in quotes"},
		{"unknown anchor", "log: *nothing", "p.yaml:1:6: this is not YAML: unknown anchor 'nothing' referenced"},
		{"UTF-16", "\xff\xfel\x00", "p.yaml:1:1: the file is UTF-16: save it as UTF-8"},
		{"Latin-1", "log: {level: \"\xe4\"}", "this is not YAML: "},
		{"two documents", "log: {level: info}\n---\nlog: {}\n", "p.yaml:3:1: a second document begins here: a configuration is one document"},
		{"too long", strings.Repeat("#", MaxFile+1), "p.yaml:1:1: the file is longer than 4194304 bytes: is it the right one?"},

		{"typing error", "log: {levle: info}", "p.yaml:1:7: log.levle: there is no such setting: did you mean level?\n      | log: {levle: info}\n      |       ^"},
		{"underscore", "clusters: {a: {sni_suffix: x}}", "p.yaml:1:16: clusters.a.sni_suffix: there is no such setting: did you mean sni-suffix?"},
		{"capitals", "clusters: {a: {SNI-Suffix: x}}", "clusters.a.SNI-Suffix: there is no such setting: did you mean sni-suffix?"},
		{"elsewhere", "upstream: [x]", "p.yaml:1:1: upstream: there is no such setting here: did you mean clusters.NAME.upstream or clusters.NAME.targets.NAME.upstream?"},
		{"elsewhere in a list", "certificates: []", "certificates: there is no such setting here: did you mean listeners[].certificates?"},
		{"as the flag", "timeouts: {idle-timeout: 1m}", "timeouts.idle-timeout: there is no such setting: did you mean idle?"},
		{"as the flag, elsewhere", "max-frame-bytes: 1", "max-frame-bytes: there is no such setting here: did you mean limits.max-frame?"},
		{"nowhere", "log: {colour: red}", "log.colour: there is no such setting here: there are level, format"},
		{"x- below the top", "log: {x-level: info}", "log.x-level: there is no such setting"},
		{"key that looks like a path", "log: {a.b: 1}", "log.\"a.b\": there is no such setting"},
		{"key with a line break", `log: {"a\nb": 1}`, `log."a\nb": there is no such setting`},
		{"long key", "log: {? " + strings.Repeat("k", 1<<20) + " : 1}", "kkk…: there is no such setting"},
		{"key that is a list", "log: {? [a] : b}", "p.yaml:1:9: log: the name of a setting should be here, not a list"},
		{"given twice", "log:\n  level: info\n  level: warn\n", "p.yaml:3:3: log.level: is given twice: line 2 has it, too"},
		{"cluster twice", "clusters:\n  a: {}\n  a: {}\n", "p.yaml:3:3: clusters.a: is given twice: line 2 has it, too"},
		{"no value", "listeners:\nlog: {}\n", "p.yaml:1:11: listeners: has no value: give it one, or leave it out"},
		{"null in a list", "listeners: [~]", "p.yaml:1:13: listeners[0]: has no value"},
		{"null of a switch", "listeners: [{plaintext: }]", "listeners[0].plaintext: has no value"},
		{"cluster without settings", "clusters: {a: }", "clusters.a: has no value"},

		{"empty list", "listeners: [{clusters: []}]", "p.yaml:1:24: listeners[0].clusters: the list is empty: put something in it, or leave it out"},
		{"group for a list", "listeners: {bind: x}", "p.yaml:1:12: listeners: this is a group of settings, and should be a list: write [a, b], or each item on a line of its own behind a hyphen"},
		{"text for a list", "clusters: {a: {upstream: 'x:1'}}", "clusters.a.upstream: this is one value, and should be a list"},
		{"list for names", "clusters: [a]", "clusters: this is a list, and should be names, each with settings under it"},
		{"list for a group", "log: [a]", "log: this is a list, and should be a group of settings: one of level, format, access on each line"},
		{"list for a text", "log: {level: [info]}", "log.level: this is a list, and should be one value"},
		{"group for a text", "log: {level: {a: b}}", "log.level: this is a group of settings, and should be one value"},
		{"no unit", "timeouts: {idle: 30}", "timeouts.idle: \"30\" needs a unit: 30s for seconds, 30m for minutes"},
		{"no duration", "timeouts: {idle: soon}", "timeouts.idle: \"soon\" is not a duration: write it like 30s, 10m or 1h30m"},
		{"no size", "limits: {max-frame: 100MB}", "limits.max-frame: \"100MB\" is not a size: write it like 100MiB, 64KiB, or a number of bytes"},
		{"size below nothing", "limits: {max-frame: -1}", "is not a size"},
		{"size beyond all", "limits: {max-frame: 9223372036854775807GiB}", "is not a size"},
		{"no number", "limits: {max-connections: 1e3}", "limits.max-connections: \"1e3\" is not a whole number"},
		{"number too large", "limits: {max-connections: 99999999999999999999}", "is not a whole number"},
		{"no switch", "listeners: [{plaintext: yes}]", "listeners[0].plaintext: \"yes\" is neither true nor false"},
		{"no range", "listeners: [{ports: {brokers: some}}]", "listeners[0].ports.brokers: \"some\" is not a range of ports: write it like 9193-9292, within 1 and 65535"},
		{"range from 0", "listeners: [{ports: {brokers: 0-7}}]", "is not a range of ports"},
		{"range backwards", "listeners: [{ports: {brokers: 9-7}}]", "\"9-7\" ends before it begins: write 7-9"},
		{"no network", "listeners: [{proxy-protocol: {from: [lan]}}]", "listeners[0].proxy-protocol.from[0]: \"lan\" is not a network: write it like 10.0.0.0/8, fd00::/8 or 10.1.2.3"},
		{"network with bits behind", "listeners: [{proxy-protocol: {from: [10.0.0.1/8]}}]", "\"10.0.0.1/8\" has bits set behind its length: write 10.0.0.0/8"},
		{"name of a cluster", "clusters: {a.b: {}}", "p.yaml:1:12: clusters: \"a.b\" is not a name: it is made of letters, digits, - and _, 64 at the most"},
		{"long name", "clusters: {" + strings.Repeat("n", 65) + ": {}}", "is not a name"},
		{"name of a target", "clusters: {a: {targets: {'': {}}}}", "clusters.a.targets: \"\" is not a name"},
		{"tag", "log: !env LEVEL", "log: the tag \"!env\" has no meaning here: leave it out"},

		{"variable that is not set", "log: {level: '${NO}'}", "p.yaml:1:14: log.level: the environment variable NO is not set: set it, or write ${NO:-default}"},
		{"variable in a rule", "clusters: {a: {broker-mapping-rule: '(?P<n>.)::${n}'}}", "the environment variable n is not set: set it, or write ${n:-default}; if a group of the rule is meant, write $${…}"},
		{"variable that holds no number", "limits: {max-connections: '${HOST}'}", "limits.max-connections: \"up.example\" is not a whole number"},
		{"variable that holds nothing", "timeouts: {idle: '${EMPTY}'}", "timeouts.idle: \"\" is not a duration"},
		{"no file of a secret", "clusters: {a: {via: 'file:/no'}}", "clusters.a.via: the secret's file cannot be read: open /no: file does not exist"},
		{"empty file of a secret", "clusters: {a: {via: 'file:/empty'}}", "clusters.a.via: the secret's file /empty is empty"},
		{"large file of a secret", "clusters: {a: {via: 'file:/large'}}", "clusters.a.via: the secret's file /large is longer than 65536 bytes: that is no secret"},

		{"merged text", "log: {<<: info}", "p.yaml:1:11: log: << wants a group of settings"},
		{"merged in itself", "x-a: &a {<<: *a}\nlog: *a", "log: << is more than 32 deep within itself"},
		{"merged in itself twice", "x-a: &a {<<: [*a, *a]}\nlog: *a", "log: << is more than 32 deep within itself"},
		{"wrong in what is merged", "x-a: &a {levle: info}\nlog: {<<: *a}", "p.yaml:1:10: log.levle: there is no such setting"},
	} {
		wrong, _ := told(test.file)
		if len(wrong) != 1 || !strings.Contains(wrong[0], test.want) {
			t.Errorf("%s: got\n%s\nwant %q alone", test.name, strings.Join(wrong, "\n"), test.want)
		}
	}
}

func TestAllMistakesOfAFileAreToldInItsOrder(t *testing.T) {
	wrong, _ := told(`
timeouts: {idle: 30, dial: soon}
log: {level: '${NO}', format: [a]}
listners: []
clusters:
  a: {upstrem: [x], via: "file:/no"}
  b:
`)
	if len(wrong) != 8 || !slices.IsSortedFunc(wrong, func(a, b string) int { return strings.Compare(a[:9], b[:9]) }) {
		t.Errorf("%d mistakes, want 8 in order:\n%s", len(wrong), strings.Join(wrong, "\n"))
	}
}

func TestMistakesThatAreEverywhereAreNotAllTold(t *testing.T) {
	wrong, _ := told("log:\n" + strings.Repeat("  wrong: 1\n", 5000))
	if len(wrong) != maxMistakes+1 || !strings.Contains(wrong[maxMistakes], "there are more mistakes from here on: correct these first") {
		t.Errorf("%d mistakes, want %d", len(wrong), maxMistakes+1)
	}
}

// bombs are files that stand for much more than they are.
func bombs() map[string]string {
	long := "x-long: &long [" + strings.Repeat("a,", 1000) + "]\n"
	keys := strings.Builder{}
	for i := range 1000 {
		fmt.Fprintf(&keys, "k%d: 1,", i)
	}
	clusters := strings.Builder{}
	for i := range 10_000 {
		fmt.Fprintf(&clusters, "  c%d: *cluster\n", i)
	}
	return map[string]string{
		"lists":             long + "x-cluster: &cluster {upstream: *long}\nclusters:\n" + clusters.String(),
		"settings":          "x-cluster: &cluster {names: {" + keys.String() + "}}\nclusters:\n" + clusters.String(),
		"merged":            "x-keys: &keys {" + keys.String() + "}\nclusters:\n  a:\n    <<: [" + strings.Repeat("*keys,", 10_000) + "]\n",
		"merged in another": "x-a: &a {" + keys.String() + "}\nx-b: &b {<<: [" + strings.Repeat("*a,", 1000) + "]}\nclusters: {a: {<<: [" + strings.Repeat("*b,", 1000) + "]}}\n",
	}
}

func TestAliasesCannotMakeAFileLarge(t *testing.T) {
	for name, file := range bombs() {
		allocated := testing.AllocsPerRun(1, func() {
			wrong, _ := told(file)
			if len(wrong) == 0 || len(wrong) > maxMistakes+1 {
				t.Errorf("%s: %d mistakes", name, len(wrong))
			}
		})
		if allocated > 10*maxValues {
			t.Errorf("%s: %.0f allocations", name, allocated)
		}
	}
}

func TestDeepFilesAreRefused(t *testing.T) {
	const deep = 50_000
	for _, file := range []string{
		"log: " + strings.Repeat("[", deep) + strings.Repeat("]", deep),
		"log: " + strings.Repeat("{a: ", deep) + strings.Repeat("}", deep),
		"x-a: &a [*a]\nclusters: {a: {upstream: *a}}",
	} {
		if wrong, _ := told(file); len(wrong) != 1 {
			t.Errorf("%.20q…: %q", file, wrong)
		}
	}
}

func TestFilesSayWhatTheyMean(t *testing.T) {
	c := read(t, `
x-upstreams: &upstreams
  - up.example:9092
x-common: &common
  upstream: *upstreams
  advertised-port: 1
  limits: {max-connections: 5}
x-more: &more {<<: *common, hosts-file: common.hosts}
listeners:
  - name: "one"
    bind: ${HOST}:${PORT}
    certificates: [{cert: a.pem, key: b.pem}]
    client-certificates: {require: "${YES}", ca-certs: ca.pem, crl: [r.pem]}
    proxy-protocol: {from: [10.0.0.0/8, "::ffff:10.1.2.3", fd00::1]}
  - bind: :1
    plaintext: true
    ports: {cluster: a, brokers: 9193-9292, advertised-host: localhost, first-node-id: 3}
clusters:
  a:
    <<: *common
    advertised-port: 2
    broker-mapping-rule: '^(b\d+)\.(?P<n>.*)$::${1}.$${n}.$2'
    via: file:/gate
  b:
    <<: [*more, {advertised-port: 3, routes-file: b.routes}]
    hosts-file: b.hosts
  1:
    sni-suffix: "${YAML}"
    upstream: ["${NOTHING:-a:1}", "${EMPTY:-b:2}", '$${HOST}', "$$${HOST}", '${EMPTY}', '${', '${1}', "${N}${N}"]
    via: socks5://gate:${GATE_PASSWORD}@h:1
limits: {max-frame: 1MiB, max-connections: "${N}"}
timeouts: {idle: "${IDLE}", drain: 0s, connection-age: 1h30m}
log: {level: debug}
x-key: &key bind
admin: {*key : ":9090"}
`)
	a, b, one := c.Clusters["a"], c.Clusters["b"], c.Clusters["1"]
	for _, check := range []struct{ got, want any }{
		{c.Listeners[0].Bind, "up.example:9092"},
		{c.Listeners[0].Name, "one"},
		{c.Listeners[0].Certificates, []KeyPair{{"a.pem", "b.pem"}}},
		{c.Listeners[0].ClientCertificates, ClientCertificates{true, "ca.pem", []string{"r.pem"}}},
		{*c.Listeners[0].ProxyProtocol, ProxyProtocol{[]Network{{netip.MustParsePrefix("10.0.0.0/8")}, {netip.MustParsePrefix("10.1.2.3/32")}, {netip.MustParsePrefix("fd00::1/128")}}}},
		{*c.Listeners[1].Ports, Ports{"a", PortRange{9193, 9292}, "localhost", 3}},
		{c.Listeners[1].Plaintext, true},
		{a.Upstream, []string{"up.example:9092"}},
		{a.AdvertisedPort, 2}, // its own before what is merged in
		{a.Limits.MaxConnections, 5},
		{a.BrokerMappingRule, `^(b\d+)\.(?P<n>.*)$::${1}.${n}.$2`},
		{a.Via, Secret("socks5://u:p@gate:1080")},
		{b.AdvertisedPort, 1}, // the first of what is merged in
		{b.HostsFile, "b.hosts"},
		{b.RoutesFile, "b.routes"},
		{b.Upstream, []string{"up.example:9092"}},
		{one.SNISuffix, "x, y]}\nlog: {level: debug}"}, // no YAML
		{one.Upstream, []string{"a:1", "b:2", "${HOST}", "$${HOST}", "", "${", "${1}", "1717"}},
		{one.Via, Secret("socks5://gate:hunter2@h:1")},
		{c.Limits, Limits{MaxFrame: 1 << 20, MaxConnections: 17}},
		{c.Timeouts, Timeouts{Handshake: 10 * time.Second, Dial: 10 * time.Second, Idle: 5 * time.Minute, ConnectionAge: 90 * time.Minute, TCPUser: time.Minute}},
		{c.Log, Log{Level: "debug", Format: "text"}},
		{c.Admin.Bind, ":9090"}, // by a key that is an alias
	} {
		if !reflect.DeepEqual(check.got, check.want) {
			t.Errorf("%#v, want %#v", check.got, check.want)
		}
	}
}

// read reads a file in which nothing is wrong with its form.
func read(t *testing.T, text string) *Config {
	t.Helper()
	c, f, wrong := Read("p.yaml", []byte(text), testEnv)
	for _, e := range wrong {
		t.Fatal(f.Text(e))
	}
	return c
}

func TestTheFilesOfTheDesignAreUnderstood(t *testing.T) {
	for _, name := range []string{"one-cluster", "two-clusters", "authentication"} {
		text, err := os.ReadFile(filepath.Join("testdata", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		wrong, warnings := read(t, string(text)).Validate()
		if len(warnings) > 0 || len(wrong) > 0 {
			t.Errorf("%s: %v, %v", name, wrong, warnings)
		}
	}
}

func TestTheFirstFileOfTheDesignMeansItsFlags(t *testing.T) {
	text, err := os.ReadFile("testdata/one-cluster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Clusters[DefaultCluster] = &Cluster{SNISuffix: "kafka.example", Target: Target{Upstream: []string{"lkc-abcde.confluent.cloud:9092"}}}
	if got := read(t, string(text)); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestMistakesInValuesAreShownWhereTheyAre(t *testing.T) {
	wrong, _ := told(`listeners:
  - bind: 0.0.0.0:9092
    certificates:
      - cert: a.pem
clusters:
  a:
    sni-suffix: a..b
    upstream: [up.example:9092]
  b:
    sni-suffix: b.example
admin:
  bind: nowhere
`)
	want := []string{
		"p.yaml:4:9: listeners[0].certificates[0].cert: needs listeners[0].certificates[0].key, the certificate's private key\n      |       - cert: a.pem\n      |         ^",
		"p.yaml:7:5: clusters.a.sni-suffix: \"a..b\" is not a domain name, such as kafka.example.com\n      |     sni-suffix: a..b\n      |     ^",
		"p.yaml:9:3: clusters.b.upstream: required: the cluster's bootstrap servers, such as lkc-abcde.confluent.cloud:9092\n      |   b:\n      |   ^",
		"p.yaml:12:3: admin.bind: \"nowhere\" is not address:port: write 0.0.0.0:9092, or :9092, for all addresses\n      |   bind: nowhere\n      |   ^",
	}
	if !slices.Equal(wrong, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(wrong, "\n"), strings.Join(want, "\n"))
	}
}

func TestPasswordsAreNotShown(t *testing.T) {
	for _, file := range []string{
		"clusters: {a: {via: 'socks5://gate:geheim@h:1', upstrem: [x]}}",
		"clusters: {a: {via: 'gate:geheim', upstrem: [x]}}",
		"clusters: {a: {via: 'geheim:x@y:1', upstream: ['x:1']}}",
		"clusters: {a: {via: 'socks5://gate:geheim@h', upstream: ['x:1']}}",
		"clusters: {a: {via: 'ftp://gate:geheim@h:1', upstream: ['x:1']}}",
		"clusters: {a: {via: 'socks5://gate:geheim@h:1/path', upstream: ['x:1']}}",
		"clusters: {a: {via: 'socks5://gate:%zzgeheim@h:1', upstream: ['x:1']}}",
		`clusters: {a: {via: "socks5://gate:geh\x65im@h:1", upstrem: ['x:1']}}`,
		`clusters: {a: {via: "geh\x65im", upstrem: ['x:1']}}`,
		"clusters:\n  a:\n    via: |\n      socks5://gate:geheim@h:1\n      x\n    upstrem: [x]\n",
		"clusters: {a: {via: 'socks5://gate:geheim@${NO}:1'}}",
		"clusters: {a: {via: 'socks5://gate:geheim@h:1', upstream: }}",
		"clusters: {a: {via: socks5://gate:geheim@h:1: x}}",
		"clusters: {a: {via: 'socks5://gate:geheim@h:1'",
		"x-gate: &gate socks5://gate:geheim@h:1\nclusters: {a: {via: *gate, <<: *gate}}",
		"clusters: {a: {targets: {b: {via: 'socks4://gate:geheim@h:1'}}}}",
	} {
		wrong, warnings := told(file)
		all := strings.Join(append(wrong, warnings...), "\n")
		if len(wrong) == 0 || strings.Contains(all, "geheim") || strings.Contains(all, `geh\x65im`) {
			t.Errorf("%s:\n%s", file, all)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v %s %q", Secret("geheim"), Secret("geheim"), Secret("geheim"), Secret("geheim"), Secret("geheim")); strings.Contains(text, "geheim") {
		t.Error(text)
	}
}

func TestLinesAreShownAsTheyAre(t *testing.T) {
	for file, want := range map[string]string{
		"\ufefflogs: {}":                                             "p.yaml:1:1: logs: there is no such setting: did you mean log?\n      | logs: {}\n      | ^",
		"log: {level: info}\r\nlgo: {}\r\n":                          "      | lgo: {}\n      | ^",
		"log: {level: info}\rlgo: {}\r":                              "p.yaml:2:1",
		"log: {level: info,\tlevle: 1}":                              "      | log: {level: info, levle: 1}\n      |                    ^",
		"log: {level: 'ä€😀', levle: 1}":                              "      | log: {level: 'ä€😀', levle: 1}\n      |                     ^",
		"log: {level: \"\u200e\", levle: 1}":                         "      | log: {level: \"?\", levle: 1}\n",
		"log: {level: '" + strings.Repeat("x", 500) + "', levle: 1}": "xxx', levle: 1}\n",
		"log: {levle: '" + strings.Repeat("x", 500) + "'}":           "      | log: {levle: '" + strings.Repeat("x", 106) + "…\n      |       ^",
	} {
		if wrong, _ := told(file); len(wrong) != 1 || !strings.Contains(wrong[0], want) {
			t.Errorf("%q:\n%s\nwant\n%s", file, strings.Join(wrong, "\n"), want)
		}
	}
}

func TestErrorsOfFilesAreKept(t *testing.T) {
	env := testEnv
	env.ReadFile = func(string) ([]byte, error) { return nil, errors.New("disk on fire\nliterally") }
	_, f, wrong := Read("p.yaml", []byte("clusters: {a: {via: 'file:/gate'}}"), env)
	if len(wrong) != 1 || !strings.Contains(f.Text(wrong[0]), "the secret's file cannot be read: disk on fire literally") {
		t.Error(wrong)
	}
}
