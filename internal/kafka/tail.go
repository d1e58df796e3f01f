package kafka

import (
	"encoding/binary"
	"slices"
)

const (
	// maxEndpoints is how many endpoints of one response are replaced: one for each
	// partition whose leader has moved, of clusters of a few hundred brokers. With
	// more of them all are left out.
	maxEndpoints = 10_000
	// maxTags is how many tagged fields a response may have besides. Kafka's have a few.
	maxTags = 1000
)

// trailer is the end of a response that ends with addresses: the array of
// endpoints and the tagged fields.
type trailer struct {
	layout    tail
	endpoints []endpoint
	dropped   int           // endpoints that were left out because there are too many
	tags      []taggedField // ascending; without the endpoints
}

type endpoint struct {
	node, port int32
	host       []byte
	rest       []byte // rack and tagged fields
}

type taggedField struct {
	tag   int
	value []byte
}

// parseTail takes a trailer apart. The scanner has been over it, so what can
// still be wrong is that the tagged fields do not ascend.
func parseTail(b []byte, layout tail) (*trailer, bool) {
	t := &trailer{layout: layout}
	c := cursor{b: b}
	if layout == plainEndpoints {
		t.endpoints, t.dropped = c.endpoints()
	}
	last := -1
	for n := c.uvarint(); n > 0 && !c.bad && !c.short(); n-- {
		tag := c.uvarint()
		value := c.take(c.uvarint())
		if tag <= last {
			return nil, false
		}
		last = tag
		if layout == taggedEndpoints && tag == 0 {
			v := cursor{b: value}
			t.endpoints, t.dropped = v.endpoints()
			if v.bad || v.off != len(value) {
				return nil, false
			}
			continue
		}
		if len(t.tags) == maxTags {
			return nil, false
		}
		t.tags = append(t.tags, taggedField{tag, value})
	}
	return t, !c.bad && c.off == len(b)
}

// endpoints reads an array of endpoints. Of more than maxEndpoints it returns only how
// many there are.
func (c *cursor) endpoints() (all []endpoint, dropped int) {
	n := c.uvarint() - 1
	if n <= 0 || n > len(c.b) {
		return nil, 0
	}
	if n <= maxEndpoints {
		all = make([]endpoint, 0, n)
	} else {
		dropped = n
	}
	for range n {
		e := endpoint{node: c.int32(), host: c.compactString(), port: c.int32()}
		start := c.off
		c.compactString()
		c.tags()
		if c.bad || c.short() {
			return nil, 0
		}
		e.rest = c.b[start:c.off]
		if dropped == 0 {
			all = append(all, e)
		}
	}
	return all, dropped
}

// rename puts in the names that clients are to see. An endpoint without one is left out.
func (t *trailer) rename(names Names) {
	kept := t.endpoints[:0]
	for _, e := range t.endpoints {
		if len(e.host) > 0 {
			name, port, err := names(e.node, e.host, e.port)
			if err != nil {
				t.dropped++
				continue
			}
			e.host, e.port = []byte(name), port
		}
		kept = append(kept, e)
	}
	t.endpoints = kept
}

// fit makes the trailer exactly n bytes long. Endpoints that make it longer
// are left out, in which case the client asks for metadata as it did before
// there were endpoints, and the space that is left is filled with an unknown
// tagged field, which clients skip (KIP-482). It reports whether that is possible.
func (t *trailer) fit(n int) bool {
	all := t.endpoints
	t.endpoints = make([]endpoint, 0, len(all))
	n -= t.tagsSize()
	size := 0 // of the endpoints taken
	for _, e := range all {
		if t.sizeWith(len(t.endpoints)+1, size+e.size()) <= n {
			t.endpoints = append(t.endpoints, e)
			size += e.size()
		}
	}
	for {
		if t.pad(n - t.sizeWith(len(t.endpoints), size)) {
			t.dropped += len(all) - len(t.endpoints)
			return true
		}
		// One byte is left over, and no tagged field is that short.
		last := len(t.endpoints) - 1
		if last < 0 {
			return false
		}
		size -= t.endpoints[last].size()
		t.endpoints = t.endpoints[:last]
	}
}

