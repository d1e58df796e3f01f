package main

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPulseTellsTheLongestGapOfTheWorstPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPulse(2)
		for range 10 { // partition 1 gives nothing
			p.came(0, time.Now())
			time.Sleep(time.Second)
		}
		p.came(1, time.Now())
		if got := p.gap(); got != 10*time.Second {
			t.Errorf("got %s, want 10 s", got)
		}
		time.Sleep(2 * time.Second)
		p.came(0, time.Now())
		if got := p.gap(); got != 3*time.Second {
			t.Errorf("got %s, want 3 s, of partition 0", got)
		}
		time.Sleep(time.Second)
		if got := p.gap(); got != 3*time.Second {
			t.Errorf("got %s, want the 3 s that partition 1 has been without", got)
		}
	})
}

func TestPulseAwaitsWhatWasSentSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPulse(2)
		before := time.Now()
		time.Sleep(time.Second)
		through := make(chan error, 1)
		go func() { through <- p.awaitAll(t.Context()) }()
		synctest.Wait()
		time.Sleep(time.Second)
		p.came(0, time.Now())
		p.came(1, before) // was under way already
		synctest.Wait()
		select {
		case <-through:
			t.Error("partition 1 has given nothing new")
		default:
		}
		p.came(1, time.Now())
		if err := <-through; err != nil {
			t.Error(err)
		}
	})
}
