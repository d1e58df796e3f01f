package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"kafka-sni-proxy/internal/config"
	"kafka-sni-proxy/internal/reload"
	"kafka-sni-proxy/internal/sasl"
	"kafka-sni-proxy/internal/server"
)

// app is the program, made of a configuration without errors and ready to serve.
type app struct {
	log     *slog.Logger
	level   *slog.LevelVar
	server  *server.Server
	sockets sockets
	now     atomic.Pointer[setup] // what is in force
	atStart *config.Config        // with which the program was started

	file        string                // the configuration was read from; "": there are flags alone
	read        func() *configuration // reads it again
	configFile  reload.Source[*setup]
	reload      *reload.Group
	predecessor *predecessor
	accessLog   *accessLog // nil: there is none
	traces      *traces    // nil: there are none

	ended     chan error      // gets what becomes of serving each socket
	life      context.Context // ends with the program
	endLife   context.CancelFunc
	leftovers sync.WaitGroup // what ends the sessions of listeners and clusters that are gone
	ownKeys   atomic.Pointer[map[string]bool]
	expiry    atomic.Pointer[expiry]

	gate     *sasl.Gate // of work with passwords, for all clusters
	mask     sasl.Mask  // of users that do not exist
	maskOnce sync.Once

	// What the admin port tells.
	adminFiles  *adminFiles
	started     time.Time
	parent      int // process id
	lines       *logLines
	facts       atomic.Pointer[facts]
	phase       atomic.Pointer[phase]
	warnings    atomic.Pointer[[]string]
	said        []string     // of the warnings those of the configuration in force, and
	ofSockets   []string     // of how the sockets were opened; both are of the goroutine that reloads
	handingOver atomic.Int64 // since when, in nanoseconds since 1970; 0: not

	drainLimit atomic.Int64 // nanoseconds
}

// build checks the configuration and all that it names: the files are read, the
// ports are opened. The error has everything that is wrong; then the ports are
// closed again and nothing has been served.
func build(f *flags, stdout, stderr io.Writer) (*app, error) {
	a := &app{file: f.configFile, read: f.configuration, level: new(slog.LevelVar), gate: sasl.NewGate(0), started: time.Now(), parent: os.Getppid()}
	a.setPhase("serving")
	a.configFile = reload.Source[*setup]{
		Setting: "--config",
		Read:    a.readAgain,
		Same:    func(a, b *setup) bool { return a == b },
	}
	if a.file != "" {
		a.configFile.Files = []string{a.file}
		a.configFile.Mark()
	}
	c := f.configuration()
	a.atStart = c.config
	if c.config.Admin.Bind != "" {
		a.lines = &logLines{to: stderr}
		stderr = a.lines
	}
	a.log = newLog(c.config.Log, a.level, stderr)
	wrong := &mistakes{text: c.text}
	a.predecessor = a.sockets.receive(wrong)
	a.ofSockets = a.sockets.openAdmin(a.adminBind(c.config), wrong)
	a.adminFiles = a.loadAdmin(c.config.Admin, wrong)
	a.openAccessLog(c, stdout, wrong)
	var s *setup
	if len(c.wrong) == 0 || a.file == "" { // with flags, what they name is looked at all the same
		s = a.prepare(c.config, nil, wrong)
	}
	if len(c.wrong) == 0 && !wrong.any() {
		a.makeClusters(s, nil, wrong)
	}
	if all := append(c.wrong, wrong.errors()...); len(all) > 0 {
		a.close()
		for _, warning := range f.warnings { // a misspelt variable may be why
			all = append(all, errors.New(warning))
		}
		return nil, all
	}
	for name, part := range s.clusters {
		if err := openRoutes(part.table, part.routesFile); err != nil {
			a.close()
			return nil, usageErrors{errors.New(a.clusterText(name, err.Error()))}
		}
	}
	a.said = append(c.warnings, s.warnings...)
	a.ofSockets = append(a.sockets.passedWarnings(s.listeners), a.ofSockets...)
	a.startTraces(c.config)
	a.wire(s, c)
	a.keepWarnings()
	a.describe(s)
	for _, warning := range slices.Concat(a.said, s.ofFiles, a.ofSockets, a.adminFiles.warnings()) {
		a.log.Warn(a.inTerms(warning))
	}
	return a, nil
}

