package checks

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

const (
	rulesFile     = "../prometheus/rules.yaml"
	alertsFile    = "../prometheus/alerts.yaml"
	dashboardFile = "../grafana/kafka-sni-proxy.json"
)

// A chart reads no files outside of it, so it has copies.
func TestTheChartHasTheRulesAndTheDashboard(t *testing.T) { copies(t, false) }

// copies compares the chart's copies with their sources, or writes them.
func copies(t *testing.T, write bool) {
	t.Helper()
	for _, file := range []string{rulesFile, alertsFile, dashboardFile} {
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(chartDir, "files", filepath.Base(file))
		if write {
			if err := os.WriteFile(to, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(to); err != nil || string(got) != string(want) {
			t.Errorf("%s is not a copy of %s (%v): go test . -update", to, file, err)
		}
	}
}

func groups(t *testing.T, files ...string) (all []monitoringv1.RuleGroup) {
	t.Helper()
	for _, file := range files {
		var one monitoringv1.PrometheusRuleSpec
		text, err := os.ReadFile(file)
		if err == nil {
			err = yaml.UnmarshalStrict(text, &one)
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, one.Groups...)
	}
	return all
}

func panelQueries(t *testing.T, text []byte) map[string]string {
	t.Helper()
	type panel struct {
		Title   string
		Targets []struct{ RefID, Expr string }
		Panels  []panel
	}
	var d struct {
		Panels      []panel
		Annotations struct{ List []struct{ Name, Expr string } }
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, a := range d.Annotations.List {
		all["annotation "+a.Name] = a.Expr
	}
	var take func([]panel)
	take = func(panels []panel) {
		for _, p := range panels {
			for _, q := range p.Targets {
				all[p.Title+" "+q.RefID] = q.Expr
			}
			take(p.Panels)
		}
	}
	take(d.Panels)
	return all
}

// The PrometheusRule has every rule as it is, but for the address of the runbooks; the
// ConfigMap has the dashboard, and the label by which Grafana's sidecar finds it.
func TestTheChartCarriesAlertsAndDashboard(t *testing.T) {
	o := rendered(t, "everything")
	want := groups(t, rulesFile, alertsFile)
	for _, g := range want {
		for _, r := range g.Rules {
			if r.Alert != "" {
				r.Annotations["runbook_url"] = "https://git.example/kafka-sni-proxy/blob/main/" + r.Annotations["runbook_url"]
			}
		}
	}
	if o.rule == nil || !reflect.DeepEqual(o.rule.Spec.Groups, want) || o.rule.Labels["release"] != "prometheus" {
		t.Errorf("the PrometheusRule has other groups or labels: %v", o.rule)
	}
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	if o.dashboard == nil || o.dashboard.Labels["grafana_dashboard"] != "1" {
		t.Fatalf("the dashboard is %v", o.dashboard)
	}
	var got, source any
	if err := json.Unmarshal(text, &source); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(o.dashboard.Data["kafka-sni-proxy.json"]), &got); err != nil || !reflect.DeepEqual(got, source) {
		t.Errorf("the ConfigMap has another dashboard (%v)", err)
	}
	if o := rendered(t, "minimal"); o.rule != nil || o.dashboard != nil {
		t.Error("they are there without being asked for")
	}
}

// documentedLabels are the labels of each metric in docs/metrics.md, and of what is recorded.
func documentedLabels(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (counter|gauge|histogram) \\| ([^|]*)\\|").FindAllStringSubmatch(string(text), -1) {
		var of []string
		for _, l := range regexp.MustCompile("`([a-z]+)`").FindAllStringSubmatch(m[3], -1) {
			of = append(of, l[1])
		}
		name := "kafka_sni_proxy_" + m[1]
		labels[name] = of
		if m[2] == "histogram" {
			labels[name+"_count"], labels[name+"_sum"], labels[name+"_bucket"] = of, of, append(slices.Clone(of), "le")
		}
	}
	for _, g := range groups(t, rulesFile) {
		for _, r := range g.Rules {
			level, _, _ := strings.Cut(r.Record, ":")
			labels[r.Record] = strings.Split(level, "_")
		}
	}
	return labels
}

// Each query is PromQL, and asks only for labels that the metric has: one that it has not would
// match nothing, or sum up what should be apart, without a word.
func TestQueriesAskForLabelsThatThereAre(t *testing.T) {
	known := documentedLabels(t)
	ofTarget := []string{"job", "instance", "__name__"}
	queries := map[string]string{}
	for _, g := range groups(t, rulesFile, alertsFile) {
		for i, r := range g.Rules {
			queries[g.Name+" "+r.Record+r.Alert+" "+string(rune('a'+i))] = r.Expr.String()
		}
	}
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, expr := range panelQueries(t, text) {
		queries["panel "+name] = strings.ReplaceAll(expr, "$__rate_interval", "1m")
	}
	parse := parser.NewParser(parser.Options{})
	selectors, groupings := 0, 0
	for name, query := range queries {
		expr, err := parse.ParseExpr(query)
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, query)
			continue
		}
		parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
			switch n := node.(type) {
			case *parser.VectorSelector:
				labels, ours := known[n.Name]
				if !ours && strings.Contains(n.Name, "kafka_sni_proxy") {
					t.Errorf("%s asks for %s, which there is not", name, n.Name)
				}
				for _, m := range n.LabelMatchers {
					if selectors++; ours && !slices.Contains(ofTarget, m.Name) && !slices.Contains(labels, m.Name) {
						t.Errorf("%s: %s has no label %s", name, n.Name, m.Name)
					}
				}
			case *parser.AggregateExpr:
				available := slices.Clone(ofTarget)
				parser.Inspect(n.Expr, func(inner parser.Node, _ []parser.Node) error {
					if v, ok := inner.(*parser.VectorSelector); ok {
						if labels, ours := known[v.Name]; ours {
							available = append(available, labels...)
						} else if strings.HasSuffix(v.Name, "_bucket") {
							available = append(available, "le")
						}
					}
					return nil
				})
				for _, label := range n.Grouping {
					if groupings++; !slices.Contains(available, label) {
						t.Errorf("%s sums by %s, which is no label of what it sums: %s", name, label, n)
					}
				}
			}
			return nil
		})
	}
	if len(queries) < 80 || selectors < 150 || groupings < 100 {
		t.Errorf("only %d queries with %d matchers and %d groupings were looked at", len(queries), selectors, groupings)
	}
}
