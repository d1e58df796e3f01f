package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"kafka-sni-proxy/internal/accesslog"
	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/config"
	"kafka-sni-proxy/internal/dial"
	"kafka-sni-proxy/internal/preflight"
	"kafka-sni-proxy/internal/progress"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/session"
	"kafka-sni-proxy/internal/trace"
)

const checkText = `Try what the proxy would do, before clients depend on it, and say of each thing whether it would
work, and if not, what to do: files and ports, each bootstrap server and broker (DNS, TCP, TLS and its
certificate), the names that clients will see, whether the proxy's own certificate covers them, and
where they lead. Nothing is changed, and no secret is shown.

With --as-client, go the way in, through a proxy that runs, and take each step of a client: resolve,
TCP, TLS, ApiVersions, Metadata, and then each broker by its own name.`

const checkExample = `  kafka-sni-proxy check --sni-suffix kafka.example --upstream lkc-abcde.confluent.cloud:9092 --login key.txt
  kafka-sni-proxy check --config proxy.yaml --json
  kafka-sni-proxy check --as-client bootstrap.kafka.example:9092 --client-ca-certs ca.pem
  kafka-sni-proxy check --as-client bootstrap.kafka.example:9092 --client-ca-certs ca.pem --connect-to 127.0.0.1:9092`

const checkEnd = `
The flags of the start, or --config FILE, say what is checked: kafka-sni-proxy --help.

Exit codes:
  0   all would work; there may be warnings
  1   something would not work
  2   usage: an error in the flags, the environment or the configuration file; nothing was tried
`

// errWouldFail is of a check that has found something which would not work.
var errWouldFail = errors.New("something would not work")

// checkFlags are the flags of a check, those of the start among them.
type checkFlags struct {
	*flags
	asJSON bool
	login  string

	asClient  string
	clientCA  string
	client    config.KeyPair
	plaintext bool
	connectTo string
}

func newCheckFlags() *checkFlags { return &checkFlags{flags: newFlags()} }

// define declares the flags: its own first.
func (f *checkFlags) define(fs *pflag.FlagSet) {
	f.defineOwn(fs)
	f.defineSettings(fs)
}

func (f *checkFlags) defineOwn(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.BoolVar(&f.asJSON, "json", false, "print the report as JSON: {\"works\": bool, \"results\": [{subject, what, level, result, remedy}]}")
	fs.StringVar(&f.login, "login", "", "`file` with USER:PASSWORD on one line, to log in with (SASL PLAIN) where a cluster tells of its brokers only then")
	fs.StringVar(&f.asClient, "as-client", "", "go the way of a client from this bootstrap address, `host:port`, through a proxy that runs")
	fs.StringVar(&f.clientCA, "client-ca-certs", "", "with --as-client: the authorities that the client trusts, PEM `file` (default: those of the system)")
	fs.StringVar(&f.client.Cert, "client-cert", "", "with --as-client: the client's certificate, PEM `file`")
	fs.StringVar(&f.client.Key, "client-key", "", "with --as-client: its private key, PEM `file`")
	fs.BoolVar(&f.plaintext, "client-plaintext", false, "with --as-client: connect without TLS")
	fs.StringVar(&f.connectTo, "connect-to", "", "with --as-client: connect to this `host:port` whatever the names resolve to, before DNS is made")
	fs.BoolP("help", "h", false, "show this help, and exit")
}

func (f *checkFlags) flagSet() *pflag.FlagSet {
	fs := newFlagSet()
	f.define(fs)
	return fs
}

func checkHelp() string {
	own := newFlagSet()
	newCheckFlags().defineOwn(own)
	return fmt.Sprintf("%s\n\nUsage:\n  kafka-sni-proxy check FLAGS\n\nExamples:\n%s\n\nFlags:\n%s%s", checkText, checkExample, own.FlagUsagesWrapped(100), checkEnd)
}

func newCheckCommand(wrong usageErrors, stdout, stderr io.Writer) *cobra.Command {
	f := newCheckFlags()
	f.errors = wrong
	cmd := &cobra.Command{
		Use:     "check",
		Short:   "Try what a configuration would do, or go the way of a client",
		Long:    checkText,
		Example: checkExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.Flags(), stdout, stderr)
		},
	}
	f.define(cmd.Flags())
	return cmd
}

