package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"
)

// process is the running proxy and what it has logged.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when err is set
	err   error

	mu     sync.Mutex
	lines  []string // the last of them
	routes []learned
}

// learned is what the proxy says when it has learned where a broker lives.
type learned struct {
	Message  string `json:"msg"`
	Node     int32  `json:"node"`
	Name     string `json:"name"`
	Upstream string `json:"upstream"`
}

func start(binary, dir string, args []string) (*process, error) {
	p := &process{cmd: exec.Command(binary, args...), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env = dir, environment()
	log, w := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the proxy: %w", err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		p.read(log)
	}()
	go func() {
		p.err = p.cmd.Wait()
		w.Close()
		<-read
		close(p.ended)
	}()
	return p, nil
}

func (p *process) read(log io.Reader) {
	scanner := bufio.NewScanner(log)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		line := scanner.Text()
		var l learned
		isLearned := json.Unmarshal([]byte(line), &l) == nil && l.Message == "learned broker"
		p.mu.Lock()
		p.lines = append(p.lines[max(0, len(p.lines)-99):], line)
		if isLearned {
			p.routes = append(p.routes, l)
		}
		p.mu.Unlock()
	}
	io.Copy(io.Discard, log) // a line too long must not stop the proxy
}

// await tries until it works, the process ends, or ten seconds are over.
func (p *process) await(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("the proxy ended at once: %w", p.exit())
		case <-ctx.Done():
			return fmt.Errorf("the proxy does not take connections: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// exit says how the process ended; it has.
func (p *process) exit() error {
	if p.err == nil {
		return errors.New("exit status 0")
	}
	return p.err
}

// stop asks the process to end and says whether it did so cleanly.
func (p *process) stop(patience time.Duration) error {
	select {
	case <-p.ended:
		return p.err
	default:
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.kill() // no signals on this system
		return nil
	}
	select {
	case <-p.ended:
		return p.err
	case <-time.After(patience):
		p.kill()
		return fmt.Errorf("it was still there %v after SIGTERM", patience)
	}
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

func (p *process) tail(n int) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lines[max(0, len(p.lines)-n):])
}

func (p *process) learned() []learned {
	p.mu.Lock()
	defer p.mu.Unlock()
	routes := slices.Clone(p.routes)
	slices.SortFunc(routes, func(a, b learned) int { return int(a.Node) - int(b.Node) })
	return routes
}
