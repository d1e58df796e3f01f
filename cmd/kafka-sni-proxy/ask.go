package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"kafka-sni-proxy/internal/api"
	"kafka-sni-proxy/internal/suggest"
	"kafka-sni-proxy/internal/top"
	"kafka-sni-proxy/internal/view"
)

// asking is a command that asks a proxy how it is, at its admin port, and shows the answer.
type asking struct {
	name, short, text, example string
	exits                      string // what exit code 1 means, beside that there was no answer
	define                     func(*asker, *pflag.FlagSet)
	run                        func(*asker, context.Context) error
}

// askings are those commands. Their flags are of a new asker each time.
var askings = []asking{
	{
		name: "status", short: "Show how the proxy that runs is, what is wrong first",
		text: `Show how the proxy that runs is: what is wrong first, since when and with what to do; then its load,
clusters, listeners, certificates, and the last connections that failed.`,
		example: `  kafka-sni-proxy status --admin 127.0.0.1:9090
  kafka-sni-proxy status --config proxy.yaml --check`,
		exits: "; with --check, something is wrong",
		define: func(a *asker, fs *pflag.FlagSet) {
			fs.BoolVar(&a.check, "check", false, "end with exit code 1 when something is wrong: a cluster or a broker that cannot be reached, a file that cannot be used, a certificate that has to be renewed, a limit that is reached")
			a.defineJSON(fs)
		},
		run: (*asker).status,
	},
	{
		name: "routes", short: "Show where the brokers are, by which names clients reach them, and whether they can be reached",
		text: `Show the upstreams and brokers of the proxy that runs: by which name clients reach each, at which
address it is, whether it can be reached, and why not.`,
		example: `  kafka-sni-proxy routes --admin 127.0.0.1:9090
  kafka-sni-proxy routes --config proxy.yaml --cluster orders --json`,
		define: func(a *asker, fs *pflag.FlagSet) {
			fs.StringVar(&a.query.Cluster, "cluster", "", "only this cluster, by its `name`")
			a.defineJSON(fs)
		},
		run: (*asker).routes,
	},
	{
		name: "sessions", short: "Show the connections of clients",
		text: `Show the connections of clients: who it is, where it leads, what goes through it, and for how long its
oldest request has had no response.`,
		example: `  kafka-sni-proxy sessions --admin 127.0.0.1:9090 --sort -rate --limit 10
  kafka-sni-proxy sessions --config proxy.yaml --filter 10.1.2.3
  kafka-sni-proxy sessions --config proxy.yaml --cluster orders --all --json`,
		define: func(a *asker, fs *pflag.FlagSet) {
			a.defineQuery(fs)
			fs.StringVar(&a.query.Sort, "sort", "-age", "`key` to sort by, with a - in front: the greatest first; "+strings.Join(api.SessionSorts, ", "))
			fs.IntVar(&a.query.Limit, "limit", api.DefaultLimit, "show at most `n`")
			fs.BoolVar(&a.all, "all", false, "show all, however many")
			a.defineJSON(fs)
		},
		run: (*asker).sessions,
	},
	{
		name: "top", short: "Watch the proxy that runs, live",
		text: `Watch the proxy that runs, on a terminal: load, latency, the time that the proxy adds, connections,
brokers and failures. ? shows the keys, q ends it.`,
		example: `  kafka-sni-proxy top --admin 127.0.0.1:9090
  kafka-sni-proxy top --config proxy.yaml --cluster orders --sort -in-flight --interval 5s`,
		define: func(a *asker, fs *pflag.FlagSet) {
			fs.DurationVar(&a.interval, "interval", 2*time.Second, "`time` between two questions to the proxy, 500ms to 1h")
			a.defineQuery(fs)
			fs.StringVar(&a.query.Sort, "sort", "-rate", "`key` to sort sessions by at first, with a - in front: the greatest first; "+strings.Join(api.SessionSorts, ", "))
		},
		run: (*asker).top,
	},
	{
		name: "support-bundle", short: "Gather what a report of a bug needs, of the proxy that runs",
		text: `Gather what a report of a bug needs into one .tar.gz: the configuration with secrets as ***, status,
clusters, sessions, failures, the last hour, metrics, and the last lines of the log. It has addresses
and names of clients and brokers, and no record, password or key: look at it before you send it.`,
		example: `  kafka-sni-proxy support-bundle --admin 127.0.0.1:9090
  kafka-sni-proxy support-bundle --config proxy.yaml --output - | tar tz`,
		define: func(a *asker, fs *pflag.FlagSet) {
			fs.StringVar(&a.output, "output", "", "`file` to write, which must not exist yet; - is standard output (default: kafka-sni-proxy-support-TIME.tar.gz)")
		},
		run: (*asker).supportBundle,
	},
}

