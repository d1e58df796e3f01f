package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"kafka-sni-proxy/internal/harness"
	"kafka-sni-proxy/internal/kafkatest"
)

// symptomsTopic has partitions on all brokers.
const symptomsTopic = "symptoms"

// symptomsDoc says what clients say when something is wrong, what the proxy's log says, and
// what to do. Each text in its tables is one that the scenario has to produce.
const symptomsDoc = "docs/symptoms.md"

// A symptom is a section of the document: one set-up in which clients cannot work. Its key in
// the table is the mark in the document.
type symptom struct {
	Bootstrap string `json:"bootstrap"` // {name} stands for the port of a listener of the file below
	Protocol  string `json:"protocol"`
	CA        string `json:"ca,omitempty"`   // "": the right one, with TLS; "other": another one
	Cert      string `json:"cert,omitempty"` // the client's; "other": one of the wrong authority
	Key       string `json:"key,omitempty"`
	Store     string `json:"-"` // both in one file
	Mechanism string `json:"mechanism,omitempty"`
	User      string `json:"user,omitempty"`
	Password  string `json:"password,omitempty"`
	// ServerName is what clients that can be told so send to all brokers. Others leave the
	// case out.
	ServerName string        `json:"servername,omitempty"`
	Work       string        `json:"work,omitempty"` // "": ask what brokers there are; or one of those below
	Topic      string        `json:"topic,omitempty"`
	Clock      time.Duration `json:"-"` // how far the client's clock is ahead
	Hosts      string        `json:"hosts"`
}

// What clients do when they are to do more than to connect.
const (
	askTwice = "twice"   // ask again, after longer than forgetAfter
	produce  = "produce" // a record to each partition of the topic
	consume  = "consume" // the topic, for a while, in a group
)

// forgetAfter is how long the balancer of the symptoms keeps a connection that is idle. It is
// shorter than the time between heartbeats of consumers (3s), and clients that ask twice wait for 3s.
const forgetAfter = 2 * time.Second

// certificateLife is how long the listener's certificate that expires is valid: longer than
// the proxy may take to start.
const certificateLife = startLimit + 2*time.Second

const startLimit = 10 * time.Second

var symptoms = map[string]symptom{
	"plaintext-client":           {Bootstrap: "bootstrap.edge.test:{tls}", Protocol: "PLAINTEXT"},
	"plaintext-listener":         {Bootstrap: "localhost:{plain}", Protocol: "SSL"},
	"wrong-ca":                   {Bootstrap: "bootstrap.edge.test:{tls}", Protocol: "SSL", CA: "other"},
	"name-not-covered":           {Bootstrap: "bootstrap.edge.test:{narrow}", Protocol: "SSL"},
	"not-resolved":               {Bootstrap: "nosuch.edge.test:{tls}", Protocol: "SSL"},
	"name-not-served":            {Bootstrap: "bootsrap.edge.test:{tls}", Protocol: "SSL"},
	"no-client-certificate":      {Bootstrap: "bootstrap.edge.test:{mtls}", Protocol: "SSL"},
	"wrong-password":             {Bootstrap: "sasl.edge.test:{tls}", Protocol: "SASL_SSL", Mechanism: "PLAIN", User: saslUser, Password: "guessed"},
	"sasl-missing":               {Bootstrap: "sasl.edge.test:{tls}", Protocol: "SSL"},
	"nobody-listens":             {Bootstrap: "bootstrap.edge.test:{none}", Protocol: "SSL"},
	"cluster-down":               {Bootstrap: "down.edge.test:{tls}", Protocol: "SSL"},
	"no-port-for-a-broker":       {Bootstrap: "localhost:{plain}", Protocol: "PLAINTEXT"},
	"sasl-not-wanted":            {Bootstrap: "bootstrap.edge.test:{tls}", Protocol: "SASL_SSL", Mechanism: "PLAIN", User: saslUser, Password: saslSecret},
	"by-address":                 {Bootstrap: "127.0.0.1:{tls}", Protocol: "SSL"},
	"client-certificate-refused": {Bootstrap: "bootstrap.edge.test:{mtls}", Protocol: "SSL", Cert: "other"},
	"client-clock-behind":        {Bootstrap: "bootstrap.edge.test:{tls}", Protocol: "SSL", Clock: -30 * 24 * time.Hour},
	"trailing-dot":               {Bootstrap: "bootstrap.edge.test.:{tls}", Protocol: "SSL"},
	"sasl-mechanism":             {Bootstrap: "scram.edge.test:{tls}", Protocol: "SASL_SSL", Mechanism: "PLAIN", User: saslUser, Password: saslSecret},
	"certificate-expired":        {Bootstrap: "bootstrap.edge.test:{expired}", Protocol: "SSL"},
	"one-server-name":            {Bootstrap: "bootstrap.edge.test:{tls}", Protocol: "SSL", ServerName: "bootstrap.edge.test", Work: produce},
	"half-open":                  {Bootstrap: "bootstrap.edge.test:{forgets}", Protocol: "SSL", Work: askTwice},
	"group-after-idle":           {Bootstrap: "bootstrap.edge.test:{forgets}", Protocol: "SSL", Work: consume},
	"broker-not-resolved":        {Bootstrap: "alone.edge.test:{tls}", Protocol: "SSL", Work: produce},
	"broker-port-closed":         {Bootstrap: "bootstrap.edge.test:{elsewhere}", Protocol: "SSL", Work: produce},
}

