package route

import (
	"fmt"
	"regexp"
	"strings"
)

// Rule derives the name clients see from a broker's own host name.
type Rule struct {
	text        string
	pattern     *regexp.Regexp
	replacement string
	names       *nameSet
}

// ParseRule reads "<regex>::<replacement>". The regular expression (RE2
// syntax) is unanchored and its first match is replaced; $1 or ${1} in the
// replacement stands for the first group, and so on. As "::" may be part of a
// regular expression or of a class like [[:alpha:]], the last "::" divides.
func ParseRule(s string) (*Rule, error) {
	at := strings.LastIndex(s, "::")
	if at < 0 {
		return nil, fmt.Errorf(`broker mapping rule %q has no "::": want "<regex>::<replacement>", for example "^([^.]+)\.upstream\.com$::${1}.kafka.example"`, s)
	}
	expr, replacement := s[:at], s[at+2:]
	if expr == "" {
		return nil, fmt.Errorf(`broker mapping rule %q has nothing before "::": want a regular expression there`, s)
	}
	pattern, err := regexp.Compile(expr)
	if err != nil {
		return nil, fmt.Errorf("broker mapping rule %q: %w", s, err)
	}
	if err := checkGroups(pattern, replacement); err != nil {
		return nil, fmt.Errorf("broker mapping rule %q: %w", s, err)
	}
	return &Rule{text: s, pattern: pattern, replacement: replacement, names: namesOf(pattern, replacement)}, nil
}

var group = regexp.MustCompile(`\$(?:\{(\w+)\}|(\w+)|\$)`)

// checkGroups finds references to groups that do not exist. Expand would
// silently put nothing there: "$1x" is the group named "1x".
func checkGroups(pattern *regexp.Regexp, replacement string) error {
	for _, m := range group.FindAllStringSubmatch(replacement, -1) {
		name := m[1] + m[2]
		if name == "" { // "$$" is a dollar sign
			continue
		}
		var n int
		if _, err := fmt.Sscanf(name, "%d", &n); err == nil && fmt.Sprint(n) == name {
			if n > pattern.NumSubexp() {
				return fmt.Errorf("the replacement asks for group %d, but the regular expression has %d", n, pattern.NumSubexp())
			}
			continue
		}
		if pattern.SubexpIndex(name) < 0 {
			return fmt.Errorf("the replacement asks for a group named %q, which the regular expression does not have (write ${1}x for group 1 followed by x)", name)
		}
	}
	return nil
}

// String returns the rule as it was given.
func (r *Rule) String() string { return r.text }

// apply replaces the first match in host, and reports whether there was one.
// The final dot of an absolute host name is no part of what is matched, so that
// a rule that ends with "$" matches such a host, too.
func (r *Rule) apply(host string) (string, bool) {
	host = strings.TrimSuffix(host, ".")
	m := r.pattern.FindStringSubmatchIndex(host)
	if m == nil {
		return host, false
	}
	b := append([]byte(nil), host[:m[0]]...)
	b = r.pattern.ExpandString(b, r.replacement, host, m)
	return string(append(b, host[m[1]:]...)), true
}

// Apply returns the name that the rule makes of a host, which need not be a host name, and
// whether it matches at all.
func (r *Rule) Apply(host string) (name string, matched bool) { return r.apply(host) }

// canMake reports whether the rule can give a name, to some host. It is never
// false for one that it can give, but may be true for one that it cannot.
func (r *Rule) canMake(name string) bool {
	return r.names.canBe(name)
}

// CanMake reports whether the rule can give a name, to some host. It is never false for one
// that it can give, but may be true for one that it cannot.
func (r *Rule) CanMake(name string) bool { return r.canMake(normalize(name)) }

// OutsideError says that a rule gives no name under the suffix.
type OutsideError struct {
	Rule   *Rule
	Suffix string
}

func (e *OutsideError) Error() string {
	return fmt.Sprintf("broker mapping rule %q gives only names outside of the suffix %q: end the replacement with %q, or have a DNS record and a certificate for each of these names",
		e.Rule, e.Suffix, "."+e.Suffix)
}

// Outside returns an [*OutsideError] when it is certain that every name which
// the rule gives is outside of the suffix, and nil otherwise. It needs no broker,
// so that the warning can be given when the program starts.
func (r *Rule) Outside(suffix string) error {
	suffix = normalize(suffix)
	if r.names.canEndWith("." + suffix) {
		return nil
	}
	return &OutsideError{Rule: r, Suffix: suffix}
}
