package route

import (
	"kafka-sni-proxy/internal/suggest"

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
	// Served says what is served, in words.
	Served string
	// Nearest is the known name that was probably meant; empty when there is none.
	Nearest string
}

func (e *UnknownNameError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "server name %q is not served here: ", e.Name)
	if e.Length > maxName {
		fmt.Fprintf(&b, "it is %d bytes long, a host name has %d at most: ", e.Length, maxName)
	}
	b.WriteString("want " + e.Served)
	if e.Nearest != "" {
		fmt.Fprintf(&b, " (did you mean %s?)", e.Nearest)
	}
	return b.String()
}

// Served says what names are served, in words.
func (t *Table) Served() string {
	if t.broker == (nameTemplate{"b", "." + t.suffix}) {
		return t.bootstrap + " or a broker under ." + t.suffix
	}
	return t.bootstrap + " or a broker's name, " + t.broker.name("<id>")
}

// shownName is how much is shown of what is too long to be a name, in bytes.
const shownName = 40

func (t *Table) unknown(name string) (Route, error) {
	e := &UnknownNameError{Name: name, Length: len(name), Served: t.Served()}
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
	near := suggest.Within(name, min(max(len(label)/3, 1), 3))
	near.Compare(t.bootstrap)
	if t.Known() > maxCompared {
		return near.Best()
	}
	left := maxCompared // aliases are names, too
	t.byName.Range(func(k, _ any) bool {
		near.Compare(k.(string))
		left--
		return left > 0
	})
	return near.Best()
}
