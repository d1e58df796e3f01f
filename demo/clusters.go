package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafka-sni-proxy/internal/kafkatest"
)

const (
	// auditDomain is where the broker of the second cluster lives.
	auditDomain = "audit.test"
	// auditRecords is how many records go through it.
	auditRecords = 1000

	configFile = "proxy.yaml"
)

// auditBootstrap is the name of the second cluster. It is beside the names of the first
// one, so that one wildcard certificate covers both.
func (env *environment) auditBootstrap() string { return "audit." + env.suffix }

// startAudit starts the second cluster, of one broker.
func (env *environment) startAudit(p *printer) (err error) {
	port := 0
	if env.brokerPort != 0 {
		port = env.brokerPort + brokers
	}
	env.audit, err = kafkatest.NewCluster(kafkatest.Options{Brokers: 1, Domain: auditDomain, Ports: []int{port}, CreateTopics: true})
	if err != nil {
		return err
	}
	p.row("0", env.audit.Addr(0)+"   (a second cluster)")
	return os.WriteFile(filepath.Join(env.dir, "audit-ca.pem"), env.audit.Authority.PEM(), 0o600)
}

// writeConfig writes the proxy's configuration file, and shows it.
func (env *environment) writeConfig(p *printer) error {
	text := fmt.Sprintf(`listeners:
  - bind: %s
    certificates: [{cert: server.pem, key: server_key.pem}]
clusters:
  orders:
    sni-suffix: %s
    upstream: [%s]
    upstream-tls: {ca-certs: upstream-ca.pem}
    hosts-file: hosts
  audit:   # names that the same certificate covers
    names: {bootstrap: %s, broker: 'audit-{id}.%s'}
    upstream: [%s]
    upstream-tls: {ca-certs: audit-ca.pem}
    hosts-file: hosts
log: {format: json}
`, env.proxyAddr(), env.suffix, env.cluster.Bootstrap(), env.auditBootstrap(), env.suffix, env.audit.Bootstrap())
	if env.admin != "" {
		text += "admin: {bind: \"" + env.admin + "\"}\n"
	}
	p.line("%s:", configFile)
	p.line("")
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		p.line("  %s", line)
	}
	p.line("")
	return os.WriteFile(filepath.Join(env.dir, configFile), []byte(text), 0o600)
}

// useAudit sends records to the second cluster, and reads them back.
func (env *environment) useAudit(ctx context.Context, l *load, p *printer) error {
	client, err := l.client(kgo.SeedBrokers(env.auditBootstrap()+":"+strconv.Itoa(env.port)), kgo.DefaultProduceTopic("audit"),
		kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics("audit"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer client.Close()
	for i := range auditRecords {
		client.Produce(ctx, kgo.StringRecord(strconv.Itoa(i)), nil)
	}
	if err := client.Flush(ctx); err != nil {
		return fmt.Errorf("producing to the second cluster: %w", err)
	}
	read := map[string]bool{}
	for len(read) < auditRecords {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return fmt.Errorf("consuming from the second cluster: %w", err)
		}
		fetches.EachRecord(func(r *kgo.Record) { read[string(r.Value)] = true })
	}
	p.line("%s records to %s and back, behind the same port.", count(auditRecords), env.auditBootstrap())
	if got := env.cluster.Kafka.TopicInfo("audit"); got != nil {
		return errors.New("the first cluster has the second one's topic")
	}
	return nil
}
