package main

import (
	"context"
	"fmt"
	"slices"

	"kafka-sni-proxy/bench/peer"
	"kafka-sni-proxy/internal/harness/procfs"
)

// requestSizes are how many bytes of records the requests of this theme carry:
// those of a producer that does not wait to fill a batch, and a batch of Java's
// default size (batch.size).
var requestSizes = []int{1 << 10, 16 << 10}

func requestCase(size int, load string) string { return fmt.Sprintf("%d KiB, %s", size>>10, load) }

// atRate is the load that all targets carry alike, well below what they can.
func (p plan) atRate() string {
	return fmt.Sprintf("%d/s over %s", p.RequestRate, count(p.RequestConnections, "connection"))
}

// requests measures what a small Produce request with acks=all costs the proxy
// and how long its answer takes: one at a time on one connection, and at a fixed
// rate over several. In both no connection has more than one request without an
// answer, and the machine has time to spare, so that the figures are those of a
// request and not of a queue.
func (r *round) requests(ctx context.Context) {
	for _, size := range requestSizes {
		request := peer.Request{Kind: peer.Produce, Bytes: size, Partitions: 1}
		for _, load := range []struct {
			name        string
			connections int
			rate        int
		}{
			{alone, 1, 0},
			{r.plan.atRate(), r.plan.RequestConnections, r.plan.RequestRate},
		} {
			name := requestCase(size, load.name)
			r.each(ctx, name, r.live, func(ctx context.Context, w *running) (string, error) {
				return r.requestSample(ctx, w, name, load.connections, peer.RoundTripsArgs{
					Request: request, PerSecond: load.rate, Duration: r.plan.Requests,
				})
			})
		}
	}
}

func (r *round) requestSample(ctx context.Context, w *running, name string, connections int, args peer.RoundTripsArgs) (string, error) {
	taken, used, err := r.timed(ctx, w, connections, args)
	if err != nil {
		return "", err
	}
	at := func(share float64) float64 { return float64(percentile(taken, share)) / 1e3 }
	r.results.add(requestTime, name+", p50", w.target, r.n, at(0.5))
	r.results.add(requestTime, name+", p99", w.target, r.n, at(0.99))
	said := fmt.Sprintf("%.0f/%.0f µs", at(0.5), at(0.99))
	if w.pid == 0 {
		return said, nil
	}
	each := float64(used.CPU.Nanoseconds()) / 1e3 / float64(len(taken))
	r.results.add(cpuPerRequest, name, w.target, r.n, each)
	return fmt.Sprintf("%s CPU %.0f", said, each), nil
}

// timed sends requests over fresh connections, after a warm-up on the same ones,
// and returns how long each took, in order of size, and what the proxy used for
// them.
func (r *round) timed(ctx context.Context, w *running, connections int, args peer.RoundTripsArgs) (taken []int64, used procfs.Usage, err error) {
	client := r.front.client
	set, err := client.Open(ctx, w.to, connections)
	if err != nil {
		return nil, used, err
	}
	defer client.Close(ctx, set)
	args.Set = set
	lasting := args.Duration
	args.Duration = r.plan.Warmup
	if _, err := client.RoundTrips(ctx, args); err != nil {
		return nil, used, err
	}
	args.Duration = lasting
	used, err = w.cost(func() (err error) {
		taken, err = client.RoundTrips(ctx, args)
		return err
	})
	slices.Sort(taken)
	return taken, used, err
}
