package kafka

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
)

// op is one step of a compiled schema.
type op struct {
	do     opcode
	length length
	known  bool   // opTagSize: tag 0 is walked by the ops that follow
	n      int    // opSkip: bytes
	to     int    // opLoop, opTagSize: the op behind the loop or field
	name   string // for errors
}

type opcode uint8

const (
	opSkip      opcode = iota // n bytes
	opSkipSized               // a length, then that many bytes
	opClusterID               // the same, of the cluster's id
	opNode                    // an address: its node id,
	opHost                    // its host name
	opPort                    // and its port
	opLoop                    // a count; what follows, up to opNext, as many times
	opNext                    //
	opTag                     // the number of a tagged field
	opTagSize                 // its size
	opTagEnd                  // the end of a tagged field that was walked
	opAcks                    // of a Produce request
	opError                   // of a partition
	opTail                    // here the scanner stops once, to let the tail be kept
	opDone                    // behind the last address
)

// length is how a length or count is written on the wire.
type length uint8

const (
	int16Length    length = iota // -1 is null
	int32Length                  // -1 is null
	uvarintPlusOne               // compact types: 0 is null
	uvarintCount                 // tagged fields
)

// address is a broker address found by the scanner. Start, host and end are
// offsets into the frame, counted from its length field: of the host's length,
// of its first byte, and of the byte behind it, where the port is.
type address struct {
	node, port       int32
	start, host, end int
}

// notLeaderOrFollower is the error of a request for a partition that another broker leads
// (https://kafka.apache.org/protocol#protocol_error_codes).
const notLeaderOrFollower = 6

// maxDepth is how deep loops nest in the schemas.
const maxDepth = 6

// scanner walks a response by its layout. It takes the frame in pieces cut
// anywhere and keeps no bytes, only where it is.
type scanner struct {
	layout *layout
	pc     int
	off    int64 // of the next byte to come
	end    int64 // of the frame
	skip   int64 // bytes to pass over before the next op

	// An integer that a cut runs through.
	acc  uint64
	have int

	depth  int
	loops  [maxDepth]loop
	tag    uint64 // the tagged field being read
	tagEnd int64

	host  address // the address being read
	found []address
	// addresses counts them. Those of a tail are not in found: they are read again when
	// the tail is replaced.
	addresses int
	id        span // of the cluster id; empty: none, or null
	acks      int16
	// notLeader is whether a partition's error was NOT_LEADER_OR_FOLLOWER.
	notLeader bool
	err       *Error
}

// span is where some bytes are, in offsets into the frame, counted from its length field.
type span struct{ start, end int }

// loop is an array that is being walked. Its elements take a byte at the least, and a frame
// is shorter than 2 GiB.
type loop struct {
	left uint32 // elements
	body int32  // where their program begins
}

// start prepares for a frame of size bytes, its length field included, of which
// off have been read.
func (s *scanner) start(l *layout, off, size int64) {
	found := s.found[:0]
	*s = scanner{} // in place: a literal with fields would be made on the stack first
	s.layout, s.off, s.end, s.found = l, off, size, found
}

// foundPool holds room for the addresses of large clusters: *[]address.
var foundPool sync.Pool

// rest lets go of what a large cluster needs room for.
func (s *scanner) rest() {
	if cap(s.found) > 64 {
		found := s.found[:0]
		foundPool.Put(&found)
		s.found = nil
	}
}

// grow makes room for more addresses: for as many as the array has, but not for
// as many as it only claims to have.
func (s *scanner) grow() {
	want := 1
	if s.depth > 0 {
		want = int(min(s.loops[s.depth-1].left, 4096))
	}
	if len(s.found)+want > 64 {
		if found, ok := foundPool.Get().(*[]address); ok && cap(*found) >= len(s.found)+want {
			s.found = append(*found, s.found...)
			return
		}
	}
	s.found = slices.Grow(s.found, want)
}

// status is why scan returned.
type status int

const (
	wantMore status = iota // all of p was used
	atTail                 // the tail begins at p[n:]
	done                   // the last address ends at p[n:]
	failed                 // see err
)