// adminBind is where the admin port is to be opened; "" when that has been found wrong.
func (a *app) adminBind(c *config.Config) string {
	for _, l := range c.Listeners {
		if l.Bind == c.Admin.Bind && !strings.HasSuffix(l.Bind, ":0") { // which has been said
			return ""
		}
	}
	return c.Admin.Bind
}

// wire makes the server, and puts the first setup to use.
func (a *app) wire(s *setup, c *configuration) {
	a.server = server.New(server.Config{Limits: limits(s.config), Log: a.log, Hint: a.hint, Ended: a.onEnded(), OnAnswer: a.traces.onAnswer()})
	a.ended = make(chan error, 1)
	a.life, a.endLife = context.WithCancel(context.Background())
	a.use(s)
	a.configFile.Set(s)
	if a.file != "" {
		a.configFile.Files = append([]string{a.file}, c.secretFiles()...)
	}
	a.reload = reload.NewGroup(a.log, a, a.parts(s)...)
}

// parts are all files that are watched.
func (a *app) parts(s *setup) []reload.Part {
	return append(append([]reload.Part{&a.configFile}, a.adminFiles.parts()...), s.parts()...)
}

func (a *app) close() {
	a.sockets.close()
	a.accessLog.close()
	a.traces.close()
}

// onEnded returns what is told of connections that have ended; nil: nothing.
func (a *app) onEnded() func(*server.End) {
	switch log, traces := a.accessLog, a.traces; {
	case traces == nil:
		return log.ended()
	case log == nil:
		return traces.ended
	default:
		write := log.ended()
		return func(e *server.End) {
			write(e)
			traces.ended(e)
		}
	}
}

// describe logs what is served.
func (a *app) describe(s *setup) {
	for _, l := range s.listeners {
		attrs := []any{}
		if a.file != "" {
			attrs = append(attrs, "listener", l.config.Label())
		}
		var suffixes, upstreams []string
		hosts := 0
		for _, name := range s.config.Served(l.config) {
			part := s.clusters[name]
			suffixes = append(suffixes, part.table.Suffix())
			upstreams = append(upstreams, part.config.ActiveTarget().Upstream...)
			hosts += part.files.hosts.Value().Len()
		}
		attrs = append(attrs, "suffix", shorten(suffixes), "bootstrap", shorten(s.bootstraps(l)), "upstreams", shorten(upstreams),
			"mtls", l.config.ClientCertificates.Require, "hosts", hosts)
		if l.config.Plaintext {
			attrs = append(attrs, "plaintext", true)
		}
		a.log.Info("configured", attrs...)
	}
}

// shorten joins what a log line can have of a long list.
func shorten(all []string) string {
	const most = 10
	if len(all) > most {
		all = append(all[:most:most], "…")
	}
	return strings.Join(all, ",")
}

func limits(c *config.Config) server.Limits {
	return server.Limits{MaxConnections: c.Limits.MaxConnections, MaxHandshakesPerAddress: c.Limits.MaxHandshakesPerAddress}
}

// drainTimeout is how long requests in flight may take when their sessions are ended.
func (a *app) drainTimeout() time.Duration { return time.Duration(a.drainLimit.Load()) }

// Stats implements admin.Proxy.
func (a *app) Stats() server.Stats { return a.server.Stats() }

// Draining implements admin.Proxy.
func (a *app) Draining() bool { return a.server.Draining() }

// Clusters implements admin.Proxy.
func (a *app) Clusters() (names []string) {
	for _, c := range a.server.Clusters() {
		names = append(names, c.Name())
	}
	return names
}

// CheckCluster implements admin.Proxy.
func (a *app) CheckCluster(ctx context.Context, name string) error {
	for _, c := range a.server.Clusters() {
		if c.Name() == name {
			return c.Check(ctx)
		}
	}
	return errors.New("there is no such cluster any more")
}

// CheckAlive implements admin.Proxy.
func (a *app) CheckAlive(ctx context.Context, patience time.Duration) error {
	if a.server.Draining() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := a.server.CheckAccepting(ctx)
	if a.server.Draining() { // since then
		return nil
	}
	return err
}

// newLog returns the log, of a level that can change; with settings that are wrong, one that
// can say so.
func newLog(c config.Log, level *slog.LevelVar, stderr io.Writer) *slog.Logger {
	level.UnmarshalText([]byte(c.Level))
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(stderr, options))
	}
	return slog.New(slog.NewTextHandler(stderr, options))
}
