// Package internal holds no code of its own, only the test of who may import
// whom.
package internal

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "kafka-sni-proxy"

// rules says what the non-test code of each package may import; imports go
// down only. A package that is not here has no place in the design yet.
var rules = map[string]struct {
	ours     []string // packages of this module
	others   []string // modules, or what their paths begin with
	never    []string // of the standard library
	noGo     bool     // starts no goroutine
	testOnly bool     // only tests, and programs that are no part of the product, import it
}{
	"cmd/kafka-sni-proxy": {
		ours: []string{"internal/server", "internal/session", "internal/cluster", "internal/tlswire", "internal/kafka",
			"internal/route", "internal/suggest", "internal/hosts", "internal/certs", "internal/config", "internal/reload", "internal/admin", "internal/dial", "internal/preflight", "internal/progress", "internal/accesslog", "internal/trace",
			"internal/api", "internal/histogram", "internal/view", "internal/top", "internal/sasl", "internal/login", "internal/credentials", "internal/principal", "internal/oauth"},
		others: []string{"github.com/spf13/", "github.com/prometheus/", "github.com/fsnotify/", "github.com/coreos/go-systemd/", "github.com/charmbracelet/x/term", "golang.org/x/"},
	},
	"internal/preflight": {
		ours:  []string{"internal/cluster", "internal/tlswire", "internal/kafka", "internal/route", "internal/hosts", "internal/certs", "internal/sasl"},
		never: []string{"flag", "log", "log/slog", "os", "os/signal", "unsafe"},
	},
	"internal/api":         {never: []string{"os", "log", "log/slog", "os/signal", "unsafe", "flag"}, noGo: true},
	"internal/api/apitest": {ours: []string{"internal/api"}, testOnly: true},
	"internal/view": {
		ours:   []string{"internal/api", "internal/progress"},
		others: []string{"github.com/charmbracelet/x/term", "github.com/clipperhouse/displaywidth"},
		never:  []string{"log", "log/slog", "flag"},
		noGo:   true,
	},
	"internal/top": {
		ours:   []string{"internal/api", "internal/view"},
		others: []string{"charm.land/"},
		never:  []string{"net", "log", "log/slog", "flag", "os/signal"},
		noGo:   true,
	},
	"internal/sasl": { // and no socket, no log; log/slog knows how not to print a secret
		others: []string{"github.com/xdg-go/", "golang.org/x/"},
		never:  []string{"net", "os", "log", "unsafe"},
		noGo:   true,
	},
	"internal/credentials": {
		ours:   []string{"internal/sasl", "internal/text"},
		others: []string{"go.yaml.in/yaml/v4"},
		never:  []string{"net", "flag", "log", "log/slog", "os/signal"},
	},
	"internal/oauth": {
		ours:   []string{"internal/sasl", "internal/text"},
		others: []string{"github.com/go-jose/go-jose/v4", "golang.org/x/oauth2"},
		never:  []string{"flag", "log", "log/slog", "os/signal"},
	},
	"internal/login": {
		ours:  []string{"internal/session", "internal/cluster", "internal/tlswire", "internal/route", "internal/sasl", "internal/credentials", "internal/principal", "internal/oauth"},
		never: []string{"flag", "os", "log", "log/slog", "os/signal", "unsafe"},
		noGo:  true,
	},
	"internal/principal": {never: []string{"net", "os", "log", "log/slog", "unsafe"}, noGo: true},
	"internal/histogram": {never: []string{"net", "os", "log", "log/slog", "unsafe"}, noGo: true},
	"internal/progress":  {never: []string{"net", "log", "log/slog"}, noGo: true},
	"internal/page": {
		ours:  []string{"internal/api"},
		never: []string{"net", "flag", "log", "log/slog", "os", "os/signal", "unsafe"},
		noGo:  true,
	},
	"internal/admin": {
		ours:   []string{"internal/api", "internal/page", "internal/server", "internal/session", "internal/cluster", "internal/kafka", "internal/route", "internal/histogram"},
		others: []string{"github.com/prometheus/", "google.golang.org/protobuf/proto"},
		never:  []string{"flag", "os", "os/signal", "unsafe"},
	},
	"internal/server": {
		ours:  []string{"internal/session", "internal/cluster", "internal/kafka", "internal/route", "internal/tlswire", "internal/histogram", "internal/loglimit", "internal/suggest"},
		never: []string{"flag", "os/signal", "unsafe"},
	},
	"internal/session": {
		ours:   []string{"internal/cluster", "internal/tlswire", "internal/kafka", "internal/route", "internal/sasl", "internal/histogram"},
		others: []string{"github.com/pires/go-proxyproto"},
		never:  []string{"flag", "log", "log/slog", "os/signal", "unsafe"},
	},
	"internal/cluster": {
		ours:  []string{"internal/tlswire", "internal/kafka", "internal/sasl", "internal/route", "internal/histogram"},
		never: []string{"flag", "os/signal", "unsafe"},
		noGo:  true,
	},
	"internal/tlswire": {
		others: []string{"golang.org/x/"},
		never:  []string{"flag", "log", "log/slog", "os/signal"},
		noGo:   true,
	},
	"internal/config": { // and no socket, no file: route only says what names and addresses are
		ours:   []string{"internal/route", "internal/suggest"},
		others: []string{"go.yaml.in/yaml/v4"},
		never:  []string{"os", "crypto/tls", "flag", "log", "log/slog"},
		noGo:   true,
	},
	"internal/reload": {
		others: []string{"github.com/fsnotify/"},
		never:  []string{"net", "crypto/tls", "flag", "os/signal"},
		noGo:   true,
	},
	"internal/accesslog": {
		ours:   []string{"internal/loglimit", "internal/text"},
		others: []string{"golang.org/x/sys/"},
		never:  []string{"net", "flag", "os/signal"},
	},
	"internal/trace": {
		ours:   []string{"internal/loglimit", "internal/text"},
		others: []string{"go.opentelemetry.io/proto/otlp/trace/", "go.opentelemetry.io/proto/otlp/common/", "go.opentelemetry.io/proto/otlp/resource/", "google.golang.org/protobuf/"},
		never:  []string{"flag", "os", "os/signal"},
	},
	"internal/text":     {never: []string{"net", "os", "log", "log/slog"}, noGo: true},
	"internal/loglimit": {never: []string{"net", "os"}, noGo: true},
	"internal/kafka": {
		never: []string{"net", "crypto/tls", "log", "log/slog", "os", "time"},
		noGo:  true,
	},
	"internal/suggest": {never: []string{"net", "os", "log", "log/slog"}, noGo: true},
	"internal/route":   {ours: []string{"internal/suggest"}, never: []string{"crypto/tls"}, noGo: true},
	"internal/dial": {
		ours:   []string{"internal/hosts"},
		others: []string{"golang.org/x/net/"},
		never:  []string{"flag", "log", "log/slog", "os/signal"},
	},
	"internal/hosts": {never: []string{"net", "os"}, noGo: true},
	"internal/certs": {noGo: true},
	"internal/harness": {
		never:    []string{"testing"}, // programs use it, too
		testOnly: true,
	},
	"internal/harness/structure": {never: []string{"net", "crypto/tls"}, noGo: true, testOnly: true},
	"internal/harness/procfs": {
		others:   []string{"golang.org/x/sys/"},
		testOnly: true,
	},
	"internal/harness/terminal": {
		others:   []string{"github.com/charmbracelet/x/", "github.com/creack/pty"},
		never:    []string{"testing"}, // interop uses it, too
		testOnly: true,
	},
	"internal/kafkatest": {
		ours:     []string{"internal/certs", "internal/kafka", "internal/route"},
		others:   []string{"github.com/twmb/", "golang.org/x/"},
		testOnly: true,
	},
}

