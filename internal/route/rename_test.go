package route

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const hostRule = `^(\w+)\.up$::$1.kafka.example`

func TestANewHostGivesANewNameAndTheOldOnesStayAliases(t *testing.T) {
	tab, log := table(t, hostRule)
	for n := range maxAliases + 2 {
		learn(t, tab, 1, fmt.Sprintf("x%d.up", n), fmt.Sprintf("x%d.kafka.example", n))
	}
	newest := fmt.Sprintf("x%d.up", maxAliases+1)
	for n := range maxAliases + 2 {
		want := newest
		if n == 0 { // the oldest was dropped
			want = "provisional"
		}
		if got := resolves(tab, fmt.Sprintf("x%d.kafka.example", n)); got != want {
			t.Errorf("x%d leads to %s, want %s", n, got, want)
		}
	}
	if n := strings.Count(log.String(), `msg="broker renamed"`); n != maxAliases+1 {
		t.Errorf("%d lines, want %d:\n%s", n, maxAliases+1, log)
	}

	learn(t, tab, 1, "x2.up", "x2.kafka.example") // an alias comes back
	if e := tab.Entries()[0]; slices.Contains(e.Aliases, e.Name) || len(e.Aliases) != maxAliases {
		t.Errorf("%+v", e)
	}
}

func TestANameOfTheRuleTakesThePlaceOfTheDefaultOne(t *testing.T) {
	tab, _ := table(t, hostRule)
	learn(t, tab, 1, "10.0.0.1", "b1.kafka.example")
	learn(t, tab, 1, "x1.up", "x1.kafka.example")
	if got := resolves(tab, "b1.kafka.example"); got != "x1.up" {
		t.Errorf("b1 leads to %s", got)
	}
}

func TestAnAliasGivesWayToABrokerThatGetsTheName(t *testing.T) {
	tab, _ := table(t, hostRule)
	learn(t, tab, 1, "x1.up", "x1.kafka.example")
	learn(t, tab, 1, "y1.up", "y1.kafka.example")
	learn(t, tab, 2, "x1.up", "x1.kafka.example")
	if got := resolves(tab, "x1.kafka.example"); got != "x1.up" {
		t.Errorf("x1 leads to %s", got)
	}
	for _, e := range tab.Entries() {
		if len(e.Aliases) > 0 {
			t.Errorf("%+v", e)
		}
	}
}

// Brokers that exchange their hosts have the names of the rule after two
// responses, and never one name together.
func TestBrokersThatExchangeTheirHostsExchangeTheirNames(t *testing.T) {
	tab, _ := table(t, hostRule)
	learn(t, tab, 1, "x1.up", "x1.kafka.example")
	learn(t, tab, 2, "x2.up", "x2.kafka.example")
	learn(t, tab, 1, "x2.up", "b1.kafka.example")
	learn(t, tab, 2, "x1.up", "x1.kafka.example")
	if name := tab.Name(1, []byte("x2.up")); name != "x2.kafka.example" {
		t.Errorf("Name is %s, before it is learned", name)
	}
	var told []string
	tab.OnLearn(func(_ int32, name string, _ Address) { told = append(told, name) })
	learn(t, tab, 1, "x2.up", "x2.kafka.example")
	if fmt.Sprint(told) != "[x2.kafka.example b1.kafka.example]" {
		t.Errorf("told %v", told)
	}
	for name, want := range map[string]string{"x1": "x1.up", "x2": "x2.up", "b1": "x2.up"} {
		if got := resolves(tab, name+".kafka.example"); got != want {
			t.Errorf("%s leads to %s, want %s", name, got, want)
		}
	}
}