// scan uses the next bytes of the frame, and returns how many. p must not
// reach beyond the frame.
func (s *scanner) scan(p []byte) (n int, _ status) {
	i := 0
	for {
		if s.skip > 0 {
			n := min(s.skip, int64(len(p)-i))
			i += int(n)
			s.off += n
			if s.skip -= n; s.skip > 0 {
				return i, s.short()
			}
		}
		o := &s.layout.ops[s.pc]
		switch o.do {
		case opSkip:
			if !s.pass(o, uint64(o.n)) {
				return i, failed
			}

		case opSkipSized:
			v, used, ok := s.length(o, p[i:])
			i += used
			if !ok {
				return i, s.short()
			}
			if !s.pass(o, v) {
				return i, failed
			}

		case opClusterID:
			v, used, ok := s.length(o, p[i:])
			i += used
			if !ok {
				return i, s.short()
			}
			s.id = span{int(s.off), int(s.off + int64(v))}
			if !s.pass(o, v) {
				return i, failed
			}

		case opNode:
			v, used, ok := s.fixed(p[i:], 4)
			i += used
			if !ok {
				return i, s.short()
			}
			s.host = address{node: int32(v)}

		case opHost:
			if s.have == 0 {
				s.host.start = int(s.off)
			}
			v, used, ok := s.length(o, p[i:])
			i += used
			if !ok {
				return i, s.short()
			}
			s.host.host = int(s.off)
			s.host.end = int(s.off + int64(v))
			if !s.pass(o, v) {
				return i, failed
			}

		case opPort:
			v, used, ok := s.fixed(p[i:], 4)
			i += used
			if !ok {
				return i, s.short()
			}
			s.host.port = int32(v)
			if !s.keep(o) {
				return i, failed
			}

		case opLoop:
			v, used, ok := s.length(o, p[i:])
			i += used
			if !ok {
				return i, s.short()
			}
			// Every element takes a byte at the least, so a count that cannot
			// be met is known before anything is done for it.
			if v > uint64(s.end-s.off) {
				s.fail(o, "count %d is more than the %d bytes left can hold", v, s.end-s.off)
				return i, failed
			}
			if v == 0 {
				s.pc = o.to
				continue
			}
			s.loops[s.depth] = loop{left: uint32(v), body: int32(s.pc + 1)}
			s.depth++

		case opNext:
			l := &s.loops[s.depth-1]
			if l.left--; l.left > 0 {
				s.pc = int(l.body)
				continue
			}
			s.depth--

		case opTag:
			v, used, ok := s.uvarint(o, p[i:])
			i += used
			if !ok {
				return i, s.short()
			}
			s.tag = v

		case opTagSize:
			v, used, ok := s.uvarint(o, p[i:])
			i += used
			if !ok {
				return i, s.short()
			}
			if o.known && s.tag == 0 {
				if v > uint64(s.end-s.off) {
					s.fail(o, "tagged field 0 of %d bytes in the %d left", v, s.end-s.off)
					return i, failed
				}
				s.tagEnd = s.off + int64(v)
				break
			}
			if !s.pass(o, v) {
				return i, failed
			}
			s.pc = o.to
			continue

		case opTagEnd:
			if s.off != s.tagEnd {
				s.fail(o, "tagged field 0 ends at offset %d, but its size says %d", s.off, s.tagEnd)
				return i, failed
			}

		case opAcks:
			v, used, ok := s.fixed(p[i:], 2)
			i += used
			if !ok {
				return i, s.short()
			}
			s.acks = int16(v)

		case opError:
			v, used, ok := s.fixed(p[i:], 2)
			i += used
			if !ok {
				return i, s.short()
			}
			if v == notLeaderOrFollower {
				s.notLeader = true
				return i, done
			}

		case opTail:
			s.pc++
			return i, atTail

		case opDone:
			return i, done
		}
		s.pc++
	}
}

// short is the status when the bytes given are used up in the middle of a
// field: there must be more to come in the frame.
func (s *scanner) short() status {
	if s.err != nil {
		return failed
	}
	if s.off >= s.end {
		s.fail(&s.layout.ops[s.pc], "the frame ends within this field")
		return failed
	}
	return wantMore
}

