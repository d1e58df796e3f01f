package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"kafka-sni-proxy/internal/harness"
)

// scenarios are run in this order. None needs another one to have been
// run before it.
var scenarios = []scenario{
	{name: "host-fields", limit: time.Minute, run: hostFields},
	{name: "certificates", limit: time.Minute, run: certificates, needsProxy: true},
	{name: "leak-scanner", limit: time.Minute, run: leakScannerWorks, needsProxy: true},
	{name: "api-versions", limit: time.Minute, run: apiVersions},
	{name: "old-client", limit: time.Minute, run: oldClient},
	{name: "topics", limit: time.Minute, run: topics},
	{name: "group-classic", limit: 2 * time.Minute, run: group("classic")},
	{name: "group-consumer", limit: 2 * time.Minute, run: group("consumer")},
	{name: "transactions", limit: time.Minute, run: transactions},
	{name: "share-group", limit: time.Minute, run: shareGroup},
	{name: "admin", limit: time.Minute, run: admin, configsAllowed: true},
	{name: "sasl-plain", limit: time.Minute, run: sasl("PLAIN")},
	{name: "sasl-scram-256", limit: time.Minute, run: sasl("SCRAM-SHA-256")},
	{name: "sasl-scram-512", limit: time.Minute, run: sasl("SCRAM-SHA-512")},
	{name: "sasl-oauthbearer", limit: time.Minute, run: saslOAuth},
	{name: "sasl-wrong-password", limit: time.Minute, run: saslWrongPassword},
	{name: "client-mtls", limit: time.Minute, run: clientMTLS, needsProxy: true},
	{name: "perf-tools", limit: 12 * time.Minute, run: perfTools},
	{name: "broker-restart", limit: 3 * time.Minute, run: brokerRestart},
	{name: "proxy-restart", limit: 3 * time.Minute, run: proxyRestart(false), needsProxy: true},
	{name: "proxy-restart-sasl", limit: 3 * time.Minute, run: proxyRestart(true), needsProxy: true},
	{name: "events-one", limit: time.Hour, run: events(1, false), needsProxy: true},
	{name: "events-two", limit: time.Hour, run: events(2, false), needsProxy: true},
	{name: "events-one-sasl", limit: time.Hour, run: events(1, true), needsProxy: true},
	{name: "events-two-sasl", limit: time.Hour, run: events(2, true), needsProxy: true},
	{name: "leader-moves", limit: 4 * time.Minute, run: leaderMoves},
	{name: "new-leader", limit: 4 * time.Minute, run: newLeader},
	{name: "long-answers", limit: 2 * time.Minute, run: longAnswers(false)},
	{name: "long-answers-no-fit", limit: 2 * time.Minute, run: longAnswers(true)},
	{name: "clients-leader-moves", limit: 90 * time.Second, run: leaderMovesClients},
	{name: "clients-long-answers", limit: 90 * time.Second, run: longAnswersClients(false)},
	{name: "clients-long-no-fit", limit: 90 * time.Second, run: longAnswersClients(true)},
	{name: "clients-long-produce", limit: 90 * time.Second, run: clientsLongProduce},
	{name: "many-clusters", limit: 6 * time.Minute, run: manyClusters, needsProxy: true},
	{name: "one-server-name", limit: 2 * time.Minute, run: oneServerName, needsProxy: true},
	{name: "quickstart", limit: 5 * time.Minute, run: quickstart, needsProxy: true},
	{name: "symptoms", limit: 6 * time.Minute, run: clientSymptoms, needsProxy: true},
	{name: "authentication", limit: 5 * time.Minute, run: authentication, needsProxy: true},
	{name: "faults", limit: 5 * time.Minute, run: seeFaults, needsProxy: true},
	{name: "observe", limit: 6 * time.Minute, run: observe, needsProxy: true},
	{name: "client-settings", limit: 3 * time.Minute, run: clientSettings, needsProxy: true},
}

// apiVersions checks that the newest client and broker go on using the newest
// versions that both know, as if nothing stood between them.
func apiVersions(ctx context.Context, s *scenarioRun) (string, error) {
	output, err := s.tool(ctx, s.tapped, "org.apache.kafka.tools.BrokerApiVersionsCommand")
	if err != nil {
		return "", err
	}
	want := []string{"Produce(0): 0 to 13 [usable: 13]", "Fetch(1): 4 to 18 [usable: 18]", "Metadata(3): 0 to 13 [usable: 13]"}
	var problems []error
	for _, line := range want {
		if found := strings.Count(output, line); found != brokerCount {
			problems = append(problems, fmt.Errorf("%d of %d brokers offer %q", found, brokerCount, line))
		}
	}

	if !s.direct {
		problems = append(problems, s.compareOffers(ctx))
	}

	const topic = "api-versions"
	if err := s.cluster.createTopic(ctx, topic, 3, 3); err != nil {
		return "", err
	}
	producer, err := s.startJava(ctx, s.tapped, "produce", topic, "p", "10000", "1000")
	if err != nil {
		return "", err
	}
	if _, err := producer.finish(); err != nil {
		return "", err
	}
	consumer, err := s.startJava(ctx, s.tapped, "consume", topic, "api-versions")
	if err != nil {
		return "", err
	}
	if err := consumer.order("until 1000"); err != nil {
		return "", err
	}
	if _, err := consumer.finish(); err != nil {
		return "", err
	}
	used, err := usedVersions(producer.log(), consumer.log())
	if err != nil {
		return "", err
	}
	for api, version := range map[string]string{"PRODUCE": "13", "FETCH": "18", "METADATA": "13", "FIND_COORDINATOR": "6"} {
		if used[api] != version {
			problems = append(problems, fmt.Errorf("the Java client used %s version %q, want %s", api, used[api], version))
		}
	}
	figures := fmt.Sprintf("Java %s used Produce %s, Fetch %s, Metadata %s, FindCoordinator %s", clientVersion, used["PRODUCE"], used["FETCH"], used["METADATA"], used["FIND_COORDINATOR"])
	return figures, errors.Join(problems...)
}

