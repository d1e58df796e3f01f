package preflight

import (
	"fmt"
	"io"
	"strings"
)

// colours are for terminals, by level.
var colours = [...]string{OK: "\x1b[32m", Note: "\x1b[36m", Warning: "\x1b[33m", Failed: "\x1b[31m"}

const plain = "\x1b[0m"

// Printable has no line hold what a peer has sent to move a terminal's cursor with.
func Printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' && c != '\n' || c == 0x7f || c >= 0x80 && c < 0xa0 {
			return '?'
		}
		return c
	}, s)
}

// oneLine has no peer begin a line of the report.
func oneLine(s string) string { return strings.ReplaceAll(Printable(s), "\n", "?") }

// Write writes the report for a person: a line for each result, under its subject, with
// what to do in lines below it.
func (r *Report) Write(w io.Writer, coloured bool) error {
	var b strings.Builder
	subject, width := "", 0
	for _, result := range r.Results() {
		width = max(width, min(len(result.What), 44))
	}
	for _, result := range r.Results() {
		if result.Subject != subject {
			subject = result.Subject
			fmt.Fprintf(&b, "%s\n", oneLine(subject))
		}
		level := fmt.Sprintf("%-7s", result.Level)
		if coloured {
			level = colours[result.Level] + level + plain
		}
		text := strings.ReplaceAll(Printable(result.Result), "\n", "\n            ")
		fmt.Fprintf(&b, "  %s  %-*s  %s\n", level, width, oneLine(result.What), text)
		if result.Remedy != "" {
			fmt.Fprintf(&b, "           → %s\n", strings.ReplaceAll(Printable(result.Remedy), "\n", "\n             "))
		}
	}
	if failed := r.Count(Failed); failed > 0 {
		fmt.Fprintf(&b, "\n%d of %d checks failed: this would not work.", failed, len(r.Results()))
	} else {
		fmt.Fprintf(&b, "\nAll of %d checks passed.", len(r.Results()))
	}
	if warnings := r.Count(Warning); warnings > 0 {
		fmt.Fprintf(&b, " Warnings: %d.", warnings)
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}
