package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"kafka-sni-proxy/internal/config"
	"kafka-sni-proxy/internal/suggest"
)

// flags is the command line as it was given, completed by the environment. It fills in a
// configuration with one listener and one cluster.
type flags struct {
	configFile string // the configuration is read from; "": the flags are all of it

	config   *config.Config
	listener *config.Listener // of config
	cluster  *config.Cluster  // of config

	logLevel      string
	logLevelGiven bool
	crl           string
	mtlsDisable   bool
	generateCerts bool
	force         bool
	saveCA        string // the broker whose authority is to be saved
	yes           bool

	// What readEnvironment found.
	errors    usageErrors
	warnings  []string
	variables map[string]string // that have set a flag, by the flag's name
}

func newFlagSet() *pflag.FlagSet { return pflag.NewFlagSet("", pflag.ContinueOnError) }

// startFlags are the flags with which the proxy is started.
func startFlags() *pflag.FlagSet {
	fs := newFlagSet()
	newFlags().define(fs)
	return fs
}

func newFlags() *flags {
	c := config.Default()
	return &flags{config: c, listener: c.Listeners[0], cluster: c.Clusters[config.DefaultCluster]}
}

// define declares the flags in the order in which --help shows them.
func (f *flags) define(fs *pflag.FlagSet) {
	f.defineSettings(fs)
	fs.BoolVar(&f.generateCerts, "generate-certs", false, "write certificates and keys for --sni-suffix, or for all names of --config, and settings for a Java client, into the current directory, and exit")
	fs.BoolVar(&f.force, "force", false, "with --generate-certs: replace files that exist")
	fs.StringVar(&f.saveCA, saveUpstreamCA, "", "show the certificates of the broker at this `host:port`, ask, write its authority to the FILE that is named behind it, and exit; for --upstream-ca-certs; --hosts-file, or --config, says how it is reached")
	fs.BoolVar(&f.yes, "yes", false, "with --save-upstream-ca: do not ask; for scripts that have compared the fingerprint")
	fs.BoolP("help", "h", false, "show this help, and exit")
	fs.BoolP("version", "v", false, "show the version, and exit")
}

