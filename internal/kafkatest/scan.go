package kafkatest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
)

// Scanner looks for words that must not be there in everything that clients
// read. Its methods may be called concurrently.
//
// The words are compared byte for byte: Kafka's strings are UTF-8 and brokers
// send a name as it was configured. Compressed record batches are opaque to it.
type Scanner struct {
	// Except, when not nil, is asked about each word that was found, with up to
	// 512 bytes that come before it. Where it is true the word may be there. It
	// is set before the first use.
	Except func(before []byte) bool

	words   [][]byte
	keep    int // how many bytes of the past a stream holds on to
	scanned atomic.Int64
	streams atomic.Int64

	found chan struct{} // closed with the first leak

	mu    sync.Mutex
	leaks []*Leak
}

// lookBack is how much Except is shown.
const lookBack = 512

// around is how many bytes before and after a leak its report shows, as far as
// they are at hand.
const around = 48

// maxLeaks bounds what a scanner remembers. The first leak is the one that
// matters.
const maxLeaks = 100

// Leak is a word that was found. It is the error of the read that found it, and
// of every read of that stream after it.
type Leak struct {
	Word   string
	Stream string // the name given to Conn or Reader
	Offset int64  // of the word's first byte, in decrypted bytes since the stream began
	Around []byte // the word with the bytes on either side of it
}

// Error shows where the word is and what is around it.
func (l *Leak) Error() string {
	return fmt.Sprintf("%q reached the client at byte %d of %s, within %q", l.Word, l.Offset, l.Stream, l.Around)
}

// NewScanner returns a scanner for these words.
func NewScanner(words ...string) *Scanner {
	s := &Scanner{keep: around, found: make(chan struct{})}
	for _, word := range words {
		if word == "" {
			panic("kafkatest: scanning for an empty word finds it everywhere")
		}
		s.words = append(s.words, []byte(word))
		s.keep = max(s.keep, len(word)-1)
	}
	return s
}

// Conn returns c with its reads scanned. Put it outside of TLS. The read in which
// a word ends gives no bytes but the [Leak] as its error, so that the client
// cannot go on as if nothing had happened.
func (s *Scanner) Conn(c net.Conn, name string) net.Conn {
	return &scannedConn{Conn: c, reader: s.Reader(c, name)}
}

type scannedConn struct {
	net.Conn
	reader io.Reader
}

func (c *scannedConn) NetConn() net.Conn          { return c.Conn }
func (c *scannedConn) Read(p []byte) (int, error) { return c.reader.Read(p) }

// Reader returns r with its reads scanned. One goroutine at a time reads.
func (s *Scanner) Reader(r io.Reader, name string) io.Reader {
	s.streams.Add(1)
	return &stream{s: s, r: r, name: name}
}

// Writer returns a writer that scans what is written to it, in pieces cut
// anywhere, and takes everything: what is found is in [Scanner.Leaks]. One
// goroutine at a time writes.
func (s *Scanner) Writer(name string) io.Writer {
	s.streams.Add(1)
	return &stream{s: s, name: name}
}

// Write implements [io.Writer] for a stream that is written.
func (t *stream) Write(p []byte) (int, error) {
	t.scan(p)
	return len(p), nil
}

// Scanned returns how many bytes have been scanned, and in how many streams.
func (s *Scanner) Scanned() (total, streams int64) { return s.scanned.Load(), s.streams.Load() }

// Found returns a channel that is closed when something is found. Err is set by
// then.
func (s *Scanner) Found() <-chan struct{} { return s.found }

// Leaks returns what was found, the first hundred at most.
func (s *Scanner) Leaks() []*Leak {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.leaks)
}

// Take returns what was found and forgets it, so that the next call returns what
// has been found since.
func (s *Scanner) Take() []*Leak {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.leaks
	s.leaks = nil
	return taken
}

// Err returns all leaks as one error, or nil when there was none.
func (s *Scanner) Err() error {
	var errs []error
	for _, l := range s.Leaks() {
		errs = append(errs, l)
	}
	return errors.Join(errs...)
}

// stream is one sequence of bytes. A word may begin in one read and end in a
// later one, so that the last bytes of the past are kept.
type stream struct {
	s      *Scanner
	r      io.Reader
	name   string
	offset int64  // of the first byte of the next read
	past   []byte // the last s.keep bytes before it
	seam   []byte // reused
	leak   *Leak  // sticky
}

func (t *stream) Read(p []byte) (int, error) {
	if t.leak != nil {
		return 0, t.leak
	}
	n, err := t.r.Read(p)
	if t.leak = t.scan(p[:n]); t.leak != nil {
		return 0, t.leak
	}
	return n, err
}

// scan returns the first leak that ends in p.
func (t *stream) scan(p []byte) *Leak {
	var first *Leak
	// start is where the word begins in p, below 0 when it began in the past.
	found := func(word []byte, start int) {
		before := append(bytes.Clone(t.past), p[max(0, start-lookBack):max(0, start)]...)
		before = before[:len(before)+min(0, start)]
		if t.s.Except != nil && t.s.Except(before[max(0, len(before)-lookBack):]) {
			return
		}
		context := append(bytes.Clone(before[max(0, len(before)-around):]), word...)
		context = append(context, p[max(0, start+len(word)):min(len(p), max(0, start+len(word)+around))]...)
		offset := t.offset + int64(start)
		l := &Leak{Word: string(word), Stream: t.name, Offset: offset, Around: bytes.Clone(context)}
		if first == nil || offset < first.Offset {
			first = l
		}
		t.s.add(l)
	}
	for _, word := range t.s.words {
		// The seam: words that begin in the past and end in p. Cut to less than
		// a word on either side, it holds no word that lies on one side alone.
		past := t.past[max(0, len(t.past)-(len(word)-1)):]
		t.seam = append(append(t.seam[:0], past...), p[:min(len(p), len(word)-1)]...)
		for at := 0; ; at++ {
			i := bytes.Index(t.seam[at:], word)
			if i < 0 {
				break
			}
			at += i
			found(word, at-len(past))
		}
		for at := 0; ; at++ {
			i := bytes.Index(p[at:], word)
			if i < 0 {
				break
			}
			at += i
			found(word, at)
		}
	}
	t.remember(p)
	t.offset += int64(len(p))
	t.s.scanned.Add(int64(len(p)))
	return first
}

func (s *Scanner) add(l *Leak) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.leaks) < maxLeaks {
		s.leaks = append(s.leaks, l)
	}
	select {
	case <-s.found:
	default:
		close(s.found)
	}
}

func (t *stream) remember(p []byte) {
	keep := t.s.keep
	if t.s.Except != nil {
		keep = max(keep, lookBack)
	}
	if len(p) >= keep {
		t.past = append(t.past[:0], p[len(p)-keep:]...)
		return
	}
	if over := len(t.past) + len(p) - keep; over > 0 {
		t.past = append(t.past[:0], t.past[over:]...)
	}
	t.past = append(t.past, p...)
}
