package internal

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
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
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllSubmatch(text, -1) {
			named++
			if !slices.Contains(tests, string(m[1])) {
				t.Errorf("%s names %s, which does not exist", document, m[1])
			}
		}
	}
	if named < 40 {
		t.Errorf("only %d tests are named: the pattern is wrong", named)
	}
}
