package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// keep says how to connect a client of one's own, and waits to be interrupted.
func keep(ctx context.Context, env *environment, p *printer) error {
	names := "bootstrap." + env.suffix
	if env.config {
		names += " " + env.auditBootstrap()
	}
	routes, err := learnedRoutes(env.proxy)
	if err != nil {
		return err
	}
	for _, r := range routes {
		names += " " + r.Name
	}
	ca, properties, hosts := filepath.Join(env.dir, "ca.pem"), filepath.Join(env.dir, "client.properties"), filepath.Join(env.dir, "client-hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 "+names+"\n"), 0o644); err != nil {
		return err
	}
	p.line("These names must lead to this machine. For all clients, a line in /etc/hosts; take it out afterwards:")
	p.line("")
	p.line("  127.0.0.1 %s", names)
	p.line("")
	p.line("Java clients can do without: they take the same line from a file. Their TLS settings are in another,")
	p.line("which --generate-certs wrote.")
	p.line("")
	p.line("  $ export KAFKA_OPTS=-Djdk.net.hosts.file=%s", hosts)
	p.line("  $ kafka-topics.sh --bootstrap-server %s \\", env.bootstrap())
	p.line("      --command-config %s --list", properties)
	p.line("  $ kafka-console-consumer.sh --bootstrap-server %s \\", env.bootstrap())
	p.line("      --consumer.config %s --topic %s --from-beginning --max-messages 5", properties, topic)
	p.line("  $ kafka-console-producer.sh --bootstrap-server %s \\", env.bootstrap())
	p.line("      --producer.config %s --topic mine", properties)
	p.line("")
	p.line("In short, those settings are:")
	p.line("")
	for _, line := range []string{
		"bootstrap.servers=" + env.bootstrap(),
		"security.protocol=SSL",
		"ssl.truststore.type=PEM",
		"ssl.truststore.location=" + ca,
	} {
		p.line("  %s", line)
	}
	p.line("")
	p.line("kcat:")
	p.line("")
	p.line("  $ kcat -b %s -X security.protocol=SSL -X ssl.ca.location=%s -L", env.bootstrap(), ca)
	p.line("  $ echo hello | kcat -b %s -X security.protocol=SSL -X ssl.ca.location=%s -P -t mine", env.bootstrap(), ca)
	p.line("")
	p.line("Python (confluent-kafka):")
	p.line("")
	for _, line := range []string{
		"from confluent_kafka import Producer",
		fmt.Sprintf("p = Producer({'bootstrap.servers': '%s', 'security.protocol': 'SSL', 'ssl.ca.location': '%s'})", env.bootstrap(), ca),
		"p.produce('mine', b'hello', on_delivery=lambda err, record: print(err or record.offset())); p.flush()",
	} {
		p.line("  %s", line)
	}
	p.line("")
	p.line("The way of a client, step by step, without names that resolve:")
	p.line("")
	p.line("  $ %s check --as-client %s --client-ca-certs %s --connect-to %s", env.binary, env.bootstrap(), ca, env.proxyAddr())
	p.line("")
	p.line("What it is at: http://%s/ in a browser, or on this terminal:", env.admin)
	p.line("")
	p.line("  $ %s status --admin %s", env.binary, env.admin)
	p.line("  $ %s top --admin %s", env.binary, env.admin)
	p.line("")
	if env.config {
		p.line("The second cluster is at %s:%d.", env.auditBootstrap(), env.port)
		p.line("")
	}
	p.line("A topic need not be created first: it is there as soon as a client produces to it.")
	p.line("")
	p.line("The cluster lives in memory: it goes when this ends, and the folder with it. Ctrl-C ends it.")
	select {
	case <-ctx.Done():
		return nil
	case <-env.proxy.Done():
		if ctx.Err() != nil { // which ends the proxy, too
			return nil
		}
		return env.proxy.Alive()
	}
}
