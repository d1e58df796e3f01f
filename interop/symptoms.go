package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"golang.org/x/sync/errgroup"

	"kafka-sni-proxy/internal/harness"
)

// symptomsDoc says what clients say when something is wrong, what the proxy's log says, and
// what to do. Each text in its tables is one that the scenario has to produce.
const symptomsDoc = "docs/symptoms.md"

// A symptom is a section of the document: one set-up in which clients cannot work. Its key in
// the table is the mark in the document.
type symptom struct {
	Bootstrap string `json:"bootstrap"` // {name} stands for the port of a listener of the file below
	Protocol  string `json:"protocol"`
	CA        string `json:"ca,omitempty"` // "": the right one, with TLS; "other": another one
	Mechanism string `json:"mechanism,omitempty"`
	User      string `json:"user,omitempty"`
	Password  string `json:"password,omitempty"`
	Hosts     string `json:"hosts"`
}

var symptoms = map[string]symptom{
	"plaintext-client":      {Bootstrap: "bootstrap.edge.test:{tls}", Protocol: "PLAINTEXT"},
	"plaintext-listener":    {Bootstrap: "localhost:{plain}", Protocol: "SSL"},
	"wrong-ca":              {Bootstrap: "bootstrap.edge.test:{tls}", Protocol: "SSL", CA: "other"},
	"name-not-covered":      {Bootstrap: "bootstrap.edge.test:{narrow}", Protocol: "SSL"},
	"not-resolved":          {Bootstrap: "nosuch.edge.test:{tls}", Protocol: "SSL"},
	"name-not-served":       {Bootstrap: "bootsrap.edge.test:{tls}", Protocol: "SSL"},
	"no-client-certificate": {Bootstrap: "bootstrap.edge.test:{mtls}", Protocol: "SSL"},
	"wrong-password":        {Bootstrap: "sasl.edge.test:{tls}", Protocol: "SASL_SSL", Mechanism: "PLAIN", User: saslUser, Password: "guessed"},
	"sasl-missing":          {Bootstrap: "sasl.edge.test:{tls}", Protocol: "SSL"},
	"nobody-listens":        {Bootstrap: "bootstrap.edge.test:{none}", Protocol: "SSL"},
	"cluster-down":          {Bootstrap: "down.edge.test:{tls}", Protocol: "SSL"},
	"no-port-for-a-broker":  {Bootstrap: "localhost:{plain}", Protocol: "PLAINTEXT"},
	"sasl-not-wanted":       {Bootstrap: "bootstrap.edge.test:{tls}", Protocol: "SASL_SSL", Mechanism: "PLAIN", User: saslUser, Password: saslSecret},
	"by-address":            {Bootstrap: "127.0.0.1:{tls}", Protocol: "SSL"},
}

// symptomsConfig is the proxy's file.
const symptomsConfig = `
listeners:
  - {name: tls, bind: "127.0.0.1:{tls}", certificates: [{cert: server.pem, key: server_key.pem}]}
  - {name: mtls, bind: "127.0.0.1:{mtls}", certificates: [{cert: server.pem, key: server_key.pem}], client-certificates: {require: true, ca-certs: ca.pem}}
  - {name: narrow, bind: "127.0.0.1:{narrow}", certificates: [{cert: narrow/server.pem, key: narrow/server_key.pem}]}
  - {name: plain, bind: "127.0.0.1:{plain}", plaintext: true, ports: {cluster: orders, brokers: "{first}-{first}", first-node-id: 1, advertised-host: localhost}}
clusters:
  orders: {sni-suffix: edge.test, upstream: [{orders}], upstream-tls: {ca-certs: {ca}}, hosts-file: hosts}
  secured: {names: {bootstrap: sasl.edge.test, broker: "s{id}.edge.test"}, upstream: [{secured}], upstream-tls: {ca-certs: {ca}}, hosts-file: hosts}
  down: {names: {bootstrap: down.edge.test, broker: "down{id}.edge.test"}, upstream: ["127.0.0.1:{none}"]}
timeouts: {dial: 2s}
log: {level: debug}
`

