package config

import (
	"fmt"
	"strings"
	"testing"
)

// What a file is made of in the tests below.
const (
	certificates = "certificates: [{cert: server.pem, key: server_key.pem}]"
	aListener    = "listeners: [{bind: ':9092', " + certificates + "}]\n"
	aCluster     = "clusters: {a: {sni-suffix: a.example, upstream: ['up.example:9092']}}\n"
	twoClusters  = "clusters: {a: {sni-suffix: a.example, upstream: ['up.example:9092']}, b: {sni-suffix: b.example, upstream: ['up.example:9093']}}\n"
)

// listeners makes listeners, and clusters makes clusters, of what they differ in.
func listeners(each ...string) string {
	return "listeners:\n  - {" + strings.Join(each, "}\n  - {") + "}\n"
}

func clusters(each ...string) string {
	text := "clusters:\n"
	for i, c := range each {
		text += fmt.Sprintf("  %c: {upstream: ['up%d.example:9092'], %s}\n", 'a'+i, i, c)
	}
	return text
}

// ports makes a listener with ports.
func ports(bind, cluster, brokers string) string {
	return fmt.Sprintf("bind: '%s', plaintext: true, ports: {cluster: %s, brokers: %s, advertised-host: localhost}", bind, cluster, brokers)
}

func TestEachMistakeInAFileNamesItsSettingAndWhatToDo(t *testing.T) {
	byName := "bind: ':9092', " + certificates
	for _, test := range []struct{ file, want string }{
		// What has to be there.
		{aCluster, "p.yaml:1:1: listeners: required: where clients connect, such as [{bind: 0.0.0.0:9092, …}]"},
		{aListener, "clusters: required: the Kafka clusters, each under a name of your choice"},
		{listeners(certificates) + aCluster, "p.yaml:2:5: listeners[0].bind: required: the address and port to listen on, such as 0.0.0.0:9092"},
		{listeners("bind: ':9092'") + aCluster, "listeners[0].certificates: required: what clients are shown, such as [{cert: server.pem, key: server_key.pem}]; or listeners[0].plaintext"},
		{aListener + clusters(""), "clusters.a.sni-suffix: required: the domain under which clients see the brokers, such as kafka.example.com"},
		{aListener + "clusters: {a: {sni-suffix: a.example}}", "clusters.a.upstream: required: the cluster's bootstrap servers"},

		// Listeners.
		{listeners("bind: '9092', "+certificates) + aCluster, `listeners[0].bind: "9092" is not address:port: write 0.0.0.0:9092`},
		{listeners("bind: ':kafka', "+certificates) + aCluster, `listeners[0].bind: ":kafka" has no valid port: choose one from 1 to 65535`},
		{listeners("bind: ':99999', "+certificates) + aCluster, `":99999" has no valid port`},
		{listeners("name: a b, "+byName) + aCluster, `listeners[0].name: "a b" is not a name`},
		{listeners("name: x, "+byName, "name: x, bind: ':2', "+certificates) + aCluster, "p.yaml:3:6: listeners[1].name: x is the name of listeners[0], too: choose another one"},
		{listeners("advertised-port: 65536, "+byName) + aCluster, "listeners[0].advertised-port: 65536 is not a port"},
		{listeners("clusters: [b], "+byName) + aCluster, `listeners[0].clusters[0]: there is no cluster "b": there are a`},
		{listeners("clusters: [order], "+byName) + strings.Replace(aCluster, "a:", "orders:", 1), `listeners[0].clusters[0]: there is no cluster "order": did you mean orders?`},
		{listeners("clusters: [a, a], "+byName) + aCluster, "listeners[0].clusters[1]: a is in the list twice"},
		{listeners("allow-missing-sni: true, "+byName) + twoClusters, "listeners[0].allow-missing-sni: nobody can tell which of 2 clusters such a client wants: name one with listeners[0].clusters, or give them a listener of their own with listeners[0].ports"},
		{listeners("plaintext: true, bind: ':1'") + aCluster, "listeners[0].plaintext: needs listeners[0].ports: without TLS there is no server name that tells brokers apart"},
		{listeners(ports(":1", "a", "2-9")+", "+certificates) + aCluster, "listeners[0].plaintext, listeners[0].certificates: contradict each other"},
		{listeners(ports(":1", "a", "2-9")+", client-certificates: {require: true, ca-certs: ca.pem}") + aCluster, "listeners[0].plaintext, listeners[0].client-certificates: contradict each other: there are certificates with TLS alone"},
		{listeners(ports(":1", "a", "2-9")+", client-certificates: {crl: [r.pem]}") + aCluster, "listeners[0].plaintext, listeners[0].client-certificates: contradict each other"},
		{listeners("bind: ':1', certificates: [{cert: a.pem}]") + aCluster, "certificates[0].cert: needs listeners[0].certificates[0].key, the certificate's private key"},
		{listeners("bind: ':1', certificates: [{}]") + aCluster, "certificates[0]: wants cert and key, two PEM files"},
		{listeners("client-certificates: {require: true}, "+byName) + aCluster, "client-certificates.require: needs listeners[0].client-certificates.ca-certs"},
		{listeners("proxy-protocol: {}, "+byName) + aCluster, "listeners[0].proxy-protocol.from: required: the networks of the load balancers, such as [10.0.0.0/8]"},

		// Ports.
		{listeners("bind: ':1', plaintext: true, ports: {brokers: 2-9, advertised-host: h}") + aCluster, "listeners[0].ports.cluster: required: the cluster whose brokers have these ports: there are a"},
		{listeners(ports(":1", "b", "2-9")) + aCluster, `listeners[0].ports.cluster: there is no cluster "b": there are a`},
		{listeners("bind: ':1', plaintext: true, ports: {cluster: a, advertised-host: h}") + aCluster, "listeners[0].ports.brokers: required: the ports of the brokers, first and last, such as 9193-9292"},
		{listeners("bind: ':1', plaintext: true, ports: {cluster: a, brokers: 2-9}") + aCluster, "listeners[0].ports.advertised-host: required: the host name or address by which clients reach the ports"},
		{listeners("bind: ':1', plaintext: true, ports: {cluster: a, brokers: 2-9, advertised-host: 'h:1'}") + aCluster, `"h:1" is neither a host name nor an address: write it without a port`},
		{listeners(ports(":1", "a", "2-10002")) + aCluster, "listeners[0].ports.brokers: 2-10002 are 10001 ports: 10000 are possible"},
		{listeners(ports(":5", "a", "2-9")) + aCluster, "listeners[0].ports.brokers: 2-9 has 5 in it, where clients bootstrap (listeners[0].bind): choose another range"},
		{listeners("bind: ':1', plaintext: true, ports: {cluster: a, brokers: 2-9, advertised-host: h, first-node-id: -1}") + aCluster, "first-node-id: -1 is not a node id: they are 0 and above"},
		{listeners("bind: ':1', plaintext: true, ports: {cluster: a, brokers: 2-9, advertised-host: h, first-node-id: 2147483647}") + aCluster, "first-node-id: the last port would be that of broker 2147483654, and node ids end at 2147483647"},
		{listeners("advertised-port: 7, "+ports(":1", "a", "2-9")) + aCluster, "listeners[0].advertised-port: does not go with listeners[0].ports: leave it out"},
		{listeners("clusters: [a], "+ports(":1", "a", "2-9")) + aCluster, "listeners[0].clusters: does not go with listeners[0].ports: leave it out"},
		{listeners("allow-missing-sni: true, "+ports(":1", "a", "2-9")) + aCluster, "listeners[0].allow-missing-sni: does not go with listeners[0].ports: leave it out"},

		// Addresses that exclude each other.
		{listeners(byName, "bind: '127.0.0.1:9092', "+certificates) + aCluster, "listeners[1].bind: 127.0.0.1:9092 is listened on already, by listeners[0].bind: choose another port"},
		{listeners("bind: '127.0.0.1:9092', "+certificates, byName) + aCluster, "listeners[1].bind: :9092 is listened on already, by listeners[0].bind"},
		{listeners("bind: 'localhost:9', "+certificates, "bind: '127.0.0.1:9', "+certificates) + aCluster, "127.0.0.1:9 is listened on already"},
		{listeners("bind: '[::1]:9', "+certificates, "bind: '[0::1]:09', "+certificates) + aCluster, "is listened on already"},
		{listeners(byName, ports(":1", "a", "9092-9093")) + aCluster, "listeners[1].ports.brokers: :9092 is listened on already, by listeners[0].bind: choose another port"},
		{listeners(ports(":1", "a", "11-19"), ports(":2", "a", "19-29")) + aCluster, "listeners[1].ports.brokers: :19 is listened on already, by listeners[0].ports.brokers: choose another port"},
		{listeners(ports(":1", "a", "11-19"), ports(":12", "a", "20-29")) + aCluster, "listeners[0].ports.brokers: :12 is listened on already, by listeners[1].bind: choose another port"},
		{aListener + aCluster + "admin: {bind: '127.0.0.1:9092'}", "admin.bind: 127.0.0.1:9092 is listened on already, by listeners[0].bind: choose another port"},
		{aListener + aCluster + "admin: {bind: ':9092'}", "admin.bind: :9092 is the address of listeners[0].bind: choose another port"},
		{listeners(ports(":1", "a", "11-19")) + aCluster + "admin: {bind: ':15'}", "admin.bind: :15 is listened on already, by listeners[0].ports.brokers: choose another port"},

		// Names.
		{aListener + clusters("sni-suffix: a.example, names: {bootstrap: b.a.example, broker: 'b{id}.a.example'}"), "clusters.a.names, clusters.a.sni-suffix: contradict each other"},
		{aListener + clusters("names: {broker: 'b{id}.a.example'}"), "clusters.a.names: wants bootstrap, the name that clients bootstrap from"},
		{aListener + clusters("names: {bootstrap: a.example}"), "clusters.a.names: wants broker, the name of each broker with {id} for its node id"},
		{aListener + clusters("names: {bootstrap: a.example, broker: b.example}"), `clusters.a.names: the brokers' name "b.example" wants {id} once`},
		{aListener + clusters("names: {bootstrap: a.example, broker: 'b{id}{id}.example'}"), "wants {id} once"},
		{aListener + clusters("names: {bootstrap: a.example, broker: 'b{id}#.example'}"), "is not a host name"},
		{aListener + clusters("names: {bootstrap: a.example, broker: 'b1{id}.example'}"), "has a digit beside {id}: nobody could tell where the node id ends"},
		{aListener + clusters("names: {bootstrap: 'a#.example', broker: 'b{id}.example'}"), `the bootstrap name "a#.example" is not a host name`},
		{aListener + clusters("names: {bootstrap: b7.example, broker: 'b{id}.example'}"), "clusters.a.names: b7.example is also the name of a broker, by b{id}.example: choose another one"},

		// Clusters that clients could not tell apart.
		{aListener + clusters("sni-suffix: x.example", "sni-suffix: X.example."), "clusters.a, clusters.b: both have the name bootstrap.x.example, and clients of listeners[0] could not tell them apart: give one of them other names"},
		{aListener + clusters("sni-suffix: x.example", "names: {bootstrap: bootstrap.x.example, broker: 'k{id}.example'}"), "both have the name bootstrap.x.example"},
		{aListener + clusters("sni-suffix: x.example", "names: {bootstrap: y.example, broker: 'b{id}.x.example'}"), "both have the name b0.x.example"},
		{aListener + clusters("sni-suffix: x.example", "names: {bootstrap: b12.x.example, broker: 'k{id}.example'}"), "both have the name b12.x.example"},
		{aListener + clusters("names: {bootstrap: y.example, broker: 'b{id}-7.example'}", "names: {bootstrap: z.example, broker: 'b5-{id}.example'}"), "both have the name b5-7.example"},
		{aListener + clusters("names: {bootstrap: y.example, broker: 'b5-{id}.example'}", "names: {bootstrap: z.example, broker: 'b{id}-7.example'}"), "both have the name b5-7.example"},
		{aListener + clusters("sni-suffix: x.example", `names: {bootstrap: y.example, broker: 'k{id}.example'}, broker-mapping-rule: '^(b\d+)\..*$::${1}.x.example'`), "both have the name b0.x.example (by the broker-mapping-rule of b)"},

		// What is wrong with a rule, a gate, TLS.
		{aListener + clusters("sni-suffix: x.example, broker-mapping-rule: b0"), `clusters.a.broker-mapping-rule: broker mapping rule "b0" has no "::"`},
		{aListener + clusters("sni-suffix: x.example, advertised-port: -1"), "clusters.a.advertised-port: -1 is not a port"},
		{aListener + clusters("sni-suffix: x.example, limits: {max-connections: -1}"), "clusters.a.limits.max-connections: -1 is not a number of connections"},
		{aListener + clusters("sni-suffix: x.example, via: 'gate:1080'"), "clusters.a.via: this is not the address of a gate: write socks5://host:port or http://host:port"},
		{aListener + clusters("sni-suffix: x.example, via: 'https://gate:1080'"), `clusters.a.via: gates are socks5:// and http:// (HTTP CONNECT), not "https://"`},
		{aListener + clusters("sni-suffix: x.example, via: 'socks5://gate'"), "clusters.a.via: the gate's address wants a host and a port: socks5://host:port"},
		{aListener + clusters("sni-suffix: x.example, via: 'socks5://gate:99999'"), "wants a host and a port"},
		{aListener + clusters("sni-suffix: x.example, via: 'http://gate:3128/x'"), "there is something behind the gate's port: write http://host:port alone"},
		{aListener + clusters("sni-suffix: x.example, via: 'http://u:p/w@gate:3128'"), "this is not the address of a gate"},
		{aListener + clusters("sni-suffix: x.example, upstream-plaintext: true, upstream-tls: {ca-certs: ca.pem}"), "clusters.a.upstream-plaintext, clusters.a.upstream-tls: contradict each other"},
		{aListener + clusters("sni-suffix: x.example, upstream-tls: {ca-certs: ca.pem, trust-any: true}"), "upstream-tls.ca-certs, clusters.a.upstream-tls.trust-any: contradict each other"},
		{aListener + clusters("sni-suffix: x.example, upstream-tls: {key: k.pem}"), "clusters.a.upstream-tls.key: needs clusters.a.upstream-tls.cert, the key's certificate"},

		// Authentication.
		{aListener + clusters("sni-suffix: x.example, authentication: {brokers: {mechanism: NONE}}"), "clusters.a.authentication.clients: required: how clients prove who they are"},
		{aListener + clusters("sni-suffix: x.example, authentication: {clients: [{mechanism: ANONYMOUS}]}"), "clusters.a.authentication.brokers: required: how the proxy authenticates with the brokers"},
		{withClients("mechanism: scram-sha-256"), `clusters.a.authentication.clients[0].mechanism: "scram-sha-256" is not a mechanism: write SCRAM-SHA-256`},
		{withClients("mechanism: SCRAM-SHA256"), `"SCRAM-SHA256" is not a mechanism: did you mean SCRAM-SHA-256?`},
		{withClients("mechanism: GSSAPI"), `"GSSAPI" is not done: there are PLAIN`},
		{withClients("users: u"), "clients[0].mechanism: required: one of PLAIN"},
		{withClients("mechanism: PLAIN"), "clusters.a.authentication.clients[0].users: required: the file of users"},
		{withClients("mechanism: PLAIN, users: u, issuer: x"), "clients[0].issuer: is for OAUTHBEARER, and the mechanism is PLAIN: leave it out"},
		{withClients("mechanism: PLAIN, users: u}, {mechanism: PLAIN, users: w"), "clients[1].mechanism: PLAIN is that of clusters.a.authentication.clients[0], too"},
		{withClients("mechanism: OAUTHBEARER, jwks: 'https://x/k', audience: y"), "clients[0].issuer: required: who issues tokens"},
		{withClients("mechanism: OAUTHBEARER, jwks: 'https://x/k', issuer: x"), "clients[0].audience: required: whom tokens are for"},
		{withClients("mechanism: OAUTHBEARER, jwks: 'http://x/k', issuer: x, audience: y"), "clients[0].jwks: the URL of the keys must be https://"},
		{withClients("mechanism: OAUTHBEARER, jwks: 'ftp://x/k', issuer: x, audience: y"), "clients[0].jwks: the URL of the keys begins with ftp://"},
		{withClients("mechanism: OAUTHBEARER, jwks: 'https://u:p@x/k', issuer: x, audience: y"), "a user or a password does not belong into the URL of the keys"},
		{withClients("mechanism: OAUTHBEARER, jwks: k.json, issuer: x, audience: y, ca-certs: ca.pem"), "clients[0].ca-certs: is for a URL, and clusters.a.authentication.clients[0].jwks is a file"},
		{withClients("mechanism: OAUTHBEARER, jwks: k.json, issuer: x, audience: y, clock-skew: 11m"), "clients[0].clock-skew: 11m0s is not within 0s and 10m"},
		{withClients("mechanism: TLS"), "clients[0].mechanism: TLS wants client-certificates.ca-certs at a listener that serves the cluster"},
		{withBrokers("mechanism: OAUTH"), `brokers.mechanism: "OAUTH" is not a mechanism`},
		{withBrokers("mechanism: PLAIN"), "brokers.credentials: required: what the brokers are shown"},
		{withBrokers("mechanism: NONE, credentials: {folder: f}"), "brokers.credentials: the mechanism is NONE, which shows the brokers nothing"},
		{withBrokers("mechanism: PLAIN, credentials: {folder: f, file: g}"), "credentials.folder, clusters.a.authentication.brokers.credentials.file: contradict each other"},
		{withBrokers("mechanism: PLAIN, credentials: {template: 'x:y'}"), "credentials.template: there is no ${principal} in it"},
		{withBrokers("mechanism: PLAIN, credentials: {default: '***'}"), "credentials.default: *** stands where a secret is not shown"},
		{withBrokers("mechanism: PLAIN, credentials: {folder: f, exec-timeout: 3s}"), "credentials.exec-timeout: needs clusters.a.authentication.brokers.credentials.exec"},
		{withBrokers("mechanism: PLAIN, credentials: {exec: [f], exec-timeout: 1m}"), "credentials.exec-timeout: 1m0s is not within 0s and 10s"},
		{withBrokers("mechanism: PLAIN, credentials: {folder: f}, region: x"), "brokers.region: is for AWS_MSK_IAM, and the mechanism is PLAIN"},
		{withBrokers("mechanism: OAUTHBEARER, credentials: {folder: f}, scope: x"), "brokers.scope: needs clusters.a.authentication.brokers.token-endpoint"},
		{withBrokers("mechanism: OAUTHBEARER, credentials: {folder: f}, token-endpoint: 'http://x/'"), "brokers.token-endpoint: the URL where tokens are fetched must be https://"},
		{withBrokers("mechanism: OAUTHBEARER, credentials: {folder: f}, extensions: {auth: x}"), `brokers.extensions.auth: "auth" is not the name of an extension`},
		{withBrokers("mechanism: PLAIN, credentials: {folder: f}, max-credential-age: 1ms"), "brokers.max-credential-age: 1ms is too short"},
		{aListener + clusters("sni-suffix: x.example, upstream-plaintext: true, authentication: {clients: [{mechanism: ANONYMOUS}], brokers: {mechanism: TLS, credentials: {folder: f}}}"), "brokers.mechanism: TLS shows certificates, and the brokers are connected to without TLS"},
		{aListener + "clusters: {a: {sni-suffix: x.example, active: blue, targets: {blue: {upstream: ['u:1'], authentication: {brokers: {mechanism: NONE}}}}}}", "clusters.a.targets.blue.authentication: needs clusters.a.authentication: who the clients are"},
		{aListener + "clusters: {a: {sni-suffix: x.example, authentication: {clients: [{mechanism: ANONYMOUS}], brokers: {mechanism: NONE}}, active: blue, targets: {blue: {upstream: ['u:1'], authentication: {}}}}}", "targets.blue.authentication: wants brokers"},
		{aListener + "clusters: {a: {sni-suffix: x.example, authentication: {clients: [{mechanism: ANONYMOUS}]}, active: blue, targets: {blue: {upstream: ['u:1'], authentication: {brokers: {mechanism: GONE}}}}}}", `targets.blue.authentication.brokers.mechanism: "GONE" is not a mechanism`},

		// Targets.
		{aListener + clusters("sni-suffix: x.example, active: blue"), "clusters.a.active: names a target, but there are none: add clusters.a.targets, or leave it out"},
		{aListener + "clusters: {a: {sni-suffix: x.example, targets: {blue: {upstream: ['u:1']}}}}", "clusters.a.active: required: which of the targets clients are led to: blue"},
		{aListener + "clusters: {a: {sni-suffix: x.example, active: blu, targets: {blue: {upstream: ['u:1']}}}}", `clusters.a.active: there is no target "blu": did you mean blue?`},
		{aListener + "clusters: {a: {sni-suffix: x.example, active: blue, targets: {blue: {}}}}", "clusters.a.targets.blue.upstream: required: the cluster's bootstrap servers"},
		{aListener + clusters("sni-suffix: x.example, active: blue, targets: {blue: {upstream: ['u:1']}}"), "clusters.a.upstream: belongs to a target: the cluster has clusters.a.targets"},
		{aListener + "clusters: {a: {sni-suffix: x.example, hosts-file: h, active: blue, targets: {blue: {upstream: ['u:1']}}}}", "clusters.a.hosts-file: belongs to a target"},
		{aListener + "clusters: {a: {sni-suffix: x.example, active: blue, targets: {blue: {upstream: ['u:1'], routes-file: r}, green: {upstream: ['v:1'], routes-file: ./r}}}}", "clusters.a.targets.green.routes-file: ./r is that of clusters.a.targets.blue.routes-file, too: each needs a file of its own"},
		{aListener + clusters("sni-suffix: x.example, routes-file: r", "sni-suffix: y.example, routes-file: r"), "clusters.b.routes-file: r is that of clusters.a.routes-file, too"},
		{aListener + clusters("sni-suffix: x.example, routes-file: r") + "log: {access: ./r}", "clusters.a.routes-file: r is that of log.access, too"},

		// The proxy itself.
		{listeners(byName, "bind: '10.0.0.1:7', "+certificates) + "clusters: {a: {sni-suffix: x.example, upstream: ['10.0.0.1:7']}}", "clusters.a.upstream: 10.0.0.1:7 is this proxy itself: it is where it listens for clients. Name the cluster's own bootstrap servers"},
		{listeners(ports(":1", "a", "11-19")) + "clusters: {a: {upstream: ['localhost:15']}}", "clusters.a.upstream: localhost:15 is this proxy itself"},
		{aListener + "clusters: {a: {sni-suffix: x.example, active: blue, targets: {blue: {upstream: ['u:1']}, green: {upstream: ['b0.x.example:1']}}}}", "clusters.a.targets.green.upstream: b0.x.example:1 is this proxy itself: it is under the suffix x.example"},
		{aListener + "clusters: {a: {names: {bootstrap: a.example, broker: 'b{id}-a.example'}, upstream: ['b3-a.example:1']}}", "b3-a.example:1 is this proxy itself: it is one of the names that clients see"},

		// The rest.
		{aListener + aCluster + "limits: {max-frame: 1KiB, max-handshakes-per-address: -1}", "limits.max-handshakes-per-address: -1 is not a number of handshakes"},
		{aListener + aCluster + "limits: {max-frame: 3GiB}", "limits.max-frame: 3221225472 is not within 1024 and 2147483647"},
		{aListener + aCluster + "timeouts: {idle: 5ms}", "timeouts.idle: 5ms is too short"},
		{aListener + aCluster + "timeouts: {dial: 0s}", "timeouts.dial: 0s is too short"},
		{aListener + aCluster + "log: {level: loud}", `log.level: "loud" is not a level: choose debug, info, warn or error`},
		{aListener + aCluster + "trace: {endpoint: 'localhost:4318'}", `trace.endpoint: "localhost:4318" is not the URL of a collector: write it like http://localhost:4318`},
		{aListener + aCluster + "trace: {endpoint: 'http://u:p@h'}", "trace.endpoint: a user or a password does not belong into the URL"},
		{aListener + aCluster + "trace: {endpoint: 'http://h/?a=b'}", "trace.endpoint: there is something behind the path"},
		{aListener + aCluster + "log: {access: ' '}", `log.access: " " is not a file: name one, or - for standard output`},
		{aListener + aCluster + "log: {format: ''}", `log.format: "" is not a format: choose text or json`},
	} {
		wrong, _ := told(test.file)
		if len(wrong) != 1 || !strings.Contains(wrong[0], test.want) || !strings.HasPrefix(wrong[0], "p.yaml:") {
			t.Errorf("got\n%s\nwant %q alone, of\n%s", strings.Join(wrong, "\n"), test.want, test.file)
		}
	}
}

