package kafka

import (
	"cmp"
	"io"
	"sync"
)

const (
	// wholeFrame is the longest response, in bytes, that is kept until it is
	// complete so that its length can change. It is long enough for what
	// brokers send when a leader has moved and there is little data.
	wholeFrame = 32 << 10

	// maxKept is how many bytes of one response may be kept: the brokers of a
	// Metadata response or the endpoints of a Fetch. 10 000 brokers take 1 MiB.
	maxKept = 16 << 20

	// margin is how many of the last bytes of a longer response wait until all
	// of it has been seen to be well formed, its tail or not. When its lengths do
	// not say the truth, no endpoint has been taken for records and forwarded.
	margin = 8 << 10
)

// Names returns the address under which a client is to see a broker. It is
// called for each address in a response, once all of them are known to be well
// formed, and must not keep host. An error means that there is no such address:
// nothing of the response is forwarded, and Forward returns an [Error] with that
// error in it. An endpoint behind records (KIP-951), which are forwarded by then, is
// left out instead.
type Names func(node int32, host []byte, port int32) (name string, advertisedPort int32, err error)

// Observer is told of responses.
type Observer interface {
	Answered(Answer)
}

// Answer is a response whose header has been read.
type Answer struct {
	Key, Version int16 // of the request's API; a bare SASL token counts as SaslAuthenticate
	Correlation  int32
	Asked        int64 // when the request came: Requests.Now
	// Throttle is for how long the broker has the client wait, in milliseconds (KIP-219).
	// Not all of it is seen: see throttleTime.
	Throttle int32
	// Own is whether the proxy itself has asked.
	Own bool
}

// Responses forwards a broker's responses to the client, and replaces the
// broker addresses in them. Out, InFlight and Names must be set.
//
// There are three ways through, by where the addresses are and how long the
// frame is:
//
//   - prefix: the frame is kept up to its last address and gets a new length;
//     what follows streams;
//   - whole: a response that ends with addresses is kept, up to 32 KiB;
//   - in place: a longer one is on its way when its last bytes come, so those
//     are replaced by as many.
type Responses struct {
	// Out gets the frames, in slices of what Forward is given and of rewritten
	// bytes.
	Out io.Writer
	// InFlight says what each frame answers.
	InFlight *InFlight
	// Names gives the names to put in.
	Names Names
	// QueryAnswered, if set, is told how many brokers the response to a [Requests.Query]
	// names, after Names was told of them; 0: it is of no use.
	QueryAnswered func(brokers int)
	// ClusterID, if set, is told the cluster id in a response, if there is one, before
	// Names is told of any broker in it. An error refuses the response: nothing of it is
	// forwarded, and Forward returns that error.
	ClusterID func(id []byte) error
	// Observer, if set, is told of each response when its header has been read.
	Observer Observer
	// NoIdentities leaves out of what is offered what cannot work when the broker sees another
	// identity than the client's own: delegation tokens, and the client's SCRAM credentials.
	NoIdentities bool
	// CountNotLeader has NotLeader counted.
	CountNotLeader bool
	// MaxFrame is the longest response accepted, in bytes. 0: DefaultMaxFrame.
	MaxFrame int

	// NotLeader counts the responses to Produce and Fetch that have at least one partition
	// which another broker leads. One that does not parse is not counted.
	NotLeader int64
	// Frames counts the responses to the client whose header was read, Rewritten
	// those in which something was replaced, and Dropped the endpoints left out
	// because they did not fit, or the client has no address for them.
	Frames, Rewritten, Dropped int64

	mode mode
	size int64   // of the current frame, its length field included
	left int64   // bytes of it still to come
	req  pending // what it answers
	scan scanner
	kept []byte // the bytes of it that were kept from earlier calls
	err  error

	errors *scanner // looks at the partitions of the current frame; nil: nothing does

	// Of a frame that is rewritten in place, offsets from its length field:
	wait int64 // what comes from here on waits for the end of the frame
	tail int64 // the tail begins here; 0 before that is known

	tune tuning
}

// tuning is for tests, which try every cut on short responses. The zero value
// stands for the constants.
type tuning struct {
	wholeFrame, margin int64
}

