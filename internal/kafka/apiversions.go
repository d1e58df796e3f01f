package kafka

import "encoding/binary"

const (
	// newestAPIVersions is the newest ApiVersions whose response is known here.
	newestAPIVersions = 5
	// unsupportedVersion is the error code with which a broker answers a version
	// of ApiVersions that it does not know, in the form of version 0 (KIP-511).
	unsupportedVersion = 35
)

// newestOffered returns the newest version of an API that clients may use, and
// whether there is a limit at all.
func (r *Responses) newestOffered(key int16) (int16, bool) {
	switch {
	case key == keyAPIVersions:
		return newestAPIVersions, true
	case r.NoIdentities && (key >= keyCreateToken && key <= keyDescribeToken || key == keyDescribeSCRAM || key == keyAlterSCRAM):
		return -1, true
	}
	if a := lookup(key); a != nil {
		return a.newest, true
	}
	return 0, false
}

// apiRange is one entry of an ApiVersions response.
type apiRange struct {
	entry         []byte // all of it: key, minimum, maximum, tagged fields
	key, min, max int16
}

func (c *cursor) apiRange(flexible bool) apiRange {
	start := c.off
	r := apiRange{key: c.int16(), min: c.int16(), max: c.int16()}
	if flexible {
		c.tags()
	}
	if !c.bad && !c.short() {
		r.entry = c.b[start:c.off]
	}
	return r
}

// rewriteAPIVersions takes an ApiVersions response, and offers nothing that
// could not be rewritten: maxima are lowered to what the schemas know, minima
// never raised, and an API that has no version left is taken out. APIs that
// carry no addresses stay as they are.
func (r *Responses) rewriteAPIVersions(b []byte) ([]byte, error) {
	c := cursor{b: b, off: 8} // its header is never flexible
	version := r.req.version
	if c.int16() == unsupportedVersion {
		version = 0
	}
	if version > newestAPIVersions {
		return nil, r.failAt(8, "the broker answered a version whose form is not known")
	}
	flexible := version >= 3
	head := c.off
	count := 0
	if flexible {
		count = c.uvarint() - 1
	} else {
		count = int(c.int32())
	}
	entries := c.off
	kept, changed := 0, false
	for range count {
		a := c.apiRange(flexible)
		if c.bad || c.short() {
			break
		}
		newest, limited := r.newestOffered(a.key)
		if !limited || a.min <= newest {
			kept++
		}
		changed = changed || limited && a.max > newest
	}
	if c.bad || c.short() || count < -1 {
		return nil, r.failAt(min(c.off, len(b)), "its list of APIs is not valid, or cut short")
	}
	if !changed {
		return nil, nil
	}

	out := append(buffer(len(b)), b[:head]...)
	if flexible {
		out = binary.AppendUvarint(out, uint64(kept+1))
	} else {
		out = binary.BigEndian.AppendUint32(out, uint32(kept))
	}
	c = cursor{b: b, off: entries}
	for range count {
		a := c.apiRange(flexible)
		newest, limited := r.newestOffered(a.key)
		if limited && a.min > newest {
			continue
		}
		at := len(out)
		out = append(out, a.entry...)
		if limited && a.max > newest {
			binary.BigEndian.PutUint16(out[at+4:], uint16(newest))
		}
	}
	out = append(out, b[c.off:]...)
	return r.resized(out, len(out)-len(b))
}