// said is what each client has said, and "the proxy" has logged, in each case.
type said struct {
	mu  sync.Mutex
	all map[string]map[string]string
}

func (s *said) add(symptom, who, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[symptom] == nil {
		s.all[symptom] = map[string]string{}
	}
	s.all[symptom][who] += text + "\n"
}

// clientSymptoms makes clients fail in each way that the document has, and compares.
func clientSymptoms(ctx context.Context, s *scenarioRun) (string, error) {
	expected, err := readSymptoms(filepath.Join(s.java.software.root, symptomsDoc))
	if err != nil {
		return "", err
	}
	cases, p, err := s.startSymptoms(ctx)
	if err != nil {
		return "", err
	}
	defer p.Kill()
	got := &said{all: map[string]map[string]string{}}
	if s.python, err = s.java.software.python(ctx, s.dir); err != nil {
		return "", err
	}
	modules, err := s.java.software.kafkajs(ctx, s.dir)
	if err != nil {
		return "", err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	g.Go(func() error { return s.javaSymptoms(gctx, cases, got) })
	for name, c := range cases {
		g.Go(func() error { return s.goSymptom(gctx, name, c, got) })
		g.Go(func() error { return s.pythonSymptom(gctx, name, c, got) })
		g.Go(func() error { return s.nodeSymptom(gctx, modules, name, c, got) })
	}
	if err := g.Wait(); err != nil {
		return "", err
	}
	log, err := os.ReadFile(p.Output)
	if err != nil {
		return "", err
	}
	for name := range cases {
		got.add(name, "the proxy", string(log))
	}
	found, err := compareSymptoms(expected, got.all)
	if err != nil {
		text, _ := json.MarshalIndent(withoutLog(got.all), "", "  ")
		file := filepath.Join(s.dir, "said.json")
		err = errors.Join(fmt.Errorf("%w; all that was said is in %s", err, file), os.WriteFile(file, text, 0o644))
	}
	return fmt.Sprintf("%d symptoms, %d texts of %s", len(cases), found, symptomsDoc), err
}

func withoutLog(all map[string]map[string]string) map[string]map[string]string {
	for _, by := range all {
		delete(by, "the proxy")
	}
	return all
}

// startSymptoms starts the proxy, and returns the cases with its ports.
func (s *scenarioRun) startSymptoms(ctx context.Context) (map[string]symptom, *harness.Process, error) {
	var ports struct{ tls, mtls, narrow, plain, first, none int }
	if err := s.ports.TakeAll(&ports.tls, &ports.mtls, &ports.narrow, &ports.plain, &ports.first, &ports.none); err != nil {
		return nil, nil, err
	}
	dir := filepath.Join(s.proxyDir, "symptoms") // which no client reads
	certs, err := generateCerts(ctx, s.java.software, dir, suffix)
	if err != nil {
		return nil, nil, err
	}
	if _, err := generateCerts(ctx, s.java.software, filepath.Join(dir, "narrow"), "elsewhere.test"); err != nil {
		return nil, nil, err
	}
	pairs := strings.NewReplacer(
		"{tls}", fmt.Sprint(ports.tls), "{mtls}", fmt.Sprint(ports.mtls), "{narrow}", fmt.Sprint(ports.narrow), "{plain}", fmt.Sprint(ports.plain),
		"{first}", fmt.Sprint(ports.first), "{none}", fmt.Sprint(ports.none), "{ca}", s.cluster.ca.file,
		"{orders}", s.cluster.bootstrap(listenTLS), "{secured}", s.cluster.bootstrap(listenSASL))
	hosts := filepath.Join(s.dir, "symptom-hosts")
	names := underSuffix("bootstrap", "bootsrap", "sasl", "down", "b1", "b2", "b3", "s1", "s2", "s3")
	// Clients trust both authorities: else the name would not be what is wrong with the narrow one.
	trusted := filepath.Join(s.dir, "trusted.pem")
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "hosts"), []byte("127.0.0.1 *."+upstreamDomain+"\n"), 0o644),
		os.WriteFile(filepath.Join(dir, "proxy.yaml"), []byte(pairs.Replace(symptomsConfig)), 0o644),
		writeHosts(hosts, append(names, "localhost", "127.0.0.1")),
		concatenate(trusted, certs.path("ca.pem"), filepath.Join(dir, "narrow", "ca.pem")),
	); err != nil {
		return nil, nil, err
	}
	cases := map[string]symptom{}
	for name, c := range symptoms {
		c.Bootstrap, c.Hosts = pairs.Replace(c.Bootstrap), hosts
		switch {
		case c.CA == "other":
			c.CA = s.cluster.ca.file
		case strings.HasSuffix(c.Protocol, "SSL"):
			c.CA = trusted
		}
		cases[name] = c
	}
	p, err := harness.Start(ctx, harness.Command{Name: "symptoms-proxy", Dir: dir, Args: []string{s.java.software.proxy, "--config", "proxy.yaml"},
		Output: filepath.Join(dir, "proxy.log")})
	if err != nil {
		return nil, nil, err
	}
	return cases, p, p.Await(ctx, 10*time.Second, "the proxy of the symptoms does not listen", func() error {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports.plain))
		if err == nil {
			conn.Close()
		}
		return err
	})
}