const askEnd = `
Environment:
  KAFKA_SNI_PROXY_ADMIN_BIND and KAFKA_SNI_PROXY_CONFIG are read as by the proxy. NO_COLOR turns
  colours on a terminal off.

Exit codes:
  0   the proxy has answered
  1   it has not: the reason is printed%s
  2   usage
`

// sessionStates are what Session.State may be.
var sessionStates = []string{"starting", "open", "draining", "drained", "finishing", "cut"}

// asker is one run of such a command.
type asker struct {
	askFlags
	stdout, stderr io.Writer

	asJSON   bool
	check    bool
	all      bool
	query    api.SessionQuery
	interval time.Duration
	output   string
}

// new returns the command's asker and its flags.
func (c *asking) new() (*asker, *pflag.FlagSet) {
	a := &asker{askFlags: askFlags{adminFlags: adminFlags{flags: newFlags()}}}
	fs := newFlagSet()
	fs.SortFlags = false
	a.askFlags.define(fs)
	c.define(a, fs)
	fs.BoolP("help", "h", false, "show this help, and exit")
	return a, fs
}

func (c *asking) end() string { return fmt.Sprintf(askEnd, c.exits) }

func (c *asking) help() string {
	_, fs := c.new()
	return fmt.Sprintf("%s\n\nUsage:\n  kafka-sni-proxy %s FLAGS\n\nExamples:\n%s\n\nFlags:\n%s%s", c.text, c.name, c.example, fs.FlagUsagesWrapped(100), c.end())
}

// findAsking returns a command by its name; nil if it is none of them.
func findAsking(name string) *asking {
	if i := slices.IndexFunc(askings, func(c asking) bool { return c.name == name }); i >= 0 {
		return &askings[i]
	}
	return nil
}

