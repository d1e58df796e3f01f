package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"
)

// drainTimeout is how long requests under way may take to be answered once the
// program was told to end.
const (
	drainTimeout     = 30 * time.Second
	drainTimeoutText = "30 seconds" // in --help
)

// start checks everything, then serves until a signal.
func start(ctx context.Context, f *flags, stderr io.Writer) error {
	c, err := configure(f, stderr)
	if err != nil {
		return err
	}
	defer c.close()
	debug.FreeOSMemory() // what reading certificates has left, half of all there is
	return serve(ctx, c)
}

// serve runs the proxy until a signal or the end of ctx, then drains it:
//
//  1. /readyz says no, so that load balancers look elsewhere.
//  2. The port is closed, and of the connections there are, no more requests are
//     read. What brokers owe is still delivered.
//  3. Connections are closed as they have nothing left to deliver. When all are,
//     serve returns nil.
//  4. When that takes longer than drainTimeout, or a second signal comes, what is
//     left is cut, and the error says so.
func serve(ctx context.Context, c *config) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)

	if c.admin != nil {
		stop := serveAdmin(c)
		defer stop()
	}
	if c.routes != "" {
		stop := keepRoutes(c.proxy.Routes, c.routes, c.log)
		defer stop()
	}
	ended := make(chan error, 1)
	go func() { ended <- c.proxy.Serve(context.WithoutCancel(ctx), c.listener) }()
	c.log.Info("listening", "address", c.listener.Addr().String())

	select {
	case err := <-ended: // only when the port was closed under it
		return fmt.Errorf("serving %s: %w", c.listener.Addr(), err)
	case s := <-signals:
		c.log.Info("draining", "signal", s.String(), "timeout", drainTimeout, "connections", c.proxy.Stats().Active)
	case <-ctx.Done():
		c.log.Info("draining", "timeout", drainTimeout, "connections", c.proxy.Stats().Active)
	}

	patience, cut := context.WithTimeoutCause(context.WithoutCancel(ctx), drainTimeout, errors.New("it took longer than "+drainTimeoutText))
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
	err := c.proxy.Shutdown(patience)
	<-ended
	if err != nil {
		return fmt.Errorf("connections were cut with requests under way: %w", context.Cause(patience))
	}
	c.log.Info("drained")
	return nil
}