func TestWhatIsPossibleIsTaken(t *testing.T) {
	byName := "bind: ':9092', " + certificates
	for _, file := range []string{
		aListener + twoClusters,
		aListener + clusters("sni-suffix: kafka.example", "sni-suffix: orders.kafka.example"), // the longest wins
		aListener + clusters("sni-suffix: kafka.example", "names: {bootstrap: orders.kafka.example, broker: 'b{id}-orders.kafka.example'}"),
		aListener + clusters("names: {bootstrap: y.example, broker: 'b{id}-7.example'}", "names: {bootstrap: z.example, broker: 'b{id}-8.example'}"),
		aListener + clusters("names: {bootstrap: y.example, broker: 'b{id}-07.example'}", "names: {bootstrap: z.example, broker: 'b5-{id}.example'}"),
		aListener + clusters("sni-suffix: kafka.example", `names: {bootstrap: audit.kafka.example, broker: 'b{id}-audit.kafka.example'}, broker-mapping-rule: '^([^.]+)\..*$::${1}-audit.kafka.example'`),
		listeners("clusters: [a], "+byName, "bind: ':2', clusters: [b], "+certificates) + clusters("sni-suffix: x.example", "sni-suffix: x.example"), // on ports of their own
		listeners("bind: '10.0.0.1:1', "+certificates, "bind: '10.0.0.2:1', "+certificates) + aCluster,
		listeners("bind: ':0', "+certificates, "bind: '127.0.0.1:0', "+certificates) + aCluster,
		listeners(ports(":1", "a", "2-9"), ports(":11", "b", "12-19")) + clusters("", ""), // no names: nobody needs them
		listeners(byName, ports(":1", "a", "2-9")) + clusters("", "sni-suffix: b.example"),
		listeners("bind: ':1', "+certificates+", ports: {cluster: a, brokers: 2-9, advertised-host: '10.1.2.3'}") + aCluster,
		listeners("clusters: [a], allow-missing-sni: true, "+byName, ports(":1", "b", "2-9")) + twoClusters,
		aListener + clusters("sni-suffix: a.example, via: 'socks5://gate:1080'", "sni-suffix: b.example, via: 'http://user:p%40ss@[::1]:3128/'"),
		aListener + aCluster + "admin: {bind: 'localhost:9090'}",
	} {
		if wrong, warnings := told(file); len(wrong)+len(warnings) > 0 {
			t.Errorf("%s%s\nof\n%s", strings.Join(wrong, "\n"), strings.Join(warnings, "\n"), file)
		}
	}
}

