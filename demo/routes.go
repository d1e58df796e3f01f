package main

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"

	"kafka-sni-proxy/internal/harness"
)

// learned is what the proxy logs when it has learned where a broker is.
type learned struct {
	Message  string `json:"msg"`
	Node     int32  `json:"node"`
	Cluster  string `json:"cluster"` // with a file
	Name     string `json:"name"`
	Upstream string `json:"upstream"`
}

// learnedRoutes reads what the proxy has learned off its log, by node id.
func learnedRoutes(proxy *harness.Process) ([]learned, error) {
	log, err := os.ReadFile(proxy.Output)
	if err != nil {
		return nil, err
	}
	var routes []learned
	for line := range bytes.Lines(log) {
		var l learned
		if json.Unmarshal(line, &l) == nil && l.Message == "learned broker" {
			routes = append(routes, l)
		}
	}
	slices.SortFunc(routes, func(a, b learned) int { return int(a.Node) - int(b.Node) })
	return routes, nil
}
