package harness

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

// StartRole starts this program once more, as a process of its own, so that its
// CPU time and its descriptors can be told from this one's. c.Args begins with the
// role, which is what the program finds as its first argument; c.Name is the role
// too unless it is given. What it says on standard output is the caller's to read
// and to close. A role should end when its standard input does.
func StartRole(ctx context.Context, c Command) (*Process, *os.File, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	if c.Name == "" {
		c.Name = c.Args[0]
	}
	c.Args = append([]string{program}, c.Args...)
	// Not a pipe of exec's, which is closed under the reader when the process
	// ends.
	stdout, theirs, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer theirs.Close()
	c.Stdout = theirs
	p, err := Start(ctx, c)
	if err != nil {
		stdout.Close()
		return nil, nil, err
	}
	return p, stdout, nil
}

// StartServer starts this program in a role that is served by [ServeRole], and
// returns the address it says that it listens on.
func StartServer(ctx context.Context, c Command) (*Process, string, error) {
	p, stdout, err := StartRole(ctx, c)
	if err != nil {
		return nil, "", err
	}
	defer stdout.Close()
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		p.Stdin.Close()
		return nil, "", errors.Join(fmt.Errorf("%s said no address: %w", p.Name, err), p.Wait())
	}
	return p, strings.TrimSpace(address), nil
}

// ServeRole is the other end of [StartServer]: it listens, says where on stdout,
// and calls serve for each connection on a goroutine of its own, until stdin ends,
// as it does when the parent is gone. Connections are then left to the end of the
// process.
func ServeRole(address string, stdin io.Reader, stdout io.Writer, serve func(net.Conn)) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	defer ln.Close()
	if _, err := fmt.Fprintln(stdout, ln.Addr()); err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				failed <- err
				return
			}
			go serve(c)
		}
	}()
	parent := make(chan struct{})
	go func() {
		io.Copy(io.Discard, stdin)
		close(parent)
	}()
	select {
	case <-parent:
		return nil
	case err := <-failed:
		return fmt.Errorf("accept: %w", err)
	}
}