// javaSymptoms runs one program for all cases: its log tells them by their client ids.
func (s *scenarioRun) javaSymptoms(ctx context.Context, cases map[string]symptom, got *said) error {
	var files []string
	for name, c := range cases {
		settings := []string{"client.id=" + name, "bootstrap.servers=" + c.Bootstrap, "security.protocol=" + c.Protocol,
			"request.timeout.ms=3000", "default.api.timeout.ms=4000"}
		if c.CA != "" {
			settings = append(settings, "ssl.truststore.type=PEM", "ssl.truststore.location="+c.CA)
		}
		if c.Mechanism != "" {
			settings = append(settings, "sasl.mechanism="+c.Mechanism, fmt.Sprintf(
				"sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username=\"%s\" password=\"%s\";", c.User, c.Password))
		}
		file := filepath.Join(s.dir, name+".properties")
		if err := os.WriteFile(file, []byte(strings.Join(settings, "\n")+"\n"), 0o600); err != nil {
			return err
		}
		files = append(files, file)
	}
	v := jvm{HeapMB: 256, Short: true, Hosts: cases["wrong-ca"].Hosts, Log: filepath.Join(s.dir, "java.log")}
	output, err := harness.Run(ctx, harness.Command{Name: "java-symptoms", Args: s.java.clientArgs(v, "Symptoms", files...), Dir: s.dir})
	if err != nil {
		return err
	}
	log, err := os.ReadFile(v.Log)
	if err != nil {
		return err
	}
	for name := range cases {
		for line := range strings.Lines(output + string(log)) {
			if strings.HasPrefix(line, name+"\t") || strings.Contains(line, "clientId="+name+"]") {
				got.add(name, "Java", line)
			}
		}
	}
	return nil
}

// pythonSymptom runs librdkafka and kafka-python.
func (s *scenarioRun) pythonSymptom(ctx context.Context, name string, c symptom, got *said) error {
	file, err := s.writeSymptom(name, c)
	if err != nil {
		return err
	}
	script := filepath.Join(s.java.software.root, "interop", "python", "symptoms.py")
	line := []string{"env", "LD_PRELOAD=" + s.python.names, "INTEROP_HOSTS=" + c.Hosts, "PYTHONPATH=" + s.python.packages, s.python.interpreter, script, file}
	output, err := harness.Run(ctx, harness.Command{Name: "python-" + name, Args: line, Dir: s.dir})
	if err != nil {
		return err
	}
	var texts map[string][]string
	lines := strings.Split(strings.TrimSpace(output), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &texts); err != nil {
		return fmt.Errorf("%w: %s", err, output)
	}
	for who, all := range texts {
		got.add(name, who, strings.Join(all, "\n"))
	}
	return nil
}

func (s *scenarioRun) nodeSymptom(ctx context.Context, modules, name string, c symptom, got *said) error {
	file, err := s.writeSymptom(name, c)
	if err != nil {
		return err
	}
	script := filepath.Join(s.java.software.root, "interop", "node", "symptoms.js")
	output, err := harness.Run(ctx, harness.Command{Name: "node-" + name, Args: []string{"env", "NODE_PATH=" + modules, "node", script, file}, Dir: s.dir})
	got.add(name, "KafkaJS", output)
	return err
}

