// Package accesslog writes one line of JSON for each connection of a client, to a file or
// to standard output.
//
// Who ends a connection gives an [Entry] to [Writer.Write], which never waits: lines are
// collected in memory, and one goroutine writes them. What does not fit into [MaxWaiting]
// bytes is dropped and counted. While the file cannot be written, as when its disk is full,
// lines wait there and are tried again.
//
// Several processes may append to one file: each write is of whole lines, to a file opened
// for appending. A line of which only a part fitted on the disk is taken back.
package accesslog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"kafka-sni-proxy/internal/loglimit"
)

// Stdout is the path that stands for standard output.
const Stdout = "-"

const (
	// MaxWaiting is how many bytes of lines may wait to be written: 10 000 connections that
	// end at once, and more.
	MaxWaiting = 4 << 20
	// maxWrite is how much is written at once to a file.
	maxWrite = 256 << 10
	// maxPipe is how much is written at once to something else. A pipe takes so much without
	// anything of another process in between (POSIX: PIPE_BUF is at least 512, on Linux 4096).
	maxPipe = 4096
	// mode is who may read a new file: it has addresses of clients.
	mode = 0o640
	// reopenTimeout is how long Reopen waits for the file.
	reopenTimeout = time.Second
)

// Config is what a Writer is made from. Log is required.
type Config struct {
	// Path is the file; [Stdout] is what Stdout is.
	Path   string
	Stdout io.Writer
	// Log is told when lines are lost, and when they are no more.
	Log *slog.Logger
	// Hint is what an operator can do when the file cannot be written, and SlowHint when it
	// cannot be written as fast as connections end.
	Hint, SlowHint string
	// Pause is how long to wait before a failed write is tried again. 0: a second.
	Pause time.Duration
}

// Writer writes an access log. It is made by Open.
type Writer struct {
	config  Config
	limited loglimit.Logger

	mu      sync.Mutex
	waiting []byte // whole lines that the goroutine has not taken yet
	bytes   int    // of all lines that are not written yet, and
	lines   int64  // how many these are
	closed  bool
	dropped int64

	wake   chan struct{}      // has something when there is something to write
	reopen chan chan struct{} // a request, and what is closed when it has been met
	closes chan struct{}      // closed by Close
	ended  chan struct{}      // closed when nothing is written any more

	// Of the goroutine alone.
	out      file
	isFile   bool   // out is a regular file: it can be renamed, and cut
	taken    []byte // lines
	failing  bool   // the last write has failed
	mid      bool   // the file ends within a line
	told     int64  // how many dropped lines the log has been told of
	lostTold int64  // and how many there were when writing began to fail
}

// file is what is written to.
type file interface {
	io.Writer
	io.Closer
}

// Open opens the file, which is made if there is none, and begins to write.
func Open(config Config) (*Writer, error) {
	if config.Pause == 0 {
		config.Pause = time.Second
	}
	w := &Writer{config: config, wake: make(chan struct{}, 1), reopen: make(chan chan struct{}), closes: make(chan struct{}), ended: make(chan struct{})}
	w.limited.Log = config.Log
	if config.Path == Stdout {
		w.out = standardOutput(config.Stdout)
	} else {
		f, err := open(config.Path, os.O_CREATE)
		if err != nil {
			return nil, err
		}
		w.use(f)
		w.mid = w.isFile && endsWithinLine(config.Path)
	}
	go w.run()
	return w, nil
}

// open opens a file for appending. It does not wait for the reader of a named pipe.
func open(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|syscall.O_NONBLOCK|flags, mode)
	if errors.Is(err, syscall.ENXIO) {
		return nil, fmt.Errorf("%w: nobody reads from this pipe", err)
	}
	return f, err
}

// Check reports whether a file could be opened. It makes none.
func Check(path string) error {
	if path == Stdout {
		return nil
	}
	f, err := open(path, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return mayMakeFiles(filepath.Dir(path))
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// use writes to a file from now on.
func (w *Writer) use(f *os.File) {
	info, err := f.Stat()
	w.out, w.isFile, w.mid = f, err == nil && info.Mode().IsRegular(), false
}

// endsWithinLine reports whether a process was ended while it wrote a line to a file.
func endsWithinLine(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	last := []byte{'\n'}
	if size, err := f.Seek(0, io.SeekEnd); err == nil && size > 0 {
		f.ReadAt(last, size-1)
	}
	return last[0] != '\n'
}

// Write has a line be written. It does not wait.
func (w *Writer) Write(e *Entry) {
	line := e.line()
	w.mu.Lock()
	fits := !w.closed && w.bytes+len(line) <= MaxWaiting
	if fits {
		w.waiting = append(w.waiting, line...)
		w.bytes += len(line)
		w.lines++
	} else {
		w.dropped++
	}
	w.mu.Unlock()
	if fits {
		w.signal()
	}
}

func (w *Writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Dropped returns how many lines were lost: they did not fit into memory, or could not be
// written before the end.
func (w *Writer) Dropped() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dropped
}

// Reopen opens the file anew by its path, after it was renamed. It waits a moment for that.
// Lines that wait go to the new file. Standard output stays what it is.
func (w *Writer) Reopen() {
	if w.config.Path == Stdout {
		return
	}
	done := make(chan struct{})
	late := time.NewTimer(reopenTimeout)
	defer late.Stop()
	select {
	case w.reopen <- done:
		select {
		case <-done:
		case <-late.C:
		}
	case <-w.ended:
	case <-late.C: // the goroutine is in a write that does not end
		go func() {
			select {
			case w.reopen <- done:
			case <-w.ended:
			}
		}()
	}
}

// Close writes what waits, and ends. Lines that cannot be written are lost, and so are those
// of a file that has not taken them when ctx ends; the error says how many.
func (w *Writer) Close(ctx context.Context) error {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.closes)
	}
	w.mu.Unlock()
	select {
	case <-w.ended:
	case <-ctx.Done(): // whoever writes is left alone
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if lost := w.lines; lost > 0 {
		w.dropped += lost
		w.waiting, w.lines = nil, 0
		return fmt.Errorf("%d lines of the access log could not be written", lost)
	}
	return nil
}

// run is the goroutine that writes.
func (w *Writer) run() {
	defer close(w.ended)
	var again <-chan time.Time
	for {
		wake := w.wake
		if w.failing {
			wake = nil // until again
		}
		select {
		case <-wake:
		case <-again:
		case done := <-w.reopen:
			w.reopened(os.O_CREATE)
			close(done)
		case <-w.closes:
			w.writeAll()
			w.out.Close()
			return
		}
		again = nil
		if w.writeAll(); w.failing {
			again = time.After(w.config.Pause)
		}
	}
}

// writeAll writes what waits, until there is nothing or it cannot be written.
func (w *Writer) writeAll() {
	for {
		dropped := w.take()
		if len(w.taken) == 0 {
			w.tellDropped(dropped)
			return
		}
		w.followRename()
		n, err := w.write(w.taken[:w.batch()])
		w.written(n)
		if err != nil {
			w.failed(err, dropped)
			return
		}
		w.recovered(dropped)
	}
}

// take takes what waits, when all that was taken before is written. It returns how many lines
// have been dropped so far.
func (w *Writer) take() (dropped int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.taken) == 0 {
		w.taken, w.waiting = w.waiting, nil
	}
	return w.dropped
}

