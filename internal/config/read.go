package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Env is what a configuration file may refer to.
type Env struct {
	// Lookup returns the value of an environment variable, and whether it is set.
	Lookup func(name string) (string, bool)
	// ReadFile reads the file of a secret.
	ReadFile func(path string) ([]byte, error)
}

const (
	// MaxFile is the longest file that is read, in bytes. One with 1 000 clusters has about
	// 300 KiB.
	MaxFile = 4 << 20
	// maxValues is how many values a file may have, those counted again that aliases repeat.
	maxValues = 500_000
	// maxDepth is how deep they may be within each other.
	maxDepth = 32
	// maxSecret is the longest secret in a file of its own, in bytes.
	maxSecret = 64 << 10
	// maxMistakes is how many are told. Who has made more of them has made one that is
	// everywhere.
	maxMistakes = 100
)

// Read reads a configuration file. Settings that the file does not have have their
// defaults. The errors are all that is wrong with its form: what is wrong with its values is
// found by [Config.Validate]. The File is for telling of both.
//
// In values, ${VAR} stands for an environment variable, ${VAR:-default} has a default for
// one that is not set or empty, and $${ is ${ itself; ${principal} is left as it is. What a variable holds is never taken
// for YAML.
func Read(name string, data []byte, env Env) (*Config, *File, Errors) {
	r := &reader{env: env, file: newFile(name, data)}
	c := New()
	if root := r.parse(data); root != nil {
		r.value(root, reflect.ValueOf(c).Elem(), "", 0)
	}
	r.file.Sort(r.wrong)
	return c, r.file, r.wrong
}

// reader walks the nodes of a file and the types of the settings together.
type reader struct {
	env    Env
	file   *File
	wrong  Errors
	values int
	ended  bool // by too much of something, which has been told
}

// errorf notes what is wrong at a node.
func (r *reader) errorf(n *yaml.Node, path, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	switch {
	case r.ended:
		return
	case len(r.wrong) == maxMistakes:
		text, path, r.ended = "there are more mistakes from here on: correct these first", "", true
	}
	e := &Error{text: strings.ReplaceAll(shorten(text, maxText), "%", "%%"), at: r.file.within(position{n.Line, n.Column})}
	if path != "" {
		e.Paths = []string{path}
	}
	r.wrong = append(r.wrong, e)
}

// count counts a value at a node, and reports whether to go on.
func (r *reader) count(n *yaml.Node) bool {
	if r.values++; r.values > maxValues {
		r.errorf(n, "", "the file has more than %d values, those counted that aliases repeat", maxValues)
		r.ended = true
	}
	return !r.ended
}

// parse returns the top of the only document; nil when there is none.
func (r *reader) parse(data []byte) *yaml.Node {
	top := &yaml.Node{Line: 1, Column: 1}
	if len(data) > MaxFile {
		r.errorf(top, "", "the file is longer than %d bytes: is it the right one?", MaxFile)
		return nil
	}
	if bytes.HasPrefix(data, []byte{0xFE, 0xFF}) || bytes.HasPrefix(data, []byte{0xFF, 0xFE}) {
		r.errorf(top, "", "the file is UTF-16: save it as UTF-8")
		return nil
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	var document, another yaml.Node
	if err := d.Decode(&document); err == io.EOF {
		r.errorf(top, "", "the file is empty: it needs listeners and clusters")
		return nil
	} else if err != nil {
		r.syntaxError(err)
		return nil
	}
	if err := d.Decode(&another); err == nil {
		r.errorf(begin(&another), "", "a second document begins here: a configuration is one document")
	} else if err != io.EOF {
		r.syntaxError(err)
	}
	root := begin(&document)
	if root.Kind == yaml.DocumentNode || root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		r.errorf(top, "", "the file is empty: it needs listeners and clusters")
		return nil
	}
	return root
}

// begin returns the top of a document; the document itself when there is nothing in it.
func begin(document *yaml.Node) *yaml.Node {
	if len(document.Content) == 0 {
		return document
	}
	return document.Content[0]
}

// syntaxError notes that the file is no YAML.
func (r *reader) syntaxError(err error) {
	var syntax *yaml.LoadError
	if !errors.As(err, &syntax) {
		r.errorf(&yaml.Node{Line: 1, Column: 1}, "", "this is not YAML: %v", err)
		return
	}
	text, mark := syntax.Message, syntax.Mark
	if mark.Index >= r.file.size && syntax.ContextMark.Line > 0 { // something never ends
		text, mark = text+", "+syntax.ContextMsg+" that begins here", syntax.ContextMark
	}
	at := r.file.within(position{mark.Line, mark.Column})
	line := []rune(r.file.lines[at.line-1])
	switch {
	case at.column <= len(line) && line[at.column-1] == '\t':
		text += ": indent with spaces, not with tabs"
	case strings.Contains(string(line), "${"):
		text += ": within { } and [ ], a value with ${…} must be in quotes"
	}
	r.errorf(&yaml.Node{Line: at.line, Column: at.column}, "", "this is not YAML: %s", text)
}

