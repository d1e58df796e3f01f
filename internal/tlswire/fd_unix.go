//go:build unix && !linux

package tlswire

import "syscall"

// canUseRaw says that a socket can be read and written by its descriptor.
const canUseRaw = true

func readFD(fd uintptr, p []byte) (int, error) { return transfer(syscall.Read, fd, p) }

func writeFD(fd uintptr, p []byte) (int, error) { return transfer(syscall.Write, fd, p) }

func transfer(call func(fd int, p []byte) (int, error), fd uintptr, p []byte) (int, error) {
	for {
		n, err := call(int(fd), p)
		if err != syscall.EINTR {
			return n, err
		}
	}
}
