package proxy

import (
	"hash/maphash"
	"regexp"
	"sync"
	"time"
)

const (
	// repeatAfter is how long a message is held back that says what an earlier
	// one has said.
	repeatAfter = 10 * time.Second
	// maxKinds is how many kinds of messages are told apart within one subject
	// and that time. With more of them, those of the others count as one kind:
	// whoever makes up names or lengths cannot fill the log or the memory.
	maxKinds = 128
)

// repeats thins out a log in which the same thing happens again and again: a
// broker that is down is one line per repeatAfter, however many clients come
// back for it. The first message of a kind is never held back, and the next one
// that is let through tells how many were. The zero value is ready to use.
type repeats struct {
	mu   sync.Mutex
	seed maphash.Seed
	// subjects keep to themselves: a flood of one hides nothing of another.
	subjects map[string]map[uint64]repeat
}

type repeat struct {
	told time.Time // when it was last let through
	held int       // how many were not since
}

// tell reports whether a message is to be written, and how many like it have
// been held back since the last one that was, and when that was. The kind says
// what it has in common with those like it.
func (r *repeats) tell(subject, kind string, now time.Time) (held int, since time.Time, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.subjects == nil {
		r.seed = maphash.MakeSeed()
		r.subjects = map[string]map[uint64]repeat{}
	}
	kinds := r.subjects[subject]
	if kinds == nil {
		kinds = map[uint64]repeat{}
		r.subjects[subject] = kinds
	}
	k := maphash.String(r.seed, kind)
	last, known := kinds[k]
	if !known && len(kinds) >= maxKinds {
		for old, last := range kinds {
			if now.Sub(last.told) >= repeatAfter {
				delete(kinds, old)
			}
		}
		if len(kinds) >= maxKinds {
			k = 0 // all the others
			last, known = kinds[k]
		}
	}
	if known && now.Sub(last.told) < repeatAfter {
		last.held++
		kinds[k] = last
		return 0, time.Time{}, false
	}
	kinds[k] = repeat{told: now}
	return last.held, last.told, true
}

// passing is what is another each time in errors of one kind: the two addresses
// of a connection (*net.OpError), and the time (x509.CertificateInvalidError).
var passing = regexp.MustCompile(`[^ ]+->[^ ]+|current time [^ ]+`)

// likeness returns what an error has in common with others of its kind.
func likeness(err error) string { return passing.ReplaceAllLiteralString(err.Error(), "") }
