package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

// spoken is a text, and who says it.
type spoken struct{ who, text string }

var (
	textMark = regexp.MustCompile(`(?m)^<!-- ([a-z]+): ([a-z-]+) -->$`)
	textRow  = regexp.MustCompile("(?m)^\\| ([^|`]+) \\| `([^`]+)` \\|$")
)

// readTexts reads who says what from a document. Each of its sections has a mark such as
// <!-- symptom: wrong-ca -->, of the kind that is given, and a table with a row for each text.
// There has to be a section for each name, and no other.
func readTexts(file, kind string, names []string) (map[string][]spoken, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	all := map[string][]spoken{}
	marks := textMark.FindAllSubmatchIndex(content, -1)
	for i, m := range marks {
		if string(content[m[2]:m[3]]) != kind {
			continue
		}
		end := len(content)
		if i+1 < len(marks) {
			end = marks[i+1][0]
		}
		texts := []spoken{}
		for _, row := range textRow.FindAllSubmatch(content[m[1]:end], -1) {
			texts = append(texts, spoken{string(row[1]), strings.ReplaceAll(string(row[2]), `\|`, "|")})
		}
		all[string(content[m[4]:m[5]])] = texts
	}
	for _, name := range names {
		if all[name] == nil {
			err = errors.Join(err, fmt.Errorf("%s has no <!-- %s: %s -->", file, kind, name))
		}
	}
	for name := range all {
		if !slices.Contains(names, name) {
			err = errors.Join(err, fmt.Errorf("%s has the %s %s, which nothing produces", file, kind, name))
		}
	}
	return all, err
}

// compareTexts returns how many texts of a document were said. got is all that somebody has
// said in a section.
func compareTexts(expected map[string][]spoken, got func(name, who string) string) (found int, err error) {
	for _, name := range slices.Sorted(maps.Keys(expected)) {
		for _, e := range expected[name] {
			switch said := got(name, e.who); {
			case said == "":
				err = errors.Join(err, fmt.Errorf("%s: %s has said nothing", name, e.who))
			case !containsInOrder(said, strings.Split(e.text, "…")):
				err = errors.Join(err, fmt.Errorf("%s: %s no longer says %q", name, e.who, e.text))
			default:
				found++
			}
		}
	}
	return found, err
}

// containsInOrder reports whether a line of a text has all parts, one behind the other.
func containsInOrder(text string, parts []string) bool {
line:
	for line := range strings.Lines(text) {
		for _, part := range parts {
			_, rest, ok := strings.Cut(line, part)
			if !ok {
				continue line
			}
			line = rest
		}
		return true
	}
	return false
}
