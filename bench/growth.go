package main

import (
	"context"
	"fmt"

	"kafka-sni-proxy/bench/peer"
)

// growth measures how the cost grows with what there is more of: connections,
// partitions in a response, brokers in a cluster.
func (r *round) growth(ctx context.Context) {
	const rate = 100e6
	for _, n := range r.plan.GrowthConnections {
		r.growing(ctx, count(n, "connection"), n, peer.BulkArgs{
			Requests:       []peer.Request{{Kind: peer.Fetch, Bytes: 64 << 10, Partitions: 1}},
			BytesPerSecond: rate,
		})
	}
	for _, n := range r.plan.GrowthPartitions {
		r.growing(ctx, count(n, "partition"), r.plan.PacedConnections, peer.BulkArgs{
			Requests:       []peer.Request{{Kind: peer.Fetch, Bytes: frameBytes, Partitions: n}},
			BytesPerSecond: rate,
		})
	}
	for _, n := range r.plan.GrowthBrokers {
		r.brokers(ctx, n)
	}
}

func (r *round) growing(ctx context.Context, name string, connections int, args peer.BulkArgs) {
	r.each(ctx, "fetch, 100 MB/s, "+name, r.proxies(), func(ctx context.Context, w *running) (string, error) {
		s, err := r.traffic(ctx, w, connections, r.plan.Growth, args)
		if err != nil {
			return "", err
		}
		r.results.add(growthPerGB, name, w.target, r.n, s.perGB(s.proxy.CPU))
		return fmt.Sprintf("%.2f s/GB", s.perGB(s.proxy.CPU)), nil
	})
}

// brokers measures Metadata of a cluster of that size. The proxy has seen the
// cluster before, as in any minute but the first.
func (r *round) brokers(ctx context.Context, n int) {
	name := count(n, "broker")
	r.each(ctx, "Metadata of "+name, r.live, func(ctx context.Context, w *running) (string, error) {
		taken, used, err := r.timed(ctx, w, 1, peer.RoundTripsArgs{Request: peer.Request{Kind: peer.Metadata, Brokers: n}, Duration: r.plan.Growth})
		if err != nil {
			return "", err
		}
		median := float64(percentile(taken, 0.5)) / 1e3
		r.results.add(metadataTime, name, w.target, r.n, median)
		if w.pid == 0 {
			return fmt.Sprintf("%.0f µs", median), nil
		}
		cpu := float64(used.CPU.Microseconds()) / float64(len(taken))
		r.results.add(cpuPerMetadata, name, w.target, r.n, cpu)
		return fmt.Sprintf("%.0f µs, CPU %.0f µs", median, cpu), nil
	})
}
