package server

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// deadliner is a listener whose Accept can be woken.
type deadliner interface{ SetDeadline(time.Time) error }

// CheckAccepting reports whether clients would be accepted: the accept loop of each
// listener is woken, with a deadline in the past, and has to acknowledge that. One that does
// not run yet is waited for; one that was retired is left out, though it has sessions. It is for
// watchdogs, and neither needs a connection nor counts as one.
func (s *Server) CheckAccepting(ctx context.Context) error {
	s.probing.Lock() // one at a time, or they would take each other's acknowledgements
	defer s.probing.Unlock()
	accepting := 0
	for _, l := range s.registry.listening() {
		err := l.probe(ctx)
		switch {
		case l.retired.Load():
			continue
		case err != nil:
			return fmt.Errorf("clients of %s are not accepted: %w", l.Addr(), err)
		}
		accepting++
	}
	if accepting == 0 {
		return errors.New("nothing is listened on")
	}
	return nil
}

func (l *Socket) probe(ctx context.Context) error {
	d, ok := l.Listener.(deadliner)
	if !ok {
		return nil // there is no way to know
	}
	select {
	case <-l.acked: // late, for a probe that had given up
	default:
	}
	if err := d.SetDeadline(time.Unix(1, 0)); err != nil {
		return err
	}
	select {
	case <-l.acked:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ack acknowledges a probe, and has Accept wait for clients again.
func (l *Socket) ack() {
	l.Listener.(deadliner).SetDeadline(time.Time{})
	l.acknowledge()
}

func (l *Socket) acknowledge() {
	select {
	case l.acked <- struct{}{}:
	default:
	}
}