// programs may import whatever they need; they are not part of the product. Those in docs are
// examples of clients.
var programs = []string{"demo", "bench", "chaos", "interop", "docs", "packaging", "contrib"}

func TestImportsGoDownOnly(t *testing.T) {
	seen := map[string]bool{}
	for file, pkg := range sources(t, "..") {
		if isProgram(pkg) {
			continue
		}
		rule, ok := rules[pkg]
		if !ok {
			t.Errorf("%s: the package %s has no rule: say in %s what it may import", file, pkg, "internal/imports_test.go")
			continue
		}
		seen[pkg] = true
		tree, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", file), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range tree.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			switch ours, isOurs := strings.CutPrefix(path, module+"/"); {
			case isOurs && rules[ours].testOnly:
				t.Errorf("%s imports %s, which is for tests", file, path)
			case isOurs && !slices.Contains(rule.ours, ours):
				t.Errorf("%s imports %s: %s may import %v of ours", file, path, pkg, rule.ours)
			case slices.Contains(rule.never, path):
				t.Errorf("%s imports %s, which %s does without", file, path, pkg)
			case !isOurs && strings.Contains(path, ".") && !hasPrefix(path, rule.others):
				t.Errorf("%s imports %s: %s may import %v of others", file, path, pkg, rule.others)
			}
		}
		if rule.noGo {
			ast.Inspect(tree, func(n ast.Node) bool {
				if _, ok := n.(*ast.GoStmt); ok {
					t.Errorf("%s starts a goroutine: %s leaves that to its callers", file, pkg)
				}
				return true
			})
		}
	}
	for pkg := range rules {
		if !seen[pkg] {
			t.Errorf("there is a rule for %s, but no such package", pkg)
		}
	}
}

// sources returns the non-test Go files below root, with their packages' paths.
func sources(t *testing.T, root string) map[string]string {
	files := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") {
			return filepath.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			rel, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			files[filepath.ToSlash(rel)] = filepath.ToSlash(filepath.Dir(rel))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func isProgram(pkg string) bool {
	top, _, _ := strings.Cut(pkg, "/")
	return slices.Contains(programs, top)
}

func hasPrefix(path string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(path, p) })
}

// TestTheProgramHasNoTemplates: html/template, and what executes text/template, has the linker
// keep every method of every type that can be reached, a fifth of the program.
func TestTheProgramHasNoTemplates(t *testing.T) {
	all, err := exec.Command("go", "list", "-deps", "../cmd/kafka-sni-proxy").Output()
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(strings.Fields(string(all)), "html/template") {
		t.Error("the program imports html/template")
	}
}
