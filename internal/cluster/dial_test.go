package cluster

import (
	"context"
	"errors"
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

func TestHealthOfAddresses(t *testing.T) {
	var h health
	c := &Cluster{knowledge: &knowledge{}}
	a := route.Address{Host: "a", Port: 1}
	refused := &ConnectError{StageDial, errors.New("connection refused")}
	h.note(a, time.Millisecond, nil)
	h.note(a, time.Second, refused)
	down := h.all[a].Since
	h.note(a, time.Second, &ConnectError{StageTLS, errors.New("bad certificate")})
	is := *h.all[a]
	if is.OK || is.Dials != 3 || is.Errors != [stages]int64{1, 1, 0} || is.Failed() != 2 || is.Since != down || is.Err == nil || is.Times.Count != 1 || is.Took != time.Second {
		t.Errorf("%+v", is)
	}
	h.note(a, time.Millisecond, nil)
	if is = *h.all[a]; !is.OK || is.Since == down || is.Err == nil || is.ErrAt.IsZero() {
		t.Errorf("it is back: %+v", is)
	}
	for port := range int32(3 * maxHealth) {
		h.note(route.Address{Host: "b", Port: port}, 0, nil)
	}
	if len(h.all) != maxHealth {
		t.Errorf("%d addresses are kept, want %d", len(h.all), maxHealth)
	}
	if _, ok := h.all[route.Address{Host: "b", Port: 3*maxHealth - 1}]; !ok {
		t.Error("the last one is not kept")
	}
	if len(c.Health()) != 0 {
		t.Error("a cluster that was not dialled has addresses")
	}
}