// defineSettings declares the flags that make a configuration.
func (f *flags) defineSettings(fs *pflag.FlagSet) {
	fs.SortFlags = false

	fs.StringVar(&f.configFile, "config", "", "`file` with the whole configuration, in place of the flags below but --log-level; for several clusters and listeners (see \"kafka-sni-proxy config\")")
	fs.StringVar(&f.cluster.SNISuffix, "sni-suffix", "", "`domain` under which clients see the brokers (required)")
	fs.StringSliceVar(&f.cluster.Upstream, "upstream", nil, "bootstrap server of the cluster, `host:port`; comma-separated or repeated; the next one is tried when one cannot be reached (required)")
	fs.StringVar(&f.listener.Bind, "bind", f.listener.Bind, "`address:port` to listen on for clients")
	fs.IntVar(&f.listener.AdvertisedPort, "advertised-port", 0, "`port` that clients are told to connect to (default: that of --bind)")
	fs.StringVar(&f.cluster.BrokerMappingRule, "broker-mapping-rule", "", "`rule` \"<regex>::<replacement>\", applied to a broker's own host name to make the name that clients see, as in \"^(b[0-9]+)-.*$::${1}.kafka.example.com\" (default, and where the regex does not match: b<id>.<sni-suffix>)")
	fs.BoolVar(&f.listener.AllowMissingSNI, "allow-missing-sni", false, "let in clients that send no server name (SNI), as if they asked for bootstrap.<sni-suffix>; they reach the first upstream alone, so with several brokers they cannot work")

	fs.StringVar(&f.listener.Certificates[0].Cert, "cert", f.listener.Certificates[0].Cert, "certificate shown to clients, PEM `file`, followed by its intermediate certificates")
	fs.StringVar(&f.listener.Certificates[0].Key, "key", f.listener.Certificates[0].Key, "its private key, PEM `file`")
	fs.BoolVar(&f.listener.ClientCertificates.Require, "mtls-enable", false, "require a certificate from each client, signed by one of --ca-certs")
	fs.BoolVar(&f.mtlsDisable, "mtls-disable", false, "do not ask clients for certificates (the default)")
	fs.StringVar(&f.listener.ClientCertificates.CACerts, "ca-certs", "", "certificate authorities of clients, PEM `file`; needed with --mtls-enable")
	fs.StringVar(&f.crl, "crl", "", "revocation lists (CRL) signed by --ca-certs, PEM or DER `file`; clients with a listed certificate are refused")

	fs.StringVar(&f.cluster.UpstreamTLS.CACerts, "upstream-ca-certs", "", "certificate authorities of the brokers, PEM `file` (default: those of the system)")
	fs.BoolVar(&f.cluster.UpstreamTLS.TrustAny, "trust-upstream-certs", false, "for tests only: do not verify the brokers' certificates; anyone in between can read and change everything")
	fs.StringVar(&f.cluster.UpstreamTLS.Cert, "upstream-cert", "", "client certificate to show to the brokers, PEM `file`")
	fs.StringVar(&f.cluster.UpstreamTLS.Key, "upstream-key", "", "its private key, PEM `file`")
	fs.StringVar(&f.cluster.HostsFile, "hosts-file", "", "`file` with the addresses of brokers, used before DNS; like /etc/hosts, with * for any characters but a dot")
	fs.StringVar(&f.cluster.RoutesFile, "routes-file", "", "`file` that keeps the brokers' addresses over restarts; created if missing (default: brokers are learned anew)")

	fs.Int64Var((*int64)(&f.config.Limits.MaxFrame), "max-frame-bytes", int64(f.config.Limits.MaxFrame), "longest Kafka request or response accepted, in `bytes`; a longer one ends its connection")
	fs.IntVar(&f.config.Limits.MaxConnections, "max-connections", 0, "at most `n` client connections at once; further ones are reset (default: no limit)")
	fs.IntVar(&f.config.Limits.MaxHandshakesPerAddress, "max-handshakes-per-address", 0, "at most `n` TLS handshakes at once from one client address (IPv6: /64 network); further ones are reset; not for use behind a load balancer that hides its clients' addresses (default: no limit)")
	fs.DurationVar(&f.config.Timeouts.Handshake, "handshake-timeout", f.config.Timeouts.Handshake, "`time` from accepting a client to the end of its TLS handshake")
	fs.DurationVar(&f.config.Timeouts.Dial, "dial-timeout", f.config.Timeouts.Dial, "`time` for each attempt to reach a broker, its TLS handshake included")
	fs.DurationVar(&f.config.Timeouts.Idle, "idle-timeout", 0, "`time` without a byte in either direction after which a connection is closed, between two frames (default: never)")
	fs.DurationVar(&f.config.Timeouts.ConnectionAge, "max-connection-age", 0, "`time` after which a connection is closed, ±10 % jitter, between two frames and with no request in flight (default: never)")
	fs.DurationVar(&f.config.Timeouts.TCPUser, "tcp-user-timeout", f.config.Timeouts.TCPUser, "`time` after which a peer that acknowledges nothing it is sent counts as gone; a peer that only stops reading does not; 0: the system's own time, about 15 minutes (Linux)")
	fs.StringVar(&f.config.Admin.Bind, "admin-bind", "", "`address:port` for the status page, /metrics (Prometheus), /healthz and /readyz (default: off)")
	fs.StringVar(&f.config.Admin.TokenFile, "admin-token-file", "", "`file` with a token, 16 characters or more, that all but /healthz and /readyz want: as Authorization: Bearer TOKEN, or as the password when a browser asks")
	fs.StringVar(&f.config.Admin.Cert, "admin-cert", "", "certificate with which the admin port speaks TLS, PEM `file`")
	fs.StringVar(&f.config.Admin.Key, "admin-key", "", "its private key, PEM `file`")
	fs.StringVar(&f.config.Admin.ClientCACerts, "admin-client-ca-certs", "", "certificate authorities of operators, PEM `file`: all but /healthz and /readyz want a certificate by one of them, or the token")
	fs.BoolVar(&f.config.Admin.Pprof, "admin-pprof", false, "add /debug/pprof to the admin port: profiles for developers")
	fs.DurationVar(&f.config.Timeouts.Drain, "drain-timeout", f.config.Timeouts.Drain, "`time` that requests in flight have to be answered after the program was told to end; then their connections are cut")
	fs.StringVar(&f.logLevel, "log-level", "info", "`level` of the log on standard error: debug, info, warn or error")
	fs.StringVar(&f.config.Log.Format, "log-format", f.config.Log.Format, "`format` of the log: text or json")
	fs.StringVar(&f.config.Log.Access, "access-log", "", "`file` to which a line of JSON is added for each connection that has ended or was refused, or - for standard output; opened anew on SIGHUP (default: none)")
	fs.StringVar(&f.config.Trace.Endpoint, "trace-endpoint", "", "`URL` of a collector of OpenTelemetry to which traces are sent, such as http://localhost:4318; OTLP over HTTP (default: off)")
	fs.Float64Var((*float64)(&f.config.Trace.Connections), "trace-connections", float64(f.config.Trace.Connections), "`share` of connections that are traced, from 0 to 1; with --trace-endpoint")
	fs.Float64Var((*float64)(&f.config.Trace.Requests), "trace-requests", float64(f.config.Trace.Requests), "`share` of requests that have a span of their own, from 0 to 1; with --trace-endpoint")
}