// pass has the next n bytes skipped, if the frame has as many.
func (s *scanner) pass(o *op, n uint64) bool {
	if n > uint64(s.end-s.off) {
		s.fail(o, "%d bytes in the %d left", n, s.end-s.off)
		return false
	}
	s.skip = int64(n)
	return true
}

// keep notes an address that is to be replaced. One without a host names
// nobody: brokers answer so when there is no coordinator (node -1, host "",
// port -1).
func (s *scanner) keep(o *op) bool {
	a := s.host
	if a.host == a.end {
		return true
	}
	if a.node < 0 || a.port < 1 || a.port > 65535 {
		s.fail(o, "node %d with a host has port %d: not an address that can be replaced", a.node, a.port)
		return false
	}
	s.addresses++
	if s.layout.tail != noTail {
		return true
	}
	if len(s.found) == cap(s.found) {
		s.grow()
	}
	s.found = append(s.found, a)
	return true
}

func (s *scanner) fail(o *op, format string, args ...any) {
	s.err = &Error{
		Key:     s.layout.key,
		Version: s.layout.version,
		Offset:  s.off,
		Reason:  s.layout.what + ": " + o.name + ": " + fmt.Sprintf(format, args...),
	}
}

// fixed reads a big-endian integer of width bytes. It returns how many bytes
// of p it used, and whether the integer is complete.
func (s *scanner) fixed(p []byte, width int) (v uint64, used int, ok bool) {
	if s.have == 0 && len(p) >= width {
		s.off += int64(width)
		if width == 2 {
			return uint64(binary.BigEndian.Uint16(p)), 2, true
		}
		return uint64(binary.BigEndian.Uint32(p)), 4, true
	}
	for s.have < width {
		if used == len(p) {
			return 0, used, false
		}
		s.acc = s.acc<<8 | uint64(p[used])
		used++
		s.have++
		s.off++
	}
	v = s.acc
	s.acc, s.have = 0, 0
	return v, used, true
}

// uvarint reads an unsigned varint of at most 32 bits (KIP-482).
func (s *scanner) uvarint(o *op, p []byte) (v uint64, used int, ok bool) {
	if s.have == 0 && len(p) > 0 && p[0] < 0x80 {
		s.off++
		return uint64(p[0]), 1, true
	}
	for used < len(p) {
		b := p[used]
		used++
		s.off++
		s.acc |= uint64(b&0x7f) << (7 * s.have)
		s.have++
		if b < 0x80 {
			v = s.acc
			s.acc, s.have = 0, 0
			if v > 1<<32-1 {
				s.fail(o, "the varint %d has more than 32 bits", v)
				return 0, used, false
			}
			return v, used, true
		}
		if s.have == 5 {
			s.fail(o, "a varint of more than 5 bytes")
			return 0, used, false
		}
	}
	return 0, used, false
}

// length reads a length or count. Null counts as zero: nothing follows it
// either way.
func (s *scanner) length(o *op, p []byte) (v uint64, used int, ok bool) {
	switch o.length {
	case int16Length:
		if v, used, ok = s.fixed(p, 2); ok && int16(v) < 0 {
			return s.null(o, int64(int16(v)), used)
		}
	case int32Length:
		if v, used, ok = s.fixed(p, 4); ok && int32(v) < 0 {
			return s.null(o, int64(int32(v)), used)
		}
	case uvarintPlusOne:
		if v, used, ok = s.uvarint(o, p); ok {
			if v == 0 {
				return s.null(o, -1, used)
			}
			v--
		}
	case uvarintCount:
		v, used, ok = s.uvarint(o, p)
	}
	return v, used, ok
}

func (s *scanner) null(o *op, v int64, used int) (uint64, int, bool) {
	switch {
	case v != -1:
		s.fail(o, "negative length %d", v)
	case o.do == opHost: // no version lets it be null
		s.fail(o, "null")
	default:
		return 0, used, true
	}
	return 0, used, false
}
