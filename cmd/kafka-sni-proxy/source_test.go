package main

import (
	"errors"
	"log/slog"
	"testing"
)

// What a file could not be read for may pass without the file being touched.
func TestFilesThatCouldNotBeReadAreReadAgain(t *testing.T) {
	results := []struct {
		value string
		err   error
	}{{"old", nil}, {"", errors.New("too many open files")}, {"new", nil}}
	s := source[string]{
		part: part{flags: "--cert", files: []string{t.TempDir()}},
		read: func() (string, error) {
			r := results[0]
			results = results[1:]
			return r.value, r.err
		},
		same:  func(a, b string) bool { return a == b },
		about: func(string) []any { return nil },
	}
	if err := s.first(); err != nil || s.stale() {
		t.Fatal(err, "stale from the start")
	}
	used := 0
	use := func() { used++ }
	log := slog.New(slog.DiscardHandler)
	if got := s.refresh(log, touched, use); got != unusable || s.value != "old" || !s.stale() {
		t.Errorf("outcome %d, %q, stale: %v; want it to be unusable, and read again", got, s.value, s.stale())
	}
	if got := s.refresh(log, due, use); got != changed || s.value != "new" || s.stale() || used != 1 {
		t.Errorf("outcome %d, %q, stale: %v, used %d times; want the new one, once", got, s.value, s.stale(), used)
	}
}