// exclusive are pairs of flags that contradict each other.
var exclusive = [][2]string{
	{"mtls-enable", "mtls-disable"},
	{"upstream-ca-certs", "trust-upstream-certs"},
}

// flagNames are the flags for the settings of the only listener and the only cluster,
// where they are not called the same.
var flagNames = map[string]string{
	"certificates":                 "--cert, --key",
	"certificates[0]":              "--cert, --key",
	"client-certificates.require":  "--mtls-enable",
	"client-certificates.ca-certs": "--ca-certs",
	"client-certificates.crl":      "--crl",
	"upstream-tls.ca-certs":        "--upstream-ca-certs",
	"upstream-tls.trust-any":       "--trust-upstream-certs",
	"upstream-tls.cert":            "--upstream-cert",
	"upstream-tls.key":             "--upstream-key",
	"admin.bind":                   "--admin-bind",
	"admin.token-file":             "--admin-token-file",
	"admin.cert":                   "--admin-cert",
	"admin.key":                    "--admin-key",
	"admin.client-ca-certs":        "--admin-client-ca-certs",
	"admin.pprof":                  "--admin-pprof",
	"log.access":                   "--access-log",
	"limits.max-frame":             "--max-frame-bytes",
	"timeouts.connection-age":      "--max-connection-age",
}

// flagName returns the flag for a setting.
func flagName(path string) string {
	for _, prefix := range []string{config.ListenerPath(0, ""), config.ClusterPath(config.DefaultCluster, "")} {
		path = strings.TrimPrefix(path, prefix)
	}
	if flag, ok := flagNames[path]; ok {
		return flag
	}
	group, name, grouped := strings.Cut(path, ".")
	switch {
	case !grouped:
		return "--" + path
	case group == "timeouts":
		return "--" + name + "-timeout"
	case group == "log":
		return "--log-" + name
	case group == "trace":
		return "--trace-" + name
	}
	return "--" + name
}

const environmentPrefix = "KAFKA_SNI_PROXY_"

// readEnvironment sets the flags that are not on the command line and have a
// variable. A flag on the command line also beats a variable that contradicts
// it.
func (f *flags) readEnvironment(fs *pflag.FlagSet, environment []string) {
	given := map[string]bool{"help": true, "version": true, saveUpstreamCA: true, "yes": true} // for the command line only
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
			f.warnings = append(f.warnings, fmt.Sprintf("the environment variable %s belongs to no flag and does nothing: %s", variable, meantVariable(name, fs)))
		case given[flag.Name]:
		default:
			if f.variables == nil {
				f.variables = map[string]string{}
			}
			f.variables[flag.Name] = variable
			if err := fs.Set(flag.Name, value); err != nil {
				f.errors = append(f.errors, fmt.Errorf("%s: %q is not a value for --%s, which takes %s", variable, value, flag.Name, flag.Value.Type()))
				fs.Set(flag.Name, flag.DefValue) // one error is enough
			}
		}
	}
}

// meantVariable says which variable was probably meant.
func meantVariable(name string, fs *pflag.FlagSet) string {
	near := suggest.To(name)
	fs.VisitAll(func(flag *pflag.Flag) { near.Compare(strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))) })
	if best := near.Best(); best != "" {
		return "did you mean " + environmentPrefix + best + "?"
	}
	return "see --help"
}

// isServiceVariable reports whether Kubernetes sets such a variable for a
// service called kafka-sni-proxy: KAFKA_SNI_PROXY_SERVICE_HOST,
// KAFKA_SNI_PROXY_PORT_9092_TCP and the like.
func isServiceVariable(name string) bool {
	return strings.HasPrefix(name, "SERVICE_") || name == "PORT" || strings.HasPrefix(name, "PORT_")
}
