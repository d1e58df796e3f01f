package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notify tells the service manager, where there is one, what goes on
// (sd_notify(3)). It does not wait for a manager that does not listen.
func notify(log *slog.Logger, state ...string) {
	told := make(chan error, 1)
	go func() {
		_, err := daemon.SdNotify(false, strings.Join(state, "\n"))
		told <- err
	}()
	var err error
	select {
	case err = <-told:
	case <-time.After(time.Second):
		err = errors.New("it does not listen")
	}
	if err != nil {
		log.Warn("the service manager cannot be told what goes on", "state", state[0], "error", err)
	}
}

// Reloading begins with the first and ends with the second, with Type=notify-reload.
func notifyReloading(log *slog.Logger) {
	notify(log, daemon.SdNotifyReloading, strings.TrimSuffix(daemon.SdNotifyMonotonicUsec(), "\n"))
}

func notifyReady(c *config) { notify(c.log, daemon.SdNotifyReady, status(c)) }

// status is the line that systemctl status shows.
func status(c *config) string {
	text := fmt.Sprintf("serving %d connections, %d brokers learned", c.server.Active(), c.table.Known())
	if c.server.Draining() {
		text = fmt.Sprintf("draining, %d connections left", c.server.Active())
	}
	return "STATUS=" + text
}

// feedWatchdog tells the service manager twice in each interval that it wants to
// be told that clients are accepted, as long as they are, until ctx ends. When
// they are not it keeps silent, and the manager starts the program anew. A proxy
// that drains accepts nobody, and has an end by itself.
func feedWatchdog(ctx context.Context, c *config) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		c.log.Warn("the watchdog is off", "error", err)
	}
	if interval == 0 {
		return
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		if err := checkAlive(ctx, c, interval/4); err == nil {
			notify(c.log, daemon.SdNotifyWatchdog, status(c))
		} else if ctx.Err() == nil {
			c.log.Error("not feeding the watchdog", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// checkAlive reports whether clients are accepted, or need not be any more.
func checkAlive(ctx context.Context, c *config, patience time.Duration) error {
	if c.server.Draining() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := c.server.CheckAccepting(ctx)
	if c.server.Draining() { // since then
		return nil
	}
	return err
}
