package config

import (
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var testEnv = Env{
	Lookup: func(name string) (string, bool) {
		v, ok := map[string]string{"PORT": "9092", "EMPTY": "", "TRICK": "x]\nlisteners: {", "BIG": "30s"}[name]
		return v, ok
	},
	ReadFile: func(path string) ([]byte, error) {
		switch path {
		case "/secret":
			return []byte("socks5://u:p@gate:1\n"), nil
		case "/empty":
			return []byte("\n"), nil
		case "/huge":
			return make([]byte, maxSecret+1), nil
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	},
}

// mustRead reads a file in which nothing is wrong.
func mustRead(t *testing.T, text string) *Config {
	t.Helper()
	c, file, wrong := Read("proxy.yaml", []byte(text), testEnv)
	for _, e := range wrong {
		t.Fatal(file.Text(e))
	}
	return c
}

func TestAllKindsOfValuesAreRead(t *testing.T) {
	c := mustRead(t, `
x-tls: &tls {ca-certs: ca.pem, cert: "a: b", key: 'k''s'}
listeners:
- bind: 127.0.0.1:${PORT}
  name: ${NAME:-public}
  advertised-port: ${PORT}
  allow-missing-sni: true
  certificates: [{cert: c.pem, key: k.pem}]
  client-certificates: {require: true, crl: [1.crl, 2.crl]}
  ports: {cluster: a, brokers: 9193-9292, advertised-host: h, first-node-id: 100}
  proxy-protocol: {from: [10.0.0.0/8, '::1', 192.0.2.7]}
clusters:
  a:
    upstream: [one:1, "two:${PORT}"]
    upstream-tls: {<<: *tls, cert: other.pem}
    broker-mapping-rule: '^(b\d+)-(?P<zone>.)$::${1}.$${zone}.kafka.example'
    via: file:/secret
    active: blue
    targets: {blue: {upstream-tls: *tls}}
limits: {max-frame: 64KiB, max-connections: 7}
timeouts: {idle: "${BIG}", drain: 1h30m, tcp-user: 0s}
log:
  level: debug
`)
	l, a := c.Listeners[0], c.Clusters["a"]
	if l.Bind != "127.0.0.1:9092" || l.Name != "public" || l.AdvertisedPort != 9092 || !l.AllowMissingSNI || len(l.ClientCertificates.CRL) != 2 ||
		l.Ports.Brokers != (PortRange{9193, 9292}) || l.Ports.FirstNodeID != 100 || l.ProxyProtocol.From[2].String() != "192.0.2.7/32" {
		t.Errorf("%+v %+v %+v", l, l.Ports, l.ProxyProtocol)
	}
	if a.Upstream[1] != "two:9092" || a.UpstreamTLS != (UpstreamTLS{CACerts: "ca.pem", Cert: "other.pem", Key: "k's"}) || a.Via != "socks5://u:p@gate:1" ||
		a.BrokerMappingRule != `^(b\d+)-(?P<zone>.)$::${1}.${zone}.kafka.example` || a.Targets["blue"].UpstreamTLS.Cert != "a: b" || a.ActiveTarget() != a.Targets["blue"] {
		t.Errorf("%+v", a)
	}
	if c.Limits.MaxFrame != 64<<10 || c.Timeouts != (Timeouts{Handshake: 10 * time.Second, Dial: 10 * time.Second, Idle: 30 * time.Second, Drain: 90 * time.Minute}) || c.Log != (Log{"debug", "text"}) {
		t.Errorf("%+v", c)
	}
}

// TestVariablesAreNeverYAML has one whose value would change the file.
func TestVariablesAreNeverYAML(t *testing.T) {
	c := mustRead(t, "clusters: {a: {upstream: [\"${TRICK}\"], hosts-file: '${EMPTY:-none}'}}\n")
	if got := c.Clusters["a"].Upstream[0]; got != "x]\nlisteners: {" || c.Clusters["a"].HostsFile != "none" {
		t.Errorf("%q", got)
	}
}

// TestEachMistakeInAFileHasItsPlace and says what to do.
func TestEachMistakeInAFileHasItsPlace(t *testing.T) {
	for text, want := range map[string]string{
		"":                                             "1:1: the file is empty: it needs listeners and clusters",
		"# nothing\n":                                  "1:1: the file is empty",
		"null\n":                                       "1:1: the file is empty",
		"just text\n":                                  "1:1: this is one value, and should be a group of settings: one of listeners, clusters, admin, limits, timeouts, log on each line",
		"- a\n":                                        "1:1: this is a list, and should be a group of settings",
		"log: {level: a\n":                             "this is not YAML: did not find expected",
		"log:\n\tlevel: a\n":                           "2:1: this is not YAML: found character that cannot start any token: indent with spaces, not with tabs",
		"log: {}\n---\nlog: {}\n":                      "2:1: a second document begins here",
		"logs: {}\n":                                   "1:1: logs: there is no such setting: did you mean log?",
		"Log: {}\n":                                    "1:1: Log: there is no such setting: did you mean log?",
		"limits: {max_frame: 1}\n":                     "1:10: limits.max_frame: there is no such setting: did you mean max-frame?",
		"limits: {wholly: 1}\n":                        "1:10: limits.wholly: there is no such setting here: there are max-connections, max-handshakes-per-address, max-frame",
		"log: {level: a, level: b}\n":                  "1:17: log.level: is given twice: line 1 has it, too",
		"log: {}\nlog: {}\n":                           "2:1: log: is given twice: line 1 has it, too",
		"log:\n":                                       "1:1: log: has no value: give it one, or leave it out",
		"log: {level: ~}\n":                            "1:7: log.level: has no value",
		"log: {level: [a]}\n":                          "1:14: log.level: this is a list, and should be one value",
		"log: [a]\n":                                   "1:6: log: this is a list, and should be a group of settings: one of level, format on each line",
		"clusters: [a]\n":                              "1:11: clusters: this is a list, and should be names, each with settings under it",
		"clusters: {a b: {}}\n":                        `1:12: clusters: "a b" is not a name: it is made of letters, digits, - and _, 64 at the most`,
		"clusters: {a.b: {}}\n":                        `"a.b" is not a name`,
		"clusters: {[a]: {}}\n":                        "1:12: clusters: the name of a setting should be here, not a list",
		"clusters: {a: {upstream: one:1}}\n":           "1:26: clusters.a.upstream: this is one value, and should be a list: write [a, b]",
		"timeouts: {idle: 30}\n":                       `1:18: timeouts.idle: "30" needs a unit: 30s for seconds, 30m for minutes`,
		"timeouts: {idle: soon}\n":                     `timeouts.idle: "soon" is not a duration: write it like 30s, 10m or 1h30m`,
		"limits: {max-connections: many}\n":            `limits.max-connections: "many" is not a whole number`,
		"limits: {max-connections: 1.5}\n":             `limits.max-connections: "1.5" is not a whole number`,
		"limits: {max-frame: 3MB}\n":                   `limits.max-frame: "3MB" is not a size: write it like 100MiB`,
		"limits: {max-frame: 99999999999GiB}\n":        "is not a size",
		"listeners: [{plaintext: yes}]\n":              `listeners[0].plaintext: "yes" is neither true nor false`,
		"listeners: [{ports: {brokers: 1-x}}]\n":       `listeners[0].ports.brokers: "1-x" is not a range of ports: write it like 9193-9292`,
		"listeners: [{ports: {brokers: 9-1}}]\n":       `"9-1" ends before it begins: write 1-9`,
		"listeners: [{ports: {brokers: 1-70000}}]\n":   "is not a range of ports",
		"listeners: [{proxy-protocol: {from: [x]}}]\n": `listeners[0].proxy-protocol.from[0]: "x" is not a network: write it like 10.0.0.0/8`,
		"listeners: [{proxy-protocol: {from: [10.1.0.0/8]}}]\n":    `"10.1.0.0/8" has bits set behind its length: write 10.0.0.0/8`,
		"log: {level: '${UNSET}'}\n":                               "1:14: log.level: the environment variable UNSET is not set: set it, or write ${UNSET:-default}",
		"clusters: {a: {broker-mapping-rule: 'a::${name}'}}\n":     "if a group of the rule is meant, write $${…}",
		"clusters: {a: {via: 'file:/none'}}\n":                     "clusters.a.via: the secret's file cannot be read: open /none: file does not exist",
		"clusters: {a: {via: 'file:/empty'}}\n":                    "clusters.a.via: the secret's file /empty is empty",
		"clusters: {a: {via: 'file:/huge'}}\n":                     "that is no secret",
		"x: &x {<<: *x}\nlog: *x\n":                                "deep within",
		"log: {<<: 1}\n":                                           "<< wants a group of settings",
		"x-a: &a [*a]\nlisteners: *a\n":                            "listeners[0]: this is a list",
		"log: *nowhere\n":                                          "this is not YAML: unknown anchor 'nowhere' referenced",
		"log: {level: \"\xff\"}\n":                                 "this is not YAML",
		"log: {level: a}\nlisteners: {\n  bind: x\n":               "this is not YAML",
		strings.Repeat("[", 100) + strings.Repeat("]", 100) + "\n": "should be a group of settings",
	} {
		_, file, wrong := Read("proxy.yaml", []byte(text), testEnv)
		var all []string
		for _, e := range wrong {
			all = append(all, file.Text(e))
		}
		if got := strings.Join(all, "\n"); !strings.Contains(got, want) || !strings.HasPrefix(got, "proxy.yaml:") {
			t.Errorf("%.60q:\n%s\nwant %s", text, got, want)
		}
	}
}

// TestAliasBombsAreBounded has a file of few lines that stands for millions of values.
func TestAliasBombsAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("x-0: &x0 {cert: a, key: b}\n")
	for i := 1; i < 9; i++ {
		fmt.Fprintf(&b, "x-%d: &x%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*x%d, ", i-1), 20), ", "))
	}
	b.WriteString("listeners: [{certificates: *x8}]\n")
	_, _, wrong := Read("bomb.yaml", []byte(b.String()), testEnv)
	if len(wrong) == 0 {
		t.Error("it is read")
	}
	_, _, wrong = Read("big.yaml", make([]byte, maxFile+1), testEnv)
	if len(wrong) != 1 || !strings.Contains(wrong[0].Error(), "bytes long") {
		t.Error(wrong)
	}
}

