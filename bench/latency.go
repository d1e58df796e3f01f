package main

import (
	"context"
	"fmt"
	"time"

	"kafka-sni-proxy/bench/peer"
)

const (
	alone = "one at a time"
	busy  = "one at a time, under half load"
)

// latency measures how long a small request takes, one at a time: on a proxy
// that does nothing else, and on one that carries half of what the naive relay
// can. The same load for all is what makes them comparable.
func (r *round) latency(ctx context.Context) {
	r.each(ctx, alone, r.live, func(ctx context.Context, w *running) (string, error) {
		return r.roundTrips(ctx, w, alone)
	})
	load := r.halfLoad()
	if load == 0 {
		return
	}
	r.each(ctx, busy, r.live, func(ctx context.Context, w *running) (figure string, err error) {
		set, err := r.background.Open(ctx, w.to, r.plan.PacedConnections)
		if err != nil {
			return "", err
		}
		defer r.background.Close(ctx, set)
		ended := make(chan error, 1)
		go func() {
			_, err := r.background.Bulk(ctx, peer.BulkArgs{
				Set: set, Requests: []peer.Request{directions[1].request}, Depth: depth, BytesPerSecond: load,
				Duration: r.plan.Warmup + r.plan.RoundTrips + 100*time.Millisecond,
			})
			ended <- err
		}()
		defer func() {
			if failed := <-ended; err == nil {
				err = failed
			}
		}()
		time.Sleep(r.plan.Warmup)
		return r.roundTrips(ctx, w, busy)
	})
}

// halfLoad is half of what the naive relay carries flat out over four
// connections, in bytes per second. Without it, another proxy is the yardstick.
func (r *round) halfLoad() int {
	if r.results.half == 0 {
		for _, w := range append([]*target{{Name: naive}}, r.targets...) {
			if s := r.results.summary(throughput, flatOutCase("fetch", r.plan.PacedConnections), w.Name); s.ok() && w.Name != direct && w.Name != tcp {
				// It stays the same in all rounds.
				r.results.half = int(s.Median * 1e6 / 2)
				r.results.HalfLoad = float64(r.results.half) / 1e6
				break
			}
		}
	}
	return r.results.half
}

func (r *round) roundTrips(ctx context.Context, w *running, name string) (string, error) {
	taken, used, err := r.timed(ctx, w, 1, peer.RoundTripsArgs{Request: peer.Request{Kind: peer.Heartbeat}, Duration: r.plan.RoundTrips})
	if err != nil {
		return "", err
	}
	at := func(share float64) float64 { return float64(percentile(taken, share)) / 1e6 }
	r.results.add(roundTrip, name+", p50", w.target, r.n, at(0.5))
	r.results.add(roundTrip, name+", p99", w.target, r.n, at(0.99))
	r.results.add(roundTrip, name+", p99.9", w.target, r.n, at(0.999))
	if w.pid != 0 && name == alone {
		r.results.add(cpuPerRequest, "Heartbeat, "+name, w.target, r.n, float64(used.CPU.Microseconds())/float64(len(taken)))
	}
	return fmt.Sprintf("%.3f/%.3f/%.3f ms", at(0.5), at(0.99), at(0.999)), nil
}