// run checks, and writes the report.
func (f *checkFlags) run(ctx context.Context, fs *pflag.FlagSet, stdout, stderr io.Writer) error {
	line := progress.New(stderr)
	defer line.Done()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	defer context.AfterFunc(ctx, stop)() // a second one ends the program
	r := &preflight.Report{Progress: line.Set, Until: ctx}
	f.readEnvironment(fs, os.Environ())
	f.refuseMixed(fs)
	login, err := f.readLogin()
	if err != nil {
		f.flags.errors = append(f.flags.errors, err)
	}
	switch {
	case f.asClient != "":
		err = f.checkAsClient(ctx, login, r)
	default:
		f.checkFlagsWithConfig(fs)
		err = f.checkConfiguration(ctx, login, r)
	}
	line.Done()
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		r.End(preflight.Result{Level: preflight.Failed, What: "check", Result: "was interrupted: what comes here is not checked", Remedy: "let it end; --dial-timeout bounds each attempt"})
	}
	if f.asJSON {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		err = encoder.Encode(r)
	} else {
		err = r.Write(stdout, progress.IsColoured(stdout))
	}
	if err == nil && !r.Works() {
		err = errWouldFail
	}
	return err
}

// refuseMixed finds flags of one kind of check that were given with the other.
func (f *checkFlags) refuseMixed(fs *pflag.FlagSet) {
	own := newFlagSet()
	newCheckFlags().defineOwn(own)
	fs.Visit(func(flag *pflag.Flag) {
		isOwn := own.Lookup(flag.Name) != nil
		isForClients := isOwn && !slices.Contains([]string{"json", "login", "help"}, flag.Name)
		variable := f.variables[flag.Name] != ""
		switch {
		case f.asClient == "" && isForClients && flag.Name != "as-client":
			f.flags.errors = append(f.flags.errors, fmt.Errorf("--%s: goes with --as-client only: leave it out, or add --as-client HOST:PORT", flag.Name))
		case f.asClient != "" && !isOwn && !variable:
			f.flags.errors = append(f.flags.errors, fmt.Errorf("--%s: does not go with --as-client, which knows what any client knows: leave it out", flag.Name))
		}
	})
}

// readLogin reads the file of --login; nil without one.
func (f *checkFlags) readLogin() (*preflight.Login, error) {
	if f.login == "" {
		return nil, nil
	}
	data, err := readFile(f.login)
	if err != nil { // without the path: by mistake it may be the login itself
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return nil, fmt.Errorf("--login: the file cannot be read: %w: it takes the name of a file that holds USER:PASSWORD", err)
	}
	user, password, ok := strings.Cut(strings.TrimRight(string(data), "\r\n"), ":")
	if !ok || user == "" || strings.Contains(password, "\n") {
		return nil, errors.New("--login: the file does not hold USER:PASSWORD on one line")
	}
	return &preflight.Login{User: user, Password: password}, nil
}

// checkAsClient goes the way in.
func (f *checkFlags) checkAsClient(ctx context.Context, login *preflight.Login, r *preflight.Report) error {
	wrong := f.flags.errors
	c := &preflight.Client{Login: login, Timeout: f.config.Timeouts.Dial, ConnectTo: f.connectTo}
	var err error
	if c.Bootstrap, err = route.ParseAddress(f.asClient); err != nil {
		wrong = append(wrong, fmt.Errorf("--as-client: %w", err))
	}
	if _, err = route.ParseAddress(f.connectTo); f.connectTo != "" && err != nil {
		wrong = append(wrong, fmt.Errorf("--connect-to: %w", err))
	}
	if f.plaintext {
		for _, given := range [][2]string{{"client-ca-certs", f.clientCA}, {"client-cert", f.client.Cert}, {"client-key", f.client.Key}} {
			if given[1] != "" {
				wrong = append(wrong, fmt.Errorf("--%s: does not go with --client-plaintext: leave one of them out", given[0]))
			}
		}
	} else {
		c.TLS = &tls.Config{}
		if f.clientCA != "" {
			if c.TLS.RootCAs, err = certs.LoadPool(f.clientCA); err != nil {
				wrong = append(wrong, fmt.Errorf("--client-ca-certs: %w", err))
			}
		}
		switch {
		case (f.client.Cert == "") != (f.client.Key == ""):
			wrong = append(wrong, errors.New("--client-cert, --client-key: go together: give both"))
		case f.client.Cert != "":
			pair, err := certs.LoadKeyPair(f.client.Cert, f.client.Key)
			if err != nil {
				wrong = append(wrong, fmt.Errorf("--client-cert, --client-key: %w", err))
			}
			c.TLS.Certificates = []tls.Certificate{pair}
		}
	}
	if len(wrong) > 0 {
		return wrong
	}
	c.Run(ctx, r)
	return nil
}

