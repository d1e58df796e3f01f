// Package kafka knows the bytes of the Kafka protocol that a proxy must know,
// and no more.
//
// A connection has two streams of frames. [Requests] forwards what a client
// sends and notes each in [InFlight] until its response comes. [Responses]
// forwards what the broker sends, and in the few responses that carry broker
// addresses it puts other names for them. Everything else goes through as it
// came: bytes that need no change are neither copied nor looked at.
//
//	client ──► Requests.Forward ──► broker
//	               │ push
//	             InFlight
//	               │ pop
//	client ◄── Responses.Forward ◄── broker
//
// Forward takes whatever a read returned, cut anywhere, and hands slices of it
// on. Which responses carry addresses, and where, is the table in schema.go;
// one engine walks it for all of them.
//
// The package fails closed: a response that should be rewritten and cannot be
// is an [Error], never forwarded.
//
// It knows no sockets, no TLS, no log, and starts no goroutine.
package kafka

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
)

// DefaultMaxFrame is the longest frame accepted unless told otherwise, in
// bytes: the default of a broker's socket.request.max.bytes.
const DefaultMaxFrame = 100 << 20

// API keys that the proxy treats specially (https://kafka.apache.org/protocol#protocol_api_keys).
const (
	keyProduce          = 0
	keyFetch            = 1
	keyMetadata         = 3
	keyFindCoordinator  = 10
	keySaslHandshake    = 17
	keyAPIVersions      = 18
	keySaslAuthenticate = 36
	keyCreateToken      = 38
	keyDescribeToken    = 41
	keyDescribeSCRAM    = 50
	keyAlterSCRAM       = 51
	keyDescribeQuorum   = 55
	keyDescribeCluster  = 60
	keyShareFetch       = 78
	keyShareAcknowledge = 79
)

// Error says why a stream can go no further. It ends the session.
type Error struct {
	Key     int16  // API key, or -1 when the frame's API is not known
	Version int16  // API version, or -1
	Offset  int64  // where in the frame, counted from its length field
	Reason  string // what is wrong, in words for an operator
	Err     error  // ErrFrameSize, ErrNotOffered, what [Names] has returned, or nil
}

// ErrFrameSize is in an [Error] about a frame that is longer than MaxFrame, or has a
// negative length.
var ErrFrameSize = errors.New("frame size out of range")

// ErrNotOffered is in an [Error] about a request in a version that the client was not offered.
var ErrNotOffered = errors.New("version not offered")

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Error names the API, its version, the offset and the reason.
func (e *Error) Error() string {
	if e.Key < 0 {
		return fmt.Sprintf("offset %d: %s", e.Offset, e.Reason)
	}
	return fmt.Sprintf("%s v%d, offset %d: %s", apiName(e.Key), e.Version, e.Offset, e.Reason)
}

// frameError is an Error about a frame whose API is not known.
func frameError(offset int64, format string, args ...any) *Error {
	return &Error{Key: -1, Version: -1, Offset: offset, Reason: fmt.Sprintf(format, args...)}
}

// frameSize reads the length field that b begins with: how many bytes follow
// it. MaxFrame is the most there may be; 0 stands for the default.
func frameSize(b []byte, maxFrame int, kind string) (int64, error) {
	size := int64(be32(b))
	limit := int64(cmp.Or(maxFrame, DefaultMaxFrame))
	if size < 0 || size > limit {
		err := frameError(0, "%s of %d bytes: want 0 to %d", kind, size, limit)
		err.Err = ErrFrameSize
		return 0, err
	}
	return size, nil
}

func be16(b []byte) int16 { return int16(binary.BigEndian.Uint16(b)) }
func be32(b []byte) int32 { return int32(binary.BigEndian.Uint32(b)) }

// uvarintLen returns how many bytes v takes as an unsigned varint (KIP-482).
func uvarintLen(v int) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}
