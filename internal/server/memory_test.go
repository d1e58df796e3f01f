package server

import (
	"testing"
	"time"
)

func TestMemoryIsReleasedOnceAfterMuchWork(t *testing.T) {
	var m memory
	work := int64(0)
	for i, step := range []struct {
		more int64
		due  bool
	}{
		{0, false},              // nothing was done yet
		{muchWork + 1, false},   // busy
		{muchWork, false},       // still busy
		{littleWork - 1, true},  // and now quiet
		{0, false},              // already released
		{littleWork - 1, false}, // little since
		{muchWork + 1, false},   // busy again
		{0, true},
	} {
		work += step.more
		if due := m.isDue(work); due != step.due {
			t.Errorf("step %d: due is %t", i, due)
		}
	}
}

func TestMemoryIsReleasedAfterABurstOfConnections(t *testing.T) {
	fired := make(chan bool, 1)
	var b burst
	b.timer = time.AfterFunc(time.Hour, func() { fired <- b.over(4 * burstSize) })
	for range burstSize - 1 {
		b.opened()
	}
	if b.over(0) {
		t.Error("after less than a burst")
	}
	b.opened()
	if !<-fired {
		t.Error("not after a burst")
	}
	if b.over(0) {
		t.Error("twice for one burst")
	}
	for range burstSize {
		b.opened()
	}
	if b.over(4*burstSize + 4) {
		t.Error("for a few among many, which all have to be looked at")
	}
}
