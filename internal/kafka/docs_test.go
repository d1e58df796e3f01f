package kafka

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

var update = flag.Bool("update", false, "write docs/rewriting.md anew")

// TestDocs writes docs/rewriting.md: for every API and version in the table,
// the ways its responses take, each marked by random messages that took it. It
// fails when the file says something else.
func TestDocs(t *testing.T) {
	const file = "../../docs/rewriting.md"
	var b strings.Builder
	fmt.Fprintf(&b, docsHead, wholeFrame>>10, margin>>10, "`")
	b.WriteString("| key | API | versions | addresses | passed on | up to the last address | whole | in place |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|\n")
	for i := range schemas {
		s := &schemas[i]
		for _, r := range docsRows(t, s) {
			fmt.Fprintf(&b, "| %d | %s | %s | %s | %s |\n", s.key, s.name, r.versions(), r.where, strings.Join(r.marks, " | "))
		}
	}
	fmt.Fprintf(&b, docsOffer, newestAPIVersions, strings.Join(docsOffers(), ", "))
	for _, name := range slices.Sorted(maps.Keys(notBrokers)) {
		fmt.Fprintf(&b, "| %s | %s |\n", name, notBrokers[name])
	}
	b.WriteString(docsTail)

	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != b.String() {
		t.Errorf("docs/rewriting.md is out of date: go test ./internal/kafka -run TestDocs -update")
	}
}

// docsRow is some versions of an API whose responses take the same ways.
type docsRow struct {
	first, last int16
	where       string
	marks       []string
}

func (r docsRow) versions() string {
	if r.first == r.last {
		return fmt.Sprint(r.first)
	}
	return fmt.Sprintf("%d–%d", r.first, r.last)
}

func docsRows(t *testing.T, s *schema) (rows []docsRow) {
	for version := range s.newest + 1 {
		r := docsRow{first: version, last: version, where: "none"}
		mark := func(takes bool, tune tuning, get func(g *generator) *message) {
			switch {
			case !takes:
				r.marks = append(r.marks, "")
			case t.Run(fmt.Sprintf("%s/v%d", s.name, version), func(t *testing.T) {
				g := newGenerator(seed(s, version))
				for range 30 {
					m := get(g)
					check{tune: tune, names: namer(30)}.run(t, []*message{m}, m.encode(), g.cuts())
				}
			}):
				r.marks = append(r.marks, "✓")
			default:
				r.marks = append(r.marks, "✗")
			}
		}
		any := func(g *generator) *message { return g.message(s.key, version) }
		some := func(g *generator) *message { return g.withAddresses(s.key, version) }
		l := lookup(s.key).versions[version]
		if l != nil {
			r.where = map[tail]string{noTail: "early", taggedEndpoints: "at the end, tagged", plainEndpoints: "at the end"}[l.tail]
		}
		mark(l == nil, tuning{}, any)
		mark(l != nil && l.tail == noTail, tuning{}, some)
		mark(l != nil && l.tail != noTail, tuning{}, some)
		mark(l != nil && l.tail != noTail, tuning{wholeFrame: 1, margin: 20}, some)

		if last := len(rows) - 1; last >= 0 && rows[last].where == r.where && slices.Equal(rows[last].marks, r.marks) {
			rows[last].last = version
			continue
		}
		rows = append(rows, r)
	}
	return rows
}

// docsOffers lists the newest versions that ApiVersions offers.
func docsOffers() (all []string) {
	for _, s := range schemas {
		offer := fmt.Sprintf("%s %d", s.name, s.newest)
		if newest := kmsg.ResponseForKey(s.key).MaxVersion(); newest > s.newest {
			offer += fmt.Sprintf(" (of %d: the newer ones tell where controllers listen)", newest)
		}
		all = append(all, offer)
	}
	return all
}

const docsHead = `# Which responses are rewritten

This page is written by a test (%[3]sgo test ./internal/kafka -run TestDocs -update%[3]s), which
sends random responses of every API and version below each way, and compares what comes of
them with what franz-go's kmsg, an encoder of its own, makes of the same messages with
other addresses. A mark says that all of them were equal.

A response takes one of four ways:

- *passed on*: it carries no address in this version, and streams through untouched;
- *up to the last address*: the addresses come early; the response is kept up to the last
  one, gets its new length, and the rest streams;
- *whole*: the addresses are at its end, and it is at most %[1]d KiB long: it is kept until
  it is complete;
- *in place*: it is longer, and was on its way before its end came. Its end is replaced by
  as many bytes: our addresses where they fit, and an unknown tagged field, which clients
  skip (KIP-482), for the space that is left. Where they do not fit, endpoints are left
  out, and the client asks for metadata as it did before KIP-951. The last %[2]d KiB wait
  until all of the response was seen to be well formed.

`

const docsOffer = `
Responses of all other APIs are passed on as they are, and carry no address of a broker.

ApiVersions responses, versions 0–%d, are changed so that clients are offered nothing newer
than the table: %s. A client that uses a
version all the same is closed, with one line in the log.

## What looks like an address and stays

These fields of other responses are not rewritten. The list is complete: the test goes
through every response that kmsg knows.

| field | what it is |
|---|---|
`

const docsTail = `
Kafka also reports addresses as text where it reports configuration: DescribeConfigs has a
broker's own ` + "`advertised.listeners`" + `. No client connects by it.
`