// TestAllMistakesInAFileAreFoundAtOnce in the order of its lines.
func TestAllMistakesInAFileAreFoundAtOnce(t *testing.T) {
	_, file, wrong := Read("proxy.yaml", []byte("listners: []\ntimeouts: {idle: 1, drain: x}\nlog: {level: [], levl: a}\nclusters: {a: 1}\n"), testEnv)
	var places []string
	for _, e := range wrong {
		places = append(places, regexp.MustCompile(`^proxy.yaml:(\d+:\d+)`).FindStringSubmatch(file.Text(e))[1])
	}
	if got := strings.Join(places, " "); got != "1:1 2:18 2:28 3:14 3:18 4:15" {
		t.Errorf("at %s: %v", got, wrong)
	}
}

func TestWhatIsWrongIsShown(t *testing.T) {
	text := "log: {}\nclusters:\n  orders: {sni-suffix: a..b, upstream: [x]}\nlisteners: [{bind: x}]\n"
	c, file, wrong := Read("proxy.yaml", []byte(text), testEnv)
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
	invalid, _ := c.Validate()
	got := map[string]string{}
	for _, e := range invalid {
		place, rest, _ := strings.Cut(file.Text(e), ": ")
		got[place] = rest
	}
	want := "clusters.orders.sni-suffix: \"a..b\" is not a domain name, such as kafka.example.com\n" +
		"      |   orders: {sni-suffix: a..b, upstream: [x]}\n      |            ^"
	if got["proxy.yaml:3:12"] != want {
		t.Errorf("%q", got)
	}
	if !strings.Contains(got["proxy.yaml:4:13"], "listeners[0].certificates: required") { // shown where it belongs
		t.Errorf("%q", got)
	}
}

