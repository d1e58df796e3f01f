// Package hosts reads a hosts file with wildcards and answers look-ups from it.
//
// The format is that of /etc/hosts, plus wildcards and several addresses on
// one line:
//
//	# addresses, then the names they are for
//	192.0.2.10                b0.upstream.example *.upstream.example
//	192.0.2.11 2001:db8::11   b1.upstream.example
//
// Of all definitions that match a name one is used:
//
//   - an exact name beats any wildcard;
//   - of two wildcards the longer one wins, counted in characters;
//   - on a tie, the last line wins.
//
// A "*" stands for one or more characters and never for a dot, so that
// *.upstream.example is for a.upstream.example and not for
// a.b.upstream.example. It may be a part of a label: b*.upstream.example.
//
// A name defined more than once has all the addresses it was given, in the
// order of the file. Case and a final dot do not matter, in the file or in the
// name looked up.
package hosts

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// Table is a parsed hosts file. It never changes, so that it can be used
// concurrently. A nil Table matches nothing.
type Table struct {
	exact     map[string][]netip.Addr
	wildcards []wildcard // the first one that matches wins
}

type wildcard struct {
	pattern string
	glob    string // pattern, for path.Match
	addrs   []netip.Addr
}

// Len returns how many different names and wildcards the table holds.
func (t *Table) Len() int {
	if t == nil {
		return 0
	}
	return len(t.exact) + len(t.wildcards)
}

// Equal reports whether two tables answer everything alike.
func (t *Table) Equal(other *Table) bool {
	if t == nil || other == nil {
		return t == other
	}
	return maps.EqualFunc(t.exact, other.exact, slices.Equal) &&
		slices.EqualFunc(t.wildcards, other.wildcards, func(a, b wildcard) bool {
			return a.pattern == b.pattern && slices.Equal(a.addrs, b.addrs)
		})
}

// Lookup returns the addresses for a host name in the order in which to try
// them, or nil when the file says nothing about it and DNS should be asked. An
// IP address, or what else cannot be a host name, matches nothing. The slice
// belongs to the table.
func (t *Table) Lookup(name string) []netip.Addr {
	if t == nil {
		return nil
	}
	_, addrs := t.match(normalize(name))
	return addrs
}

// match returns the name or the wildcard that is used for a normalized name, and its
// addresses; "" for none.
func (t *Table) match(name string) (definition string, addrs []netip.Addr) {
	if addrs, ok := t.exact[name]; ok {
		return name, addrs
	}
	if len(t.wildcards) == 0 {
		return "", nil
	}
	if checkName(name) != nil { // an address, or nothing that DNS would know
		return "", nil
	}
	name = segments(name)
	for _, w := range t.wildcards {
		if ok, _ := path.Match(w.glob, name); ok { // no glob that is made here is malformed
			return w.pattern, w.addrs
		}
	}
	return "", nil
}

// Unused returns the names and wildcards of the table that are used for none of these names,
// in alphabetical order.
func (t *Table) Unused(asked ...string) (unused []string) {
	if t == nil {
		return nil
	}
	used := map[string]bool{}
	for _, name := range asked {
		definition, _ := t.match(normalize(name))
		used[definition] = true
	}
	for name := range t.exact {
		if !used[name] {
			unused = append(unused, name)
		}
	}
	for _, w := range t.wildcards {
		if !used[w.pattern] {
			unused = append(unused, w.pattern)
		}
	}
	slices.Sort(unused)
	return unused
}

// globs turns a wildcard or a name into what path.Match takes: there "*" may be
// empty and stops at a slash, here it is one or more characters and stops at a
// dot. None of what else path.Match knows can be in a name (see checkName).
var globs = strings.NewReplacer(".", "/", "*", "?*")

// segments turns a name that is looked up into what is matched with a glob.
func segments(name string) string { return strings.ReplaceAll(name, ".", "/") }

// maxErrors bounds the report when the file is not a hosts file at all.
const maxErrors = 20

