package admin

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"kafka-sni-proxy/internal/api"
)

var update = flag.Bool("update", false, "write openapi.yaml anew")

// answers are the paths of the API, and what they answer with.
var answers = []struct {
	path, summary string
	value         any
	parameters    []parameter
}{
	{"status", "The process as a whole", api.Status{}, nil},
	{"clusters", "The clusters that are served, with their brokers", api.Clusters{}, nil},
	{"sessions", "Connections of clients: filtered, sorted, a page at a time", api.Sessions{}, []parameter{
		{"q", "A text that the client's address or id, its software, the server name, the broker or the cluster has, in any case of letters", schema{"type": "string"}},
		{"cluster", "Of this cluster alone", schema{"type": "string"}},
		{"listener", "That came by this listener", schema{"type": "string"}},
		{"broker", "Connected to this broker, host:port", schema{"type": "string"}},
		{"state", "In this state", schema{"type": "string", "enum": []string{"starting", "open", "draining", "drained", "finishing", "cut"}}},
		{"sort", "The order; with a - in front, the greatest first", schema{"type": "string", "enum": sortNames(), "default": "-age"}},
		{"offset", "How many to leave out", schema{"type": "integer", "minimum": 0}},
		{"limit", "How many to give", schema{"type": "integer", "minimum": 1, "maximum": api.MaxLimit, "default": api.DefaultLimit}},
	}},
	{"failures", "The last connections that failed or were refused", api.Failures{}, nil},
	{"history", "The last hour, for plots", api.History{}, []parameter{{"cluster", "Of this cluster alone", schema{"type": "string"}}}},
	{"support", "What a report of a bug needs besides", api.Support{}, nil},
}

type schema = map[string]any

type parameter struct {
	name, text string
	is         schema
}

func sortNames() (names []string) {
	for _, name := range api.SessionSorts {
		names = append(names, name, "-"+name)
	}
	return names
}

// TestOpenAPIIsUpToDate makes the document of the types and their comments.
func TestOpenAPIIsUpToDate(t *testing.T) {
	d := &describer{comments: readComments(t), all: schema{}}
	paths := schema{}
	for _, a := range answers {
		get := schema{"summary": a.summary, "operationId": a.path, "responses": schema{
			"200": schema{"description": "What was asked for", "content": jsonOf(d.of(reflect.TypeOf(a.value)))},
			"401": schema{"description": "The token, or a client certificate, is wanted"},
		}}
		if a.parameters != nil {
			var all []schema
			for _, p := range a.parameters {
				all = append(all, schema{"name": p.name, "in": "query", "description": p.text, "schema": p.is})
			}
			get["parameters"] = all
			problem := schema{"description": "What is wrong with the question", "content": jsonOf(d.of(reflect.TypeOf(api.Problem{})))}
			get["responses"].(schema)[map[string]string{"sessions": "400", "history": "404"}[a.path]] = problem
		}
		paths[api.Prefix+a.path] = schema{"get": get}
	}
	var b bytes.Buffer
	b.WriteString("# Made from internal/api by: go test ./internal/admin -run OpenAPI -update\n")
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(schema{
		"openapi": "3.1.0",
		"info": schema{"title": "kafka-sni-proxy", "version": "v1", "description": "What the proxy is at. It is read only. Fields may be added; those there are stay as they are. " +
			"Times are RFC 3339 in UTC, durations are seconds, sizes are bytes. What is not known is left out. Texts of clients and brokers are cut to 512 bytes, and are never markup."},
		"servers":    []schema{{"url": "http://127.0.0.1:9090", "description": "The address of --admin-bind"}},
		"security":   []schema{{}, {"token": []string{}}, {"password": []string{}}},
		"paths":      paths,
		"components": schema{"schemas": d.all, "securitySchemes": schema{"token": schema{"type": "http", "scheme": "bearer"}, "password": schema{"type": "http", "scheme": "basic", "description": "Any user, and the token as password"}}},
	}); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("openapi.yaml", b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(b.Bytes(), openAPI) {
		t.Error("openapi.yaml is not up to date: go test ./internal/admin -run OpenAPI -update")
	}
}

func jsonOf(is schema) schema { return schema{"application/json": schema{"schema": is}} }

// describer makes schemas of types.
type describer struct {
	comments map[string]string // by type, and by type.field
	all      schema            // of structures, by name
}

func (d *describer) of(t reflect.Type) schema {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return schema{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[api.Column]():
		return schema{"type": "array", "items": schema{"type": []string{"number", "null"}}}
	}
	switch t.Kind() {
	case reflect.String:
		return schema{"type": "string"}
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Float64:
		return schema{"type": "number"}
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint64:
		return schema{"type": "integer"}
	case reflect.Pointer:
		return d.of(t.Elem())
	case reflect.Slice:
		return schema{"type": "array", "items": d.of(t.Elem())}
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": d.of(t.Elem())}
	case reflect.Struct:
		if d.all[t.Name()] == nil {
			d.all[t.Name()] = d.structure(t)
		}
		return schema{"$ref": "#/components/schemas/" + t.Name()}
	}
	panic("no schema for " + t.String())
}

func (d *describer) structure(t reflect.Type) schema {
	properties, required := schema{}, []string{}
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			panic(t.Name() + "." + f.Name + " has no name")
		}
		is := d.of(f.Type)
		if text := d.comments[t.Name()+"."+f.Name]; text != "" {
			is["description"] = text
		}
		properties[name] = is
		if options == "" {
			required = append(required, name)
		}
	}
	return schema{"type": "object", "description": d.comments[t.Name()], "properties": properties, "required": required}
}

