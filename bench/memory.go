package main

import (
	"context"
	"fmt"
	"time"

	"kafka-sni-proxy/bench/peer"
	"kafka-sni-proxy/internal/harness/procfs"
)

const atRest = "at rest, no connections"

func idleCase(size int, state string) string {
	return fmt.Sprintf("%d idle connections, %s", size, state)
}

// The states of idle connections in which memory is read.
const (
	opened  = "just opened"
	carried = "after bulk traffic"
	rested  = "and left idle"
)

// memory measures what idle connections hold: with none, with each number of them as
// they were opened, after each of its connections carried some bulk traffic both
// targets, and again at the end of the round. Each number meets a fresh process.
func (r *round) memory(ctx context.Context) {
	if !r.plan.hasIdle(r.n) {
		return
	}
	for i, size := range r.plan.Idle {
		name := fmt.Sprintf("memory, %d connections", size)
		r.each(ctx, name, r.proxies(), func(ctx context.Context, w *running) (string, error) {
			// Only the first lot waits for the end of the round: to hold all of
			// them would take more ports than there are.
			return r.idle(ctx, w.target, size, i == 0)
		})
	}
}

func (r *round) idle(ctx context.Context, w *target, size int, wait bool) (string, error) {
	p, err := w.run(ctx, r.back.upstream)
	if err != nil {
		return "", err
	}
	client := r.back.client
	set := 0
	leave := func(ctx context.Context) {
		if set != 0 {
			client.Close(ctx, set)
		}
		p.stop()
	}
	held := false
	defer func() {
		if !held {
			leave(ctx)
		}
	}()

	empty, err := r.settled(ctx, p)
	if err != nil {
		return "", err
	}
	r.results.add(resident, atRest, w, r.n, mib(empty.Resident))
	r.results.add(private, atRest, w, r.n, mib(empty.Private))
	note := func(ctx context.Context, state string) (float64, error) {
		m, err := r.settled(ctx, p)
		if err != nil {
			return 0, err
		}
		each := float64(m.Resident-empty.Resident) / 1024 / float64(size)
		name := idleCase(size, state)
		r.results.add(perConnection, name, w, r.n, each)
		r.results.add(resident, name, w, r.n, mib(m.Resident))
		r.results.add(private, name, w, r.n, mib(m.Private))
		return each, nil
	}
	if set, err = client.Open(ctx, p.to, size); err != nil {
		return "", err
	}
	before, err := note(ctx, opened)
	if err != nil {
		return "", err
	}
	if _, err := client.Exchange(ctx, set,
		peer.Request{Kind: peer.Produce, Bytes: idleBytes, Partitions: framePartitions},
		peer.Request{Kind: peer.Fetch, Bytes: idleBytes, Partitions: framePartitions}); err != nil {
		return "", err
	}
	after, err := note(ctx, carried)
	if err != nil {
		return "", err
	}
	if wait {
		held = true
		idle := time.Now()
		r.later = append(r.later, func(ctx context.Context) {
			defer leave(ctx)
			if ctx.Err() != nil {
				return
			}
			each, err := note(ctx, rested)
			if err != nil {
				r.results.fail(w, r.n, idleCase(size, rested), err)
				return
			}
			r.results.add(idleTime, idleCase(size, rested), w, r.n, time.Since(idle).Seconds())
			r.tell("%-36s  %s %.0f KiB each after %.0f s", idleCase(size, rested), w.Name, each, time.Since(idle).Seconds())
		})
	}
	return fmt.Sprintf("%.1f MiB %.0f %.0f KiB", mib(empty.Resident), before, after), nil
}

// settled reads a process's memory after a pause.
func (r *round) settled(ctx context.Context, p *running) (procfs.Memory, error) {
	select {
	case <-time.After(r.plan.Settle):
	case <-ctx.Done():
		return procfs.Memory{}, ctx.Err()
	}
	return procfs.ReadMemory(p.pid)
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
