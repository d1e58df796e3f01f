package kafka

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The tests hold the engine against franz-go's kmsg, an encoder of the same
// protocol that shares no code and no table with it.

// secret is part of every broker host name in the tests, and of nothing that
// clients may see.
const secret = "upstream"

// message is a response as a broker would send it.
type message struct {
	kmsg.Response
	correlation int32
	tags        kmsg.Tags // of its header
}

// encode returns the message's frame.
func (m *message) encode() []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 4), uint32(m.correlation))
	if m.IsFlexible() && m.Key() != keyAPIVersions {
		b = binary.AppendUvarint(b, uint64(m.tags.Len()))
		b = m.tags.AppendEach(b)
	}
	b = m.AppendTo(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// decode reads a frame as a response of m's API and version.
func (m *message) decode(frame []byte) (*message, error) {
	d := &message{Response: kmsg.ResponseForKey(m.Key())}
	d.SetVersion(m.GetVersion())
	if len(frame) < 8 || int(binary.BigEndian.Uint32(frame)) != len(frame)-4 {
		return nil, fmt.Errorf("a frame of %d bytes is no frame: %.20x", len(frame), frame)
	}
	d.correlation = be32(frame[4:])
	c := cursor{b: frame, off: 8}
	if m.IsFlexible() && m.Key() != keyAPIVersions {
		for range c.uvarint() {
			tag := c.uvarint()
			d.tags.Set(uint32(tag), c.take(c.uvarint()))
		}
	}
	if c.bad || c.short() {
		return nil, fmt.Errorf("the header's tags do not parse")
	}
	return d, d.ReadFrom(frame[c.off:])
}

// addresses returns every broker address in the message, in the order in which
// they are on the wire.
func (m *message) addresses() []messageAddress {
	var all []messageAddress
	walk(reflect.ValueOf(m.Response).Elem(), func(v reflect.Value) {
		if a, ok := addressIn(v); ok && m.has(v) {
			all = append(all, a)
		}
	})
	return all
}

// has tells whether an address in the struct v is written in m's version: only
// FindCoordinator has moved its addresses.
func (m *message) has(v reflect.Value) bool {
	top := v.Type() == reflect.TypeFor[kmsg.FindCoordinatorResponse]()
	return m.Key() != keyFindCoordinator || top == (m.GetVersion() < 4)
}

type messageAddress struct {
	node *int32
	host *string
	port *int32
}

func addressIn(v reflect.Value) (messageAddress, bool) {
	node, host, port := v.FieldByName("NodeID"), v.FieldByName("Host"), v.FieldByName("Port")
	if !node.IsValid() || !host.IsValid() || !port.IsValid() {
		return messageAddress{}, false
	}
	return messageAddress{
		node.Addr().Interface().(*int32), host.Addr().Interface().(*string), port.Addr().Interface().(*int32),
	}, true
}

// walk calls f with every struct in v, the outer before the inner.
func walk(v reflect.Value, f func(reflect.Value)) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[kmsg.Tags]() {
			return
		}
		f(v)
		for i := range v.NumField() {
			walk(v.Field(i), f)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Struct {
			for i := range v.Len() {
				walk(v.Index(i), f)
			}
		}
	}
}

// endpoints returns a pointer to the slice of endpoints of a message that ends
// with them, as a settable value.
func (m *message) endpoints() reflect.Value {
	v := reflect.ValueOf(m.Response).Elem()
	if e := v.FieldByName("NodeEndpoints"); e.IsValid() {
		return e
	}
	return v.FieldByName("Brokers")
}

func (m *message) unknownTags() *kmsg.Tags {
	return reflect.ValueOf(m.Response).Elem().FieldByName("UnknownTags").Addr().Interface().(*kmsg.Tags)
}

// rename changes the message's addresses as the engine should.
func (m *message) rename(names Names) {
	for _, a := range m.addresses() {
		if *a.host != "" {
			*a.host, *a.port, _ = names(*a.node, []byte(*a.host), *a.port)
		}
	}
}

// generator makes random messages.
type generator struct {
	*rand.Rand
	most int // elements in an array, at the most
	long int // bytes in records, at the most
}

func newGenerator(seed uint64) *generator {
	return &generator{Rand: rand.New(rand.NewPCG(seed, 1)), most: 3, long: 300}
}

func (g *generator) oneIn(n int) bool { return g.IntN(n) == 0 }

// message returns a random response. Every eighth is large.
func (g *generator) message(key, version int16) *message {
	g.most, g.long = 3, 300
	if g.oneIn(8) {
		g.most, g.long = 7, 40<<10
	}
	return g.fill(key, version)
}

// small returns a random response short enough to try every cut.
func (g *generator) small(key, version int16) *message {
	g.most, g.long = 2, 20
	return g.fill(key, version)
}

func (g *generator) fill(key, version int16) *message {
	m := &message{Response: kmsg.ResponseForKey(key), correlation: int32(g.Uint32())}
	m.SetVersion(version)
	g.value(reflect.ValueOf(m.Response).Elem())
	if g.oneIn(3) {
		m.tags = g.tags()
	}
	return m
}

func (g *generator) value(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[kmsg.Tags]() {
			if g.oneIn(3) {
				v.Set(reflect.ValueOf(g.tags()))
			}
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "Version" {
				g.value(v.Field(i))
			}
		}
		if a, ok := addressIn(v); ok {
			g.address(a)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(g.bytes())
			return
		}
		if n := g.IntN(g.most+2) - 1; n >= 0 { // -1 stands for null
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				g.value(v.Index(i))
			}
		}
	case reflect.Pointer:
		if g.oneIn(2) {
			v.Set(reflect.New(v.Type().Elem()))
			g.value(v.Elem())
		}
	case reflect.Array:
		for i := range v.Len() {
			g.value(v.Index(i))
		}
	case reflect.String:
		v.SetString(g.text())
	case reflect.Bool:
		v.SetBool(g.oneIn(2))
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(g.number() >> (64 - v.Type().Bits()))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(uint64(g.number()) >> (64 - v.Type().Bits()))
	case reflect.Float64:
		v.SetFloat(g.NormFloat64())
	default:
		panic("what is a " + v.Type().String())
	}
}

