package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"

	"kafka-sni-proxy/internal/admin"
	"kafka-sni-proxy/internal/session"
)

// start checks everything, then serves until a signal.
func start(ctx context.Context, f *flags, stderr io.Writer) error {
	s := listenToSignals() // before anything is slow: each has its meaning from the start
	defer s.stop()
	a, err := build(f, stderr)
	if err != nil {
		return err
	}
	defer a.close()
	return serve(ctx, a, s)
}

// signals are what the program is told from outside.
type signals struct {
	end      chan os.Signal
	reload   chan os.Signal
	handOver chan os.Signal
}

func listenToSignals() signals {
	s := signals{end: make(chan os.Signal, 2), reload: make(chan os.Signal, 1), handOver: make(chan os.Signal, 1)}
	signal.Notify(s.end, syscall.SIGTERM, os.Interrupt)
	signal.Notify(s.reload, syscall.SIGHUP)
	notifyHandOver(s.handOver)
	return s
}

func (s signals) stop() {
	signal.Stop(s.end)
	signal.Stop(s.reload)
	signal.Stop(s.handOver)
}

// serve runs the proxy until a signal or the end of ctx, and then drains it.
func serve(ctx context.Context, a *app, s signals) error {
	background := startBackground(a, s)
	defer background.stop()
	ended := make(chan error, len(a.clients))
	for _, ln := range a.clients {
		go func() { ended <- a.serveClients(ln) }()
		a.log.Info("listening", a.describe(ln)...)
	}
	background.start(func(ctx context.Context) { feedWatchdog(ctx, a) })
	a.predecessor.tell(serves)
	defer a.predecessor.tell(ends)
	notifyReady(a)
	for {
		select {
		case err := <-ended: // only when the port was closed under it
			return err
		case <-s.handOver:
			if next := handOver(ctx, a, s.end); next != nil {
				background.stop() // all of it is the new process's now
				return leave(ctx, a, next, s)
			}
			continue
		case s := <-s.end:
			a.log.Info("draining", "signal", s.String(), "timeout", a.drainTimeout, "connections", a.server.Active())
		case <-ctx.Done():
			a.log.Info("draining", "timeout", a.drainTimeout, "connections", a.server.Active())
		}
		return drain(a, s.end)
	}
}

// tasks run in the background.
type tasks []func()

// startBackground starts what runs in the background.
func startBackground(a *app, s signals) *tasks {
	t := new(tasks)
	if a.admin != nil {
		*t = append(*t, admin.Serve(a.admin, a, a.log, reloadMetrics{a}))
	}
	if a.routesFile != "" {
		*t = append(*t, keepRoutes(a.table, a.routesFile, a.log))
	}
	t.start(func(ctx context.Context) { a.reload.Run(ctx, s.reload) })
	t.start(a.server.ReleaseMemory)
	t.start(a.checkUpstream)
	return t
}

// checkUpstream says so once when no upstream can be reached at the start. The program
// goes on: it may be there in a moment.
func (a *app) checkUpstream(ctx context.Context) {
	err := a.server.Cluster().Check(ctx)
	debug.FreeOSMemory() // what reading certificates and this have left, half of all there is
	if err == nil || ctx.Err() != nil {
		return
	}
	a.log.Warn("no upstream can be reached: clients are refused until one can", "error", err, "hint", hint(session.WithPhase(err)))
}

func (t *tasks) start(work func(ctx context.Context)) { *t = append(*t, inBackground(work)) }

// stop ends them, the last one first, and waits. More than once does no harm.
func (t *tasks) stop() {
	for _, stop := range slices.Backward(*t) {
		stop()
	}
}

func (a *app) serveClients(ln net.Listener) error {
	if err := a.server.Serve(context.Background(), ln); err != nil {
		return fmt.Errorf("serving %s: %w", ln.Addr(), err)
	}
	return nil
}

// drain ends what serve has begun:
//
//  1. /readyz says no, so that load balancers look elsewhere.
//  2. The port is closed, and of the connections there are, no more requests are
//     read. What brokers owe is still delivered.
//  3. Connections are closed as they have nothing left to deliver. When all are,
//     drain returns nil.
//  4. When that takes longer than --drain-timeout, or another signal comes, what
//     is left is cut, and the error says so.
func drain(a *app, signals <-chan os.Signal) error {
	patience, cut := context.WithTimeoutCause(context.Background(), a.drainTimeout, fmt.Errorf("they took longer than %v (--drain-timeout)", a.drainTimeout))
	defer cut()
	patience, second := context.WithCancelCause(patience)
	defer second(nil)
	go func() {
		select {
		case s := <-signals:
			second(fmt.Errorf("a second signal came (%v)", s))
		case <-patience.Done():
		}
	}()
	notify(a.log, daemon.SdNotifyStopping, "STATUS=draining")
	if err := a.server.Shutdown(patience); err != nil {
		return fmt.Errorf("connections were cut with requests under way: %w", context.Cause(patience))
	}
	a.log.Info("drained")
	return nil
}

// inBackground runs work until stop is called, which waits for its end.
func inBackground(work func(ctx context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		work(ctx)
	}()
	return func() {
		cancel()
		<-ended
	}
}
