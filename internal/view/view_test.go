package view

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"kafka-sni-proxy/internal/api"
	"kafka-sni-proxy/internal/api/apitest"
)

var update = flag.Bool("update", false, "write the files of testdata")

// TestMain has times of day be the same everywhere.
func TestMain(m *testing.M) {
	time.Local = time.UTC
	os.Exit(m.Run())
}

// What is shown is in testdata, for terminals of several widths (0: none).
func TestWhatIsShown(t *testing.T) {
	p := apitest.New()
	for name, show := range map[string]func(Style) []string{
		"status":   func(s Style) []string { return Status(&p.Status, &p.Clusters, &p.Failures, s) },
		"routes":   func(s Style) []string { return Routes(p.Clusters.Clusters, apitest.Now).Lines(s) },
		"sessions": func(s Style) []string { return Sessions(p.Sessions).Lines(s) },
		"details": func(s Style) []string {
			all := append(SessionDetails(&p.Sessions[25], apitest.Now, s), "")
			all = append(all, FailureDetails(&p.Failures.Failures[0], apitest.Now, s)...)
			return append(append(all, ""), BrokerDetails("audit", &p.Clusters.Clusters[0].Brokers[0], apitest.Now, s)...)
		},
	} {
		for _, width := range []int{0, 40, 80, 200} {
			t.Run(fmt.Sprintf("%s-%d", name, width), func(t *testing.T) {
				lines := show(Style{Width: width})
				for _, line := range lines {
					if width > 0 && Width(line) > width {
						t.Errorf("takes %d cells: %s", Width(line), line)
					}
					if strings.TrimRight(line, " ") != line && width == 0 {
						t.Errorf("ends with blanks: %q", line)
					}
					if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
						t.Errorf("is not clean: %q", line)
					}
				}
				golden(t, fmt.Sprintf("%s-%d.txt", name, width), strings.Join(lines, "\n")+"\n")
			})
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("is not %s: go test ./internal/view -update\n%s", path, got)
	}
}

// awk finds a field by its number, whatever clients have sent.
func TestWithoutATerminalEachRowHasAllFields(t *testing.T) {
	p := apitest.New()
	p.Sessions[3].Software = "a b\tc"
	lines := Sessions(p.Sessions).Lines(Style{})
	fields := len(strings.Fields(lines[0]))
	for _, line := range lines {
		if got := len(strings.Fields(line)); got != fields {
			t.Errorf("%d fields, want %d: %s", got, fields, line)
		}
	}
}

func TestColoursAreForTerminalsAndDoNotMoveColumns(t *testing.T) {
	p := apitest.New()
	coloured := strings.Join(Status(&p.Status, &p.Clusters, &p.Failures, Style{Width: 100, Coloured: true}), "\n")
	bare := strings.Join(Status(&p.Status, &p.Clusters, &p.Failures, Style{Width: 100}), "\n")
	for _, colour := range []string{red, yellow, green, cyan, bold, plain} {
		if !strings.Contains(coloured, colour) {
			t.Errorf("no %q", colour)
		}
		coloured = strings.ReplaceAll(coloured, colour, "")
	}
	if coloured != bare {
		t.Errorf("differ in more than colours:\n%s\n%s", coloured, bare)
	}
}

