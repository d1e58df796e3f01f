package kafka

import (
	"encoding/binary"
	"errors"
	"io"
	"sync/atomic"
)

// MaxForward is how many bytes Forward may be given at once.
const MaxForward = 12 * (maxInFlight - 1)

// ErrClosed ends a Requests whose session has ended on the other side.
var ErrClosed = errors.New("the session has ended")

// ErrHeld is returned by [Requests.Forward] before a request that is held.
var ErrHeld = errors.New("a request is held")

// Requests forwards a client's requests to the broker and notes each as in flight. Out
// and InFlight must be set.
type Requests struct {
	// Out gets the frames, in slices of what Forward is given.
	Out io.Writer
	// InFlight is told of each request before its last byte is forwarded.
	InFlight *InFlight
	// MaxFrame is the longest request accepted, in bytes. 0: DefaultMaxFrame.
	MaxFrame int

	// Hold has Forward stop before each request that is no part of a client's greeting,
	// which is ApiVersions and SASL. See [Requests.Pass] and [Requests.Query].
	Hold bool

	// NoSASL refuses SASL: the client is known already.
	NoSASL bool

	// Now is when the bytes came that Forward is given next, by a clock of the owner's
	// choice. Requests are noted in flight with it.
	Now int64

	// Introduction is what the client has told about itself so far, nil before it has. It
	// may be loaded from any goroutine.
	Introduction atomic.Pointer[Introduction]

	// Frames counts the requests whose header was read.
	Frames int64

	left int64 // bytes of the current frame still to come
	hold [requestHeader]byte
	held int // how many bytes of a header that is cut are in hold
	err  error
	pass bool // the next request is not held

	scanning bool // the current frame is a Produce whose acks are still to come
	scan     scanner
	produce  pending

	sasl exchange // that a SaslHandshake v0 has begun
}

// requestHeader is how long the part of a header is that all versions share:
// the frame's length, API key, version and correlation id.
const requestHeader = 12

// AtBoundary reports whether all that was forwarded is whole frames.
func (r *Requests) AtBoundary() bool { return r.left == 0 && r.held == 0 }

// Forward takes the next bytes of the stream, [MaxForward] at the most, and returns how
// many of them it has taken: all, unless there is an error. It may change p, and keeps
// none of it.
//
// [ErrHeld] means that it has stopped before a request that is held: all that came
// before has been handed to Out, and nothing of that request. After Pass, Forward goes on
// with the rest of p. An [Error] means that the client sent what cannot be forwarded;
// other errors are Out's. Once there was one of these, every later call returns it.
func (r *Requests) Forward(p []byte) (n int, err error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err = r.forward(p)
	if err != ErrHeld {
		r.err = err
	}
	return n, err
}

// Pass lets the request that is held through, at the next Forward.
func (r *Requests) Pass() { r.pass = true }

func (r *Requests) forward(p []byte) (int, error) {
	from := 0 // p[from:i] is to be forwarded
	i := 0
	for i < len(p) || r.pass && r.held > 0 {
		switch {
		case r.scanning:
			n, status := r.scan.scan(p[i:][:min(r.left, int64(len(p)-i))])
			i += n
			r.left -= int64(n)
			switch status {
			case failed:
				return i, r.scan.err
			case done:
				r.scanning = false
				if r.scan.acks == 0 {
					break // there will be no response
				}
				if err := r.push(r.produce); err != nil {
					return i, err
				}
			}

		case r.left > 0:
			n := min(r.left, int64(len(p)-i))
			if r.sasl.reading {
				r.sasl.read(p[i : i+int(n)])
			}
			i += int(n)
			r.left -= n

		case r.held > 0:
			n, err := r.completeHeader(p[i:])
			i += n
			if err != nil {
				return i, err
			}
			from = i

		default:
			if r.Hold {
				if err := r.write(p[from:i]); err != nil {
					return i, err
				}
				from = i
			}
			n, need, err := r.header(p[i:])
			if err != nil {
				return i, err
			}
			if r.Frames <= introductions && need == 0 && n == requestHeader {
				r.introduce(p[i:])
			}
			if need > 0 {
				if err := r.write(p[from:i]); err != nil {
					return i, err
				}
				r.held = copy(r.hold[:], p[i:])
				return len(p), nil
			}
			i += n
		}
	}
	return i, r.write(p[from:])
}

func (r *Requests) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	_, err := r.Out.Write(p)
	return err
}

func (r *Requests) push(p pending) error {
	if !r.InFlight.push(p) {
		return ErrClosed
	}
	return nil
}

