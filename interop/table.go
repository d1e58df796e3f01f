package main

import (
	"fmt"
	"strings"
	"time"
)

// row is the outcome of one scenario.
type row struct {
	name    string
	took    time.Duration
	figures string // the first line goes into the table, the rest below it
	err     error
}

func (r row) result() string {
	if r.err != nil {
		return "FAILED"
	}
	return "passed"
}

// String tells how it went while the run goes on.
func (r row) String() string {
	text := fmt.Sprintf("%s %6.1fs", r.result(), r.took.Seconds())
	if r.err != nil {
		text += "\n    " + strings.ReplaceAll(r.err.Error(), "\n", "\n    ")
	}
	return text
}

// table is what a run ends with.
type table struct{ rows []row }

func (t *table) add(r row) { t.rows = append(t.rows, r) }

func (t *table) String() string {
	var b, below strings.Builder
	fmt.Fprintf(&b, "%-22s %-7s %7s  %s\n", "scenario", "result", "time", "figures")
	for _, r := range t.rows {
		figures, rest, _ := strings.Cut(r.figures, "\n")
		if r.err != nil {
			figures, _, _ = strings.Cut(r.err.Error(), "\n")
		}
		fmt.Fprintf(&b, "%-22s %-7s %6.1fs  %s\n", r.name, r.result(), r.took.Seconds(), figures)
		if rest != "" {
			fmt.Fprintf(&below, "\n%s\n%s\n", r.name, rest)
		}
	}
	return b.String() + below.String()
}

// verdict is an error when anything failed.
func (t *table) verdict() error {
	var failed []string
	for _, r := range t.rows {
		if r.err != nil {
			failed = append(failed, r.name)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d scenarios failed: %s", len(failed), len(t.rows), strings.Join(failed, ", "))
}