// value reads a node into a setting, or into all that is under a path.
func (r *reader) value(n *yaml.Node, to reflect.Value, path string, depth int) {
	if !r.count(n) {
		return
	}
	r.file.note(path, n)
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if depth++; depth > maxDepth {
		r.errorf(n, path, "values are more than %d deep within each other: an alias may be within what it stands for", maxDepth)
		r.ended = true
		return
	}
	if n.Style&yaml.TaggedStyle != 0 && !strings.HasPrefix(n.Tag, "!!") {
		r.errorf(n, path, "the tag %q has no meaning here: leave it out", n.Tag)
		return
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		r.errorf(n, path, "has no value: give it one, or leave it out")
		return
	}
	if to.Kind() == reflect.Pointer {
		to.Set(reflect.New(to.Type().Elem()))
		to = to.Elem()
	}
	if isScalar(to) {
		r.scalar(n, to, path)
		return
	}
	switch to.Kind() {
	case reflect.Slice:
		r.list(n, to, path, depth)
	case reflect.Map:
		r.named(n, to, path, depth)
	default:
		r.settings(n, to, path, depth)
	}
}

var kinds = map[yaml.Kind]string{yaml.ScalarNode: "one value", yaml.SequenceNode: "a list", yaml.MappingNode: "a group of settings"}

// list reads a list.
func (r *reader) list(n *yaml.Node, to reflect.Value, path string, depth int) {
	if n.Kind != yaml.SequenceNode {
		r.errorf(n, path, "this is %s, and should be a list: write [a, b], or each item on a line of its own behind a hyphen", kinds[n.Kind])
		return
	}
	if len(n.Content) == 0 {
		r.errorf(n, path, "the list is empty: put something in it, or leave it out")
		return
	}
	to.Set(reflect.MakeSlice(to.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		r.value(item, to.Index(i), fmt.Sprintf("%s[%d]", path, i), depth)
	}
}

// named reads things that have names of the user's choice.
func (r *reader) named(n *yaml.Node, to reflect.Value, path string, depth int) {
	if n.Kind != yaml.MappingNode {
		r.errorf(n, path, "this is %s, and should be names, each with settings under it", kinds[n.Kind])
		return
	}
	to.Set(reflect.MakeMap(to.Type()))
	for _, e := range r.entries(n, path, depth) {
		name := e.key.Value
		if !IsName(name) {
			r.errorf(e.key, path, "%q is not a name: it is made of letters, digits, - and _, 64 at the most", name)
			continue
		}
		element := reflect.New(to.Type().Elem()).Elem()
		r.file.noteKey(join(path, name), e.key)
		r.value(e.value, element, join(path, name), depth)
		if element.Kind() != reflect.Pointer || !element.IsNil() {
			to.SetMapIndex(reflect.ValueOf(name), element)
		}
	}
}

// IsName reports whether a cluster, a target or a listener can have a name. It is a label in
// metrics.
func IsName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// settings reads the settings of a group.
func (r *reader) settings(n *yaml.Node, to reflect.Value, path string, depth int) {
	if n.Kind != yaml.MappingNode {
		r.errorf(n, path, "this is %s, and should be a group of settings: one of %s on each line", kinds[n.Kind], strings.Join(keysOf(to.Type()), ", "))
		return
	}
	for _, e := range r.entries(n, path, depth) {
		key := e.key.Value
		if path == "" && strings.HasPrefix(key, "x-") {
			continue // a place for anchors
		}
		field, ok := fieldOf(to, key)
		if !ok {
			r.unknownKey(e.key, to.Type(), path)
			continue
		}
		r.file.noteKey(join(path, key), e.key)
		r.value(e.value, field, join(path, key), depth)
	}
}

// entry is one line of a mapping.
type entry struct{ key, value *yaml.Node }

// entries returns those of a mapping, each key once, with what it merges in (<<). Its own
// keys come before those, and the first one of several that are merged in.
func (r *reader) entries(n *yaml.Node, path string, depth int) (all []entry) {
	first := map[string]int{}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content) && r.count(n.Content[i]); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		switch line, given := first[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			r.errorf(n.Content[i], path, "the name of a setting should be here, not %s", kinds[key.Kind])
		case key.Value == "<<" && key.Style == 0:
			merged = append(merged, value)
		case given:
			r.errorf(key, join(path, inPath(key.Value)), "is given twice: line %d has it, too", line)
		default:
			first[key.Value] = key.Line
			all = append(all, entry{key, value})
		}
	}
	for _, m := range merged {
		for _, e := range r.merged(m, path, depth+1) {
			if _, given := first[e.key.Value]; !given {
				first[e.key.Value] = e.key.Line
				all = append(all, e)
			}
		}
	}
	return all
}

// merged returns what a merge key stands for.
func (r *reader) merged(n *yaml.Node, path string, depth int) (all []entry) {
	at := n
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case !r.count(at):
	case depth > maxDepth:
		r.errorf(at, path, "<< is more than %d deep within itself", maxDepth)
		r.ended = true
	case n.Kind == yaml.SequenceNode:
		for _, one := range n.Content {
			all = append(all, r.merged(one, path, depth+1)...)
		}
	case n.Kind == yaml.MappingNode:
		return r.entries(n, path, depth)
	default:
		r.errorf(at, path, "<< wants a group of settings, as in << : *name, and this is one value")
	}
	return all
}

// join returns the path of a setting under another one.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// inPath returns a key as it stands in a path: in quotes, if it could be taken for a path
// itself.
func inPath(key string) string {
	if IsName(key) {
		return key
	}
	return shorten(strconv.Quote(key), 80)
}

// maxText is how much is told of one mistake, in bytes.
const maxText = 1000

// shorten cuts off a text that is too long to be read.
func shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
