package server

import "testing"

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
