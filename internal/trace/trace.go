// Package trace sends spans of OpenTelemetry to a collector, by OTLP over HTTP: one for each
// connection of a client, with one for each of its first steps in it, and one for some of its
// requests.
//
// [Exporter.Connection] and [Exporter.Request] never wait: spans are put into a queue of
// [QueueLength], and one goroutine sends them. What does not fit is dropped and counted.
//
// What a connection's trace is called follows from the connection itself: a request knows
// which trace it belongs to without anything being kept for that.
//
// trace.go has the spans, export.go how they are sent.
package trace

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"math"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"kafka-sni-proxy/internal/text"
)

// maxText is how many bytes there are at most of a text in a span.
const maxText = 512

// Client is the connection that something belongs to.
type Client struct {
	Began   time.Time
	Address net.Addr

	Listener string
	SNI      string // that it asked for; "": none
	TLS      uint16 // version, as in crypto/tls; 0: plaintext, or not known
	Cluster  string
	Broker   string // host:port of the one that was reached; "": none was

	// What the client says of itself.
	ID, Software, SoftwareVersion string
}

// Connection is a connection that has ended.
type Connection struct {
	Client

	Took      time.Duration
	Handshake time.Duration // from its beginning to the end of the handshake; 0: it did not get there
	Connect   time.Duration // from there until the broker was reached; 0: it was not
	Resumed   bool          // the TLS session

	RequestBytes, ResponseBytes, Requests, Responses, Rewritten int64

	Result string // ok, retired, failed, refused or panic
	Failed bool   // the last three
	// Phase is where it failed, or where a peer went away, Reason the error. Retired is why
	// it was ended in good order, Limit what it was refused by.
	Phase, Reason, Retired, Limit string
}

// Request is a request and the header of its response.
type Request struct {
	API          string // such as Produce
	Key, Version int16
	Correlation  int32
	Asked        time.Time     // when the request's header came
	Answered     time.Time     // when that of the response did
	Throttle     time.Duration // for which the broker has the client wait
}

// identity is what a connection's trace is called.
type identity struct {
	trace [16]byte
	span  [8]byte
	value uint64 // evenly spread over all connections
}

// identityOf finds out what the trace of a connection is called.
func (x *Exporter) identityOf(c *Client) (id identity) {
	b := binary.BigEndian.AppendUint64(x.secret[:len(x.secret):len(x.secret)], uint64(c.Began.UnixNano()))
	if c.Address != nil {
		b = append(b, c.Address.String()...)
	}
	sum := sha256.Sum256(b)
	copy(id.trace[:], sum[:16])
	copy(id.span[:], sum[16:24])
	id.value = binary.BigEndian.Uint64(sum[24:])
	return id
}

// share is how much of all values is below it: 0 for none of them, MaxUint64 for all.
type share uint64

// shareOf returns a ratio as a share.
func shareOf(ratio float64) share {
	switch {
	case !(ratio > 0):
		return 0
	case ratio >= 1:
		return math.MaxUint64
	}
	return share(ratio * (1 << 64))
}

// has reports whether a value is in the share.
func (s share) has(value uint64) bool { return value < uint64(s) || s == math.MaxUint64 }

// SampleRequest reports whether there is to be a span of a request: of a share of them, chosen
// at random.
func (x *Exporter) SampleRequest() bool { return x.requests.has(mathrand.Uint64()) }

// Connection sends the spans of a connection that has ended, if it is in the share of those
// that are traced.
func (x *Exporter) Connection(c *Connection) {
	id := x.identityOf(&c.Client)
	if !x.connections.has(id.value) {
		return
	}
	end := c.Began.Add(c.Took)
	span := newSpan(id.trace, id.span, nil, "kafka connection", tracepb.Span_SPAN_KIND_SERVER, c.Began, end)
	a := c.attributes()
	a.text("tls.protocol.version", tlsVersion(c.TLS))
	if c.TLS != 0 {
		a.text("tls.protocol.name", "tls")
		a.bool("tls.resumed", c.Resumed)
	}
	a.text(own+"software", c.Software)
	a.text(own+"software_version", c.SoftwareVersion)
	for _, n := range []struct {
		key   string
		value int64
	}{{"request_bytes", c.RequestBytes}, {"response_bytes", c.ResponseBytes}, {"requests", c.Requests}, {"responses", c.Responses}, {"rewritten", c.Rewritten}} {
		a.int(own+n.key, n.value)
	}
	a.text(own+"result", c.Result)
	a.text(own+"retired", c.Retired)
	a.text(own+"limit", c.Limit)
	a.text(own+"phase", c.Phase)
	if !c.Failed {
		a.text(own+"reason", c.Reason)
	}
	c.fail(span, &a)
	span.Attributes = a
	x.send(span)
	c.steps(func(name string, kind tracepb.Span_SpanKind, from, to time.Time) {
		step := newSpan(id.trace, randomID(), id.span[:], name, kind, from, to)
		a := attributes{}
		a.text(system, "kafka")
		if name == "connect" {
			a.address("server", c.Broker)
		}
		if c.Failed && to.Equal(end) { // the step in which it ended
			c.fail(step, &a)
		}
		step.Attributes = a
		x.send(step)
	})
}

