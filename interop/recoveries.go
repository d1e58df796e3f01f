package main

import (
	"fmt"
	"strings"
	"time"
)

// The events, in the order in which they come.
const (
	eventCold   = "first upstream down, cold start"
	eventTerm   = "a proxy is stopped (TERM)"
	eventKill   = "a proxy is killed (KILL)"
	eventStop   = "a broker stops"
	eventMoved  = "it comes back elsewhere"
	eventInTurn = "all brokers restart in turn"
)

// eventKinds are the kinds of set-up, in the order of the table.
var eventKinds = []string{"one proxy, TLS", "two proxies, TLS", "one proxy, SASL", "two proxies, SASL"}

// recovery is what an event has cost clients: for how long, at the worst, the
// producers had no acknowledgement from a partition, and the group no record.
type recovery struct {
	java, franz, group time.Duration
	connections        int // accepted by proxies meanwhile
}

// note adds the figures of an event to the table; of several of a kind the
// worst count.
func (e *eventful) note(event string, r recovery) {
	key := [2]string{event, e.kind}
	was := e.recoveries[key]
	e.recoveries[key] = recovery{max(was.java, r.java), max(was.franz, r.franz), max(was.group, r.group), max(was.connections, r.connections)}
}

// recoveries are the figures of all events, by event and kind of set-up.
type recoveries map[[2]string]recovery

// String is a table, of the seconds that each kind of client was without, and
// of the connections that were made.
func (rs recoveries) String() string {
	if len(rs) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nlongest gap in seconds: Java producer / franz-go producer / franz-go group; connections\n%-32s", "event")
	for _, kind := range eventKinds {
		fmt.Fprintf(&b, "  %-23s", kind)
	}
	for _, event := range []string{eventCold, eventTerm, eventKill, eventStop, eventMoved, eventInTurn} {
		fmt.Fprintf(&b, "\n%-32s", event)
		for _, kind := range eventKinds {
			r, seen := rs[[2]string{event, kind}]
			cell := "-"
			if seen {
				cell = fmt.Sprintf("%s / %s / %s; %d", seconds(r.java), seconds(r.franz), seconds(r.group), r.connections)
			}
			fmt.Fprintf(&b, "  %-23s", cell)
		}
	}
	return b.String() + "\n"
}

// seconds is a dash for clients that were not there yet.
func seconds(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f", d.Seconds())
}
