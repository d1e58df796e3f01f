//go:build unix

package preflight

import "syscall"

// maxDescriptors returns how many files this program may open; 0 when that is not known. Go
// raises what it has to what it may have at the start.
func maxDescriptors() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return uint64(limit.Max)
}
