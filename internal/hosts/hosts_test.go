package hosts

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func parse(t testing.TB, text string) *Table {
	t.Helper()
	table, err := Parse(strings.NewReader(text))
	if err != nil {
		t.Fatalf("Parse(%q): %v", text, err)
	}
	return table
}

// lookup renders an answer: the addresses with a space between, "" for none.
func lookup(t *Table, name string) string {
	return strings.Trim(fmt.Sprint(t.Lookup(name)), "[]")
}

func TestLookup(t *testing.T) {
	tests := []struct {
		property string
		file     string
		want     map[string]string
	}{
		{
			"an exact name beats every wildcard, wherever it stands",
			"10.0.0.1 b0.up.com\n10.0.0.2 *.up.com b*.up.com *0.up.com",
			map[string]string{"b0.up.com": "10.0.0.1", "b10.up.com": "10.0.0.2"},
		},
		{
			"the longer wildcard wins, wherever it stands",
			"10.0.0.1 *-lkc.up.com\n10.0.0.2 *.up.com\n10.0.0.3 b*-lkc.up.com",
			map[string]string{"b1-lkc.up.com": "10.0.0.3", "c1-lkc.up.com": "10.0.0.1", "x.up.com": "10.0.0.2"},
		},
		{
			"of equally long wildcards the later one wins",
			"10.0.0.1 b*.up.com\n10.0.0.2 *0.up.com",
			map[string]string{"b0.up.com": "10.0.0.2", "b1.up.com": "10.0.0.1", "a0.up.com": "10.0.0.2"},
		},
		{
			"on one line, too, the later one wins; a repeated wildcard counts where it was last defined",
			"10.0.0.1 b*.up.com *0.up.com\n10.0.0.2 b*.up.com",
			map[string]string{"b0.up.com": "10.0.0.1 10.0.0.2", "a0.up.com": "10.0.0.1"},
		},
		{
			"a star is one or more characters and never a dot",
			"10.0.0.1 *.up.com\n10.0.0.2 *.*.up.com\n10.0.0.3 a*.*b.net\n10.0.0.4 b*.org",
			map[string]string{
				"a.up.com": "10.0.0.1", "a.b.up.com": "10.0.0.2", "a.b.c.up.com": "", "up.com": "", ".up.com": "",
				"xup.com": "", "a.up.com.evil.com": "", "ax.yb.net": "10.0.0.3", "a.b.net": "", "ax.b.net": "", "bx.org": "10.0.0.4", "b.x.org": "",
			},
		},
		{
			"the line from the documentation",
			"192.165.22.33 b0.upstream.com *.upstream.com *.abc.upstream.com",
			map[string]string{
				"b0.upstream.com": "192.165.22.33", "b1.upstream.com": "192.165.22.33", "b1.abc.upstream.com": "192.165.22.33",
				"upstream.com": "", "b1.abd.upstream.com": "",
			},
		},
		{
			"a name has all its addresses, in order, each once",
			"10.0.0.2 2001:db8::2 b0.up.com\n10.0.0.9 other\n10.0.0.1 b0.up.com\n10.0.0.2 B0.UP.COM.\n",
			map[string]string{"b0.up.com": "10.0.0.2 2001:db8::2 10.0.0.1"},
		},
		{
			"a wildcard has all its addresses, in order, each once",
			"10.0.0.2 *.up.com\n10.0.0.1 10.0.0.2 *.up.com",
			map[string]string{"b0.up.com": "10.0.0.2 10.0.0.1"},
		},
		{
			"case and a final dot do not matter",
			"10.0.0.1 B0.Up.com.\n10.0.0.2 *.UP.com",
			map[string]string{"b0.up.COM": "10.0.0.1", "b0.up.com.": "10.0.0.1", "B1.UP.com.": "10.0.0.2"},
		},
		{
			"comments, blank lines, tabs and Windows line ends",
			"\ufeff# broker\r\n\r\n\t10.0.0.1\tb0 b1 # not this: b2\r\n#10.0.0.3 b3\r\n10.0.0.4 b4",
			map[string]string{"b0": "10.0.0.1", "b1": "10.0.0.1", "b2": "", "b3": "", "b4": "10.0.0.4"},
		},
		{
			"an IP address is not a name",
			"10.0.0.1 *.*.*.*",
			map[string]string{"192.0.2.1": "", "a.b.c.d": "10.0.0.1"},
		},
		{
			"an IPv4 address in IPv6 clothes is IPv4",
			"::ffff:10.0.0.1 b0\nfe80::1%eth0 b1",
			map[string]string{"b0": "10.0.0.1", "b1": "fe80::1%eth0"},
		},
		{
			"an empty file leaves everything to DNS",
			"# nothing yet\n",
			map[string]string{"b0.up.com": "", "": ""},
		},
	}
	for _, test := range tests {
		t.Run(test.property, func(t *testing.T) {
			table := parse(t, test.file)
			for name, want := range test.want {
				if got := lookup(table, name); got != want {
					t.Errorf("Lookup(%q) = %q, want %q", name, got, want)
				}
			}
		})
	}
}

