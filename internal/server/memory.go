package server

import (
	"context"
	"runtime/debug"
	"sync/atomic"
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

const (
	// burstSize is how many connections have to be accepted for their handshakes to be
	// worth a collection: they leave about 16 MiB behind.
	burstSize = 256
	// burstPause is how long no connection must have been accepted since.
	burstPause = 150 * time.Millisecond
)

// burst returns memory to the system after many connections were opened: when clients
// come back together, what their handshakes leave behind is as much as what they hold.
type burst struct {
	accepted atomic.Int64 // since memory was released last
	timer    *time.Timer
}

// opened notes that a connection was accepted.
func (b *burst) opened() {
	if b.accepted.Add(1) >= burstSize {
		b.timer.Reset(burstPause)
	}
}

// over is called when no connection has been accepted for a while. It reports whether
// memory is to be released: a collection looks at all there are, so there must have been
// enough of them.
func (b *burst) over(active int) bool {
	if n := b.accepted.Load(); n < burstSize || n < int64(active/4) {
		return false
	}
	b.accepted.Store(0)
	return true
}

// burstOver is called by the timer.
func (s *Server) burstOver() {
	if s.burst.over(s.Active()) {
		debug.FreeOSMemory()
	}
}
