package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const healthText = `Ask the proxy that runs on this machine whether it is well, at its admin port (--admin-bind). This is
for containers and supervisors that have no other program to ask with.`

const healthExample = `  kafka-sni-proxy healthcheck --admin-bind 127.0.0.1:9090
  kafka-sni-proxy healthcheck --config proxy.yaml --ready`

const healthEnd = `
Exit codes:
  0   the proxy is well; with --ready, a new client would be served
  1   it is not, or it does not answer: the reason is printed
  2   usage
`

// healthFlags are the flags of healthcheck.
type healthFlags struct {
	*flags
	ready bool
}

func newHealthFlags() *healthFlags { return &healthFlags{flags: newFlags()} }

func (f *healthFlags) define(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.StringVar(&f.config.Admin.Bind, "admin-bind", "", "`address:port` of the proxy's admin port, as the proxy was given it")
	fs.StringVar(&f.configFile, "config", "", "the proxy's configuration `file`, for admin.bind in it; without --admin-bind")
	fs.BoolVar(&f.ready, "ready", false, "ask whether a new client would be served (/readyz), not only whether the proxy is alive (/healthz)")
	fs.BoolP("help", "h", false, "show this help, and exit")
}

func (f *healthFlags) flagSet() *pflag.FlagSet {
	fs := newFlagSet()
	f.define(fs)
	return fs
}

func healthHelp() string {
	return fmt.Sprintf("%s\n\nUsage:\n  kafka-sni-proxy healthcheck FLAGS\n\nExamples:\n%s\n\nFlags:\n%s%s", healthText, healthExample, newHealthFlags().flagSet().FlagUsagesWrapped(100), healthEnd)
}

func newHealthcheckCommand(wrong usageErrors, stdout io.Writer) *cobra.Command {
	f := newHealthFlags()
	f.errors = wrong
	cmd := &cobra.Command{
		Use:     "healthcheck",
		Short:   "Ask the proxy that runs on this machine whether it is well",
		Long:    healthText,
		Example: healthExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.readEnvironment(cmd.Flags(), os.Environ())
			address, err := f.address()
			if err != nil {
				return err
			}
			return askHealth(cmd.Context(), address, f.ready, stdout)
		},
	}
	f.define(cmd.Flags())
	return cmd
}

// address is where the admin port is reached.
func (f *healthFlags) address() (string, error) {
	bind, wrong := f.config.Admin.Bind, f.errors
	if f.configFile != "" && bind == "" {
		c := readConfiguration(f.configFile, nil)
		wrong = append(wrong, c.wrong...)
		bind = c.config.Admin.Bind
		if bind == "" && len(wrong) == 0 {
			return "", usageErrors{fmt.Errorf("%s has no admin.bind: the proxy has no admin port to ask", f.configFile)}
		}
	}
	if len(wrong) > 0 {
		return "", wrong
	}
	if bind == "" {
		return "", usageErrors{errors.New("--admin-bind: is missing: say where the proxy's admin port is, or give its --config")}
	}
	host, port, err := net.SplitHostPort(bind)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return "", usageErrors{fmt.Errorf("--admin-bind: %q is not address:port, as in 127.0.0.1:9090", bind)}
	}
	if addr, err := netip.ParseAddr(host); host == "" || err == nil && addr.IsUnspecified() {
		host = "localhost" // whichever family it listens on
	}
	return net.JoinHostPort(host, port), nil
}

// healthPatience is how long an answer may take: /readyz may ask brokers for five seconds.
const healthPatience = 8 * time.Second

// askHealth asks an admin port, and prints its answer.
func askHealth(ctx context.Context, address string, ready bool, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, healthPatience)
	defer cancel()
	path := "/healthz"
	if ready {
		path = "/readyz"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // and no proxy
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("%w: see that the proxy runs, with this admin port", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, strings.TrimSpace(string(text)))
	}
	_, err = stdout.Write(text)
	return err
}
