package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"kafka-sni-proxy/internal/harness"
)

// The address in the files of docs/clients. Its name is served by a proxy of the
// scenario; the port is replaced by that of this proxy, since no port has to be free here.
const (
	guideSuffix    = "kafka.example"
	guideBootstrap = "bootstrap." + guideSuffix + ":9092"
	guideTopic     = "greetings"
)

const kcatMissing = "the settings of kcat need kcat (Debian: apt-get install kcat)"

// guide is what the clients of the documentation run with: the files of docs/clients in a
// folder, beside the proxy's CA, and programs that resolve names by one hosts file.
type guide struct {
	*scenarioRun
	dir     string
	hosts   string
	address string // in place of guideBootstrap
}

// clientSettings runs what docs/clients.md shows: each program sends a record and reads it,
// through a proxy for a real cluster with SASL.
func clientSettings(ctx context.Context, s *scenarioRun) (string, error) {
	if err := s.cluster.createTopic(ctx, guideTopic, 3, 3); err != nil {
		return "", err
	}
	certs, err := generateCerts(ctx, s.java.software, filepath.Join(s.dir, "certs"), guideSuffix)
	if err != nil {
		return "", err
	}
	p, err := s.startProxy(ctx, proxySetup{Name: "client-settings", Listener: listenSASL, Suffix: guideSuffix, Certs: certs})
	if err != nil {
		return "", err
	}
	defer p.Kill()
	g := &guide{scenarioRun: s, dir: filepath.Join(s.dir, "clients"), hosts: filepath.Join(s.dir, "guide-hosts"),
		address: fmt.Sprintf("bootstrap.%s:%d", guideSuffix, p.port)}
	if err := g.copyFiles(certs); err != nil {
		return "", err
	}
	if s.python, err = s.java.software.python(ctx, s.dir); err != nil {
		return "", err
	}
	var worked []string
	for _, client := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"Java", g.javaClient},
		{"kcat", g.kcatClient},
		{"confluent-kafka", g.confluentKafkaClient},
		{"kafka-python", g.kafkaPythonClient},
		{"KafkaJS", g.kafkajsClient},
		{"franz-go", g.goClientProgram("franz-go", "hello from franz-go")},
		{"Sarama", g.goClientProgram("sarama", "hello from Sarama")},
	} {
		if err := client.run(ctx); err != nil {
			return "", fmt.Errorf("%s, as in docs/clients: %w", client.name, err)
		}
		worked = append(worked, client.name)
	}
	return strings.Join(worked, ", ") + ": one record sent and read by each, with the files of docs/clients", p.drain()
}

// copyFiles copies docs/clients, with the proxy's port, and the proxy's CA beside it.
func (g *guide) copyFiles(certs *proxyCerts) error {
	if err := os.CopyFS(g.dir, os.DirFS(filepath.Join(g.java.software.root, "docs", "clients"))); err != nil {
		return err
	}
	err := filepath.WalkDir(g.dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Contains(content, []byte(guideBootstrap)) {
			return fmt.Errorf("%s does not name %s", path, guideBootstrap)
		}
		return os.WriteFile(path, bytes.ReplaceAll(content, []byte(guideBootstrap), []byte(g.address)), 0o644)
	})
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(certs.path("ca.pem"))
	if err != nil {
		return err
	}
	var names []string
	for _, label := range []string{"bootstrap", "b1", "b2", "b3"} {
		names = append(names, label+"."+guideSuffix)
	}
	return errors.Join(os.WriteFile(filepath.Join(g.dir, "ca.pem"), ca, 0o644), writeHosts(g.hosts, names))
}

// resolving is a command line with names resolved by the hosts file alone.
func (g *guide) resolving(variables []string, line ...string) []string {
	env := append([]string{"env", "LD_PRELOAD=" + g.python.names, "INTEROP_HOSTS=" + g.hosts}, variables...)
	return append(env, line...)
}

// reads runs a program and wants it to say that it has read its record.
func (g *guide) reads(ctx context.Context, name, hello string, line []string) error {
	output, err := harness.Run(ctx, harness.Command{Name: name, Args: line, Dir: g.dir})
	if err == nil && !strings.Contains(output, "read: "+hello+"\n") {
		err = fmt.Errorf("it does not say that it has read %q: %s", hello, output)
	}
	return err
}

