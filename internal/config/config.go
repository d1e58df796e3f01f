// Package config is every setting of the program, as plain values: what it is called,
// its default, and what it may be. [Read] makes a configuration of a file; the flags of
// the program make one with one listener and one cluster. [Config.Validate] finds all
// that is wrong at once. The package opens no file and no socket.
//
// A Config is a value: a reload makes a new one.
//
// The doc comments of the types here are the reference for users: docs/configuration.md
// and the JSON Schema beside it are made from them.
package config

import "time"

// Config is the whole configuration.
type Config struct {
	// Where clients connect. At least one.
	Listeners []*Listener `yaml:"listeners"`
	// The Kafka clusters that clients are led to, each under a name of your choice. The
	// name is in the log, in metrics and in /readyz.
	Clusters map[string]*Cluster `yaml:"clusters"`
	// The port for the status page, metrics and health checks.
	Admin Admin `yaml:"admin"`
	// What clients may use.
	Limits Limits `yaml:"limits"`
	// How long things may take.
	Timeouts Timeouts `yaml:"timeouts"`
	// What is written to standard error, and the access log.
	Log Log `yaml:"log"`
	// Traces of connections and requests, by OpenTelemetry.
	Trace Trace `yaml:"trace"`
}

// Listener is where clients connect: one port for all brokers, which tells them apart by
// the server name in the TLS handshake (SNI); or, with ports, a port for each broker.
type Listener struct {
	// What the listener is called in the log. Default: its bind address.
	Name string `yaml:"name"`
	// The address and port to listen on, such as 0.0.0.0:9092. With ports, where clients
	// bootstrap from.
	Bind string `yaml:"bind"`
	// The port that clients are told to connect to. Default: the one that is listened on.
	// It comes before the cluster's. Not with ports, which has its own.
	AdvertisedPort int `yaml:"advertised-port"`
	// Lets in clients that send no server name, as if they asked for the bootstrap name.
	// They reach the first upstream alone, so with several brokers they cannot work: see
	// ports. Only with one cluster.
	AllowMissingSNI bool `yaml:"allow-missing-sni"`
	// The clusters that are served. Default: all. Not with ports, which names its own.
	Clusters []string `yaml:"clusters"`
	// What clients are shown: the first certificate that covers the name that they ask
	// for. Required but with plaintext.
	Certificates []KeyPair `yaml:"certificates"`
	// Certificates of clients (mTLS).
	ClientCertificates ClientCertificates `yaml:"client-certificates"`
	// A port for each broker of one cluster, for clients that send no server name, or one
	// name for all brokers.
	Ports *Ports `yaml:"ports,omitempty"`
	// Clients connect without TLS. Only with ports: without TLS there is no server name.
	Plaintext bool `yaml:"plaintext"`
	// The PROXY protocol, by which a load balancer tells the address of its client.
	ProxyProtocol *ProxyProtocol `yaml:"proxy-protocol,omitempty"`
}

// Ports gives each broker of a cluster a port of its own: the first port is that of the
// broker with the node id first-node-id, the next one of the next node id, and so on. So
// every copy of the proxy, and every start, gives a broker the same port.
type Ports struct {
	// The cluster that is served.
	Cluster string `yaml:"cluster"`
	// The ports of the brokers, first and last, such as 9193-9292. They are listened on at
	// the host of bind, and clients are told them. A broker with a node id beyond has none:
	// what names it is not forwarded.
	Brokers PortRange `yaml:"brokers"`
	// The host name or address by which clients reach these ports.
	AdvertisedHost string `yaml:"advertised-host"`
	// The node id of the broker with the first port. Default: 0.
	FirstNodeID int32 `yaml:"first-node-id"`
}

// ProxyProtocol is the PROXY protocol, version 1 or 2, in front of what a client sends.
type ProxyProtocol struct {
	// The networks of the load balancers, such as 10.0.0.0/8. Each connection from there
	// must begin with a header, and the client's address is taken from it. One from elsewhere
	// must not.
	From []Network `yaml:"from"`
}

// KeyPair is a certificate and its private key.
type KeyPair struct {
	// The certificate, a PEM file, with its intermediate certificates behind it.
	Cert string `yaml:"cert"`
	// Its private key, a PEM file.
	Key string `yaml:"key"`
}