func TestTheDefaultNameLeadsToItsBrokerIfTheRuleCannotMakeIt(t *testing.T) {
	tab, _ := table(t, `^(\w+)\.up$::$1-x.kafka.example`)
	var told []string
	tab.OnLearn(func(_ int32, name string, _ Address) { told = append(told, name) })
	learn(t, tab, 1, "a.up", "a-x.kafka.example")
	if fmt.Sprint(told) != "[a-x.kafka.example b1.kafka.example]" { // somebody may wait at b1
		t.Errorf("told %v", told)
	}
	if got := resolves(tab, "b1.kafka.example"); got != "a.up" {
		t.Errorf("b1 leads to %s", got)
	}
	if got := resolves(tab, "b2.kafka.example"); got != "provisional" {
		t.Errorf("b2 is %s", got)
	}
	tab, _ = table(t, hostRule)
	learn(t, tab, 1, "a.up", "a.kafka.example")
	if got := resolves(tab, "b1.kafka.example"); got != "provisional" {
		t.Errorf("b1, which the rule can make, leads to %s", got)
	}
}

func TestCollisionsCostNothingWhenTheyAreKnown(t *testing.T) {
	tab, _ := table(t, `^.*$::all.kafka.example`)
	learn(t, tab, 1, "x1.up", "all.kafka.example")
	learn(t, tab, 2, "x2.up", "b2.kafka.example")
	host := []byte("x2.up")
	tab.mu.Lock()
	defer tab.mu.Unlock()
	if n := testing.AllocsPerRun(10, func() { tab.Learn(2, host, 9092) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestACollisionThatWasRestoredIsWarnedAboutOnce(t *testing.T) {
	const rule = `^.*$::all.kafka.example`
	tab, _ := table(t, rule)
	learn(t, tab, 1, "x1.up", "all.kafka.example")
	learn(t, tab, 2, "x2.up", "b2.kafka.example")
	again, log := load(t, save(t, tab), rule)
	learn(t, again, 2, "x2.up", "b2.kafka.example")
	if n := strings.Count(log.String(), "already taken"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, log)
	}
}

func TestNameSaysWhatLearnWouldAndStoresNothing(t *testing.T) {
	tab, log := table(t, hostRule)
	learn(t, tab, 1, "x1.up", "x1.kafka.example")
	logged := log.Len()
	for _, host := range []string{"x1.up", "y1.up", "x1.elsewhere"} {
		for node := range int32(3) {
			name := tab.Name(node, []byte(host))
			fresh, _ := table(t, hostRule)
			learn(t, fresh, 1, "x1.up", "x1.kafka.example")
			if want := fresh.Learn(node, []byte(host), 9092); name != want {
				t.Errorf("Name(%d, %s) = %s, want %s", node, host, name, want)
			}
		}
	}
	if tab.Known() != 1 || log.Len() != logged || tab.Unmatched() != 0 || resolves(tab, "y1.kafka.example") != "provisional" {
		t.Errorf("%d brokers known, log:\n%s", tab.Known(), log)
	}
}

func TestAHostThatEndsWithADotIsMatched(t *testing.T) {
	tab, _ := table(t, hostRule)
	learn(t, tab, 1, "x1.up.", "x1.kafka.example")
	if got := resolves(tab, "x1.kafka.example"); got != "x1.up." {
		t.Errorf("it is dialled as %s", got)
	}
}

func TestHostsThatTheRuleDoesNotMatchAreWarnedAboutOnceAndCounted(t *testing.T) {
	tab, log := table(t, hostRule)
	check := func(warnings, unmatched int, matched bool) {
		t.Helper()
		if got := strings.Count(log.String(), "does not match"); got != warnings {
			t.Errorf("%d warnings, want %d:\n%s", got, warnings, log)
		}
		if tab.Unmatched() != unmatched || tab.RuleMatched() != matched {
			t.Errorf("unmatched %d, rule matched: %v; want %d, %v", tab.Unmatched(), tab.RuleMatched(), unmatched, matched)
		}
	}
	check(0, 0, false)
	learn(t, tab, 1, "x-1.up", "b1.kafka.example")
	check(1, 1, false)
	if line := log.String(); !strings.Contains(line, "level=WARN") || !strings.Contains(line, "upstream=x-1.up") || !strings.Contains(line, `rule=^(\w+)`) || !strings.Contains(line, "name=b1.kafka.example") {
		t.Errorf("the warning: %s", line)
	}
	learn(t, tab, 1, "x-2.up", "b1.kafka.example")
	check(1, 1, false)
	learn(t, tab, 2, "x-2.up", "b2.kafka.example")
	check(2, 2, false)
	learn(t, tab, 1, "x1.up", "x1.kafka.example")
	check(2, 1, true)
	learn(t, tab, 1, "x-1.up", "b1.kafka.example")
	check(2, 2, true)
	path := save(t, tab)
	tab.SetClusterID("one")
	tab.SetClusterID("two")
	check(2, 0, false)
	again, _ := load(t, path, hostRule)
	if again.Unmatched() != 2 || again.RuleMatched() {
		t.Errorf("restored: unmatched %d, rule matched: %v", again.Unmatched(), again.RuleMatched())
	}
}

func TestTheTableIsBoundedAndSaysSoOnce(t *testing.T) {
	tab, log := table(t, "")
	for node := range int32(maxBrokers + 10) {
		name := tab.Learn(node, []byte("x.up"), 9092)
		if want := fmt.Sprintf("b%d.kafka.example", node); name != want {
			t.Fatalf("broker %d is %s", node, name)
		}
	}
	if tab.Known() != maxBrokers || tab.Refused() != 10 {
		t.Errorf("%d known, %d refused", tab.Known(), tab.Refused())
	}
	if n := strings.Count(log.String(), "is full"); n != 1 {
		t.Errorf("%d warnings", n)
	}
	if n := strings.Count(log.String(), "\n"); n != maxLines+1 {
		t.Errorf("%d lines", n)
	}
	if got := resolves(tab, fmt.Sprintf("b%d.kafka.example", maxBrokers)); got != "provisional" {
		t.Errorf("one that is not stored is %s", got)
	}
	path := save(t, tab)
	learn(t, tab, 0, "y.up", "b0.kafka.example") // one that is stored is followed
	if got := resolves(tab, "b0.kafka.example"); got != "y.up" {
		t.Errorf("b0 leads to %s", got)
	}

	// A file of a version without the bound.
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	more := `"brokers": [ {"node": 20000, "name": "b20000.kafka.example", "host": "x.up", "port": 1},`
	if err := os.WriteFile(path, []byte(strings.Replace(string(data), `"brokers": [`, more, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, _ := load(t, path, ""); again.Known() != maxBrokers || again.Refused() != 1 {
		t.Errorf("from a file: %d known, %d refused", again.Known(), again.Refused())
	}

	tab.SetClusterID("one")
	tab.SetClusterID("two")
	for node := range int32(maxBrokers + 1) {
		tab.Learn(node, []byte("x.up"), 9092)
	}
	if n := strings.Count(log.String(), "is full"); n != 2 {
		t.Errorf("%d warnings after the table was emptied and full again", n)
	}
}

func TestWhatCannotBeABrokerIsNamedAndNotStored(t *testing.T) {
	tab, _ := table(t, hostRule)
	long := strings.Repeat("a", maxName+1)
	learn(t, tab, 1, long, "b1.kafka.example")
	learn(t, tab, -1, "x.up", "b-1.kafka.example")
	if tab.Known() != 0 || tab.Refused() != 2 {
		t.Errorf("%d known, %d refused", tab.Known(), tab.Refused())
	}
	learn(t, tab, 1, "x1.up", "x1.kafka.example")
	learn(t, tab, 1, long, "x1.kafka.example")
	if name := tab.Name(1, []byte(long)); name != "x1.kafka.example" || resolves(tab, name) != "x1.up" {
		t.Errorf("Name = %s, which leads to %s", name, resolves(tab, name))
	}
}

// Hosts made up so that the rule gives all default names of a broker.
func TestABrokerWhoseNamesAreAllTakenIsNotStored(t *testing.T) {
	tab, _ := table(t, `^([^.]+)\.up$::$1.kafka.example`)
	tab.Learn(1000, []byte("b5.up"), 9092)
	for n := int32(2); n <= maxCollisions; n++ {
		tab.Learn(1000+n, fmt.Appendf(nil, "b5-%d.up", n), 9092)
	}
	known := tab.Known()
	if name := tab.Learn(5, []byte("other"), 9092); tab.Known() != known || !strings.HasPrefix(name, "b5-") {
		t.Errorf("it is %s, and %d are known", name, tab.Known())
	}
}

func TestManyBrokersAreOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &bytes.Buffer{}
		tab, _ := table(t, "")
		tab.log = slog.New(slog.NewTextHandler(log, nil))
		for range 2 {
			log.Reset()
			for node := range int32(maxLines + 4711) {
				tab.Learn(node, []byte("x.up"), 9092)
			}
			tab.mu.Lock()
			tab.forget()
			tab.mu.Unlock()
			time.Sleep(linePeriod) // in the bubble, which has a clock of its own
			synctest.Wait()
			if got := strings.Count(log.String(), `msg="learned broker"`); got != maxLines {
				t.Errorf("%d lines, want %d", got, maxLines)
			}
			if got := strings.Count(log.String(), `level=INFO msg="learned more brokers" count=4711`); got != 1 {
				t.Errorf("%d lines that count the rest:\n%s", got, log)
			}
		}
		log.Reset()
		tab.Learn(1, []byte("x.up"), 9092)
		time.Sleep(linePeriod) // in the bubble, which has a clock of its own
		synctest.Wait()
		if got := strings.Count(log.String(), "\n"); got != 1 {
			t.Errorf("one broker: %s", log)
		}
	})
}

func TestAliasesAndTheClusterIDOutliveTheProgram(t *testing.T) {
	tab, _ := table(t, hostRule)
	tab.SetClusterID("Zm9v")
	learn(t, tab, 1, "x1.up", "x1.kafka.example")
	learn(t, tab, 1, "y1.up", "y1.kafka.example")
	path := save(t, tab)
	again, _ := load(t, path, hostRule)
	if again.ClusterID() != "Zm9v" || resolves(again, "x1.kafka.example") != "y1.up" {
		t.Errorf("cluster %q, x1 leads to %s", again.ClusterID(), resolves(again, "x1.kafka.example"))
	}
	learn(t, again, 1, "z1.up", "z1.kafka.example")
	if got := resolves(again, "x1.kafka.example"); got != "z1.up" {
		t.Errorf("x1 leads to %s", got)
	}

	// As the version before wrote it.
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	old := strings.Replace(string(data), `"cluster-id": "Zm9v",`, "", 1)
	before, rest, _ := strings.Cut(old, `"aliases": [`)
	_, after, _ := strings.Cut(rest, "],")
	if err := os.WriteFile(path, []byte(before+after), 0o600); err != nil {
		t.Fatal(err)
	}
	again, log := load(t, path, hostRule)
	if again.ClusterID() != "" || again.Known() != 1 || strings.Contains(log.String(), "set aside") {
		t.Errorf("cluster %q, %d known:\n%s", again.ClusterID(), again.Known(), log)
	}
}

func TestTheFirstClusterIDLeavesRoutesToBeConfirmedAndAnotherForgetsThem(t *testing.T) {
	tab, log := table(t, hostRule)
	learn(t, tab, 1, "x1.up", "x1.kafka.example")
	learn(t, tab, 1, "y1.up", "y1.kafka.example")
	<-tab.Changed()
	for _, none := range []string{"", strings.Repeat("a", maxClusterID+1), "\xff"} {
		if tab.SetClusterID(none); tab.ClusterID() != "" {
			t.Errorf("cluster %q", tab.ClusterID())
		}
	}
	confirmed := func() bool { r, _ := tab.Resolve("y1.kafka.example"); return r.Confirmed }
	if !confirmed() {
		t.Error("no id makes no route doubtful")
	}
	tab.SetClusterID("one")
	<-tab.Changed()
	if confirmed() {
		t.Error("nobody knows which cluster told this route")
	}
	var told []string
	tab.OnLearn(func(_ int32, name string, a Address) { told = append(told, name+" "+a.Host) })
	learn(t, tab, 1, "y1.up", "y1.kafka.example")
	if !confirmed() || fmt.Sprint(told) != "[y1.kafka.example y1.up x1.kafka.example y1.up]" {
		t.Errorf("told %v", told)
	}
	tab.SetClusterID("one")
	if !confirmed() {
		t.Error("the same id changes nothing")
	}
	logged := log.Len()
	tab.SetClusterID("two")
	if line := log.String()[logged:]; strings.Count(line, "\n") != 1 || !strings.Contains(line, "level=WARN") || !strings.Contains(line, "cluster_id=two was=one") {
		t.Errorf("log: %s", line)
	}
	if tab.Known() != 0 || resolves(tab, "y1.kafka.example") != "provisional" || resolves(tab, "x1.kafka.example") != "provisional" || tab.ClusterID() != "two" || tab.RuleMatched() {
		t.Errorf("%d known, cluster %q", tab.Known(), tab.ClusterID())
	}
	learn(t, tab, 2, "x1.up", "x1.kafka.example")
}

// What a file may hold is bounded like what a response may tell.
func TestFilesWithMoreThanIsKeptAreCutOrSetAside(t *testing.T) {
	tab, _ := table(t, hostRule)
	learn(t, tab, 1, "x1.up", "x1.kafka.example")
	learn(t, tab, 1, "y1.up", "y1.kafka.example")
	path := save(t, tab)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, problem string }{
		{`"x1.kafka.example"`, `"a.b", "b.b", "c.b", "d.b", "e.b"`, ""},
		{`"x1.kafka.example"`, `"y1.kafka.example"`, "twice"},
		{`"x1.kafka.example"`, `"x 1"`, "not a name"},
		{`"node": 1`, `"node": -1`, "is none"},
		{`"y1.up"`, `"` + strings.Repeat("a", maxName+1) + `"`, "no address"},
		{`"brokers"`, `"cluster-id": "` + strings.Repeat("a", maxClusterID+1) + `", "brokers"`, "cluster id"},
	} {
		if err := os.WriteFile(path, []byte(strings.Replace(string(data), c.old, c.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		again, log := load(t, path, hostRule)
		if c.problem == "" {
			if e := again.Entries(); len(e) != 1 || fmt.Sprint(e[0].Aliases) != "[b.b c.b d.b e.b]" {
				t.Errorf("%+v", e)
			}
		} else if again.Known() != 0 || !strings.Contains(log.String(), c.problem) {
			t.Errorf("%d known, want %q: %s", again.Known(), c.problem, log)
		}
	}
}

// The listener may use the table, and is told everything in order although it
// is called with no lock held.
func TestTheListenerIsToldInOrderWithNoLockHeld(t *testing.T) {
	tab, _ := table(t, hostRule)
	var told []string
	tab.OnLearn(func(_ int32, name string, a Address) {
		if told = append(told, name); name == "a.kafka.example" {
			tab.Learn(2, []byte("b.up"), 9092)
			tab.Learn(3, []byte("c.up"), 9092)
			tab.SetClusterID("one")
		}
		if got := resolves(tab, name); got != a.Host {
			t.Errorf("%s leads to %s, told %s", name, got, a.Host)
		}
	})
	learn(t, tab, 1, "a.up", "a.kafka.example")
	if got := strings.Join(told, " "); got != "a.kafka.example b.kafka.example c.kafka.example" {
		t.Errorf("told %s", got)
	}

	tab.OnLearn(func(int32, string, Address) { panic("listener") })
	func() {
		defer func() { recover() }()
		tab.Learn(4, []byte("d.up"), 9092)
	}()
	told = nil
	tab.OnLearn(func(_ int32, name string, _ Address) { told = append(told, name) })
	learn(t, tab, 5, "e.up", "e.kafka.example")
	if len(told) != 1 {
		t.Errorf("after a panic: told %v", told)
	}
}
