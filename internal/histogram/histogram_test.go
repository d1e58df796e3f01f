package histogram

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestBuckets holds index against End: a bucket has what is above the end of the one before,
// up to its own.
func TestBuckets(t *testing.T) {
	check := func(d time.Duration) {
		t.Helper()
		i := index(d)
		if s := float64(d) * 1e-9; s > End(i) && i != Buckets-1 || i > 0 && s <= End(i-1) {
			t.Errorf("%v is in the bucket that ends with %v s", d, End(i))
		}
	}
	for i := range Buckets {
		end := time.Duration(End(i) * 1e9)
		for _, d := range []time.Duration{end - 1, end, end + 1, end + 2} {
			check(d)
		}
	}
	for range 100_000 {
		check(time.Duration(math.Exp(rand.Float64() * 26)))
	}
	for d, want := range map[time.Duration]int{-time.Second: 0, 0: 0, 1: 0, time.Hour: Buckets - 1, time.Second: -First, math.MaxInt64: Buckets - 1} {
		if got := index(d); got != want {
			t.Errorf("%v is in bucket %d, want %d", d, got, want)
		}
	}
}

func TestQuantiles(t *testing.T) {
	var h Histogram
	var all []float64
	var writers sync.WaitGroup
	for range 10_000 {
		d := time.Duration(math.Exp(8 + 8*rand.Float64()))
		all = append(all, d.Seconds())
		writers.Go(func() { h.Add(d) })
	}
	writers.Wait()
	slices.Sort(all)
	var s Snapshot
	h.AddTo(&s)
	if s.Count != 10_000 || s.Sum < time.Duration(1e9*all[9_999]) {
		t.Fatalf("%d, %v", s.Count, s.Sum)
	}
	for _, q := range []float64{0, 0.001, 0.5, 0.9, 0.99, 1} {
		exact := all[max(int(math.Ceil(q*10_000)), 1)-1]
		if got, ok := s.Quantile(q); !ok || got < exact*0.999999 || got > exact*1.19 {
			t.Errorf("the quantile %v is %v, want %v", q, got, exact)
		}
	}
	before := s
	h.Add(time.Minute)
	var after Snapshot
	h.AddTo(&after)
	d := after.Since(&before)
	if got, _ := d.Quantile(0.5); d.Count != 1 || d.Sum != time.Minute || got < 60 || got > 72 {
		t.Errorf("since then %d, %v, %v", d.Count, d.Sum, got)
	}
	if back := before.Since(&after); back.Count != 0 || back.Sum != 0 {
		t.Errorf("%+v", back)
	}
	if _, ok := new(Snapshot).Quantile(0.5); ok {
		t.Error("nothing has a quantile")
	}
}

func BenchmarkAdd(b *testing.B) {
	var h Histogram
	for i := range b.N {
		h.Add(time.Duration(i & 0xfffff))
	}
}

func BenchmarkAddParallel(b *testing.B) {
	var h Histogram
	b.RunParallel(func(p *testing.PB) {
		for d := time.Duration(0); p.Next(); d += 997 {
			h.Add(d & 0xfffff)
		}
	})
}
