package loglimit

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"
)

func TestFirstMessageIsWrittenAndTheRestAreCounted(t *testing.T) {
	var l Logger
	now := time.Now()
	pass := func(subject, key string, wantHeld int, want bool) {
		t.Helper()
		held, _, ok := l.pass(subject, key, now)
		if ok != want || held != wantHeld {
			t.Errorf("%s %s: %d, %t, want %d, %t", subject, key, held, ok, wantHeld, want)
		}
	}
	pass("dial", "b1 refused", 0, true)
	for range 1000 {
		pass("dial", "b1 refused", 0, false)
	}
	pass("dial", "b2 refused", 0, true) // not hidden behind b1
	pass("dial", "b1 no such host", 0, true)
	pass("route", "b1 refused", 0, true)
	now = now.Add(holdBack - 1)
	pass("dial", "b1 refused", 0, false)
	now = now.Add(1)
	pass("dial", "b1 refused", 1001, true)
	pass("dial", "b1 refused", 0, false)
	now = now.Add(holdBack)
	pass("dial", "b1 refused", 1, true)
}

func TestMemoryIsBounded(t *testing.T) {
	var l Logger
	now := time.Now()
	told := 0
	for i := range 100_000 {
		if _, _, ok := l.pass("route", fmt.Sprint("name ", i), now); ok {
			told++
		}
	}
	if told > maxKeys+1 {
		t.Errorf("%d messages at once, want %d at the most", told, maxKeys+1)
	}
	if n := len(l.subjects["route"]); n > maxKeys+1 {
		t.Errorf("%d keys are remembered, want %d at the most", n, maxKeys+1)
	}
	if _, _, ok := l.pass("dial", "a broker is down", now); !ok {
		t.Error("a flood of one subject hides another")
	}
	now = now.Add(holdBack)
	if _, _, ok := l.pass("route", "a new name", now); !ok {
		t.Error("a flood that is over still hides what is new")
	}
}

func TestKeyLeavesOutWhatDiffersEachTime(t *testing.T) {
	at := func(port int) error {
		return fmt.Errorf("TLS with broker b: %w", &net.OpError{Op: "read", Net: "tcp", Err: syscall.ETIMEDOUT,
			Source: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: port}, Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 9092}})
	}
	if a, b := Key(at(1)), Key(at(2)); a != b {
		t.Errorf("%q and %q should have one key", a, b)
	}
	if a, b := Key(errors.New("connecting to broker b1:9092: refused")), Key(errors.New("connecting to broker b2:9092: refused")); a == b {
		t.Errorf("%q and %q should have two keys", a, b)
	}
}
