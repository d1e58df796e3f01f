package kafka

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// mutations is how many frames the tests in this file make in each direction.
//
//	go test ./internal/kafka -run TestMutated -mutations 1000000
var mutations = flag.Int("mutations", someMutations(), "how many mutated frames to send in each direction")

func someMutations() int {
	if underRace {
		return 5_000
	}
	return 50_000
}

// mutate damages a frame in one to four ways, as a peer that is broken or evil
// might. More often than not its length fits what is left of it: frames whose
// length does not are the ones that are refused most easily.
func (g *generator) mutate(frame []byte) []byte {
	f := slices.Clone(frame)
	for range 1 + g.IntN(4) {
		if len(f) < 5 {
			break
		}
		at := 4 + g.IntN(len(f)-4)
		switch g.IntN(8) {
		case 0:
			f[at] ^= 1 << g.IntN(8)
		case 1:
			f[at] = byte(g.Uint32())
		case 2: // a length or a count
			f[at] = []byte{0, 1, 0x7f, 0x80, 0xfe, 0xff}[g.IntN(6)]
		case 3:
			if at+4 <= len(f) {
				binary.BigEndian.PutUint32(f[at:], []uint32{0, 1, math.MaxUint32, math.MaxInt32, 1 << 31, uint32(len(f)), g.Uint32N(300)}[g.IntN(7)])
			}
		case 4: // something is missing
			f = slices.Delete(f, at, at+g.IntN(min(20, len(f)-at))+1)
		case 5: // or there twice
			n := 1 + g.IntN(min(40, len(f)-at))
			f = slices.Insert(f, at, slices.Clone(f[at:at+n])...)
		case 6: // or cut off
			f = f[:at]
		case 7: // or somewhere else
			n := g.IntN(min(20, len(f)-at) + 1)
			copy(f[4+g.IntN(len(f)-n-3):], f[at:at+n])
		}
	}
	if g.oneIn(8) {
		binary.BigEndian.PutUint32(f, []uint32{0, 3, math.MaxUint32, math.MaxInt32, DefaultMaxFrame, uint32(len(f)), g.Uint32N(500)}[g.IntN(7)])
	} else {
		binary.BigEndian.PutUint32(f, uint32(len(f)-4))
	}
	return f
}

// wholeFrames returns the frames that a stream begins with.
func wholeFrames(stream []byte) (all [][]byte) {
	for len(stream) >= 4 {
		n := int64(be32(stream)) + 4
		if n < 4 || n > int64(len(stream)) {
			break
		}
		all = append(all, stream[:n])
		stream = stream[n:]
	}
	return all
}

// growth reports the heap's growth since it was called, in bytes.
func growth() func() int64 {
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what pools hold goes with the second
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	return func() int64 { return heap() - before }
}

// TestMutatedResponses damages what a real broker has sent, and has an
// independent decoder look for brokers in what is forwarded of it.
func TestMutatedResponses(t *testing.T) {
	captured := realResponses(t)
	names := func(node int32, _ []byte, _ int32) (string, int32, error) {
		return fmt.Sprintf("n%d.example", node), 7, nil
	}
	grown := growth()
	refused, forwarded, addresses, rewritten := 0, 0, 0, int64(0)
	for seed := range uint64(*mutations) {
		g := newGenerator(seed)
		r := captured[g.IntN(len(captured))]
		mutated := g.mutate(r.frame)
		stream := append(slices.Clone(mutated), r.frame...)
		var out bytes.Buffer
		responses := Responses{Out: &out, InFlight: new(InFlight), Names: names}
		if g.oneIn(2) {
			responses.tune = tuning{wholeFrame: 1, margin: 1 + g.Int64N(100)}
		}
		p := pending{key: r.key, version: r.version, correlation: be32(r.frame[4:])}
		if r.key != keyAPIVersions {
			p.api = lookup(r.key)
		}
		if len(mutated) >= 8 && g.oneIn(2) { // let it go further than its header
			p.correlation = be32(mutated[4:])
		}
		responses.InFlight.push(p)
		responses.InFlight.push(pending{key: r.key, version: r.version, correlation: be32(r.frame[4:]), api: p.api})
		if err := feed(responses.Forward, stream, g.cuts()); err != nil {
			refused++
		}
		rewritten += responses.Rewritten
		if n := cap(responses.kept); n > 2*maxKept {
			t.Fatalf("seed %d: %d bytes are kept", seed, n)
		}
		for _, frame := range wholeFrames(out.Bytes()) {
			forwarded++
			seen, wrong := addressesIn(r, frame)
			addresses += seen
			if wrong != "" {
				t.Fatalf("seed %d: %s v%d: %s in\n%x\nwhich came from\n%x", seed, kmsg.NameForKey(r.key), r.version, wrong, frame, mutated)
			}
		}
	}
	if n := grown(); n > 64<<20 {
		t.Errorf("%d bytes are held by nobody", n)
	}
	did := fmt.Sprintf("of %d streams %d were refused; %d frames were forwarded whole, %d rewritten, with %d addresses in all", *mutations, refused, forwarded, rewritten, addresses)
	t.Log(did)
	if n := *mutations; n >= 1000 && (refused < n/10 || rewritten < int64(n/10) || addresses < n/10) {
		t.Errorf("%s: the damage is too large or too small to test anything", did)
	}
}

