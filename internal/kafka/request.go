package kafka

import (
	"encoding/binary"
	"errors"
	"io"
)

// MaxForward is how many bytes Forward may be given at once.
const MaxForward = 12 * (maxOwed - 1)

// errClosed ends a Requests whose session has ended on the other side.
var errClosed = errors.New("the session has ended")

// Requests forwards a client's requests to the broker and notes what the
// broker owes for each. Out and Owed must be set.
type Requests struct {
	// Out gets the frames, in slices of what Forward is given.
	Out io.Writer
	// Owed is told of each request before its last byte is forwarded.
	Owed *Owed
	// MaxFrame is the longest request accepted, in bytes. 0: DefaultMaxFrame.
	MaxFrame int

	// Frames counts the requests whose header was read.
	Frames int64

	left int64  // bytes of the current frame still to come
	hold []byte // the beginning of a frame whose header is not complete

	afterHandshake bool // the frame before was SaslHandshake v0
	tokens         int  // bare SASL tokens seen since
}

// AtBoundary reports whether all that was forwarded is whole frames.
func (r *Requests) AtBoundary() bool { return r.left == 0 && len(r.hold) == 0 }

// Forward takes the next bytes of the stream, [MaxForward] at the most. It may
// change p, and keeps none of it. An [Error] means that the client sent what cannot be forwarded; other
// errors are Out's.
func (r *Requests) Forward(p []byte) error {
	from := 0 // p[from:i] is to be forwarded
	i := 0
	for i < len(p) {
		if r.left > 0 {
			n := min(r.left, int64(len(p)-i))
			r.left -= n
			i += int(n)
			continue
		}
		if len(r.hold) == 0 {
			h, need, err := r.parse(p[i:])
			if err != nil {
				return err
			}
			if need == 0 {
				if err := r.admit(h, p[i:]); err != nil {
					return err
				}
				r.left = h.size
				continue
			}
			if err := r.write(p[from:i]); err != nil {
				return err
			}
			r.hold = append(r.hold, p[i:]...)
			return nil
		}

		// The header is cut: complete it, taking no more than it needs.
		h, need, err := r.parse(r.hold)
		if err != nil {
			return err
		}
		if need > 0 {
			n := min(need, len(p)-i)
			r.hold = append(r.hold, p[i:i+n]...)
			i += n
			from = i
			if n < need {
				return nil
			}
			if h, need, err = r.parse(r.hold); err != nil {
				return err
			}
			if need > 0 {
				continue
			}
		}
		if err := r.admit(h, r.hold); err != nil {
			return err
		}
		// What is held was taken up to a length or a field, so it may be the
		// whole frame but never reaches beyond it.
		r.left = h.size - int64(len(r.hold))
		if err := r.write(r.hold); err != nil {
			return err
		}
		r.hold = nil
	}
	return r.write(p[from:i])
}

func (r *Requests) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	_, err := r.Out.Write(p)
	return err
}

// header is what a request's first bytes say.
type header struct {
	size         int64 // of the frame, its length field included
	token        bool  // a bare SASL token: no header at all
	key, version int16
	correlation  int32
	acks         int16 // of Produce; otherwise 1
}

// parse reads the header of the frame that begins at b[0]. When b is too short
// it returns how many more bytes it needs at the least.
func (r *Requests) parse(b []byte) (h header, need int, err error) {
	if len(b) < 4 {
		return h, 4 - len(b), nil
	}
	size := int64(be32(b))
	limit := int64(r.MaxFrame)
	if limit == 0 {
		limit = DefaultMaxFrame
	}
	if size < 0 || size > limit {
		return h, 0, frameError(0, "request of %d bytes: want 0 to %d (--max-frame-bytes)", size, limit)
	}
	h.size = size + 4

	if r.afterHandshake || r.tokens > 0 {
		if size > 0 && len(b) < 5 {
			return h, 1, nil
		}
		if h.token, err = r.isToken(b, size); h.token || err != nil {
			return h, 0, err
		}
	}

	if size < 8 {
		return h, 0, frameError(0, "request of %d bytes: shorter than a request header", size)
	}
	if len(b) < 12 {
		return h, 12 - len(b), nil
	}
	h.key, h.version, h.correlation = be16(b[4:]), be16(b[6:]), be32(b[8:])
	h.acks = 1
	if h.key == keyProduce {
		acks, need, err := produceAcks(b, h)
		if need > 0 || err != nil {
			return h, need, err
		}
		h.acks = acks
	}
	return h, 0, nil
}

// isToken tells a bare token from a request, after a SaslHandshake v0. The
// first frame is always a token. Later ones are tokens as long as they do not
// begin with a zero byte: requests begin with an API key below 256, and of all
// mechanisms only PLAIN's token begins with zero, and PLAIN has but one.
func (r *Requests) isToken(b []byte, size int64) (bool, error) {
	if r.tokens > 0 {
		return size == 0 || b[4] != 0, nil
	}
	switch r.Owed.saslState() {
	case saslAccepted:
		return true, nil
	case saslWaiting:
		// Whether this is a token depends on an answer that is not here yet.
		return false, &Error{Key: keySaslHandshake, Version: 0, Offset: 0,
			Reason: "the client sent more before the handshake was answered"}
	default:
		return false, nil
	}
}

// produceAcks reads the acks of a Produce request: with 0 there will be no
// response. Before it come the client id, in flexible versions (9) the tagged
// fields of the header, and from version 3 the transactional id.
func produceAcks(b []byte, h header) (acks int16, need int, err error) {
	c := cursor{b: b, off: 12}
	c.string16() // client id: never compact
	if flexible := h.version >= 9; flexible {
		c.tags()
		c.compactString()
	} else if h.version >= 3 {
		c.string16()
	}
	acks = c.int16()
	switch {
	case c.bad || int64(c.off) > h.size:
		return 0, 0, &Error{Key: h.key, Version: h.version, Offset: int64(min(c.off, len(b))),
			Reason: "request: the frame ends before its acks, or a length is not valid"}
	case c.off > len(b):
		return 0, c.off - len(b), nil
	}
	return acks, 0, nil
}

// admit notes what the broker will owe for a request, or refuses it. b begins
// with the frame.
func (r *Requests) admit(h header, b []byte) error {
	r.Frames++
	if h.token {
		r.afterHandshake = false
		r.tokens++
		return r.push(pending{kind: saslToken})
	}
	r.tokens, r.afterHandshake = 0, false

	p := pending{correlation: h.correlation, key: h.key, version: h.version}
	switch a := lookup(h.key); {
	case h.key == keyAPIVersions && h.version > newestAPIVersions:
		// The answer's form is not known here. Have the broker say that it does
		// not know the version either: its error answer lists the versions it
		// has, and the client asks again (KIP-511).
		binary.BigEndian.PutUint16(b[6:], never)
	case h.key == keySaslHandshake && h.version == 0:
		p.kind = saslHandshake
		r.afterHandshake = true
	case a != nil && (h.version < 0 || h.version > a.newest):
		return &Error{Key: h.key, Version: h.version, Offset: 6,
			Reason: "request: the client uses a version that it was not offered, and its response could not be rewritten"}
	case a != nil:
		p.api = a
	}
	if h.acks == 0 {
		return nil
	}
	return r.push(p)
}

func (r *Requests) push(p pending) error {
	if !r.Owed.push(p) {
		return errClosed
	}
	return nil
}
