package route

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// load returns a new table with what is in the file.
func load(t testing.TB, path, rule string) (*Table, *bytes.Buffer) {
	t.Helper()
	tab, log := table(t, rule)
	if err := tab.Load(path); err != nil {
		t.Fatal(err)
	}
	return tab, log
}

func save(t testing.TB, tab *Table) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "routes.json")
	if err := tab.Save(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNamesAndAddressesOutliveTheProgram(t *testing.T) {
	const rule = `^.*$::<all>.kafka.example` // no host name: its characters are to survive as well
	const collides = `^x\d.*$::all.kafka.example`
	for _, rule := range []string{"", rule, collides} {
		tab, _ := table(t, rule)
		for node := range int32(3) {
			tab.Learn(node, fmt.Appendf(nil, "x%d.up", node), 9092+node)
		}
		tab.Learn(7, nil, -1) // what a broker claims need not be an address
		path := save(t, tab)

		// Another order of learning would give other names.
		again, _ := load(t, path, rule)
		for node := int32(2); node >= 0; node-- {
			want := tab.Learn(node, fmt.Appendf(nil, "x%d.up", node), 9092+node)
			r, err := again.Resolve(want)
			if err != nil || r.Kind != Broker || r.Confirmed || r.Addresses[0] != (Address{fmt.Sprintf("x%d.up", node), 9092 + node}) {
				t.Errorf("rule %q: Resolve(%s) = %+v, %v", rule, want, r, err)
			}
			if got := again.Learn(node, fmt.Appendf(nil, "x%d-y%d.up", node, node), 9092); got != want {
				t.Errorf("rule %q: node %d is %s, was %s", rule, node, got, want)
			}
			if r, _ := again.Resolve(want); !r.Confirmed || r.Addresses[0].Host != fmt.Sprintf("x%d-y%d.up", node, node) {
				t.Errorf("rule %q: after it was learned: %+v", rule, r)
			}
		}
		if again.Known() != 3 {
			t.Errorf("rule %q: %d brokers known", rule, again.Known())
		}
	}
}

func TestNoFileAndAnEmptyFileAreNoRoutes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "routes.json")
	if tab, log := load(t, path, ""); tab.Known() != 0 || log.Len() > 0 {
		t.Errorf("no file: %d brokers, log:\n%s", tab.Known(), log)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if tab, log := load(t, path, ""); tab.Known() != 0 || log.Len() > 0 {
		t.Errorf("empty file: %d brokers, log:\n%s", tab.Known(), log)
	}
}

func TestFilesThatCannotBeUsedAreSetAside(t *testing.T) {
	tab, _ := table(t, "")
	for node := range int32(3) {
		tab.Learn(node, fmt.Appendf(nil, "x%d.up", node), 9092)
	}
	data, err := os.ReadFile(save(t, tab))
	if err != nil {
		t.Fatal(err)
	}
	change := func(old, new string) string {
		if !strings.Contains(string(data), old) {
			t.Fatalf("no %q in:\n%s", old, data)
		}
		return strings.Replace(string(data), old, new, 1)
	}
	for content, problem := range map[string]string{
		string(data[:len(data)/2]):                                            "damaged",
		string(make([]byte, len(data))):                                       "damaged",
		"127.0.0.1 localhost\n":                                               "damaged, or not a routes file",
		`{"brokers":[]}`:                                                      "not a routes file",
		change(`"version": 1`, `"version": 2`):                                "version is 2",
		change(`"kafka.example"`, `"other.example"`):                          `suffix \"other.example\"`,
		change(`"rule": ""`, `"rule": "a::b"`):                                `rule \"a::b\"`,
		change(`"boot1.up:9092",`, "") + strings.Repeat(" ", 9):               "", // the other upstream is the same
		strings.NewReplacer("boot1", "c", "boot2", "d").Replace(string(data)): "another cluster",
		change(`"b2.kafka.example"`, `"b1.kafka.example"`):                    "twice",
		change(`"node": 2`, `"node": 1`):                                      "twice",
		change(`"b2.kafka.example"`, `"Bootstrap"`):                           "not a name",
		change(`"b2.kafka.example"`, `"bootstrap.kafka.example"`):             "not a name",
		change(`"x2.up"`, `""`):                                               "no address",
		change(`9092
  }`, `70000
  }`): "no address",
	} {
		path := filepath.Join(t.TempDir(), "routes.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		tab, log := load(t, path, "")
		if problem == "" {
			if tab.Known() != 3 || strings.Contains(log.String(), "WARN") {
				t.Errorf("%d brokers from:\n%s\nlog: %s", tab.Known(), content, log)
			}
			continue
		}
		if tab.Known() != 0 {
			t.Errorf("%d brokers from:\n%s", tab.Known(), content)
		}
		if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), problem) {
			t.Errorf("no warning of %q: %s", problem, log)
		}
		if aside, err := os.ReadFile(path + ".bad"); err != nil || string(aside) != content {
			t.Errorf("not set aside: %v", err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("it is still there")
		}
	}
}

