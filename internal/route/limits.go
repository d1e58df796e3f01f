package route

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// The bounds on what a peer can make the table keep or say. A broker is a peer,
// too: its responses name brokers and hosts.
const (
	// maxBrokers is how many brokers the table keeps. The largest clusters have
	// some hundreds; with names, hosts and aliases of full length 10 000 brokers
	// take about 20 MiB here and less than maxFile in the routes file.
	maxBrokers = 10_000
	// maxAliases is how many earlier names lead to a broker. Clients use an old
	// name until they refresh their metadata, five minutes by default, so this
	// is four changes of a broker's host in that time.
	maxAliases = 4
	// maxName is the longest host name, in bytes (RFC 1035, 2.3.4).
	maxName = 253
	// maxClusterID is the longest cluster id that is kept, in bytes. Kafka's
	// are 22 long.
	maxClusterID = 255
	// maxCollisions is how many names are tried for a broker whose names other
	// brokers have.
	maxCollisions = 100
	// maxCompared is how many known names are compared with one that is not
	// known, to find what was meant.
	maxCompared = 1000
	// maxLines is how many log lines of one kind are written in a linePeriod.
	maxLines   = 50
	linePeriod = time.Minute
)

// lineKind is a kind of log line that a peer can cause.
type lineKind int

const (
	learnedLine lineKind = iota
	movedLine
	renamedLine
	warningLine
	lineKinds
)

// lineLimits writes the first maxLines of each kind as they come, and counts
// the rest in one line at the end of the period. The zero value is ready.
type lineLimits [lineKinds]struct {
	mu      sync.Mutex
	written int
	counted int
}

func (l *lineLimits) log(log *slog.Logger, kind lineKind, msg string, attrs ...any) {
	level := slog.LevelInfo
	if kind == warningLine {
		level = slog.LevelWarn
	}
	k := &l[kind]
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.written == maxLines {
		k.counted++
		return
	}
	if k.written++; k.written == 1 {
		time.AfterFunc(linePeriod, func() { l.endPeriod(log, kind, level) })
	}
	log.Log(context.Background(), level, msg, attrs...)
}

func (l *lineLimits) endPeriod(log *slog.Logger, kind lineKind, level slog.Level) {
	k := &l[kind]
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.counted > 0 {
		log.Log(context.Background(), level, [...]string{
			"learned more brokers", "more brokers moved", "more brokers were renamed", "more warnings about brokers",
		}[kind], "count", k.counted, "period", linePeriod)
	}
	k.written, k.counted = 0, 0
}
