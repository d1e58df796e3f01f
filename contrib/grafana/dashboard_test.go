package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"testing"
)

var update = flag.Bool("update", false, "write the dashboard")

const file = "kafka-sni-proxy.json"

func TestTheDashboardIsUpToDate(t *testing.T) {
	want := render()
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not what panels.go says (%v): go test ./contrib/grafana -update", file, err)
	}
}

type (
	grid struct{ X, Y, W, H int }

	// written is a panel as Grafana reads it.
	written struct {
		ID                       int
		Type, Title, Description string
		GridPos                  grid
		FieldConfig              struct{ Defaults struct{ Unit string } }
		Datasource               struct{ Type, UID string }
		Targets                  []struct {
			RefID, Expr, LegendFormat string
			Datasource                struct{ Type, UID string }
		}
		Panels []written // of a row that is closed
	}
)

func (g grid) overlaps(o grid) bool {
	return g.X < o.X+o.W && o.X < g.X+g.W && g.Y < o.Y+o.H && o.Y < g.Y+g.H
}

// A panel says what it answers, in a unit, and each lies in a place of its own. All ask the
// Prometheus that was chosen, for the copies that were chosen.
func TestPanelsExplainThemselves(t *testing.T) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		SchemaVersion int
		UID, Title    string
		Panels        []written
		Templating    struct {
			List []struct{ Name, Type, Query any }
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	variables := map[string]bool{"__rate_interval": true}
	for _, v := range d.Templating.List {
		variables[v.Name.(string)] = true
	}
	for _, want := range []string{"datasource", "job", "instance", "cluster", "listener"} {
		if !variables[want] {
			t.Errorf("there is no variable %s", want)
		}
	}
	ids, titles, queries := map[int]bool{}, map[string]bool{}, 0
	var places []grid
	for _, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 || p.Title == "" || titles[p.Title] {
			t.Errorf("panel %d, %q: no id or title of its own", p.ID, p.Title)
		}
		ids[p.ID], titles[p.Title] = true, true
		for _, other := range places {
			if p.GridPos.overlaps(other) {
				t.Errorf("%q lies on another panel: %v and %v", p.Title, p.GridPos, other)
			}
		}
		places = append(places, p.GridPos)
		if p.Type == "row" {
			continue
		}
		if len(p.Description) < 20 || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
			t.Errorf("%q has no description, no unit, no query or a data source of its own", p.Title)
		}
		for _, q := range p.Targets {
			queries++
			for _, m := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(q.Expr, -1) {
				if !variables[m[1]] {
					t.Errorf("%q uses $%s, which is no variable", p.Title, m[1])
				}
			}
			if q.LegendFormat == "" || q.Datasource.UID != "${datasource}" {
				t.Errorf("%q: the query %s has no legend, or a data source of its own", p.Title, q.RefID)
			}
		}
	}
	if d.SchemaVersion != schemaVersion || len(d.Panels) < 40 || queries < 50 {
		t.Errorf("schema %d, %d panels, %d queries", d.SchemaVersion, len(d.Panels), queries)
	}
}
