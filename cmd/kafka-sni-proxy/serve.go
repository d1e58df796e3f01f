package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"

	"kafka-sni-proxy/internal/admin"
	"kafka-sni-proxy/internal/session"
)

// start checks everything, then serves until a signal.
func start(ctx context.Context, f *flags, stdout, stderr io.Writer) error {
	s := listenToSignals() // before anything is slow: each has its meaning from the start
	defer s.stop()
	a, err := build(f, stdout, stderr)
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
	defer a.leftovers.Wait()
	defer a.endLife()
	defer background.stop()
	background.start(func(ctx context.Context) { feedWatchdog(ctx, a) })
	a.predecessor.tell(serves)
	defer a.predecessor.tell(ends)
	notifyReady(a)
	for {
		select {
		case err := <-a.ended: // only when the port was closed under it
			return err
		case <-s.handOver:
			if next := handOver(ctx, a, s.end); next != nil {
				background.stop() // all of it is the new process's now
				return leave(ctx, a, next, s)
			}
			continue
		case s := <-s.end:
			a.log.Info("draining", "signal", s.String(), "timeout", a.drainTimeout(), "connections", a.server.Active())
		case <-ctx.Done():
			a.log.Info("draining", "timeout", a.drainTimeout(), "connections", a.server.Active())
		}
		return drain(a, s.end)
	}
}

// tasks run in the background.
type tasks []func()

// startBackground starts what runs in the background.
func startBackground(a *app, s signals) *tasks {
	t := new(tasks)
	if a.sockets.admin != nil {
		*t = append(*t, admin.Serve(a.sockets.admin, a, a.adminFiles.options(), a.log, slices.Concat([]prometheus.Collector{reloadMetrics{a}}, a.accessLog.metrics(), a.traces.metrics())...))
	}
	first := a.now.Load()
	a.keepRoutes(first)
	*t = append(*t, func() { a.now.Load().dropRoutes() })
	a.serveSockets(first)
	t.start(func(ctx context.Context) { a.reload.Run(ctx, s.reload) })
	t.start(a.server.ReleaseMemory)
	t.start(func(ctx context.Context) { a.checkUpstreams(ctx, first.newSince(&setup{})) })
	return t
}

// checksAtOnce is how many clusters are checked at the same time.
const checksAtOnce = 4

// checkUpstreams says so once of each cluster of which no upstream can be reached. The
// program goes on: it may be there in a moment.
func (a *app) checkUpstreams(ctx context.Context, names []string) {
	slots := make(chan struct{}, checksAtOnce)
	var all sync.WaitGroup
	for _, name := range names {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			a.checkUpstream(ctx, name)
		})
	}
	all.Wait()
	debug.FreeOSMemory() // what reading certificates and this have left, half of all there is
}

func (a *app) checkUpstream(ctx context.Context, name string) {
	err := a.CheckCluster(ctx, name)
	if err == nil || ctx.Err() != nil || a.Draining() {
		return
	}
	log := a.log
	if a.file != "" {
		log = log.With("cluster", name)
	}
	log.Warn("no upstream can be reached: clients are refused until one can", "error", err, "hint", a.hint(session.WithPhase(err)))
}

func (t *tasks) start(work func(ctx context.Context)) { *t = append(*t, inBackground(work)) }

// stop ends them, the last one first, and waits. More than once does no harm.
func (t *tasks) stop() {
	for _, stop := range slices.Backward(*t) {
		stop()
	}
}

// serveSockets serves the sockets of a setup that are not served yet.
func (a *app) serveSockets(s *setup) {
	for _, l := range s.listeners {
		for _, socket := range l.sockets {
			if socket.isServed {
				continue
			}
			socket.isServed = true
			go a.serveSocket(socket)
		}
		a.logListening(l)
	}
}

func (a *app) serveSocket(s *socket) {
	err := a.server.Serve(context.Background(), s.at)
	if err == nil {
		return
	}
	select {
	case a.ended <- fmt.Errorf("serving %s: %w", s.Addr(), err):
	default: // there is an error already
	}
}

// logListening says once where a listener listens.
func (a *app) logListening(l *listenerPart) {
	if l.isLogged {
		return
	}
	l.isLogged = true
	sockets := l.sockets
	if l.config.Ports != nil {
		sockets = sockets[:1]
	}
	for _, s := range sockets {
		attrs := s.describe()
		if a.file != "" {
			attrs = append(attrs, "listener", l.config.Label())
		}
		if p := l.config.Ports; p != nil {
			attrs = append(attrs, "cluster", p.Cluster, "broker_ports", p.Brokers.String())
		}
		a.log.Info("listening", attrs...)
	}
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
	patience, cut := context.WithTimeoutCause(context.Background(), a.drainTimeout(), fmt.Errorf("they took longer than %v (%s)", a.drainTimeout(), a.settingName("timeouts.drain")))
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
	a.setPhase("draining")
	notify(a.log, daemon.SdNotifyStopping, "STATUS=draining")
	if err := a.server.Shutdown(patience); err != nil {
		return fmt.Errorf("connections were cut with requests under way: %w", context.Cause(patience))
	}
	a.traces.flush(patience)
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
