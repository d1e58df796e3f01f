// Package suggest finds what somebody may have meant: the known word that is nearest to
// one that is not known, by the number of bytes to insert, remove or replace (the
// Levenshtein distance). The work is bounded by the words' lengths and the limit.
package suggest

// Nearest is a search among candidates, given one by one.
type Nearest struct {
	word  string
	best  string
	limit int
}

// To returns a search for what is near a word: half of its bytes may differ, and at most
// three.
func To(word string) *Nearest { return Within(word, min(len(word)/2, 3)) }

// Within returns a search for what is at most limit bytes away from a word.
func Within(word string, limit int) *Nearest { return &Nearest{word: word, limit: limit} }

// Compare looks at a candidate. Of several that are equally near, the first in the
// alphabet counts.
func (n *Nearest) Compare(candidate string) {
	d := Distance(n.word, candidate, n.limit)
	if d < n.limit || d == n.limit && (n.best == "" || candidate < n.best) {
		n.best, n.limit = candidate, d
	}
}

// Best returns the nearest candidate so far, "" if none is near.
func (n *Nearest) Best() string { return n.best }

// Distance returns the number of bytes to insert, remove or replace to make a into b, or
// limit+1 when there are more. Only what is within limit of the diagonal is looked at.
func Distance(a, b string, limit int) int {
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for a != "" && b != "" && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	if max(len(a)-len(b), len(b)-len(a)) > limit {
		return limit + 1
	}
	above, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range min(len(b), limit) + 1 {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		from, to := max(i-limit, 1), min(i+limit, len(b))
		row[from-1] = limit + 1
		if from == 1 {
			row[0] = i
		}
		if to == i+limit { // the row above ends before it
			above[to] = limit + 1
		}
		least := row[from-1]
		for j := from; j <= to; j++ {
			replace := above[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(replace, above[j]+1, row[j-1]+1)
			least = min(least, row[j])
		}
		if least > limit {
			return limit + 1
		}
		above, row = row, above
	}
	return min(above[len(b)], limit+1)
}