// completeHeader adds to the cut header in hold, and forwards it when it is complete
// and not held. It returns how many bytes of p it took.
func (r *Requests) completeHeader(p []byte) (taken int, err error) {
	for {
		read, need, err := r.header(r.hold[:r.held])
		switch {
		case err != nil:
			return taken, err
		case need == 0:
			r.left -= int64(r.held - read) // a token's first bytes may have been needed to tell it
			err = r.write(r.hold[:r.held])
			r.held = 0
			return taken, err
		case taken == len(p):
			return taken, nil
		}
		n := copy(r.hold[r.held:r.held+need], p[taken:])
		r.held += n
		taken += n
	}
}

// header reads the header of the frame that begins at b[0], and notes the request as in
// flight. It returns how many bytes it read or, when b is too short, how many more it
// needs at the least. ErrHeld means that nothing was noted.
func (r *Requests) header(b []byte) (n, need int, err error) {
	if len(b) < 4 {
		return 0, 4 - len(b), nil
	}
	size, err := frameSize(b, r.MaxFrame, "request")
	if err != nil {
		return 0, 0, err
	}

	if r.sasl.underWay() {
		first := 4 + int(min(size, 4))
		if len(b) < first {
			return 0, first - len(b), nil
		}
		token, err := r.isToken(b[4:first], size)
		if err != nil {
			return 0, 0, err
		}
		if token {
			r.Frames++
			r.left = size
			r.sasl.token()
			return 4, 0, r.push(pending{kind: saslToken, key: keySaslAuthenticate, at: r.Now})
		}
	}

	if size < requestHeader-4 {
		return 0, 0, frameError(0, "request of %d bytes: shorter than a request header", size)
	}
	if len(b) < requestHeader {
		return 0, requestHeader - len(b), nil
	}
	// The first request behind bare tokens is let pass: while tokens may be
	// without an answer, nobody else gets between them and what follows.
	if r.Hold && !r.pass && r.sasl.tokens == 0 && !greets(be16(b[4:])) {
		return 0, 0, ErrHeld
	}
	r.pass = false
	r.Frames++
	r.left = size + 4 - requestHeader
	r.sasl = exchange{}
	return requestHeader, 0, r.admit(b[:requestHeader], size+4)
}

// greets reports whether requests of an API are those with which a client
// begins: a broker takes others only once the client has authenticated.
func greets(key int16) bool {
	return key == keyAPIVersions || key == keySaslHandshake || key == keySaslAuthenticate
}

// Query puts a Metadata request of the proxy's own into the stream, before the request
// that is held. The response to it is not forwarded: [Responses.Names] is told of the
// brokers in it, then [Responses.QueryAnswered].
func (r *Requests) Query(frame []byte) error {
	p := pending{key: be16(frame[4:]), version: be16(frame[6:]), correlation: be32(frame[8:]), kind: query, at: r.Now}
	p.api = lookup(p.key)
	if err := r.push(p); err != nil {
		return err
	}
	return r.write(frame)
}

// admit notes a request with this header, in a frame of size bytes, as in flight, or
// refuses it.
func (r *Requests) admit(b []byte, size int64) error {
	p := pending{key: be16(b[4:]), version: be16(b[6:]), correlation: be32(b[8:]), at: r.Now}
	switch a := lookup(p.key); {
	case r.NoSASL && (p.key == keySaslHandshake || p.key == keySaslAuthenticate):
		return &Error{Key: p.key, Version: p.version, Offset: 4,
			Reason: "request: the client authenticates again, and the proxy has not asked it to"}
	case p.key == keyAPIVersions && p.version > newestAPIVersions:
		// The answer's form is not known here. Have the broker say that it does
		// not know the version either: its error answer lists the versions it
		// has, and the client asks again (KIP-511).
		binary.BigEndian.PutUint16(b[6:], never)
	case p.key == keySaslHandshake && p.version == 0:
		p.kind = saslHandshake
		r.sasl.begin(r.left)
	case a != nil && (p.version < 0 || p.version > a.newest):
		return &Error{Key: p.key, Version: p.version, Offset: 6,
			Reason: "request: the client uses a version that it was not offered, and its response could not be rewritten", Err: ErrNotOffered}
	case a != nil:
		p.api = a
	}
	if p.key != keyProduce {
		return r.push(p)
	}
	// With acks 0 there will be no response: what is in flight is known only then.
	if r.left == 0 {
		return &Error{Key: p.key, Version: p.version, Offset: size,
			Reason: "request: the frame ends before its acks"}
	}
	r.produce = p
	r.scanning = true
	r.scan.start(produceRequests[p.version], requestHeader, size)
	return nil
}
