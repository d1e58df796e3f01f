package config

import (
	"fmt"
	"strings"
)

// Error is one thing that is wrong with a setting, or that is likely to be.
type Error struct {
	// Paths are the settings, as in "clusters.kafka.upstream-tls.ca-certs". Several,
	// where they contradict each other.
	Paths []string

	text string
	refs []any    // settings, for the verbs in text
	at   position // in a file, where the reader has found it
}

// Error names settings by their paths.
func (e *Error) Error() string { return e.Text(func(path string) string { return path }) }

// Text says what is wrong and what to do. Settings are named by what name returns for
// their paths: the program's flags, for instance.
func (e *Error) Text(name func(path string) string) string {
	var names []string
	for _, path := range e.Paths {
		names = append(names, name(path))
	}
	refs := make([]any, len(e.refs))
	for i, path := range e.refs {
		refs[i] = name(path.(string))
	}
	text := fmt.Sprintf(e.text, refs...)
	if len(names) == 0 {
		return text
	}
	return strings.Join(names, ", ") + ": " + text
}

// Errors are all that is wrong.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Add notes what is wrong with a setting. err may join several errors: each of its lines
// becomes one.
func (e *Errors) Add(err error, paths ...string) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		*e = append(*e, &Error{Paths: paths, text: strings.ReplaceAll(line, "%", "%%")})
	}
}

// addf is Add with a format, for a message without settings in it.
func (e *Errors) addf(path, format string, args ...any) { e.Add(fmt.Errorf(format, args...), path) }

// refer notes what is wrong with settings, in a text that names others: %s for each.
func (e *Errors) refer(paths []string, text string, refs ...any) {
	*e = append(*e, &Error{Paths: paths, text: text, refs: refs})
}

// ListenerPath returns the path of a setting of a listener.
func ListenerPath(i int, setting string) string { return fmt.Sprintf("listeners[%d].%s", i, setting) }

// ClusterPath returns the path of a setting of a cluster.
func ClusterPath(name, setting string) string { return "clusters." + name + "." + setting }

// TargetPath returns the path of a setting of a cluster's active target.
func TargetPath(name string, c *Cluster, setting string) string {
	if len(c.Targets) == 0 {
		return ClusterPath(name, setting)
	}
	return ClusterPath(name, "targets."+c.Active+"."+setting)
}
