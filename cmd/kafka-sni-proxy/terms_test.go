package main

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestEveryFlagInAHintHasItsKey, so that who has a file is not told of flags. Those of the
// process have none.
func TestEveryFlagInAHintHasItsKey(t *testing.T) {
	process := map[string]bool{"config": true, "log-level": true, "generate-certs": true, "force": true, saveUpstreamCA: true, "yes": true, "help": true, "version": true, "mtls-disable": true}
	fs := newFlagSet()
	newFlags().define(fs)
	fs.VisitAll(func(f *pflag.Flag) {
		if _, ok := keysOfFlags["--"+f.Name]; !ok && !process[f.Name] {
			t.Errorf("--%s has no key in keysOfFlags", f.Name)
		}
	})
	if got := inFileTerms("raise --max-connections, or see --upstream-ca-certs; ulimit -n, --unknown"); got != "raise limits.max-connections, or see upstream-tls.ca-certs; ulimit -n, --unknown" {
		t.Error(got)
	}
	if got := (&app{}).inTerms("see --upstream"); !strings.Contains(got, "--upstream") {
		t.Error(got)
	}
}