// oldClient produces and consumes with the oldest Java client that the brokers
// still serve.
func oldClient(ctx context.Context, s *scenarioRun) (string, error) {
	const topic = "old-client"
	if err := s.cluster.createTopic(ctx, topic, 6, 3); err != nil {
		return "", err
	}
	// It cannot read a trust store in PEM.
	store := filepath.Join(s.dir, "ca.p12")
	_, err := harness.Run(ctx, harness.Command{Dir: s.dir, Args: []string{"keytool", "-importcert", "-noprompt", "-alias", "ca",
		"-file", s.tapped.ca, "-keystore", store, "-storetype", "PKCS12", "-storepass", "changeit"}})
	if err != nil {
		return "", err
	}
	e := s.tapped.with("ssl.truststore.type=PKCS12", "ssl.truststore.location="+store, "ssl.truststore.password=changeit")
	e.oldClient = true
	producer, err := s.startJava(ctx, e, "produce", topic, "p", "10000", "5000")
	if err != nil {
		return "", err
	}
	if _, err := producer.finish(); err != nil {
		return "", err
	}
	if err := s.consume(ctx, e, topic, 5000); err != nil {
		return "", err
	}
	log, err := s.cluster.audit(ctx, topic)
	if err == nil {
		err = log.exactly(map[string]int64{"p": 5000})
	}
	return fmt.Sprintf("Java %s produced and consumed 5000", oldClientVersion), err
}

// topics does what an administrator does on the first day.
func topics(ctx context.Context, s *scenarioRun) (string, error) {
	const class = "org.apache.kafka.tools.TopicCommand"
	if _, err := s.tool(ctx, s.tls, class, "--create", "--topic", "orders", "--partitions", "6", "--replication-factor", "3"); err != nil {
		return "", err
	}
	if _, err := s.tool(ctx, s.tls, class, "--alter", "--topic", "orders", "--partitions", "9"); err != nil {
		return "", err
	}
	described, err := s.tool(ctx, s.tls, class, "--describe", "--topic", "orders")
	if err != nil {
		return "", err
	}
	if partitions := strings.Count(described, "Leader: "); partitions != 9 {
		return "", fmt.Errorf("kafka-topics describes %d partitions, want 9", partitions)
	}
	if _, err := s.tool(ctx, s.tls, class, "--delete", "--topic", "orders"); err != nil {
		return "", err
	}
	left, err := s.tool(ctx, s.tls, class, "--list")
	if err == nil && slices.Contains(strings.Fields(left), "orders") {
		err = errors.New("the deleted topic is still listed")
	}
	return "created, altered to 9 partitions, described, deleted", err
}

// group runs a consumer group of one or the other protocol: one member reads,
// a second one comes and goes, and nothing is missed.
func group(protocol string) func(context.Context, *scenarioRun) (string, error) {
	return func(ctx context.Context, s *scenarioRun) (string, error) {
		topic := "group-" + protocol
		if err := s.cluster.createTopic(ctx, topic, 6, 3); err != nil {
			return "", err
		}
		e := s.tls.with("group.protocol=" + protocol)
		first, err := s.startJava(ctx, e, "consume", topic, topic)
		if err != nil {
			return "", err
		}
		if _, err := first.expect("assigned 6"); err != nil {
			return "", err
		}
		if err := s.produce(ctx, s.tls, topic, "before", 3000); err != nil {
			return "", err
		}
		second, err := s.startJava(ctx, e, "consume", topic, topic)
		if err != nil {
			return "", err
		}
		if _, err := second.expect("assigned 3"); err != nil {
			return "", err
		}
		if err := second.order("leave"); err != nil {
			return "", err
		}
		if _, err := second.finish(); err != nil {
			return "", err
		}
		if err := s.produce(ctx, s.tls, topic, "after", 3000); err != nil {
			return "", err
		}
		if err := first.order("until 6000"); err != nil {
			return "", err
		}
		result, err := first.finish()
		if err == nil && figure(result, "distinct") != 6000 {
			err = fmt.Errorf("the group was given %s, want 6000 distinct records", result)
		}
		return "two rebalances; " + result, err
	}
}

