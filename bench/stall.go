package main

import (
	"context"
	"fmt"
	"time"

	"kafka-sni-proxy/bench/peer"
)

// stalls runs flat out with slow and fast readers on the same proxy, in all
// the ways in which one could hold up the other, and counts the runs that end.
// A run that does not is a failure. Only this project's proxy has promised that.
func (r *round) stalls(ctx context.Context) {
	var targets []*running
	for _, w := range r.live {
		if w.target.isOurs {
			targets = append(targets, w)
		}
	}
	if len(targets) == 0 || r.plan.StallRuns == 0 {
		return
	}
	r.each(ctx, "slow and fast readers, flat out", targets, func(ctx context.Context, w *running) (string, error) {
		done := 0
		for i := range r.plan.StallRuns {
			if err := r.stallRun(ctx, w, r.n*r.plan.StallRuns+i); err != nil {
				r.results.add(stallsEnded, "runs that ended", w.target, r.n, float64(done))
				return "", fmt.Errorf("run %d: %w", i, err)
			}
			done++
		}
		r.results.add(stallsEnded, "runs that ended", w.target, r.n, float64(done))
		return fmt.Sprintf("%d runs ended", done), nil
	})
}

// stallRun is one of the many: what is sent, over how many connections, how
// many of those read slowly, and how much is under way all vary with i, at
// different paces.
func (r *round) stallRun(ctx context.Context, w *running, i int) error {
	size := []int{1 << 10, 64 << 10, frameBytes}[i%3]
	produce := peer.Request{Kind: peer.Produce, Bytes: size, Partitions: 1}
	fetch := peer.Request{Kind: peer.Fetch, Bytes: size, Partitions: 1}
	requests := [][]peer.Request{{produce, fetch}, {fetch}, {fetch, fetch, produce}, {produce}, {fetch, {Kind: peer.Heartbeat}}}[i%5]
	connections := []int{1, 4, 16, 2}[i%4]

	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	set, err := r.front.client.Open(ctx, w.to, connections)
	if err != nil {
		return err
	}
	defer r.front.client.Close(ctx, set)
	_, err = r.front.client.Bulk(ctx, peer.BulkArgs{
		Set: set, Requests: requests, Depth: []int{2, depth}[i/2%2],
		Duration: r.plan.Stall, SlowEvery: []int{2, 1, 3, 0}[i/3%4],
	})
	return err
}
