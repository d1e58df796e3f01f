package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
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
	adminFlags
	ready bool
}

func newHealthFlags() *healthFlags { return &healthFlags{adminFlags: adminFlags{flags: newFlags()}} }

func (f *healthFlags) define(fs *pflag.FlagSet) {
	fs.SortFlags = false
	f.adminFlags.define(fs)
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
			address, wrong := f.address(healthMissing)
			if wrong = append(f.errors, wrong...); len(wrong) > 0 {
				return wrong
			}
			return askHealth(cmd.Context(), address, f.ready, stdout)
		},
	}
	f.define(cmd.Flags())
	return cmd
}

const healthMissing = "--admin-bind: is missing: say where the proxy's admin port is, or give its --config"

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
	status, text, err := getHealth(ctx, "http://"+address+path)
	if err == nil && status == http.StatusBadRequest && bytes.Contains(text, []byte("HTTP request to an HTTPS server")) {
		status, text, err = getHealth(ctx, "https://"+address+path)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w: see that the proxy runs, with this admin port", err)
	case status != http.StatusOK:
		return fmt.Errorf("%s: %s", path, strings.TrimSpace(string(text)))
	}
	_, err = stdout.Write(text)
	return err
}

// getHealth gets an answer that is no secret, of a port on this machine: whose certificate it
// shows is no matter.
func getHealth(ctx context.Context, url string) (status int, text []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	client := &http.Client{Transport: &http.Transport{ // and no proxy
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
	}}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	text, err = io.ReadAll(io.LimitReader(response.Body, 64<<10))
	return response.StatusCode, text, err
}
