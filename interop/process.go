package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// process is one started program. It leads a process group of its own, so that
// ending it ends everything it started, and it ends with the context it was
// started with.
type process struct {
	name  string
	cmd   *exec.Cmd
	out   string // path of the file that gets both its outputs
	lines chan string
	stdin io.WriteCloser
	done  chan struct{} // closed once the process has ended and err is set
	err   error
}

// command is what to start. Only Args is required.
type command struct {
	Name string // for messages and for the output file; "": the program's name
	Args []string
	Dir  string // both the working directory and where the output file goes
	// Lines hands each line of standard output to process.lines too, which
	// holds more of them than a client of ours ever prints.
	Lines bool
}

// start runs a program. Its output goes to <dir>/<name>.out.
func start(ctx context.Context, c command) (*process, error) {
	if c.Name == "" {
		c.Name = filepath.Base(c.Args[0])
	}
	p := &process{name: c.Name, out: filepath.Join(c.Dir, c.Name+".out"), done: make(chan struct{})}
	file, err := os.OpenFile(p.out, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	p.cmd = exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	p.cmd.Dir = c.Dir
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Cancel = func() error { return p.signal(syscall.SIGKILL) }
	p.cmd.WaitDelay = 5 * time.Second
	p.cmd.Stdout, p.cmd.Stderr = file, file
	var tee *io.PipeWriter
	if c.Lines {
		var from *io.PipeReader
		from, tee = io.Pipe()
		p.lines = make(chan string, 1<<14)
		p.cmd.Stdout = io.MultiWriter(file, tee)
		go p.readLines(from)
	}
	if p.stdin, err = p.cmd.StdinPipe(); err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		file.Close()
		if tee != nil {
			tee.Close()
		}
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	go func() {
		err := p.cmd.Wait()
		file.Close()
		if tee != nil {
			tee.Close()
		}
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%s)", context.Cause(ctx), err)
		}
		p.err = err
		close(p.done)
	}()
	return p, nil
}

func (p *process) readLines(from io.Reader) {
	defer close(p.lines)
	scanner := bufio.NewScanner(from)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		p.lines <- scanner.Text()
	}
	// A line that is too long ends the scan, not the program.
	_, _ = io.Copy(io.Discard, from)
}

// signal goes to the whole process group.
func (p *process) signal(s syscall.Signal) error {
	return syscall.Kill(-p.cmd.Process.Pid, s)
}

// wait returns when the process has ended; a status other than 0 is an error
// that shows the end of its output.
func (p *process) wait() error {
	<-p.done
	if p.err != nil {
		return fmt.Errorf("%s: %w; the end of %s:\n%s", p.name, p.err, p.out, lastLines(p.out, 12))
	}
	return nil
}

// stop asks the process to end and returns its exit status, or -1 when it had
// to be killed.
func (p *process) stop(patience time.Duration) int {
	_ = p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
		// A child that outlived it would keep the group alive.
		_ = p.signal(syscall.SIGKILL)
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.kill()
		return -1
	}
}

// ended is a final error once the process has ended by itself.
func (p *process) ended() error {
	select {
	case <-p.done:
		return final{errors.Join(p.wait(), fmt.Errorf("%s has ended by itself", p.name))}
	default:
		return nil
	}
}

// kill ends the process at once, as a crash would.
func (p *process) kill() {
	_ = p.signal(syscall.SIGKILL)
	<-p.done
}

// runToEnd runs a program and returns what it printed.
func runToEnd(ctx context.Context, c command) (string, error) {
	p, err := start(ctx, c)
	if err != nil {
		return "", err
	}
	p.stdin.Close()
	err = p.wait()
	output, readErr := os.ReadFile(p.out)
	return string(output), errors.Join(err, readErr)
}

func lastLines(path string, n int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return "    " + strings.Join(lines[max(0, len(lines)-n):], "\n    ")
}

// final is an error after which watch need not try again.
type final struct{ error }

// watch calls check at short intervals until it reports no error or a final
// one, and returns its last error when the context ends first. Use it only for
// what cannot be waited for directly.
func watch(ctx context.Context, what string, check func() error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		if _, ok := errors.AsType[final](err); ok {
			return fmt.Errorf("%s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w (last: %w)", what, context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
