package proxy

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
)

// panicError is a panic that has been caught. It ends one session, and no more.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

const panicHint = "this is a bug in kafka-sni-proxy: please report it with the stack"

// protect runs f, and returns a panic as its error.
func protect(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{v, debug.Stack()}
		}
	}()
	return f()
}

// survive runs what no session answers for; if it panics, that is logged and
// counted.
func (p *Proxy) survive(f func()) {
	err := protect(func() error { f(); return nil })
	if e, ok := err.(*panicError); ok {
		p.stats.panics.Add(1)
		p.complain(slog.LevelError, "panic", likeness(e), "panic",
			slog.Any("error", e), slog.String("stack", string(e.stack)), slog.String("hint", panicHint))
	}
}

// complain writes a message to the log, unless one of the same kind was written
// a moment ago: see repeats. What is held back is still there at debug level.
func (p *Proxy) complain(level slog.Level, subject, kind, message string, attrs ...slog.Attr) {
	held, since, ok := p.repeats.tell(subject, kind, time.Now())
	switch {
	case !ok:
		level = slog.LevelDebug
	case held > 0:
		attrs = append(attrs, slog.Int("repeated", held), slog.Duration("since", time.Since(since).Round(time.Second)))
	}
	p.log.LogAttrs(p.forced, level, message, attrs...)
}
