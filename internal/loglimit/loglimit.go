// Package loglimit limits the rate of a log in which the same thing happens again and
// again: a broker that is down is one line per ten seconds, however many clients come
// back for it.
//
// Messages have a subject and a key. Those with the same subject and key are held back
// for a while after one was written; the next one says how many were (repeated=812
// since=10s). The first message of a key is never held back.
package loglimit

import (
	"context"
	"hash/maphash"
	"log/slog"
	"regexp"
	"sync"
	"time"
)

const (
	// holdBack is for how long messages are held back after one like them.
	holdBack = 10 * time.Second
	// maxKeys is how many keys are told apart within one subject and that time. With
	// more of them, those of the others count as one: whoever makes up names or
	// lengths cannot fill the log or the memory.
	maxKeys = 128
)

// Logger limits what is written to Log, which is required. Subjects are few and fixed;
// keys may be made of what peers send.
type Logger struct {
	Log *slog.Logger

	mu       sync.Mutex
	seed     maphash.Seed
	subjects map[string]map[uint64]entry // a flood of one subject hides nothing of another
}

type entry struct {
	written time.Time // when one was last written
	held    int       // how many were not since
}

// Write logs a message, at debug level if one like it was written a moment ago.
func (l *Logger) Write(level slog.Level, subject, key, message string, attrs ...slog.Attr) {
	held, since, ok := l.pass(subject, key, time.Now())
	switch {
	case !ok:
		level = slog.LevelDebug
	case held > 0:
		attrs = append(attrs, slog.Int("repeated", held), slog.Duration("since", time.Since(since).Round(time.Second)))
	}
	l.Log.LogAttrs(context.Background(), level, message, attrs...)
}

// pass reports whether a message is to be written, and how many like it have been held
// back since the last one that was, and when that was.
func (l *Logger) pass(subject, key string, now time.Time) (held int, since time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.subjects == nil {
		l.seed = maphash.MakeSeed()
		l.subjects = map[string]map[uint64]entry{}
	}
	keys := l.subjects[subject]
	if keys == nil {
		keys = map[uint64]entry{}
		l.subjects[subject] = keys
	}
	k := maphash.String(l.seed, key)
	last, known := keys[k]
	if !known && len(keys) >= maxKeys {
		for old, last := range keys {
			if now.Sub(last.written) >= holdBack {
				delete(keys, old)
			}
		}
		if len(keys) >= maxKeys {
			k = 0 // all the others
			last, known = keys[k]
		}
	}
	if known && now.Sub(last.written) < holdBack {
		last.held++
		keys[k] = last
		return 0, time.Time{}, false
	}
	keys[k] = entry{written: now}
	return last.held, last.written, true
}

// variable is what differs each time in errors of one kind: the two addresses of a
// connection (*net.OpError), and the time (x509.CertificateInvalidError).
var variable = regexp.MustCompile(`[^ ]+->[^ ]+|current time [^ ]+`)

// Key returns what an error has in common with others of its kind.
func Key(err error) string { return variable.ReplaceAllLiteralString(err.Error(), "") }
