package server

import (
	"context"
	"sync"
	"time"

	"kafka-sni-proxy/internal/session"
)

// sweeper looks at the sessions every now and then, for those that are idle, too old, or
// have lost their peer, while anything is served. The zero value is ready to use.
type sweeper struct {
	mu      sync.Mutex
	serving int    // sockets
	stop    func() // what runs for them
	tuned   chan struct{}
}

// start has the sessions be looked at until done is called.
func (w *sweeper) start(s *Server) (done func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.serving++; w.serving == 1 {
		ctx, cancel := context.WithCancel(context.Background())
		w.tuned = make(chan struct{}, 1)
		tuned, ended := w.tuned, make(chan struct{})
		go func() {
			defer close(ended)
			s.recoverPanic(func() { s.sweep(ctx, tuned) })
		}()
		w.stop = func() { cancel(); <-ended }
	}
	return w.done
}

func (w *sweeper) done() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.serving--; w.serving == 0 {
		w.stop()
	}
}

// retune has the interval be computed again.
func (w *sweeper) retune() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.tuned <- struct{}{}:
	default:
	}
}

// sweep is what the sweeper runs.
func (s *Server) sweep(ctx context.Context, tuned <-chan struct{}) {
	var sessions []*session.Session
	last := time.Now()
	for {
		every := s.lookInterval()
		var due <-chan time.Time
		if every > 0 {
			due = time.After(every)
		}
		select {
		case <-ctx.Done():
			return
		case <-tuned:
			continue
		case <-due:
		}
		now := time.Now()
		elapsed := now.Sub(last)
		last = now
		sessions = s.registry.all(sessions)
		for _, ss := range sessions {
			ss.Look(every, elapsed)
			if reachesOneBroker(ss.Traffic()) {
				s.warnOneName(ss.Client(), ss.ServerName())
			}
		}
		clear(sessions)
		sessions = sessions[:0]
	}
}

// lookInterval is the shortest that any listener needs; 0: none does.
func (s *Server) lookInterval() (every time.Duration) {
	for _, l := range s.registry.listening() {
		if d := l.how.Load().LookInterval(); d > 0 && (every == 0 || d < every) {
			every = d
		}
	}
	return every
}
