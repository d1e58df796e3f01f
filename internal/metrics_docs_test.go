package internal

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const ownPrefix = "kafka_sni_proxy_"

// metric is a line of docs/metrics.md.
type metric struct {
	kind   string
	labels []string
}

// documentedMetrics are all lines of docs/metrics.md, by name with its prefix.
func documentedMetrics(t *testing.T) map[string]metric {
	t.Helper()
	all := map[string]metric{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (counter|gauge|histogram) \\| ([^|]*)\\| .*\\|$").FindAllStringSubmatch(read(t, "../docs/metrics.md"), -1) {
		name := ownPrefix + m[1]
		if _, twice := all[name]; twice {
			t.Errorf("docs/metrics.md has %s twice", name)
		}
		labels := []string{}
		for _, l := range inline.FindAllStringSubmatch(m[3], -1) {
			labels = append(labels, l[1])
		}
		slices.Sort(labels)
		all[name] = metric{m[2], labels}
	}
	if len(all) < 30 {
		t.Fatalf("only %d metrics are found: the pattern is wrong", len(all))
	}
	return all
}

// family is the metric that a series of a scrape belongs to.
func family(name string, known map[string]metric) string {
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		if base, ok := strings.CutSuffix(name, suffix); ok && known[base].kind == "histogram" {
			return base
		}
	}
	return name
}

var (
	ownName  = regexp.MustCompile(`\b` + ownPrefix + `[a-z_]+\b`)
	recorded = regexp.MustCompile(`[a-z_]+:` + ownPrefix + `[a-z_]+:[a-z0-9_]+`)
)

// Every metric of ours that a rule, a panel or a page names is in docs/metrics.md.
func TestMetricsThatAreNamedExist(t *testing.T) {
	known := documentedMetrics(t)
	files := append(pages(t), "../contrib/prometheus/rules.yaml", "../contrib/prometheus/alerts.yaml", "../contrib/prometheus/rules_test.yaml", "../contrib/grafana/kafka-sni-proxy.json")
	named := map[string]bool{}
	for _, file := range files {
		for _, name := range ownName.FindAllString(recorded.ReplaceAllString(read(t, file), ""), -1) {
			if name = family(name, known); strings.HasSuffix(name, "_") {
				continue // of all that begin with it
			}
			named[name] = true
			if _, ok := known[name]; !ok {
				t.Errorf("%s names %s, which docs/metrics.md does not have", file, name)
			}
		}
	}
	if len(named) < 35 {
		t.Errorf("only %d metrics are named: the pattern is wrong", len(named))
	}
}

// A scrape of the program has no metric that docs/metrics.md does not have, or has with another type
// or other labels. That all of them are there is seen by go run ./interop --run '^observe$'.
func TestScrapedMetricsAreDocumented(t *testing.T) {
	known, dir, binary := documentedMetrics(t), t.TempDir(), program(t)
	generate := exec.CommandContext(t.Context(), binary, "--sni-suffix", "kafka.example", "--generate-certs")
	generate.Dir = dir
	if output, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	proxy := exec.CommandContext(ctx, binary, "--sni-suffix", "kafka.example", "--upstream", "127.0.0.1:1", "--bind", "127.0.0.1:0",
		"--cert", "server.pem", "--key", "server_key.pem", "--admin-bind", "127.0.0.1:0", "--max-connections", "100")
	proxy.Dir, proxy.Env = dir, []string{"PATH=" + os.Getenv("PATH")}
	log, err := proxy.StderrPipe()
	if err == nil {
		err = proxy.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); proxy.Wait() }()
	address := ""
	lines := bufio.NewScanner(log)
	for address == "" && lines.Scan() {
		if m := regexp.MustCompile(`metrics and health checks" address=(\S+)`).FindStringSubmatch(lines.Text()); m != nil {
			address = m[1]
		}
	}
	go io.Copy(io.Discard, log)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	scrape, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(string(scrape), -1) {
		kinds[m[1]] = m[2]
	}
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^(`+ownPrefix+`[a-z_]+)(?:\{(.*)\})? \S+$`).FindAllStringSubmatch(string(scrape), -1) {
		name, labels := family(m[1], known), []string{}
		for _, l := range regexp.MustCompile(`([a-z]+)="(?:[^"\\]|\\.)*"`).FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" {
				labels = append(labels, l[1])
			}
		}
		slices.Sort(labels)
		if seen[name] {
			continue
		}
		seen[name] = true
		if want, ok := known[name]; !ok || kinds[name] != want.kind || !slices.Equal(labels, want.labels) {
			t.Errorf("the scrape has %s as a %s with %q, docs/metrics.md as a %s with %q", name, kinds[name], labels, want.kind, want.labels)
		}
	}
	if len(seen) < 25 {
		t.Errorf("only %d metrics were scraped: the pattern is wrong", len(seen))
	}
}