// readComments reads the comments of the types and fields of internal/api.
func readComments(t *testing.T) map[string]string {
	file, err := parser.ParseFile(token.NewFileSet(), "../api/api.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, decl := range file.Decls {
		g, ok := decl.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		for _, spec := range g.Specs {
			s := spec.(*ast.TypeSpec)
			all[s.Name.Name] = oneLine(g.Doc.Text())
			is, ok := s.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, f := range is.Fields.List {
				for _, name := range f.Names {
					all[s.Name.Name+"."+name.Name] = oneLine(f.Doc.Text() + f.Comment.Text())
				}
			}
		}
	}
	return all
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// TestAnswersAreAsDocumented asks each path of the document, and reads what it answers as
// the type that the document is made of.
func TestAnswersAreAsDocumented(t *testing.T) {
	var document struct {
		Paths map[string]any `yaml:"paths"`
	}
	if err := yaml.Unmarshal(openAPI, &document); err != nil {
		t.Fatal(err)
	}
	if len(document.Paths) != len(answers) {
		t.Errorf("%d paths are documented, there are %d", len(document.Paths), len(answers))
	}
	h := Handler(busy(), Options{})
	for _, a := range answers {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", api.Prefix+a.path, nil))
		if w.Code != 200 || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" || document.Paths[api.Prefix+a.path] == nil {
			t.Errorf("%s: %d, %v", a.path, w.Code, w.Header())
		}
		value := reflect.New(reflect.TypeOf(a.value))
		read := json.NewDecoder(bytes.NewReader(w.Body.Bytes()))
		read.DisallowUnknownFields()
		if err := read.Decode(value.Interface()); err != nil {
			t.Errorf("%s: %v", a.path, err)
		}
		if strings.Contains(w.Body.String(), "null,") && a.path != "history" || strings.Contains(w.Body.String(), ":null") {
			t.Errorf("%s has a null: %s", a.path, w.Body)
		}
	}
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"sessions?sort=size":    {400, "sort: \\\"size\\\" is none of age, client"},
		"sessions?limit=5000":   {400, "limit: want a number from 1 to 1000"},
		"sessions?offset=-1":    {400, "offset: want a number from 0"},
		"sessions?clutser=a":    {400, "there is no parameter \\\"clutser\\\""},
		"history?cluster=other": {404, "there is no cluster other"},
		"nothing":               {404, "see /api/v1/openapi.yaml"},
		"openapi.yaml":          {200, "openapi: 3.1.0"},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", api.Prefix+path, nil))
		if w.Code != want.status || !strings.Contains(w.Body.String(), want.text) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("DELETE", api.Prefix+"sessions", nil))
	if w.Code != 405 || w.Header().Get("Allow") == "" {
		t.Errorf("DELETE: %d", w.Code)
	}
}

func TestColumnsOfTheHistory(t *testing.T) {
	if len(api.Columns) != columns {
		t.Errorf("%d columns, %d values", len(api.Columns), columns)
	}
}
