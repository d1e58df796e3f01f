package view

import (
	"io"
	"os"

	"github.com/charmbracelet/x/term"

	"kafka-sni-proxy/internal/progress"
)

// StyleOf returns how to show text on w: with the width of the terminal that it is.
func StyleOf(w io.Writer) Style {
	f, ok := w.(*os.File)
	if !ok || !progress.IsTerminal(w) {
		return Style{}
	}
	width, _, err := term.GetSize(f.Fd())
	if err != nil || width < 1 { // /dev/null, or a serial line
		return Style{}
	}
	return Style{Width: width, Coloured: progress.IsColoured(w)}
}

// IsTerminal reports whether a person can be shown something on f, and be asked by it.
func IsTerminal(f *os.File) bool { return progress.IsTerminal(f) && term.IsTerminal(f.Fd()) }
