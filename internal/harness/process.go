package harness

import (
	"bytes"
	"cmp"
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

// Command is what to start. Only Args is required.
type Command struct {
	// Args are the program and its arguments.
	Args []string
	// Name is for messages; "" means the program's name.
	Name string
	// Dir is the working directory.
	Dir string
	// Output is the file to which both outputs are appended; "" means Name.out
	// in Dir.
	Output string
	// Line, when not nil, is called with each line of standard output too.
	Line func(line string)
	// Stdout, when not nil, gets standard output instead of the file.
	Stdout *os.File
}

// Process is a started program. Its methods may be called concurrently.
type Process struct {
	Name   string
	Output string         // the file with what it has printed
	Stdin  io.WriteCloser // nil for an adopted process

	process *os.Process
	leads   bool // it leads a process group of its own
	done    chan struct{}
	err     error // how it ended; set when done is closed
}

// ErrKilled is in the error of [Process.Stop] when the process had to be killed.
var ErrKilled = errors.New("it had to be killed")

// Start starts a program, with [Environment]. It is killed when ctx ends.
func Start(ctx context.Context, c Command) (*Process, error) {
	c.Name = cmp.Or(c.Name, filepath.Base(c.Args[0]))
	c.Output = cmp.Or(c.Output, filepath.Join(c.Dir, c.Name+".out"))
	output, err := os.OpenFile(c.Output, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.Name, err)
	}
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Dir, cmd.Env = c.Dir, Environment()
	lines := &lineWriter{line: c.Line}
	cmd.Stdout, cmd.Stderr = c.stdout(output, lines), output
	cmd.WaitDelay = 5 * time.Second
	cmd.Cancel = func() error { return killGroup(cmd.Process) }
	lead(cmd)
	p := &Process{Name: c.Name, Output: c.Output, leads: true, done: make(chan struct{})}
	if p.Stdin, err = cmd.StdinPipe(); err == nil {
		err = cmd.Start()
	}
	if err != nil {
		output.Close()
		return nil, fmt.Errorf("starting %s: %w", c.Name, err)
	}
	p.process = cmd.Process
	go func() {
		err := cmd.Wait()
		lines.flush()
		output.Close()
		if ctx.Err() != nil && err != nil {
			err = fmt.Errorf("%w (%s)", context.Cause(ctx), err)
		}
		p.end(err)
	}()
	return p, nil
}

func (c Command) stdout(output *os.File, lines *lineWriter) io.Writer {
	switch {
	case c.Stdout != nil:
		return c.Stdout
	case c.Line != nil:
		return io.MultiWriter(output, lines)
	default:
		return output
	}
}

// Adopt waits for the end of a process that is a child of this one but was
// started by another, such as a proxy that has replaced itself.
func Adopt(process *os.Process, name, output string) *Process {
	p := &Process{Name: name, Output: output, process: process, done: make(chan struct{})}
	go func() {
		state, err := process.Wait()
		if err == nil && !state.Success() {
			err = errors.New(state.String())
		}
		p.end(err)
	}()
	return p
}

func (p *Process) end(err error) {
	p.err = err
	close(p.done)
}

// Run runs a program to its end and returns what it printed.
func Run(ctx context.Context, c Command) (string, error) {
	p, err := Start(ctx, c)
	if err != nil {
		return "", err
	}
	p.Stdin.Close()
	err = p.Wait()
	output, readErr := os.ReadFile(p.Output)
	return string(output), errors.Join(err, readErr)
}

// PID is the process's id.
func (p *Process) PID() int { return p.process.Pid }

// Done returns a channel that is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait returns when the process has ended. A status other than 0 is an error,
// which shows the end of its output.
func (p *Process) Wait() error {
	<-p.done
	if p.err != nil {
		return p.explain(p.err)
	}
	return nil
}

// Alive is an error once the process has ended, however that was.
func (p *Process) Alive() error {
	select {
	case <-p.done:
		return p.explain(fmt.Errorf("it has ended by itself: %w", cmp.Or(p.err, errStatus0)))
	default:
		return nil
	}
}

var errStatus0 = errors.New("exit status 0")

func (p *Process) explain(err error) error {
	return fmt.Errorf("%s: %w; the end of %s:\n%s", p.Name, err, p.Output, p.Tail(12))
}

// Signal sends a signal to the process, and not to what it has started.
func (p *Process) Signal(s os.Signal) error { return p.process.Signal(s) }

// Stop asks the process to end (SIGTERM) and returns how it did: nil when that
// was with status 0. When it is still there after patience it is ended with
// [Process.Abort], and the error is [ErrKilled].
func (p *Process) Stop(patience time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.Kill()
		return fmt.Errorf("%s: SIGTERM: %w", p.Name, err)
	}
	select {
	case <-p.done:
		if p.leads {
			killGroup(p.process) // a child that has outlived it
		}
		return p.Wait()
	case <-time.After(patience):
		p.Abort()
		return p.explain(fmt.Errorf("%w: it was still there %v after SIGTERM", ErrKilled, patience))
	}
}

// Abort has the process write to its output where all its goroutines or threads
// are, as Go and Java programs do at SIGQUIT, and ends it.
func (p *Process) Abort() {
	if p.Signal(syscall.SIGQUIT) == nil {
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
		}
	}
	p.Kill()
}

// Kill ends the process and what it has started at once, as a crash would. After
// the process has ended it does nothing: its id may be another's by then.
func (p *Process) Kill() {
	select {
	case <-p.done:
		return
	default:
	}
	if p.leads {
		killGroup(p.process)
	} else {
		p.process.Kill()
	}
	<-p.done
}

// Await tries until it works, the process ends, or the time is over.
func (p *Process) Await(ctx context.Context, patience time.Duration, what string, try func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%v are over", patience))
	defer cancel()
	return Await(ctx, what, func() error {
		err := try()
		if err == nil {
			return nil
		}
		if ended := p.Alive(); ended != nil {
			return Final(ended)
		}
		return err
	})
}

// Tail returns the last lines of what the process has printed, indented.
func (p *Process) Tail(n int) string { return Tail(p.Output, n) }

// Tail returns the last lines of a file, indented. What a Go program writes at
// SIGQUIT is left out: it is long.
func Tail(file string, n int) string {
	content, err := os.ReadFile(file)
	if err != nil {
		return "    " + err.Error()
	}
	content, _, _ = bytes.Cut(content, []byte("SIGQUIT: quit\n"))
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return "    " + strings.Join(lines[max(0, len(lines)-n):], "\n    ")
}

// lineWriter calls line with each whole line that is written to it.
type lineWriter struct {
	line func(string)
	part []byte
}

// maxLine is where a line that is longer is cut: its memory has a bound.
const maxLine = 1 << 20

func (w *lineWriter) Write(b []byte) (int, error) {
	w.part = append(w.part, b...)
	for {
		line, rest, whole := bytes.Cut(w.part, []byte("\n"))
		if !whole && len(line) < maxLine {
			return len(b), nil
		}
		w.line(strings.TrimSuffix(string(line), "\r"))
		w.part = append(w.part[:0], rest...)
	}
}

// flush hands over what is left without an end of line.
func (w *lineWriter) flush() {
	if len(w.part) > 0 {
		w.line(string(w.part))
		w.part = nil
	}
}
