package tlswire

import (
	"syscall"
	"unsafe"
)

// canUseRaw says that a socket can be read and written by its descriptor.
const canUseRaw = true

// readFD and writeFD make their system call without telling the scheduler. It
// would wake a thread to look after one that may block, which costs more than a
// small request; a descriptor that does not block needs no looking after.

func readFD(fd uintptr, p []byte) (int, error) { return transfer(syscall.SYS_READ, fd, p) }

func writeFD(fd uintptr, p []byte) (int, error) { return transfer(syscall.SYS_WRITE, fd, p) }

func transfer(call, fd uintptr, p []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}
