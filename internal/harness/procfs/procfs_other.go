//go:build !linux

package procfs

import "errors"

// Read returns what a process has used so far.
func Read(int) (Usage, error) { return Usage{}, errors.ErrUnsupported }

// ReadMemory returns how much memory a process holds.
func ReadMemory(int) (Memory, error) { return Memory{}, errors.ErrUnsupported }

// MaxFiles returns how many files a process may have open at the most.
func MaxFiles() (int, error) { return 0, errors.ErrUnsupported }
