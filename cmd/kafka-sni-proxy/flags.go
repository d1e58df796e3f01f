package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// flags is the command line as it was given, completed by the environment.
type flags struct {
	bind           string
	sniSuffix      string
	cert, key      string
	upstream       []string
	mtlsEnable     bool
	mtlsDisable    bool
	caCerts        string
	crl            string
	upstreamCAs    string
	trustUpstream  bool
	upstreamCert   string
	upstreamKey    string
	mappingRule    string
	hostsFile      string
	routesFile     string
	advertisedPort int
	maxFrameBytes  int
	timeouts       timeouts
	maxConnections int
	maxHandshakes  int
	allowNoSNI     bool
	adminBind      string
	drainTimeout   time.Duration
	logLevel       string
	logFormat      string
	generateCerts  bool
	force          bool

	// What readEnvironment found.
	wrong    mistakes
	doubtful []string
}

// timeouts are how long things may take; those that are not required may be 0,
// for ever.
type timeouts struct {
	handshake, dial, idle, age, tcpUser time.Duration
}

const defaultBind = "0.0.0.0:9092"

// define declares the flags in the order in which --help shows them.
func (f *flags) define(fs *pflag.FlagSet) {
	fs.SortFlags = false

	fs.StringVar(&f.sniSuffix, "sni-suffix", "", "`domain` under which clients see the brokers; required")
	fs.StringSliceVar(&f.upstream, "upstream", nil, "bootstrap server of the cluster, `host:port`; comma-separated or repeated, the next is tried when one cannot be reached; required")
	fs.StringVar(&f.bind, "bind", defaultBind, "`address:port` to listen on for clients")
	fs.IntVar(&f.advertisedPort, "advertised-port", 0, "`port` that clients are told to connect to (default: that of --bind)")
	fs.StringVar(&f.mappingRule, "broker-mapping-rule", "", "`rule` \"<regex>::<replacement>\", applied to a broker's own host name to make the name that clients see, as in \"^(b[0-9]+)-.*$::${1}.kafka.example.com\" (default, and where the regex does not match: b<id>.<sni-suffix>)")
	fs.BoolVar(&f.allowNoSNI, "allow-missing-sni", false, "treat clients that send no name in the TLS handshake as if they asked for bootstrap.<sni-suffix>")

	fs.StringVar(&f.cert, "cert", "server.pem", "certificate shown to clients, PEM `file`, with the intermediate ones behind it")
	fs.StringVar(&f.key, "key", "server_key.pem", "its private key, PEM `file`")
	fs.BoolVar(&f.mtlsEnable, "mtls-enable", false, "require a certificate from each client, signed by one of --ca-certs")
	fs.BoolVar(&f.mtlsDisable, "mtls-disable", false, "do not ask clients for certificates (the default)")
	fs.StringVar(&f.caCerts, "ca-certs", "", "certificate authorities of clients, PEM `file`; needed with --mtls-enable")
	fs.StringVar(&f.crl, "crl", "", "revocation lists (CRL) by --ca-certs, PEM or DER `file`: clients with a certificate in them are refused")

	fs.StringVar(&f.upstreamCAs, "upstream-ca-certs", "", "certificate authorities of the brokers, PEM `file` (default: those of the system)")
	fs.BoolVar(&f.trustUpstream, "trust-upstream-certs", false, "do not verify the brokers' certificates: for tests only, since it lets anyone in between read and change everything")
	fs.StringVar(&f.upstreamCert, "upstream-cert", "", "client certificate to show to the brokers, PEM `file`")
	fs.StringVar(&f.upstreamKey, "upstream-key", "", "its private key, PEM `file`")
	fs.StringVar(&f.hostsFile, "hosts-file", "", "`file` with the addresses of brokers, asked before DNS; like /etc/hosts, and * stands for any characters but a dot")
	fs.StringVar(&f.routesFile, "routes-file", "", "`file` to keep in it where brokers are, over restarts; made when it is not there (default: brokers are learned anew)")

	fs.IntVar(&f.maxFrameBytes, "max-frame-bytes", 100<<20, "longest Kafka request or response, in `bytes`; a longer one ends its connection")
	fs.IntVar(&f.maxConnections, "max-connections", 0, "at most `n` client connections at once; further ones are reset (default: no limit)")
	fs.IntVar(&f.maxHandshakes, "max-handshakes-per-address", 0, "at most `n` handshakes at once from one client address, or IPv6 network of 64 bits; further ones are reset. Not for use behind a load balancer that hides its clients' addresses (default: no limit)")
	fs.DurationVar(&f.timeouts.handshake, "handshake-timeout", 10*time.Second, "`time` from accepting a client to the end of its TLS handshake")
	fs.DurationVar(&f.timeouts.dial, "dial-timeout", 10*time.Second, "`time` for each attempt to reach a broker, its TLS handshake included")
	fs.DurationVar(&f.timeouts.idle, "idle-timeout", 0, "`time` after which a connection without a byte either way is ended, between two frames (default: never)")
	fs.DurationVar(&f.timeouts.age, "max-connection-age", 0, "`time` after which a connection is ended, between two frames and with nothing owed, give or take a tenth (default: never)")
	fs.DurationVar(&f.timeouts.tcpUser, "tcp-user-timeout", time.Minute, "`time` after which a client or broker that acknowledges nothing of what it is sent counts as gone; one that just does not read does not; 0 for the system's own time, about 15 minutes (Linux)")
	fs.StringVar(&f.adminBind, "admin-bind", "", "`address:port` for /metrics (Prometheus), /healthz and /readyz (default: off)")
	fs.DurationVar(&f.drainTimeout, "drain-timeout", 30*time.Second, "`time` that requests under way have to be answered once the program was told to end; then their connections are cut")
	fs.StringVar(&f.logLevel, "log-level", "info", "`level` of the log on standard error: debug, info, warn or error")
	fs.StringVar(&f.logFormat, "log-format", "text", "`format` of the log: text or json")

	fs.BoolVar(&f.generateCerts, "generate-certs", false, "write certificates and keys for --sni-suffix, and settings for a Java client, into the current directory, and end")
	fs.BoolVar(&f.force, "force", false, "with --generate-certs: replace files that exist")
	fs.BoolP("help", "h", false, "show this help, and end")
	fs.BoolP("version", "v", false, "show the version, and end")
}