// fail gives a span the status of a connection that failed.
func (c *Connection) fail(span *tracepb.Span, a *attributes) {
	if !c.Failed {
		return
	}
	kind, message := c.Phase, c.Reason
	switch {
	case c.Limit != "":
		kind, message = c.Result, "limit reached: "+c.Limit
	case kind == "":
		kind = c.Result
	case message != "":
		message = kind + ": " + message
	}
	a.text("error.type", kind)
	span.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: text.Cut(message, maxText)}
}

// steps calls add for each step on the way to the broker, that in which the connection ended
// included.
func (c *Connection) steps(add func(name string, kind tracepb.Span_SpanKind, from, to time.Time)) {
	end, shaken := c.Began.Add(c.Took), c.Began.Add(c.Handshake)
	switch {
	case c.Limit != "" && c.Handshake == 0, c.Phase == "" && c.Handshake == 0: // refused on arrival
		return
	case c.Handshake == 0:
		add("handshake", tracepb.Span_SPAN_KIND_INTERNAL, c.Began, end)
		return
	}
	add("handshake", tracepb.Span_SPAN_KIND_INTERNAL, c.Began, shaken)
	switch {
	case c.Connect > 0:
		add("connect", tracepb.Span_SPAN_KIND_CLIENT, shaken, shaken.Add(c.Connect))
	case c.Phase == "dial" || c.Phase == "upstream-tls" || c.Phase == "cluster" || c.Phase == "broker-login" || c.Phase == "authenticate":
		add("connect", tracepb.Span_SPAN_KIND_CLIENT, shaken, end)
	}
}

// Request sends the span of a request, which SampleRequest has chosen. It belongs to that of
// its connection, if that is traced.
func (x *Exporter) Request(c *Client, r *Request) {
	id := x.identityOf(c)
	parent := id.span[:]
	if !x.connections.has(id.value) {
		rand.Read(id.trace[:]) // a trace of its own: nobody would send the first span of the connection's
		parent = nil
	}
	span := newSpan(id.trace, randomID(), parent, r.API, tracepb.Span_SPAN_KIND_CLIENT, r.Asked, r.Answered)
	a := c.attributes()
	a.int(own+"api.key", int64(r.Key))
	a.int(own+"api.version", int64(r.Version))
	a.int(own+"correlation_id", int64(r.Correlation))
	if r.Throttle > 0 {
		a.int(own+"throttle_ms", r.Throttle.Milliseconds())
	}
	span.Attributes = a
	x.send(span)
}

func newSpan(trace [16]byte, span [8]byte, parent []byte, name string, kind tracepb.Span_SpanKind, from, to time.Time) *tracepb.Span {
	const sampled = 1 // W3C trace context
	return &tracepb.Span{
		TraceId: trace[:], SpanId: span[:], ParentSpanId: parent, Flags: sampled, Name: name, Kind: kind,
		StartTimeUnixNano: uint64(from.UnixNano()), EndTimeUnixNano: uint64(max(to.UnixNano(), from.UnixNano())),
	}
}

func randomID() (id [8]byte) {
	rand.Read(id[:])
	return id
}

const (
	own    = "kafka_sni_proxy."
	system = "messaging.system"
)

// attributes are named by the semantic conventions of OpenTelemetry where these have a name.
type attributes []*commonpb.KeyValue

// attributes of whatever belongs to a client's connection.
func (c *Client) attributes() (a attributes) {
	a.text(system, "kafka")
	a.text("messaging.client.id", c.ID)
	a.text("network.transport", "tcp")
	a.text("network.protocol.name", "kafka")
	if c.Address != nil {
		a.address("client", c.Address.String())
	}
	a.address("server", c.Broker)
	a.text("tls.client.server_name", c.SNI)
	a.text(own+"listener", c.Listener)
	a.text(own+"cluster", c.Cluster)
	return a
}

func (a *attributes) add(key string, v *commonpb.AnyValue) {
	*a = append(*a, &commonpb.KeyValue{Key: key, Value: v})
}

// text adds what is not empty.
func (a *attributes) text(key, value string) {
	if value != "" {
		a.add(key, &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: text.Cut(value, maxText)}})
	}
}

func (a *attributes) int(key string, value int64) {
	a.add(key, &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: value}})
}

func (a *attributes) bool(key string, value bool) {
	a.add(key, &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{BoolValue: value}})
}

// address adds a host and a port.
func (a *attributes) address(of, hostPort string) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		a.text(of+".address", hostPort)
		return
	}
	a.text(of+".address", host)
	if n, err := strconv.Atoi(port); err == nil {
		a.int(of+".port", int64(n))
	}
	if ip, err := netip.ParseAddr(host); err == nil && of == "client" {
		a.text("network.type", map[bool]string{true: "ipv4", false: "ipv6"}[ip.Unmap().Is4()])
	}
}

// tlsVersion returns a version of TLS as the conventions have it; "" for none.
func tlsVersion(version uint16) string {
	switch version {
	case 0x0304:
		return "1.3"
	case 0x0303:
		return "1.2"
	}
	return ""
}
