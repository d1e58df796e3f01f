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
)

// start checks everything, then serves until a signal.
func start(ctx context.Context, f *flags, stderr io.Writer) error {
	s := listenToSignals() // before anything is slow: each has its meaning from the start
	defer s.stop()
	c, err := configure(f, stderr)
	if err != nil {
		return err
	}
	defer c.close()
	debug.FreeOSMemory() // what reading certificates has left, half of all there is
	return serve(ctx, c, s)
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
func serve(ctx context.Context, c *config, s signals) error {
	beside := beside(c, s)
	defer beside.stop()
	ended := make(chan error, len(c.clients))
	for _, ln := range c.clients {
		go func() { ended <- c.serveClients(ln) }()
		c.log.Info("listening", "address", ln.Addr().String())
	}
	beside.start(func(ctx context.Context) { feedWatchdog(ctx, c) })
	c.predecessor.tell(serves)
	defer c.predecessor.tell(ends)
	notifyReady(c)
	for {
		select {
		case err := <-ended: // only when the port was closed under it
			return err
		case <-s.handOver:
			if next := handOver(ctx, c, s.end); next != nil {
				beside.stop() // all of it is the new process's now
				return leave(ctx, c, next, s)
			}
			continue
		case s := <-s.end:
			c.log.Info("draining", "signal", s.String(), "timeout", c.drainTimeout, "connections", c.server.Active())
		case <-ctx.Done():
			c.log.Info("draining", "timeout", c.drainTimeout, "connections", c.server.Active())
		}
		return drain(c, s.end)
	}
}

// tasks run beside the proxy.
type tasks []func()

// beside starts what runs beside the proxy.
func beside(c *config, s signals) *tasks {
	t := new(tasks)
	if c.admin != nil {
		*t = append(*t, serveAdmin(c))
	}
	if c.routes != "" {
		*t = append(*t, keepRoutes(c.table, c.routes, c.log))
	}
	t.start(func(ctx context.Context) { c.reloader.run(ctx, s.reload) })
	t.start(c.server.ReleaseMemory)
	return t
}

func (t *tasks) start(work func(ctx context.Context)) { *t = append(*t, inBackground(work)) }

// stop ends them, the last one first, and waits. More than once does no harm.
func (t *tasks) stop() {
	for _, stop := range slices.Backward(*t) {
		stop()
	}
}

func (c *config) serveClients(ln net.Listener) error {
	if err := c.server.Serve(context.Background(), ln); err != nil {
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
func drain(c *config, signals <-chan os.Signal) error {
	patience, cut := context.WithTimeoutCause(context.Background(), c.drainTimeout, fmt.Errorf("they took longer than %v (--drain-timeout)", c.drainTimeout))
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
	notify(c.log, daemon.SdNotifyStopping, "STATUS=draining")
	if err := c.server.Shutdown(patience); err != nil {
		return fmt.Errorf("connections were cut with requests under way: %w", context.Cause(patience))
	}
	c.log.Info("drained")
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
