package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

const manDir = "../../docs/man"

// TestManualPagesAreUpToDate holds docs/man against the program's own help.
func TestManualPagesAreUpToDate(t *testing.T) {
	for name, want := range manualPages() {
		path := filepath.Join(manDir, name)
		if *update {
			check(t, os.MkdirAll(manDir, 0o755), os.WriteFile(path, []byte(want), 0o644))
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s is not up to date (%v): go test ./cmd/kafka-sni-proxy -run 'TableOfFlags|ManualPages' -update", path, err)
		}
	}
	files, err := filepath.Glob(filepath.Join(manDir, "*"))
	check(t, err)
	if len(files) != len(manualPages()) {
		t.Errorf("there are other files among the manual pages: %q", files)
	}
}

// A page that man complains of is none.
func TestManCanShowTheManualPages(t *testing.T) {
	if _, err := exec.LookPath("man"); err != nil {
		t.Skip("man is not installed")
	}
	for name := range manualPages() {
		cmd := exec.CommandContext(t.Context(), "man", "--warnings", "-E", "UTF-8", "-l", filepath.Join(manDir, name))
		cmd.Env = append(os.Environ(), "MANWIDTH=100", "LC_ALL=C.UTF-8")
		var complaints strings.Builder
		cmd.Stderr = &complaints
		text, err := cmd.Output()
		if err != nil || complaints.Len() > 0 || !strings.Contains(string(text), "EXAMPLES") {
			t.Errorf("%s: %v %s", name, err, complaints.String())
		}
	}
}

// manualPages are the pages by their files.
func manualPages() map[string]string {
	root := newCommand(nil, io.Discard, io.Discard)
	pages := map[string]string{"kafka-sni-proxy.1": manual("kafka-sni-proxy", root.Short, root.Use, root.Long, topics, startFlags(), root.Example,
		commandHelp+"\n"+helpEnd)}
	for _, command := range root.Commands() {
		if command.Hidden {
			continue
		}
		own, end := newFlagSet(), ""
		switch command.Name() {
		case "check":
			newCheckFlags().defineOwn(own)
			end = checkEnd
		case "healthcheck":
			own, end = newHealthFlags().flagSet(), healthEnd
		case "passwd":
			own, end = new(passwdFlags).flagSet(), passwdEnd
		case "config":
			end = afterBlank(configHelp)
		case "completion":
			end = afterBlank(completionHelp)
		}
		if c := findAsking(command.Name()); c != nil {
			_, own = c.new()
			end = c.end()
		}
		long, example := command.Long, command.Example
		if long == "" { // their help is one text
			long, _, _ = strings.Cut(map[string]string{"config": configHelp, "completion": completionHelp}[command.Name()], "\n")
			example = map[string]string{"config": configExample, "completion": completionExample}[command.Name()]
		}
		name := "kafka-sni-proxy-" + command.Name()
		pages[name+".1"] = manual(name, command.Short, "kafka-sni-proxy "+command.Use, long, nil, own, example, end)
	}
	return pages
}

// afterBlank is a text without its first paragraph.
func afterBlank(text string) string {
	_, rest, _ := strings.Cut(text, "\n\n")
	return rest
}

// manual writes a page: man(7).
func manual(name, short, use, long string, topics []topic, flags *pflag.FlagSet, example, end string) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".\\\" Made from the program's own help by a test.\n.TH %s 1 \"\" \"kafka-sni-proxy\" \"User Commands\"\n", strings.ToUpper(roff(name)))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n.SH SYNOPSIS\n%s\n.SH DESCRIPTION\n", roff(name), roff(short), roff(use))
	b.WriteString(strings.ReplaceAll(roff(long), "\n\n", "\n.PP\n") + "\n")
	if topics == nil && flags.HasFlags() {
		b.WriteString(".SH OPTIONS\n")
		flags.VisitAll(func(f *pflag.Flag) { b.WriteString(manualFlag(f)) })
	}
	for i, t := range topics {
		if i == 0 {
			b.WriteString(".SH OPTIONS\n")
		}
		fmt.Fprintf(&b, ".SS %s\n", roff(t.title))
		for _, name := range t.flags {
			b.WriteString(manualFlag(flags.Lookup(name)))
		}
	}
	fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(example))
	open := false
	for line := range strings.SplitSeq(strings.Trim(end, "\n"), "\n") {
		switch title, isTitle := strings.CutSuffix(line, ":"); {
		case isTitle && line[0] != ' ':
			if open {
				b.WriteString(".fi\n")
			}
			fmt.Fprintf(&b, ".SH %s\n.nf\n", strings.ToUpper(roff(title)))
			open = true
		case !open:
			b.WriteString(".SH NOTES\n.nf\n" + roff(line) + "\n")
			open = true
		default:
			b.WriteString(roff(line) + "\n")
		}
	}
	if open {
		b.WriteString(".fi\n")
	}
	b.WriteString(".SH SEE ALSO\nThe documentation that comes with the program: docs/README.md\n")
	return b.String()
}

func manualFlag(f *pflag.Flag) string {
	what, usage := pflag.UnquoteUsage(f)
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + ", " + name
	}
	text := ".TP\n\\fB" + roff(name) + "\\fR"
	if what != "" && f.Value.Type() != "bool" {
		text += " \\fI" + roff(what) + "\\fR"
	}
	if byDefault := defaultOf(f); byDefault != "" {
		usage += " (default " + byDefault + ")"
	}
	return text + "\n" + roff(usage) + "\n"
}

// roff writes text so that it is shown as it is.
func roff(text string) string {
	lines := strings.Split(strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`).Replace(text), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
