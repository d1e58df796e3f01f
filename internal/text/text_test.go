package text

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestTextsAreCutBetweenCharacters(t *testing.T) {
	for _, test := range []struct{ s, want string }{
		{"", ""},
		{"abcdefgh", "abcdefgh"},
		{"abcdefghi", "abcdefgh"},
		{"abcdefg€", "abcdefg"},
		{"abcde€", "abcde€"},
		{"abcd😀", "abcd😀"},
		{"abcde😀", "abcde"},
		{"a\xffb", "a\ufffdb"},
		{"\xff\xfe\xfd", "\ufffd"},
		{"abcdef\xffg", "abcdef"},
		{"\xc3", "\ufffd"},
		{strings.Repeat("\x80", 100), "\ufffd"},
	} {
		if got := Cut(test.s, 8); got != test.want {
			t.Errorf("%q became %q, want %q", test.s, got, test.want)
		}
	}
}

func FuzzCut(f *testing.F) {
	f.Add("abc\xff€😀", 5)
	f.Fuzz(func(t *testing.T, s string, most int) {
		if most < 0 {
			return
		}
		got := Cut(s, most)
		if len(got) > most || !utf8.ValidString(got) || len(s) <= most && utf8.ValidString(s) && got != s {
			t.Errorf("%q became %q", s, got)
		}
	})
}
