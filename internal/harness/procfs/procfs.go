// Package procfs reads what a process of this machine costs: its CPU time,
// threads, context switches and resident memory. It reads Linux's /proc; on
// other systems every call returns [errors.ErrUnsupported].
package procfs

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process has used since it began.
type Usage struct {
	// CPU is the time on a processor of all its threads, those that have ended
	// included, to the nanosecond.
	CPU time.Duration
	// User and System are its two parts as the kernel accounts for them, to the
	// clock tick, which is 10 ms.
	User, System time.Duration
	// Threads is how many there are now.
	Threads int
	// Waits counts how often a thread gave up its processor to wait, summed over
	// the threads there are now.
	Waits int64
}

// Sub returns what was used since before.
func (u Usage) Sub(before Usage) Usage {
	u.CPU -= before.CPU
	u.User -= before.User
	u.System -= before.System
	u.Waits -= before.Waits
	return u
}

// Memory is how much of the machine's memory a process holds, in bytes.
type Memory struct {
	// Resident is VmRSS: all pages that are in memory, those of the program
	// file included.
	Resident int64
	// Private is what the process shares with no other: what ending it would
	// free.
	Private int64
}

// tick is the unit of times in /proc/<pid>/stat: USER_HZ, which is 100 on
// every architecture that Go runs on.
const tick = 10 * time.Millisecond

// parseStat reads user time, system time and the number of threads from
// /proc/<pid>/stat (proc(5), fields 14, 15 and 20). The second field is the
// program's name in brackets, and may itself hold spaces and brackets.
func parseStat(stat []byte) (u Usage, err error) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return u, fmt.Errorf("no program name in %q", stat)
	}
	fields := strings.Fields(string(stat[end+1:])) // fields[0] is field 3
	if len(fields) < 18 {
		return u, fmt.Errorf("%d fields after the program's name, 18 are needed", len(fields))
	}
	var numbers [3]int64
	for i, field := range []int{14, 15, 20} {
		if numbers[i], err = strconv.ParseInt(fields[field-3], 10, 64); err != nil {
			return u, fmt.Errorf("field %d: %w", field, err)
		}
	}
	u.User, u.System = time.Duration(numbers[0])*tick, time.Duration(numbers[1])*tick
	u.Threads = int(numbers[2])
	return u, nil
}

// parseFields reads "Name:   123 kB" lines, as /proc/<pid>/status and
// smaps_rollup have them. Sizes are returned in bytes. A name that is not
// there is an error.
func parseFields(file []byte, names ...string) ([]int64, error) {
	values := make([]int64, len(names))
	found := make([]bool, len(names))
	for line := range strings.Lines(string(file)) {
		name, rest, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		for i := range names {
			if names[i] != name {
				continue
			}
			number, isKB := strings.CutSuffix(strings.TrimSpace(rest), " kB")
			value, err := strconv.ParseInt(number, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if isKB {
				value *= 1024
			}
			values[i], found[i] = value, true
		}
	}
	for i := range found {
		if !found[i] {
			return nil, fmt.Errorf("no line %q", names[i])
		}
	}
	return values, nil
}
