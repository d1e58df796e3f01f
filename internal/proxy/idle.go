package proxy

import (
	"context"
	"runtime/debug"
	"time"
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

// giveBack returns memory to the system when the proxy falls idle after it has
// been busy, until ctx ends. The garbage collector by itself runs when memory
// is asked for: what traffic has left would stay for as long as there is none.
func (p *Proxy) giveBack(ctx context.Context) {
	tick := time.NewTicker(quietFor)
	defer tick.Stop()
	var last, given int64 // work done at the last tick, and when memory was given back
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		st := p.Stats()
		work := st.RequestBytes + st.ResponseBytes + handshakeWork*st.Accepted
		if work-last < littleWork && work-given > muchWork {
			debug.FreeOSMemory()
			given = work
		}
		last = work
	}
}
