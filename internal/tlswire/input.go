package tlswire

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"unsafe"
)

// tlsInput is what crypto/tls has read and not returned yet: its fields
// rawInput, input and hand. They are not exported, so they are reached by their
// offsets, and only when they are there and of the known types. In exchange
//
//   - records are decrypted in place, without being copied into crypto/tls and out
//     of it, and without its two allocations per record;
//   - a connection that waits keeps no memory for the longest record that it
//     has ever seen, which is most of what a connection would take.
//
// Without those fields everything works, but slower.
type tlsInput struct {
	raw   *bytes.Buffer // records
	plain *bytes.Reader // plaintext of one record, within raw
	hand  *bytes.Buffer // handshake messages
}

// tlsOffsets are where those fields are in a tls.Conn; nil when one of them is
// not there, or not what it was.
var tlsOffsets = func() *[3]uintptr {
	var offsets [3]uintptr
	conn := reflect.TypeFor[tls.Conn]()
	for i, want := range []struct {
		name string
		typ  reflect.Type
	}{
		{"rawInput", reflect.TypeFor[bytes.Buffer]()},
		{"input", reflect.TypeFor[bytes.Reader]()},
		{"hand", reflect.TypeFor[bytes.Buffer]()},
	} {
		f, ok := conn.FieldByName(want.name)
		if !ok || f.Type != want.typ {
			return nil
		}
		offsets[i] = f.Offset
	}
	return &offsets
}()

func inputOf(conn *tls.Conn) *tlsInput {
	if tlsOffsets == nil {
		return nil
	}
	at := unsafe.Pointer(conn)
	return &tlsInput{
		raw:   (*bytes.Buffer)(unsafe.Add(at, tlsOffsets[0])),
		plain: (*bytes.Reader)(unsafe.Add(at, tlsOffsets[1])),
		hand:  (*bytes.Buffer)(unsafe.Add(at, tlsOffsets[2])),
	}
}

// load lends whole records, to be decrypted where they are. They must not be
// touched until release.
func (in *tlsInput) load(records []byte) { *in.raw = *bytes.NewBuffer(records) }

// empty reports whether there is nothing left of what was lent.
func (in *tlsInput) empty() bool { return in.raw.Len() == 0 && in.plain.Len() == 0 }

// release ends what load began, and lets go of what the handshake has left. All
// must have been read.
func (in *tlsInput) release() {
	*in.raw = bytes.Buffer{}
	*in.plain = bytes.Reader{}
	if in.hand.Len() == 0 {
		*in.hand = bytes.Buffer{}
	}
}
