package config

import (
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzRead reads files made of anything. Whatever is wrong is told with a place in the file,
// and a configuration in which nothing is wrong can be shown and read again.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{"", "log: {level: info}", "a: [1\n", "\t", "\xff\xfe", "- - -", "x-a: &a {<<: *a}\nlog: *a", "log: {level: '${HOST}'}", "%YAML 1.2\n---\n{}",
		everything, design(f, "one-cluster"), design(f, "two-clusters"), design(f, "authentication"), aListener + twoClusters} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, file, wrong := Read("p.yaml", data, testEnv)
		for _, e := range wrong {
			checkPlace(t, file, e)
		}
		if len(wrong) > 0 {
			return
		}
		bad, doubtful := c.Validate()
		for _, e := range append(bad, doubtful...) {
			checkText(t, file.Text(e))
		}
		if len(bad) > 0 {
			return
		}
		checkShown(t, c)
	})
}

// checkPlace checks that a mistake is somewhere in the file, and can be told.
func checkPlace(t *testing.T, f *File, e *Error) {
	if e.at.line < 1 || e.at.line > len(f.lines) || e.at.column < 1 || e.at.column > utf8.RuneCountInString(f.lines[e.at.line-1])+1 {
		t.Errorf("%v: line %d, column %d is not in the file", e, e.at.line, e.at.column)
	}
	checkText(t, f.Text(e))
}

// checkText checks that a text can be read in a terminal: a line, and two for the excerpt.
func checkText(t *testing.T, text string) {
	if !strings.HasPrefix(text, "p.yaml:") || !utf8.ValidString(text) || len(text) > 3000 || strings.Count(text, "\n") > 2 {
		t.Errorf("%q", text)
	}
}

// checkShown checks that what is shown means the same. Secrets are not shown.
func checkShown(t *testing.T, c *Config) {
	for _, cl := range c.Clusters {
		cl.Via = ""
		if cl.Authentication != nil {
			dropCredentials(cl.Authentication.Brokers)
		}
		for _, target := range cl.Targets {
			target.Via = ""
			if target.Authentication != nil {
				dropCredentials(target.Authentication.Brokers)
			}
		}
	}
	short, err := c.Short()
	if err != nil {
		t.Fatal(err)
	}
	again, _, wrong := Read("short", short, testEnv)
	if len(wrong) > 0 {
		t.Fatalf("%v in\n%s", wrong, short)
	}
	again.Validate() // brings it into form
	text, err := c.Show()
	if err != nil {
		t.Fatal(err)
	}
	if other, err := again.Show(); err != nil || string(other) != string(text) {
		t.Errorf("%v: shown:\n%s\nand read again from its short form:\n%s", err, text, other)
	}
	shown, _, wrong := Read("shown", text, testEnv)
	if len(wrong) > 0 {
		t.Fatalf("%v in\n%s", wrong, text)
	}
	if other, err := shown.Show(); err != nil || !reflect.DeepEqual(other, text) {
		t.Errorf("%v: shown:\n%s\nand shown again:\n%s", err, text, other)
	}
}

func dropCredentials(m *BrokerMechanism) {
	if m != nil {
		m.Credentials.Default, m.Credentials.Proxy, m.Credentials.Template = "", "", ""
	}
}
