package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// successorTimeout is how long a new process may take until it serves.
const successorTimeout = 30 * time.Second

// successor is the process that has taken over.
type successor struct {
	pid int
	// alive ends when the process does, unless it had said that it would.
	alive context.Context
}

// predecessor is where the process that has started this one listens; nil: none
// has. This end stays open, so that its close tells of this process's end.
type predecessor struct{ pipe *os.File }

// What a process tells its predecessor.
const (
	serves = 's'
	ends   = 'e' // in good order: it has been told to, or another one has taken over
)

func (p *predecessor) tell(what byte) {
	if p != nil {
		p.pipe.Write([]byte{what}) // which may be gone
	}
}

// handOver has a new process take over the sockets. It returns nil when that
// cannot, or a signal to end comes first, which stays in signals: then this
// process goes on as if nothing had been.
func handOver(ctx context.Context, a *app, signals chan os.Signal) *successor {
	a.log.Info("handing over: starting a new process", "program", os.Args[0], "timeout", successorTimeout)
	notifyReloading(a.log)
	a.handingOver.Store(time.Now().UnixNano())
	defer a.handingOver.Store(0)
	ctx, cancel := context.WithTimeoutCause(ctx, successorTimeout, fmt.Errorf("the new process does not serve after %v", successorTimeout))
	defer cancel()
	ctx, told := context.WithCancelCause(ctx)
	stop := inBackground(func(done context.Context) {
		select {
		case s := <-signals:
			told(fmt.Errorf("a signal came before the new process served (%v)", s))
			select {
			case signals <- s:
			default: // full of others that say the same
			}
		case <-done.Done():
		}
	})
	next, err := startSuccessor(ctx, &a.sockets)
	stop()
	told(nil)
	if err != nil {
		a.log.Error("not handed over; this process goes on", "error", err)
		notifyReady(a)
		return nil
	}
	notify(a.log, daemon.SdNotifyReady, fmt.Sprintf("MAINPID=%d", next.pid))
	os.Unsetenv("NOTIFY_SOCKET") // what this process does is no longer the service's state
	a.log.Info("handed over; this process ends its connections one by one, and then itself",
		"pid", next.pid, "connections", a.server.Active(), "within", a.drainTimeout()/2)
	return next
}

// leave lets sessions go on and ends them little by little over half of
// --drain-timeout, or until there is a signal, and drains what is left. When the
// process that has taken over dies meanwhile, nobody accepts clients; then this one
// is quick, and fails, for whoever watches it to start the program anew.
func leave(ctx context.Context, a *app, next *successor, s signals) error {
	leaving, cancel := context.WithCancel(next.alive)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	stop := inBackground(func(over context.Context) {
		for {
			select {
			case s := <-s.end:
				a.log.Info("draining", "signal", s.String(), "timeout", a.drainTimeout(), "connections", a.server.Active())
				cancel()
				return
			case <-s.handOver:
				a.log.Warn("this process has been succeeded already: signal the new one", "pid", next.pid)
			case <-next.alive.Done():
				a.log.Error("the process that has taken over is gone: nobody accepts clients; draining, so that the program can be started anew", "pid", next.pid)
				return
			case <-over.Done():
				return
			}
		}
	})
	a.server.Leave(leaving, a.drainTimeout()/2)
	stop()
	err := drain(a, s.end)
	if next.alive.Err() != nil {
		err = errors.Join(fmt.Errorf("process %d, which had taken over, is gone", next.pid), err)
	}
	return err
}
