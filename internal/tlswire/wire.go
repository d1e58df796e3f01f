package tlswire

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// wire is the connection under a tls.Conn. crypto/tls reads about one record
// at a time and writes one record at a time; wire turns that into few large
// system calls:
//
//   - It reads as much as there is into one buffer and hands out whole records
//     only. So it knows what is left: a loop that gathers records can stop
//     before it would wait, and never holds back what has arrived.
//   - Between cork and flush it gathers what is written.
//
// Its buffers come from a pool when there is something to put in them, and go
// back when they are empty. A connection that waits holds none.
//
// In plaintext, all that has arrived is whole.
type wire struct {
	net.Conn
	plain bool            // no TLS
	raw   syscall.RawConn // nil when Conn has no file descriptor to be used
	ready func(fd uintptr) bool
	space func(fd uintptr) bool

	// Reading; one goroutine at a time.
	in      []byte // a buffer, or a firstBuffer
	r, w    int    // in[r:w] has been read and not handed out
	record  int    // bytes of the current record still to be handed out
	instant bool   // Read never waits: errWouldBlock when no whole record is there
	n       int    // what ready read
	err     error

	// Writing. The lock is needed because crypto/tls also writes while it reads,
	// to answer a key update.
	mu     sync.Mutex
	corked bool
	out    *buffer
	queued int    // out[:queued] waits for flush
	mute   bool   // writes are dropped
	rest   []byte // what writeReady has still to write
	failed error  // what ended its writing

	stalledSince atomic.Int64 // when writeReady found no space, by clock; 0: it did not
	stalled      atomic.Int64 // nanoseconds for which writes have waited for space

	// alert is the last alert that the peer sent unencrypted, or noAlert.
	alert int16
}

const (
	// recordHeader is how long a TLS record's header is (RFC 8446, 5.1).
	recordHeader = 5
	// maxRecord is the longest record there can be: TLS 1.2 allows for 2048
	// bytes of expansion, TLS 1.3 for 256.
	maxRecord = recordHeader + 16384 + 2048
	// MaxBatch is how much is read, forwarded and written at once, in bytes: eight
	// full records, headers and expansion included.
	MaxBatch = 8*16384 + 4096
)

// direct is how much is worth a system call of its own: copying it costs as much.
const direct = 32 << 10

type (
	// buffer holds a batch, as plaintext or as records.
	buffer [MaxBatch]byte
	// firstBuffer holds a record. That is enough for handshakes, which are short
	// and may come in thousands.
	firstBuffer [20 << 10]byte
)

const _ = uint(len(firstBuffer{}) - maxRecord)

var (
	buffers      = sync.Pool{New: func() any { return new(buffer) }}
	firstBuffers = sync.Pool{New: func() any { return new(firstBuffer) }}
)

// errWouldBlock is what Read returns instead of waiting. crypto/tls takes
// temporary errors as they come and goes on at the next call.
var errWouldBlock net.Error = wouldBlock{}

type wouldBlock struct{}