// symptomsConfig is the proxy's file.
const symptomsConfig = `
listeners:
  - {name: tls, bind: "127.0.0.1:{tls}", certificates: [{cert: server.pem, key: server_key.pem}]}
  - {name: mtls, bind: "127.0.0.1:{mtls}", certificates: [{cert: server.pem, key: server_key.pem}], client-certificates: {require: true, ca-certs: ca.pem}}
  - {name: narrow, bind: "127.0.0.1:{narrow}", certificates: [{cert: narrow/server.pem, key: narrow/server_key.pem}]}
  - {name: plain, bind: "127.0.0.1:{plain}", plaintext: true, ports: {cluster: orders, brokers: "{first}-{first}", first-node-id: 1, advertised-host: localhost}}
  - {name: expired, bind: "127.0.0.1:{expired}", certificates: [{cert: expired.pem, key: expired_key.pem}]}
  - {name: forgets, bind: "127.0.0.1:{behind}", advertised-port: {forgets}, certificates: [{cert: server.pem, key: server_key.pem}]}
  - {name: elsewhere, bind: "127.0.0.1:{elsewhere}", advertised-port: {none}, certificates: [{cert: server.pem, key: server_key.pem}]}
clusters:
  orders: {sni-suffix: edge.test, upstream: [{orders}], upstream-tls: {ca-certs: {ca}}, hosts-file: hosts}
  secured: {names: {bootstrap: sasl.edge.test, broker: "s{id}.edge.test"}, upstream: [{secured}], upstream-tls: {ca-certs: {ca}}, hosts-file: hosts}
  scram: {names: {bootstrap: scram.edge.test, broker: "c{id}.edge.test"}, upstream: [{scram}], upstream-tls: {ca-certs: {ca}}, hosts-file: hosts}
  alone: {names: {bootstrap: alone.edge.test, broker: "broker{id}.edge.test"}, upstream: [{orders}], upstream-tls: {ca-certs: {ca}}, hosts-file: hosts}
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
	expected, err := readTexts(filepath.Join(s.java.software.root, symptomsDoc), "symptom", slices.Collect(maps.Keys(symptoms)))
	if err != nil {
		return "", err
	}
	cases, p, err := s.startSymptoms(ctx)
	if err != nil {
		return "", err
	}
	defer p.stop()
	got := &said{all: map[string]map[string]string{}}
	if s.python, err = s.java.software.python(ctx, s.dir); err != nil {
		return "", err
	}
	cc := []string{"cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", s.clockLibrary(), filepath.Join(s.java.software.root, "interop", "python", "clock.c")}
	if _, err := harness.Run(ctx, harness.Command{Args: cc, Dir: s.dir}); err != nil {
		return "", err
	}
	modules, err := s.java.software.kafkajs(ctx, s.dir)
	if err != nil {
		return "", err
	}
	if err := s.cluster.createTopic(ctx, symptomsTopic, 6, 3); err != nil {
		return "", err
	}
	if err := s.cluster.lead(ctx, symptomsTopic, 1, 2, 3); err != nil {
		return "", err
	}
	select {
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case <-time.After(time.Until(p.expires)):
	}
	// Java's programs run alone: each has many clients that start at once, and give up after a while.
	byClock := map[time.Duration]map[string]symptom{}
	for name, c := range cases {
		if byClock[c.Clock] == nil {
			byClock[c.Clock] = map[string]symptom{}
		}
		byClock[c.Clock][name] = c
	}
	for clock, cases := range byClock {
		if err := s.javaSymptoms(ctx, cases, clock, got); err != nil {
			return "", err
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
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
	found, err := compareTexts(expected, func(symptom, who string) string { return got.all[symptom][who] })
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

// symptomsProxy is the proxy, and what is in front of one of its listeners.
type symptomsProxy struct {
	*harness.Process
	balancer *forgetful
	expires  time.Time // the certificate of one of its listeners does
}

func (p *symptomsProxy) stop() {
	p.Kill()
	p.balancer.stop()
}

// startSymptoms starts the proxy, and returns the cases with its ports.
func (s *scenarioRun) startSymptoms(ctx context.Context) (map[string]symptom, *symptomsProxy, error) {
	var ports struct{ tls, mtls, narrow, plain, first, none, expired, forgets, behind, elsewhere int }
	if err := s.ports.TakeAll(&ports.tls, &ports.mtls, &ports.narrow, &ports.plain, &ports.first, &ports.none,
		&ports.expired, &ports.forgets, &ports.behind, &ports.elsewhere); err != nil {
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
		"{first}", fmt.Sprint(ports.first), "{expired}", fmt.Sprint(ports.expired), "{forgets}", fmt.Sprint(ports.forgets),
		"{behind}", fmt.Sprint(ports.behind), "{elsewhere}", fmt.Sprint(ports.elsewhere), "{none}", fmt.Sprint(ports.none), "{ca}", s.cluster.ca.file,
		"{orders}", s.cluster.bootstrap(listenTLS), "{secured}", s.cluster.bootstrap(listenSASL), "{scram}", s.cluster.bootstrap(listenSCRAM))
	hosts := s.symptomHosts()
	names := underSuffix("bootstrap", "bootsrap", "sasl", "down", "b1", "b2", "b3", "s1", "s2", "s3", "scram", "c1", "c2", "c3", "alone")
	// Clients trust all authorities: else the name would not be what is wrong with the narrow one.
	trusted := filepath.Join(s.dir, "trusted.pem")
	stranger, err := s.cluster.ca.write("stranger", s.cluster.ca.Client("stranger"))
	if err != nil {
		return nil, nil, err
	}
	authority, p := kafkatest.NewAuthority("soon expired"), &symptomsProxy{expires: time.Now().Add(certificateLife)}
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "hosts"), []byte("127.0.0.1 *."+upstreamDomain+"\n"), 0o644),
		os.WriteFile(filepath.Join(dir, "proxy.yaml"), []byte(pairs.Replace(symptomsConfig)), 0o644),
		writeHosts(hosts, append(names, "localhost", "127.0.0.1", "bootstrap."+suffix+".")),
		os.WriteFile(filepath.Join(dir, "expired-ca.pem"), authority.PEM(), 0o644),
		kafkatest.WriteKeyPair(dir, "expired", authority.ServerUntil(p.expires, "bootstrap."+suffix)),
		concatenate(trusted, certs.path("ca.pem"), filepath.Join(dir, "narrow", "ca.pem"), filepath.Join(dir, "expired-ca.pem")),
	); err != nil {
		return nil, nil, err
	}
	cases := map[string]symptom{}
	for name, c := range symptoms {
		c.Bootstrap, c.Hosts, c.Topic = pairs.Replace(c.Bootstrap), hosts, symptomsTopic
		switch {
		case c.CA == "other":
			c.CA = s.cluster.ca.file
		case strings.HasSuffix(c.Protocol, "SSL"):
			c.CA = trusted
		}
		if c.Cert == "other" {
			c.Cert, c.Key, c.Store = stranger.cert, stranger.key, stranger.store
		}
		cases[name] = c
	}
	if p.balancer, err = newForgetful(fmt.Sprintf("127.0.0.1:%d", ports.forgets), fmt.Sprintf("127.0.0.1:%d", ports.behind), forgetAfter); err != nil {
		return nil, nil, err
	}
	p.Process, err = harness.Start(ctx, harness.Command{Name: "symptoms-proxy", Dir: dir, Args: []string{s.java.software.proxy, "--config", "proxy.yaml"},
		Output: filepath.Join(dir, "proxy.log")})
	if err != nil {
		p.balancer.stop()
		return nil, nil, err
	}
	err = p.Await(ctx, startLimit, "the proxy of the symptoms does not listen", func() error {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports.plain))
		if err == nil {
			conn.Close()
		}
		return err
	})
	if err != nil {
		p.stop()
	}
	return cases, p, err
}
