package kafka

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"
)

// FuzzResponses holds that cuts make no difference, that with names that are
// the brokers' own nothing changes, and that with others no broker's is left.
func FuzzResponses(f *testing.F) {
	for i := range schemas {
		s := &schemas[i]
		for version := range s.newest + 1 {
			if lookup(s.key).versions[version] == nil {
				continue
			}
			m := newGenerator(seed(s, version)).withAddresses(s.key, version)
			for _, inPlace := range []bool{false, true} {
				f.Add(uint8(i), uint8(version), m.encode()[8:], uint64(1), inPlace)
			}
		}
	}
	for _, r := range realResponses(f) {
		for i := range schemas {
			if schemas[i].key == r.key {
				f.Add(uint8(i), uint8(r.version), r.frame[8:], uint64(1), true)
			}
		}
	}
	f.Fuzz(func(t *testing.T, which, v uint8, body []byte, cuts uint64, inPlace bool) {
		s := &schemas[int(which)%len(schemas)]
		version := int16(v) % (s.newest + 1)
		g := newGenerator(cuts)
		tune := tuning{wholeFrame: math.MaxInt64}
		if inPlace {
			tune = tuning{wholeFrame: 1, margin: 1 + g.Int64N(100)}
		}
		run := func(frame []byte, names Names, next pieces) ([]byte, error) {
			var out bytes.Buffer
			r := Responses{Out: &out, InFlight: new(InFlight), Names: names, tune: tune}
			r.InFlight.push(pending{key: s.key, version: version, api: lookup(s.key)})
			err := feed(r.Forward, frame, next)
			if err == nil && !r.AtBoundary() {
				t.Fatal("the response is whole, and it is not noticed")
			}
			return out.Bytes(), err
		}
		frame := binary.BigEndian.AppendUint32(nil, uint32(4+len(body)))
		frame = append(append(frame, 0, 0, 0, 0), body...)
		same := func(_ int32, host []byte, port int32) (string, int32, error) { return string(host), port, nil }

		// Cuts make no difference, but for how much of a frame that turns out to
		// be malformed is on its way by then.
		out, err := run(frame, same, inOne)
		for _, next := range []pieces{byteByByte, g.cuts()} {
			again, againErr := run(frame, same, next)
			if (err == nil) != (againErr == nil) || err != nil && err.Error() != againErr.Error() {
				t.Fatalf("in one piece: %v; in several: %v", err, againErr)
			}
			if err == nil && !bytes.Equal(out, again) || !bytes.HasPrefix(frame, again) && err != nil {
				t.Fatalf("in one piece: %x; in several: %x", out, again)
			}
			if err != nil && !inPlace && len(again) > 0 {
				t.Fatalf("%v, and %x was forwarded", err, again)
			}
		}
		if err != nil {
			return
		}

		// The brokers' own names give the same bytes. Varints that were longer
		// than they need be are not, but it does not happen twice.
		if !bytes.Equal(out, frame) {
			if len(out) > len(frame) || inPlace && len(out) < len(frame) {
				t.Fatalf("%x has become %x", frame, out)
			}
			if again, err := run(out, same, inOne); err != nil || !bytes.Equal(again, out) {
				t.Fatalf("%x has become %x, and that %x, %v", frame, out, again, err)
			}
		}

		// Other names are the only ones left.
		out, err = run(frame, func(node int32, host []byte, port int32) (string, int32, error) {
			return "n" + strings.Repeat("ame", len(host)%7), 7, nil
		}, inOne)
		if err != nil {
			t.Fatal(err)
		}
		_, err = run(out, func(node int32, host []byte, port int32) (string, int32, error) {
			if port != 7 || strings.Trim(string(host), "name") != "" {
				t.Fatalf("in %x, %d is still at %q:%d", out, node, host, port)
			}
			return "n", 7, nil
		}, inOne)
		if err != nil {
			t.Fatalf("what came of it is not well formed: %v\n%x", err, out)
		}
	})
}

