// Package principal makes the name of a client of its certificate, as Kafka's brokers do:
// the subject as a text (RFC 2253), and rules that make a short name of it
// (ssl.principal.mapping.rules, KIP-371).
//
// Rules are written in Java's regular expressions. Here they are Go's, which take time in
// proportion to the subject, whatever a client puts there, and so have no look-around and no
// back-references within the pattern; Parse refuses those.
package principal

import (
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxLen is the longest principal, in bytes.
const MaxLen = 1024

// Mapper makes principals of certificates, by the first rule that is for one. It may be used
// concurrently.
type Mapper struct {
	text  string
	rules []rule
}

// rule is one of ssl.principal.mapping.rules; without a pattern it is DEFAULT.
type rule struct {
	pattern     *regexp.Regexp
	whole       *regexp.Regexp // the pattern, of the whole text
	atEnd       *regexp.Regexp // whether it is also there, empty, at the end of a text
	replacement []part
	convert     func(string) string // nil: as it is
}

// part is a part of a replacement: a text, or a group of the match.
type part struct {
	text  string
	group int // -1: the text
}

// These are those of Kafka's SslPrincipalMapper.
const ruleForm = `(DEFAULT)|RULE:((?:\\.|[^\\/])*)/((?:\\.|[^\\/])*)/([LU]?).*?|(.*?)`

var (
	ruleSplitter = regexp.MustCompile(`\s*(` + ruleForm + `)\s*(,\s*|$)`)
	ruleParser   = regexp.MustCompile(`^(?:` + ruleForm + `)`)
)

// Parse reads rules, separated by commas: DEFAULT, for the whole subject, or
// RULE:pattern/replacement/ with L or U behind it for lower or upper case. No rule is
// DEFAULT. The error says which rule is wrong, and why.
func Parse(rules string) (*Mapper, error) {
	m := &Mapper{text: rules}
	if strings.TrimSpace(rules) == "" {
		m.rules = []rule{{}}
		return m, nil
	}
	for _, found := range ruleSplitter.FindAllStringSubmatch(strings.TrimSpace(rules), -1) {
		text := found[1]
		if text == "" {
			continue // a comma too many
		}
		is := ruleParser.FindStringSubmatch(text)
		switch {
		case len(is[0]) != len(text) && strings.HasPrefix(text, "RULE:"):
			return nil, fmt.Errorf("the rule %q: want RULE:pattern/replacement/, with L or U behind it or nothing; a / in it is written \\/", text)
		case len(is[0]) != len(text):
			return nil, fmt.Errorf("%q is not a rule: want RULE:pattern/replacement/ or DEFAULT", text)
		case is[1] != "":
			m.rules = append(m.rules, rule{})
			continue
		}
		r, err := parseRule(is[2], is[3], is[4])
		if err != nil {
			return nil, fmt.Errorf("the rule %q: %w", text, err)
		}
		m.rules = append(m.rules, r)
	}
	if len(m.rules) == 0 {
		return nil, fmt.Errorf("there is no rule in %q: want RULE:pattern/replacement/ or DEFAULT", rules)
	}
	return m, nil
}

func parseRule(pattern, replacement, convert string) (r rule, err error) {
	if r.pattern, err = regexp.Compile(pattern); err != nil {
		if strings.Contains(pattern, "(?=") || strings.Contains(pattern, "(?!") || strings.Contains(pattern, "(?<") || strings.Contains(pattern, "(?>") {
			return r, fmt.Errorf("look-around and atomic groups are not done here, as they can take for ever: write the pattern without (%w)", err)
		}
		return r, err
	}
	r.whole = regexp.MustCompile(`\A(?:` + pattern + `)\z`)
	r.atEnd = regexp.MustCompile(`(?s:\A(.*))(?:` + pattern + `)\z`)
	if r.replacement, err = parseReplacement(replacement, r.pattern.NumSubexp()); err != nil {
		return r, err
	}
	switch convert {
	case "L":
		r.convert = strings.ToLower
	case "U":
		r.convert = strings.ToUpper
	}
	return r, nil
}

// parseReplacement reads a replacement as Java's Matcher.appendReplacement does, with what
// Kafka does before: a reference to a group that there is not is a text.
func parseReplacement(text string, groups int) (parts []part, err error) {
	literal := func(s string) {
		if last := len(parts) - 1; last >= 0 && parts[last].group < 0 {
			parts[last].text += s
			return
		}
		parts = append(parts, part{s, -1})
	}
	for text != "" {
		switch {
		case text[0] == '\\' && len(text) == 1:
			return nil, errors.New("the replacement ends with a backslash")
		case text[0] == '\\':
			_, size := utf8.DecodeRuneInString(text[1:])
			literal(text[1 : 1+size])
			text = text[1+size:]
		case text[0] != '$':
			_, size := utf8.DecodeRuneInString(text)
			literal(text[:size])
			text = text[size:]
		case len(text) == 1 || text[1] < '0' || text[1] > '9':
			return nil, errors.New(`a $ in the replacement wants the number of a group behind it: write \$ for a dollar`)
		default:
			group, n := int(text[1]-'0'), 2
			if group > groups && groups == 0 {
				return nil, fmt.Errorf("the replacement has %s, and the pattern has no group ( )", text[:2])
			}
			if group > groups {
				literal(text[:2])
				text = text[2:]
				continue
			}
			for n < len(text) && text[n] >= '0' && text[n] <= '9' && group*10+int(text[n]-'0') <= groups {
				group = group*10 + int(text[n]-'0')
				n++
			}
			parts = append(parts, part{"", group})
			text = text[n:]
		}
	}
	return parts, nil
}

// Principal returns the name of the client with a certificate. ok is false when no rule is
// for it.
func (m *Mapper) Principal(cert *x509.Certificate) (name string, ok bool, err error) {
	subject, err := Subject(cert.RawSubject)
	if err != nil {
		return "", false, err
	}
	return m.Of(subject)
}

// Of returns the name that the rules make of a subject. ok is false when none is for it.
func (m *Mapper) Of(subject string) (name string, ok bool, err error) {
	for i := range m.rules {
		name, ok := m.rules[i].apply(subject)
		if !ok {
			continue
		}
		switch {
		case name == "":
			return "", false, fmt.Errorf("the rules make an empty name of %q", subject)
		case len(name) > MaxLen:
			return "", false, fmt.Errorf("the certificate's name has %d bytes: more than the %d that a principal may have", len(name), MaxLen)
		case strings.ContainsFunc(name, unicode.IsControl) || !utf8.ValidString(name):
			return "", false, fmt.Errorf("the certificate's name %q has characters that cannot be in a principal", name)
		}
		return name, true, nil
	}
	return "", false, nil
}

// apply is Rule.apply of Kafka: where the pattern is the whole text, replaceAll.
func (r *rule) apply(text string) (string, bool) {
	if r.pattern == nil {
		return text, true
	}
	if !r.whole.MatchString(text) {
		return "", false
	}
	var b strings.Builder
	at := 0
	for _, found := range r.pattern.FindAllStringSubmatchIndex(text, -1) {
		b.WriteString(text[at:found[0]])
		r.expand(&b, text, found)
		at = found[1]
	}
	b.WriteString(text[at:])
	if at == len(text) && at > 0 {
		// A pattern that can be empty is there once more, behind what it has just taken: so
		// Java says, and Go does not.
		if again := r.atEnd.FindStringSubmatchIndex(text); again != nil && again[3] == len(text) && !r.endsEmpty(text) {
			r.expand(&b, text, append([]int{again[0], again[1]}, again[4:]...))
		}
	}
	if r.convert != nil {
		return r.convert(b.String()), true
	}
	return b.String(), true
}

// endsEmpty reports whether the last match is an empty one already.
func (r *rule) endsEmpty(text string) bool {
	all := r.pattern.FindAllStringIndex(text, -1)
	last := all[len(all)-1]
	return last[0] == last[1]
}

// expand writes the replacement of a match.
func (r *rule) expand(b *strings.Builder, text string, found []int) {
	for _, p := range r.replacement {
		switch {
		case p.group < 0:
			b.WriteString(p.text)
		case found[2*p.group] >= 0:
			b.WriteString(text[found[2*p.group]:found[2*p.group+1]])
		}
	}
}

// String returns the rules as they were written.
func (m *Mapper) String() string { return m.text }