func TestWhatIsDoubtfulInAFileIsWarnedAbout(t *testing.T) {
	byName := "bind: ':9092', " + certificates
	for _, test := range []struct{ file, want string }{
		{listeners("clusters: [a], "+byName) + twoClusters, "clusters.b: no listener serves it: its clients are refused"},
		{listeners("proxy-protocol: {from: [0.0.0.0/0]}, "+byName) + aCluster, "listeners[0].proxy-protocol.from: 0.0.0.0/0 is everybody: whoever connects can pretend any address"},
		{listeners("proxy-protocol: {from: ['::/0']}, "+byName) + aCluster, "::/0 is everybody"},
		{listeners("client-certificates: {ca-certs: ca.pem}, "+byName) + aCluster, "client-certificates.ca-certs: does nothing without listeners[0].client-certificates.require"},
		{aListener + clusters("sni-suffix: x.example, upstream-tls: {trust-any: true}"), "clusters.a.upstream-tls.trust-any: NOT VERIFYING BROKERS"},
		{aListener + clusters("sni-suffix: x.example, broker-mapping-rule: '^.*$::b.elsewhere.test'"), "clusters.a.broker-mapping-rule: "},
	} {
		wrong, warnings := told(test.file)
		if len(wrong) > 0 || len(warnings) != 1 || !strings.Contains(warnings[0], test.want) {
			t.Errorf("got %s\n%s\nwant the warning %q alone, of\n%s", strings.Join(wrong, "\n"), strings.Join(warnings, "\n"), test.want, test.file)
		}
	}
}

