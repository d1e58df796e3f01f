package kafka

// cursor reads the parts of a message that lie in memory as a whole. When a
// length is not valid it turns bad; when the bytes end it goes on counting, so
// that off says how many would have been needed up to there at the least. All
// reads after that give zero.
type cursor struct {
	b   []byte
	off int
	bad bool
}

// short reports whether the bytes ended before what was read did.
func (c *cursor) short() bool { return c.off > len(c.b) }

// take returns the next n bytes, or nil when there are not as many.
func (c *cursor) take(n int) []byte {
	if c.bad || c.short() {
		return nil
	}
	c.off += n
	if c.short() {
		return nil
	}
	return c.b[c.off-n : c.off : c.off]
}

func (c *cursor) int16() int16 {
	if b := c.take(2); b != nil {
		return be16(b)
	}
	return 0
}

func (c *cursor) int32() int32 {
	if b := c.take(4); b != nil {
		return be32(b)
	}
	return 0
}

func (c *cursor) uvarint() int {
	v := 0
	for shift := 0; ; shift += 7 {
		b := c.take(1)
		if b == nil {
			return 0
		}
		v |= int(b[0]&0x7f) << shift
		if b[0] < 0x80 {
			break
		}
		if shift == 28 {
			c.bad = true
			return 0
		}
	}
	if v > 1<<31-1 {
		c.bad = true
		return 0
	}
	return v
}

// compactString returns a string's bytes; nil when it is null.
func (c *cursor) compactString() []byte {
	if n := c.uvarint(); n > 0 {
		return c.take(n - 1)
	}
	return nil
}

// tags passes over a section of tagged fields.
func (c *cursor) tags() {
	for n := c.uvarint(); n > 0 && !c.bad && !c.short(); n-- {
		c.uvarint()
		c.take(c.uvarint())
	}
}
