package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/invopop/jsonschema"
	validate "github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

var update = flag.Bool("update", false, "write the reference in docs/configuration.md, and the schema")

const (
	guideFile  = "../../docs/configuration.md"
	schemaFile = "../../docs/configuration.schema.json"
	beginMark  = "<!-- reference: made by a test -->\n"
	endMark    = "<!-- end of the reference -->\n"
)

// comments returns the doc comments of the fields of the settings' types, by type and field.
func comments(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, file := range []string{"config.go", "authentication.go"} {
		commentsOf(t, file, all)
	}
	return all
}

func commentsOf(t *testing.T, file string, all map[string]string) {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		group, ok := spec.Type.(*ast.StructType)
		if !ok {
			return false
		}
		for _, field := range group.Fields.List {
			for _, name := range field.Names {
				text := strings.Join(strings.Fields(field.Doc.Text()), " ")
				if text == "" {
					t.Errorf("%s.%s has no doc comment: it is the reference for users", spec.Name.Name, name.Name)
				}
				all[spec.Name.Name+"."+name.Name] = text
			}
		}
		return false
	})
}

// form says how a setting is written.
func form(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.TypeFor[Size]():
		return "size"
	case reflect.TypeFor[Ratio]():
		return "share"
	case reflect.TypeFor[PortRange]():
		return "port range"
	case reflect.TypeFor[Network]():
		return "network"
	case reflect.TypeFor[Secret](), reflect.TypeFor[Template]():
		return "secret"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return form(t.Elem())
	case reflect.Slice:
		return "list of " + strings.TrimSuffix(form(t.Elem()), "s") + "s"
	case reflect.Map:
		return "names, each with settings"
	case reflect.Struct:
		return "settings"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	}
	return "number"
}

// element is the struct that a setting is made of, or a list or a map of; nil for none.
func element(t reflect.Type) reflect.Type {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return element(t.Elem())
	case reflect.Map:
		return element(t.Elem())
	case reflect.Struct:
		if t.PkgPath() == reflect.TypeFor[Config]().PkgPath() && t.NumField() > 0 && t.Field(0).Tag.Get("yaml") != "" {
			return t
		}
	}
	return nil
}

