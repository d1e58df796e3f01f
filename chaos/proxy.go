package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"kafka-sni-proxy/bench/procfs"
)

// program is the running proxy. Its log goes to a file, that of all its
// lives to one.
type program struct {
	process *os.Process
	admin   string
	ended   chan struct{} // closed when err is set
	err     error
	// explained is set when it was made to end, to say where everybody waits.
	explained bool
}

// launch starts the proxy and returns once it is ready.
func launch(ctx context.Context, binary, dir, log, admin string, args []string) (*program, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	cmd := exec.Command(binary, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, file, file
	// What is set for the user's own proxy is not meant for this one.
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "KAFKA_SNI_PROXY_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	procfs.EndWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the proxy: %w", err)
	}
	p := own(cmd.Process, admin)
	if err := p.await(ctx, 20*time.Second, "the proxy does not listen", func() error {
		_, err := p.get("/healthz")
		return err
	}); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// own waits for the end of a process, which is a child of this one.
func own(process *os.Process, admin string) *program {
	p := &program{process: process, admin: admin, ended: make(chan struct{})}
	go func() {
		state, err := process.Wait()
		if err == nil && !state.Success() {
			err = errors.New(state.String())
		}
		p.err = err
		close(p.ended)
	}()
	return p
}

// await tries until it works, the proxy ends, or the time is over.
func (p *program) await(ctx context.Context, patience time.Duration, what string, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s: the proxy has ended: %v", what, p.err)
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// stop has the proxy drain, and expects it to end cleanly in time.
func (p *program) stop(patience time.Duration) error {
	if err := p.process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.ended:
		if p.err != nil {
			return fmt.Errorf("the proxy was to drain and end with 0, but: %w", p.err)
		}
		return nil
	case <-time.After(patience):
		p.explain()
		return fmt.Errorf("the proxy was still there %v after SIGTERM", patience)
	}
}

func (p *program) kill() {
	p.process.Kill()
	<-p.ended
}

// explain has the proxy write the stacks of all its goroutines to its log, and
// end.
func (p *program) explain() {
	p.explained = true
	p.process.Signal(syscall.SIGQUIT)
	select {
	case <-p.ended:
	case <-time.After(10 * time.Second):
		p.kill()
	}
}

// alive is an error when the proxy has ended by itself.
func (p *program) alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("the proxy has ended by itself: %v", p.err)
	default:
		return nil
	}
}

var admin = &http.Client{
	Timeout:   5 * time.Second,
	Transport: &http.Transport{DisableKeepAlives: true}, // its descriptors are counted
}

func (p *program) get(path string) ([]byte, error) {
	resp, err := admin.Get("http://" + p.admin + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(body))
	}
	return body, err
}

// vitals are what must be the same before and after.
type vitals struct {
	Connections, Goroutines, Descriptors int
	Resident                             int64 // bytes
}

func (v vitals) String() string {
	return fmt.Sprintf("%d connections, %d goroutines, %d descriptors, %.0f MiB resident",
		v.Connections, v.Goroutines, v.Descriptors, float64(v.Resident)/(1<<20))
}

func (p *program) vitals() (v vitals, err error) {
	body, err := p.get("/metrics")
	if err != nil {
		return v, err
	}
	found := 0
	for in := bufio.NewScanner(bytes.NewReader(body)); in.Scan(); {
		name, value, _ := strings.Cut(in.Text(), " ")
		to, ok := map[string]*int{
			"kafka_sni_proxy_connections": &v.Connections,
			"go_goroutines":               &v.Goroutines,
			"process_open_fds":            &v.Descriptors,
		}[name]
		if !ok {
			continue
		}
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return v, fmt.Errorf("%s: %w", name, err)
		}
		*to = int(number)
		found++
	}
	if found != 3 {
		return v, errors.New("/metrics lacks connections, goroutines or descriptors")
	}
	memory, err := procfs.ReadMemory(p.process.Pid)
	v.Resident = memory.Resident
	return v, err
}
