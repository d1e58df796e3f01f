// Package progress shows on a terminal what a program is doing, when that takes longer than
// two seconds: one line, which is written over again and again, and is gone at the end.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// IsTerminal reports whether a person reads what is written to w.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// IsColoured reports whether w is to get colours: it is a terminal, and NO_COLOR is not set
// (https://no-color.org).
func IsColoured(w io.Writer) bool { return IsTerminal(w) && os.Getenv("NO_COLOR") == "" }

// Line is a line of progress. A nil Line shows nothing. Its methods may be called
// concurrently.
type Line struct {
	w io.Writer

	mu    sync.Mutex
	began time.Time
	shown bool // something stands there
	due   bool // it has taken long enough
	done  bool
	text  string
	timer *time.Timer
}

// patience is how long nothing is shown.
const patience = 2 * time.Second

// New returns a line on a terminal; nil if w is none.
func New(w io.Writer) *Line {
	if !IsTerminal(w) {
		return nil
	}
	return start(w, patience)
}

func start(w io.Writer, patience time.Duration) *Line {
	l := &Line{w: w, began: time.Now()}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = time.AfterFunc(patience, l.tick)
	return l
}

// tick shows the line, and again after a second, so that a person sees that the program lives.
func (l *Line) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done {
		return
	}
	l.due = true
	l.show()
	l.timer.Reset(time.Second)
}

// On returns a line on a terminal, and a writer for everything else that is written there:
// the line makes way for it. When w is no terminal the line is nil, and the writer w.
func On(w io.Writer) (*Line, io.Writer) {
	l := New(w)
	if l == nil {
		return nil, w
	}
	return l, above{l}
}

// above writes whole lines above the line of progress.
type above struct{ *Line }

func (a above) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clear()
	n, err := a.w.Write(p)
	if a.due {
		a.show()
	}
	return n, err
}

// Set says what is being done now, and, if that is known, what is left.
func (l *Line) Set(text string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text = text; l.due {
		l.show()
	}
}

// show writes the line. The caller holds l.mu.
func (l *Line) show() {
	if l.text != "" {
		fmt.Fprintf(l.w, "\r\x1b[K… %s (%v)", l.text, time.Since(l.began).Round(time.Second))
		l.shown = true
	}
}

// Clear takes the line away until the next Set, so that something else can be written.
func (l *Line) Clear() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
}

// clear takes the line away. The caller holds l.mu.
func (l *Line) clear() {
	if l.shown {
		io.WriteString(l.w, "\r\x1b[K")
		l.shown = false
	}
}

// Done takes the line away for good.
func (l *Line) Done() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer.Stop()
	l.due, l.done = false, true
	l.clear()
}
