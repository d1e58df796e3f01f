package route

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestOnlyNamesThatABrokerCanHaveAreServed(t *testing.T) {
	tab, _ := table(t, "")
	for name, want := range map[string]string{
		"b0": "provisional", "B7": "provisional", "b2147483647": "provisional",
		"b": "unknown", "b07": "unknown", "b00": "unknown", "b2147483648": "unknown", "b99999999999": "unknown", "b+1": "unknown",
		"b-1": "unknown", "b1-2": "unknown", "bootsrap": "unknown", "foo": "unknown", "a.b1": "unknown", "b1.b1": "unknown",
	} {
		if got := resolves(tab, name+".kafka.example"); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

func TestWithARuleItsNamesAndTheDefaultOnesAreServed(t *testing.T) {
	tab, _ := table(t, `^([A-Z]+\d+)(?:-lkc)?\.(\w+\b)\.up$::${1}-${2}.kafka.example`)
	for name, want := range map[string]string{
		"b1-aws": "provisional", "b1": "provisional", "b1-2": "provisional", "b1-100": "provisional",
		"b1-1a": "provisional", "1-aws": "unknown", "b1-101.x": "unknown", "bootsrap": "unknown", "b1-a.b": "unknown",
		"b01": "unknown", "b-2": "unknown", "b1--2": "unknown",
	} {
		if got := resolves(tab, name+".kafka.example"); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	fixed, _ := table(t, `^(x)\.up$::$1.kafka.example`)
	for name, want := range map[string]string{
		"x": "provisional", "b1-2": "provisional", "b1-100": "provisional", "b1-1": "unknown", "b1-101": "unknown", "b1-02": "unknown", "y": "unknown",
	} {
		if got := resolves(fixed, name+".kafka.example"); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	tab.covers = func(name string) bool { return !strings.HasSuffix(name, "-aws.kafka.example") }
	if got := resolves(tab, "b1-aws.kafka.example"); got != "unknown" {
		t.Errorf("a name that the certificate does not cover is %s", got)
	}
	tab.covers = func(string) bool { return false } // clients do not check names
	if got := resolves(tab, "b1-aws.kafka.example"); got != "provisional" {
		t.Errorf("with a certificate that covers nothing it is %s", got)
	}
}

func TestNamesOutsideTheSuffixAreServedIfRuleAndCertificateHaveThem(t *testing.T) {
	tab, _ := table(t, `^(.*)\.up$::$1.elsewhere.example`)
	if got := resolves(tab, "b1.elsewhere.example"); got != "unknown" {
		t.Errorf("without a certificate to ask it is %s", got)
	}
	tab.covers = func(name string) bool { return !strings.HasPrefix(name, "b2.") }
	for name, want := range map[string]string{
		"b1.elsewhere.example": "provisional", "b2.elsewhere.example": "unknown", "b1.elsewhere.test": "unknown",
	} {
		if got := resolves(tab, name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

// TestANameThatTheRuleGivesIsNeverRefused makes rules, hosts and names at random.
func TestANameThatTheRuleGivesIsNeverRefused(t *testing.T) {
	patterns := []string{
		`^([^.]+)\.(.*)$`, `(\w+)-(\d*)`, `(?i)^B(\d+)(x)?`, `([^k])(.)`, `(\b\w)(\w\b)`, `([A-C]{2,3})(?:-)(i+)?$`, `^((a|B)+)(\.|$)`,
		`(?m)^(a)|(b)$`, `(İ|K|x)(.?)`, `([\x00-\x{10ffff}])()`, `(.*?)([.])`, `(?:^a|b$)(c*)(d*)`, `(a$|b)(^|x)`, `(\.)(up)$`, `^(AA?).*()$`,
	}
	replacements := []string{`$1`, `${2}x${1}`, `A-${1}.kafka.example.`, `$$`, `$0-$0`, `${1}${2}`, `x`, ``, `K${2}.Kafka.Example`}
	alphabet := []rune("aAbBcCxXkKiIdup019..--İK")
	random := rand.New(rand.NewPCG(1, 2))
	names := 0
	for _, pattern := range patterns {
		for _, replacement := range replacements {
			rule, err := ParseRule(pattern + "::" + replacement)
			if err != nil {
				t.Fatal(err)
			}
			outside := rule.Outside("example") != nil
			for range 300 {
				host := make([]rune, 1+random.IntN(8))
				for i := range host {
					host[i] = alphabet[random.IntN(len(alphabet))]
				}
				result, matched := rule.apply(string(host) + ".example"[:random.IntN(2)*8])
				name := normalize(result)
				if !matched || !validName(name) {
					continue
				}
				names++
				if !rule.canMake(name) {
					t.Errorf("%s makes %q from %q, and it is said that it cannot: %v", rule, name, string(host), rule.names.pattern)
				}
				if outside && strings.HasSuffix(name, ".example") {
					t.Errorf("%s makes %q, and it is said to lead outside of example", rule, name)
				}
			}
		}
	}
	if names < 5000 {
		t.Errorf("only %d names were tried", names)
	}
}

func TestARuleTooLargeToWriteOutTwiceRefusesNothing(t *testing.T) {
	rule, err := ParseRule(`^((?:[a-z]{1,40}){1,20})\.up$::` + strings.Repeat("${1}", 5000) + "x.kafka.example")
	if err != nil {
		t.Fatal(err)
	}
	if name := strings.Repeat("a", 20) + "x.kafka.example"; !rule.canMake(name) {
		t.Errorf("%s cannot be", name)
	}
	if rule.canMake("a.kafka.test") {
		t.Error("the end of the replacement counts all the same")
	}
}

func TestRulesThatLeadOutsideTheSuffixAreKnownAtStart(t *testing.T) {
	for rule, outside := range map[string]bool{
		`^(.*)\.up$::$1.elsewhere.example`:      true,
		`^(.*)\.up$::$1.kafka.example`:          false,
		`^(.*)\.up$::$1.Kafka.Example.`:         false,
		`^(.*)\.up$::$1.notkafka.example`:       true,
		`^(.*)\.up$::${1}xkafka.example`:        true, // "." is no "x"
		`^.*\.(\w+)$::$1`:                       true, // no dot can be in it
		`^(.*)$::$1`:                            false,
		`^b(\d+)\.up::b$1.elsewhere.example`:    false, // what follows in the host is kept
		`^(?:(a)|(b)).*$::$1.kafka.exampl${2}x`: true,
		`\.up$::.elsewhere.example`:             true,
		`up$::kafka.example`:                    false,
	} {
		r, err := ParseRule(rule)
		if err != nil {
			t.Fatal(err)
		}
		err = r.Outside("Kafka.Example")
		var typed *OutsideError
		if errors.As(err, &typed) != outside || outside && !strings.Contains(err.Error(), `".kafka.example"`) {
			t.Errorf("%s: %v, want outside: %v", rule, err, outside)
		}
	}
}

func TestTheNearestKnownNameIsSuggested(t *testing.T) {
	tab, _ := table(t, `^(\w+)\.up$::${1}-pg.kafka.example`)
	learn(t, tab, 1, "alpha.up", "alpha-pg.kafka.example")
	learn(t, tab, 1, "gamma.up", "gamma-pg.kafka.example")
	for name, want := range map[string]string{
		"bootsrap.kafka.example":      "bootstrap.kafka.example",
		"BOOTSTARP.kafka.example.":    "bootstrap.kafka.example",
		"bootstrap.kafka.exmple":      "bootstrap.kafka.example",
		"alpha-gg-.kafka.example":     "alpha-pg.kafka.example", // an alias
		"gamma.pg.kafka.example":      "gamma-pg.kafka.example",
		"www.kafka.example":           "",
		"x.kafka.example":             "",
		"bootstrap.other.example":     "",
		"bootstrap.kafka.example.com": "",
	} {
		_, err := tab.Resolve(name)
		var unknown *UnknownNameError
		if !errors.As(err, &unknown) || unknown.Nearest != want {
			t.Errorf("%s: %v, want %q to be suggested", name, err, want)
		} else if want != "" && !strings.Contains(err.Error(), "did you mean "+want+"?") {
			t.Errorf("%s: %v", name, err)
		}
	}
	tab.known.Store(maxCompared + 1)
	if _, err := tab.Resolve("gamma.pg.kafka.example"); strings.Contains(err.Error(), "mean") {
		t.Errorf("in a large table: %v", err)
	}
}

func TestWhatIsTooLongToBeANameIsCut(t *testing.T) {
	tab, _ := table(t, `^(.*)$::$1.kafka.example`)
	long := strings.Repeat("A", 60<<10)
	r, err := tab.Resolve(long + ".kafka.example")
	if err == nil || len(err.Error()) > 300 || len(r.Name) > 60 || !strings.Contains(err.Error(), fmt.Sprintf("is %d bytes long", 60<<10+14)) {
		t.Errorf("route %+v, error %v", r, err)
	}
	label := strings.Repeat("a", 63) + "."
	name := strings.Repeat(label, 3) + strings.Repeat("a", 253-3*64-14) + ".kafka.example"
	for _, served := range []string{name, name + "."} {
		if got := resolves(tab, served); got != "provisional" {
			t.Errorf("a name of %d bytes is %s", len(served), got)
		}
	}
	if r, err := tab.Resolve("a" + name); err == nil || len(r.Name) > 60 {
		t.Errorf("a name of 254 bytes: %+v, %v", r, err)
	}
}
