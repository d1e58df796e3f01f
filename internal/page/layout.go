package page

import (
	"html"
	"strconv"
	"strings"
)

// The page is laid out by web/page.html, and each cluster in it by web/cluster.html. In them
// {name} is a place for a value. What is put there is markup, which only the functions here
// make: every text, whoever has sent it, goes through escape.
//
// This is not html/template, because that makes the linker keep every method of every type
// which can be reached: a fifth of the program, and of what is resident.

// markup is HTML. It is made by the functions of this file alone.
type markup string

// escape makes a text markup: in an element, or in an attribute in double quotes.
func escape(text string) markup { return markup(html.EscapeString(text)) }

// fill puts values into the places of a layout. A value is not looked through for places.
func fill(layout string, values map[string]markup) markup {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(layout, "{")
		b.WriteString(before)
		if !ok {
			return markup(b.String())
		}
		name, after, ok := strings.Cut(rest, "}")
		value, known := values[name]
		if !ok || !known {
			panic("the page has a place {" + name + "} for which there is no value") // a mistake in the layout, which any test meets
		}
		b.WriteString(string(value))
		layout = after
	}
}

// page makes the whole page.
func (l *layouts) page(v *view) markup {
	s := &v.Sessions
	values := map[string]markup{
		"now":   escape(v.Status.Now.UTC().Format("2006-01-02T15:04:05.000Z07:00")),
		"title": escape(v.Title), "host": escape(v.Status.Host), "asof": escape(v.AsOf), "level": escape(v.Level), "verdict": escape(v.Verdict),
		"state": partsOf(v.State), "wrong": items(v.Wrong), "notes": items(v.Notes), "figures": facts(v.Figures), "overview": rows(v.Overview.Rows),
		"new cluster": l.cluster(&clusterView{}), // for page.js to copy
		"failures":    items(v.Failures.Rows), "more failures": escape(v.Failures.More),
		"limit": number10(s.Query.Limit), "offset": number10(s.Query.Offset), "text": escape(s.Query.Text), "broker": escape(s.Query.Broker), "sort": escape(s.Query.Sort),
		"of clusters": options(s.Clusters), "of listeners": options(s.Listeners), "of states": options(s.States),
		"mistake": escape(s.Mistake), "range": escape(s.Range), "columns": headings(s.Columns), "sessions": rows(s.Table.Rows),
		"previous": escape(s.Previous), "next": escape(s.Next),
		"listeners": rows(v.Listeners.Rows), "certificates": rows(v.Certificates.Rows), "reload": facts(v.Reload),
		"problems": rows(v.Problems.Rows), "events": rows(v.Events.Rows), "more events": escape(v.Events.More), "process": facts(v.Process),

		"notes hidden": hidden(len(v.Notes) == 0), "none hidden": hidden(len(v.Failures.Rows) > 0), "failures hidden": hidden(len(v.Failures.Rows) == 0),
		"previous hidden": hidden(s.Previous == ""), "next hidden": hidden(s.Next == ""),
		"problems hidden": hidden(len(v.Problems.Rows) == 0), "events hidden": hidden(len(v.Events.Rows) == 0),
	}
	var clusters strings.Builder
	for i := range v.Clusters {
		clusters.WriteString(string(l.cluster(&v.Clusters[i])))
	}
	values["clusters"] = markup(clusters.String())
	for name, file := range l.files {
		values["asset "+name] = escape("/assets/" + name + "?v=" + file.hash)
	}
	return fill(l.whole, values)
}

// cluster makes a cluster in detail.
func (l *layouts) cluster(c *clusterView) markup {
	var open markup
	if c.Open {
		open = " open"
	}
	return fill(l.one, map[string]markup{
		"name": escape(c.Name), "id": escape(c.ID), "open": open,
		"brokers": rows(c.Brokers.Rows), "more brokers": escape(c.Brokers.More), "facts": facts(c.Facts), "apis": rows(c.APIs.Rows),
	})
}

// writer gathers markup.
type writer struct{ strings.Builder }

// open writes a start tag with attributes, name and value by turns; those whose value is
// empty are left out.
func (w *writer) open(tag string, attributes ...string) {
	w.WriteString("<" + tag)
	for i := 0; i < len(attributes); i += 2 {
		if attributes[i+1] != "" {
			w.WriteString(" " + attributes[i] + `="` + string(escape(attributes[i+1])) + `"`)
		}
	}
	w.WriteString(">")
}

func (w *writer) text(text string) { w.WriteString(string(escape(text))) }
func (w *writer) close(tag string) { w.WriteString("</" + tag + ">") }

func (w *writer) parts(all []part) {
	for _, p := range all {
		if p.Text == "" {
			continue
		}
		tag := "span"
		if p.Href != "" {
			tag = "a"
		}
		w.open(tag, "class", p.Class, "href", p.Href)
		w.text(p.Text)
		w.close(tag)
		w.WriteString(" ")
	}
}

func (w *writer) markup() markup { return markup(w.String()) }

func partsOf(all []part) markup {
	var w writer
	w.parts(all)
	return w.markup()
}

// rows makes rows of a table. The first cell of each is its heading.
func rows(all []row) markup {
	var w writer
	for _, r := range all {
		w.open("tr", "data-key", r.Key)
		for i, c := range r.Cells {
			tag, scope := "td", ""
			if i == 0 {
				tag, scope = "th", "row"
			}
			w.open(tag, "scope", scope, "class", c.Class)
			w.parts(c.Parts)
			w.close(tag)
		}
		w.close("tr")
	}
	return w.markup()
}

// items makes items of a list.
func items(all []row) markup {
	var w writer
	for _, r := range all {
		w.open("li", "data-key", r.Key)
		for _, c := range r.Cells {
			w.parts(c.Parts)
		}
		w.close("li")
	}
	return w.markup()
}

// facts makes groups of a description list.
func facts(all []fact) markup {
	var w writer
	for _, f := range all {
		w.open("div", "data-key", f.Key)
		w.open("dt")
		w.text(f.Name)
		w.close("dt")
		w.open("dd")
		w.parts(f.Parts)
		w.close("dd")
		w.close("div")
	}
	return w.markup()
}

// options makes options of a select element.
func options(all []choice) markup {
	var w writer
	for _, c := range all {
		w.WriteString(`<option value="` + string(escape(c.Value)) + `"`) // which may be empty
		if c.Selected {
			w.WriteString(" selected")
		}
		w.WriteString(">")
		w.text(c.Text)
		w.close("option")
	}
	return w.markup()
}

// headings makes the headings of the sessions, with links that sort them.
func headings(all []column) markup {
	var w writer
	for _, c := range all {
		w.open("th", "scope", "col", "class", c.Class, "aria-sort", c.Direction, "data-sort", c.Sort)
		if c.Href != "" {
			w.open("a", "href", c.Href)
		}
		w.text(c.Name)
		if c.Href != "" {
			w.close("a")
		}
		w.close("th")
	}
	return w.markup()
}

func hidden(is bool) markup {
	if is {
		return " hidden"
	}
	return ""
}

func number10(n int) markup { return markup(strconv.Itoa(n)) }
