package server

import (
	"context"
	"runtime/debug"
	"time"

	"kafka-sni-proxy/internal/session"
)

const (
	// quietFor is how long little must have happened before memory is given back.
	quietFor = 5 * time.Second
	// littleWork is that little, in bytes forwarded in this time; muchWork is
	// what must have happened before for it to be worth while.
	littleWork = 1 << 20
	muchWork   = 16 << 20
	// handshakeWork is what a connection counts for: about the memory that its
	// handshakes leave behind.
	handshakeWork = 64 << 10
)

// ReleaseMemory returns memory to the system when the program falls idle after it has
// been busy, until ctx ends. The garbage collector by itself runs when memory is asked
// for: what traffic has left would stay for as long as there is none. A process needs it
// once.
func (s *Server) ReleaseMemory(ctx context.Context) {
	tick := time.NewTicker(quietFor)
	defer tick.Stop()
	var m memory
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if m.isDue(s.work()) {
			debug.FreeOSMemory()
		}
	}
}

// work is what the server has done so far, in bytes.
func (s *Server) work() int64 {
	var sum session.Traffic
	s.registry.traffic(&sum)
	return sum.Bytes() + handshakeWork*s.stats.accepted.Load()
}

// memory decides when memory is given back.
type memory struct {
	last     int64 // work done at the last look
	released int64 // and when memory was given back last
}

// isDue is called once in quietFor with the work done so far. It reports whether memory
// is to be given back: little was done since the last call, and much before.
func (m *memory) isDue(work int64) bool {
	due := work-m.last < littleWork && work-m.released > muchWork
	if due {
		m.released = work
	}
	m.last = work
	return due
}