// reference is the table of all settings.
func reference(t *testing.T) string {
	docs := comments(t)
	var b strings.Builder
	var write func(group reflect.Type, path string)
	write = func(group reflect.Type, path string) {
		title := "The file"
		if path != "" {
			title = "`" + path + "`"
		}
		fmt.Fprintf(&b, "### %s\n\n| key | | |\n|---|---|---|\n", title)
		var below []func()
		var rows func(group reflect.Type)
		rows = func(group reflect.Type) {
			for i := range group.NumField() {
				f := group.Field(i)
				key, inline := keyOf(f)
				if inline {
					rows(f.Type)
					continue
				}
				text := strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`).Replace(docs[group.Name()+"."+f.Name])
				fmt.Fprintf(&b, "| `%s` | %s | %s |\n", key, form(f.Type), text)
				if e := element(f.Type); e != nil {
					deeper := join(path, key)
					switch f.Type.Kind() {
					case reflect.Slice:
						deeper += "[]"
					case reflect.Map:
						deeper += ".NAME"
					}
					below = append(below, func() { write(e, deeper) })
				}
			}
		}
		rows(group)
		b.WriteString("\n")
		for _, f := range below {
			f()
		}
	}
	write(reflect.TypeFor[Config](), "")
	return b.String()
}

func TestReferenceIsUpToDate(t *testing.T) {
	guide, err := os.ReadFile(guideFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(guide), beginMark)
	_, after, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		t.Fatalf("%s lacks the marks around the reference", guideFile)
	}
	want := before + beginMark + "\n" + reference(t) + endMark + after
	if *update {
		if err := os.WriteFile(guideFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(guide) != want {
		t.Errorf("%s is not up to date: go test ./internal/config -run UpToDate -update", guideFile)
	}
}

// variable is what may stand in the place of any value.
const variable = `\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}`

// text returns the schema of a value that is written in some form.
func text(pattern, example string) *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: "^(" + pattern + "|.*" + variable + ".*)$", Examples: []any{example}}
}

// orVariable returns the schema of a value that is no text, or a variable.
func orVariable(kind string) *jsonschema.Schema {
	return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: kind}, {Type: "string", Pattern: "^" + variable + "$"}}}
}

// schema is the JSON Schema of the file, made from its types.
func schema(t *testing.T) []byte {
	docs := comments(t)
	r := &jsonschema.Reflector{
		FieldNameTag:               "yaml",
		RequiredFromJSONSchemaTags: true,
		ExpandedStruct:             true,
		Mapper: func(of reflect.Type) *jsonschema.Schema {
			switch form(of) {
			case "duration":
				return text(`([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+|0`, "30s")
			case "size":
				return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "integer"}, text(`[0-9]+ ?(B|KiB|MiB|GiB)?`, "100MiB")}}
			case "share":
				return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "number", Minimum: "0", Maximum: "1"}, {Type: "string", Pattern: "^" + variable + "$"}}}
			case "port range":
				return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "integer"}, text(`[0-9]+ ?(- ?[0-9]+)?`, "9193-9292")}}
			case "network":
				return &jsonschema.Schema{Type: "string", Examples: []any{"10.0.0.0/8"}}
			case "secret":
				return &jsonschema.Schema{Type: "string", Examples: []any{"${PASSWORD}", "file:/run/secrets/password"}}
			case "true or false":
				return orVariable("boolean")
			case "number":
				return orVariable("integer")
			}
			return nil
		},
		LookupComment: func(of reflect.Type, field string) string { return docs[of.Name()+"."+field] },
	}
	s := r.Reflect(&Config{})
	s.ID = ""
	s.Title = "Configuration of kafka-sni-proxy"
	s.PatternProperties = map[string]*jsonschema.Schema{"^x-": {}}
	out, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return append(out, '\n')
}

func TestSchemaIsUpToDate(t *testing.T) {
	want := schema(t)
	if *update {
		if err := os.WriteFile(schemaFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, err := os.ReadFile(schemaFile); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not up to date (%v): go test ./internal/config -run UpToDate -update", schemaFile, err)
	}
}

// compiled is the schema, ready to be used.
func compiled(t *testing.T) *validate.Schema {
	t.Helper()
	c := validate.NewCompiler()
	var doc any
	if err := json.Unmarshal(schema(t), &doc); err != nil {
		t.Fatal(err)
	}
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// examples are the YAML files that a document has.
func examples(t *testing.T, file string) []string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(content), -1) {
		all = append(all, m[1])
	}
	return all
}

// TestEveryExampleIsRead, of the documents and of testdata, by the reader and by the schema.
func TestEveryExampleIsRead(t *testing.T) {
	s := compiled(t)
	all := examples(t, guideFile)
	if len(all) < 6 {
		t.Errorf("%d examples in %s", len(all), guideFile)
	}
	ours := regexp.MustCompile(`(?m)^(listeners|clusters):`)
	for _, pattern := range []string{"../../*.md", "../../docs/*.md", "../../docs/quickstart/*.md"} {
		pages, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range pages {
			for _, example := range examples(t, page) {
				// Other programs have files in YAML, too.
				if page != guideFile && ours.MatchString(example) {
					all = append(all, example)
				}
			}
		}
	}
	if len(all) < 15 {
		t.Errorf("only %d examples in all pages", len(all))
	}
	for _, name := range []string{"one-cluster", "two-clusters", "authentication"} {
		content, err := os.ReadFile("testdata/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(content))
	}
	for i, text := range all {
		c, file, wrong := Read("example.yaml", []byte(text), anyEnv)
		for _, e := range wrong {
			t.Errorf("example %d: %s\n%s", i, file.Text(e), text)
		}
		invalid, _ := c.Validate()
		for _, e := range invalid {
			t.Errorf("example %d: %s\n%s", i, file.Text(e), text)
		}
		if err := s.Validate(plain(t, text)); err != nil {
			t.Errorf("example %d does not fit the schema: %v\n%s", i, err, text)
		}
	}
}

// plain is a YAML file as a schema sees it.
func plain(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := validate.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestSchemaRefusesWhatTheReaderDoes(t *testing.T) {
	s := compiled(t)
	for _, text := range []string{
		"listeners: 1\n",
		"trace: {requests: 2}\n",
		"trace: {requests: many}\n",
		"clusters: [a]\n",
		"clusters: {a: {upstraem: [a:1]}}\n",
		"timeouts: {idle: 30}\n",
		"timeouts: {idle: soon}\n",
		"limits: {max-frame: 3MB}\n",
		"listeners: [{bind: a, plaintext: 1}]\n",
		"listeners: [{bind: a, ports: {brokers: many}}]\n",
		"unknown: {}\n",
	} {
		_, _, wrong := Read("x.yaml", []byte(text), anyEnv)
		if err := s.Validate(plain(t, text)); err == nil || len(wrong) == 0 {
			t.Errorf("%q: schema %v, reader %v", text, err, wrong)
		}
	}
}

// anyEnv has every variable and every secret.
var anyEnv = Env{
	Lookup:   func(string) (string, bool) { return "1", true },
	ReadFile: func(string) ([]byte, error) { return []byte("socks5://gate:1080\n"), nil },
}
