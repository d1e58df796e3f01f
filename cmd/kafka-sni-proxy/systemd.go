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
	notifyBy(func(state string) error {
		_, err := daemon.SdNotify(false, state)
		return err
	}, time.After(time.Second), log, state...)
}

// notifyBy is notify with a way to tell, and an end to waiting for that.
func notifyBy(send func(state string) error, late <-chan time.Time, log *slog.Logger, state ...string) {
	told := make(chan error, 1)
	go func() { told <- send(strings.Join(state, "\n")) }()
	var err error
	select {
	case err = <-told:
	case <-late:
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

func notifyReady(a *app) { notify(a.log, daemon.SdNotifyReady, status(a)) }

// status is the line that systemctl status shows.
func status(a *app) string {
	brokers := 0
	clusters := a.server.Clusters()
	for _, c := range clusters {
		brokers += c.Brokers()
	}
	text := fmt.Sprintf("serving %d connections, %d brokers learned", a.server.Active(), brokers)
	if len(clusters) > 1 {
		text += fmt.Sprintf(" of %d clusters", len(clusters))
	}
	if a.server.Draining() {
		text = fmt.Sprintf("draining, %d connections left", a.server.Active())
	}
	return "STATUS=" + text
}

// feedWatchdog tells the service manager twice in each interval that it wants to
// be told that clients are accepted, as long as they are, until ctx ends. When
// they are not it keeps silent, and the manager starts the program anew. A proxy
// that drains accepts nobody, and has an end by itself.
func feedWatchdog(ctx context.Context, a *app) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		a.log.Warn("the watchdog is off", "error", err)
	}
	if interval == 0 {
		return
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		if err := a.CheckAlive(ctx, interval/4); err == nil {
			notify(a.log, daemon.SdNotifyWatchdog, status(a))
		} else if ctx.Err() == nil {
			a.log.Error("not feeding the watchdog", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
