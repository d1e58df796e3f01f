package main

import "golang.org/x/sys/unix"

// limitFiles sets how many descriptors another process may have from now on, and
// returns how many it was allowed before. Those that it has stay open.
func limitFiles(pid int, most uint64) (before uint64, err error) {
	var old unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		return 0, err
	}
	limit := unix.Rlimit{Cur: min(most, old.Max), Max: old.Max}
	return old.Cur, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil)
}

// adoptOrphans has processes become children of this one when those that started
// them have ended.
func adoptOrphans() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }
