package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Greeting is a request of a client that has not authenticated yet, read as a broker reads
// it: ApiVersions, SaslHandshake (versions 0 and 1) and SaslAuthenticate (0 to 2; KIP-152,
// KIP-368). Of any other the key alone is known.
type Greeting struct {
	Key, Version int16
	Correlation  int32
	Mechanism    string // of a SaslHandshake
	Token        []byte // of a SaslAuthenticate; it points into the frame
}

// API keys of greetings.
const (
	KeyAPIVersions      = keyAPIVersions
	KeySaslHandshake    = keySaslHandshake
	KeySaslAuthenticate = keySaslAuthenticate
)

// The newest versions of them that are answered here.
const (
	newestHandshake    = 1
	newestAuthenticate = 2
)

// Error codes of responses to greetings (https://kafka.apache.org/protocol#protocol_error_codes).
const (
	CodeUnsupportedMechanism = 33
	CodeIllegalState         = 34
	CodeAuthenticationFailed = 58

	CodeClusterAuthorizationFailed = 31
)

var errGreeting = errors.New("it is not well formed")

// ReadGreeting reads a request, its length field left out.
func ReadGreeting(frame []byte) (g Greeting, err error) {
	c := cursor{b: frame}
	g = Greeting{Key: c.int16(), Version: c.int16(), Correlation: c.int32()}
	if c.short() {
		return g, fmt.Errorf("a request of %d bytes: shorter than a request header", len(frame))
	}
	if newest, known := map[int16]int16{keySaslHandshake: newestHandshake, keySaslAuthenticate: newestAuthenticate}[g.Key]; !known {
		return g, nil
	} else if g.Version < 0 || g.Version > newest {
		return g, fmt.Errorf("%s v%d: there are versions 0 to %d", apiName(g.Key), g.Version, newest)
	}
	body, ok := skipClientID(frame[8:])
	if ok && g.Key == keySaslAuthenticate && g.Version == newestAuthenticate {
		if body, ok = skipTags(body); ok {
			g.Token, _, ok = cutCompact(body)
		}
	} else if ok {
		switch g.Key {
		case keySaslHandshake:
			var name []byte
			name, body, ok = cutString(body)
			g.Mechanism, ok = string(name), ok && len(body) == 0
		case keySaslAuthenticate:
			ok = len(body) >= 4 && int64(binary.BigEndian.Uint32(body)) == int64(len(body)-4)
			if ok {
				g.Token = body[4:]
			}
		}
	}
	if !ok {
		return g, fmt.Errorf("%s v%d: %w", apiName(g.Key), g.Version, errGreeting)
	}
	return g, nil
}

// skipClientID leaves the client id out that comes behind the fixed part of a header.
func skipClientID(b []byte) (rest []byte, ok bool) {
	_, rest, ok = cutString(b)
	return rest, ok
}

// sized gives a frame, whose first four bytes are left free, its length.
func sized(b []byte) []byte {
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// responseTo begins a response to a request.
func responseTo(correlation int32) []byte {
	return binary.BigEndian.AppendUint32(make([]byte, 4, 64), uint32(correlation))
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// AnswerHandshake returns the response to a SaslHandshake, with an error code, or 0, and the
// mechanisms that there are.
func (g *Greeting) AnswerHandshake(code int16, mechanisms []string) []byte {
	b := binary.BigEndian.AppendUint16(responseTo(g.Correlation), uint16(code))
	b = binary.BigEndian.AppendUint32(b, uint32(len(mechanisms)))
	for _, m := range mechanisms {
		b = appendString(b, m)
	}
	return sized(b)
}

// AnswerAuthenticate returns the response to a SaslAuthenticate, with an error code and its
// message, or 0 and the mechanism's own answer, and for how many milliseconds the client may
// go on before it has to authenticate again; 0: for ever.
func (g *Greeting) AnswerAuthenticate(code int16, message string, token []byte, lifetime int64) []byte {
	b := responseTo(g.Correlation)
	flexible := g.Version == newestAuthenticate
	if flexible {
		b = append(b, 0)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(code))
	switch {
	case flexible && code == 0:
		b = append(b, 0)
	case flexible:
		b = append(binary.AppendUvarint(b, uint64(len(message)+1)), message...)
	case code == 0:
		b = append(b, 0xff, 0xff)
	default:
		b = appendString(b, message)
	}
	if flexible {
		b = append(binary.AppendUvarint(b, uint64(len(token)+1)), token...)
	} else {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(token))), token...)
	}
	if g.Version > 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(lifetime))
	}
	if flexible {
		b = append(b, 0)
	}
	return sized(b)
}

