package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// report prints what was found and writes it to files.
func (b *bench) report(s settings) error {
	r := b.results
	if r.Rounds == 0 {
		return errors.New("no round was finished")
	}
	r.judge()
	r.fill()
	for _, m := range r.Metrics {
		fmt.Fprintf(b.out, "\n%s%s\n", m.Title, inUnit(m.Unit))
		fmt.Fprint(b.out, text(r.table(m)))
	}
	fmt.Fprintf(b.out, "\nGoals (limits hold for medians)\n")
	for _, g := range r.Goals {
		if len(s.themes) > 0 && g.Verdict == notMeasured {
			continue
		}
		fmt.Fprintf(b.out, "  %-12s  %-84s %s\n", g.Verdict, g.Goal, g.Figure)
	}
	for i, f := range r.Failures {
		if i == 0 {
			fmt.Fprintf(b.out, "\nFailures\n")
		}
		fmt.Fprintf(b.out, "  round %d, %s, %s: %s\n", f.Round, f.Target, f.Case, f.Error)
	}
	fmt.Fprintf(b.out, "\n%s in %s: %s\n", count(r.Rounds, "round"), strings.TrimSpace(clock(time.Since(b.began))), r.Machine)
	if r.Quick {
		fmt.Fprintln(b.out, "This was a quick run: short samples, few rounds. Take none of it for a result.")
	}
	if s.out == "" {
		return nil
	}
	if err := b.write(s.out); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "Results are in %s.\n", s.out)
	return nil
}

// write writes JSON, pictures and a page that shows them.
func (b *bench) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	encoded, err := json.MarshalIndent(b.results, "", "  ")
	if err != nil {
		return err
	}
	files := map[string][]byte{"results.json": append(encoded, '\n')}
	pictures := b.results.pictures()
	for _, p := range pictures {
		files[p.file] = p.bars.SVG()
	}
	files["README.md"] = b.results.page(pictures)
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// page shows the results in Markdown.
func (r *results) page(pictures []picture) []byte {
	var out strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	p("# Benchmarks\n")
	p("Written by `go run ./bench` on %s: %s, interleaved, in one run of %.0f minutes. Figures are medians, with", r.Date, count(r.Rounds, "round"), r.Seconds/60)
	p("the least and the greatest in brackets; ratios are taken within each round. All figures are in")
	p("[results.json](results.json), the sample of each round included. What they mean is in")
	p("[performance.md](../performance.md).\n")
	if r.Quick {
		p("**This was a quick run: short samples, few rounds. None of it is a result.**\n")
	}
	p("- Machine: %s, %s, %s", r.Machine.CPU, count(r.Machine.Cores, "core"), r.Machine.Memory)
	p("- %s, %s; revision %s; load average before: %s", r.Machine.Kernel, r.Machine.Go, r.Machine.Revision, r.Machine.Load)
	p("- Load client, proxy and broker stand-in share that machine. TLS 1.3, AES-128-GCM, ECDSA P-256.")
	p("- Large requests carry %d KiB of records in %d partitions, up to %d of them at a time per connection;", frameBytes>>10, framePartitions, depth)
	p("  paced traffic runs over %s. Small requests are Heartbeats, and Produce requests with acks=all of 1 and", count(r.Plan.PacedConnections, "connection"))
	p("  16 KiB, never more than one at a time on a connection.")
	if r.HalfLoad > 0 {
		p("- Half load is %.0f MB/s: half of what the naive relay carries flat out over %s.", r.HalfLoad, count(r.Plan.PacedConnections, "connection"))
	}
	p("")
	for _, w := range r.Targets {
		p("- **%s**: %s", w.Name, w.About)
	}
	p("\n## Goals\n")
	p("| | goal | figure |\n|---|---|---|")
	for _, g := range r.Goals {
		p("| %s | %s | %s |", g.Verdict, g.Goal, g.Figure)
	}
	p("\n## Pictures\n")
	for _, pic := range pictures {
		p("![%s](%s)\n", pic.bars.Title, pic.file)
	}
	p("## Figures")
	for _, m := range r.Metrics {
		p("\n### %s%s\n", m.Title, inUnit(m.Unit))
		for i, row := range r.table(m) {
			p("| %s |", strings.Join(row, " | "))
			if i == 0 {
				p("|%s", strings.Repeat("---|", len(row)))
			}
		}
	}
	if len(r.Failures) > 0 {
		p("\n## Failures\n")
		for _, f := range r.Failures {
			p("- round %d, %s, %s: %s", f.Round, f.Target, f.Case, f.Error)
		}
	}
	return []byte(out.String())
}

// table has a row for each case, below one with the names of the targets that
// have figures, and of the ratios.
func (r *results) table(m measured) [][]string {
	var targets []string
	for _, w := range r.Targets {
		for _, c := range m.Cases {
			if c.Targets[w.Name].ok() {
				targets = append(targets, w.Name)
				break
			}
		}
	}
	has := func(name string) bool { return slices.Contains(targets, name) }
	var ratios [][2]string
	for _, to := range []string{naive, haproxy} {
		if has(ours) && has(to) {
			ratios = append(ratios, [2]string{ours, to})
		}
	}
	for _, w := range r.Targets {
		if (w.isOurs || w.Name == ours50) && w.Name != ours && has(w.Name) && has(ours) {
			ratios = append(ratios, [2]string{w.Name, ours})
		}
	}
	head := append([]string{""}, targets...)
	for _, pair := range ratios {
		head = append(head, pair[0]+" ÷ "+pair[1])
	}
	rows := [][]string{head}
	for _, c := range m.Cases {
		row := []string{c.Case}
		for _, w := range targets {
			row = append(row, spread(c.Targets[w], ""))
		}
		for _, pair := range ratios {
			row = append(row, spread(r.ratio(metric{name: m.Metric}, c.Case, pair[0], pair[1]), ""))
		}
		rows = append(rows, row)
	}
	return rows
}

// text lines a table up for a terminal.
func text(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var out strings.Builder
	for _, row := range rows {
		line := " "
		for i, cell := range row {
			line += " " + cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+1)
		}
		out.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return out.String()
}

func inUnit(unit string) string {
	if unit == "" {
		return ""
	}
	return ", " + unit
}
