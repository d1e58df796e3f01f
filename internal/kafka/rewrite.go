package kafka

import (
	"encoding/binary"
	"math"
)

// The functions in this file take what was kept of a frame, and return what is
// to be forwarded in its stead: in a buffer that is recycled, or nil when it
// stays as it is.

// rewriteHead takes a frame up to its last address. It puts the names in, and
// the length that the whole frame has then.
func (r *Responses) rewriteHead(b []byte) ([]byte, error) {
	if err := r.tellClusterID(b); err != nil {
		return nil, err
	}
	if len(r.scan.found) == 0 {
		return nil, nil
	}
	out := buffer(len(b) + 16*len(r.scan.found)) // the names may be longer, and it may grow
	done := 0                                    // b[:done] is in out
	for _, a := range r.scan.found {
		name, port, err := r.Names(a.node, b[a.host:a.end], a.port)
		if err != nil {
			recycle(out)
			return nil, r.noName(err)
		}
		out = append(out, b[done:a.start]...)
		if r.scan.layout.flexible {
			out = binary.AppendUvarint(out, uint64(len(name)+1))
		} else {
			out = binary.BigEndian.AppendUint16(out, uint16(len(name)))
		}
		out = append(out, name...)
		out = binary.BigEndian.AppendUint32(out, uint32(port))
		done = a.end + 4
	}
	out = append(out, b[done:]...)
	return r.resized(out, len(out)-len(b))
}

// rewriteWhole takes a whole frame.
func (r *Responses) rewriteWhole(b []byte) ([]byte, error) {
	switch {
	case r.req.kind == saslHandshake:
		return nil, r.noteSASLHandshake(b)
	case r.req.kind == query:
		return r.takeAnswer(b)
	case r.req.key == keyAPIVersions:
		return r.rewriteAPIVersions(b)
	}
	l := r.req.api.versions[r.req.version]
	r.scan.start(l, 8, r.size)
	n, status := r.scan.scan(b[8:])
	if status == failed {
		return nil, r.scan.err
	}
	tail := 8 + n
	if n, status = r.scan.scan(b[tail:]); status == failed {
		return nil, r.scan.err
	}
	if rest := len(b) - tail - n; rest > 0 {
		return nil, r.fail("%d bytes behind the end of the response", rest)
	}
	if r.scan.addresses == 0 {
		return nil, nil
	}
	t, ok := parseTail(b[tail:], l.tail)
	if !ok {
		return nil, r.fail("its endpoints do not parse")
	}
	t.rename(r.Names)
	r.Dropped += int64(t.dropped)
	out := t.append(append(buffer(len(b)), b[:tail]...))
	return r.resized(out, len(out)-len(b))
}

// rewriteTail takes the last bytes of a frame whose length has been sent, and
// returns as many.
func (r *Responses) rewriteTail(b []byte) ([]byte, error) {
	if r.scan.addresses == 0 {
		return nil, nil
	}
	before, b := b[:r.tail-r.wait], b[r.tail-r.wait:]
	t, ok := parseTail(b, r.scan.layout.tail)
	if !ok {
		return nil, r.fail("its endpoints do not parse")
	}
	t.rename(r.Names)
	if !t.fit(len(b)) {
		return nil, r.fail("its endpoints cannot be replaced in place")
	}
	r.Dropped += int64(t.dropped)
	return t.append(append(buffer(len(before)+len(b)), before...)), nil
}

// noName refuses a response of which a broker has no address for the client.
func (r *Responses) noName(why error) error {
	e := r.fail("%v", why)
	e.Err = why
	return e
}

// resized sets the length of a frame that begins with out, which is grown bytes
// longer than what it replaces.
func (r *Responses) resized(out []byte, grown int) ([]byte, error) {
	length := r.size - 4 + int64(grown)
	if length > math.MaxInt32 {
		return nil, r.fail("too long with its new names: %d bytes", length)
	}
	binary.BigEndian.PutUint32(out, uint32(length))
	return out, nil
}

// tellClusterID tells the cluster id in a frame that has been scanned, if there is one.
func (r *Responses) tellClusterID(b []byte) error {
	if id := b[r.scan.id.start:r.scan.id.end]; r.ClusterID != nil && len(id) > 0 {
		return r.ClusterID(id)
	}
	return nil
}

// noteSASLHandshake reads from the answer to a SaslHandshake v0 whether bare
// tokens may follow.
func (r *Responses) noteSASLHandshake(b []byte) error {
	if len(b) < 10 {
		return r.fail("the frame ends before its error code")
	}
	if be16(b[8:]) == 0 {
		r.InFlight.sasl.state.Store(handshakeAccepted)
	} else {
		r.InFlight.sasl.state.Store(handshakeRefused)
	}
	return nil
}

// takeAnswer takes the response to a query of the proxy's own, and leaves nothing to
// forward. What is not well formed tells nothing.
func (r *Responses) takeAnswer(b []byte) ([]byte, error) {
	r.scan.start(r.req.api.versions[r.req.version], 8, r.size)
	brokers := 0
	if _, status := r.scan.scan(b[8:]); status == done {
		if err := r.tellClusterID(b); err != nil {
			return nil, err
		}
		for _, a := range r.scan.found {
			r.Names(a.node, b[a.host:a.end], a.port) // an error does not matter: nothing is forwarded
			brokers++
		}
	}
	if r.QueryAnswered != nil {
		r.QueryAnswered(brokers)
	}
	return buffer(0), nil
}