// mode is how the current frame is handled.
type mode uint8

const (
	atHeader  mode = iota // the next byte begins a frame
	streaming             // forward to the end of the frame
	keepHead              // keep up to the last address, then stream
	keepWhole             // keep all of it
	inPlace               // forward up to the tail or the margin, keep the rest
)

func (m mode) keeps() bool { return m == keepHead || m == keepWhole }

// AtBoundary reports whether all that was forwarded is whole frames.
func (r *Responses) AtBoundary() bool { return r.mode == atHeader && len(r.kept) == 0 }

// Forward takes the next bytes of the stream, and keeps none of p. An [Error]
// means that the broker sent what cannot be forwarded: no address of that
// frame has been. Other errors are Out's. Once there was one, every later call
// returns it.
func (r *Responses) Forward(p []byte) error {
	if r.err == nil {
		r.err = r.forward(p)
	}
	return r.err
}

func (r *Responses) forward(p []byte) error {
	from := 0  // p[from:i] waits to be forwarded
	frame := 0 // and of it, p[frame:i] belongs to the current frame
	i := 0
	for i < len(p) {
		switch r.mode {
		case atHeader:
			if len(r.kept) > 0 {
				n, err := r.completeHeader(p[i:])
				if err != nil {
					return err
				}
				i += n
				from, frame = i, i
				break
			}
			frame = i
			n, need, err := r.header(p[i:])
			if err != nil {
				return r.refuse(p[from:frame], err)
			}
			if need > 0 {
				if err := r.write(p[from:frame]); err != nil {
					return err
				}
				r.keep(p[frame:])
				return nil
			}
			i += n

		case streaming:
			n := int(min(r.left, int64(len(p)-i)))
			if r.errors != nil {
				r.countErrors(p[i : i+n])
			}
			i += n
			r.advance(n)

		case keepWhole:
			n := int(min(r.left, int64(len(p)-i)))
			if r.errors != nil {
				r.countErrors(p[i : i+n])
			}
			i += n
			r.advance(n)
			if r.mode == atHeader {
				var err error
				if from, err = r.finish(p[:i], from, frame, r.rewriteWhole); err != nil {
					return err
				}
			}

		case keepHead:
			n, status := r.scan.scan(p[i:][:min(r.left, int64(len(p)-i))])
			i += n
			r.left -= int64(n)
			switch status {
			case failed:
				return r.refuse(p[from:frame], r.scan.err)
			case done:
				var err error
				if from, err = r.finish(p[:i], from, frame, r.rewriteHead); err != nil {
					return err
				}
				r.mode = streaming
				r.advance(0)
			}

		case inPlace:
			n, status := r.scan.scan(p[i:][:min(r.left, int64(len(p)-i))])
			if r.errors != nil {
				r.countErrors(p[i : i+n])
			}
			i += n
			r.left -= int64(n)
			switch {
			case status == failed:
				return r.refuse(p[from:frame], r.scan.err)
			case r.left == 0 && status != done:
				return r.refuse(p[from:frame], r.fail("the frame ends before its tagged fields"))
			case r.left > 0 && status == done:
				return r.refuse(p[from:frame], r.fail("%d bytes behind the end of the response", r.left))
			case status == atTail:
				r.tail = r.size - r.left
				r.wait = min(r.wait, r.tail)
				if r.size-r.wait > maxKept {
					return r.refuse(p[from:frame], r.fail("more than %d bytes would have to be kept", maxKept))
				}
			case status == done:
				r.mode = atHeader
				var err error
				if from, err = r.finish(p[:i], from, r.waiting(p[:i]), r.rewriteTail); err != nil {
					return err
				}
			}
		}
		if r.mode.keeps() && len(r.kept)+i-frame > maxKept {
			return r.refuse(p[from:frame], r.fail("more than %d bytes would have to be kept", maxKept))
		}
	}
	wait := len(p)
	switch {
	case r.mode.keeps():
		wait = frame
	case r.mode == inPlace:
		wait = r.waiting(p)
	}
	if err := r.write(p[from:wait]); err != nil {
		return err
	}
	r.keep(p[wait:])
	return nil
}

