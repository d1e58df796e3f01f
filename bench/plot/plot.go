// Package plot draws grouped bars with their spread as SVG. The pictures need
// no fonts of their own and no scripts, and are readable on light and dark
// pages.
package plot

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// Bars is a picture with a bar for each series in each group.
type Bars struct {
	Title string
	// Note is small print below the title: what is better, for instance.
	Note   string
	Unit   string
	Groups []string
	Series []Series
}

// Series is one colour.
type Series struct {
	Name string
	// Values has one for each group.
	Values []Value
	// Strong is for the series that the picture is about.
	Strong bool
}

// Value is the height of a bar, and the spread drawn over it. A Mid that is
// not a number leaves the bar out.
type Value struct{ Mid, Low, High float64 }

// None is a bar that is not there.
var None = Value{math.NaN(), math.NaN(), math.NaN()}

const (
	// narrowest is how wide a picture is at the least; each group takes as much
	// as its name and bars need.
	narrowest = 900
	perGroup  = 124

	height = 340
	left   = 60
	right  = 12
	top    = 88
	bottom = 44
)

// Okabe and Ito's colours, which people tell apart however they see colours.
// The strong series has the first one to itself.
const strong = "#0072b2"

var others = []string{"#999999", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#f0e442"}

// SVG draws the picture.
func (b Bars) SVG() []byte {
	most := 0.0
	for _, s := range b.Series {
		for _, v := range s.Values {
			most = max(most, number(v.Mid), number(v.High))
		}
	}
	step, steps := axis(most)
	width := b.width()
	top, bottom := float64(top), float64(height-bottom)
	y := func(v float64) float64 { return bottom - v/(step*float64(steps))*(bottom-top) }

	var out strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	p(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" font-family="sans-serif" font-size="12">`, width, height)
	p(`<rect width="%d" height="%d" fill="#ffffff"/>`, width, height)
	p(`<text x="12" y="22" font-size="16" font-weight="bold">%s</text>`, html.EscapeString(b.Title+", "+b.Unit))
	p(`<text x="12" y="40" fill="#555555">%s</text>`, html.EscapeString(b.Note))

	x := 12.0
	colours := b.colours()
	for i, s := range b.Series {
		p(`<rect x="%s" y="52" width="11" height="11" fill="%s"/>`, coord(x), colours[i])
		p(`<text x="%s" y="62">%s</text>`, coord(x+16), html.EscapeString(s.Name))
		x += 34 + 7.2*float64(len([]rune(s.Name)))
	}

	for i := range steps + 1 {
		v := step * float64(i)
		p(`<line x1="%d" x2="%d" y1="%s" y2="%[3]s" stroke="#dddddd"/>`, left, width-right, coord(y(v)))
		p(`<text x="%d" y="%s" text-anchor="end" fill="#555555">%s</text>`, left-6, coord(y(v)+4), label(v, step))
	}

	group := float64(width-left-right) / float64(max(1, len(b.Groups)))
	bar := min(48, group*0.8/float64(max(1, len(b.Series))))
	for g, name := range b.Groups {
		middle := float64(left) + group*(float64(g)+0.5)
		p(`<text x="%s" y="%s" text-anchor="middle">%s</text>`, coord(middle), coord(bottom+18), html.EscapeString(name))
		for i, s := range b.Series {
			if g >= len(s.Values) || math.IsNaN(s.Values[g].Mid) {
				continue
			}
			v := s.Values[g]
			x := middle + bar*(float64(i)-float64(len(b.Series))/2)
			p(`<rect x="%s" y="%s" width="%s" height="%s" fill="%s"><title>%s, %s: %s</title></rect>`,
				coord(x+1), coord(y(v.Mid)), coord(bar-2), coord(bottom-y(v.Mid)), colours[i],
				html.EscapeString(name), html.EscapeString(s.Name), html.EscapeString(value(v.Mid)+" "+b.Unit))
			if v.High > v.Low {
				p(`<path d="M%s %sV%s" stroke="#000000" stroke-opacity="0.6"/>`, coord(x+bar/2), coord(y(v.Low)), coord(y(v.High)))
			}
			p(`<text x="%s" y="%s" text-anchor="middle" font-size="%s">%s</text>`,
				coord(x+bar/2), coord(y(max(v.Mid, number(v.High)))-4), coord(min(11, bar/2.6)), value(v.Mid))
		}
	}
	p(`<line x1="%d" x2="%d" y1="%s" y2="%[3]s" stroke="#000000"/>`, left, width-right, coord(bottom))
	p(`</svg>`)
	return []byte(out.String())
}

func (b Bars) width() int { return max(narrowest, left+right+perGroup*len(b.Groups)) }

func (b Bars) colours() []string {
	colours := make([]string, len(b.Series))
	next := 0
	for i, s := range b.Series {
		if s.Strong {
			colours[i] = strong
			continue
		}
		colours[i] = others[next%len(others)]
		next++
	}
	return colours
}

// axis divides 0 to most, or a little more, into a few round steps.
func axis(most float64) (step float64, steps int) {
	if most <= 0 {
		return 1, 1
	}
	step = math.Pow(10, math.Floor(math.Log10(most)))
	for _, part := range []float64{0.1, 0.2, 0.25, 0.5, 1, 2} {
		if n := math.Ceil(most*1.02/(step*part) - 1e-9); n <= 6 {
			return step * part, int(n)
		}
	}
	return step * 2, 6
}

// number is v, or 0 when it is none.
func number(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return v
}

func label(v, step float64) string {
	decimals := max(0, int(math.Ceil(-math.Log10(step)-1e-9)))
	if scaled := step * math.Pow(10, float64(decimals)); math.Abs(scaled-math.Round(scaled)) > 1e-9 {
		decimals++
	}
	return strconv.FormatFloat(v, 'f', decimals, 64)
}

// value is for a label on a bar: three digits that matter.
func value(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}

func coord(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }
