package credentials

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"strings"
	"sync"
	"time"
	"unicode"

	"kafka-sni-proxy/internal/sasl"
	"kafka-sni-proxy/internal/text"
)

const (
	// maxRuns is how many commands run at once: each is a process.
	maxRuns = 8
	// maxKept is for how many principals an answer is kept.
	maxKept = 10_000
	// failurePause is for how long a failure is the answer, so that what is broken is not asked
	// again by each client that comes.
	failurePause = 5 * time.Second
	// maxComplaint is how much of what a command says to standard error is logged, in bytes.
	maxComplaint = 200
	// killWait is how long the pipes of a command that was killed may stay open.
	killWait = time.Second
)

// helper is a command that prints credentials. By its exit code 3 it says that there is none
// for the principal.
type helper struct {
	command []string
	timeout time.Duration
	age     time.Duration
	now     func() time.Time
	turns   chan struct{}

	mu   sync.Mutex
	kept map[string]*run // by principal
}

// NoneExitCode is the exit code by which a command says that a principal has no credential.
const NoneExitCode = 3

// run is a run of the command for a principal, or what it has said.
type run struct {
	done  chan struct{} // closed when the rest is set
	said  func() sasl.Secret
	err   error
	until time.Time
}

func newHelper(command []string, timeout, age time.Duration) (*helper, error) {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return nil, fmt.Errorf("the command for credentials cannot be run: %w", err)
	}
	all := append([]string{path}, command[1:]...)
	return &helper{command: all, timeout: timeout, age: age, now: time.Now, turns: make(chan struct{}, maxRuns), kept: map[string]*run{}}, nil
}

// of returns the credential of a principal; fs.ErrNotExist: it has none. Those who ask for the
// same one at once share one run, which goes on when one of them goes away.
func (h *helper) of(ctx context.Context, principal string) (sasl.Secret, error) {
	if principal == "" || principal[0] == '-' || strings.ContainsFunc(principal, unicode.IsControl) {
		return "", fs.ErrNotExist // it could be an option of the command
	}
	h.mu.Lock()
	r := h.kept[principal]
	if r == nil || r.isOver() && !h.now().Before(r.until) {
		r = &run{done: make(chan struct{})}
		h.keep(principal, r)
		go h.run(principal, r)
	}
	h.mu.Unlock()
	select {
	case <-r.done:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if r.err != nil {
		return "", r.err
	}
	return r.said(), nil
}

// isOver reports whether a run has ended.
func (r *run) isOver() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// keep keeps a run; some other one, which is over, makes room. The caller holds the lock.
func (h *helper) keep(principal string, r *run) {
	if len(h.kept) >= maxKept {
		for other, of := range h.kept {
			if of.isOver() {
				delete(h.kept, other)
				break
			}
		}
	}
	h.kept[principal] = r
}

// run runs the command for a principal.
func (h *helper) run(principal string, r *run) {
	defer close(r.done)
	said, err := h.ask(principal)
	r.said, r.err = func() sasl.Secret { return said }, err
	r.until = h.now().Add(h.age)
	if err != nil {
		r.until = h.now().Add(min(failurePause, h.age))
	}
}

func (h *helper) ask(principal string) (sasl.Secret, error) {
	ctx, cancel := context.WithTimeout(context.Background(), h.timeout)
	defer cancel()
	select {
	case h.turns <- struct{}{}:
		defer func() { <-h.turns }()
	case <-ctx.Done():
		return "", fmt.Errorf("%s: %d other runs of it have not ended for %v", h.command[0], maxRuns, h.timeout)
	}
	args := make([]string, len(h.command)-1)
	for i, a := range h.command[1:] {
		args[i] = strings.ReplaceAll(a, placeholder, principal)
	}
	var out, complaint limitedBuffer
	out.most, complaint.most = MaxCredential+1, 4<<10
	cmd := exec.CommandContext(ctx, h.command[0], args...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &complaint, killWait
	killAll(cmd)
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s has not ended after %v, and was killed", h.command[0], h.timeout)
	case errors.As(err, &exit) && exit.ExitCode() == NoneExitCode:
		return "", fs.ErrNotExist
	case err != nil:
		line, _, _ := bytes.Cut(bytes.TrimSpace(complaint.kept), []byte{'\n'})
		return "", fmt.Errorf("%s: %w: %q", h.command[0], err, text.Cut(string(line), maxComplaint))
	}
	return checkCredential(out.kept, "what "+h.command[0]+" has printed")
}

// limitedBuffer keeps the first bytes that are written, and takes the others. It does not embed
// a bytes.Buffer: os/exec would call the ReadFrom of that, which takes all.
type limitedBuffer struct {
	kept []byte
	most int
}

var _ io.Writer = (*limitedBuffer)(nil)

// Write implements io.Writer.
func (b *limitedBuffer) Write(p []byte) (int, error) {
	b.kept = append(b.kept, p[:min(len(p), b.most-len(b.kept))]...)
	return len(p), nil
}
