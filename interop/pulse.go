package main

import (
	"context"
	"sync"
	"time"
)

// pulse watches how evenly records of a topic come, acknowledged or read
// (interop/java/Pulse.java does the same).
type pulse struct {
	mu      sync.Mutex
	last    []time.Time // by partition
	longest time.Duration
	ordered time.Time
	missing map[int32]bool
	through chan struct{}
}

func newPulse(partitions int) *pulse {
	p := &pulse{}
	for range partitions {
		p.last = append(p.last, time.Now())
	}
	return p
}

// came is told of each record, with the time when it was sent.
func (p *pulse) came(partition int32, sent time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.longest = max(p.longest, now.Sub(p.last[partition]))
	p.last[partition] = now
	if sent.After(p.ordered) && p.missing[partition] {
		delete(p.missing, partition)
		if len(p.missing) == 0 {
			close(p.through)
		}
	}
}

// gap returns for how long the worst partition was without a record since gap
// was last called.
func (p *pulse) gap() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, at := range p.last {
		p.longest = max(p.longest, time.Since(at))
	}
	longest := p.longest
	p.longest = 0
	return longest
}

// awaitAll waits until each partition has given a record sent after the call.
func (p *pulse) awaitAll(ctx context.Context) error {
	p.mu.Lock()
	p.ordered, p.missing, p.through = time.Now(), map[int32]bool{}, make(chan struct{})
	for partition := range p.last {
		p.missing[int32(partition)] = true
	}
	through := p.through
	p.mu.Unlock()
	select {
	case <-through:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
