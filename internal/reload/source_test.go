package reload

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// fileSource is a source of the content of a file. "bad" is an error, "half" one that may
// pass.
func fileSource(file string) *Source[string] {
	half := errors.New("half")
	return &Source[string]{
		Setting: "--" + filepath.Base(file),
		Files:   []string{file},
		Read: func() (string, error) {
			content, err := os.ReadFile(file)
			switch string(content) {
			case "bad":
				err = errors.New("bad content")
			case "half":
				err = half
			}
			return string(content), err
		},
		Same:       func(a, b string) bool { return a == b },
		Warnings:   func(s string) []string { return []string{"warning about " + s} },
		Incomplete: func(err error) bool { return errors.Is(err, half) },
	}
}

func put(t *testing.T, file, content string) {
	t.Helper()
	check(t, os.WriteFile(file+".new", []byte(content), 0o600), os.Rename(file+".new", file))
}

// What a file could not be read for may pass without the file being touched.
func TestFilesThatCouldNotBeReadAreReadAgain(t *testing.T) {
	results := []struct {
		value string
		err   error
	}{{"old", nil}, {"", errors.New("too many open files")}, {"new", nil}}
	s := Source[string]{
		Setting: "--cert",
		Files:   []string{t.TempDir()},
		Read: func() (string, error) {
			r := results[0]
			results = results[1:]
			return r.value, r.err
		},
		Same: func(a, b string) bool { return a == b },
	}
	if err := s.Load(); err != nil || s.stale() {
		t.Fatal(err, "stale from the start")
	}
	log := slog.New(slog.DiscardHandler)
	if got := s.refresh(log, touched); got != failed || s.Value() != "old" || !s.stale() {
		t.Errorf("outcome %d, %q, stale: %v; want it failed, and read again", got, s.Value(), s.stale())
	}
	if got := s.refresh(log, due); got != changed || s.Value() != "new" || s.stale() {
		t.Errorf("outcome %d, %q, stale: %v; want the new one", got, s.Value(), s.stale())
	}
}

// Files that are written one after the other do not match in between. That is an error
// only when it lasts, or when somebody asks.
func TestFilesThatDoNotMatchYetAreNoError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pair")
	put(t, file, "old")
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	s := fileSource(file)
	check(t, s.Load())
	put(t, file, "half")
	for _, step := range []struct {
		why    reason
		want   outcome
		errors int
	}{{touched, incomplete, 0}, {touched, incomplete, 0}, {due, failed, 1}, {touched, incomplete, 1}, {due, failed, 1}, {asked, failed, 2}} {
		if got := s.refresh(logger, step.why); got != step.want || strings.Count(log.String(), "level=ERROR") != step.errors {
			t.Errorf("after %v: %v and %d errors, want %v and %d:\n%s", step.why, got, strings.Count(log.String(), "level=ERROR"), step.want, step.errors, log.String())
		}
		if s.Value() != "old" || s.problem == "" && step.errors > 0 {
			t.Errorf("after %v: the old value does not stay, or the problem is forgotten", step.why)
		}
	}
	put(t, file, "new")
	got := s.refresh(logger, touched)
	s.announce(logger)
	if got != changed || s.Value() != "new" || !strings.Contains(log.String(), "warning about new") {
		t.Errorf("with files that match: %v, %q:\n%s", got, s.Value(), log.String())
	}
}

// recorder is an owner that tells what it is told.
type recorder struct{ events chan Event }

func (r recorder) Reloading()       {}
func (r recorder) Reloaded(e Event) { r.events <- e }

// TestGroupTellsItsOwnerWhatIsNew runs a group over files that are replaced.
func TestGroupTellsItsOwnerWhatIsNew(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	put(t, one, "1")
	put(t, two, "2")
	sources := []*Source[string]{fileSource(one), fileSource(two)}
	for _, s := range sources {
		check(t, s.Load())
	}
	owner := recorder{make(chan Event, 10)}
	g := NewGroup(slog.New(slog.DiscardHandler), owner, sources[0], sources[1])
	ctx, cancel := context.WithCancel(t.Context())
	asks := make(chan os.Signal)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.Run(ctx, asks)
	}()
	defer func() { cancel(); <-ended }()
	next := func(want Event) {
		t.Helper()
		select {
		case got := <-owner.events:
			if got.Asked != want.Asked || !slices.Equal(got.Changed, want.Changed) {
				t.Errorf("%+v, want %+v", got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("nothing was told, want %+v", want)
		}
	}
	asks <- os.Interrupt
	next(Event{Asked: true})
	put(t, two, "changed")
	next(Event{Changed: []string{"--two"}})
	put(t, one, "bad")
	next(Event{})
	if r := g.Result(); r.Changed != 1 || r.Failed != 1 || r.Problems != 1 || sources[0].Value() != "1" {
		t.Errorf("%+v, and %q in use", r, sources[0].Value())
	}
	put(t, one, "good")
	next(Event{Changed: []string{"--one"}})
	if r := g.Result(); r.Changed != 2 || r.Problems != 0 {
		t.Errorf("%+v", r)
	}
}
