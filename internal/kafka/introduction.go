package kafka

import (
	"encoding/binary"
	"strings"
	"unique"
)

// Introduction is what a client says of itself: in the header of its requests, and in
// ApiVersions (KIP-511). It may say anything.
type Introduction struct {
	ClientID          string // client.id, cut to 128 bytes
	Software, Version string // such as apache-kafka-java and 4.4.0, cut likewise
}

const (
	// introductions is in how many of the first requests an introduction is looked for.
	introductions = 3
	// maxIntroduction is the most that is kept of each text, in bytes.
	maxIntroduction = 128
	// softwareSince is the first version of ApiVersions that has it.
	softwareSince = 3
)

// Introduce reads what a request, without its length, says of its client. It is for requests
// that are answered without being forwarded.
func (r *Requests) Introduce(frame []byte) {
	if len(frame)+4 >= requestHeader {
		r.introduce(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
	}
}

// introduce reads what a request says of its client. b begins with the request; when the
// whole of that is not there yet, nothing is learned of it.
func (r *Requests) introduce(b []byte) {
	size := int64(be32(b)) + 4
	if size > int64(len(b)) {
		return
	}
	key, version := be16(b[4:]), be16(b[6:])
	b = b[requestHeader:size]
	id, b, ok := cutString(b)
	if !ok {
		return
	}
	now := Introduction{ClientID: keepText(id)}
	before := r.Introduction.Load()
	if before != nil {
		now.Software, now.Version = before.Software, before.Version
	}
	if key == keyAPIVersions && version >= softwareSince {
		var software, of []byte
		if b, ok = skipTags(b); ok {
			if software, b, ok = cutCompact(b); ok {
				of, _, ok = cutCompact(b)
			}
		}
		if ok {
			now.Software, now.Version = keepText(software), keepText(of)
		}
	}
	if before == nil || *before != now {
		r.Introduction.Store(&now)
	}
}

// keepText returns a text as it is kept: valid UTF-8, and one copy for all connections that
// say the same.
func keepText(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return unique.Make(strings.ToValidUTF8(string(b[:min(len(b), maxIntroduction)]), "\ufffd")).Value()
}

// cutCompact cuts a compact string (KIP-482).
func cutCompact(b []byte) (text, rest []byte, ok bool) {
	n, read := binary.Uvarint(b)
	if read <= 0 || n > uint64(len(b)-read)+1 {
		return nil, nil, false
	}
	end := read + max(int(n)-1, 0)
	return b[read:end], b[end:], true
}

// skipTags leaves the tagged fields out that b begins with.
func skipTags(b []byte) (rest []byte, ok bool) {
	fields, read := binary.Uvarint(b)
	if read <= 0 {
		return nil, false
	}
	for b = b[read:]; fields > 0; fields-- {
		_, tag := binary.Uvarint(b)
		if tag <= 0 {
			return nil, false
		}
		size, read := binary.Uvarint(b[tag:])
		if read <= 0 || size > uint64(len(b)-tag-read) {
			return nil, false
		}
		b = b[tag+read+int(size):]
	}
	return b, true
}