// A rule records from metrics of ours, and what alerts ask for is recorded.
func TestRecordedMetricsAreUsedAsTheyAreCalled(t *testing.T) {
	var records []string
	for _, m := range regexp.MustCompile(`(?m)^ +- record: (\S+)$`).FindAllStringSubmatch(read(t, "../contrib/prometheus/rules.yaml"), -1) {
		records = append(records, m[1])
	}
	asked := 0
	for _, name := range recorded.FindAllString(read(t, "../contrib/prometheus/alerts.yaml"), -1) {
		asked++
		if !slices.Contains(records, name) {
			t.Errorf("an alert asks for %s, which rules.yaml does not record", name)
		}
	}
	if asked < 5 || len(records) < 5 {
		t.Errorf("%d names in alerts, %d in rules: the pattern is wrong", asked, len(records))
	}
}

// Each alert has a section in docs/alerts.md, which says what it means, what to look at and
// what to do; and each section has an alert.
func TestEachAlertHasItsSection(t *testing.T) {
	page, rules := read(t, "../docs/alerts.md"), read(t, "../contrib/prometheus/alerts.yaml")
	sections := map[string]string{}
	for _, s := range strings.Split(page, "\n## ")[1:] {
		title, text, _ := strings.Cut(s, "\n")
		sections[title] = text
	}
	alerts := map[string]bool{}
	for _, rule := range strings.Split(rules, "- alert: ")[1:] {
		name, rest, _ := strings.Cut(rule, "\n")
		alerts[name] = true
		if want := "runbook_url: docs/alerts.md#" + strings.ToLower(name) + "\n"; !strings.Contains(rest, want) {
			t.Errorf("%s: want %s", name, want)
		}
		for _, want := range []string{"severity: ", "summary: ", "description: "} {
			if strings.Count(rest, want) != 1 {
				t.Errorf("%s: no %s, or several", name, want)
			}
		}
	}
	for name := range alerts {
		for _, want := range []string{"**Means**", "**Look at**", "**Do**"} {
			if !strings.Contains(sections[name], want) {
				t.Errorf("docs/alerts.md has no %s for %s", want, name)
			}
		}
	}
	for name := range sections {
		if !alerts[name] {
			t.Errorf("docs/alerts.md has the section %s, and there is no such alert", name)
		}
	}
	if len(alerts) < 15 {
		t.Errorf("only %d alerts: the pattern is wrong", len(alerts))
	}
}

// promtool test rules has a test for each alert that fires, and one that does not.
func TestEachAlertHasATest(t *testing.T) {
	tests := read(t, "../contrib/prometheus/rules_test.yaml")
	for _, rule := range strings.Split(read(t, "../contrib/prometheus/alerts.yaml"), "- alert: ")[1:] {
		name, rest, _ := strings.Cut(rule, "\n")
		severity, _, _ := strings.Cut(strings.SplitN(rest, "severity: ", 2)[1], "}")
		if !regexp.MustCompile(`(?s)alertname: ` + name + `\n +exp_alerts:\n( +- exp_labels: [^\n]*\n( +(?:exp_annotations|summary|description|runbook_url):[^\n]*\n)*)*? +- exp_labels: [^\n]*severity: ` + severity).MatchString(tests) {
			t.Errorf("contrib/prometheus/rules_test.yaml does not have %s fire as %s", name, severity)
		}
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("there is no promtool here: go run ./interop --run '^observe$' runs these tests, too")
	}
	command := exec.CommandContext(t.Context(), promtool, "test", "rules", "rules_test.yaml")
	command.Dir = "../contrib/prometheus"
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("promtool test rules: %v\n%s", err, output)
	}
}
