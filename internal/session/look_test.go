package session

import (
	"slices"
	"testing"
	"time"
	"unsafe"

	"kafka-sni-proxy/internal/tlswire"
)

func TestSilenceOfPeers(t *testing.T) {
	const (
		look    = 15 * time.Second
		timeout = time.Minute
		long    = time.Hour
	)
	silent := tlswire.Unacknowledged{Waiting: true, Heard: long}
	full := tlswire.Unacknowledged{Waiting: true, Closed: true, Heard: long}
	heard := tlswire.Unacknowledged{Waiting: true, Heard: look - 1}
	times := func(n int, u tlswire.Unacknowledged) (all []tlswire.Unacknowledged) {
		return slices.Repeat([]tlswire.Unacknowledged{u}, n)
	}
	for _, test := range []struct {
		what  string
		looks []tlswire.Unacknowledged
		gone  bool
	}{
		{"idle for an hour, and sent something just now", times(1, silent), false},
		{"has had less than the timeout", times(4, silent), false},
		{"has had the timeout", times(5, silent), true},
		{"answers at last", append(times(4, silent), heard), false},
		{"has answered within the timeout", slices.Concat(times(4, silent), times(1, heard), times(3, silent)), false},
		{"has acknowledged all, and been sent more", slices.Concat(times(4, silent), times(1, tlswire.Unacknowledged{Heard: long}), times(4, silent)), false},
		{"has nothing to acknowledge", times(100, tlswire.Unacknowledged{Heard: long}), false},
		{"does not read, and its window is probed every two minutes", times(9, full), false},
		{"does not read, and has missed two probes", times(21, full), true},
		{"does not read, and is just being sent what little it has room for", append(times(9, full), silent), false},
	} {
		var s silence
		for _, u := range test.looks {
			s.update(u, look, look)
		}
		if s.over(timeout) != test.gone {
			t.Errorf("a peer that %s: gone is %v", test.what, !test.gone)
		}
	}

	var s silence
	s.update(silent, look, look)
	s.update(silent, look, long) // the machine was stopped
	if s.over(timeout) {
		t.Error("a peer counts as gone that was silent while the proxy did not run")
	}
	s.update(tlswire.Unacknowledged{Waiting: true, Heard: 2 * look}, look, long)
	if s.lasts > 1 {
		t.Error("a peer counts as silent that was heard since the last look")
	}
}

// The pump may come to look when the session is no longer idle.
func TestSessionsAreNotIdleThatWereAMomentAgo(t *testing.T) {
	s := &Session{}
	s.life.on(connected)
	s.traffic.RequestBytes.Store(1 << 31) // and what is more than a mark can hold is no matter
	s.idleMark.Store(s.mark())
	s.traffic.ResponseBytes.Store(100)
	if s.drainIdle() || s.life.state() == draining {
		t.Error("a session is drained that has been answered since")
	}
	s.idleMark.Store(s.mark())
	if !s.drainIdle() || s.life.state() != draining {
		t.Error("a session is not drained that is idle")
	}
}

// Drain cuts a session that has not reached its broker, and the sweep may come before it is
// forgotten.
func TestSessionsThatWereCutBeforeTheirBrokerCanBeLookedAt(t *testing.T) {
	_, accepted := pair(t)
	s := New(&Config{TCPUserTimeout: time.Minute}, accepted)
	s.Drain()
	s.Look(time.Second, time.Second)
	if s.State() != "cut" {
		t.Errorf("the session is %s", s.State())
	}
}

// A byte more, and each connection takes 128.
func TestSessionsKeepTheirSizeClass(t *testing.T) {
	if size := unsafe.Sizeof(Session{}); size > 1408 {
		t.Errorf("%d bytes: the next size class of the allocator begins at 1409", size)
	}
}
