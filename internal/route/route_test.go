package route

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

func table(t testing.TB, rule string) (*Table, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	c := Config{
		Suffix:    "Kafka.Example.",
		Upstreams: []Address{{"boot1.up", 9092}, {"boot2.up", 9093}},
		Log:       slog.New(slog.NewTextHandler(log, nil)),
	}
	if rule != "" {
		r, err := ParseRule(rule)
		if err != nil {
			t.Fatal(err)
		}
		c.Rule = r
	}
	tab, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return tab, log
}

func learn(t testing.TB, tab *Table, node int32, host, want string) {
	t.Helper()
	name := tab.Learn(node, []byte(host), 9092)
	if name != want {
		t.Fatalf("Learn(%d, %s) = %s, want %s", node, host, name, want)
	}
}

// resolves returns the host that a name leads to, or what it is instead.
func resolves(tab *Table, name string) string {
	r, err := tab.Resolve(name)
	switch {
	case err != nil:
		return "unknown"
	case r.Kind != Broker:
		return r.Kind.String()
	}
	return r.Addresses[0].Host
}

func TestBootstrapNameLeadsToEveryUpstreamInOrder(t *testing.T) {
	tab, _ := table(t, "")
	for _, sni := range []string{"bootstrap.kafka.example", "BOOTSTRAP.Kafka.Example", "bootstrap.kafka.example."} {
		r, err := tab.Resolve(sni)
		if err != nil || r.Kind != Bootstrap || len(r.Addresses) != 2 || r.Addresses[0].Host != "boot1.up" {
			t.Errorf("Resolve(%q) = %+v, %v", sni, r, err)
		}
	}
}

func TestLearnedBrokerIsResolvedAndFollowedWhenItMoves(t *testing.T) {
	tab, log := table(t, "")
	r, err := tab.Resolve("b3.kafka.example")
	if err != nil || r.Kind != Provisional {
		t.Fatalf("before learning: %+v, %v", r, err)
	}
	learn(t, tab, 3, "x3.up", "b3.kafka.example")
	learn(t, tab, 3, "x3.up", "b3.kafka.example")
	r, err = tab.Resolve("B3.kafka.example.")
	if err != nil || r.Kind != Broker || r.Addresses[0] != (Address{"x3.up", 9092}) {
		t.Fatalf("after learning: %+v, %v", r, err)
	}
	learn(t, tab, 3, "y3.up", "b3.kafka.example")
	if r, _ = tab.Resolve("b3.kafka.example"); r.Addresses[0].Host != "y3.up" {
		t.Fatalf("after the move: %+v", r)
	}
	if got := strings.Count(log.String(), "\n"); got != 2 {
		t.Errorf("%d log lines for one new broker and one move, want 2:\n%s", got, log)
	}
	if tab.Known() != 1 || len(tab.Entries()) != 1 {
		t.Errorf("Known = %d, Entries = %v", tab.Known(), tab.Entries())
	}
}

func TestNamesNotServedAreRefusedWithWhatIs(t *testing.T) {
	tab, _ := table(t, "")
	for _, sni := range []string{"", "kafka.example", "bootstrap.other.example", "b1.kafka.example.evil.com", ".kafka.example", "b 1.kafka.example", "notkafka.example"} {
		_, err := tab.Resolve(sni)
		if err == nil || !strings.Contains(err.Error(), "bootstrap.kafka.example") {
			t.Errorf("Resolve(%q) error = %v", sni, err)
		}
	}
}

func TestRuleNamesBrokers(t *testing.T) {
	tab, log := table(t, `^(\w+)-lkc\.(\w+)\.up$::$1-${2}.kafka.example`)
	learn(t, tab, 1, "b1-lkc.aws.up", "b1-aws.kafka.example")
	learn(t, tab, 2, "unrelated.up", "b2.kafka.example")
	if strings.Count(log.String(), "WARN") != 1 {
		t.Errorf("only the host that the rule does not match is warned about:\n%s", log)
	}
	if got := resolves(tab, "b1-aws.kafka.example"); got != "b1-lkc.aws.up" {
		t.Errorf("resolves to %s", got)
	}
}

func TestRuleReplacesTheFirstMatchOnly(t *testing.T) {
	tab, _ := table(t, `up::kafka.example`)
	learn(t, tab, 1, "b1.up", "b1.kafka.example")
	tab, _ = table(t, `a::x`)
	learn(t, tab, 1, "banana.kafka.example", "bxnana.kafka.example")
}