func TestNilTableLeavesEverythingToDNS(t *testing.T) {
	var none *Table
	if got := none.Lookup("b0.up.com"); got != nil {
		t.Errorf("Lookup = %v", got)
	}
	if got := none.Len(); got != 0 {
		t.Errorf("Len = %d", got)
	}
}

func TestAllMistakesAreReportedWithTheirLines(t *testing.T) {
	_, err := Parse(strings.NewReader(strings.Join([]string{
		"10.0.0.1 good.up.com",
		"b0.up.com 10.0.0.1",
		"10.0.0.256 b0.up.com",
		"10.0.0.1:9092 b0.up.com",
		"[2001:db8::1] b0.up.com",
		"10.0.0.1 # b0.up.com",
		"10.0.0.1 b0..up.com -b1.up.com",
		"10.0.0.1 b0.up.com:9092",
		"10.0.0.1 bücher.example",
		"10.0.0.1 b0 10.0.0.2",
		"10.0.0.1 " + strings.Repeat("a", 64) + " " + strings.Repeat("a.", 130),
		"10.0.0.1 10.0.0.2.",
		"10.0.0.1 good2.up.com",
	}, "\n")))
	if err == nil {
		t.Fatal("no error")
	}
	want := []string{
		`line 2: "b0.up.com" is not an address: put one before it, a line is an IP address and the names it is for`,
		`line 3: "10.0.0.256" is not an address: put one before it`,
		`line 4: "10.0.0.1:9092" is not an address: write 10.0.0.1, the port is that of the broker`,
		`line 5: "[2001:db8::1]" is not an address: write 2001:db8::1 without brackets`,
		`line 6: no name behind 10.0.0.1: add the host names it is for`,
		`line 7: "b0..up.com" has an empty part between its dots: remove the extra dot`,
		`line 7: "-b1.up.com" has a part that begins or ends with a hyphen`,
		`line 8: "b0.up.com:9092" contains ':'`,
		`line 9: "bücher.example" is not ASCII`,
		`line 10: address 10.0.0.2 stands behind a name`,
		`line 11: "` + strings.Repeat("a", 64) + `" has a part longer than 63 characters`,
		`line 11: "` + strings.Repeat("a.", 130) + `" is longer than the 253 characters`,
		`line 12: "10.0.0.2." is an address with a dot behind it: remove the dot`,
	}
	got := strings.Split(err.Error(), "\n")
	if len(got) != len(want) {
		t.Errorf("%d mistakes, want %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("mistake %d:\n got %s\nwant %s…", i, got[i], want[i])
		}
	}
}

func TestAFileThatIsNoHostsFileIsReportedShortly(t *testing.T) {
	_, err := Parse(strings.NewReader(strings.Repeat("<html>\n", 10_000)))
	lines := strings.Split(err.Error(), "\n")
	if last := lines[len(lines)-1]; len(lines) != maxErrors+1 || last != "and 9980 more mistakes: is this a hosts file?" {
		t.Errorf("%d lines, the last %q", len(lines), last)
	}
}

const label = `[a-z0-9_*](?:[a-z0-9_*-]{0,61}[a-z0-9_*])?`

var hostName = regexp.MustCompile(`^` + label + `(?:\.` + label + `)*$`)

