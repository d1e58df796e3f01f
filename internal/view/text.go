// Package view shows what the admin port tells (internal/api) as text: tables that fit a
// terminal, or whole and aligned where there is none, so that awk and grep can work with
// them. What clients and brokers have sent is cleaned of control characters before.
package view

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/clipperhouse/displaywidth"
)

// Clean returns text with nothing in it that a terminal would act on: control characters,
// those that change the direction of writing, and bytes that are no UTF-8 are replaced.
func Clean(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) { // U+FFFD, which stands for invalid bytes, is
			return '�'
		}
		return r
	}, text)
}

// CleanJSON returns JSON in which what a terminal would act on is escaped. It means the same.
func CleanJSON(text []byte) []byte {
	var b strings.Builder
	for _, r := range string(text) {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xFFFF:
			high, low := (r-0x10000)>>10+0xD800, (r-0x10000)&0x3FF+0xDC00
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return []byte(b.String())
}

// Width returns how many cells of a terminal text takes.
func Width(text string) int { return displaywidth.String(text) }

// Cut returns text in at most width cells, with … where something is missing.
func Cut(text string, width int) string {
	switch {
	case Width(text) <= width:
		return text
	case width <= 0:
		return ""
	}
	return displaywidth.TruncateString(text, width, "…")
}

// wrap breaks text into lines of at most width cells, between words where it can. A width
// below 1 breaks nothing.
func wrap(text string, width int) []string {
	if width < 1 || Width(text) <= width {
		return []string{text}
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case Width(line)+1+Width(word) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
		for Width(line) > width { // a word that is longer than a line
			head := displaywidth.TruncateString(line, width, "")
			if head == "" {
				break
			}
			lines, line = append(lines, head), line[len(head):]
		}
	}
	return append(lines, line)
}

// none stands where there is no value.
const none = "-"

// orNone returns text, or a sign for none.
func orNone(text string) string {
	if text == "" {
		return none
	}
	return text
}

// Bytes writes a size in the units of 1024: 17B, 1.5KiB, 230MiB.
func Bytes(n float64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	i := 0
	for n >= 1023.5 && i < len(units)-1 {
		n /= 1024
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%.0fB", n)
	}
	return three(n) + units[i]
}

// Count writes a number, large ones in thousands: 17, 1.5k, 230M.
func Count(n float64) string {
	units := []string{"", "k", "M", "G", "T"}
	i := 0
	for n >= 9999.5 && i == 0 || n >= 999.5 && i > 0 && i < len(units)-1 {
		n /= 1000
		i++
	}
	if i == 0 {
		if n > 0 && n < 9.95 && n != float64(int64(n)) {
			return fmt.Sprintf("%.1f", n)
		}
		return fmt.Sprintf("%.0f", n)
	}
	return three(n) + units[i]
}

// three writes a number with about three digits.
func three(n float64) string {
	if n < 99.95 {
		return fmt.Sprintf("%.1f", n)
	}
	return fmt.Sprintf("%.0f", n)
}

// Seconds writes a time: 350µs, 4.1ms, 12.0s, 5m, 3h20m, 12d.
func Seconds(s float64) string {
	switch {
	case s <= 0:
		return "0s"
	case s < 0.0009995:
		return fmt.Sprintf("%.0fµs", max(s*1e6, 1))
	case s < 0.9995:
		return three(s*1e3) + "ms"
	case s < 60:
		return fmt.Sprintf("%.1fs", s)
	}
	minutes := int64(s) / 60
	switch hours := minutes / 60; {
	case hours >= 48:
		return withRest(hours/24, "d", hours%24, "h", 10)
	case hours > 0:
		return withRest(hours, "h", minutes%60, "m", 10)
	}
	return withRest(minutes, "m", int64(s)%60, "s", 10)
}

// withRest writes a number of units and of the next smaller ones, unless there are many of
// the first.
func withRest(n int64, unit string, rest int64, smaller string, many int64) string {
	if rest == 0 || n >= many {
		return fmt.Sprintf("%d%s", n, unit)
	}
	return fmt.Sprintf("%d%s%d%s", n, unit, rest, smaller)
}

// whole writes a time of seconds or more without fractions: an age.
func whole(s float64) string {
	if s < 60 {
		return fmt.Sprintf("%.0fs", max(s, 0))
	}
	return Seconds(s)
}

// ago is how long something has lasted; none when it is not known since when.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return none
	}
	return whole(now.Sub(t).Seconds())
}

// clock is a time of day in this place, with the day when that is another one.
func clock(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format("15:04:05")
	}
	return t.Format("2006-01-02 15:04:05")
}

// since says from when on something is so, and for how long.
func since(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " since " + clock(t, now) + " (" + ago(t, now) + ")"
}

// yes is a word for a table.
func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
