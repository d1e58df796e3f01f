package main

import (
	"context"
	"fmt"
	"time"
)

// proxyRestart replaces the proxy under running clients, as an upgrade does.
// The old one has to go in good order. The new one knows no broker yet when
// clients come back to it asking for one by name; behind SASL it cannot ask the
// cluster itself.
func proxyRestart(behindSASL bool) func(context.Context, *scenarioRun) (string, error) {
	return func(ctx context.Context, s *scenarioRun) (string, error) {
		setup := proxySetup{Name: "restart", Listener: listenTLS, Tapped: true}
		like := s.tapped
		if behindSASL {
			setup = proxySetup{Name: "restart-sasl", Listener: listenSASL, Tapped: true}
			like = s.tapped.with(login("PLAIN", saslSecret)...).with("security.protocol=SASL_SSL")
		}
		p, err := s.startProxy(ctx, setup)
		if err != nil {
			return "", err
		}
		defer p.Kill()
		defer p.tap.stop()
		e := like.with()
		e.bootstrap = fmt.Sprintf("bootstrap.%s:%d", suffix, p.clientPort())
		result, err := s.restartUnder(ctx, e, p, "proxy-"+setup.Name)
		if leaks := p.tap.takeLeaks(); err == nil && len(leaks) > 0 {
			err = fmt.Errorf("upstream names: %q", leaks)
		}
		return result, err
	}
}

func (s *scenarioRun) restartUnder(ctx context.Context, e *endpoint, p *proxy, topic string) (string, error) {
	if err := s.cluster.createTopic(ctx, topic, 6, 3); err != nil {
		return "", err
	}
	consumer, err := s.startJava(ctx, e, "consume", topic, topic)
	if err != nil {
		return "", err
	}
	producer, err := s.startJava(ctx, e, "produce", topic, "java", "1500", "0")
	if err != nil {
		return "", err
	}
	var longest time.Duration
	for range 3 {
		if err := progressed(producer, consumer); err != nil {
			return "", err
		}
		begin := time.Now()
		if err := p.drain(); err != nil {
			return "", err
		}
		longest = max(longest, time.Since(begin))
		if err := p.start(ctx); err != nil {
			return "", err
		}
	}
	if err := progressed(producer, consumer); err != nil {
		return "", err
	}
	flow, err := s.endFlow(ctx, producer, consumer, topic)
	return fmt.Sprintf("3 restarts, drained in %.1f s at most; %s", longest.Seconds(), flow), err
}