// checkConfiguration goes the way out, and looks at what clients will see.
func (f *checkFlags) checkConfiguration(ctx context.Context, login *preflight.Login, r *preflight.Report) error {
	c := f.configuration()
	if len(c.wrong) > 0 {
		for _, warning := range f.warnings { // a misspelt variable may be why
			c.wrong = append(c.wrong, errors.New(warning))
		}
		return c.wrong
	}
	a := &app{file: f.configFile, log: slog.New(slog.DiscardHandler)}
	for _, warning := range c.warnings {
		r.Add(preflight.Result{Subject: "configuration", What: "settings", Level: preflight.Warning, Result: a.inTerms(warning)})
	}
	wrong := &mistakes{text: c.text}
	s := a.load(c.config, nil, wrong)
	files := len(wrong.found)
	a.sockets.openAdmin(a.adminBind(c.config), wrong)
	a.sockets.open(s.listeners, wrong)
	a.sockets.close()
	for _, e := range wrong.found {
		r.Add(a.mistakeResult(e))
	}
	w := &wayCheck{app: a, setup: s, login: login, report: r, broken: wrong.found[:files]}
	w.run(ctx)
	return nil
}

// mistakeResult is of a file or a port that cannot be used.
func (a *app) mistakeResult(e *config.Error) preflight.Result {
	result := preflight.Result{Subject: "files and ports", Level: preflight.Failed}
	result.What, result.Result, _ = strings.Cut(a.inTerms(e.Text(a.settingName)), ": ")
	if i := strings.LastIndex(result.Result, ": "); i > 0 {
		result.Result, result.Remedy = result.Result[:i], result.Result[i+2:]
	}
	return result
}

// wayCheck checks a setup whose files have been read.
type wayCheck struct {
	*app
	setup  *setup
	login  *preflight.Login
	report *preflight.Report
	broken config.Errors // files that cannot be used
}

func (w *wayCheck) run(ctx context.Context) {
	w.setOwnKeys(w.setup)
	machine := &preflight.Machine{MaxConnections: w.setup.config.Limits.MaxConnections, Now: time.Now(), Built: built()}
	machine.Run(w.own())
	brokers := map[string][]preflight.Broker{}
	for _, name := range slices.Sorted(maps.Keys(w.setup.clusters)) {
		if w.isBroken(config.ClusterPath(name, "")) {
			w.report.Add(preflight.Result{Subject: "cluster " + name, What: "brokers", Level: preflight.Note, Result: "not checked: correct its files first"})
			continue
		}
		brokers[name] = w.cluster(ctx, name)
	}
	for _, l := range w.setup.listeners {
		w.listener(ctx, l, brokers)
	}
	w.logAndTraces(ctx)
}

// logAndTraces checks where the access log and traces go.
func (w *wayCheck) logAndTraces(ctx context.Context) {
	const subject = "log and traces"
	if path := w.setup.config.Log.Access; path != "" {
		result := preflight.Result{Subject: subject, What: "access log " + path, Result: "it can be written"}
		if err := accesslog.Check(path); err != nil {
			result.Level, result.Result, result.Remedy = preflight.Failed, err.Error(), "see that the folder of --access-log exists, and that this user may write to it"
		}
		w.own().Add(result)
	}
	if endpoint := w.setup.config.Trace.Endpoint; endpoint != "" && ctx.Err() == nil {
		result := preflight.Result{Subject: subject, What: "collector " + endpoint, Result: "it takes traces"}
		if err := trace.Check(ctx, endpoint); err != nil {
			result.Level, result.Result, result.Remedy = preflight.Warning, err.Error(), traceHint
		}
		w.own().Add(result)
	}
}

// own returns a report whose results are written in terms of the file, if there is one,
// when they are added.
func (w *wayCheck) own() *preflight.Report { return w.report.In(w.inTerms) }

func (w *wayCheck) isBroken(prefix string) bool {
	return slices.ContainsFunc(w.broken, func(e *config.Error) bool {
		return slices.ContainsFunc(e.Paths, func(path string) bool { return strings.HasPrefix(path, prefix) })
	})
}

