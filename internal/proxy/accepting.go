package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// door is a listener that is being accepted from.
type door struct {
	woken chan struct{} // gets something whenever the accept loop was woken
}

// CheckAccepting reports whether clients would be accepted: each Serve is woken,
// with a deadline in the past, and has to show that it is there. It is for
// watchdogs, and neither needs a connection nor counts as one.
func (p *Proxy) CheckAccepting(ctx context.Context) error {
	p.init()
	p.checking.Lock() // one at a time, or they would take each other's answers
	defer p.checking.Unlock()
	p.mu.Lock()
	doors := make(map[net.Listener]*door, len(p.listeners))
	for ln, d := range p.listeners {
		doors[ln] = d
	}
	p.mu.Unlock()
	if len(doors) == 0 {
		return errors.New("nothing is listened on")
	}
	for ln, d := range doors {
		if err := d.knock(ctx, ln); err != nil {
			return fmt.Errorf("clients of %s are not accepted: %w", ln.Addr(), err)
		}
	}
	return nil
}

func (d *door) knock(ctx context.Context, ln net.Listener) error {
	l, ok := ln.(interface{ SetDeadline(time.Time) error })
	if !ok {
		return nil // there is no way to know
	}
	select {
	case <-d.woken: // late, for a check that had given up
	default:
	}
	if err := l.SetDeadline(time.Unix(1, 0)); err != nil {
		return err
	}
	select {
	case <-d.woken:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answer has accept wait for clients again, after a knock.
func (d *door) answer(ln net.Listener) {
	ln.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Time{})
	select {
	case d.woken <- struct{}{}:
	default:
	}
}