// ClientCertificates is mTLS with clients.
type ClientCertificates struct {
	// Refuses clients without a certificate signed by one of ca-certs.
	Require bool `yaml:"require"`
	// The authorities of clients, a PEM file. Without require, clients may show a certificate
	// where a cluster has the mechanism TLS.
	CACerts string `yaml:"ca-certs"`
	// Revocation lists (CRL) by ca-certs, PEM or DER files. Clients with a listed
	// certificate are refused.
	CRL []string `yaml:"crl"`
}

// Cluster is a Kafka cluster as clients see it, and where it really is.
type Cluster struct {
	// The domain under which clients see the brokers: kafka.example makes
	// bootstrap.kafka.example, b0.kafka.example and so on. This or names.
	SNISuffix string `yaml:"sni-suffix"`
	// Names of your own instead of sni-suffix.
	Names *Names `yaml:"names,omitempty"`
	// The port that clients are told to connect to, with listeners that say none.
	AdvertisedPort int `yaml:"advertised-port"`
	// Makes the name that clients see from a broker's own host name:
	// "<regex>::<replacement>", as in '^(b\d+)-.*$::${1}.kafka.example'. Where the regex does
	// not match, the broker has its usual name.
	BrokerMappingRule string `yaml:"broker-mapping-rule"`
	// Who clients are, and who they are to the brokers. Default: that is between them; what
	// clients send to log in goes through untouched.
	Authentication *Authentication `yaml:"authentication,omitempty"`
	// What clients of this cluster may use.
	Limits ClusterLimits `yaml:"limits"`

	Target `yaml:",inline"`
	// With targets: the one that clients are led to.
	Active string `yaml:"active"`
	// Several places where the cluster can be, each under a name of your choice. A cluster
	// without targets has the settings of one itself.
	Targets map[string]*NamedTarget `yaml:"targets"`
}

// NamedTarget is one of several places where a cluster can be.
type NamedTarget struct {
	Target `yaml:",inline"`
	// How the proxy authenticates with the brokers there. Default: as the cluster says.
	Authentication *TargetAuthentication `yaml:"authentication,omitempty"`
}

// TargetAuthentication is what a target has of its own in authentication.
type TargetAuthentication struct {
	// How the proxy authenticates with the brokers.
	Brokers *BrokerMechanism `yaml:"brokers,omitempty"`
}

// Target is where a cluster really is.
type Target struct {
	// The cluster's bootstrap servers, host:port. The next one is tried when one cannot be
	// reached.
	Upstream []string `yaml:"upstream"`
	// TLS with the brokers.
	UpstreamTLS UpstreamTLS `yaml:"upstream-tls"`
	// Connects to brokers without TLS.
	UpstreamPlaintext bool `yaml:"upstream-plaintext"`
	// A gate to go through: socks5://user:password@host:port, or http://user:password@host:port
	// for a proxy that speaks HTTP CONNECT. The gate resolves the brokers' names, but for those
	// in hosts-file. Or file:/path of a file that has it.
	Via Secret `yaml:"via"`
	// A file with the addresses of brokers, used before DNS: like /etc/hosts, with * for any
	// characters but a dot.
	HostsFile string `yaml:"hosts-file"`
	// A file that keeps the brokers' addresses over restarts; created if missing.
	RoutesFile string `yaml:"routes-file"`
}

// ActiveTarget returns where the cluster is now; nil when active names no target.
func (c *Cluster) ActiveTarget() *Target {
	if len(c.Targets) == 0 {
		return &c.Target
	}
	if t := c.Targets[c.Active]; t != nil {
		return &t.Target
	}
	return nil
}

// Names are the names by which clients see a cluster.
type Names struct {
	// The name that clients bootstrap from.
	Bootstrap string `yaml:"bootstrap"`
	// The name of each broker, with {id} for its node id, such as b{id}-orders.kafka.example.
	Broker string `yaml:"broker"`
}

// UpstreamTLS is TLS with brokers.
type UpstreamTLS struct {
	// The authorities of the brokers, a PEM file. Default: those of the system.
	CACerts string `yaml:"ca-certs"`
	// Does not verify the brokers' certificates. For tests only: anyone in between can read
	// and change everything.
	TrustAny bool `yaml:"trust-any"`
	// A client certificate to show to the brokers, a PEM file.
	Cert string `yaml:"cert"`
	// Its private key, a PEM file.
	Key string `yaml:"key"`
}

// Client is what is shown to brokers; both files are empty when nothing is.
func (t UpstreamTLS) Client() KeyPair { return KeyPair{t.Cert, t.Key} }

// ClusterLimits bound what the clients of one cluster may use.
type ClusterLimits struct {
	// Clients at once; further ones are reset. Default: no limit but that of the proxy.
	MaxConnections int `yaml:"max-connections"`
}

