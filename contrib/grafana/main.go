// The program grafana prints the dashboard kafka-sni-proxy.json: for Grafana 12.3 and newer, older ones ignore
// what they do not know.
//
//	go test ./contrib/grafana -update    writes it anew
//
// panels.go has what is on it. This file has how Grafana wants it written.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	os.Stdout.Write(render())
}

// row is a row of panels with its title.
type row struct {
	title  string
	closed bool // until somebody opens it
	panels []panel
}

// panel shows the answers to queries. What it has to have is all but wide, steps and per.
type panel struct {
	title       string
	description string // what it answers, and what to do about it
	kind        kind
	unit        string // of Grafana: s, Bps, reqps, cps, short, percentunit, bytes
	queries     []query
	wide        bool   // half the width of the page in place of a third
	stacked     bool   // areas on each other
	steps       []step // colours of a stat, from the lowest value
}

type kind string

const (
	stat  kind = "stat"       // one figure
	curve kind = "timeseries" // over time
	table kind = "table"      // what is now, a line for each series
	state kind = "state-timeline"
)

// query is PromQL and what its series are called in the legend.
type query struct{ expr, legend string }

// step is the colour of values from a value on.
type step struct {
	from  float64
	color string
}

// object is one of JSON.
type object map[string]any

const (
	schemaVersion = 42
	columns       = 24
)

var source = object{"type": "prometheus", "uid": "${datasource}"}

// render returns the dashboard.
func render() []byte {
	var all []object
	id, y := 0, 0
	next := func() int { id++; return id }
	for _, r := range rows {
		header := object{"type": "row", "id": next(), "title": r.title, "collapsed": r.closed,
			"gridPos": object{"x": 0, "y": y, "w": columns, "h": 1}, "panels": []object{}}
		y++
		var panels []object
		x, height := 0, 0
		for _, p := range r.panels {
			w, h := p.size()
			if x+w > columns {
				x, y = 0, y+height
			}
			height = h
			panels = append(panels, p.object(next(), object{"x": x, "y": y, "w": w, "h": h}))
			x += w
		}
		y += height
		all = append(all, header)
		if r.closed {
			header["panels"] = panels
		} else {
			all = append(all, panels...)
		}
	}
	text, err := json.MarshalIndent(object{
		"title": "kafka-sni-proxy", "uid": "kafka-sni-proxy", "tags": []string{"kafka", "proxy"},
		"description":   "Kafka through kafka-sni-proxy: is anything wrong, and where. docs/metrics.md explains the metrics, docs/alerts.md what to do.",
		"schemaVersion": schemaVersion, "version": 1, "editable": true, "graphTooltip": 1, "refresh": "30s", "timezone": "browser",
		"time":        object{"from": "now-1h", "to": "now"},
		"templating":  object{"list": variables()},
		"annotations": object{"list": annotations()},
		"panels":      all,
		"links":       []object{},
	}, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("a dashboard that is no JSON: %v", err)) // it is made of constants
	}
	return append(text, '\n')
}

func (p panel) size() (w, h int) {
	switch {
	case p.kind == stat:
		return 3, 4
	case p.wide:
		return columns / 2, 8
	}
	return columns / 3, 8
}

func (p panel) object(id int, grid object) object {
	var targets []object
	for i, q := range p.queries {
		now := p.kind == table
		t := object{"refId": string(rune('A' + i)), "datasource": source, "expr": q.expr, "legendFormat": q.legend,
			"editorMode": "code", "range": !now, "instant": now}
		if now {
			t["format"] = "table"
		}
		targets = append(targets, t)
	}
	defaults := object{"unit": p.unit, "thresholds": object{"mode": "absolute", "steps": p.thresholds()}}
	o := object{"id": id, "type": string(p.kind), "title": p.title, "description": p.description, "datasource": source,
		"gridPos": grid, "targets": targets, "fieldConfig": object{"defaults": defaults, "overrides": []object{}}}
	switch p.kind {
	case stat:
		defaults["color"] = object{"mode": "thresholds"}
		o["options"] = object{"colorMode": "background", "graphMode": "none", "justifyMode": "center", "textMode": "auto",
			"reduceOptions": object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false}}
	case curve:
		custom := object{"drawStyle": "line", "lineWidth": 1, "fillOpacity": 5, "showPoints": "never", "spanNulls": false,
			"stacking": object{"mode": "none"}}
		if p.stacked {
			custom["fillOpacity"], custom["stacking"] = 30, object{"mode": "normal", "group": "A"}
		}
		defaults["custom"], defaults["color"], defaults["min"] = custom, object{"mode": "palette-classic"}, 0
		o["options"] = object{"tooltip": object{"mode": "multi", "sort": "desc"},
			"legend": object{"displayMode": "table", "placement": "bottom", "showLegend": true, "calcs": []string{"lastNotNull", "max"}}}
	case state:
		defaults["color"] = object{"mode": "thresholds"}
		defaults["mappings"] = []object{{"type": "value", "options": object{
			"0": object{"text": "down", "color": "red", "index": 0}, "1": object{"text": "up", "color": "green", "index": 1}}}}
		o["options"] = object{"mergeValues": true, "showValue": "never", "rowHeight": 0.8,
			"legend": object{"displayMode": "list", "placement": "bottom", "showLegend": false}}
	case table:
		defaults["color"] = object{"mode": "thresholds"}
		defaults["custom"] = object{"cellOptions": object{"type": "color-text"}}
		o["options"] = object{"showHeader": true, "sortBy": []object{{"displayName": "Value", "desc": false}}}
		o["transformations"] = []object{{"id": "organize", "options": object{"excludeByName": object{"Time": true}}}}
	}
	return o
}

// thresholds are the colours: without steps all is well.
func (p panel) thresholds() []object {
	base := "green"
	if p.kind == curve {
		base = "text"
	}
	all := []object{{"color": base, "value": nil}}
	for _, s := range p.steps {
		if s.from == lowest {
			all[0]["color"] = s.color
			continue
		}
		all = append(all, object{"color": s.color, "value": s.from})
	}
	return all
}

func variables() []object {
	choice := func(name, label, values string) object {
		return object{"name": name, "label": label, "type": "query", "datasource": source, "definition": values,
			"query":   object{"query": values, "refId": name},
			"refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".*",
			"current": object{"text": []string{"All"}, "value": []string{"$__all"}}}
	}
	return []object{
		{"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1, "current": object{}},
		choice("job", "Job", "label_values(kafka_sni_proxy_build_info, job)"),
		choice("instance", "Copy", `label_values(kafka_sni_proxy_build_info{job=~"$job"}, instance)`),
		choice("cluster", "Cluster", `label_values(kafka_sni_proxy_brokers_learned{job=~"$job"}, cluster)`),
		choice("listener", "Listener", `label_values(kafka_sni_proxy_connections_accepted_total{job=~"$job"}, listener)`),
	}
}

// annotations are lines in all curves: starts, and files that were read anew.
func annotations() []object {
	line := func(name, color, expr string) object {
		return object{"name": name, "enable": true, "iconColor": color, "datasource": source, "expr": expr, "step": "60s", "titleFormat": name, "textFormat": "{{instance}}"}
	}
	return []object{
		line("start", "blue", "changes(process_start_time_seconds{"+copies+"}[1m]) > 0 and on (job, instance) kafka_sni_proxy_build_info"),
		line("reload", "purple", "increase(kafka_sni_proxy_reloads_total{"+copies+"}[1m]) > 0"),
	}
}
