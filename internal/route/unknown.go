package route

import (
	"fmt"
	"strings"
)

// UnknownNameError refuses a name that the table does not serve.
type UnknownNameError struct {
	// Name is the name that was asked for, in lower case, without the final
	// dot; of one that is too long to be a name, the beginning.
	Name string
	// Length is the length of what was asked for, in bytes.
	Length int
	// Bootstrap and Suffix are what is served.
	Bootstrap, Suffix string
	// Nearest is the known name that was probably meant; empty when there is none.
	Nearest string
}

func (e *UnknownNameError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "server name %q is not served here: ", e.Name)
	if e.Length > maxName {
		fmt.Fprintf(&b, "it is %d bytes long, a host name has %d at most: ", e.Length, maxName)
	}
	fmt.Fprintf(&b, "want %s or a broker under .%s", e.Bootstrap, e.Suffix)
	if e.Nearest != "" {
		fmt.Fprintf(&b, " (did you mean %s?)", e.Nearest)
	}
	return b.String()
}

// shownName is how much is shown of what is too long to be a name, in bytes.
const shownName = 40

func (t *Table) unknown(name string) (Route, error) {
	e := &UnknownNameError{Name: name, Length: len(name), Bootstrap: t.bootstrap, Suffix: t.suffix}
	if len(name) > maxName {
		e.Name = strings.ToLower(name[:shownName]) + "…"
	} else {
		e.Nearest = t.nearest(name)
	}
	return Route{Name: e.Name}, e
}

// nearest returns the known name that is nearest to one that is not known, or
// "" when none is near. In a table of more than maxCompared brokers only the
// bootstrap name is compared: the client is not authenticated yet, and must not
// be able to cause much work.
func (t *Table) nearest(name string) string {
	label := strings.TrimSuffix(name, "."+t.suffix)
	best, limit := "", min(max(len(label)/3, 1), 3)
	compare := func(candidate string) {
		d := distance(name, candidate, limit)
		if d < limit || d == limit && (best == "" || candidate < best) {
			best, limit = candidate, d
		}
	}
	compare(t.bootstrap)
	if t.Known() > maxCompared {
		return best
	}
	left := maxCompared // aliases are names, too
	t.byName.Range(func(k, _ any) bool {
		compare(k.(string))
		left--
		return left > 0
	})
	return best
}

// distance returns the number of bytes to insert, remove or replace to make a
// into b (the Levenshtein distance), or limit+1 when there are more.
// Only what is within limit of the diagonal is looked at.
func distance(a, b string, limit int) int {
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for a != "" && b != "" && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	if max(len(a)-len(b), len(b)-len(a)) > limit {
		return limit + 1
	}
	var rows [2][maxName + 1]int
	above, row := rows[0][:], rows[1][:]
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
