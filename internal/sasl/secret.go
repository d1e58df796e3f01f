package sasl

import (
	"fmt"
	"io"
	"log/slog"
)

// hidden is what is printed of a secret, whatever it is.
const hidden = "***"

// Secret is a password or a token. However it is printed (fmt with any verb, JSON,
// YAML, slog), it is ***; an empty one, too.
//
// What it cannot prevent: fmt prints an unexported field of a struct, and what a
// pointer leads to if the verb is a wrong one, without asking for methods. So a
// Secret is in no unexported field of what may be printed; what has to keep one
// has a Format of its own, and keeps it in a function. Nor is it the key of a map,
// which JSON would print.
type Secret string

// Reveal returns what the secret is.
func (s Secret) Reveal() string { return string(s) }

func (Secret) String() string               { return hidden }
func (Secret) GoString() string             { return hidden }
func (Secret) Format(f fmt.State, _ rune)   { io.WriteString(f, hidden) }
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }
func (Secret) MarshalYAML() (any, error)    { return hidden, nil }
func (Secret) LogValue() slog.Value         { return slog.StringValue(hidden) }