// FuzzAPIVersions holds that cuts make no difference and that what comes of an
// answer offers nothing that is not known.
func FuzzAPIVersions(f *testing.F) {
	for version := range int16(newestAPIVersions + 1) {
		f.Add(version, newGenerator(uint64(version)).message(keyAPIVersions, version).encode()[8:], uint64(1))
		f.Add(version, apiVersions(version, 0, [3]int16{1, 0, 99}, [3]int16{3, 20, 20}, [3]int16{4, 0, 99}).encode()[8:], uint64(1))
	}
	for _, r := range realResponses(f) {
		if r.key == keyAPIVersions {
			f.Add(r.version, r.frame[8:], uint64(1))
		}
	}
	f.Add(int16(7), apiVersions(0, unsupportedVersion, [3]int16{18, 0, 9}).encode()[8:], uint64(1))
	f.Fuzz(func(t *testing.T, version int16, body []byte, cuts uint64) {
		run := func(frame []byte, next pieces) ([]byte, error) {
			var out bytes.Buffer
			r := Responses{Out: &out, InFlight: new(InFlight)}
			r.InFlight.push(pending{key: keyAPIVersions, version: version})
			err := feed(r.Forward, frame, next)
			return out.Bytes(), err
		}
		frame := binary.BigEndian.AppendUint32(nil, uint32(4+len(body)))
		frame = append(append(frame, 0, 0, 0, 0), body...)
		out, err := run(frame, inOne)
		again, againErr := run(frame, newGenerator(cuts).cuts())
		if !bytes.Equal(out, again) || (err == nil) != (againErr == nil) {
			t.Fatalf("in one piece: %x, %v; in several: %x, %v", out, err, again, againErr)
		}
		if err != nil {
			if len(out) > 0 {
				t.Fatalf("%v, and %x was forwarded", err, out)
			}
			return
		}
		if len(out) > len(frame) {
			t.Fatalf("%x has become %x", frame, out)
		}
		if again, err := run(out, inOne); err != nil || !bytes.Equal(again, out) {
			t.Fatalf("%x has become %x, and that %x, %v", frame, out, again, err)
		}
	})
}

// FuzzRequests holds that cuts make no difference to what is forwarded and to
// what is in flight.
func FuzzRequests(f *testing.F) {
	g := newGenerator(9)
	g.most, g.long = 2, 40
	for range 30 {
		f.Add(append(g.anyRequest().encode(), g.anyRequest().encode()...), uint64(1), false)
	}
	f.Add(request(keyAPIVersions, 7, 1), uint64(1), false)
	f.Add(append(handshake(0, "PLAIN"), token("\x00user\x00password")...), uint64(1), false)
	f.Add(append(token("\x60first"), request(keyMetadata, 9, 1)...), uint64(1), true)
	f.Add(append(token("n,,n=user"), token("")...), uint64(1), true)
	f.Add(request(keyMetadata, 9, 1), uint64(1), true)
	f.Fuzz(func(t *testing.T, stream []byte, cuts uint64, tokens bool) {
		if len(stream) > MaxForward {
			return
		}
		type result struct {
			out      []byte
			inFlight []pending
			error    string
		}
		run := func(next pieces) (res result) {
			var out bytes.Buffer
			r := Requests{Out: &out, InFlight: new(InFlight)}
			if tokens {
				r.sasl.begin(maxHandshake + 1)
				r.InFlight.sasl.state.Store(handshakeAccepted)
			}
			if err := feed(sender(&r), stream, next); err != nil {
				res.error = err.Error()
			}
			res.out, res.inFlight = out.Bytes(), owing(r.InFlight)
			return res
		}
		one := run(inOne)
		for _, next := range []pieces{byteByByte, newGenerator(cuts).cuts()} {
			cut := run(next)
			if one.error != cut.error || !slices.Equal(one.inFlight, cut.inFlight) {
				t.Fatalf("in one piece: %+v; in several: %+v", one, cut)
			}
			short, long := one.out, cut.out
			if len(short) > len(long) {
				short, long = long, short
			}
			if !bytes.HasPrefix(long, short) || one.error == "" && len(long)-len(short) > 0 {
				t.Fatalf("in one piece: %x; in several: %x", one.out, cut.out)
			}
		}

		// What is forwarded is what came, but for versions of ApiVersions.
		if len(one.out) > len(stream) {
			t.Fatalf("%x has become %x", stream, one.out)
		}
		for i := range one.out {
			if one.out[i] != stream[i] && one.out[i] != 0x7f && one.out[i] != 0xff {
				t.Fatalf("%x has become %x", stream, one.out)
			}
		}
	})
}

// FuzzFit holds that a trailer fits every space that it can.
func FuzzFit(f *testing.F) {
	names := make([]string, 0, 100)
	all := trailers()
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if tr := all[name]; len(tr.tags) < 10 && len(tr.endpoints) < 10 {
			f.Add(tr.layout == taggedEndpoints, tr.append(nil), uint16(tr.size()))
		}
	}
	f.Fuzz(func(t *testing.T, tagged bool, b []byte, n uint16) {
		layout := plainEndpoints
		if tagged {
			layout = taggedEndpoints
		}
		tr, ok := parseTail(b, layout)
		if !ok {
			return
		}
		least := (&trailer{layout: layout, tags: tr.tags}).size()
		fitted(t, tr, int(n), least, tr.size())
	})
}
