package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"kafka-sni-proxy/bench/peer"
	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/route"
)

// The cases of frugality.
const (
	goroutinesEach  = "goroutines per connection"
	smallAllocs     = "allocations per small request"
	mediumAllocs    = "allocations per frame of 4 KiB"
	rewriteMetadata = "rewriting Metadata of 1000 brokers, µs"
)

// frugality looks into this project's proxy: goroutines per connection and
// allocations per frame, which its /metrics tell; and the time that rewriting
// takes, on its engine alone.
func (r *round) frugality(ctx context.Context) {
	for _, w := range r.live {
		if w.target.isOurs && w.target.start != nil {
			r.each(ctx, "frugality", []*running{w}, func(ctx context.Context, w *running) (string, error) {
				return r.inside(ctx, w.target)
			})
		}
	}
	for _, w := range r.live {
		if w.target.Name == ours {
			r.each(ctx, "rewriting", []*running{w}, func(_ context.Context, w *running) (string, error) {
				took, err := timeRewriting(1000)
				if err != nil {
					return "", err
				}
				us := float64(took.Nanoseconds()) / 1e3
				r.results.add(frugal, rewriteMetadata, w.target, r.n, us)
				return fmt.Sprintf("%.1f µs", us), nil
			})
		}
	}
}

func (r *round) inside(ctx context.Context, w *target) (string, error) {
	admin, err := r.ports.Address()
	if err != nil {
		return "", err
	}
	p, err := w.run(ctx, r.front.upstream, "--admin-bind", admin)
	if err != nil {
		return "", err
	}
	defer p.stop()
	client := r.front.client

	none, err := runtimeOf(ctx, admin)
	if err != nil {
		return "", err
	}
	const connections = 100
	set, err := client.Open(ctx, p.to, connections)
	if err != nil {
		return "", err
	}
	defer client.Close(ctx, set)
	some, err := runtimeOf(ctx, admin)
	if err != nil {
		return "", err
	}
	each := (some.goroutines - none.goroutines) / connections
	r.results.add(frugal, goroutinesEach, w, r.n, each)

	// What /metrics itself allocates is known from asking twice. The runtime's
	// count lags by some thousand at times, so it takes many frames to see
	// whether each one allocates.
	perFrame := func(name string, args peer.BulkArgs) (float64, error) {
		args.Set, args.Duration = set, r.plan.Warmup
		if _, err := client.Bulk(ctx, args); err != nil { // buffers are there afterwards
			return 0, err
		}
		first, err := runtimeOf(ctx, admin)
		if err != nil {
			return 0, err
		}
		before, err := runtimeOf(ctx, admin)
		if err != nil {
			return 0, err
		}
		args.Duration = r.plan.Frugality
		reply, err := client.Bulk(ctx, args)
		if err != nil {
			return 0, err
		}
		after, err := runtimeOf(ctx, admin)
		if err != nil {
			return 0, err
		}
		allocs := (after.mallocs - before.mallocs) - (before.mallocs - first.mallocs)
		v := max(0, allocs/float64(reply.Frames))
		r.results.add(frugal, name, w, r.n, v)
		return v, nil
	}
	small, err := perFrame(smallAllocs, peer.BulkArgs{Requests: []peer.Request{{Kind: peer.Heartbeat}}, Depth: depth})
	if err != nil {
		return "", err
	}
	medium, err := perFrame(mediumAllocs, peer.BulkArgs{
		Requests: []peer.Request{{Kind: peer.Produce, Bytes: 4 << 10, Partitions: 1}, {Kind: peer.Fetch, Bytes: 4 << 10, Partitions: 1}},
		Depth:    depth,
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%.2f goroutines, %.3f and %.3f allocations", each, small, medium), nil
}

// goRuntime is what the Go runtime of a process tells about itself.
type goRuntime struct{ goroutines, mallocs float64 }

func runtimeOf(ctx context.Context, admin string) (g goRuntime, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", nil)
	if err != nil {
		return g, err
	}
	// Compressed or on a kept connection, what an answer allocates varies.
	req.Header.Set("Accept-Encoding", "identity")
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return g, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return g, err
	}
	if g.goroutines, err = gauge(text, "go_goroutines"); err != nil {
		return g, err
	}
	g.mallocs, err = gauge(text, "go_memstats_mallocs_total")
	return g, err
}

// gauge finds a metric without labels in Prometheus's text format.
func gauge(text []byte, name string) (float64, error) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("the proxy's /metrics have no %s", name)
}

// timeRewriting returns how long the rewriting of a Metadata response takes
// when its brokers are known: the median of many, with a byte slice as the
// client.
func timeRewriting(brokers int) (time.Duration, error) {
	request, response, err := peer.MetadataExchange(brokers)
	if err != nil {
		return 0, err
	}
	table, err := route.New(route.Config{
		Suffix:    suffix,
		Upstreams: []route.Address{{Host: brokerHost, Port: 9092}},
	})
	if err != nil {
		return 0, err
	}
	var inFlight kafka.InFlight
	requests := kafka.Requests{Out: io.Discard, InFlight: &inFlight}
	responses := kafka.Responses{Out: io.Discard, InFlight: &inFlight, Names: func(node int32, host []byte, port int32) (string, int32, error) {
		return table.Learn(node, host, port), 9092, nil
	}}
	const times = 200
	taken := make([]int64, times)
	scratch := make([]byte, len(request))
	for i := range taken {
		copy(scratch, request) // Forward may change what it is given
		if _, err := requests.Forward(scratch); err != nil {
			return 0, err
		}
		begin := time.Now()
		if err := responses.Forward(response); err != nil {
			return 0, err
		}
		taken[i] = int64(time.Since(begin))
	}
	slices.Sort(taken)
	return time.Duration(percentile(taken, 0.5)), nil
}
