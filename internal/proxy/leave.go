package proxy

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// Leave makes way for another process that accepts from the same sockets: no
// new connections here, and the sessions there are go on at first. They are ended
// between two frames, the oldest first and evenly spread over the time given, so
// that clients do not come back all at once, and one that has just been accepted
// has time for its first requests. Leave returns when no session is left, the time
// is over, or ctx ends; then Shutdown is to be called.
func (p *Proxy) Leave(ctx context.Context, within time.Duration) {
	began := time.Now()
	p.leave(ctx, func(i, n int) <-chan time.Time {
		return time.After(time.Until(began.Add(within / time.Duration(n+1) * time.Duration(i+1))))
	})
}

// leave is Leave with a clock: turn says when it is the turn of session i of n,
// and for n itself, when it is over.
func (p *Proxy) leave(ctx context.Context, turn func(i, n int) <-chan time.Time) {
	p.init()
	p.mu.Lock()
	p.leaving = true
	for ln := range p.listeners {
		ln.Close()
	}
	p.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		p.running.Wait()
		close(gone)
	}()
	// One that is accepted after this snapshot is left to Shutdown.
	sessions := p.byAge()
	for i := range len(sessions) + 1 {
		select {
		case <-turn(i, len(sessions)):
		case <-gone:
			return
		case <-ctx.Done():
			return
		}
		if i < len(sessions) {
			p.mu.Lock()
			if _, there := p.sessions[sessions[i]]; there {
				sessions[i].drain()
			}
			p.mu.Unlock()
		}
	}
}

func (p *Proxy) byAge() []*session {
	p.mu.Lock()
	defer p.mu.Unlock()
	sessions := make([]*session, 0, len(p.sessions))
	for s := range p.sessions {
		sessions = append(sessions, s)
	}
	slices.SortFunc(sessions, func(a, b *session) int { return cmp.Compare(a.began.UnixNano(), b.began.UnixNano()) })
	return sessions
}
