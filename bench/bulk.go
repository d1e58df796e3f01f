package main

import (
	"context"
	"fmt"
	"time"

	"kafka-sni-proxy/bench/peer"
	"kafka-sni-proxy/internal/harness/procfs"
)

// directions are what bulk traffic can be: records going up, or coming down.
var directions = []struct {
	name    string
	request peer.Request
}{
	{"produce", peer.Request{Kind: peer.Produce, Bytes: frameBytes, Partitions: framePartitions}},
	{"fetch", peer.Request{Kind: peer.Fetch, Bytes: frameBytes, Partitions: framePartitions}},
}

func pacedCase(direction string, rate int) string {
	return fmt.Sprintf("%s, %d MB/s", direction, rate)
}

func flatOutCase(direction string, connections int) string {
	return fmt.Sprintf("%s, flat out, %s", direction, count(connections, "connection"))
}

// bulk measures the CPU time per gigabyte, at given rates and flat out, and
// how much goes through flat out.
func (r *round) bulk(ctx context.Context) {
	for _, d := range directions {
		for _, connections := range r.plan.Connections {
			name := flatOutCase(d.name, connections)
			r.each(ctx, name, r.live, func(ctx context.Context, w *running) (string, error) {
				s, err := r.traffic(ctx, w, connections, r.plan.Bulk, peer.BulkArgs{Requests: []peer.Request{d.request}, Depth: depth})
				if err != nil {
					return "", err
				}
				mbs := float64(s.Bytes) / 1e6 / s.Elapsed.Seconds()
				r.results.add(throughput, name, w.target, r.n, mbs)
				r.addCPU(name, w, s)
				if w.pid == 0 {
					return fmt.Sprintf("%.0f MB/s", mbs), nil
				}
				return fmt.Sprintf("%.0f MB/s %.2f s/GB", mbs, s.perGB(s.proxy.CPU)), nil
			})
		}
		for _, rate := range r.plan.Rates {
			name := pacedCase(d.name, rate)
			r.each(ctx, name, r.proxies(), func(ctx context.Context, w *running) (string, error) {
				s, err := r.traffic(ctx, w, r.plan.PacedConnections, r.plan.Bulk, peer.BulkArgs{
					Requests: []peer.Request{d.request}, Depth: depth, BytesPerSecond: rate * 1e6,
				})
				if err != nil {
					return "", err
				}
				r.results.add(paceKept, name, w.target, r.n, float64(s.Bytes)/1e6/s.Elapsed.Seconds()/float64(rate)*100)
				r.addCPU(name, w, s)
				return fmt.Sprintf("%.2f s/GB", s.perGB(s.proxy.CPU)), nil
			})
		}
	}
}

// traffic is a sample of bulk traffic and what the processes used for it.
type traffic struct {
	peer.BulkReply
	proxy, load, broker procfs.Usage
}

func (t traffic) perGB(d time.Duration) float64 { return d.Seconds() / (float64(t.Bytes) / 1e9) }

// traffic has fresh connections carry a warm-up and then the sample. CPU time
// is that of the sample alone, from the first request to the last answer.
func (r *round) traffic(ctx context.Context, w *running, connections int, duration time.Duration, args peer.BulkArgs) (t traffic, err error) {
	set, err := r.front.client.Open(ctx, w.to, connections)
	if err != nil {
		return t, err
	}
	defer r.front.client.Close(ctx, set)
	args.Set, args.Duration = set, r.plan.Warmup
	if _, err := r.front.client.Bulk(ctx, args); err != nil {
		return t, err
	}
	args.Duration = duration
	load, broker := r.front.load.PID(), r.front.broker.PID()
	t.load, err = procfs.Read(load)
	if err != nil {
		return t, err
	}
	if t.broker, err = procfs.Read(broker); err != nil {
		return t, err
	}
	t.proxy, err = w.cost(func() (err error) {
		t.BulkReply, err = r.front.client.Bulk(ctx, args)
		return err
	})
	if err != nil {
		return t, err
	}
	after, err := procfs.Read(load)
	t.load = after.Sub(t.load)
	if err != nil {
		return t, err
	}
	after, err = procfs.Read(broker)
	t.broker = after.Sub(t.broker)
	return t, err
}

func (r *round) addCPU(name string, w *running, s traffic) {
	r.results.add(endsPerGB, name, w.target, r.n, s.perGB(s.load.CPU+s.broker.CPU))
	if w.pid == 0 {
		return
	}
	r.results.add(cpuPerGB, name, w.target, r.n, s.perGB(s.proxy.CPU))
	r.results.add(waitsPerGB, name, w.target, r.n, float64(s.proxy.Waits)/(float64(s.Bytes)/1e9))
	// Parts of CPU time come in ticks of 10 ms; of less than twenty they would
	// say little.
	if both := s.proxy.User + s.proxy.System; both >= 200*time.Millisecond {
		r.results.add(systemShare, name, w.target, r.n, float64(s.proxy.System)/float64(both)*100)
	}
}
