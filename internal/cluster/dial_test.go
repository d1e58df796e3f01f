package cluster

import (
	"context"
	"slices"
	"testing"
	"time"

	"kafka-sni-proxy/internal/route"
)

func TestFailedAddressesAreTriedLast(t *testing.T) {
	a, b, c := route.Address{Host: "a", Port: 1}, route.Address{Host: "b", Port: 1}, route.Address{Host: "c", Port: 1}
	all := []route.Address{a, b, c}
	var f failures
	want := func(want ...route.Address) {
		t.Helper()
		if got := f.sort(all); !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	want(a, b, c)
	f.note(b)
	want(a, c, b)
	f.note(a)
	want(c, b, a)
	f.note(c)
	want(b, a, c)
	f.forget(a)
	want(a, b, c)
	f.forget(b)
	f.forget(c)
	f.at[a] = time.Now().Add(-failureMemory) // long ago
	want(a, b, c)                            // for one to find out
	want(b, c, a)
	if all[0] != a {
		t.Error("what it was given has changed")
	}
}

func TestLastAddressHasTheWholeTime(t *testing.T) {
	c := &Cluster{config: Config{DialTimeout: 9 * time.Second}}
	if got := c.attemptTimeout(t.Context(), 1); got != 9*time.Second {
		t.Errorf("the last of them has %v", got)
	}
	if got := c.attemptTimeout(t.Context(), 2); got != 3*time.Second {
		t.Errorf("one with another behind it has %v", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	if got := c.attemptTimeout(ctx, 2); got > 2*time.Second {
		t.Errorf("one with another behind it and 4 s in all has %v", got)
	}
}
