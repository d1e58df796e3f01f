package cluster

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"kafka-sni-proxy/internal/histogram"
	"kafka-sni-proxy/internal/route"
)

// maxHealth is of how many addresses it is kept how they did. Brokers say where brokers are,
// and may say so again and again: of more, the one that was dialled the longest ago goes.
const maxHealth = 1024

// Health is how the dials of an address went: TCP, TLS, and whether it is the cluster's.
type Health struct {
	Address route.Address
	Dials   int64         // that were not given up because their client had gone
	Errors  [stages]int64 // of those, by stage
	Last    time.Time     // when the last dial ended
	Took    time.Duration // and how long it took
	OK      bool          // whether it succeeded
	Since   time.Time     // when that became so
	Err     error         // of the last that failed; nil: none has
	ErrAt   time.Time
	Times   histogram.Snapshot // of dials that succeeded
}

// Failed returns how many dials failed.
func (h *Health) Failed() (n int64) {
	for _, e := range h.Errors {
		n += e
	}
	return n
}

// health is how the addresses of a cluster did. The zero value is ready to use.
type health struct {
	mu  sync.Mutex
	all map[route.Address]*Health
}

// note notes a dial.
func (h *health) note(a route.Address, took time.Duration, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	is := h.all[a]
	if is == nil {
		if h.all == nil {
			h.all = map[route.Address]*Health{}
		}
		if len(h.all) >= maxHealth {
			oldest := slices.MinFunc(slices.Collect(maps.Values(h.all)), func(a, b *Health) int { return a.Last.Compare(b.Last) })
			delete(h.all, oldest.Address)
		}
		is = &Health{Address: a}
		h.all[a] = is
	}
	is.Last, is.Took = time.Now(), took
	if is.Dials++; is.Dials == 1 || is.OK != (err == nil) {
		is.OK, is.Since = err == nil, is.Last
	}
	if err == nil {
		is.Times.Note(took)
		return
	}
	stage := StageDial
	var failed *ConnectError
	if errors.As(err, &failed) {
		stage = failed.Stage
	}
	is.Errors[stage]++
	is.Err, is.ErrAt = err, is.Last
}

// Health returns how the addresses did that were dialled, by address.
func (c *Cluster) Health() []Health {
	c.health.mu.Lock()
	defer c.health.mu.Unlock()
	all := make([]Health, 0, len(c.health.all))
	for _, is := range c.health.all {
		all = append(all, *is)
	}
	slices.SortFunc(all, func(a, b Health) int {
		return cmp.Or(cmp.Compare(a.Address.Host, b.Address.Host), cmp.Compare(a.Address.Port, b.Address.Port))
	})
	return all
}

// counts are what a cluster has done besides dialling.
type counts struct {
	provisional               atomic.Int64
	queriesDone, queriesFails atomic.Int64
}

// Counts are how often the cluster had to be asked, or could not be.
type Counts struct {
	// Provisional connections asked for a broker which was not known, and were served by a
	// bootstrap server.
	Provisional int64
	// Answered and Failed are the proxy's own questions where the brokers are, in sessions of
	// clients included.
	Answered, Failed int64
}

// Counts returns what was counted since the cluster was made.
func (c *Cluster) Counts() Counts {
	return Counts{c.counts.provisional.Load(), c.counts.queriesDone.Load(), c.counts.queriesFails.Load()}
}

// query counts a question.
func (c *counts) query(answered bool) {
	if answered {
		c.queriesDone.Add(1)
	} else {
		c.queriesFails.Add(1)
	}
}

// Upstreams returns the bootstrap servers.
func (c *Cluster) Upstreams() []route.Address { return c.bootstrap() }

// IsPlaintext reports whether the brokers are spoken to without TLS.
func (c *Cluster) IsPlaintext() bool { return c.tls == nil }