func newAskCommand(c *asking, wrong usageErrors, stdout, stderr io.Writer) *cobra.Command {
	a, fs := c.new()
	a.errors, a.stdout, a.stderr = wrong, stdout, stderr
	cmd := &cobra.Command{
		Use:     c.name,
		Short:   c.short,
		Long:    c.text,
		Example: c.example,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.readEnvironment(cmd.Flags(), ownVariables(os.Environ()))
			a.refuseValues(cmd.Flags())
			return c.run(a, cmd.Context())
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().AddFlagSet(fs)
	for flag, words := range map[string][]string{"sort": sortKeys(), "state": sessionStates} {
		if fs.Lookup(flag) != nil {
			cmd.RegisterFlagCompletionFunc(flag, func(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
				return slices.DeleteFunc(slices.Clone(words), func(word string) bool { return !strings.HasPrefix(word, begun) }), cobra.ShellCompDirectiveNoFileComp
			}) // fails only for flags that are not there
		}
	}
	return cmd
}

// sortKeys are all values of --sort.
func sortKeys() (all []string) {
	for _, key := range api.SessionSorts {
		all = append(all, key, "-"+key)
	}
	return all
}

func (a *asker) defineJSON(fs *pflag.FlagSet) {
	fs.BoolVar(&a.asJSON, "json", false, "print the answer of the admin port as it is, JSON")
}

func (a *asker) defineQuery(fs *pflag.FlagSet) {
	fs.StringVar(&a.query.Text, "filter", "", "only sessions with this `text` in the client's address or id, its software, the server name, the broker or the cluster; in any case of letters")
	fs.StringVar(&a.query.Cluster, "cluster", "", "only sessions of this cluster, by its `name`")
	fs.StringVar(&a.query.Listener, "listener", "", "only sessions of this listener, by its `name`")
	fs.StringVar(&a.query.Broker, "broker", "", "only sessions with this broker, by its `host:port`")
	fs.StringVar(&a.query.State, "state", "", "only sessions in this `state`: "+strings.Join(sessionStates, ", "))
}

// refuseValues finds values that no proxy would take.
func (a *asker) refuseValues(fs *pflag.FlagSet) {
	refuse := func(format string, values ...any) { a.errors = append(a.errors, fmt.Errorf(format, values...)) }
	if fs.Lookup("sort") != nil && !slices.Contains(sortKeys(), a.query.Sort) {
		refuse("--sort: %q is no key to sort by: %s", a.query.Sort, meantWord(a.query.Sort, sortKeys(), "there are "+strings.Join(api.SessionSorts, ", ")))
	}
	if state := a.query.State; state != "" && !slices.Contains(sessionStates, state) {
		refuse("--state: %q is no state of a session: %s", state, meantWord(state, sessionStates, "there are "+strings.Join(sessionStates, ", ")))
	}
	if fs.Lookup("limit") != nil && a.query.Limit < 1 {
		refuse("--limit: has to be 1 or more; --all shows all")
	}
	if fs.Changed("limit") && a.all {
		refuse("--limit, --all: contradict each other: leave one of them out")
	}
	if fs.Lookup("interval") != nil && (a.interval < 500*time.Millisecond || a.interval > time.Hour) {
		refuse("--interval: has to be 500ms to 1h")
	}
}

// meantWord says which of some words was probably meant, or what there is.
func meantWord(word string, words []string, otherwise string) string {
	near := suggest.To(word)
	for _, w := range words {
		near.Compare(w)
	}
	if best := near.Best(); best != "" {
		return "did you mean " + best + "?"
	}
	return otherwise
}

// errWrong is of a status that is not good.
var errWrong = errors.New("something is wrong")

func (a *asker) status(ctx context.Context) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	text, err := c.Raw(ctx, "status", nil)
	if err != nil {
		return explain(c, err)
	}
	s := &api.Status{}
	if err := json.Unmarshal(text, s); err != nil {
		return explain(c, fmt.Errorf("%w: %w", api.ErrNotAdmin, err))
	}
	clusters := &api.Clusters{}
	if !a.asJSON || a.check {
		if clusters, err = c.Clusters(ctx); err != nil {
			return explain(c, err)
		}
	}
	if a.asJSON {
		err = a.writeJSON(text)
	} else {
		var failures *api.Failures
		if failures, err = c.Failures(ctx); err != nil {
			return explain(c, err)
		}
		err = a.writeLines(view.Status(s, clusters, failures, view.StyleOf(a.stdout)))
	}
	if err == nil && a.check && view.IsWrong(view.Findings(s, clusters)) {
		return errWrong
	}
	return err
}

func (a *asker) routes(ctx context.Context) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	text, err := c.Raw(ctx, "clusters", nil)
	if err != nil {
		return explain(c, err)
	}
	all := &api.Clusters{}
	if err := json.Unmarshal(text, all); err != nil {
		return explain(c, fmt.Errorf("%w: %w", api.ErrNotAdmin, err))
	}
	if name := a.query.Cluster; name != "" {
		if err := hasCluster(all, name); err != nil {
			return err
		}
		all.Clusters = slices.DeleteFunc(all.Clusters, func(c api.Cluster) bool { return c.Name != name })
		if text, err = onlyCluster(text, name); err != nil {
			return err
		}
	}
	if a.asJSON {
		return a.writeJSON(text)
	}
	return a.writeLines(view.Routes(all.Clusters, time.Now()).Lines(view.StyleOf(a.stdout)))
}

