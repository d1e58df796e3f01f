package main

import (
	"errors"

	"kafka-sni-proxy/internal/config"
)

// mistakes are all that is wrong with a configuration and with what it names.
type mistakes struct {
	// text says what is wrong with a setting, in terms of flags or of a file.
	text func(*config.Error) string

	found config.Errors
}

// add notes what is wrong with the settings at some paths; err may join several errors.
func (m *mistakes) add(err error, paths ...string) { m.found.Add(err, paths...) }

// any reports whether anything is wrong.
func (m *mistakes) any() bool { return len(m.found) > 0 }

// errors returns what is wrong.
func (m *mistakes) errors() (wrong usageErrors) {
	for _, e := range m.found {
		wrong = append(wrong, errors.New(m.text(e)))
	}
	return wrong
}

// flagText says what is wrong in terms of flags.
func flagText(e *config.Error) string { return e.Text(flagName) }
