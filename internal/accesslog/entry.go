package accesslog

import (
	"bytes"
	"encoding/json"
	"time"

	"kafka-sni-proxy/internal/text"
)

// MaxText is how many bytes there are at most of a text that a client or a broker has sent.
const MaxText = 512

// Result is what became of a connection, in one word.
type Result string

const (
	OK      Result = "ok"      // it ended in good order, or a peer just went away
	Retired Result = "retired" // this side ended it: it was idle, or old
	Failed  Result = "failed"
	Refused Result = "refused" // by a limit, or because the proxy was about to end
	Panic   Result = "panic"
)

// Entry is a line of the log: a connection that has ended. What is not known is left out.
// The fields are called as in package api.
type Entry struct {
	Time  Time `json:"time"`  // of its end
	Began Time `json:"began"` // when it was accepted

	Listener string `json:"listener,omitempty"`
	Client   string `json:"client"` // address and port
	SNI      string `json:"sni,omitempty"`
	Cluster  string `json:"cluster,omitempty"`
	Node     *int32 `json:"node,omitempty"`     // that was asked for, by name or by port
	Upstream string `json:"upstream,omitempty"` // host:port of the broker that was reached

	// Software and SoftwareVersion are what the client says it is (KIP-511), ClientID the
	// client.id of its first request. Anybody can say anything here.
	Software        string `json:"software,omitempty"`
	SoftwareVersion string `json:"software_version,omitempty"`
	ClientID        string `json:"client_id,omitempty"`
	TLS             string `json:"tls,omitempty"` // such as TLS 1.3

	// Principal is who the client has proved to be, by Mechanism, and BrokerMechanism how the
	// proxy was let in by the broker for it; empty where the proxy does not ask.
	Principal       string `json:"principal,omitempty"`
	Mechanism       string `json:"mechanism,omitempty"`
	BrokerMechanism string `json:"broker_mechanism,omitempty"`

	RequestBytes  int64 `json:"request_bytes"` // forwarded, as plaintext
	ResponseBytes int64 `json:"response_bytes"`
	Requests      int64 `json:"requests"`
	Responses     int64 `json:"responses"`
	Rewritten     int64 `json:"rewritten"` // responses in which an address was replaced

	Handshake Seconds `json:"handshake_seconds,omitempty"` // from accepting it to the end of its TLS handshake
	Connect   Seconds `json:"connect_seconds,omitempty"`   // until the broker was reached, TLS included
	Took      Seconds `json:"took_seconds"`                // from beginning to end

	Result Result `json:"result"`
	// Phase is where it failed, or where a peer went away, and Reason the error.
	Phase   string `json:"phase,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Retired string `json:"retired,omitempty"` // why: idle or age
	Limit   string `json:"limit,omitempty"`   // that it was refused by
}

// Time is written in UTC, with microseconds.
type Time time.Time

// MarshalText implements encoding.TextMarshaler.
func (t Time) MarshalText() ([]byte, error) {
	return time.Time(t).UTC().AppendFormat(nil, "2006-01-02T15:04:05.000000Z07:00"), nil
}

// Seconds is a duration. It is written with microseconds.
type Seconds time.Duration

// MarshalJSON implements json.Marshaler.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(s).Round(time.Microsecond).Seconds())
}

// line returns the entry as a line.
func (e Entry) line() []byte {
	for _, s := range []*string{&e.Listener, &e.Client, &e.SNI, &e.Cluster, &e.Upstream, &e.Software, &e.SoftwareVersion, &e.ClientID, &e.TLS, &e.Principal, &e.Phase, &e.Reason} {
		*s = text.Cut(*s, MaxText)
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(&e); err != nil { // there is no value that cannot be written
		panic(err)
	}
	return b.Bytes()
}