// produce sends numbered records and wants all of them acknowledged.
func (s *scenarioRun) produce(ctx context.Context, e *endpoint, topic, tag string, count int) error {
	result, err := s.runJava(ctx, e, "produce", topic, tag, "20000", fmt.Sprint(count))
	if err == nil && figure(result, "acked") != int64(count) {
		err = fmt.Errorf("the producer was to send %d records: %s", count, result)
	}
	return err
}

// consume reads a topic in a group of its own and wants a number of distinct records.
func (s *scenarioRun) consume(ctx context.Context, e *endpoint, topic string, count int) error {
	p, err := s.startJava(ctx, e, "consume", topic, topic)
	if err != nil {
		return err
	}
	if err := p.order("until %d", count); err != nil {
		return err
	}
	result, err := p.finish()
	if err == nil && (figure(result, "records") != int64(count) || figure(result, "duplicates") != 0) {
		err = fmt.Errorf("the consumer was given %s, want %d records", result, count)
	}
	return err
}

func transactions(ctx context.Context, s *scenarioRun) (string, error) {
	const topic = "transactions"
	if err := s.cluster.createTopic(ctx, topic, 6, 3); err != nil {
		return "", err
	}
	result, err := s.runJava(ctx, s.tapped, "transact", topic, topic)
	if want := "committed=2000 duplicates=0 uncommitted=3000 offset=42"; err == nil && result != want {
		err = fmt.Errorf("got %s, want %s", result, want)
	}
	return "one of three transactions aborted; " + result, err
}

func shareGroup(ctx context.Context, s *scenarioRun) (string, error) {
	const topic = "share-group"
	if err := s.cluster.createTopic(ctx, topic, 6, 3); err != nil {
		return "", err
	}
	if err := s.produce(ctx, s.tapped, topic, "p", 5000); err != nil {
		return "", err
	}
	p, err := s.startJava(ctx, s.tapped, "share", topic, topic)
	if err != nil {
		return "", err
	}
	if err := p.order("until 5000"); err != nil {
		return "", err
	}
	result, err := p.finish()
	if err == nil && figure(result, "distinct") != 5000 {
		err = fmt.Errorf("the share group was given %s, want 5000 distinct records", result)
	}
	return "each record acknowledged; " + result, err
}

// admin asks what some broker, a certain broker, the controller and a
// coordinator have to answer, and checks each name in the answers.
func admin(ctx context.Context, s *scenarioRun) (string, error) {
	const topic = "admin"
	if err := s.cluster.createTopic(ctx, topic, 6, 3); err != nil {
		return "", err
	}
	if err := s.produce(ctx, s.tapped, topic, "p", 1000); err != nil {
		return "", err
	}
	if err := s.consume(ctx, s.tapped, topic, 1000); err != nil {
		return "", err
	}
	p, err := s.startJava(ctx, s.tapped, "admin", topic, topic)
	if err != nil {
		return "", err
	}
	said := map[string][]string{}
	for line := range p.lines {
		word, rest, _ := strings.Cut(line, " ")
		said[word] = append(said[word], rest)
	}
	if err := p.Wait(); err != nil {
		return "", err
	}
	var problems []error
	for _, word := range []string{"node", "controller", "leaders", "coordinator"} {
		names := hostPattern.FindAllString(strings.Join(said[word], " "), -1)
		if len(names) == 0 {
			problems = append(problems, fmt.Errorf("no %s was named: %q", word, said[word]))
		}
		for _, name := range names {
			if !s.direct && !strings.HasSuffix(name, "."+suffix) {
				problems = append(problems, fmt.Errorf("%s: %s is not a name of the proxy's", word, name))
			}
		}
	}
	for word, want := range map[string]int{"node": brokerCount, "config": brokerCount} {
		if len(said[word]) != want {
			problems = append(problems, fmt.Errorf("%d times %q instead of %d: %q", len(said[word]), word, want, said[word]))
		}
	}
	for word, want := range map[string]string{"offsets": "1000", "committed": "1000", "logdirs": "3", "quorum": "3"} {
		if !slices.Equal(said[word], []string{want}) {
			problems = append(problems, fmt.Errorf("%s %q, want %s", word, said[word], want))
		}
	}
	if !slices.Contains(strings.Split(strings.Join(said["groups"], ","), ","), topic) {
		problems = append(problems, fmt.Errorf("the group is not listed: %q", said["groups"]))
	}
	return "nodes " + strings.Join(said["node"], ", "), errors.Join(problems...)
}

var hostPattern = regexp.MustCompile(`[a-z0-9-]+(\.[a-z0-9-]+)+`)

// leakScannerWorks is the control: the same tap, put in front of a broker, has
// to find its name; otherwise that it finds nothing elsewhere means nothing.
func leakScannerWorks(ctx context.Context, s *scenarioRun) (string, error) {
	found, err := s.tapBroker(ctx)
	if err == nil && len(found) < brokerCount {
		err = fmt.Errorf("a tap on the answers of a broker found %d names of %d: %q", len(found), brokerCount, found)
	}
	return fmt.Sprintf("found %d names in the answers of a broker without the proxy", len(found)), err
}