func TestBrokersNeverShareAName(t *testing.T) {
	tab, log := table(t, `^.*$::all.kafka.example`)
	learn(t, tab, 1, "x1.up", "all.kafka.example")
	learn(t, tab, 2, "x2.up", "b2.kafka.example")
	learn(t, tab, 2, "x2.up", "b2.kafka.example")
	if got := strings.Count(log.String(), "already taken"); got != 1 {
		t.Errorf("%d warnings, want 1:\n%s", got, log)
	}

	// Hosts counted from one, ids from zero, and one host the rule misses.
	tab, _ = table(t, `^kafka-(\d+)\.up$::b$1.kafka.example`)
	learn(t, tab, 0, "kafka-1.up", "b1.kafka.example")
	learn(t, tab, 1, "other.up", "b1-2.kafka.example")

	tab, _ = table(t, `^.*$::Bootstrap.kafka.example`)
	learn(t, tab, 1, "x1.up", "b1.kafka.example")
}

func TestRuleResultsThatNeedAttentionAreWarnedAbout(t *testing.T) {
	tab, log := table(t, `\.up$::.elsewhere.example`)
	learn(t, tab, 1, "b1.up", "b1.elsewhere.example")
	if !strings.Contains(log.String(), "outside the SNI suffix") {
		t.Errorf("no warning:\n%s", log)
	}
	tab, log = table(t, `\.up$::..`)
	learn(t, tab, 1, "b1.up", "b1.kafka.example")
	if !strings.Contains(log.String(), "not a host name") {
		t.Errorf("no warning:\n%s", log)
	}
}

func TestParseRule(t *testing.T) {
	for rule, want := range map[string]string{
		"nothing":         `no "::"`,
		"::x":             `nothing before "::"`,
		"(::x":            "missing closing )",
		"a(b)::$2":        "group 2",
		"a(b)::$1x.c":     `named "1x"`,
		"a(?P<n>b)::${m}": `named "m"`,
	} {
		if _, err := ParseRule(rule); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseRule(%q) error = %v, want %q", rule, err, want)
		}
	}
	for _, rule := range []string{`a::`, `[[:alpha:]]+::x`, `a(?P<n>b)::$n-$$-$1`, `a::b::c`} {
		if _, err := ParseRule(rule); err != nil {
			t.Errorf("ParseRule(%q): %v", rule, err)
		}
	}
}

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]Address{
		"h:1":          {"h", 1},
		"[::1]:9092":   {"::1", 9092},
		"a.b.c.d:9092": {"a.b.c.d", 9092},
	} {
		got, err := ParseAddress(in)
		if err != nil || got != want || got.String() != in {
			t.Errorf("ParseAddress(%q) = %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "h", "h:", ":1", "h:0", "h:65536", "h:x", "::1:9092"} {
		if a, err := ParseAddress(in); err == nil {
			t.Errorf("ParseAddress(%q) = %v, want an error", in, a)
		}
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	up := []Address{{"h", 1}}
	for _, c := range []Config{
		{Suffix: "", Upstreams: up},
		{Suffix: "a..b", Upstreams: up},
		{Suffix: "*.b", Upstreams: up},
		{Suffix: "a.b"},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("New(%+v) succeeded", c)
		}
	}
}

func TestLearningTogetherGivesOneNamePerBroker(t *testing.T) {
	tab, _ := table(t, "")
	learned := map[string]int{} // calls are one at a time
	tab.OnLearn(func(_ int32, name string, _ Address) { learned[name]++ })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for node := range int32(1000) {
				host := fmt.Appendf(nil, "x%d.up", node)
				name := tab.Learn(node, host, 9092)
				if r, err := tab.Resolve(name); err != nil || r.Addresses[0].Host != string(host) {
					t.Errorf("Resolve(%s) = %+v, %v", name, r, err)
				}
			}
		})
	}
	wg.Wait()
	if tab.Known() != 1000 || len(learned) != 1000 {
		t.Errorf("Known = %d, announced %d, want 1000", tab.Known(), len(learned))
	}
	for name, n := range learned {
		if n != 1 {
			t.Errorf("%s announced %d times", name, n)
		}
	}
}

func BenchmarkLearnKnown(b *testing.B) {
	tab, _ := table(b, "")
	hosts := make([][]byte, 10_000)
	for i := range hosts {
		hosts[i] = fmt.Appendf(nil, "lkc-abcde-%04d.eu-west-1.aws.glb.up", i)
		tab.Learn(int32(i), hosts[i], 9092)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		n := i % len(hosts)
		tab.Learn(int32(n), hosts[n], 9092)
	}
}