// exclusive are pairs of flags that contradict each other.
var exclusive = [][2]string{
	{"mtls-enable", "mtls-disable"},
	{"upstream-ca-certs", "trust-upstream-certs"},
}

const environmentPrefix = "KAFKA_SNI_PROXY_"

// readEnvironment sets the flags that are not on the command line and have a
// variable. A flag on the command line also beats a variable that contradicts
// it.
func (f *flags) readEnvironment(fs *pflag.FlagSet, environment []string) {
	given := map[string]bool{"help": true, "version": true} // for the command line only
	fs.Visit(func(flag *pflag.Flag) { given[flag.Name] = true })
	for _, pair := range exclusive {
		if given[pair[0]] || given[pair[1]] {
			given[pair[0]], given[pair[1]] = true, true
		}
	}
	for _, assignment := range environment {
		variable, value, _ := strings.Cut(assignment, "=")
		name, ours := strings.CutPrefix(variable, environmentPrefix)
		if !ours || value == "" {
			continue
		}
		flag := fs.Lookup(strings.ToLower(strings.ReplaceAll(name, "_", "-")))
		switch {
		case flag == nil && isServiceVariable(name):
		case flag == nil:
			f.doubtful = append(f.doubtful, fmt.Sprintf("the environment variable %s belongs to no flag and does nothing: see --help", variable))
		case given[flag.Name]:
		default:
			if err := fs.Set(flag.Name, value); err != nil {
				f.wrong = append(f.wrong, fmt.Errorf("%s: %q is not a value for --%s, which takes %s", variable, value, flag.Name, flag.Value.Type()))
				fs.Set(flag.Name, flag.DefValue) // one mistake is enough
			}
		}
	}
}

// isServiceVariable reports whether Kubernetes sets such a variable for a
// service called kafka-sni-proxy: KAFKA_SNI_PROXY_SERVICE_HOST,
// KAFKA_SNI_PROXY_PORT_9092_TCP and the like.
func isServiceVariable(name string) bool {
	return strings.HasPrefix(name, "SERVICE_") || name == "PORT" || strings.HasPrefix(name, "PORT_")
}
