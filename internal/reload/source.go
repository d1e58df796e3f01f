package reload

import (
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Source is what some files say that belong together, such as a certificate and its key.
// Without files it has the zero value, and is never read.
type Source[T any] struct {
	// Setting names the files in the log.
	Setting string
	// Files are what Read reads.
	Files []string
	// Read reads them.
	Read func() (T, error)
	// Same reports whether two values are the same, so that nothing has to be done.
	Same func(a, b T) bool
	// Describe returns attributes of a value for the log. Nil: none.
	Describe func(T) []any
	// Warnings returns what is likely to be wrong with a value, but can be meant. Nil: none.
	Warnings func(T) []string
	// Incomplete reports whether an error of Read may be due to a change of which only a
	// part was there yet: then the files are soon read again. Nil: it never is.
	Incomplete func(error) bool

	value   T
	seen    stamps // of the files as they were last read
	problem string // with them as they were last read; "": none
	since   time.Time
}

// Load reads the files when the program starts.
func (s *Source[T]) Load() (err error) {
	s.seen = stampsOf(s.Files)
	s.value, err = s.Read()
	return err
}

// Mark notes how the files are now, for a caller that reads them itself and calls Set.
func (s *Source[T]) Mark() { s.seen = stampsOf(s.Files) }

// Value returns what was last read and could be used.
func (s *Source[T]) Value() T { return s.value }

// Set sets what a source has whose files are not read by Load.
func (s *Source[T]) Set(value T) { s.value = value }

// Warn returns the warnings about the value.
func (s *Source[T]) Warn() []string {
	if s.Warnings == nil || len(s.Files) == 0 {
		return nil
	}
	return s.Warnings(s.value)
}

// Part is a [Source] of any type.
type Part interface {
	name() string
	files() []string
	stale() bool
	trouble() (Problem, bool)
	refresh(log *slog.Logger, why reason) outcome
	announce(log *slog.Logger)
}

func (s *Source[T]) name() string    { return s.Setting }
func (s *Source[T]) files() []string { return s.Files }

// trouble returns what is wrong with the files as they are, if anything is.
func (s *Source[T]) trouble() (Problem, bool) {
	return Problem{s.Setting, slices.Clone(s.Files), s.since, s.problem}, s.problem != ""
}

// stale reports whether the files are not what was last read, or have to be read
// again because that failed: the reason may have been elsewhere, such as no
// file descriptor left.
func (s *Source[T]) stale() bool { return s.problem != "" || !stampsOf(s.Files).equal(s.seen) }

// outcome is what came of reading files once more.
type outcome int

const (
	unchanged outcome = iota
	changed
	failed
	incomplete
)

// refresh reads the files once more. When they cannot be used the value stays. That is
// logged once, or whenever somebody has asked.
func (s *Source[T]) refresh(log *slog.Logger, why reason) outcome {
	if len(s.Files) == 0 {
		return unchanged
	}
	s.seen = stampsOf(s.Files) // before they are read: what comes later is not missed
	value, err := s.Read()
	if err != nil {
		return s.fail(log, why, err)
	}
	recovered := s.problem != ""
	s.problem = ""
	if s.Same(s.value, value) {
		if recovered {
			log.Info("a file is again as it was loaded", "setting", s.Setting)
		}
		return unchanged
	}
	s.value = value
	return changed
}

// announce says that a new value is in use.
func (s *Source[T]) announce(log *slog.Logger) {
	attrs := []any{"setting", s.Setting}
	if s.Describe != nil {
		attrs = append(attrs, s.Describe(s.value)...)
	}
	log.Info("reloaded", attrs...)
	for _, warning := range s.Warn() {
		log.Warn(warning)
	}
}

func (s *Source[T]) fail(log *slog.Logger, why reason, err error) outcome {
	if why == touched && s.Incomplete != nil && s.Incomplete(err) {
		log.Debug("files do not match, perhaps not yet; looking again", "setting", s.Setting)
		return incomplete
	}
	problem := strings.ReplaceAll(err.Error(), "\n", "; ")
	if why == asked || problem != s.problem {
		log.Error("a changed file cannot be used: what was loaded before stays in use until it is put right", "setting", s.Setting, "error", problem)
	}
	if s.problem == "" {
		s.since = time.Now()
	}
	s.problem = problem
	return failed
}
