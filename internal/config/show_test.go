package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

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
		if again := read(t, string(short)); !reflect.DeepEqual(normal(t, again), normal(t, c)) {
			t.Errorf("%s\nis read as another configuration than\n%s", short, text)
		}
		full, err := c.Show()
		if err != nil {
			t.Fatal(err)
		}
		again := read(t, string(full))
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
		"listeners: [{bind: ':9192', plaintext: true, ports: {cluster: a, brokers: 9193-9194, advertised-host: h}, proxy-protocol: {from: [10.0.0.0/8]}}]\nclusters: {a: {upstream: [x:1], via: 'file:/gate', targets: {b: {upstream: [c:1]}}, active: b}}\n",
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
