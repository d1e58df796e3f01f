package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"kafka-sni-proxy/internal/harness"
)

// javaSymptoms runs one program for all cases of one clock: its log tells them by their client ids.
func (s *scenarioRun) javaSymptoms(ctx context.Context, cases map[string]symptom, clock time.Duration, got *said) error {
	var files []string
	for name, c := range cases {
		if c.ServerName != "" {
			continue
		}
		settings := []string{"client.id=" + name, "bootstrap.servers=" + c.Bootstrap, "security.protocol=" + c.Protocol,
			"request.timeout.ms=3000", "default.api.timeout.ms=12000", "interop.work=" + c.Work, "interop.topic=" + c.Topic}
		if c.CA != "" {
			settings = append(settings, "ssl.truststore.type=PEM", "ssl.truststore.location="+c.CA)
		}
		if c.Store != "" {
			settings = append(settings, "ssl.keystore.type=PEM", "ssl.keystore.location="+c.Store)
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
	program := fmt.Sprintf("java-symptoms-%.0f", clock.Hours())
	v := jvm{HeapMB: 256, Short: true, Hosts: s.symptomHosts(), Log: filepath.Join(s.dir, program+".log")}
	output, err := harness.Run(ctx, harness.Command{Name: program, Args: s.withClock(clock, nil, s.java.clientArgs(v, "Symptoms", files...)), Dir: s.dir})
	if err != nil {
		return err
	}
	log, err := os.ReadFile(v.Log)
	if err != nil {
		return err
	}
	for name := range cases {
		for line := range strings.Lines(output + string(log)) {
			if strings.HasPrefix(line, name+"\t") || strings.Contains(line, "clientId="+name+"]") || strings.Contains(line, "clientId="+name+",") {
				got.add(name, "Java", line)
			}
		}
	}
	return nil
}

func (s *scenarioRun) symptomHosts() string { return filepath.Join(s.dir, "symptom-hosts") }

// withClock is a command for env(1) that runs a program with libraries loaded before its own,
// and with a clock that is ahead.
func (s *scenarioRun) withClock(ahead time.Duration, preload, command []string) []string {
	env := []string{"env"}
	if ahead != 0 {
		preload = append(preload, s.clockLibrary())
		env = append(env, fmt.Sprintf("INTEROP_CLOCK=%.0f", ahead.Seconds()))
	}
	return append(append(env, "LD_PRELOAD="+strings.Join(preload, ":")), command...)
}

func (s *scenarioRun) clockLibrary() string { return filepath.Join(s.dir, "clock.so") }

// pythonSymptom runs librdkafka and kafka-python.
func (s *scenarioRun) pythonSymptom(ctx context.Context, name string, c symptom, got *said) error {
	if c.ServerName != "" {
		return nil
	}
	file, err := s.writeSymptom(name, c)
	if err != nil {
		return err
	}
	script := filepath.Join(s.java.software.root, "interop", "python", "symptoms.py")
	line := s.withClock(c.Clock, []string{s.python.names}, []string{"INTEROP_HOSTS=" + c.Hosts, "PYTHONPATH=" + s.python.packages, s.python.interpreter, script, file})
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
	output, err := harness.Run(ctx, harness.Command{Name: "node-" + name, Args: s.withClock(c.Clock, nil, []string{"NODE_PATH=" + modules, "node", script, file}), Dir: s.dir})
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
		config := &tls.Config{ServerName: cmp.Or(c.ServerName, host), RootCAs: pool, Time: func() time.Time { return time.Now().Add(c.Clock) }}
		if c.Cert != "" {
			pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
			if err != nil {
				return nil, err
			}
			config.Certificates = []tls.Certificate{pair}
		}
		return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", at)
	}
	var log locked
	options := []kgo.Opt{kgo.SeedBrokers(c.Bootstrap), kgo.Dialer(dial), kgo.RequestRetries(0), kgo.RetryTimeout(4 * time.Second),
		kgo.RequestTimeoutOverhead(3 * time.Second), kgo.WithLogger(kgo.BasicLogger(&log, kgo.LogLevelInfo, nil))}
	if c.Mechanism != "" {
		options = append(options, kgo.SASL(plain.Auth{User: c.User, Pass: c.Password}.AsMechanism()))
	}
	switch c.Work {
	case produce:
		options = append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RecordDeliveryTimeout(8*time.Second))
	case consume:
		options = append(options, kgo.ConsumerGroup("franz-go-symptoms"), kgo.ConsumeTopics(c.Topic), kgo.SessionTimeout(6*time.Second))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	if err = goSymptomWork(ctx, client, c); err == nil {
		err = errors.New("it worked")
	}
	client.CloseAllowingRebalance()
	got.add(name, "franz-go", log.String()+err.Error())
	return nil
}

func goSymptomWork(ctx context.Context, client *kgo.Client, c symptom) error {
	ctx, cancel := context.WithTimeout(ctx, 18*time.Second)
	defer cancel()
	switch c.Work {
	case askTwice:
		if err := client.Ping(ctx); err != nil {
			return err
		}
		ask := func() error {
			_, err := client.Broker(1).Request(ctx, kmsg.NewPtrMetadataRequest())
			return err
		}
		if err := ask(); err != nil {
			return err
		}
		time.Sleep(forgetAfter + time.Second)
		return ask()
	case produce:
		var records []*kgo.Record
		for partition := range int32(6) {
			records = append(records, &kgo.Record{Topic: c.Topic, Partition: partition, Value: []byte("x")})
		}
		var problems []error
		for _, r := range client.ProduceSync(ctx, records...) {
			problems = append(problems, r.Err)
		}
		return errors.Join(problems...)
	case consume:
		var problems []error
		for ctx.Err() == nil {
			client.PollFetches(ctx).EachError(func(_ string, _ int32, err error) { problems = append(problems, err) })
		}
		return errors.Join(problems...)
	}
	return client.Ping(ctx)
}

// locked is a buffer that several goroutines write to.
type locked struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.String()
}