func (s *scenarioRun) writeSymptom(name string, c symptom) (file string, err error) {
	text, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	file = filepath.Join(s.dir, name+".json")
	return file, os.WriteFile(file, text, 0o600)
}

// goSymptom connects with franz-go.
func (s *scenarioRun) goSymptom(ctx context.Context, name string, c symptom, got *said) error {
	e := &endpoint{bootstrap: c.Bootstrap, hosts: c.Hosts}
	dial := func(ctx context.Context, _, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		at := address
		if net.ParseIP(host) == nil {
			if at, err = e.locate(address); err != nil {
				return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
			}
		}
		if c.CA == "" {
			return new(net.Dialer).DialContext(ctx, "tcp", at)
		}
		pool, ca := x509.NewCertPool(), []byte(nil)
		if ca, err = os.ReadFile(c.CA); err != nil {
			return nil, err
		}
		pool.AppendCertsFromPEM(ca)
		return (&tls.Dialer{Config: &tls.Config{ServerName: host, RootCAs: pool}}).DialContext(ctx, "tcp", at)
	}
	options := []kgo.Opt{kgo.SeedBrokers(c.Bootstrap), kgo.Dialer(dial), kgo.RequestRetries(0), kgo.RetryTimeout(4 * time.Second)}
	if c.Mechanism != "" {
		options = append(options, kgo.SASL(plain.Auth{User: c.User, Pass: c.Password}.AsMechanism()))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 6*time.Second)
	defer cancel()
	if err = client.Ping(ctx); err == nil {
		err = errors.New("it worked")
	}
	got.add(name, "franz-go", err.Error())
	return nil
}

var (
	symptomMark = regexp.MustCompile(`(?m)^<!-- symptom: ([a-z-]+) -->$`)
	symptomRow  = regexp.MustCompile("(?m)^\\| ([^|`]+) \\| `([^`]+)` \\|$")
)

// readSymptoms reads the texts of the document, by symptom and who says them.
func readSymptoms(file string) (map[string]map[string]string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	all := map[string]map[string]string{}
	marks := symptomMark.FindAllSubmatchIndex(content, -1)
	for i, m := range marks {
		end := len(content)
		if i+1 < len(marks) {
			end = marks[i+1][0]
		}
		texts := map[string]string{}
		for _, row := range symptomRow.FindAllSubmatch(content[m[1]:end], -1) {
			texts[string(row[1])] = strings.ReplaceAll(string(row[2]), `\|`, "|")
		}
		all[string(content[m[2]:m[3]])] = texts
	}
	for name := range symptoms {
		if all[name] == nil {
			err = errors.Join(err, fmt.Errorf("%s has no <!-- symptom: %s -->", file, name))
		}
	}
	for name := range all {
		if _, ok := symptoms[name]; !ok {
			err = errors.Join(err, fmt.Errorf("%s has the symptom %s, which nothing produces", file, name))
		}
	}
	return all, err
}

// compareSymptoms returns how many texts of the document were said.
func compareSymptoms(expected, got map[string]map[string]string) (found int, err error) {
	for _, name := range slices.Sorted(maps.Keys(expected)) {
		for _, who := range slices.Sorted(maps.Keys(expected[name])) {
			switch text := expected[name][who]; {
			case got[name][who] == "":
				err = errors.Join(err, fmt.Errorf("%s: %s has said nothing", name, who))
			case !containsInOrder(got[name][who], strings.Split(text, "…")):
				err = errors.Join(err, fmt.Errorf("%s: %s no longer says %q", name, who, text))
			default:
				found++
			}
		}
	}
	return found, err
}

// containsInOrder reports whether a line of a text has all parts, one behind the other.
func containsInOrder(text string, parts []string) bool {
line:
	for line := range strings.Lines(text) {
		for _, part := range parts {
			_, rest, ok := strings.Cut(line, part)
			if !ok {
				continue line
			}
			line = rest
		}
		return true
	}
	return false
}
