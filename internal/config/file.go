package config

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// File is a configuration file as it was read: what is needed to say where in it something
// is wrong.
type File struct {
	// SecretFiles are the files of their own that secrets were read from.
	SecretFiles []string

	name  string
	size  int // in bytes
	lines []string
	at    map[string]position // of each setting: of its key, if it has one

	secrets []string // which are not shown
	dark    bool     // no line is shown: there is a secret that is not found in them as it is
}

// position is a place in a file, counted from 1; the zero value is none.
type position struct{ line, column int }

func newFile(name string, data []byte) *File {
	data = bytes.TrimPrefix(data, []byte("\xEF\xBB\xBF"))
	return &File{name: name, size: len(data), lines: lineBreak.Split(string(data), -1), at: map[string]position{}}
}

// lineBreak is what ends a line in YAML 1.1.
var lineBreak = regexp.MustCompile("\r\n|[\r\n\u0085\u2028\u2029]")

// within returns the position in the file that is nearest to one.
func (f *File) within(p position) position {
	p.line = min(max(p.line, 1), len(f.lines))
	p.column = min(max(p.column, 1), utf8.RuneCountInString(f.lines[p.line-1])+1)
	return p
}

// hide has a secret not shown.
func (f *File) hide(n *yaml.Node) {
	line := ""
	if n.Line >= 1 && n.Line <= len(f.lines) {
		line = f.lines[n.Line-1]
	}
	switch {
	case n.Value == "":
	case strings.Contains(line, n.Value):
		f.secrets = append(f.secrets, n.Value)
	default: // it goes over several lines, or has escapes
		f.dark = true
	}
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
	at := f.placeOf(e)
	text := shorten(printable(e.Error()), maxText)
	if at == (position{}) || at.line > len(f.lines) {
		return f.name + ": " + text
	}
	text = fmt.Sprintf("%s:%d:%d: %s", f.name, at.line, at.column, text)
	if f.dark {
		return text
	}
	return text + "\n" + f.excerpt(at)
}

// placeOf returns where something is wrong.
func (f *File) placeOf(e *Error) position {
	at := e.at
	for i := 0; at == (position{}) && i < len(e.Paths); i++ {
		at = f.find(e.Paths[i])
	}
	return at
}

// Sort brings what is wrong into the order of the file.
func (f *File) Sort(all Errors) {
	slices.SortStableFunc(all, func(a, b *Error) int {
		x, y := f.placeOf(a), f.placeOf(b)
		return cmp.Or(cmp.Compare(x.line, y.line), cmp.Compare(x.column, y.column))
	})
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

// excerpt shows a line without secrets, and points at a column of it.
func (f *File) excerpt(at position) string {
	characters := []rune(strings.ToValidUTF8(f.lines[at.line-1], "?"))
	column := min(at.column-1, len(characters))
	before := f.mask(string(characters[:column]))
	characters = []rune(f.mask(string(characters)))
	column = min(utf8.RuneCountInString(before), len(characters))
	if from := column - maxExcerpt*3/4; from > 0 {
		characters, column = append([]rune("…"), characters[from:]...), column-from+1
	}
	if len(characters) > maxExcerpt {
		characters = append(characters[:maxExcerpt:maxExcerpt], '…')
	}
	return indent + "| " + string(characters) + "\n" + indent + "| " + strings.Repeat(" ", column) + "^"
}

// password is what stands between the user and the host of a URL.
var password = regexp.MustCompile(`(://[^\s:/@]*:)[^\s@]+@`)

// mask returns a piece of a line as it can be shown.
func (f *File) mask(text string) string {
	for _, secret := range f.secrets {
		text = strings.ReplaceAll(text, secret, "***")
	}
	text = password.ReplaceAllString(text, "${1}***@")
	return printable(text)
}

// printable returns a text in one line, without what a terminal would obey.
func printable(text string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == '\t', c == '\n':
			return ' '
		case !unicode.IsPrint(c):
			return '?'
		}
		return c
	}, text)
}
