//go:build unix

package proxy

import "syscall"

// canReadRaw says that a socket can be waited for without a buffer in hand.
const canReadRaw = true

func readFD(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), p)
		if err != syscall.EINTR {
			return n, err
		}
	}
}