// slowLookup is the rules of the package documentation once more, in the order
// in which they are written there: collect all definitions, choose among those
// that match, return what the chosen one was given.
func slowLookup(file, name string) []netip.Addr {
	type def struct {
		name  string
		addrs []netip.Addr
	}
	var defs []def
	for line := range strings.SplitSeq(strings.TrimPrefix(file, "\ufeff"), "\n") {
		line, _, _ = strings.Cut(line, "#")
		var addrs []netip.Addr
		for _, field := range strings.Fields(line) {
			if a, err := netip.ParseAddr(field); err == nil {
				addrs = append(addrs, a.Unmap())
			} else {
				defs = append(defs, def{strings.ToLower(strings.TrimSuffix(field, ".")), addrs})
			}
		}
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if _, err := netip.ParseAddr(name); err == nil || len(name) > 253 || !hostName.MatchString(name) {
		return nil
	}
	chosen := ""
	for _, d := range defs {
		expr := "^" + strings.ReplaceAll(regexp.QuoteMeta(d.name), `\*`, `[^.]+`) + "$"
		switch {
		case !regexp.MustCompile("(?s)" + expr).MatchString(name):
		case d.name == name && !strings.Contains(name, "*"):
			chosen = d.name
		case chosen == name && !strings.Contains(name, "*"):
		case len(d.name) >= len(chosen):
			chosen = d.name
		}
	}
	var addrs []netip.Addr
	for _, d := range defs {
		if chosen != "" && d.name == chosen {
			for _, a := range d.addrs {
				if !slices.Contains(addrs, a) {
					addrs = append(addrs, a)
				}
			}
		}
	}
	return addrs
}

// FuzzLookup holds Parse and Lookup against slowLookup, and the report of
// mistakes against the number of lines there are.
func FuzzLookup(f *testing.F) {
	f.Add("192.165.22.33 b0.upstream.com *.upstream.com *.abc.upstream.com", "b1.abc.upstream.com")
	f.Add("10.0.0.1 b*.up\n10.0.0.2 *0.up\n10.0.0.3 b*.up", "b0.up")
	f.Add("10.0.0.1 2001:db8::1 a*b*c.*.d\n::ffff:1.2.3.4 A.B. # no", "aabbbc.x.d")
	f.Add("1.1.1.1 **a*a.b\n1.1.1.2 *a*\n", "xaaa.b")
	f.Add("1.1.1.1 *.*.*.*\n", "1.2.3.4")
	f.Add("1.1.1.1 1.2.3.4. b\n", "1.2.3.4")
	f.Add("0.0.0.0 *.******0*", "0.000\xcf00")
	f.Add("bad\n1.2.3.4\n1.2.3.4 a..b", "a")
	f.Fuzz(func(t *testing.T, file, name string) {
		table, err := Parse(strings.NewReader(file))
		if err != nil {
			lines := strings.Count(file, "\n") + 1
			for i, line := range strings.Split(err.Error(), "\n") {
				var n int
				if _, err := fmt.Sscanf(line, "line %d: ", &n); (err != nil || n < 1 || n > lines) && i < maxErrors {
					t.Errorf("mistake %q names no line from 1 to %d", line, lines)
				}
			}
			return
		}
		if got, want := table.Lookup(name), slowLookup(file, name); !slices.Equal(got, want) {
			t.Errorf("Lookup(%q) = %v, want %v, in the file\n%s", name, got, want, file)
		}
	})
}

// FuzzGlob compares the wildcard match with a regular expression that says the
// same: a "*" is one or more characters that are no dots.
func FuzzGlob(f *testing.F) {
	for _, seed := range [][2]string{
		{"*.up.com", "a.up.com"}, {"*.up.com", ".up.com"}, {"b*a*.*b", "bxaa.yb"}, {"**", "a"}, {"**a", "aba"}, {"*a*b.c", "xaabb.c"}, {"*", "a.b"}, {"a*", "*"}, {"a*", "a"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if checkName(pattern) != nil || checkName(name) != nil {
			return
		}
		got, err := path.Match(globs.Replace(pattern), segments(name))
		expr := "^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `[^.]+`) + "$"
		if want := regexp.MustCompile(expr).MatchString(name); got != want || err != nil {
			t.Errorf("%q matches %q: %v, %v; want %v", pattern, name, got, err, want)
		}
	})
}

// TestGlobsAtRandom does what FuzzGlob does, over short names of few letters, in
// which a star often has a choice.
func TestGlobsAtRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	word := func(letters string) string {
		b := make([]byte, 1+random.IntN(8))
		for i := range b {
			b[i] = letters[random.IntN(len(letters))]
		}
		return string(b)
	}
	matched := 0
	for range 50_000 {
		pattern, name := word("ab.**"), word("aab.")
		got, err := path.Match(globs.Replace(pattern), segments(name))
		expr := "^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `[^.]+`) + "$"
		if want := regexp.MustCompile(expr).MatchString(name); got != want || err != nil {
			t.Fatalf("%q matches %q: %v, %v; want %v", pattern, name, got, err, want)
		}
		if got {
			matched++
		}
	}
	if matched < 1000 {
		t.Errorf("only %d matched", matched)
	}
}

func BenchmarkLookup(b *testing.B) {
	var file strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&file, "10.0.0.1 b%d.up.com\n10.0.0.2 *.r%d.up.com\n", i, i)
	}
	table := parse(b, file.String())
	for _, name := range []string{"b500.up.com", "b500.r0.up.com", "elsewhere.example"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				table.Lookup(name)
			}
		})
	}
}