func TestFindings(t *testing.T) {
	p := apitest.New()
	p.Clusters.Clusters = p.Clusters.Clusters[1:] // orders, which is well
	p.Status.Reload.Problems = nil
	p.Status.Certificates[0].Warning = ""
	if all := Findings(&p.Status, &p.Clusters); IsWrong(all) || len(all) != 1 || all[0].What != "configuration" {
		t.Errorf("of a proxy that is well: %+v", all)
	}
	for name, c := range map[string]struct {
		change func(*apitest.Proxy)
		level  Level
		text   string
	}{
		"a cluster down": {func(p *apitest.Proxy) { p.Clusters.Clusters[0].Health = "down" }, Failed, "no broker can be reached"},
		"a broker down": {func(p *apitest.Proxy) {
			c := &p.Clusters.Clusters[0]
			c.Health, c.Brokers[1].Health, c.Brokers[1].LastError = "failing", "down", "i/o timeout"
		}, Warning, "1 of 3 addresses cannot be reached: b1.orders.internal:9093: i/o timeout"},
		"an address is said once": {func(p *apitest.Proxy) {
			c := &p.Clusters.Clusters[0]
			c.Health, c.Brokers[0].Health, c.Brokers[0].LastError = "down", "down", "dial tcp b1.orders.internal:9093: no route to host"
		}, Failed, "no broker can be reached: dial tcp b1.orders.internal:9093: no route to host"},
		"another cluster":         {func(p *apitest.Proxy) { p.Clusters.Clusters[0].OtherCluster = 2 }, Failed, "another cluster answers at 2 addresses"},
		"a certificate expired":   {func(p *apitest.Proxy) { p.Status.Certificates[0].NotAfter = apitest.Now.Add(-time.Hour) }, Failed, "has expired"},
		"a certificate too new":   {func(p *apitest.Proxy) { p.Status.Certificates[0].NotBefore = apitest.Now.Add(time.Hour) }, Failed, "is not valid before 2026-05-04T13:00:00Z"},
		"a certificate that ends": {func(p *apitest.Proxy) { p.Status.Certificates[0].Warning = "expires in 9 days" }, Warning, "/etc/kafka-sni-proxy/orders.pem (CN=*.orders.kafka.example) expires in 9 days"},
		"all connections":         {func(p *apitest.Proxy) { p.Status.Connections.Open = 20000 }, Failed, "all 20000 that are allowed are open"},
		"few files left":          {func(p *apitest.Proxy) { p.Status.Process.OpenDescriptors = 60000 }, Warning, "60000 of 65536 are in use"},
		"a defect":                {func(p *apitest.Proxy) { p.Status.Connections.Panics = 1 }, Note, "1 connection was ended by a defect"},
		"draining":                {func(p *apitest.Proxy) { p.Status.State = "draining" }, Note, "draining"},
	} {
		t.Run(name, func(t *testing.T) {
			p := apitest.New()
			p.Clusters.Clusters = p.Clusters.Clusters[1:]
			p.Status.Reload.Problems, p.Status.Warnings, p.Status.Certificates[0].Warning = nil, nil, ""
			c.change(p)
			all := Findings(&p.Status, &p.Clusters)
			if len(all) != 1 || all[0].Level != c.level || !strings.Contains(all[0].Text, c.text) {
				t.Errorf("%+v, want %v with %q", all, c.level, c.text)
			}
		})
	}
}

func TestCleanJSONMeansTheSame(t *testing.T) {
	text, err := json.Marshal(map[string]string{"id": apitest.Hostile + "\U000e0041 価格 \x7f"})
	if err != nil {
		t.Fatal(err)
	}
	clean := CleanJSON(text)
	if bytes.ContainsFunc(clean, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("%q is not clean", clean)
	}
	var was, is map[string]string
	if json.Unmarshal(text, &was) != nil || json.Unmarshal(clean, &is) != nil || was["id"] != is["id"] {
		t.Errorf("%q has become %q", was, is)
	}
}

func TestUnits(t *testing.T) {
	for got, want := range map[string]string{
		Bytes(0): "0B", Bytes(1023): "1023B", Bytes(1024): "1.0KiB", Bytes(1023.9 * 1024): "1.0MiB", Bytes(300 << 20): "300MiB", Bytes(5 << 40): "5.0TiB",
		Count(0.1): "0.1", Count(17): "17", Count(9999): "9999", Count(12345): "12.3k", Count(999700): "1.0M", Count(812345678): "812M",
		Seconds(0): "0s", Seconds(1e-9): "1µs", Seconds(0.00035): "350µs", Seconds(0.0009999): "1.0ms", Seconds(0.0041): "4.1ms", Seconds(0.9999): "1.0s", Seconds(59): "59.0s",
		Seconds(61): "1m1s", Seconds(4321): "1h12m", Seconds(75 * 3600): "3d3h", Seconds(90 * 86400): "90d",
		Cut("abcdef", 4): "abc…", Cut("価格サービス", 5): "価格…", Cut("abc", 3): "abc", Cut("abc", 0): "",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestWrapBreaksBetweenWords(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{
		{"one two three", 8, "one two|three"},
		{"one two three", 0, "one two three"},
		{"onetwothree four", 4, "onet|woth|ree|four"},
		{"価格 a", 1, "価格|a"}, // cannot be broken
	} {
		if got := strings.Join(wrap(c.text, c.width), "|"); got != c.want {
			t.Errorf("%q in %d: %s, want %s", c.text, c.width, got, c.want)
		}
	}
}

func TestPrincipalsAreShownWhereThereAreAny(t *testing.T) {
	all := []api.Session{{ID: 1, Client: "10.0.0.1:1", Principal: "alice", Mechanism: "PLAIN"}, {ID: 2, Client: "10.0.0.2:2"}}
	columns := func(t *Table) string {
		var titles []string
		for _, c := range t.Columns {
			titles = append(titles, c.Title)
		}
		return strings.Join(titles, " ")
	}
	some := Sessions(all)
	if !strings.Contains(columns(some), "PRINCIPAL") || !slices.Contains(some.Rows[0], "alice") {
		t.Errorf("%s: %q", columns(some), some.Rows[0])
	}
	if none := Sessions(all[1:]); strings.Contains(columns(none), "PRINCIPAL") || len(none.Rows[0]) != len(none.Columns) {
		t.Errorf("%s: %q", columns(none), none.Rows[0])
	}
}