// addressesIn counts the addresses that a client would find in a frame, even if
// it could read only part of it, and says which of what it finds is wrong.
func addressesIn(r real, frame []byte) (seen int, wrong string) {
	if len(frame) < 8 {
		return 0, ""
	}
	m := &message{Response: kmsg.ResponseForKey(r.key)}
	m.SetVersion(r.version)
	if r.key == keyAPIVersions && len(frame) >= 10 && be16(frame[8:]) == unsupportedVersion {
		m.SetVersion(0)
	}
	d := decodeLoosely(m, frame)
	if d == nil {
		return 0, ""
	}
	if v, ok := d.Response.(*kmsg.ApiVersionsResponse); ok {
		for _, k := range v.ApiKeys {
			if newest, limited := new(Responses).newestOffered(k.ApiKey); limited && k.MaxVersion > newest {
				return 0, fmt.Sprintf("%s is offered up to version %d", kmsg.NameForKey(k.ApiKey), k.MaxVersion)
			}
		}
		return 0, ""
	}
	for _, a := range d.addresses() {
		if *a.host == "" {
			continue
		}
		seen++
		if !strings.HasSuffix(*a.host, ".example") {
			wrong = fmt.Sprintf("%d is at %q:%d", *a.node, *a.host, *a.port)
		}
	}
	return seen, wrong
}

// decodeLoosely is decode for what need not be well formed: it returns what kmsg
// has read when it gives up, or nil.
func decodeLoosely(m *message, frame []byte) (d *message) {
	switch m.Key() {
	case keyProduce, keyFetch, keyShareFetch, keyShareAcknowledge: // walked to their ends
	default:
		frame = slices.Clone(frame[:countable(frame)])
		binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	}
	defer func() {
		if recover() != nil { // which is kmsg's affair
			d = nil
		}
	}()
	d, _ = m.decode(frame)
	return d
}

// countable returns the length of the part of a frame in which nothing can be
// taken for a count of a million or more. kmsg believes a count of tagged fields
// and goes on counting behind the end of the frame, to four billion. Where
// addresses come first, and the proxy does not look at what follows, they are
// nearly always in that part. Where they come last it has looked at everything.
func countable(frame []byte) int {
	const most = 1 << 20
	for at := 8; at < len(frame); at++ {
		if n, size := binary.Uvarint(frame[at:]); n >= most && size > 0 {
			return at + size - 1
		}
	}
	return len(frame)
}

// TestMutatedRequests damages requests, and holds what is in flight against what the
// broker gets to see: a request that is not noted as what it is would have its
// answer forwarded as it is.
func TestMutatedRequests(t *testing.T) {
	grown := growth()
	refused, forwarded := 0, 0
	for seed := range uint64(*mutations) {
		g := newGenerator(seed)
		g.most, g.long = 2, 100
		var stream []byte
		for i := range 3 {
			f := g.anyRequest().encode()
			if i == 1 || g.oneIn(4) {
				f = g.mutate(f)
			}
			stream = append(stream, f...)
		}
		if g.oneIn(16) {
			stream = append(handshake(0, "PLAIN"), stream...)
		}
		stream = stream[:min(len(stream), MaxForward)]
		var out bytes.Buffer
		requests := Requests{Out: &out, InFlight: new(InFlight)}
		err := feed(sender(&requests), stream, g.cuts())
		if err != nil {
			refused++
		}
		inFlight := owing(requests.InFlight)
		for _, frame := range wholeFrames(out.Bytes()) {
			forwarded++
			if len(frame) < requestHeader {
				t.Fatalf("seed %d: %x is forwarded, and is no request", seed, frame)
			}
			key, version, correlation := be16(frame[4:]), be16(frame[6:]), be32(frame[8:])
			next := pending{key: -1}
			if len(inFlight) > 0 {
				next = inFlight[0]
			}
			switch {
			case next.key == key && next.correlation == correlation && (next.version == version || key == keyAPIVersions):
				inFlight = inFlight[1:]
				if a := lookup(key); a != nil && (next.api != a || version < 0 || version > a.newest) {
					t.Fatalf("seed %d: %s v%d is forwarded and its response would not be rewritten", seed, kmsg.NameForKey(key), version)
				}
			case key == keyProduce: // with acks 0
			default:
				t.Fatalf("seed %d: API %d v%d, correlation id %d, is forwarded and %+v is in flight", seed, key, version, correlation, next)
			}
		}
		if err == nil && len(inFlight) > 1 { // for one that is not whole
			t.Fatalf("seed %d: %+v is in flight and was never asked for", seed, inFlight)
		}
	}
	if n := grown(); n > 64<<20 {
		t.Errorf("%d bytes are held by nobody", n)
	}
	did := fmt.Sprintf("of %d streams %d were refused; %d requests were forwarded whole", *mutations, refused, forwarded)
	t.Log(did)
	if n := *mutations; n >= 1000 && (refused < n/10 || refused > n*19/20) {
		t.Errorf("%s: the damage is too large or too small to test anything", did)
	}
}