// pad adds a tagged field that takes n bytes, if there is one.
func (t *trailer) pad(n int) bool {
	if n == 0 {
		return true
	}
	n -= uvarintLen(t.tagCount()+1) - uvarintLen(t.tagCount()) // the count may grow by a byte
	// A tag of one byte if there is one. Where the length of the size jumps, one
	// of two bytes makes up for it.
	for _, free := range []func() (int, bool){t.freeShortTag, t.freeLongTag} {
		tag, ok := free()
		for sizeLen := 1; ok && sizeLen <= 4; sizeLen++ {
			size := n - uvarintLen(tag) - sizeLen
			if size >= 0 && uvarintLen(size) == sizeLen {
				at, _ := t.findTag(tag)
				t.tags = slices.Insert(t.tags, at, taggedField{tag, make([]byte, size)})
				return true
			}
		}
	}
	return false
}

// freeShortTag returns the highest unused tag that takes one byte: far from
// those that Kafka gives to new fields, which count from 0.
func (t *trailer) freeShortTag() (tag int, ok bool) {
	for tag := 127; tag > 0; tag-- {
		if _, used := t.findTag(tag); !used {
			return tag, true
		}
	}
	return 0, false
}

// freeLongTag returns the lowest unused tag that takes two bytes.
func (t *trailer) freeLongTag() (tag int, ok bool) {
	at, _ := t.findTag(128)
	for tag := 128; tag < 1<<14; tag++ {
		if at == len(t.tags) || t.tags[at].tag != tag {
			return tag, true
		}
		at++
	}
	return 0, false
}

// findTag returns where a tag is, or where it would have to be.
func (t *trailer) findTag(tag int) (at int, found bool) {
	return slices.BinarySearchFunc(t.tags, tag, func(f taggedField, tag int) int { return f.tag - tag })
}

// tagCount returns how many tagged fields are written.
func (t *trailer) tagCount() int {
	if t.layout == taggedEndpoints && len(t.endpoints) > 0 {
		return len(t.tags) + 1
	}
	return len(t.tags)
}

func (e *endpoint) size() int {
	return 4 + uvarintLen(len(e.host)+1) + len(e.host) + 4 + len(e.rest)
}

// sizeWith returns how long the trailer is with count endpoints that take size
// bytes together, without the tagged fields that are there besides.
func (t *trailer) sizeWith(count, size int) int {
	array := uvarintLen(count+1) + size
	switch {
	case t.layout == plainEndpoints:
		return array + uvarintLen(len(t.tags))
	case count > 0:
		return uvarintLen(len(t.tags)+1) + 1 + uvarintLen(array) + array
	default:
		return uvarintLen(len(t.tags))
	}
}

func (t *trailer) tagsSize() int {
	n := 0
	for _, f := range t.tags {
		n += uvarintLen(f.tag) + uvarintLen(len(f.value)) + len(f.value)
	}
	return n
}

// append encodes the trailer.
func (t *trailer) append(b []byte) []byte {
	size := 0
	for i := range t.endpoints {
		size += t.endpoints[i].size()
	}
	if t.layout == plainEndpoints {
		b = t.appendEndpoints(b)
	}
	b = binary.AppendUvarint(b, uint64(t.tagCount()))
	if t.layout == taggedEndpoints && len(t.endpoints) > 0 {
		b = append(b, 0)
		b = binary.AppendUvarint(b, uint64(uvarintLen(len(t.endpoints)+1)+size))
		b = t.appendEndpoints(b)
	}
	for _, f := range t.tags {
		b = binary.AppendUvarint(b, uint64(f.tag))
		b = binary.AppendUvarint(b, uint64(len(f.value)))
		b = append(b, f.value...)
	}
	return b
}

func (t *trailer) appendEndpoints(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(t.endpoints)+1))
	for _, e := range t.endpoints {
		b = binary.BigEndian.AppendUint32(b, uint32(e.node))
		b = binary.AppendUvarint(b, uint64(len(e.host)+1))
		b = append(b, e.host...)
		b = binary.BigEndian.AppendUint32(b, uint32(e.port))
		b = append(b, e.rest...)
	}
	return b
}
