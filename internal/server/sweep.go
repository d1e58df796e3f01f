package server

import (
	"context"
	"time"

	"kafka-sni-proxy/internal/session"
)

// sweep looks at the sessions of a listener every now and then, for those that are idle,
// too old, or have lost their peer, until ctx ends.
func (s *Server) sweep(ctx context.Context, l *listener) {
	every := s.session.LookInterval()
	if every == 0 {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var sessions []*session.Session
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		elapsed := now.Sub(last)
		last = now
		sessions = s.registry.of(l, sessions)
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
