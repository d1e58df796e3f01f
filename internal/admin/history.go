package admin

import (
	"context"
	"math"
	"sync"
	"time"

	"kafka-sni-proxy/internal/api"
	"kafka-sni-proxy/internal/histogram"
	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/server"
	"kafka-sni-proxy/internal/session"
)

const (
	// historyInterval is how far apart points are, and historyPoints how many are kept: the
	// last hour.
	historyInterval = 10 * time.Second
	historyPoints   = 360
	// maxHistories is of how many clusters there is a history of their own.
	maxHistories = 64
)

// history is the last hour, for all clusters together and for each. What is kept grows with
// the time that has passed: 16 KiB at the most for each of them.
type history struct {
	proxy Proxy

	mu  sync.Mutex
	all map[string]*series // "": all together
}

func newHistory(proxy Proxy) *history {
	return &history{proxy: proxy, all: map[string]*series{}}
}

// series is a ring of points.
type series struct {
	points []point
	next   int
	last   sample
	at     time.Time
}

// point is the values of api.Columns at a time; NaN for none.
type point struct {
	at     int64
	values [columns]float32
}

const columns = 11

// sample is what is counted up to a moment.
type sample struct {
	opened, failed, requests, requestBytes, responseBytes int64
	connections, inFlight                                 int
	latency, added                                        histogram.Snapshot
}

// run takes a point every now and then, until ctx ends.
func (h *history) run(ctx context.Context) {
	tick := time.NewTicker(historyInterval)
	defer tick.Stop()
	for {
		h.take(time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// take takes a point.
func (h *history) take(now time.Time) {
	stats, waiting := h.proxy.Stats(), h.proxy.Waiting()
	total := sample{opened: stats.Accepted, connections: stats.Active, requests: stats.Requests, requestBytes: stats.RequestBytes, responseBytes: stats.ResponseBytes}
	for _, n := range stats.Failures {
		total.failed += n
	}
	for _, w := range waiting {
		total.inFlight += w.Requests
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for name := range h.all {
		if _, ok := stats.Clusters[name]; !ok && name != "" {
			delete(h.all, name)
		}
	}
	for name, c := range stats.Clusters {
		s := sampleOf(&c)
		s.inFlight = waiting[name].Requests
		total.latency.Add(&s.latency)
		total.added.Add(&s.added)
		if h.all[name] != nil || len(h.all) < maxHistories {
			h.add(name, s, now)
		}
	}
	h.add("", total, now)
}

func sampleOf(c *server.ClusterStats) sample {
	s := sample{opened: c.Led, connections: c.Active, requests: c.Requests, requestBytes: c.RequestBytes, responseBytes: c.ResponseBytes}
	for _, n := range c.Failures {
		s.failed += n
	}
	for i := range kafka.APIs {
		c.Meter.Latency(i, &s.latency)
	}
	c.Meter.Added(session.Requests, &s.added)
	c.Meter.Added(session.Responses, &s.added)
	return s
}

// add adds a point of a series. The first sample makes none: there is nothing to compare it
// with. The caller holds h.mu.
func (h *history) add(name string, s sample, now time.Time) {
	is := h.all[name]
	if is == nil {
		h.all[name] = &series{last: s, at: now}
		return
	}
	since := max(now.Sub(is.at).Seconds(), 1e-3)
	rate := func(now, before int64) float32 { return float32(float64(max(now-before, 0)) / since) }
	p := point{at: now.Unix()}
	latency, added := s.latency.Since(&is.last.latency), s.added.Since(&is.last.added)
	p.values = [columns]float32{
		float32(s.connections), rate(s.opened, is.last.opened), rate(s.failed, is.last.failed), float32(s.inFlight), rate(s.requests, is.last.requests),
		rate(s.requestBytes, is.last.requestBytes), rate(s.responseBytes, is.last.responseBytes),
		quantile(latency, 0.5), quantile(latency, 0.99), quantile(added, 0.5), quantile(added, 0.99),
	}
	is.last, is.at = s, now
	if len(is.points) < historyPoints {
		is.points = append(is.points, p)
		return
	}
	is.points[is.next] = p
	is.next = (is.next + 1) % historyPoints
}

func quantile(s *histogram.Snapshot, q float64) float32 {
	value, ok := s.Quantile(q)
	if !ok {
		return float32(math.NaN())
	}
	return float32(value)
}

// of returns the history of a cluster, or of all together.
func (h *history) of(name string) api.History {
	h.mu.Lock()
	defer h.mu.Unlock()
	told := api.History{Cluster: name, Interval: historyInterval.Seconds(), Times: []int64{}, Columns: map[string]api.Column{}}
	is := h.all[name]
	if is == nil {
		is = new(series)
	}
	n := len(is.points)
	values := make([]float64, 0, n*columns)
	for c, column := range api.Columns {
		told.Columns[column] = make(api.Column, n)
		for i := range n {
			if value := is.points[(is.next+i)%n].values[c]; !math.IsNaN(float64(value)) {
				values = append(values, float64(value))
				told.Columns[column][i] = &values[len(values)-1]
			}
		}
	}
	for i := range n {
		told.Times = append(told.Times, is.points[(is.next+i)%n].at)
	}
	return told
}

// rates returns the last point of all together; nil before there is one.
func (h *history) rates() *api.Rates {
	h.mu.Lock()
	defer h.mu.Unlock()
	is := h.all[""]
	if is == nil || len(is.points) == 0 {
		return nil
	}
	n := len(is.points)
	v := is.points[(is.next+n-1)%n].values
	r := &api.Rates{Opened: float64(v[1]), Failed: float64(v[2]), Requests: float64(v[4]), RequestBytes: float64(v[5]), ResponseBytes: float64(v[6])}
	if !math.IsNaN(float64(v[7])) {
		r.Latency = &api.Quantiles{P50: float64(v[7]), P99: float64(v[8])}
	}
	if !math.IsNaN(float64(v[9])) {
		r.Added = &api.Quantiles{P50: float64(v[9]), P99: float64(v[10])}
	}
	return r
}
