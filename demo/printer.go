package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// printer writes the story: numbered steps with indented lines. Lines of a
// table wait until the table ends, so that its columns line up.
type printer struct {
	w     io.Writer
	steps int
	table *tabwriter.Writer
}

func (p *printer) title(text string) {
	fmt.Fprintf(p.w, "%s\n%s\n", text, strings.Repeat("=", len(text)))
}

func (p *printer) step(text string) {
	p.flush()
	p.steps++
	fmt.Fprintf(p.w, "\n%d. %s\n", p.steps, text)
}

func (p *printer) line(format string, args ...any) {
	p.flush()
	if format == "" {
		fmt.Fprintln(p.w)
		return
	}
	fmt.Fprintf(p.w, "   "+format+"\n", args...)
}

// row adds a line to a table.
func (p *printer) row(cells ...string) {
	if p.table == nil {
		p.table = tabwriter.NewWriter(p.w, 0, 0, 3, ' ', 0)
	}
	fmt.Fprintf(p.table, "      %s\n", strings.Join(cells, "\t"))
}

func (p *printer) flush() {
	if p.table != nil {
		p.table.Flush()
		p.table = nil
	}
}

// command shows a command line as one could type it. What does not fit goes to
// lines of its own, a flag's value never without the flag.
func (p *printer) command(name string, args ...string) {
	const width = 96
	line := "$ " + name
	for i := 0; i < len(args); i++ {
		word := quote(args[i])
		if i+1 < len(args) && strings.HasPrefix(args[i], "-") && !strings.HasPrefix(args[i+1], "-") {
			i++
			word += " " + quote(args[i])
		}
		if len(line)+len(word) > width {
			p.line("%s \\", line)
			line = "     "
		}
		line += " " + word
	}
	p.line("%s", line)
}

// quote returns the argument as a shell would want it.
func quote(arg string) string {
	if strings.ContainsAny(arg, " *\"'\\$") {
		return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
	}
	return arg
}

// count writes 1234567 as "1 234 567".
func count[T int | int64](n T) string {
	digits := fmt.Sprint(n)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 && digits[i-1] != '-' {
			b.WriteByte(' ')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// megabytes writes bytes as MB, 1 MB being a million bytes.
func megabytes[T int | int64](n T) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