// Parse reads a hosts file. The error joins one error per mistake, each
// beginning with "line N: " and saying what to do.
func Parse(r io.Reader) (*Table, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading hosts: %w", err)
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // some editors leave this mark

	t := &Table{exact: map[string][]netip.Addr{}}
	patterns := map[string]definition{}
	defined := 0
	var errs []error
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line, _, _ = strings.Cut(line, "#")
		addrs, names, mistakes := parseLine(strings.Fields(line))
		for _, mistake := range mistakes {
			errs = append(errs, fmt.Errorf("line %d: %w", number, mistake))
		}
		for _, name := range names {
			if strings.Contains(name, "*") {
				defined++
				patterns[name] = definition{appendNew(patterns[name].addrs, addrs), defined}
			} else {
				t.exact[name] = appendNew(t.exact[name], addrs)
			}
		}
	}
	if len(errs) > maxErrors {
		more := fmt.Errorf("and %d more mistakes: is this a hosts file?", len(errs)-maxErrors)
		errs = append(errs[:maxErrors], more)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	t.wildcards = order(patterns)
	return t, nil
}

// parseLine divides the fields of one line into addresses and names.
func parseLine(fields []string) (addrs []netip.Addr, names []string, mistakes []error) {
	for i, field := range fields {
		addr, err := netip.ParseAddr(field)
		switch {
		case err == nil && len(names) == 0:
			addrs = append(addrs, addr.Unmap())
		case err == nil:
			mistakes = append(mistakes, fmt.Errorf("address %s stands behind a name: put the addresses first, or on a line of their own", field))
		case i == 0:
			// What follows may well be right, but nothing can be said about it.
			return nil, nil, []error{notAnAddress(field)}
		default:
			name := normalize(field)
			if err := checkName(name); err != nil {
				mistakes = append(mistakes, fmt.Errorf("%q %w", field, err))
			}
			names = append(names, name)
		}
	}
	if len(addrs) > 0 && len(names) == 0 {
		mistakes = append(mistakes, fmt.Errorf("no name behind %s: add the host names it is for", fields[len(fields)-1]))
	}
	return addrs, names, mistakes
}

// notAnAddress explains a line that does not begin with an address, and names
// the usual reasons.
func notAnAddress(field string) error {
	const want = "a line is an IP address and the names it is for"
	if addr, err := netip.ParseAddr(strings.Trim(field, "[]")); err == nil {
		return fmt.Errorf("%q is not an address: write %s without brackets", field, addr)
	}
	if at, err := netip.ParseAddrPort(field); err == nil {
		return fmt.Errorf("%q is not an address: write %s, the port is that of the broker", field, at.Addr())
	}
	if checkName(normalize(field)) == nil {
		return fmt.Errorf("%q is not an address: put one before it, %s", field, want)
	}
	return fmt.Errorf("%q is not an address: %s", field, want)
}

// checkName reports what keeps a lower-case name or wildcard from being a DNS
// host name (RFC 1123, and the underscores that people use all the same).
func checkName(name string) error {
	if len(name) > 253 {
		return errors.New("is longer than the 253 characters of a host name")
	}
	if _, err := netip.ParseAddr(name); err == nil { // "10.0.0.1."
		return errors.New("is an address with a dot behind it: remove the dot")
	}
	for label := range strings.SplitSeq(name, ".") {
		switch {
		case label == "":
			return errors.New("has an empty part between its dots: remove the extra dot")
		case len(label) > 63:
			return errors.New("has a part longer than 63 characters")
		case label[0] == '-' || label[len(label)-1] == '-':
			return errors.New("has a part that begins or ends with a hyphen")
		}
		for _, c := range label {
			if c >= 0x80 {
				return errors.New("is not ASCII: write it as it is in DNS (xn--…)")
			}
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '*' {
				return fmt.Errorf("contains %q: a name has letters, digits, hyphens, dots and the wildcard *", c)
			}
		}
	}
	return nil
}

// definition is what the file says about one wildcard, and how many wildcards
// had been defined when it last said so.
type definition struct {
	addrs []netip.Addr
	place int
}

// order puts the wildcards into the order in which they are tried.
func order(patterns map[string]definition) []wildcard {
	all := make([]wildcard, 0, len(patterns))
	for pattern, d := range patterns {
		all = append(all, wildcard{pattern, globs.Replace(pattern), d.addrs})
	}
	slices.SortFunc(all, func(a, b wildcard) int {
		longer := cmp.Compare(len(b.pattern), len(a.pattern))
		later := cmp.Compare(patterns[b.pattern].place, patterns[a.pattern].place)
		return cmp.Or(longer, later)
	})
	return all
}

// appendNew appends the addresses that are not there yet: one that is listed
// twice is not worth two attempts.
func appendNew(addrs, more []netip.Addr) []netip.Addr {
	for _, addr := range more {
		if !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

func normalize(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}