// Admin is the port for operators: the status page, its API, metrics and health checks. With
// a token or client certificates, all but /healthz and /readyz want one of them.
type Admin struct {
	// The address and port. Default: off.
	Bind string `yaml:"bind"`
	// A file with a token of 16 characters or more, to be shown as Authorization: Bearer TOKEN,
	// or as the password when a browser asks for one.
	TokenFile string `yaml:"token-file"`
	// A certificate with which the port speaks TLS, a PEM file.
	Cert string `yaml:"cert"`
	// Its private key, a PEM file.
	Key string `yaml:"key"`
	// The authorities of operators' certificates, a PEM file. Only with cert.
	ClientCACerts string `yaml:"client-ca-certs"`
	// Adds /debug/pprof: profiles of the program for its developers. Default: false.
	Pprof bool `yaml:"pprof"`
}

// Limits bound what clients may use. 0 is no limit, but for max-frame.
type Limits struct {
	// Clients at once; further ones are reset. Default: no limit.
	MaxConnections int `yaml:"max-connections"`
	// Clients at once from one address (IPv6: /64 network) that have not finished their TLS
	// handshake; further ones are reset. Not behind a load balancer that hides its clients'
	// addresses. Default: no limit.
	MaxHandshakesPerAddress int `yaml:"max-handshakes-per-address"`
	// The longest request or response; a longer one ends its connection. Default: 100MiB.
	MaxFrame Size `yaml:"max-frame"`
}

// Timeouts are how long things may take. 0 is for ever where it is allowed.
type Timeouts struct {
	// From accepting a client to the end of its TLS handshake. Default: 10s.
	Handshake time.Duration `yaml:"handshake"`
	// For each attempt to reach a broker, TLS included. Default: 10s.
	Dial time.Duration `yaml:"dial"`
	// Without a byte in either direction, after which a connection is closed between two
	// frames. Default: 0s, never.
	Idle time.Duration `yaml:"idle"`
	// After which a connection is closed, ±10 % jitter, between two frames and with no request
	// in flight. Default: 0s, never.
	ConnectionAge time.Duration `yaml:"connection-age"`
	// After which a peer that acknowledges nothing it is sent counts as gone (Linux). 0s: the
	// system's own time, about 15 minutes. Default: 1m.
	TCPUser time.Duration `yaml:"tcp-user"`
	// For requests in flight to be answered after the program was told to end. Default: 30s.
	Drain time.Duration `yaml:"drain"`
}

// Log is what is written to standard error, and the access log.
type Log struct {
	// debug, info, warn or error. Default: info.
	Level string `yaml:"level"`
	// text or json. Default: text.
	Format string `yaml:"format"`
	// A file to which a line of JSON is added for each connection that has ended or was
	// refused; - is standard output. Default: none.
	Access string `yaml:"access"`
}

// Trace is what is traced, and where that is sent: OTLP over HTTP.
type Trace struct {
	// The URL of a collector of OpenTelemetry, such as http://localhost:4318. Without a path,
	// /v1/traces is asked for. Default: off.
	Endpoint string `yaml:"endpoint"`
	// The share of connections that have a span, with one for each step on the way to the
	// broker: from 0 for none to 1 for all. Default: 1.
	Connections Ratio `yaml:"connections"`
	// The share of requests that have a span. Default: 0.001.
	Requests Ratio `yaml:"requests"`
}

// DefaultBind is where clients connect unless told otherwise.
const DefaultBind = "0.0.0.0:9092"

// New returns a configuration with every default set, and no listener and no cluster.
func New() *Config {
	return &Config{
		Clusters: map[string]*Cluster{},
		Limits:   Limits{MaxFrame: 100 << 20},
		Timeouts: Timeouts{Handshake: 10 * time.Second, Dial: 10 * time.Second, TCPUser: time.Minute, Drain: 30 * time.Second},
		Log:      Log{Level: "info", Format: "text"},
		Trace:    Trace{Connections: 1, Requests: 0.001},
	}
}

// Default returns the configuration that the flags begin with: one listener and one
// cluster.
func Default() *Config {
	c := New()
	c.Listeners = []*Listener{{
		Bind:         DefaultBind,
		Certificates: []KeyPair{{Cert: "server.pem", Key: "server_key.pem"}},
	}}
	c.Clusters[DefaultCluster] = &Cluster{}
	return c
}

// DefaultCluster is the name of the only cluster when nobody has named it.
const DefaultCluster = "kafka"
