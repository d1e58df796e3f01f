// Structure measures how a checkout is built: for each package, its files and lines, the
// names that it exports, its longest function, and how many of its files refer to each
// other, in how many places, and how many of these references run in a circle: between
// files none of which can be read before the other. It needs the Go tool alone.
//
//	go run ./internal/harness/structure [folder of a module]
package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
)

func main() {
	dir := "."
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	if err := run(dir, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "structure:", err)
		os.Exit(1)
	}
}

// listed is what "go list" says of a package.
type listed struct {
	Dir, ImportPath, Export            string
	GoFiles, TestGoFiles, XTestGoFiles []string
	Standard                           bool
	Module                             *struct{ Main bool }
}

func run(dir string, out io.Writer) error {
	packages, err := list(dir)
	if err != nil {
		return err
	}
	exports := map[string]string{}
	for _, p := range packages {
		exports[p.ImportPath] = p.Export
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "package\tfiles\tlines\ttest lines\texported\tlongest function\treferences\tin a circle\t")
	for _, p := range packages {
		if p.Module == nil || !p.Module.Main || len(p.GoFiles) == 0 {
			continue
		}
		m, err := measure(p, exports)
		if err != nil {
			return fmt.Errorf("%s: %w", p.ImportPath, err)
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", p.ImportPath, len(p.GoFiles), m.lines, m.testLines, m.exported, m.longest, m.references, m.circular)
	}
	return t.Flush()
}

func list(dir string) ([]listed, error) {
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=Dir,ImportPath,Export,GoFiles,TestGoFiles,XTestGoFiles,Standard,Module", "./...")
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var all []listed
	for d := json.NewDecoder(stdout); d.More(); {
		var p listed
		if err := d.Decode(&p); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, cmd.Wait()
}

// measures are of one package.
type measures struct {
	lines, testLines, exported, longest int
	references                          int // from one file of the package to another
	circular                            int // of these, between files that refer to each other in a circle
}

func measure(p listed, exports map[string]string) (m measures, err error) {
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return m, err
		}
		files = append(files, f)
		m.lines += fset.File(f.Pos()).LineCount()
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				m.longest = max(m.longest, fset.Position(fn.End()).Line-fset.Position(fn.Pos()).Line+1)
			}
		}
	}
	for _, name := range append(p.TestGoFiles, p.XTestGoFiles...) {
		content, err := os.ReadFile(filepath.Join(p.Dir, name))
		if err != nil {
			return m, err
		}
		m.testLines += strings.Count(string(content), "\n")
	}
	lookup := func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
	config := types.Config{Importer: importer.ForCompiler(fset, "gc", lookup)}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	pkg, err := config.Check(p.ImportPath, fset, files, info)
	if err != nil {
		return m, err
	}
	m.exported = exportedNames(pkg)
	m.references, m.circular = references(fset, pkg, info)
	return m, nil
}

// exportedNames counts the exported names of a package, methods and fields included.
func exportedNames(pkg *types.Package) (n int) {
	for _, name := range pkg.Scope().Names() {
		object := pkg.Scope().Lookup(name)
		if !object.Exported() {
			continue
		}
		n++
		named, ok := object.Type().(*types.Named)
		if _, isType := object.(*types.TypeName); !isType || !ok {
			continue
		}
		for method := range named.Methods() {
			if method.Exported() {
				n++
			}
		}
		if fields, ok := named.Underlying().(*types.Struct); ok {
			for field := range fields.Fields() {
				if field.Exported() {
					n++
				}
			}
		}
	}
	return n
}

// references counts the pairs of files of which one uses something that the other one
// declares, and of these the pairs in a circle.
func references(fset *token.FileSet, pkg *types.Package, info *types.Info) (all, circular int) {
	uses := map[string]map[string]bool{}
	for ident, object := range info.Uses {
		if object.Pkg() != pkg || !object.Pos().IsValid() {
			continue
		}
		from, to := fset.Position(ident.Pos()).Filename, fset.Position(object.Pos()).Filename
		if from == to {
			continue
		}
		if uses[from] == nil {
			uses[from] = map[string]bool{}
		}
		uses[from][to] = true
	}
	for from, targets := range uses {
		for to := range targets {
			all++
			if reaches(uses, to, from, map[string]bool{}) {
				circular++
			}
		}
	}
	return all, circular
}

func reaches(uses map[string]map[string]bool, from, to string, seen map[string]bool) bool {
	if from == to {
		return true
	}
	seen[from] = true
	for next := range uses[from] {
		if !seen[next] && reaches(uses, next, to, seen) {
			return true
		}
	}
	return false
}
