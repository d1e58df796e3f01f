package procfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Read returns what a process has used so far.
func Read(pid int) (Usage, error) {
	stat, err := os.ReadFile(path(pid, "stat"))
	if err != nil {
		return Usage{}, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	u, err := parseStat(stat)
	if err != nil {
		return Usage{}, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	if u.CPU, err = cpuClock(pid); err != nil {
		u.CPU = u.User + u.System
	}
	u.Waits, err = waits(pid)
	return u, err
}

// cpuClock reads the CPU-time clock of a process. /proc has the same figure
// only in ticks of 10 ms, too coarse for samples of a second.
func cpuClock(pid int) (time.Duration, error) {
	// MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of the kernel's posix-timers.h,
	// which is what clock_getcpuclockid(3) returns.
	const sched = 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &t); err != nil {
		return 0, err
	}
	return time.Duration(t.Nano()), nil
}

func waits(pid int) (int64, error) {
	tasks, err := filepath.Glob(path(pid, "task/*/status"))
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, task := range tasks {
		status, err := os.ReadFile(task)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread has ended meanwhile
		}
		if err != nil {
			return 0, err
		}
		n, err := parseFields(status, "voluntary_ctxt_switches")
		if err != nil {
			return 0, fmt.Errorf("context switches of process %d: %w", pid, err)
		}
		sum += n[0]
	}
	return sum, nil
}

// ReadMemory returns how much memory a process holds.
func ReadMemory(pid int) (Memory, error) {
	status, err := os.ReadFile(path(pid, "status"))
	if err != nil {
		return Memory{}, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	rss, err := parseFields(status, "VmRSS")
	if err != nil {
		return Memory{}, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	rollup, err := os.ReadFile(path(pid, "smaps_rollup"))
	if err != nil {
		return Memory{}, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	private, err := parseFields(rollup, "Private_Clean", "Private_Dirty")
	if err != nil {
		return Memory{}, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	return Memory{Resident: rss[0], Private: private[0] + private[1]}, nil
}

// MaxFiles returns how many files a process may have open at the most, and
// allows this one and its children as many.
func MaxFiles() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	limit.Cur = limit.Max
	// Go raises its own limit at start, but gives children the old one back
	// unless it was set here.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	return int(min(limit.Max, 1<<30)), nil
}

func path(pid int, file string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), file)
}
