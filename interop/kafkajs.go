package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kafka-sni-proxy/internal/harness"
)

const nodeMissing = "the KafkaJS clients need Node.js with npm (Debian: apt-get install nodejs npm)"

// kafkajs returns the folder of node/package.json's modules.
func (s *software) kafkajs(ctx context.Context, dir string) (string, error) {
	asked, err := os.ReadFile(filepath.Join(s.root, "interop", "node", "package.json"))
	if err != nil {
		return "", err
	}
	folder, err := s.cached(ctx, "node", asked, "KafkaJS from the npm registry", func(attempt int, folder string) error {
		if err := os.WriteFile(filepath.Join(folder, "package.json"), asked, 0o644); err != nil {
			return err
		}
		npm := []string{"npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"}
		_, err := harness.Run(ctx, harness.Command{Name: fmt.Sprintf("npm-%d", attempt), Args: npm, Dir: dir})
		if err != nil {
			err = fmt.Errorf("%s: %w", nodeMissing, err)
		}
		return err
	})
	return filepath.Join(folder, "node_modules"), err
}

// startKafkaJS starts one of the clients in node/client.js, which sends one server name to all
// brokers.
func (s *scenarioRun) startKafkaJS(ctx context.Context, e *endpoint, serverName, subcommand string, args ...string) (*process, error) {
	modules, err := s.java.software.kafkajs(ctx, s.dir)
	if err != nil {
		return nil, err
	}
	s.programs++
	name := fmt.Sprintf("%02d-kafkajs-%s", s.programs, subcommand)
	settings, err := json.Marshal(map[string]string{"bootstrap": e.bootstrap, "ca": e.ca, "hosts": e.hosts, "servername": serverName})
	if err != nil {
		return nil, err
	}
	path := filepath.Join(s.dir, name+".json")
	if err := os.WriteFile(path, settings, 0o600); err != nil {
		return nil, err
	}
	client := filepath.Join(s.java.software.root, "interop", "node", "client.js")
	line := append([]string{"env", "NODE_PATH=" + modules, "node", client, subcommand, path}, args...)
	return start(ctx, harness.Command{Name: name, Args: line, Dir: s.dir})
}

// oneServerName has KafkaJS clients send one server name to all brokers, as ssl.servername in
// their settings does. That works by port. By name it cannot: all connections lead to one
// broker. Then the proxy has to say so.
func oneServerName(ctx context.Context, s *scenarioRun) (string, error) {
	const topic = "one-server-name"
	if err := s.cluster.createTopic(ctx, topic, 6, 3); err != nil {
		return "", err
	}
	if err := s.cluster.lead(ctx, topic, 1, 2, 3); err != nil {
		return "", err
	}
	f, err := s.newFront(topic)
	if err != nil {
		return "", err
	}
	defer f.stop()
	ports := "ports." + suffix
	err = errors.Join(f.byName(ctx, "names"), f.byPort(ctx, "ports", "orders", brokerCount, ports, true))
	if err == nil {
		err = f.write(f.orders(), "names", "ports")
	}
	if err != nil {
		return "", err
	}
	if err := f.proxy.start(ctx); err != nil {
		return "", err
	}
	byPort, err1 := f.endpoint("ports", s.certs, ports)
	byName, err2 := f.endpoint("names", s.certs, underSuffix("bootstrap", "b1", "b2", "b3")...)
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	figures, err := f.kafkajsWorks(ctx, byPort, ports, topic)
	if err == nil {
		err = f.kafkajsIsTold(ctx, byName, "bootstrap."+suffix, topic)
	}
	return figures, errors.Join(err, f.silent(), f.proxy.drain())
}

// kafkajsWorks produces and consumes. Each broker's port has to be used.
func (f *front) kafkajsWorks(ctx context.Context, e *endpoint, serverName, topic string) (string, error) {
	consumer, err := f.startKafkaJS(ctx, e, serverName, "consume", topic, topic)
	if err != nil {
		return "", err
	}
	producer, err := f.startKafkaJS(ctx, e, serverName, "produce", topic, "kafkajs", "1000")
	if err != nil {
		return "", err
	}
	if err := progressed(producer, consumer); err != nil {
		return "", err
	}
	sent, _, err := endProducer(producer)
	if err != nil {
		return "", err
	}
	read, err := endConsumer(consumer, sent)
	if err != nil {
		return "", err
	}
	log, err := f.cluster.audit(ctx, topic)
	if err == nil {
		err = log.exactly(map[string]int64{"kafkajs": sent})
	}
	for i, t := range f.listeners["ports"].taps {
		if opened, _ := t.seen.under(suffix); opened == 0 && err == nil {
			err = fmt.Errorf("no client has connected to port %d of the listener, the first one being that of bootstrap", i)
		}
	}
	return fmt.Sprintf("KafkaJS with one server name, by port: %d records, each once in the log; consumer: %s", sent, read), err
}

// kafkajsIsTold starts a producer that gets nowhere, and wants the proxy to say why.
func (f *front) kafkajsIsTold(ctx context.Context, e *endpoint, serverName, topic string) error {
	producer, err := f.startKafkaJS(ctx, e, serverName, "produce", topic, "never", "1000")
	if err != nil {
		return err
	}
	defer producer.Kill()
	return producer.Await(ctx, time.Minute, "waiting for the proxy to say that all brokers are given one name", func() error {
		const want = "remove the fixed server name"
		said := false
		err := eachLine(f.proxy.Output, func(line string) { said = said || strings.Contains(line, want) })
		if err == nil && !said {
			err = fmt.Errorf("%s does not say %q", f.proxy.Output, want)
		}
		return err
	})
}