func (wouldBlock) Error() string   { return "no whole TLS record has arrived" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

func (w *wire) init(c net.Conn) {
	w.Conn = c
	w.alert = noAlert
	w.ready, w.space = w.readReady, w.writeReady
	if sc, ok := c.(syscall.Conn); ok && canUseRaw {
		if raw, err := sc.SyscallConn(); err == nil {
			w.raw = raw
		}
	}
}

// Read hands out bytes of one record.
func (w *wire) Read(p []byte) (int, error) {
	if w.record == 0 {
		if !w.whole() {
			if w.instant {
				return 0, errWouldBlock
			}
			if err := w.wait(); err != nil {
				return 0, err
			}
		}
		w.record = w.firstLen()
		if !w.plain {
			w.noteAlert(w.in[w.r:][:min(w.record, w.w-w.r)])
		}
	}
	n := copy(p, w.in[w.r:min(w.w, w.r+w.record)])
	w.r += n
	w.record -= n
	return n, nil
}

// whole reports whether a whole record is there to be handed out.
func (w *wire) whole() bool {
	have := w.w - w.r
	return have > 0 && w.plain || have >= recordHeader && have >= recordLen(w.in[w.r:w.w])
}

// firstLen returns how long the first record is that can be handed out.
func (w *wire) firstLen() int {
	if w.plain {
		return w.w - w.r
	}
	return recordLen(w.in[w.r:w.w])
}

// takeWhole hands out all whole records at once. They stay where they are until
// the next wait.
func (w *wire) takeWhole() []byte {
	from := w.r
	for w.whole() {
		w.r += w.firstLen()
	}
	return w.in[from:w.r:w.r]
}

// recordLen returns the length of the record that begins with b. What is no
// record of TLS counts as one, for crypto/tls to refuse at once.
func recordLen(b []byte) int {
	n := recordHeader + int(b[3])<<8 + int(b[4])
	if isTLS := b[0] >= 20 && b[0] <= 24 && b[1] == 3; !isTLS || n > maxRecord {
		return len(b)
	}
	return n
}

// wait returns when a whole record is there.
func (w *wire) wait() error {
	for !w.whole() {
		if err := w.fill(); err != nil {
			if err == io.EOF && w.r < w.w {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// peek returns the first byte that has arrived.
func (w *wire) peek() (byte, error) {
	if w.r == w.w {
		if err := w.fill(); err != nil {
			return 0, err
		}
	}
	return w.in[w.r], nil
}

// arrived returns what has been read and not been handed out.
func (w *wire) arrived() []byte { return w.in[w.r:w.w] }

// take hands out the first n bytes of what has arrived.
func (w *wire) take(n int) []byte {
	from := w.r
	w.r += n
	return w.in[from:w.r:w.r]
}

// fill reads once, and waits for that.
func (w *wire) fill() error {
	switch {
	case w.r == w.w:
		w.releaseIn()
	case w.r > 0:
		w.w = copy(w.in, w.in[w.r:w.w])
		w.r = 0
	}
	if w.raw == nil {
		w.takeIn()
		n, err := w.Conn.Read(w.in[w.w:])
		w.w += n
		if n > 0 {
			return nil
		}
		w.idle()
		return err
	}
	if err := w.raw.Read(w.ready); err != nil {
		return err
	}
	if w.err != nil {
		return &net.OpError{Op: "read", Net: "tcp", Source: w.LocalAddr(), Addr: w.RemoteAddr(), Err: os.NewSyscallError("read", w.err)}
	}
	if w.n == 0 {
		return io.EOF
	}
	return nil
}

// readReady reads from a file descriptor that does not block, into a buffer
// taken for it. It reports false when there was nothing to read.
func (w *wire) readReady(fd uintptr) bool {
	w.takeIn()
	w.n, w.err = readFD(fd, w.in[w.w:])
	if w.err != nil {
		w.n = 0
		w.idle()
		return !errors.Is(w.err, syscall.EAGAIN)
	}
	w.w += w.n
	w.idle()
	return true
}

// idle gives the read buffer back when it is empty.
func (w *wire) idle() {
	if w.r == w.w {
		w.releaseIn()
	}
}

// takeIn takes a read buffer if there is none: a small one in handshakes.
func (w *wire) takeIn() {
	switch {
	case w.in != nil:
	case w.instant:
		w.in = buffers.Get().(*buffer)[:]
	default:
		w.in = firstBuffers.Get().(*firstBuffer)[:]
	}
}

func (w *wire) releaseIn() {
	switch len(w.in) {
	case len(buffer{}):
		buffers.Put((*buffer)(w.in))
	case len(firstBuffer{}):
		firstBuffers.Put((*firstBuffer)(w.in))
	}
	w.in, w.r, w.w = nil, 0, 0
}

// Write writes p, or gathers it between cork and flush.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.mute:
		return len(p), nil
	case !w.corked, w.plain && w.queued == 0 && len(p) >= direct:
		return w.send(p)
	}
	if w.out == nil {
		w.out = buffers.Get().(*buffer)
	}
	if w.queued+len(p) > len(w.out) {
		if err := w.flushQueued(); err != nil {
			return 0, err
		}
		if len(p) > len(w.out) {
			return w.send(p)
		}
	}
	w.queued += copy(w.out[w.queued:], p)
	return len(p), nil
}

// cork has what is written wait for flush.
func (w *wire) cork() {
	w.mu.Lock()
	w.corked = true
	w.mu.Unlock()
}

// flush writes what was gathered since cork.
func (w *wire) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.corked = false
	err := w.flushQueued()
	if w.out != nil {
		buffers.Put(w.out)
		w.out = nil
	}
	return err
}

func (w *wire) flushQueued() error {
	if w.queued == 0 {
		return nil
	}
	_, err := w.send(w.out[:w.queued])
	w.queued = 0
	return err
}

// send writes all of p at once.
func (w *wire) send(p []byte) (int, error) {
	if w.raw == nil {
		return w.Conn.Write(p)
	}
	w.rest, w.failed = p, nil
	err := w.raw.Write(w.space)
	w.spaceCame()
	n := len(p) - len(w.rest)
	w.rest = nil
	if err == nil && w.failed != nil {
		err = &net.OpError{Op: "write", Net: "tcp", Source: w.LocalAddr(), Addr: w.RemoteAddr(), Err: os.NewSyscallError("write", w.failed)}
	}
	return n, err
}

// writeReady writes to a file descriptor that does not block. It reports false
// when there was no space for all.
func (w *wire) writeReady(fd uintptr) bool {
	w.spaceCame()
	for len(w.rest) > 0 {
		n, err := writeFD(fd, w.rest)
		if err != nil {
			if err == syscall.EAGAIN {
				w.stalledSince.Store(int64(time.Since(clock)))
				return false
			}
			w.failed = err
			return true
		}
		w.rest = w.rest[n:]
	}
	return true
}

// clock is what stalledSince counts from.
var clock = time.Now()

// spaceCame ends the time for which a write has waited.
func (w *wire) spaceCame() {
	if since := w.stalledSince.Load(); since != 0 {
		w.stalled.Add(int64(time.Since(clock)) - since)
		w.stalledSince.Store(0)
	}
}

// refuse writes p and drops whatever is written after it.
func (w *wire) refuse(p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.mute {
		w.send(p) // nothing can be done for a client that is gone
		w.mute = true
	}
}

// closeWrite sends the peer the end of the stream.
func (w *wire) closeWrite() error {
	if c, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return w.Conn.Close()
}
