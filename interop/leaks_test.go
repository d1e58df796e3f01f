package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestLeaksAreFoundWhereverTheWritesAreCut writes one text in two pieces, cut
// at every place, and in single bytes.
func TestLeaksAreFoundWhereverTheWritesAreCut(t *testing.T) {
	const leak = "broker-1." + upstreamDomain
	configs := "\x14advertised.listeners\x30TLS://" + leak + ":1,SASL://" + leak + ":2"
	for _, test := range []struct {
		name, text string
		want       int
		allow      bool
	}{
		{"none", "b1.edge.test upstream test", 0, true},
		{"one", "\x00\x16" + leak + "\x00\x00", 1, false},
		{"at both ends", leak + strings.Repeat("x", 2*lookBack) + leak, 2, true},
		{"configs, not allowed", configs, 2, false},
		{"configs", configs, 0, true},
		{"configs, and one elsewhere", configs + strings.Repeat("x", lookBack) + leak, 1, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			count := func(pieces ...string) int {
				found := 0
				s := leakScanner{AllowConfigs: test.allow, Report: func(string) { found++ }}
				for _, piece := range pieces {
					fmt.Fprint(&s, piece)
				}
				return found
			}
			for cut := range len(test.text) + 1 {
				if got := count(test.text[:cut], test.text[cut:]); got != test.want {
					t.Fatalf("cut at %d: found %d, want %d", cut, got, test.want)
				}
			}
			if got := count(strings.Split(test.text, "")...); got != test.want {
				t.Errorf("byte by byte: found %d, want %d", got, test.want)
			}
		})
	}
}
