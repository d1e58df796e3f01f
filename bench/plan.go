package main

import "time"

// plan says how much is measured.
type plan struct {
	// Rounds is how often everything is measured.
	Rounds int
	// Limit is when the whole run has to be over. A round that would end later
	// is not begun.
	Limit time.Duration

	// Warmup comes before each sample of Bulk, on the same connections.
	Warmup, Bulk time.Duration
	// Rates are in MB/s, over PacedConnections connections.
	Rates            []int
	PacedConnections int
	// Connections are how many run flat out.
	Connections []int

	// Requests is how long each sample of small Produce requests takes. Those at a
	// fixed rate are RequestRate in a second, over RequestConnections together.
	Requests           time.Duration
	RequestRate        int
	RequestConnections int

	// RoundTrips is how long one request after the other is sent.
	RoundTrips time.Duration

	Handshakes time.Duration

	// Idle is how many idle connections there are, and IdleRounds in how
	// many rounds; 0 is in all.
	Idle       []int
	IdleRounds int
	// Settle is how long they are left alone before memory is read.
	Settle time.Duration

	// Growth is how long each sample of it takes; the rest is what grows.
	Growth            time.Duration
	GrowthConnections []int
	GrowthPartitions  []int
	GrowthBrokers     []int

	// Frugality is how long allocations are counted.
	Frugality time.Duration

	// StallRuns is how many runs with slow and fast readers a round has.
	StallRuns int
	Stall     time.Duration
}

// hasIdle reports whether the round has idle connections.
func (p plan) hasIdle(round int) bool { return p.IdleRounds == 0 || round < p.IdleRounds }

var fullPlan = plan{
	Rounds: 5,
	Limit:  10*time.Minute - 15*time.Second,

	Warmup:           100 * time.Millisecond,
	Bulk:             600 * time.Millisecond,
	Rates:            []int{50, 150, 300},
	PacedConnections: 4,
	Connections:      []int{1, 4, 16},

	Requests:           600 * time.Millisecond,
	RequestRate:        2000,
	RequestConnections: 8,

	RoundTrips: 600 * time.Millisecond,
	Handshakes: 500 * time.Millisecond,

	Idle:   []int{1000, 5000},
	Settle: 300 * time.Millisecond,

	Growth:            300 * time.Millisecond,
	GrowthConnections: []int{4, 64, 256},
	GrowthPartitions:  []int{1, 100, 1000, 10_000},
	GrowthBrokers:     []int{10, 1000, 10_000},

	Frugality: 800 * time.Millisecond,

	StallRuns: 10,
	Stall:     100 * time.Millisecond,
}

// quickPlan measures what the goals are about, roughly.
var quickPlan = plan{
	Rounds: 3,
	Limit:  55 * time.Second,

	Warmup:           50 * time.Millisecond,
	Bulk:             300 * time.Millisecond,
	Rates:            []int{150},
	PacedConnections: 4,
	Connections:      []int{1, 4},

	Requests:           150 * time.Millisecond,
	RequestRate:        2000,
	RequestConnections: 8,

	RoundTrips: 250 * time.Millisecond,
	Handshakes: 200 * time.Millisecond,

	Idle:       []int{1000},
	IdleRounds: 1,
	Settle:     200 * time.Millisecond,

	Growth:            100 * time.Millisecond,
	GrowthConnections: []int{64},
	GrowthPartitions:  []int{1000},
	GrowthBrokers:     []int{1000},

	Frugality: 250 * time.Millisecond,

	StallRuns: 3,
	Stall:     50 * time.Millisecond,
}

const (
	// frameBytes is how much a large Produce or Fetch carries, and
	// framePartitions over how many partitions: what a busy producer puts into a
	// request, max.request.size, and a consumer gets of a partition,
	// max.partition.fetch.bytes.
	frameBytes      = 1 << 20
	framePartitions = 4
	// depth is how many large requests may be without an answer on a
	// connection. Java's producer allows five.
	depth = 5
	// idleBytes is what each idle connection carries each target: more than
	// a proxy would buffer for one connection.
	idleBytes = 160 << 10
)