// TestKillLeavesAWholeFile kills a process that saves and saves, at any point.
func TestKillLeavesAWholeFile(t *testing.T) {
	const brokers = 300
	if path := os.Getenv("ROUTE_TEST_SAVE"); path != "" {
		tab, _ := table(t, "")
		for node := range int32(brokers) {
			tab.Learn(node, fmt.Appendf(nil, "x%d.up", node), 9092)
		}
		for n := int32(0); ; n++ {
			if err := tab.Save(path); err != nil {
				fmt.Println(err)
			}
			fmt.Println("saved")
			tab.Learn(n%brokers, fmt.Appendf(nil, "x%d-%d.up", n%brokers, n), 9092)
		}
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "routes.json")
	for n := range 10 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKillLeavesAWholeFile$")
		cmd.Env = append(os.Environ(), "ROUTE_TEST_SAVE="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, _ := bufio.NewReader(out).ReadString('\n')
		// Anywhere within the next saves: it is not known when they end.
		time.Sleep(time.Duration(n) * 600 * time.Microsecond)
		cmd.Process.Kill()
		cmd.Wait()
		if line != "saved\n" {
			t.Fatalf("the process that was to save said %q", line)
		}
		if tab, log := load(t, path, ""); tab.Known() != brokers {
			t.Fatalf("kill %d: %d brokers, want %d: %s", n, tab.Known(), brokers, log)
		}
	}

	// What was being written then does not pile up.
	old := time.Now().Add(-time.Hour)
	leftovers, err := filepath.Glob(filepath.Join(dir, ".routes.json.new-*"))
	if err != nil {
		t.Fatal(err)
	}
	leftovers = append(leftovers, filepath.Join(dir, ".routes.json.new-0"))
	for _, name := range leftovers {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
	}
	tab, _ := load(t, path, "")
	if err := tab.Save(path); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("in the directory: %v, %v", entries, err)
	}
}

func TestSaveThatFailsLeavesTheOldFile(t *testing.T) {
	tab, _ := table(t, "")
	tab.Learn(1, []byte("x1.up"), 9092)
	path := save(t, tab)
	if err := os.Chmod(filepath.Dir(path), 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(filepath.Dir(path), 0o700) })
	tab.Learn(2, []byte("x2.up"), 9092)
	if err := tab.Save(path); err == nil {
		t.Skip("this user may write everywhere")
	}
	if again, _ := load(t, path, ""); again.Known() != 1 {
		t.Errorf("%d brokers, want the 1 of before", again.Known())
	}
}

func TestChangesAreToldOnceAndOnlyWhenThereAreAny(t *testing.T) {
	tab, _ := table(t, "")
	changed := func() bool {
		select {
		case <-tab.Changed():
			return true
		default:
			return false
		}
	}
	learnAll := func(host string) {
		for node := range int32(10) {
			tab.Learn(node, fmt.Appendf(nil, host, node), 9092)
		}
	}
	for _, step := range []struct {
		host string
		want bool
	}{{"x%d.up", true}, {"x%d.up", false}, {"y%d.up", true}, {"y%d.up", false}} {
		learnAll(step.host)
		if got := changed(); got != step.want {
			t.Errorf("learned %s: changed %v, want %v", step.host, got, step.want)
		}
		if changed() {
			t.Errorf("learned %s: told twice", step.host)
		}
	}
	again, _ := load(t, save(t, tab), "")
	if tab = again; changed() {
		t.Error("loading is no change")
	}
}

func TestNamesThatTheCertificateDoesNotCoverAreWarnedAboutOnce(t *testing.T) {
	for _, rule := range []string{"", `\.up$::.elsewhere.example`} {
		tab, log := table(t, rule)
		tab.covers = func(name string) bool { return strings.HasPrefix(name, "b1.") || strings.HasPrefix(name, "x1.") }
		for range 3 {
			for _, host := range []string{"x1.up", "x2.up"} {
				tab.Learn(int32(host[1]-'0'), []byte(host), 9092)
			}
		}
		if got := strings.Count(log.String(), "does not cover"); got != 1 || !strings.Contains(log.String(), "upstream=x2.up") {
			t.Errorf("rule %q: %d warnings, want 1, of x2.up:\n%s", rule, got, log)
		}
	}
}

// TestLearningTheSameAgainCostsNothing is what keeps thousands of clients that
// ask for the metadata of a large cluster from waiting for each other.
func TestLearningTheSameAgainCostsNothing(t *testing.T) {
	tab, log := table(t, "")
	tab.log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	const brokers = 10_000
	hosts := make([][]byte, brokers)
	for i := range hosts {
		hosts[i] = fmt.Appendf(nil, "lkc-abcde-%04d.eu-west-1.aws.glb.up", i)
		tab.Learn(int32(i), hosts[i], 9092)
	}
	<-tab.Changed()
	tab.SetClusterID("Zm9v")
	<-tab.Changed()
	for i, host := range hosts { // they are to be told again
		tab.Learn(int32(i), host, 9092)
	}
	<-tab.Changed()
	logged := log.Len()
	tab.mu.Lock() // whoever takes it now waits for ever
	allocated := testing.AllocsPerRun(3, func() {
		for i, host := range hosts {
			tab.SetClusterID("Zm9v")
			tab.Learn(int32(i), host, 9092)
		}
	})
	if allocated > 0 {
		t.Errorf("%.0f allocations for %d brokers", allocated, brokers)
	}
	if r, err := tab.Resolve("b9999.kafka.example"); err != nil || r.Addresses[0].Host != string(hosts[9999]) {
		t.Errorf("Resolve = %+v, %v", r, err)
	}
	tab.mu.Unlock()
	select {
	case <-tab.Changed():
		t.Error("there is something to save")
	default:
	}
	if log.Len() != logged {
		t.Errorf("logged:\n%s", log.String()[logged:])
	}
}

func BenchmarkSave(b *testing.B) {
	tab, _ := table(b, "")
	for i := range int32(10_000) {
		tab.Learn(i, fmt.Appendf(nil, "lkc-abcde-%04d.eu-west-1.aws.glb.up", i), 9092)
	}
	path := filepath.Join(b.TempDir(), "routes.json")
	for b.Loop() {
		if err := tab.Save(path); err != nil {
			b.Fatal(err)
		}
	}
}
