package procfs

import (
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestStatIsReadPastAnyProgramName(t *testing.T) {
	const rest = ` S 1 2 3 4 5 6 7 8 9 10 1234 56 0 0 20 0 7 0 999 1 2`
	for _, name := range []string{"(proxy)", "(a b)", "(a) S 1 (b)"} {
		u, err := parseStat([]byte("42 " + name + rest))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if u.User != 12340*time.Millisecond || u.System != 560*time.Millisecond || u.Threads != 7 {
			t.Errorf("%s: got %+v", name, u)
		}
	}
	for _, broken := range []string{"", "42 (x", "42 (x) S 1 2", "42 (x) S 1 2 3 4 5 6 7 8 9 10 a b 0 0 20 0 7 0"} {
		if _, err := parseStat([]byte(broken)); err == nil {
			t.Errorf("%q: no error", broken)
		}
	}
}

func TestFieldsAreReadInBytes(t *testing.T) {
	file := []byte("Name:\tproxy\nVmRSS:\t    2048 kB\nThreads:\t9\nVmRSSX:\t1 kB\n")
	got, err := parseFields(file, "VmRSS", "Threads")
	if err != nil || got[0] != 2<<20 || got[1] != 9 {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := parseFields(file, "Private_Dirty"); err == nil {
		t.Error("a missing line is no error")
	}
}

// TestOwnUsage burns a known amount of CPU and memory and finds it again.
func TestOwnUsage(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has /proc")
	}
	debug.FreeOSMemory() // what an earlier run has left would be taken again
	before, err := Read(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	memory, err := ReadMemory(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	held := make([]byte, 64<<20)
	sum := 0
	for used := time.Duration(0); used < 50*time.Millisecond; {
		for i := range held {
			held[i] += byte(i)
			sum += int(held[i])
		}
		after, err := Read(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		used = after.Sub(before).CPU
		if ticks := after.Sub(before).User + after.Sub(before).System; used-ticks > 50*time.Millisecond || ticks-used > 50*time.Millisecond {
			t.Fatalf("the CPU clock says %v, /proc says %v", used, ticks)
		}
		if after.Threads < 1 {
			t.Fatalf("%d threads", after.Threads)
		}
	}
	grown, err := ReadMemory(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if delta := grown.Resident - memory.Resident; delta < 32<<20 {
		t.Errorf("64 MiB were touched, resident memory grew by %d bytes", delta)
	}
	if delta := grown.Private - memory.Private; delta < 32<<20 {
		t.Errorf("64 MiB were touched, private memory grew by %d bytes", delta)
	}
	runtime.KeepAlive(sum)
}