// onlyCluster leaves the other clusters out of an answer.
func onlyCluster(text []byte, name string) ([]byte, error) {
	var all struct {
		Clusters []json.RawMessage `json:"clusters"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	all.Clusters = slices.DeleteFunc(all.Clusters, func(raw json.RawMessage) bool {
		var c struct {
			Name string `json:"name"`
		}
		return json.Unmarshal(raw, &c) != nil || c.Name != name
	})
	return json.Marshal(all)
}

// hasCluster says which cluster was probably meant when there is none of that name.
func hasCluster(all *api.Clusters, name string) error {
	var names []string
	for _, c := range all.Clusters {
		names = append(names, c.Name)
	}
	if slices.Contains(names, name) {
		return nil
	}
	return fmt.Errorf("--cluster: the proxy has no cluster %q: %s", name, meantWord(name, names, "there are "+strings.Join(names, ", ")))
}

func (a *asker) sessions(ctx context.Context) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	found, raw, err := a.askSessions(ctx, c)
	if err != nil {
		return explain(c, err)
	}
	if found.Matching == 0 && a.query.Cluster != "" { // which may be misspelt
		clusters, err := c.Clusters(ctx)
		if err != nil {
			return explain(c, err)
		}
		if err := hasCluster(clusters, a.query.Cluster); err != nil {
			return err
		}
	}
	if a.asJSON {
		text, err := json.Marshal(map[string]any{"total": found.Total, "matching": found.Matching, "offset": 0, "sessions": raw})
		if err != nil {
			return err
		}
		return a.writeJSON(text)
	}
	if err := a.writeLines(view.Sessions(found.Sessions).Lines(view.StyleOf(a.stdout))); err != nil {
		return err
	}
	if n := len(found.Sessions); n < found.Matching {
		fmt.Fprintf(a.stderr, "%d of %d sessions are shown: --all shows all, --limit more\n", n, found.Matching)
	}
	return nil
}

// askSessions asks for as many sessions as are wanted, page by page, and returns them also as
// they came. They change meanwhile: one that is on two pages is there once.
func (a *asker) askSessions(ctx context.Context, c *api.Client) (found *api.Sessions, raw []json.RawMessage, err error) {
	found, raw = &api.Sessions{}, []json.RawMessage{}
	seen := map[uint64]bool{}
	wanted := a.query.Limit
	for q := a.query; a.all || len(raw) < wanted; {
		q.Limit = api.MaxLimit
		if !a.all {
			q.Limit = min(wanted-len(raw), api.MaxLimit)
		}
		text, err := c.Raw(ctx, "sessions", q.Values())
		if err != nil {
			return nil, nil, err
		}
		var page api.Sessions
		var rawPage struct {
			Sessions []json.RawMessage `json:"sessions"`
		}
		if err := errors.Join(json.Unmarshal(text, &page), json.Unmarshal(text, &rawPage)); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", api.ErrNotAdmin, err)
		}
		found.Total, found.Matching = page.Total, page.Matching
		for i, s := range page.Sessions {
			if !seen[s.ID] {
				seen[s.ID] = true
				found.Sessions, raw = append(found.Sessions, s), append(raw, rawPage.Sessions[i])
			}
		}
		q.Offset += len(page.Sessions)
		if len(page.Sessions) == 0 || q.Offset >= page.Matching {
			break
		}
	}
	return found, raw, nil
}

func (a *asker) top(ctx context.Context) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	out, ok := a.stdout.(*os.File)
	if !ok || !view.IsTerminal(out) || !view.IsTerminal(os.Stdin) {
		return usageErrors{errors.New("top: needs a terminal: kafka-sni-proxy status and kafka-sni-proxy sessions, with the same flags, print the same once")}
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP) // the terminal is gone
	defer stop()
	return top.Run(ctx, top.Options{Client: c, Query: a.query, Interval: a.interval, In: os.Stdin, Out: out, Style: view.StyleOf(out),
		Explain: func(err error) error { return explain(c, err) }})
}

// writeJSON writes an answer so that it can be read, and does nothing to a terminal.
func (a *asker) writeJSON(text []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := a.stdout.Write(view.CleanJSON(b.Bytes()))
	return err
}

func (a *asker) writeLines(lines []string) error {
	_, err := io.WriteString(a.stdout, strings.Join(lines, "\n")+"\n")
	return err
}
