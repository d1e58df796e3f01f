//go:build unix

package accesslog

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// standardOutput returns standard output as a file of its own number. To the numbers 1 and 2,
// a write that nobody reads any more would end the program (os/signal, SIGPIPE).
func standardOutput(out io.Writer) file {
	f, ok := out.(*os.File)
	if !ok {
		return unclosed{out}
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return unclosed{out}
	}
	fd := -1
	if err := raw.Control(func(of uintptr) { fd, err = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 3) }); err != nil || fd < 0 {
		return unclosed{out}
	}
	return os.NewFile(uintptr(fd), f.Name())
}

// mayMakeFiles reports whether there is a folder in which this user may make files.
func mayMakeFiles(folder string) error {
	if err := unix.Access(folder, unix.W_OK|unix.X_OK); err != nil {
		return &os.PathError{Op: "make a file in", Path: folder, Err: err}
	}
	return nil
}
