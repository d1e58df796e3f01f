package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write docs/flags.md")

const flagsDoc = "../../docs/flags.md"

// TestTableOfFlagsIsUpToDate holds docs/flags.md against the flags themselves.
func TestTableOfFlagsIsUpToDate(t *testing.T) {
	want := tableOfFlags()
	if *update {
		if err := os.WriteFile(flagsDoc, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(flagsDoc)
	if err != nil || string(got) != want {
		t.Errorf("docs/flags.md is not up to date (%v): go test ./cmd/kafka-sni-proxy -run TableOfFlags -update", err)
	}
}

func tableOfFlags() string {
	var b strings.Builder
	b.WriteString(`# Flags

Made from the program's own flags by a test: change them in cmd/kafka-sni-proxy/flags.go, then run
` + "`go test ./cmd/kafka-sni-proxy -run TableOfFlags -update`" + `.

Each flag is also read from an environment variable: ` + "`--sni-suffix`" + ` from ` + "`KAFKA_SNI_PROXY_SNI_SUFFIX`" + `. The flag wins.
All errors in a configuration are reported at once, before anything is started.

| flag | default | |
|---|---|---|
`)
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	newFlags().define(fs)
	fs.VisitAll(func(f *pflag.Flag) {
		what, usage := pflag.UnquoteUsage(f)
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name += ", `-" + f.Shorthand + "`"
		}
		if what != "" && f.Value.Type() != "bool" {
			name += " *" + what + "*"
		}
		byDefault := f.DefValue
		switch {
		case byDefault == "false", byDefault == "[]", byDefault == "0", byDefault == "0s", byDefault == "":
			byDefault = ""
		default:
			byDefault = "`" + byDefault + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, byDefault, strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`).Replace(usage))
	})
	b.WriteString("\nExit codes: 0 done or drained, 1 runtime error or ended by force, 2 usage.\n")
	return b.String()
}
