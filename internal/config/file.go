package config

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// File is a configuration file as it was read: what is needed to say where in it something
// is wrong.
type File struct {
	name  string
	lines []string
	at    map[string]position // of each setting: of its key, if it has one
}

// position is a place in a file, counted from 1; the zero value is none.
type position struct{ line, column int }

func newFile(name string, data []byte) *File {
	return &File{name: name, lines: strings.Split(string(data), "\n"), at: map[string]position{}}
}

// note notes where a setting is, unless its key has been noted.
func (f *File) note(path string, n *yaml.Node) {
	if _, known := f.at[path]; !known {
		f.at[path] = position{n.Line, n.Column}
	}
}

// noteKey notes where a setting's key is.
func (f *File) noteKey(path string, key *yaml.Node) {
	if _, known := f.at[path]; !known {
		f.at[path] = position{key.Line, key.Column}
	}
}

// Text says what is wrong, where, and shows the line. What is missing is shown where it
// should be: at the settings that it belongs to.
func (f *File) Text(e *Error) string {
	at := e.at
	for i := 0; at == (position{}) && i < len(e.Paths); i++ {
		at = f.find(e.Paths[i])
	}
	text := e.Error()
	if at == (position{}) || at.line > len(f.lines) {
		return f.name + ": " + text
	}
	line := strings.TrimRight(f.lines[at.line-1], "\r")
	return fmt.Sprintf("%s:%d:%d: %s\n%s", f.name, at.line, at.column, text, excerpt(line, at.column))
}

// find returns where a setting is, or else what it is in.
func (f *File) find(path string) position {
	for {
		if at, ok := f.at[path]; ok {
			return at
		}
		end := strings.LastIndexAny(path, ".[")
		if end < 0 {
			return f.at[""]
		}
		path = path[:end]
	}
}

const (
	indent = "      "
	// maxExcerpt is how much of a line is shown, in characters.
	maxExcerpt = 120
)

// excerpt shows a line, and points at a column of it.
func excerpt(line string, column int) string {
	if !utf8.ValidString(line) {
		line = strings.ToValidUTF8(line, "?")
	}
	characters := []rune(strings.ReplaceAll(line, "\t", " "))
	from := max(0, column-maxExcerpt)
	characters = characters[min(from, len(characters)):]
	if len(characters) > maxExcerpt {
		characters = append(characters[:maxExcerpt:maxExcerpt], '…')
	}
	pointer := strings.Repeat(" ", max(min(column-1-from, len(characters)), 0)) + "^"
	return indent + "| " + string(characters) + "\n" + indent + "| " + pointer
}