// many returns a configuration with so many clusters, each with all that takes time.
func many(n int) *Config {
	c := New()
	c.Listeners = []*Listener{{Bind: ":9092", Certificates: []KeyPair{{"a.pem", "b.pem"}}}}
	for i := range n {
		name := fmt.Sprintf("c%d", i)
		c.Clusters[name] = &Cluster{
			Names:             &Names{Bootstrap: name + ".kafka.example", Broker: "b{id}-" + name + ".kafka.example"},
			BrokerMappingRule: `^([^.]+)\..*$::${1}-` + name + `.kafka.example`,
			Target:            Target{Upstream: []string{fmt.Sprintf("10.1.2.%d:9092", i%250), "up.example:9092"}, RoutesFile: name},
		}
		c.Listeners = append(c.Listeners, &Listener{Bind: fmt.Sprintf("127.0.0.1:%d", 20_000+20*i), Plaintext: true,
			Ports: &Ports{Cluster: name, Brokers: PortRange{20_001 + 20*i, 20_019 + 20*i}, AdvertisedHost: "localhost"}})
	}
	return c
}

func TestManyClustersAreChecked(t *testing.T) {
	wrong, warnings := many(200).Validate()
	if len(wrong)+len(warnings) > 0 {
		t.Error(wrong, warnings)
	}
}

func TestWorkGrowsWithTheNumberOfClustersAlone(t *testing.T) {
	work := func(clusters int) float64 {
		c := many(clusters)
		return testing.AllocsPerRun(1, func() { c.Validate() })
	}
	if few, twice := work(100), work(200); twice > 2.5*few {
		t.Errorf("%.0f allocations for 100 clusters, %.0f for 200", few, twice)
	}
}

func BenchmarkValidate200Clusters(b *testing.B) {
	c := many(200)
	for b.Loop() {
		c.Validate()
	}
}

// withClients is a file with a mechanism for clients.
func withClients(mechanism string) string {
	return aListener + clusters("sni-suffix: x.example, authentication: {clients: [{"+mechanism+"}], brokers: {mechanism: NONE}}")
}

// withBrokers is a file with a mechanism for brokers.
func withBrokers(mechanism string) string {
	return aListener + clusters("sni-suffix: x.example, authentication: {clients: [{mechanism: ANONYMOUS}], brokers: {"+mechanism+"}}")
}
