package suggest

import (
	"math/rand/v2"
	"strings"
	"testing"
)

func TestDistance(t *testing.T) {
	slow := func(a, b string) int {
		row := make([]int, len(b)+1)
		for j := range row {
			row[j] = j
		}
		for i := range len(a) {
			diagonal := row[0]
			row[0] = i + 1
			for j := range len(b) {
				cost := diagonal
				if a[i] != b[j] {
					cost++
				}
				diagonal = row[j+1]
				row[j+1] = min(cost, row[j]+1, row[j+1]+1)
			}
		}
		return row[len(b)]
	}
	random := rand.New(rand.NewPCG(1, 2))
	word := func() string {
		b := make([]byte, random.IntN(9))
		for i := range b {
			b[i] = "abc"[random.IntN(3)]
		}
		return string(b)
	}
	for range 20_000 {
		a, b, limit := word(), word(), random.IntN(5)
		if got, want := Distance(a, b, limit), min(slow(a, b), limit+1); got != want {
			t.Fatalf("Distance(%q, %q, %d) = %d, want %d", a, b, limit, got, want)
		}
	}
	Distance(strings.Repeat("a", 253), strings.Repeat("ba", 253/2), 3)
}

func TestNearestIsTheFirstOfTheNearest(t *testing.T) {
	for word, want := range map[string]string{"sni-sufix": "sni-suffix", "cret": "cert", "upstream": "upstream", "zzz": "", "k": "", "bnd": "bind"} {
		n := To(word)
		for _, candidate := range []string{"sni-suffix", "cert", "crl", "bind", "upstream", "upstream-cert", "key"} {
			n.Compare(candidate)
		}
		if got := n.Best(); got != want {
			t.Errorf("near %q: %q, want %q", word, got, want)
		}
	}
}