// javaClient runs our Java producer and consumer with the settings of the file. Its topic is
// its own: the consumer counts numbered records.
func (g *guide) javaClient(ctx context.Context) error {
	const topic = guideTopic + "-java"
	if err := g.cluster.createTopic(ctx, topic, 3, 3); err != nil {
		return err
	}
	run := func(name string, args ...string) (*process, error) {
		v := jvm{HeapMB: 128, Short: true, Hosts: g.hosts, Log: filepath.Join(g.dir, name+".log")}
		return start(ctx, harness.Command{Name: name, Args: g.java.clientArgs(v, "Main", args...), Dir: g.dir})
	}
	producer, err := run("java-produce", "produce", "java.properties", topic, "java", "1000", "1")
	if err != nil {
		return err
	}
	if _, err := producer.finish(); err != nil {
		return err
	}
	consumer, err := run("java-consume", "consume", "java.properties", topic, "java")
	if err != nil {
		return err
	}
	if err := consumer.order("until 1"); err != nil {
		return err
	}
	result, err := consumer.finish()
	if err == nil && figure(result, "distinct") != 1 {
		err = fmt.Errorf("the consumer was given %s, want one record", result)
	}
	return err
}

func (g *guide) kcatClient(ctx context.Context) error {
	if _, err := exec.LookPath("kcat"); err != nil {
		return fmt.Errorf("%s: %w", kcatMissing, err)
	}
	const script = `set -e
echo "hello from kcat" | kcat -F librdkafka.properties -P -t greetings
kcat -F librdkafka.properties -C -t greetings -o beginning -e -f 'read: %s\n'`
	return g.reads(ctx, "kcat", "hello from kcat", g.resolving(nil, "bash", "-c", script))
}

func (g *guide) confluentKafkaClient(ctx context.Context) error {
	return g.pythonClient(ctx, "confluent-kafka.py", "hello from confluent-kafka")
}

func (g *guide) kafkaPythonClient(ctx context.Context) error {
	return g.pythonClient(ctx, "kafka-python.py", "hello from kafka-python")
}

func (g *guide) pythonClient(ctx context.Context, file, hello string) error {
	line := g.resolving([]string{"PYTHONPATH=" + g.python.packages}, g.python.interpreter, file)
	return g.reads(ctx, strings.TrimSuffix(file, ".py"), hello, line)
}

func (g *guide) kafkajsClient(ctx context.Context) error {
	modules, err := g.java.software.kafkajs(ctx, g.dir)
	if err != nil {
		return err
	}
	return g.reads(ctx, "kafkajs", "hello from KafkaJS", g.resolving([]string{"NODE_PATH=" + modules}, "node", "kafkajs.js"))
}

// goClientProgram builds a program with cgo, so that it asks getaddrinfo for names, and runs it.
func (g *guide) goClientProgram(name, hello string) func(context.Context) error {
	return func(ctx context.Context) error {
		// The copy, with its port, takes the place of the file in the module, which says what the imports are.
		overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
			filepath.Join(g.java.software.root, "docs", "clients", name, "main.go"): filepath.Join(g.dir, name, "main.go"),
		}})
		if err != nil {
			return err
		}
		overlayFile, binary := filepath.Join(g.dir, name+"-overlay.json"), filepath.Join(g.dir, name+".bin")
		if err := os.WriteFile(overlayFile, overlay, 0o644); err != nil {
			return err
		}
		build := []string{"env", "CGO_ENABLED=1", "go", "build", "-overlay", overlayFile, "-o", binary, "./docs/clients/" + name}
		_, err = harness.Run(ctx, harness.Command{Name: "build-" + name, Args: build, Dir: g.java.software.root, Output: filepath.Join(g.dir, "build-"+name+".out")})
		if err != nil {
			return err
		}
		return g.reads(ctx, name, hello, g.resolving([]string{"GODEBUG=netdns=cgo"}, binary))
	}
}