func TestLongLinesAreCut(t *testing.T) {
	got := excerpt(strings.Repeat("ä", 300)+"\xff", 250)
	lines := strings.Split(got, "\n")
	if len([]rune(lines[0])) > 150 || []rune(lines[1])[len([]rune(lines[1]))-1] != '^' {
		t.Errorf("%s", got)
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	c := mustRead(t, "clusters: {a: {sni-suffix: a.example, upstream: [x:1], via: 'socks5://u:p4ss@g:1'}}\nlisteners: [{bind: ':1', certificates: [{cert: c, key: k}]}]\n")
	shown, err := c.Show()
	for _, text := range []string{string(shown), fmt.Sprint(c.Clusters["a"].Via), fmt.Sprintf("%v %+v %#v", *c.Clusters["a"], *c.Clusters["a"], *c.Clusters["a"])} {
		if strings.Contains(text, "p4ss") || err != nil {
			t.Errorf("%v: %s", err, text)
		}
	}
	c.Clusters["a"].Via = "ftp://u:p4ss@g:1"
	if wrong, _ := c.Validate(); len(wrong) != 1 || strings.Contains(wrong.Error(), "p4ss") {
		t.Error(wrong)
	}
}

// TestWhatIsShownMeansTheSame for what Short writes, too.
func TestWhatIsShownMeansTheSame(t *testing.T) {
	for _, text := range append(examples(t, guideFile), "listeners: [{bind: ':1', plaintext: true, ports: {cluster: a, brokers: 2-3, advertised-host: h}}]\nclusters: {a: {upstream: [x:1]}}\ntimeouts: {tcp-user: 0s, drain: 0s}\n") {
		c, _, wrong := Read("x.yaml", []byte(text), anyEnv)
		invalid, _ := c.Validate()
		if len(wrong)+len(invalid) > 0 {
			t.Fatal(wrong, invalid)
		}
		for _, cl := range c.Clusters {
			cl.Via = "" // which is not shown
		}
		short, err := c.Short()
		if err != nil {
			t.Fatal(err)
		}
		if again := mustRead(t, string(short)); !reflect.DeepEqual(normal(t, again), normal(t, c)) {
			t.Errorf("%s\nis read as another configuration than\n%s", short, text)
		}
		full, err := c.Show()
		if err != nil {
			t.Fatal(err)
		}
		again := mustRead(t, string(full))
		if wrong, _ := again.Validate(); len(wrong) > 0 {
			t.Errorf("%v in\n%s", wrong, full)
		}
		if second, err := again.Show(); err != nil || string(second) != string(full) {
			t.Errorf("shown as\n%s\nand then as\n%s", full, second)
		}
	}
}

// normal is a configuration as it is in force.
func normal(t *testing.T, c *Config) string {
	t.Helper()
	if wrong, _ := c.Validate(); len(wrong) > 0 {
		t.Fatal(wrong)
	}
	text, err := c.Show()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestManyClustersAreReadAndCheckedFast(t *testing.T) {
	var b strings.Builder
	b.WriteString("listeners: [{bind: ':9092', certificates: [{cert: c, key: k}]}]\nclusters:\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "  c%[1]d: {names: {bootstrap: c%[1]d.kafka.example, broker: 'b{id}-c%[1]d.kafka.example'}, upstream: ['b%[1]d.up:9092']}\n", i)
	}
	c, _, wrong := Read("x.yaml", []byte(b.String()), testEnv)
	invalid, warnings := c.Validate()
	if len(wrong)+len(invalid)+len(warnings) > 0 || len(c.Clusters) != 1000 {
		t.Error(wrong, invalid, warnings)
	}
}

func BenchmarkReadAThousandClusters(b *testing.B) {
	var text strings.Builder
	text.WriteString("listeners: [{bind: ':9092', certificates: [{cert: c, key: k}]}]\nclusters:\n")
	for i := range 1000 {
		fmt.Fprintf(&text, "  c%[1]d: {names: {bootstrap: c%[1]d.kafka.example, broker: 'b{id}-c%[1]d.kafka.example'}, upstream: ['b%[1]d.up:9092']}\n", i)
	}
	for b.Loop() {
		c, _, _ := Read("x.yaml", []byte(text.String()), testEnv)
		c.Validate()
	}
}

// FuzzRead has no file end the program, each mistake have a place in the file, and what reads
// without one be shown and read again.
func FuzzRead(f *testing.F) {
	for _, text := range []string{
		"listeners: [{bind: ':1', certificates: [{cert: c, key: k}]}]\nclusters: {a: {sni-suffix: a.example, upstream: [x:1]}}\n",
		"x-a: &a {cert: c}\nlisteners: [{certificates: [{<<: *a, key: k}]}]\n", "log: {level: '${PORT}'}\n", "a: [b", "log: *x\n", "log: &l {<<: *l}\n", "\"\\u0000\": 1\n",
		"listeners: [{bind: ':9192', plaintext: true, ports: {cluster: a, brokers: 9193-9194, advertised-host: h}, proxy-protocol: {from: [10.0.0.0/8]}}]\nclusters: {a: {upstream: [x:1], via: 'file:/secret', targets: {b: {upstream: [c:1]}}, active: b}}\n",
	} {
		f.Add([]byte(text))
	}
	place := regexp.MustCompile(`^f.yaml:(\d+):(\d+): `)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, file, wrong := Read("f.yaml", data, testEnv)
		lines := strings.Count(string(data), "\n") + 1
		for _, e := range wrong {
			m := place.FindStringSubmatch(file.Text(e))
			if m == nil {
				t.Fatalf("no place: %s", file.Text(e))
			}
			if line, err := strconv.Atoi(m[1]); err != nil || line < 1 || line > lines {
				t.Fatalf("line %s of %d: %s", m[1], lines, file.Text(e))
			}
		}
		invalid, warnings := c.Validate()
		for _, e := range append(invalid, warnings...) {
			file.Text(e)
		}
		shown, err := c.Show()
		if err != nil {
			t.Fatal(err)
		}
		if len(wrong)+len(invalid) > 0 {
			return
		}
		if _, _, wrong := Read("again.yaml", shown, testEnv); len(wrong) > 0 {
			for _, e := range wrong {
				if !strings.Contains(e.Error(), "environment variable") { // a name that looks like one
					t.Fatalf("%v in\n%s", errors.New(e.Error()), shown)
				}
			}
		}
	})
}
