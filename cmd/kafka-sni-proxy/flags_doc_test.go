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
Only ` + "`--help`, `--version`, `--save-upstream-ca` and `--yes`" + ` have none.
All errors in a configuration are reported at once, before anything is started.

`)
	fs := startFlags()
	for _, t := range topics {
		fmt.Fprintf(&b, "## %s\n\n| flag | default | |\n|---|---|---|\n", t.title)
		for _, name := range t.flags {
			b.WriteString(rowOf(fs.Lookup(name)))
		}
		b.WriteString("\n")
	}
	b.WriteString("## Of check alone\n\nBeside the flags above: see [check](check.md).\n\n| flag | default | |\n|---|---|---|\n")
	own := newFlagSet()
	newCheckFlags().defineOwn(own)
	own.VisitAll(func(f *pflag.Flag) { b.WriteString(rowOf(f)) })
	b.WriteString("\n## Of status, routes, sessions and top\n\nSee [status](status.md). Only `--admin-bind` and `--config` have a variable here, that of the proxy.\n")
	b.WriteString("\n| flag | default | |\n|---|---|---|\n")
	all := newFlagSet()
	(&askFlags{adminFlags: adminFlags{flags: newFlags()}}).define(all)
	all.VisitAll(func(f *pflag.Flag) { b.WriteString(rowOf(f)) })
	for _, c := range askings {
		fmt.Fprintf(&b, "\nOf %s alone:\n\n| flag | default | |\n|---|---|---|\n", c.name)
		_, own := c.new()
		own.VisitAll(func(f *pflag.Flag) {
			if all.Lookup(f.Name) == nil && f.Name != "help" {
				b.WriteString(rowOf(f))
			}
		})
	}
	b.WriteString("\n## Of passwd\n\nSee [authentication](authentication.md). No variable is read here.\n\n| flag | default | |\n|---|---|---|\n")
	new(passwdFlags).flagSet().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" {
			b.WriteString(rowOf(f))
		}
	})
	b.WriteString("\nExit codes: 0 done or drained, 1 runtime error or ended by force, 2 usage.\n")
	return b.String()
}

// rowOf is the row of a flag in its table.
func rowOf(f *pflag.Flag) string {
	what, usage := pflag.UnquoteUsage(f)
	name := "`--" + f.Name + "`"
	if f.Shorthand != "" {
		name += ", `-" + f.Shorthand + "`"
	}
	if what != "" && f.Value.Type() != "bool" {
		name += " *" + what + "*"
	}
	byDefault := defaultOf(f)
	if byDefault != "" {
		byDefault = "`" + byDefault + "`"
	}
	return fmt.Sprintf("| %s | %s | %s |\n", name, byDefault, strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`).Replace(usage))
}

// defaultOf is the value of a flag that is not given; "" where that is none.
func defaultOf(f *pflag.Flag) string {
	switch f.DefValue {
	case "false", "[]", "0", "0s":
		return ""
	}
	return f.DefValue
}

// Each flag is under one topic, or nobody would find it.
func TestEachFlagHasATopic(t *testing.T) {
	found := map[string]int{}
	for _, topic := range topics {
		for _, name := range topic.flags {
			found[name]++
		}
	}
	startFlags().VisitAll(func(f *pflag.Flag) {
		if found[f.Name] != 1 {
			t.Errorf("--%s is under %d topics", f.Name, found[f.Name])
		}
		delete(found, f.Name)
	})
	for name := range found {
		t.Errorf("there is no --%s", name)
	}
}
