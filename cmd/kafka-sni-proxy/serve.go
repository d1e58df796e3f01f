package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
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
	end    chan os.Signal
	reload chan os.Signal
}

func listenToSignals() signals {
	s := signals{end: make(chan os.Signal, 2), reload: make(chan os.Signal, 1)}
	signal.Notify(s.end, syscall.SIGTERM, os.Interrupt)
	signal.Notify(s.reload, syscall.SIGHUP)
	return s
}

func (s signals) stop() {
	signal.Stop(s.end)
	signal.Stop(s.reload)
}

// serve runs the proxy until a signal or the end of ctx, and then drains it.
func serve(ctx context.Context, c *config, s signals) error {
	if c.admin != nil {
		stop := serveAdmin(c)
		defer stop()
	}
	if c.routes != "" {
		stop := keepRoutes(c.proxy.Routes, c.routes, c.log)
		defer stop()
	}
	stop := inBackground(func(ctx context.Context) { c.reloader.run(ctx, s.reload) })
	defer stop()
	ended := make(chan error, len(c.clients))
	for _, ln := range c.clients {
		go func() { ended <- c.serveClients(ln) }()
		c.log.Info("listening", "address", ln.Addr().String())
	}
	stop = inBackground(func(ctx context.Context) { feedWatchdog(ctx, c) })
	defer stop()
	notifyReady(c)

	select {
	case err := <-ended: // only when the port was closed under it
		return err
	case s := <-s.end:
		c.log.Info("draining", "signal", s.String(), "timeout", c.drainTimeout, "connections", c.proxy.Stats().Active)
	case <-ctx.Done():
		c.log.Info("draining", "timeout", c.drainTimeout, "connections", c.proxy.Stats().Active)
	}
	return drain(c, s.end)
}

func (c *config) serveClients(ln net.Listener) error {
	if err := c.proxy.Serve(context.Background(), ln); err != nil {
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
	if err := c.proxy.Shutdown(patience); err != nil {
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
