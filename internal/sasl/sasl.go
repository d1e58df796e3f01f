// Package sasl is how clients prove to the proxy who they are, and how the proxy does to
// brokers (RFC 4422, KIP-12): bytes in, bytes out. It has no sockets, no log, and no clock but
// the one that it is given. How the bytes are framed is internal/kafka's matter (KIP-43,
// KIP-152), and what a client may do afterwards the broker's.
package sasl

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"time"
)

// Server is one exchange of a mechanism with a client.
type Server interface {
	// Next takes what the client has sent, and returns what to answer. When done, Identity
	// says who it is. An error is what the client is told (error 58): it tells no secret, and
	// not whether there is such a user.
	Next(in []byte) (out []byte, done bool, err error)
	// Identity returns who the client is, once Next is done.
	Identity() Identity
}

// Identity is who a client is.
type Identity struct {
	Principal string
	Mechanism string
	Expires   time.Time // when it has to prove it again (KIP-368); zero: never
}

// Client is one exchange with a broker.
type Client interface {
	// Mechanism returns its name, such as SCRAM-SHA-256.
	Mechanism() string
	// Next takes the broker's challenge, nil at first, and returns the response. done: there
	// is nothing more to send, and the broker has proved itself where the mechanism has it do
	// that.
	Next(challenge []byte) (response []byte, done bool, err error)
}

// Credential is what is shown to brokers.
type Credential struct {
	User     string
	Password Secret
	Token    Secret    // of OAUTHBEARER
	Expires  time.Time // zero: not known
}

// Secret is a text that is printed as *** wherever it is printed.
type Secret string

const hidden = "***"

// Reveal returns the text.
func (s Secret) Reveal() string { return string(s) }

// String implements fmt.Stringer.
func (s Secret) String() string { return hidden }

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return hidden }

// Format implements fmt.Formatter, for every verb.
func (s Secret) Format(f fmt.State, _ rune) { f.Write([]byte(hidden)) }

// MarshalText implements encoding.TextMarshaler.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// MarshalJSON implements json.Marshaler.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(hidden) }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }
