package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"kafka-sni-proxy/internal/harness"
)

// monitor is a Prometheus server that scrapes a proxy.
type monitor struct {
	*harness.Process
	address string
}

// prometheusSetup is how one is started.
type prometheusSetup struct {
	Name   string
	Dir    string // of its configuration, its data and its log
	Rules  string // the folder with rules.yaml and alerts.yaml
	Target *proxy
	Every  string // between scrapes; "": 1s
	Flag   string // one more; "": none
}

// startPrometheus starts a Prometheus server, which evaluates rules each second, and waits
// until it has scraped the proxy.
func (s *environment) startPrometheus(ctx context.Context, setup prometheusSetup) (*monitor, error) {
	address, err := s.ports.Address()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(setup.Dir, "prometheus-"+setup.Name+".yml")
	err = os.WriteFile(file, fmt.Appendf(nil, `global: {scrape_interval: %[1]s, scrape_timeout: %[1]s, evaluation_interval: 1s}
rule_files: [%[2]s/rules.yaml, %[2]s/alerts.yaml]
scrape_configs:
  - job_name: edge
    static_configs: [{targets: ["127.0.0.1:%[3]d"]}]
`, cmp.Or(setup.Every, "1s"), setup.Rules, setup.Target.admin), 0o644)
	if err != nil {
		return nil, err
	}
	args := []string{"prometheus", "--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(setup.Dir, "data-"+setup.Name), "--web.listen-address=" + address}
	if setup.Flag != "" {
		args = append(args, setup.Flag)
	}
	m := &monitor{address: address}
	if m.Process, err = harness.Start(ctx, harness.Command{Name: "prometheus-" + setup.Name, Args: args, Dir: setup.Dir}); err != nil {
		return nil, err
	}
	return m, m.Await(ctx, time.Minute, "waiting for Prometheus to scrape the proxy", func() error {
		up, err := m.query(ctx, `up{job="edge"} == 1`)
		if err == nil && len(up) == 0 {
			err = errors.New("the proxy is not up")
		}
		return err
	})
}

// ask gets a page of the API of Prometheus.
func (m *monitor) ask(ctx context.Context, path string, form url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.address+"/api/v1/"+path+"?"+form.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer := struct {
		Data  any
		Error string
	}{Data: into}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return harness.Final(fmt.Errorf("%s %v: %s", path, form, answer.Error))
	}
	return nil
}

// query returns what the series of an answer are now, without those that are not a number.
func (m *monitor) query(ctx context.Context, query string) ([]string, error) {
	var data struct {
		Result []struct{ Value [2]any }
	}
	if err := m.ask(ctx, "query", url.Values{"query": {query}}, &data); err != nil {
		return nil, err
	}
	var values []string
	for _, r := range data.Result {
		if v, _ := r.Value[1].(string); v != "NaN" {
			values = append(values, v)
		}
	}
	return values, nil
}
