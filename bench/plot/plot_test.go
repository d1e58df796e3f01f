package plot

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
)

func TestPicturesAreWellFormedAndInsideTheirFrame(t *testing.T) {
	for _, most := range []float64{0, 0.0004, 0.3, 1, 99.9, 12345} {
		b := Bars{
			Title: `<&"`, Note: "less is better", Unit: "µs & s",
			Groups: []string{"a<b", "c"},
			Series: []Series{
				{Name: "first", Values: []Value{{most / 2, most / 3, most}, None}},
				{Name: "<ours>", Values: []Value{{most, most, most}, {most / 4, most / 4, most / 4}}, Strong: true},
			},
		}
		svg := b.SVG()
		bars := 0
		for d := xml.NewDecoder(strings.NewReader(string(svg))); ; {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("most %v: %v\n%s", most, err, svg)
			}
			el, ok := token.(xml.StartElement)
			if !ok {
				continue
			}
			at := map[string]float64{}
			for _, a := range el.Attr {
				if v, err := strconv.ParseFloat(a.Value, 64); err == nil {
					at[a.Name.Local] = v
				}
				if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
					t.Errorf("most %v: %s=%q in <%s>", most, a.Name.Local, a.Value, el.Name.Local)
				}
			}
			if el.Name.Local != "rect" {
				continue
			}
			if at["x"] < 0 || at["y"] < 0 || at["x"]+at["width"] > float64(b.width()) || at["y"]+at["height"] > height {
				t.Errorf("most %v: a bar outside the picture: %v", most, at)
			}
			if at["width"] > 12 && at["width"] < 100 {
				bars++
			}
		}
		if bars != 3 {
			t.Errorf("most %v: %d bars instead of 3", most, bars)
		}
	}
}

func TestAxisIsRoundAndLongEnough(t *testing.T) {
	for _, most := range []float64{0.0003, 0.01, 0.7, 1, 1.9, 3, 9.99, 10, 47, 101, 99999} {
		step, steps := axis(most)
		if end := step * float64(steps); end < most || end > 2.6*most {
			t.Errorf("0 to %v is drawn as %d steps of %v", most, steps, step)
		}
		if steps < 1 || steps > 6 {
			t.Errorf("%d steps for %v", steps, most)
		}
		if got := label(step, step); got == "0" || strings.Contains(got, "e") {
			t.Errorf("the first step of %v is labelled %q", step, got)
		}
		if parsed, err := strconv.ParseFloat(label(step, step), 64); err != nil || math.Abs(parsed-step) > step/1e6 {
			t.Errorf("the step %v is labelled %q", step, label(step, step))
		}
	}
}