func (g *generator) number() int64 {
	return []int64{0, -1, math.MaxInt64, math.MinInt64, int64(g.Uint64()), int64(g.Uint64())}[g.IntN(6)]
}

// bytes returns records: null, empty, or some.
func (g *generator) bytes() []byte {
	switch g.IntN(4) {
	case 0:
		return nil
	case 1:
		return []byte{}
	}
	b := make([]byte, g.IntN(g.long+1))
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

// text returns a string whose length is more often than not where its own
// length's length changes.
func (g *generator) text() string {
	n := []int{0, 1, g.IntN(20), g.IntN(20), g.IntN(20), 126, 127, 128}[g.IntN(8)]
	return strings.Repeat("t", min(n, g.long))
}

func (g *generator) tags() (t kmsg.Tags) {
	for range g.IntN(3) {
		tag := []uint32{10, 11, 126, 127, 128, 129, 16383, 16384, math.MaxInt32}[g.IntN(9)]
		t.Set(tag, []byte(g.text()))
	}
	return t
}

// address makes an address one that a broker may send: sometimes of nobody.
func (g *generator) address(a messageAddress) {
	*a.node = []int32{0, 1, 2, 100, math.MaxInt32, g.Int32()}[g.IntN(6)]
	*a.port = 1 + g.Int32N(65535)
	*a.host = g.host()
	switch g.IntN(6) {
	case 0:
		*a.node, *a.port, *a.host = -1, -1, ""
	case 1:
		*a.host = ""
	}
}

func (g *generator) host() string {
	n := []int{0, 0, 0, 100, 118, 119, 120, 240}[g.IntN(8)]
	return fmt.Sprintf("b%d.%s%s", g.IntN(1000), secret, strings.Repeat("x", min(n, g.long)))
}

// namer returns names of many lengths for brokers, a different one for every
// broker.
func namer(length int) Names {
	return func(node int32, host []byte, port int32) (string, int32, error) {
		if len(host) == 0 || node < 0 || port < 1 {
			panic(fmt.Sprintf("asked for the name of %d, %q, %d", node, host, port))
		}
		name := fmt.Sprintf("%d-%d-%d.example", node, port, len(host))
		return name + strings.Repeat("n", max(0, length-len(name))), port ^ 1, nil
	}
}

// ask has a client ask for a response of this API and version.
func ask(t testing.TB, inFlight *InFlight, key, version int16, correlation int32) {
	t.Helper()
	r := Requests{Out: io.Discard, InFlight: inFlight}
	if err := send(&r, request(key, version, correlation)); err != nil {
		t.Fatal(err)
	}
}

// request returns the frame of a request with default values.
func request(key, version int16, correlation int32) []byte {
	req := kmsg.RequestForKey(key)
	req.SetVersion(version)
	if p, ok := req.(*kmsg.ProduceRequest); ok {
		p.Acks = -1
	}
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("test")).AppendRequest(nil, req, correlation)
}

// pieces says how long the next piece of a stream is, of which left bytes are
// still to come.
type pieces func(left int) int

func inOne(left int) int      { return left }
func byteByByte(left int) int { return 1 }
func cutAt(at int) pieces {
	return func(left int) int { n := at; at = math.MaxInt; return min(n, left) }
}
func (g *generator) cuts() pieces {
	return func(left int) int { return 1 + g.IntN(1<<g.IntN(18)) }
}

// send forwards requests of which none is held.
func send(r *Requests, p []byte) error {
	_, err := r.Forward(p)
	return err
}

// sender is send for feed.
func sender(r *Requests) func(p []byte) error { return func(p []byte) error { return send(r, p) } }

// feed forwards a stream in pieces. What was given is scribbled over after each
// call, because Forward keeps none of it.
func feed(forward func([]byte) error, stream []byte, next pieces) error {
	for len(stream) > 0 {
		n := min(next(len(stream)), len(stream))
		p := slices.Clone(stream[:n])
		stream = stream[n:]
		if err := forward(p); err != nil {
			return err
		}
		for i := range p {
			p[i] = 0xee
		}
	}
	return nil
}

// respond returns what becomes of a stream of responses to the given messages.
func respond(t testing.TB, r *Responses, msgs []*message, stream []byte, next pieces) ([]byte, error) {
	t.Helper()
	var out bytes.Buffer
	r.Out, r.InFlight = &out, new(InFlight)
	for _, m := range msgs {
		ask(t, r.InFlight, m.Key(), m.GetVersion(), m.correlation)
	}
	err := feed(r.Forward, stream, next)
	if err == nil && (!r.AtBoundary() || r.InFlight.Len() != 0) {
		t.Errorf("after the last response, AtBoundary is %t and %d are in flight", r.AtBoundary(), r.InFlight.Len())
	}
	return out.Bytes(), err
}

// splitFrames takes a stream apart.
func splitFrames(t testing.TB, stream []byte) [][]byte {
	t.Helper()
	var all [][]byte
	for len(stream) > 0 {
		if len(stream) < 4 || int(binary.BigEndian.Uint32(stream)) > len(stream)-4 {
			t.Fatalf("no frame: %.40x", stream)
		}
		n := 4 + int(binary.BigEndian.Uint32(stream))
		all = append(all, stream[:n])
		stream = stream[n:]
	}
	return all
}
