package view

import (
	"slices"
	"strings"
)

// Style is how a text is shown.
type Style struct {
	// Width of the terminal in cells; 0: there is none, and all is shown.
	Width int
	// Coloured is whether colours are used.
	Coloured bool
}

// Colours, as SGR sequences.
const (
	red    = "\x1b[31m"
	yellow = "\x1b[33m"
	green  = "\x1b[32m"
	cyan   = "\x1b[36m"
	bold   = "\x1b[1m"
	plain  = "\x1b[0m"
)

// colour returns text in a colour.
func (s Style) colour(colour, text string) string {
	if !s.Coloured || colour == "" || text == "" {
		return text
	}
	return colour + text + plain
}

// Column is a column of a table.
type Column struct {
	Title string
	// Right is whether values are set to the right, as numbers are.
	Right bool
	// Drop says which columns go first when there is too little space: those with the
	// greatest number. Those with 0 stay.
	Drop int
	// Least is to how many cells values may be cut; 0: they are not cut.
	Least int
	// Colour returns the colour of a value; nil: none.
	Colour func(value string) string
}

// Table is columns and rows. Values are cleaned when they are written.
type Table struct {
	Columns []Column
	Rows    [][]string
}

// gap is the space between two columns.
const gap = "  "

// Lines returns the table, its header first, without ends of lines.
//
// With a width, columns in which no row has a value are left out, then the least important
// ones, and then values are cut, until each line fits. Without one, all is shown: a column
// for each field, - where there is no value, and in all columns but the last no blanks
// within a value (_ in their place), so that awk finds a field by its number.
func (t *Table) Lines(s Style) []string {
	columns, rows := t.cells(s)
	widths := make([]int, len(columns))
	for i, column := range columns {
		widths[i] = Width(column.Title)
		for _, row := range rows {
			widths[i] = max(widths[i], Width(row[i]))
		}
	}
	if s.Width > 0 {
		t.fit(columns, widths, s.Width)
	}
	lines := []string{s.colour(bold, line(columns, widths, titles(columns), Style{}))}
	for _, row := range rows {
		lines = append(lines, line(columns, widths, row, s))
	}
	return lines
}

// cells returns the columns that have something in them, and the cleaned values.
func (t *Table) cells(s Style) ([]Column, [][]string) {
	rows := make([][]string, len(t.Rows))
	for i, row := range t.Rows {
		rows[i] = make([]string, len(row))
		for j, value := range row {
			value = orNone(Clean(value))
			if s.Width == 0 && j < len(row)-1 {
				value = strings.ReplaceAll(value, " ", "_")
			}
			rows[i][j] = value
		}
	}
	if s.Width == 0 || len(rows) == 0 {
		return t.Columns, rows
	}
	var columns []Column
	var kept []int
	for i, column := range t.Columns {
		if column.Drop == 0 || slices.ContainsFunc(rows, func(row []string) bool { return row[i] != none }) {
			columns, kept = append(columns, column), append(kept, i)
		}
	}
	for i, row := range rows {
		var values []string
		for _, j := range kept {
			values = append(values, row[j])
		}
		rows[i] = values
	}
	return columns, rows
}

// hidden is the width of a column that is left out.
const hidden = -1

// fit makes a line fit: it hides columns, then narrows those that may be cut.
func (t *Table) fit(columns []Column, widths []int, width int) {
	least := func(i int) int {
		if columns[i].Least == 0 {
			return widths[i]
		}
		return min(widths[i], max(columns[i].Least, Width(columns[i].Title)))
	}
	for total(widths, least) > width {
		last := -1
		for i := range columns {
			if widths[i] != hidden && columns[i].Drop > 0 && (last < 0 || columns[i].Drop >= columns[last].Drop) {
				last = i
			}
		}
		if last < 0 {
			break // what is left is cut at the edge
		}
		widths[last] = hidden
	}
	for total(widths, func(i int) int { return widths[i] }) > width {
		widest, most := -1, 0
		for i := range columns {
			if spare := widths[i] - least(i); widths[i] != hidden && columns[i].Least > 0 && spare > 0 && widths[i] > most {
				widest, most = i, widths[i]
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
	}
	left := width
	for i := range widths { // a terminal that is narrower than what has to be
		if widths[i] == hidden {
			continue
		}
		widths[i] = min(widths[i], left)
		if left -= widths[i] + len(gap); left < 1 {
			left = hidden
		}
	}
}

// total is how wide a line is with columns of some widths.
func total(widths []int, of func(int) int) int {
	sum := -len(gap)
	for i := range widths {
		if widths[i] != hidden {
			sum += of(i) + len(gap)
		}
	}
	return sum
}

func titles(columns []Column) []string {
	var all []string
	for _, column := range columns {
		all = append(all, column.Title)
	}
	return all
}

// line is a row in columns of some widths.
func line(columns []Column, widths []int, values []string, s Style) string {
	var b strings.Builder
	blanks := 0 // still to be written, unless the line ends
	for i, column := range columns {
		if widths[i] == hidden {
			continue
		}
		value := Cut(values[i], widths[i])
		space := widths[i] - Width(value)
		if column.Right {
			blanks += space
		}
		b.WriteString(strings.Repeat(" ", blanks))
		blanks = len(gap)
		if !column.Right {
			blanks += space
		}
		if column.Colour != nil {
			value = s.colour(column.Colour(values[i]), value)
		}
		b.WriteString(value)
	}
	return b.String()
}