// RefuseAPIVersions returns the response to an ApiVersions request that offers nothing, with
// an error code.
func (g *Greeting) RefuseAPIVersions(code int16) []byte {
	b := binary.BigEndian.AppendUint16(responseTo(g.Correlation), uint16(code))
	if g.Version < softwareSince {
		b = binary.BigEndian.AppendUint32(b, 0)
	} else {
		b = append(b, 1) // an empty compact array
	}
	if g.Version > 0 {
		b = binary.BigEndian.AppendUint32(b, 0) // throttle time
	}
	if g.Version >= softwareSince {
		b = append(b, 0) // tags
	}
	return sized(b)
}

// loginID is the client id of the proxy's own requests.
const loginID = "kafka-sni-proxy"

// AskAPIVersions returns an ApiVersions request of a version.
func AskAPIVersions(version int16) []byte {
	b := requestOf(keyAPIVersions, version, 0)
	if version >= softwareSince {
		b = append(b, 0)                              // no tags
		for _, text := range []string{loginID, "1"} { // which brokers want to be letters and digits
			b = append(append(b, byte(len(text)+1)), text...)
		}
		b = append(b, 0)
	}
	return sized(b)
}

// AskHandshake returns a SaslHandshake request, version 1.
func AskHandshake(correlation int32, mechanism string) []byte {
	return sized(appendString(requestOf(keySaslHandshake, 1, correlation), mechanism))
}

// AskAuthenticate returns a SaslAuthenticate request, version 1.
func AskAuthenticate(correlation int32, token []byte) []byte {
	b := binary.BigEndian.AppendUint32(requestOf(keySaslAuthenticate, 1, correlation), uint32(len(token)))
	return sized(append(b, token...))
}

func requestOf(key, version int16, correlation int32) []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 4, 64), uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	return appendString(binary.BigEndian.AppendUint32(b, uint32(correlation)), loginID)
}

// LoginError is of a broker that does not let the proxy in.
type LoginError struct {
	Code       int16    // as in the protocol
	Message    string   // the broker's own words, cut to 128 bytes
	Mechanisms []string // 64 at the most, cut likewise, that it has, where it does not have the one that was asked for
}

func (e *LoginError) Error() string {
	switch {
	case e.Code == CodeUnsupportedMechanism:
		return fmt.Sprintf("the broker does not have the mechanism: it has %q", e.Mechanisms)
	case e.Message != "":
		return fmt.Sprintf("the broker does not let the proxy in: %s", e.Message)
	}
	return fmt.Sprintf("the broker does not let the proxy in: error %d", e.Code)
}

// ReadHandshake reads the response to AskHandshake, its length field left out.
func ReadHandshake(frame []byte, correlation int32) error {
	c := cursor{b: frame}
	if c.int32() != correlation {
		return fmt.Errorf("the response to SaslHandshake: another correlation id, or none")
	}
	e := &LoginError{Code: c.int16()}
	for range min(max(c.int32(), 0), 64) {
		e.Mechanisms = append(e.Mechanisms, keepText(c.take(int(max(c.int16(), 0)))))
	}
	switch {
	case c.short() || c.bad:
		return fmt.Errorf("the response to SaslHandshake: %w", errGreeting)
	case e.Code != 0:
		return e
	}
	return nil
}

// ReadAuthenticate reads the response to AskAuthenticate, its length field left out: the
// mechanism's own answer, and for how long the connection may go on before it has to
// authenticate again; 0: for ever.
func ReadAuthenticate(frame []byte, correlation int32) (token []byte, lifetime int64, err error) {
	c := cursor{b: frame}
	if c.int32() != correlation {
		return nil, 0, fmt.Errorf("the response to SaslAuthenticate: another correlation id, or none")
	}
	e := &LoginError{Code: c.int16()}
	e.Message = keepText(c.take(int(max(c.int16(), 0))))
	token = c.take(int(max(c.int32(), 0)))
	high, low := c.int32(), c.int32()
	switch {
	case c.short() || c.bad:
		return nil, 0, fmt.Errorf("the response to SaslAuthenticate: %w", errGreeting)
	case e.Code != 0:
		return nil, 0, e
	}
	ms := int64(high)<<32 | int64(uint32(low))
	const most = 365 * 24 * 3600 * 1000
	return token, min(max(ms, 0), most), nil
}