// finish rewrites what ends p: p[kept:], together with what was kept of it
// from earlier calls. Of p, p[from:] has not been forwarded. It returns where
// in p that begins afterwards.
func (r *Responses) finish(p []byte, from, kept int, rewrite func([]byte) ([]byte, error)) (int, error) {
	defer r.scan.rest()
	b := p[kept:]
	if len(r.kept) > 0 {
		r.keep(b)
		b = r.kept
		defer r.release()
	}
	out, err := rewrite(b)
	switch {
	case err != nil:
		return 0, r.refuse(p[from:kept], err)
	case out == nil && len(r.kept) == 0:
		return from, nil // it goes with what is around it
	case out == nil:
		out = b
	default:
		if r.req.kind != query {
			r.Rewritten++
		}
		defer recycle(out)
	}
	if err := r.write(p[from:kept]); err != nil {
		return 0, err
	}
	return len(p), r.write(out)
}

// refuse forwards what came before a frame that cannot be, and returns why.
func (r *Responses) refuse(before []byte, why error) error {
	if err := r.write(before); err != nil {
		return err
	}
	return why
}

// waiting returns where in p that begins what waits for the end of the frame
// that is rewritten in place. All of p that belongs to the frame has been
// scanned, and nothing behind it.
func (r *Responses) waiting(p []byte) int {
	n := r.size - r.left - r.wait - int64(len(r.kept))
	return len(p) - int(max(n, 0))
}

// advance notes that n more bytes of a frame have been dealt with.
func (r *Responses) advance(n int) {
	if r.left -= int64(n); r.left == 0 {
		r.mode = atHeader
	}
}

func (r *Responses) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	_, err := r.Out.Write(p)
	return err
}

// buffers holds what most rewritten frames need, once to keep and once to
// build; largeBuffers what large clusters need.
var (
	buffers      = sync.Pool{New: func() any { return new([wholeFrame]byte) }}
	largeBuffers sync.Pool // *[]byte, longer than that
)

// maxPooled is how large a buffer may be, in bytes, to be used again.
const maxPooled = 4 << 20

// buffer returns an empty buffer with room for n bytes.
func buffer(n int) []byte {
	if n <= wholeFrame {
		return buffers.Get().(*[wholeFrame]byte)[:0]
	}
	if b, ok := largeBuffers.Get().(*[]byte); ok && cap(*b) >= n {
		return *b
	}
	return make([]byte, 0, n)
}

// recycle puts a buffer back.
func recycle(b []byte) {
	switch {
	case cap(b) == wholeFrame:
		buffers.Put((*[wholeFrame]byte)(b[:wholeFrame]))
	case cap(b) > wholeFrame && cap(b) <= maxPooled:
		empty := b[:0]
		largeBuffers.Put(&empty)
	}
}

func (r *Responses) keep(p []byte) {
	if len(p) == 0 {
		return
	}
	if n := len(r.kept) + len(p); r.kept == nil || n > cap(r.kept) {
		b := append(buffer(max(n, 2*cap(r.kept))), r.kept...)
		recycle(r.kept)
		r.kept = b
	}
	r.kept = append(r.kept, p...)
}

func (r *Responses) release() {
	recycle(r.kept)
	r.kept = nil
}

func (r *Responses) fail(format string, args ...any) *Error {
	return r.failAt(int(r.size-r.left), format, args...)
}

func (r *Responses) failAt(offset int, format string, args ...any) *Error {
	e := frameError(int64(offset), "response: "+format, args...)
	e.Key, e.Version = r.req.key, r.req.version
	return e
}

// completeHeader adds to the cut header that is kept, and returns how many
// bytes of p it took.
func (r *Responses) completeHeader(p []byte) (int, error) {
	_, need, err := r.header(r.kept)
	if err != nil {
		return 0, err
	}
	n := min(need, len(p))
	r.keep(p[:n])
	if n < need {
		return n, nil
	}
	read, need, err := r.header(r.kept)
	if err != nil || need > 0 {
		return n, err
	}
	if r.mode == streaming { // a token's first bytes may have been needed to tell it
		r.advance(len(r.kept) - read)
	}
	if !r.mode.keeps() {
		err = r.write(r.kept)
		r.release()
	}
	return n, err
}

