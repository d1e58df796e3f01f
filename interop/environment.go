package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kafka-sni-proxy/internal/harness"
)

// newEnvironment provides software, certificates, the cluster and the proxies. What
// it returns is to be closed, after an error too.
func newEnvironment(ctx context.Context, o options, root, work string) (*environment, error) {
	s := &environment{perfRecords: o.records, eventRounds: o.rounds, recoveries: recoveries{}, direct: o.direct, proxies: map[string]*proxy{}}
	software, err := provision(ctx, root, work)
	if err != nil {
		return s, err
	}
	s.java = &java{software: software}
	s.ports = new(harness.Ports)
	if s.cluster, err = startCluster(ctx, s.java, s.ports, filepath.Join(work, "cluster"), threeBrokers); err != nil {
		return s, err
	}
	s.directTLS = s.cluster.direct(listenTLS, "SSL")
	if o.direct {
		s.tls, s.tapped = s.directTLS, s.directTLS
		s.sasl = s.cluster.direct(listenSASL, "SASL_SSL")
		return s, nil
	}

	if software.proxy, err = harness.Build(ctx, harness.BuildOptions{Dir: work}); err != nil {
		return s, err
	}
	s.proxyDir = filepath.Join(work, "proxies")
	if s.certs, err = generateCerts(ctx, software, filepath.Join(s.proxyDir, "certs"), suffix); err != nil {
		return s, err
	}
	upstream, err := s.cluster.ca.write("proxy", s.cluster.ca.Client("proxy"))
	if err != nil {
		return s, err
	}
	byID := filepath.Join(s.proxyDir, "hosts-by-id")
	byRule := filepath.Join(s.proxyDir, "hosts-by-rule")
	if err := errors.Join(
		writeHosts(byID, underSuffix("bootstrap", "b1", "b2", "b3")),
		writeHosts(byRule, underSuffix("bootstrap", "node-1-of-ours", "node-2-of-ours", "node-3-of-ours")),
	); err != nil {
		return s, err
	}
	for _, one := range []struct {
		setup    proxySetup
		endpoint **endpoint
		hosts    string
		protocol string
	}{
		{proxySetup{Name: "tls", Listener: listenTLS}, &s.tls, byID, "SSL"},
		{proxySetup{Name: "tls-tapped", Listener: listenTLS, Tapped: true}, &s.tapped, byID, "SSL"},
		{proxySetup{Name: "sasl", Listener: listenSASL, Tapped: true,
			Args: []string{"--broker-mapping-rule", `^broker-([0-9]+)\..*$::node-$1-of-ours.` + suffix}}, &s.sasl, byRule, "SASL_SSL"},
		{proxySetup{Name: "mtls", Listener: listenMTLS,
			Args: []string{"--mtls-enable", "--ca-certs", s.certs.path("ca.pem"), "--upstream-cert", upstream.cert, "--upstream-key", upstream.key}}, &s.mtls, byID, "SSL"},
	} {
		p, err := s.startProxy(ctx, one.setup)
		if p != nil {
			s.proxies[one.setup.Name] = p
		}
		if err != nil {
			return s, err
		}
		*one.endpoint = p.endpoint(s.certs, one.setup.Name, one.hosts, one.protocol)
	}
	return s, nil
}

func underSuffix(labels ...string) []string {
	var names []string
	for _, label := range labels {
		names = append(names, label+"."+suffix)
	}
	return names
}

// close ends everything that was started. The proxies go first and, unless the
// run is cut short, have to go in good order.
func (s *environment) close(ctx context.Context) error {
	var problems []error
	for _, p := range s.proxies {
		if p.Process != nil && ctx.Err() == nil {
			problems = append(problems, p.drain())
		}
		if p.Process != nil {
			p.Kill()
		}
		if p.tap != nil {
			p.tap.stop()
		}
	}
	if s.cluster != nil {
		s.cluster.stop()
	}
	return errors.Join(problems...)
}

// run runs one scenario and then looks for upstream names in everything
// its clients wrote and were sent.
func (s *environment) run(ctx context.Context, one scenario, dir string) row {
	begin := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, one.limit, fmt.Errorf("the scenario took longer than %s", one.limit))
	defer cancel()
	for _, p := range s.proxies {
		if p.tap != nil {
			p.tap.allow.Store(one.configsAllowed)
		}
	}
	err := os.MkdirAll(dir, 0o755)
	var figures string
	if err == nil {
		figures, err = one.run(ctx, &scenarioRun{environment: s, dir: dir})
	}
	// Clients that a failed scenario has left behind end with its context.
	cancel()
	leaks, scanErr := scanFiles(dir, one.configsAllowed)
	for name, p := range s.proxies {
		if p.tap != nil {
			for _, leak := range p.tap.takeLeaks() {
				leaks = append(leaks, "tap of "+name+" "+leak)
			}
		}
	}
	err = errors.Join(err, scanErr)
	if len(leaks) > 0 {
		err = errors.Join(err, fmt.Errorf("%d upstream names reached a client, among them:\n  %s", len(leaks), strings.Join(leaks[:min(5, len(leaks))], "\n  ")))
	}
	return row{name: one.name, took: time.Since(begin), figures: figures, err: err}
}
