package internal

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// SECURITY.md says of each promise which test holds it.
func TestTestsThatAreNamedInDocumentsExist(t *testing.T) {
	var tests []string
	for _, dir := range []string{"../cmd", "../internal", "../chaos"} {
		err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" {
				return err
			}
			source, err := os.ReadFile(path)
			for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(source, -1) {
				tests = append(tests, string(m[1]))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	named := 0
	for _, document := range []string{"../SECURITY.md", "../docs/reliability.md"} {
		for _, m := range regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(read(t, document), -1) {
			named++
			if !slices.Contains(tests, m[1]) {
				t.Errorf("%s names %s, which does not exist", document, m[1])
			}
		}
	}
	if named < 60 {
		t.Errorf("only %d tests are named: the pattern is wrong", named)
	}
}

// A reader decides on the first screen. What is longer goes into docs/.
func TestTheREADMEIsShort(t *testing.T) {
	const most = 90
	if lines := strings.Count(read(t, "../README.md"), "\n"); lines > most {
		t.Errorf("README.md has %d lines, want %d at the most", lines, most)
	}
}

// link is an inline link of Markdown, and heading a heading.
var (
	link    = regexp.MustCompile(`\[[^\]\n]*\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.+?) *$`)
)

func TestLinksInDocumentsLeadSomewhere(t *testing.T) {
	followed := 0
	for _, document := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(withoutCode(read(t, document)), -1) {
			target := m[1]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue // not ours
			}
			followed++
			path, anchor, hasAnchor := strings.Cut(target, "#")
			file := document
			if path != "" {
				file = filepath.Join(filepath.Dir(document), path)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s links to %s, and there is no such file", document, target)
				continue
			}
			if hasAnchor && !slices.Contains(anchors(read(t, file)), anchor) {
				t.Errorf("%s links to %s, and there is no such heading", document, target)
			}
		}
	}
	if followed < 60 {
		t.Errorf("only %d links were followed: the pattern is wrong", followed)
	}
}

// Every page of docs/ is in its index.
func TestTheIndexHasEveryPage(t *testing.T) {
	index := read(t, "../docs/README.md")
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if name := filepath.Base(page); name != "README.md" && !strings.Contains(index, "]("+name+")") {
			t.Errorf("docs/README.md does not have %s", name)
		}
	}
	quickstarts, err := filepath.Glob("../docs/quickstart/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range quickstarts {
		name := filepath.Base(page)
		for _, index := range []string{"../docs/README.md", "../docs/quickstart/README.md"} {
			if name != "README.md" && !strings.Contains(read(t, index), name+")") {
				t.Errorf("%s does not have %s", index, name)
			}
		}
	}
}

func documents(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"../*.md", "../docs/*.md", "../docs/quickstart/*.md", "../docs/benchmarks/*.md", "../interop/*.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, files...)
	}
	return all
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// code is what Markdown shows as it is: fenced and indented blocks, and code in a line.
var code = regexp.MustCompile("(?ms)^```.*?^```|^    .*?$|`[^`\n]*`")

func withoutCode(text string) string { return code.ReplaceAllLiteralString(text, "") }

// anchors returns what the headings of a text are called in links, in the way of the
// usual hosting platforms: lower case, hyphens for spaces, and of all other characters
// only letters, digits, hyphens and underscores.
func anchors(text string) []string {
	var all []string
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		all = append(all, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1]))
	}
	return all
}
