package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// TestExamplesMeanTheSameWhenShown, by Short and by Show.
func TestExamplesMeanTheSameWhenShown(t *testing.T) {
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
