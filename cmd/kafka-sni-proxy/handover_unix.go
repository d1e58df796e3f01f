//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// successorVariable tells a new process the descriptor through which it is to
// say that it serves.
const successorVariable = "SUCCESSOR_OF_KAFKA_SNI_PROXY" // not like that of a flag

func notifyHandOver(c chan<- os.Signal) { signal.Notify(c, syscall.SIGUSR2) }

// startSuccessor starts the program anew, from its file as it is now and with
// the same flags, and waits until that serves, or ctx ends. It gets the sockets, in
// the way of systemd (sd_listen_fds(3)): the very same ones, with the connections
// that wait in them. Opening them twice, as SO_REUSEPORT allows, would lose those.
//
// A successor that has served is not waited for (wait(2)). When it dies, whoever
// inherits it when this process ends, which is the service manager, learns how.
func startSuccessor(ctx context.Context, p *sockets) (*successor, error) {
	if os.Getpid() == 1 {
		return nil, errors.New("this is process 1, with which all others end: start another container instead")
	}
	program, err := exec.LookPath(os.Args[0]) // not os.Executable, which is where a link led to
	if err != nil {
		return nil, err
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	var names []string
	for _, s := range p.clients() {
		files, names = append(files, nil), append(names, nameOf(s))
		if files[len(files)-1], err = copyOf(s.Listener); err != nil {
			return nil, err
		}
	}
	if p.admin != nil {
		files, names = append(files, nil), append(names, adminSocket)
		if files[len(files)-1], err = copyOf(p.admin); err != nil {
			return nil, err
		}
	}
	said, say, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	files = append(files, say)

	const first = 3 // descriptor of ExtraFiles
	cmd := exec.Command(program, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = files
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "LISTEN_") || strings.HasPrefix(v, "WATCHDOG_PID=")
	}),
		fmt.Sprintf("LISTEN_FDS=%d", len(names)),
		"LISTEN_FDNAMES="+strings.Join(names, ":"),
		fmt.Sprintf("%s=%d", successorVariable, first+len(names)))
	if err := cmd.Start(); err != nil {
		said.Close()
		return nil, err
	}
	say.Close() // so that its end is seen
	defer context.AfterFunc(ctx, func() { said.SetReadDeadline(time.Unix(1, 0)) })()
	if _, err := said.Read(make([]byte, 1)); err == nil {
		alive, died := context.WithCancel(context.Background())
		go func() {
			defer said.Close()
			if _, err := said.Read(make([]byte, 1)); err == io.EOF {
				died()
			}
		}()
		return &successor{cmd.Process.Pid, alive}, nil
	}
	said.Close()
	cmd.Process.Kill()
	if ended := cmd.Wait(); ctx.Err() == nil {
		return nil, fmt.Errorf("the new process has ended (%v); what it has written says why", ended)
	}
	return nil, context.Cause(ctx)
}

// copyOf returns a copy of a listener's descriptor. It stays non-blocking: the
// copy that the listener's File returns would not, nor would then the listener.
func copyOf(ln net.Listener) (*os.File, error) {
	raw, err := ln.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, dupErr := -1, error(nil)
	if err := raw.Control(func(of uintptr) { fd, dupErr = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, fmt.Errorf("copying the socket of %s: %w", ln.Addr(), dupErr)
	}
	return os.NewFile(uintptr(fd), ln.Addr().String()), nil
}

// succeed returns the process that has started this one by startSuccessor, nil
// for none.
func succeed() *predecessor {
	fd, err := strconv.Atoi(os.Getenv(successorVariable))
	if err != nil {
		return nil
	}
	os.Unsetenv(successorVariable)
	os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid())) // which could not be known before
	syscall.CloseOnExec(fd)
	return &predecessor{os.NewFile(uintptr(fd), "predecessor")}
}
