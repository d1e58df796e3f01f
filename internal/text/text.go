// Package text cuts text that a client or a broker has sent, so that it can be written
// anywhere.
package text

import (
	"strings"
	"unicode/utf8"
)

// Cut returns valid UTF-8 of at most so many bytes: whole characters from the beginning of s,
// with U+FFFD in the place of what is not valid.
func Cut(s string, most int) string {
	s = strings.ToValidUTF8(cutAt(s, most), string(utf8.RuneError))
	return cutAt(s, most) // the mark is longer than what it stands for
}

// cutAt returns at most so many bytes of s, and no beginning of a character that goes on behind
// them.
func cutAt(s string, most int) string {
	if len(s) <= most {
		return s
	}
	end := most
	for end > 0 && end > most-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
