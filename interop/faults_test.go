package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The document says of each fault what there is to be seen in each place, or that there is
// nothing.
func TestEachFaultHasEachPlace(t *testing.T) {
	var names []string
	for _, f := range faults {
		names = append(names, f.name)
	}
	file := filepath.Join("..", faultsDoc)
	all, err := readTexts(file, "fault", names)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	places := []string{onPage, inStatus, inTop, inMetrics, inAlerts, inAccessLog, inLog}
	for name, texts := range all {
		_, section, _ := strings.Cut(string(content), "<!-- fault: "+name+" -->")
		section, _, _ = strings.Cut(section, "\n## ")
		for _, place := range places {
			has := slices.ContainsFunc(texts, func(s spoken) bool { return s.who == place })
			nothing := regexp.MustCompile(`(?m)^\| ` + place + ` \| (none|nothing)`).MatchString(section)
			if has == nothing {
				t.Errorf("%s: of %s there is a text: %v, and nothing: %v", name, place, has, nothing)
			}
		}
		for _, s := range texts {
			if !slices.Contains(places, s.who) {
				t.Errorf("%s: %q is no place", name, s.who)
			}
		}
		if rows := strings.Count(section, "` |\n"); rows != len(texts) {
			t.Errorf("%s: %d rows have a text, and %d are compared", name, rows, len(texts))
		}
	}
}

func TestAMinuteTakesASecond(t *testing.T) {
	for rule, want := range map[string]string{
		"for: 10m":                   "for: 10s",
		"  interval: 1m":             "  interval: 1s",
		"rate(x_total[5m]) > 0":      "rate(x_total[5s]) > 0",
		"x:p99_5m[1d] offset 1h)":    "x:p99_5m[24m] offset 1m)",
		"cluster:connections:rate5m": "cluster:connections:rate5m",
		"expires in 3 * 86400":       "expires in 3 * 86400",
	} {
		if got := faster(rule); got != want {
			t.Errorf("%q becomes %q, want %q", rule, got, want)
		}
	}
	for _, file := range []string{"rules.yaml", "alerts.yaml"} {
		rules, err := os.ReadFile(filepath.Join("../contrib/prometheus", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, duration := range regexp.MustCompile(`\[[^\]]*\]|(?:offset|for:|interval:) \S+`).FindAllString(string(rules), -1) {
			if faster(duration) == duration {
				t.Errorf("%s: %s stays as it is", file, duration)
			}
		}
	}
}

func TestWhatAPageSays(t *testing.T) {
	page := "<h1 id=\"a\">2\n problems</h1><ul><li data-key=\"x\"><a href=\"#f\">A &amp; B</a>\n<span>now</span> </li><li></li></ul><table><tr><th>one<td>two</td></tr></table>"
	want := []string{"2 problems", "A & B now", "one two"}
	if got := pageText(page); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