// header reads the beginning of the frame that begins at b[0], finds the
// request it answers, and sets how it is handled. It returns how many bytes it
// read or, when b is too short, how many more it needs at the least.
func (r *Responses) header(b []byte) (n, need int, err error) {
	if len(b) < 4 {
		return 0, 4 - len(b), nil
	}
	size, err := frameSize(b, r.MaxFrame, "response")
	if err != nil {
		return 0, 0, err
	}
	req, owing := r.InFlight.head()
	if !owing {
		return 0, 0, frameError(0, "response of %d bytes that no request asked for", size)
	}
	if req.kind == saslToken {
		token, need := r.isToken(b, size)
		if need > 0 {
			return 0, need, nil
		}
		if token {
			r.InFlight.pop()
			r.observe(req, 0)
			r.begin(pending{kind: saslToken}, size+4, 4)
			return 4, 0, nil
		}
		r.InFlight.pop()
		req, _ = r.InFlight.head()
	}
	if size < 4 {
		return 0, 0, frameError(0, "response of %d bytes: shorter than a response header", size)
	}
	if len(b) < 8 {
		return 0, 8 - len(b), nil
	}
	if got := be32(b[4:]); got != req.correlation {
		return 0, 0, &Error{Key: req.key, Version: req.version, Offset: 4,
			Reason: "response: its correlation id is not that of the oldest request without an answer"}
	}
	r.InFlight.pop()
	if r.Observer != nil {
		r.observe(req, throttleTime(req, b, size+4))
	}
	r.begin(req, size+4, 8)
	if r.left == 0 && r.mode != atHeader {
		return 0, 0, r.fail("a frame of %d bytes has no body", r.size)
	}
	return 8, 0, nil
}

// observe tells of a response to req.
func (r *Responses) observe(req pending, throttle int32) {
	if r.Observer == nil {
		return
	}
	r.Observer.Answered(Answer{req.key, req.version, req.correlation, req.at, throttle, req.kind == query})
}

// isToken tells whether the frame answers the bare SASL token at the head. The
// last token of an exchange may go without an answer, and the frame then
// answers the request behind it.
func (r *Responses) isToken(b []byte, size int64) (token bool, need int) {
	next, ok := r.InFlight.second()
	if !ok || size < 4 {
		return true, 0
	}
	if len(b) < 8 {
		return false, 8 - len(b)
	}
	return be32(b[4:]) != next.correlation, 0
}

// watchErrors has the partitions of a frame looked at that answers req, of size bytes of
// which read have been read.
func (r *Responses) watchErrors(req pending, size, read int64) {
	r.errors = nil
	if req.kind != kafkaRequest || int(req.key) >= len(errorLayouts) || req.key < 0 || int(req.version) >= len(errorLayouts[req.key]) || req.version < 0 {
		return
	}
	r.errors = new(scanner)
	r.errors.start(errorLayouts[req.key][req.version], read, size)
}

// countErrors takes the next bytes of a frame.
func (r *Responses) countErrors(p []byte) {
	if _, status := r.errors.scan(p); status == wantMore {
		return
	}
	if r.errors.notLeader {
		r.NotLeader++
	}
	r.errors = nil
}

// begin sets how a frame is handled that answers req, of size bytes of which
// read have been read.
func (r *Responses) begin(req pending, size, read int64) {
	if req.kind != query {
		r.Frames++
	}
	r.req, r.size, r.left, r.mode = req, size, size-read, streaming
	if r.CountNotLeader {
		r.watchErrors(req, size, read)
	}
	var l *layout
	if req.api != nil {
		l = req.api.versions[req.version]
	}
	switch {
	case req.kind == saslHandshake, req.kind == query, req.kind == kafkaRequest && req.key == keyAPIVersions:
		r.mode = keepWhole
	case l == nil:
		r.advance(0)
	case l.tail == noTail:
		r.mode = keepHead
		r.scan.start(l, read, size)
	case size <= cmp.Or(r.tune.wholeFrame, wholeFrame):
		r.mode = keepWhole
	default:
		r.mode = inPlace
		r.scan.start(l, read, size)
		r.wait = max(read, size-cmp.Or(r.tune.margin, margin))
		r.tail = 0
	}
}
