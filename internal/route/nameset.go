package route

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
)

// nameSet is the set of names that a rule can give, or a larger one. It is a
// regular expression, made from the replacement: each group in it becomes the
// expression of that group. The host is anything, so what is before and
// behind the match becomes ".*", unless the rule is anchored there.
type nameSet struct {
	// Both nil when there is no such expression: the set of all names.
	pattern *regexp.Regexp
	prog    *syntax.Prog
}

// firstMark is the rune that stands for group 0 while the replacement is
// expanded, and firstMark+n for group n. It is in a private use area.
const firstMark = 0xF0000

func namesOf(pattern *regexp.Regexp, replacement string) *nameSet {
	tree, err := syntax.Parse(pattern.String(), syntax.Perl)
	if err != nil {
		return &nameSet{} // regexp has parsed the same
	}
	// Some group's expression may be too large to be written out where the
	// replacement has it. Then all groups are anything.
	for _, group := range []func(*syntax.Regexp) string{loose, anything} {
		if s, err := compile(template(pattern, replacement, tree, group)); err == nil {
			return s
		}
	}
	return &nameSet{}
}

func compile(expr string) (*nameSet, error) {
	pattern, err := regexp.Compile(`^(?:` + expr + `)$`)
	if err != nil {
		return nil, err
	}
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, err
	}
	prog, err := syntax.Compile(tree.Simplify())
	return &nameSet{pattern, prog}, err
}

// template returns the expression for the names, with group giving that for a
// group.
func template(pattern *regexp.Regexp, replacement string, tree *syntax.Regexp, group func(*syntax.Regexp) string) string {
	groups := groupsOf(tree, make([]*syntax.Regexp, pattern.NumSubexp()+1))
	var b strings.Builder
	if !begins(tree) {
		b.WriteString(`(?s:.*)`)
	}
	for _, c := range strings.ToLower(expandMarks(pattern, replacement)) {
		if n := int(c) - firstMark; n >= 0 && n < len(groups) {
			b.WriteString(`(?:` + group(groups[n]) + `)?`)
		} else {
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	if !ends(tree) {
		b.WriteString(`(?s:.*)`)
	}
	return b.String()
}

// expandMarks expands a replacement with a mark for each group, so that regexp
// itself says what a reference is.
func expandMarks(pattern *regexp.Regexp, replacement string) string {
	var marks []byte
	var match []int
	for n := range pattern.NumSubexp() + 1 {
		begin := len(marks)
		marks = append(marks, string(rune(firstMark+n))...)
		match = append(match, begin, len(marks))
	}
	return string(pattern.Expand(nil, []byte(replacement), marks, match))
}

// groupsOf puts the expressions of all groups into groups; the whole is group 0.
func groupsOf(re *syntax.Regexp, groups []*syntax.Regexp) []*syntax.Regexp {
	if groups[0] == nil {
		groups[0] = re
	}
	if re.Op == syntax.OpCapture {
		groups[re.Cap] = re.Sub[0]
	}
	for _, sub := range re.Sub {
		groupsOf(sub, groups)
	}
	return groups
}

// begins reports whether a match is always at the beginning of the host.
func begins(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpBeginText:
		return true
	case syntax.OpCapture, syntax.OpPlus:
		return begins(re.Sub[0])
	case syntax.OpConcat:
		return begins(re.Sub[0])
	case syntax.OpAlternate:
		return !slices.ContainsFunc(re.Sub, func(sub *syntax.Regexp) bool { return !begins(sub) })
	}
	return false
}

// ends reports whether a match is always at the end of the host.
func ends(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpEndText:
		return true
	case syntax.OpCapture, syntax.OpPlus:
		return ends(re.Sub[0])
	case syntax.OpConcat:
		return ends(re.Sub[len(re.Sub)-1])
	case syntax.OpAlternate:
		return !slices.ContainsFunc(re.Sub, func(sub *syntax.Regexp) bool { return !ends(sub) })
	}
	return false
}

func anything(*syntax.Regexp) string { return `(?s:.*)` }

// loose returns an expression for what a group can have matched, in lower case.
// What it says about its surroundings (^, $, \b) was said of the host, and says
// nothing about the name.
func loose(re *syntax.Regexp) string { return loosen(re).String() }

func loosen(re *syntax.Regexp) *syntax.Regexp {
	is := *re
	switch is.Op {
	case syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return &syntax.Regexp{Op: syntax.OpEmptyMatch}
	case syntax.OpLiteral:
		is.Rune = []rune(strings.ToLower(string(is.Rune)))
	case syntax.OpCharClass:
		is.Rune = lowerClass(is.Rune)
	}
	is.Sub = nil
	for _, sub := range re.Sub {
		is.Sub = append(is.Sub, loosen(sub))
	}
	return &is
}

// lowerClass returns a class with the lower case of what is in it, as far as that can be in
// a name: "A" to "Z", and two letters whose lower case is ASCII. What is not ASCII is left
// out: writing out a class that has it, such as [^.], takes milliseconds.
func lowerClass(class []rune) []rune {
	class = slices.Clone(class)
	for i, n := 0, len(class); i < n; i += 2 {
		from, to := class[i], class[i+1]
		if a, z := max(from, 'A'), min(to, 'Z'); a <= z {
			class = append(class, a+'a'-'A', z+'a'-'A')
		}
		for upper, lower := range map[rune]rune{'İ': 'i', 'K': 'k'} { // U+0130, U+212A
			if from <= upper && upper <= to {
				class = append(class, lower, lower)
			}
		}
	}
	ascii := class[:0]
	for i := 0; i < len(class); i += 2 {
		if class[i] <= unicode.MaxASCII {
			ascii = append(ascii, class[i], min(class[i+1], unicode.MaxASCII))
		}
	}
	return ascii
}

// canBe reports whether a name is in the set. The table takes the final dot off
// what the rule gives.
func (s *nameSet) canBe(name string) bool {
	return s.pattern == nil || s.pattern.MatchString(name) || s.pattern.MatchString(name+".")
}

// canEndWith reports whether the set has a name that ends so. It starts in all
// states of the expression at once, as any of them may have been reached before.
func (s *nameSet) canEndWith(end string) bool {
	if s.prog == nil {
		return true
	}
	states := make([]bool, len(s.prog.Inst))
	for i := range states {
		states[i] = true
	}
	for _, c := range end {
		states = s.step(states, c)
	}
	return s.accepts(states) || s.accepts(s.step(states, '.'))
}

// step returns the states after one more rune.
func (s *nameSet) step(states []bool, c rune) []bool {
	after := make([]bool, len(states))
	for pc, is := range states {
		if in := &s.prog.Inst[pc]; is && runes(in) && in.MatchRune(c) {
			s.reach(after, in.Out)
		}
	}
	return after
}

// reach adds a state and those that are reached from it without a rune.
func (s *nameSet) reach(states []bool, pc uint32) {
	if states[pc] {
		return
	}
	states[pc] = true
	switch in := &s.prog.Inst[pc]; in.Op {
	case syntax.InstAlt, syntax.InstAltMatch:
		s.reach(states, in.Out)
		s.reach(states, in.Arg)
	case syntax.InstCapture, syntax.InstNop, syntax.InstEmptyWidth:
		s.reach(states, in.Out)
	}
}

func (s *nameSet) accepts(states []bool) bool {
	for pc, is := range states {
		if is && s.prog.Inst[pc].Op == syntax.InstMatch {
			return true
		}
	}
	return false
}

func runes(in *syntax.Inst) bool {
	switch in.Op {
	case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
		return true
	}
	return false
}
