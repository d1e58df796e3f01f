package reload

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func check(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestStampsTellFilesApart(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	write := func(content string) {
		t.Helper()
		check(t, os.WriteFile(file+".new", []byte(content), 0o600), os.Rename(file+".new", file))
	}
	write("one")
	before := stampsOf([]string{file, dir + "/nothing"})
	if !stampsOf([]string{file, dir + "/nothing"}).equal(before) {
		t.Error("nothing has changed")
	}
	for name, change := range map[string]func(){
		"another file": func() { write("two") },
		"its mode":     func() { check(t, os.Chmod(file, 0o644)) },
		"its length":   func() { check(t, os.Truncate(file, 1)) },
		"gone":         func() { check(t, os.Remove(file)) },
	} {
		write("one")
		before := stampsOf([]string{file})
		if change(); stampsOf([]string{file}).equal(before) {
			t.Errorf("not seen: %s", name)
		}
	}
}

func TestEveryStepOnTheWayToAFileIsWatched(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	check(t, err)
	check(t, os.MkdirAll(dir+"/real/deep", 0o755), os.Symlink("../real", dir+"/real/up"), os.Symlink(dir+"/real/deep", dir+"/link"),
		os.Symlink("loop", dir+"/loop"))
	steps := func(file string) map[string]bool {
		all := map[string]bool{}
		eachStep(file, func(at, name string) {
			if rel, err := filepath.Rel(dir, filepath.Join(at, name)); err == nil && !strings.HasPrefix(rel, "..") {
				all[rel] = true
			}
		})
		return all
	}
	for file, want := range map[string][]string{
		"/real/deep/file":    {".", "real", "real/deep", "real/deep/file"},
		"/link/file":         {".", "link", "real", "real/deep", "real/deep/file"},
		"/real/up/deep/file": {".", "real", "real/up", "real/deep", "real/deep/file"},
		"/nothing/file":      {".", "nothing", "nothing/file"},
		"/loop/file":         {".", "loop"},
	} {
		got := slices.Sorted(maps.Keys(steps(dir + file)))
		slices.Sort(want)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", file, got, want)
		}
	}
}

// TestChangesThatDoNotEndAreReadAllTheSame: each change puts the reading off by settle,
// but the first one sets a time at which the files are read in any case.
func TestChangesThatDoNotEndAreReadAllTheSame(t *testing.T) {
	asked := map[time.Duration]int{}
	s := settling{after: func(d time.Duration) <-chan time.Time {
		asked[d]++
		return make(chan time.Time)
	}}
	s.again = s.after(time.Hour)
	for range 5 {
		s.changed()
	}
	if asked[settle] != 5 || asked[settleMost] != 1 || s.atLast == nil {
		t.Errorf("timers asked for: %v; want one of %v for each change, and one of %v in all", asked, settle, settleMost)
	}
	if s.again != nil {
		t.Error("the time to look again comes although a change is waited for")
	}
}
