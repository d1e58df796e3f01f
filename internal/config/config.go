// Package config is every setting of the program, as plain values: what it is called,
// its default, and what it may be. [Config.Validate] finds all that is wrong at once. The
// package opens no file and no socket, and knows nothing of where settings come from.
//
// A Config is a value: a reload makes a new one.
package config

import "time"

// Config is the whole configuration.
type Config struct {
	Listeners []Listener
	Clusters  map[string]*Cluster
	Admin     Admin
	Limits    Limits
	Timeouts  Timeouts
	Log       Log
}

// Listener is where clients connect.
type Listener struct {
	// Bind is the address and port to listen on.
	Bind string
	// AdvertisedPort is the port that clients are told to connect to. 0: that of Bind.
	AdvertisedPort int
	// AllowMissingSNI treats clients that name no server as if they asked for bootstrap.
	AllowMissingSNI bool
	// Certificate is shown to clients.
	Certificate KeyPair
	// ClientCertificates says whether clients need one, and of whom.
	ClientCertificates ClientCertificates
}

// KeyPair names the PEM files of a certificate, with the intermediate ones behind it, and
// of its private key.
type KeyPair struct{ Cert, Key string }

// ClientCertificates is mTLS with clients.
type ClientCertificates struct {
	// Require refuses clients without a certificate signed by one of CACerts.
	Require bool
	// CACerts is a PEM file of authorities.
	CACerts string
	// CRL is a file of revocation lists by CACerts, PEM or DER. "": none.
	CRL string
}

// Cluster is a Kafka cluster as clients see it, and where it really is.
type Cluster struct {
	// SNISuffix is the domain under which clients see the brokers.
	SNISuffix string
	// Upstream are the bootstrap servers, host:port, in the order in which to try them.
	Upstream []string
	// UpstreamTLS is TLS with the brokers.
	UpstreamTLS UpstreamTLS
	// BrokerMappingRule is "<regex>::<replacement>", applied to a broker's own host name
	// to make the name that clients see. "": b<id>.<suffix>.
	BrokerMappingRule string
	// HostsFile has addresses of brokers, asked before DNS. "": none.
	HostsFile string
	// RoutesFile keeps where brokers are, over restarts. "": brokers are learned anew.
	RoutesFile string
}

// UpstreamTLS is TLS with brokers.
type UpstreamTLS struct {
	// CACerts is a PEM file of authorities. "": those of the system.
	CACerts string
	// TrustAny does not verify the brokers' certificates: for tests only.
	TrustAny bool
	// Client is shown to brokers. Both empty: nothing is.
	Client KeyPair
}

// Admin is the port for metrics and health checks.
type Admin struct {
	// Bind is the address and port. "": off.
	Bind string
}

// Limits bound what clients may use. 0 is no limit, but for MaxFrameBytes.
type Limits struct {
	MaxConnections          int // clients at once
	MaxHandshakesPerAddress int // TLS handshakes at once from one IPv4 address or IPv6 /64
	MaxFrameBytes           int // longest request or response
}

// Timeouts are how long things may take. 0 is for ever where it is allowed.
type Timeouts struct {
	Handshake     time.Duration // from accepting a client to the end of its TLS handshake
	Dial          time.Duration // for each attempt to reach a broker, TLS included
	Idle          time.Duration // without a byte either way
	ConnectionAge time.Duration // ±10 % jitter
	TCPUser       time.Duration // for which a peer may acknowledge nothing
	Drain         time.Duration // for requests in flight once the program was told to end
}

// Log is what is written to standard error.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // text or json
}

// DefaultBind is where clients connect unless told otherwise.
const DefaultBind = "0.0.0.0:9092"

// Default returns the configuration with every default set, one listener and one cluster.
func Default() *Config {
	return &Config{
		Listeners: []Listener{{
			Bind:        DefaultBind,
			Certificate: KeyPair{Cert: "server.pem", Key: "server_key.pem"},
		}},
		Clusters: map[string]*Cluster{DefaultCluster: {}},
		Limits:   Limits{MaxFrameBytes: 100 << 20},
		Timeouts: Timeouts{Handshake: 10 * time.Second, Dial: 10 * time.Second, TCPUser: time.Minute, Drain: 30 * time.Second},
		Log:      Log{Level: "info", Format: "text"},
	}
}

// DefaultCluster is the name of the only cluster when nobody has named it.
const DefaultCluster = "kafka"
