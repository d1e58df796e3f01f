package kafka

import (
	"encoding/binary"
	"strings"
	"sync/atomic"
)

// This file is about the first form of SASL: after a SaslHandshake v0 that succeeded,
// bare tokens follow, which are frames without a header. (From version 1 on tokens are
// in SaslAuthenticate requests, KIP-152, which need nothing special.)
//
// Client and broker must agree on what is a token, for what answers a token is not
// looked at. So nothing is let pass that a broker might see another way.

// handshakeState is how the last SaslHandshake v0 went. Requests and Responses share it.
type handshakeState struct{ state atomic.Uint32 }

const (
	noHandshake uint32 = iota
	handshakeWaiting
	handshakeRefused
	handshakeAccepted
)

// exchange is the SASL exchange that a SaslHandshake v0 has begun, as the client's side of
// the stream shows it. The zero value is none.
type exchange struct {
	begun    bool // the frame before was SaslHandshake v0
	reading  bool // its body is being read
	kerberos bool // the first token was one of GSSAPI
	tokens   int  // seen so far
	size     int64
	body     []byte // of the SaslHandshake, for its mechanism
}

// maxHandshake is the longest body of a SaslHandshake whose mechanism is read, in bytes:
// a client id and a name. With a longer one the mechanism counts as not known.
const maxHandshake = 512

// begin is called for a SaslHandshake v0 with a body of size bytes.
func (e *exchange) begin(size int64) {
	*e = exchange{begun: true, reading: size > 0 && size <= maxHandshake, size: size}
}

// underWay reports whether the next frame may be a token.
func (e *exchange) underWay() bool { return e.begun || e.tokens > 0 }

// read takes bytes of the handshake's body.
func (e *exchange) read(p []byte) {
	e.body = append(e.body, p...)
	e.reading = int64(len(e.body)) < e.size
}

// mechanism returns the one that the handshake names, "" if it is not known. The body has
// a client id and the mechanism, both with a length of two bytes; -1 is null.
func (e *exchange) mechanism() string {
	_, rest, ok := cutString(e.body)
	if !ok {
		return ""
	}
	name, rest, ok := cutString(rest)
	if !ok || len(rest) > 0 {
		return ""
	}
	return string(name)
}

// cutString returns the string that b begins with, and the rest.
func cutString(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := max(int(int16(binary.BigEndian.Uint16(b))), 0)
	if len(b) < 2+n {
		return nil, nil, false
	}
	return b[2 : 2+n], b[2+n:], true
}

// token notes that a token was let pass.
func (e *exchange) token() {
	e.begun = false
	e.tokens++
}

// next tells by up to four bytes with which a frame of size bytes begins whether it is a
// token, when there was one before. Where the mechanism says how many there are, that
// counts. Otherwise requests are told by their API key: Kafka's own are below 256, so that
// they begin with a zero byte, with which no token of such a mechanism begins.
func (e *exchange) next(first []byte, size int64) (token bool) {
	isKafkaRequest := len(first) > 0 && first[0] == 0
	switch mechanism := e.mechanism(); {
	case mechanism == "PLAIN": // RFC 4616
		return false
	case strings.HasPrefix(mechanism, "SCRAM-"): // RFC 5802: client-first, client-final
		return e.tokens < 2 && !isKafkaRequest
	case mechanism == "OAUTHBEARER": // RFC 7628, 3.2.3: one byte acknowledges an error
		return size < requestHeader-4
	case mechanism == "GSSAPI" && size >= requestHeader-4:
		// RFC 4121, 4.2.6 and RFC 2743, 3.1: security layers are negotiated in wrap
		// tokens. API keys of vendors are above 10 000; one of 24 576 to 24 831 begins
		// with 0x60, too, and counts as a token: what is pipelined behind it is refused.
		return first[0] == 0x05 || first[0] == 0x60
	}
	return !isKafkaRequest
}

// isToken tells a bare token from a request, after a SaslHandshake v0, by up to four bytes
// with which a frame of size bytes begins. The first frame is always a token; for later
// ones see [exchange.next].
func (r *Requests) isToken(first []byte, size int64) (bool, error) {
	refuse := func(reason string) (bool, error) {
		return false, &Error{Key: keySaslHandshake, Version: 0, Offset: 0, Reason: "request: " + reason}
	}
	if r.sasl.tokens == 0 {
		switch r.InFlight.sasl.state.Load() {
		case handshakeAccepted:
			if likeAddressRequest(first) {
				return refuse("the client sent a request where a SASL token belongs")
			}
			r.sasl.kerberos = len(first) > 0 && first[0] == 0x60 // a GSS-API token (RFC 2743, 3.1)
			return true, nil
		case handshakeWaiting:
			// Whether this is a token depends on an answer that is not here yet.
			return refuse("the client sent more before the handshake was answered")
		default:
			return false, nil
		}
	}
	waiting := r.InFlight.tokenInFlight()
	if r.sasl.next(first, size) {
		if waiting {
			return refuse("the client sent a SASL token before the last one was answered")
		}
		return true, nil
	}
	// Only the exchange of GSSAPI ends with a token that is not answered.
	if waiting && !r.sasl.kerberos {
		return refuse("the client sent a request before its SASL token was answered")
	}
	return false, nil
}

// likeAddressRequest reports whether a frame that begins so could be a request
// for addresses. No token of a known mechanism is taken for one: PLAIN's begins
// with zero, but its third and fourth byte are of a user name or password,
// which do not begin with control characters.
func likeAddressRequest(first []byte) bool {
	return len(first) == 4 && lookup(be16(first)) != nil && uint16(be16(first[2:])) < 32
}