// shown are results of a certificate of this proxy.
func (w *wayCheck) shown(subject, file string, leaf *x509.Certificate, warnings []string) {
	if len(warnings) == 0 {
		w.report.Add(preflight.Result{Subject: subject, What: file, Result: "certificate and key fit, valid until " + leaf.NotAfter.UTC().Format("2006-01-02")})
	}
	for _, text := range warnings {
		result, remedy, _ := strings.Cut(strings.TrimPrefix(text, file+" "), ": ")
		w.own().Add(preflight.Result{Subject: subject, What: file, Level: preflight.Warning, Result: result, Remedy: remedy})
	}
}

// cluster goes the way to a cluster.
func (w *wayCheck) cluster(ctx context.Context, name string) []preflight.Broker {
	part := w.setup.clusters[name]
	target := part.config.ActiveTarget()
	failed := func(err error) []preflight.Broker {
		w.own().Add(preflight.Result{Subject: "cluster " + name, What: "settings", Level: preflight.Failed, Result: err.Error()})
		return nil
	}
	var gate *dial.Gate
	var err error
	if target.Via != "" {
		if gate, err = dial.ParseGate(string(target.Via)); err != nil {
			return failed(err)
		}
	}
	if part.table, err = newTable(name, part, w.log); err != nil {
		return failed(err)
	}
	if part.routesFile != "" {
		if err := part.table.Load(part.routesFile); err != nil {
			return failed(fmt.Errorf("--routes-file: %w", err))
		}
	}
	c := &preflight.Cluster{
		Name:    name,
		TLS:     part.files.tlsConfig(),
		Dial:    dial.New(part.files.hosts.Value(), gate).Dial,
		Timeout: w.setup.config.Timeouts.Dial,
		IsSelf:  w.isSelf,
		Hosts:   part.files.hosts.Value(),
		Table:   part.table,
		Login:   w.login,
		Hint:    func(err error) string { return hint(session.WithPhase(err)) },
	}
	w.authentication(ctx, name, part, c)
	if pair := part.files.shown.Value(); pair.Leaf != nil {
		w.shown("cluster "+name, target.UpstreamTLS.Cert, pair.Leaf, part.files.shown.Warn())
	}
	c.WithoutNames = part.config.Names == nil && part.config.SNISuffix == ""
	if c.Rule, err = config.ParseRule(part.config.BrokerMappingRule); err != nil {
		return failed(err)
	}
	for _, upstream := range target.Upstream {
		address, err := route.ParseAddress(upstream)
		if err != nil {
			return failed(err)
		}
		c.Upstreams = append(c.Upstreams, address)
	}
	return c.Run(ctx, w.own())
}

// listener looks at what the clients of a listener will see.
func (w *wayCheck) listener(ctx context.Context, l *listenerPart, brokers map[string][]preflight.Broker) {
	c := &preflight.Listener{Label: l.config.Label(), Naming: map[string]route.Naming{}, Brokers: map[string][]preflight.Broker{}, Own: preflight.OwnAddresses(), Timeout: w.setup.config.Timeouts.Dial}
	subject := "listener " + c.Label
	for i, shown := range l.files.shown {
		if pair, named := shown.Value(), l.config.Certificates[i]; pair.Leaf != nil { // nil: it cannot be read
			c.Leaves = append(c.Leaves, pair.Leaf)
			w.shown(subject, named.Cert, pair.Leaf, append(serverWarnings(named.Cert, pair.Leaf, nil, false), pairWarnings(named, pair)...))
		}
	}
	for _, text := range l.files.clients.Warn() {
		w.own().Add(preflight.Result{Subject: subject, What: "client certificates", Level: preflight.Warning, Result: text})
	}
	for _, name := range w.setup.config.Served(l.config) {
		c.Brokers[name] = brokers[name]
		if p := l.config.Ports; p != nil {
			c.Bootstrap, c.Naming[name] = []string{p.AdvertisedHost}, portNaming(p)
			continue
		}
		c.Naming[name] = route.OnePort(0)
		if names := w.setup.config.Clusters[name].NamesOf(); len(names) > 0 {
			c.Bootstrap = append(c.Bootstrap, names[0])
		}
	}
	c.Run(ctx, w.own())
}

// built is when the source of this program was committed; zero if that is not known.
func built() time.Time {
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			t, _ := time.Parse(time.RFC3339, s.Value)
			return t
		}
	}
	return time.Time{}
}