// batch returns how many bytes of what was taken are to be written at once.
func (w *Writer) batch() int {
	most := maxPipe
	if w.isFile {
		most = maxWrite
	}
	if len(w.taken) <= most {
		return len(w.taken)
	}
	if n := bytes.LastIndexByte(w.taken[:most], '\n') + 1; n > 0 {
		return n
	}
	return bytes.IndexByte(w.taken, '\n') + 1 // one line that is longer
}

// written notes that so many bytes of what was taken are written.
func (w *Writer) written(n int) {
	lines := int64(bytes.Count(w.taken[:n], []byte{'\n'}))
	if w.taken = w.taken[n:]; len(w.taken) == 0 {
		w.taken = nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes -= n
	w.lines = max(w.lines-lines, 0) // Close may have given them up
}

// write writes whole lines. It returns the length of those that are in the file; of others
// nothing stays there.
func (w *Writer) write(batch []byte) (n int, err error) {
	if w.mid {
		if _, err := w.out.Write([]byte("\n")); err != nil {
			return 0, err
		}
		w.mid = false
	}
	n, err = w.out.Write(batch)
	if err == nil {
		return len(batch), nil
	}
	whole := bytes.LastIndexByte(batch[:n], '\n') + 1
	if whole < n {
		w.mid = !w.cut(int64(n - whole))
	}
	return whole, err
}

// cut takes the last n bytes that were written off the file again, unless another process has
// written behind them.
func (w *Writer) cut(n int64) bool {
	f, ok := w.out.(cutter)
	if !ok || !w.isFile {
		return false
	}
	end, err := f.Seek(0, io.SeekCurrent) // which is behind what was written last
	if err != nil {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Size() == end && f.Truncate(end-n) == nil
}

// cutter is a file that can be cut.
type cutter interface {
	Seek(offset int64, whence int) (int64, error)
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
}

// followRename opens the file anew when its path leads to another one by now. It makes none:
// between renaming and making, that would be in the way of whoever rotates files. So a
// process that has been succeeded, and gets no signal, follows the one that does.
func (w *Writer) followRename() {
	if f, ok := w.out.(*os.File); ok && w.isFile {
		there, err := os.Stat(w.config.Path)
		if err != nil {
			return
		}
		if here, err := f.Stat(); err == nil && !os.SameFile(here, there) {
			w.reopened(0)
		}
	}
}

// reopened opens the file anew. If it cannot be opened, the old one stays.
func (w *Writer) reopened(flags int) {
	f, err := open(w.config.Path, flags)
	if err != nil {
		w.limited.Write(slog.LevelWarn, "reopen", err.Error(), "the access log cannot be opened anew; it goes on in the file that is open",
			slog.String("file", w.config.Path), slog.Any("error", err), slog.String("hint", w.config.Hint))
		return
	}
	w.out.Close()
	w.use(f)
}

// failed says once that lines cannot be written.
func (w *Writer) failed(err error, dropped int64) {
	if w.failing {
		return
	}
	w.failing, w.lostTold = true, dropped
	w.config.Log.Warn("the access log cannot be written; its lines wait in memory as long as they fit", "file", w.config.Path, "error", err, "hint", w.config.Hint)
}

// recovered says once that lines can be written again.
func (w *Writer) recovered(dropped int64) {
	if !w.failing {
		return
	}
	w.failing = false
	w.config.Log.Warn("the access log is written again", "file", w.config.Path, "dropped", dropped-w.lostTold)
	w.told = dropped
}

// tellDropped says that lines were lost while the file could be written.
func (w *Writer) tellDropped(dropped int64) {
	if dropped == w.told || w.failing {
		return
	}
	w.limited.Write(slog.LevelWarn, "dropped", "", "lines of the access log were dropped: they came faster than they could be written",
		slog.String("file", w.config.Path), slog.Int64("dropped", dropped), slog.String("hint", w.config.SlowHint))
	w.told = dropped
}

// unclosed is written to and not closed.
type unclosed struct{ io.Writer }

// Close implements io.Closer.
func (unclosed) Close() error { return nil }
