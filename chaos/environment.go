package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafka-sni-proxy/internal/harness"
	"kafka-sni-proxy/internal/kafkatest"
)

const (
	brokers = 3
	suffix  = "kafka.example"
)

// environment is everything that runs, and the folder it runs in:
//
//	clients ─ front ─ proxy ─ back[i] ─ broker i
type environment struct {
	settings
	dir     string
	out     io.Writer
	began   time.Time
	cluster *kafkatest.Cluster
	front   *link
	back    [brokers]*link

	// The clients' side. There are two authorities, so that a certificate can be
	// replaced by one that has nothing in common with it.
	authorities [2]*kafkatest.Authority
	dialer      *kafkatest.Dialer // of all clients
	clientTLS   *tls.Config

	proxy  *proxy
	listen string // where the proxy listens, in all its lives
	admin  string
	rand   *rand.Rand
}

// newEnvironment starts all but the proxy.
func newEnvironment(ctx context.Context, s settings, out io.Writer) (env *environment, err error) {
	env = &environment{settings: s, out: out, began: time.Now(), rand: rand.New(rand.NewPCG(s.seed, 0))}
	if env.dir, err = os.MkdirTemp("", "kafka-sni-proxy-chaos-"); err != nil {
		return nil, err
	}
	if env.binary, err = s.build(ctx, env.dir); err == nil {
		err = env.startNetwork()
	}
	if err == nil {
		err = env.writeFiles()
	}
	if err != nil {
		env.close()
		return nil, err
	}
	return env, nil
}

// close ends everything. The folder is kept when something is to be looked up
// in it.
func (env *environment) close() {
	if env.proxy != nil {
		env.proxy.Kill()
	}
	for _, l := range append(env.back[:], env.front) {
		if l != nil {
			l.close()
		}
	}
	if env.cluster != nil {
		env.cluster.Close()
	}
	if !env.keep {
		os.RemoveAll(env.dir)
	}
}

// build makes the proxy from source, unless there is one already.
func (s settings) build(ctx context.Context, dir string) (binary string, err error) {
	return harness.Build(ctx, harness.BuildOptions{Binary: s.binary, Dir: dir, Race: s.race})
}

// startNetwork starts the cluster and the links. The links to brokers have a
// loopback address of their own, so that they can have the ports which brokers
// say they listen on.
func (env *environment) startNetwork() (err error) {
	if env.cluster, err = kafkatest.NewCluster(kafkatest.Options{Brokers: brokers}); err != nil {
		return err
	}
	var hosts strings.Builder
	address := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250))
	for i := range env.back {
		host, port := env.cluster.Host(int32(i)), int32(9092+i)
		fmt.Fprintln(&hosts, address, host)
		env.back[i], err = newLink(fmt.Sprintf("%s:%d", address, port), func(ctx context.Context) (net.Conn, error) {
			return env.cluster.Dial(ctx, host, port)
		})
		if err != nil {
			return err
		}
	}
	env.front, err = newLink("127.0.0.1:0", func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", env.listen)
	})
	if err != nil {
		return err
	}
	var ports harness.Ports
	if env.listen, err = ports.Address(); err != nil {
		return err
	}
	if env.admin, err = ports.Address(); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(env.dir, "hosts"), []byte(hosts.String()), 0o600)
}

// writeFiles makes the certificates of both sides.
func (env *environment) writeFiles() error {
	pool := x509.NewCertPool()
	var pems []byte
	for i := range env.authorities {
		env.authorities[i] = kafkatest.NewAuthority(fmt.Sprint("clients ", i))
		pool.AppendCertsFromPEM(env.authorities[i].PEM())
		pems = append(pems, env.authorities[i].PEM()...)
	}
	env.clientTLS = &tls.Config{
		RootCAs:      pool,
		Certificates: []tls.Certificate{env.authorities[0].Client("chaos")},
		MinVersion:   tls.VersionTLS12,
		// Some sessions are resumed and some are not, as with real clients.
		ClientSessionCache: tls.NewLRUClientSessionCache(2),
	}
	env.dialer = &kafkatest.Dialer{Suffix: suffix, Proxy: env.front.addr(), TLS: env.clientTLS, Scanner: env.cluster.Scanner()}
	return errors.Join(
		os.WriteFile(filepath.Join(env.dir, "upstream-ca.pem"), env.cluster.Authority.PEM(), 0o600),
		os.WriteFile(filepath.Join(env.dir, "client-ca.pem"), pems, 0o600),
		env.writeServerCertificate(0),
	)
}

// writeServerCertificate puts a new certificate in the place of the proxy's own.
func (env *environment) writeServerCertificate(authority int) error {
	return kafkatest.WriteKeyPair(env.dir, "server", env.authorities[authority].Server("*."+suffix, suffix))
}

// startProxy starts the proxy. Its lives differ: some remember where brokers
// are, others have to ask the cluster; some end connections that are old, or idle.
func (env *environment) startProxy(ctx context.Context) (err error) {
	var upstreams []string
	for i := range int32(brokers) {
		upstreams = append(upstreams, env.cluster.Addr(i))
	}
	_, port, _ := net.SplitHostPort(env.front.addr())
	args := []string{
		"--bind", env.listen,
		"--admin-bind", env.admin,
		"--advertised-port", port,
		"--sni-suffix", suffix,
		"--upstream", strings.Join(upstreams, ","),
		"--upstream-ca-certs", "upstream-ca.pem",
		"--hosts-file", "hosts",
		"--mtls-enable", "--ca-certs", "client-ca.pem",
		"--drain-timeout", "15s", // above the 10 s for which the group may hold back its answers
	}
	for _, some := range [][]string{{"--routes-file", "routes"}, {"--max-connection-age", "2s"}, {"--idle-timeout", "1s"}} {
		if env.rand.IntN(2) == 0 {
			args = append(args, some...)
		}
	}
	env.proxy, err = startProxy(ctx, env.binary, env.dir, env.logFile(), env.admin, args)
	return err
}

func (env *environment) logFile() string { return filepath.Join(env.dir, "proxy.log") }

// client returns a client that knows the proxy's bootstrap address and nothing
// else. What it does when the network fails it does soon, and for ever.
func (env *environment) client(opts ...kgo.Opt) (*kgo.Client, error) {
	return env.clientOf(env.dialer, opts...)
}

func (env *environment) clientOf(dialer *kafkatest.Dialer, opts ...kgo.Opt) (*kgo.Client, error) {
	_, port, _ := net.SplitHostPort(env.front.addr())
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(net.JoinHostPort("bootstrap."+suffix, port)),
		kgo.Dialer(within(clientPatience, dialer.DialContext)),
		kgo.RequestTimeoutOverhead(clientPatience),
		kgo.RetryTimeout(time.Minute),
		kgo.AlwaysRetryEOF(), // it is the network's doing
		kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.RetryBackoffFn(func(tries int) time.Duration {
			return min(50*time.Millisecond<<min(tries, 8), time.Second)
		}),
		kgo.ConsiderMissingTopicDeletedAfter(time.Hour),
	}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	return client, nil
}

// clientPatience is how long clients wait for an answer that is late before they
// give the connection up.
const clientPatience = 3 * time.Second

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// within bounds dialing, and has damage look like a reset, which is what a client
// would make of it that cares for its records: to franz-go, an alert of TLS is no
// failure of the network, and it gives up the records that are under way.
func within(d time.Duration, dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return resetByAlert{conn}, nil
	}
}

type resetByAlert struct{ net.Conn }

func (c resetByAlert) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	return n, asReset("read", err)
}

func (c resetByAlert) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	return n, asReset("write", err)
}

func asReset(op string, err error) error {
	alert := (*net.OpError)(nil)
	isAlert := errors.As(err, &alert) && (alert.Op == "local error" || alert.Op == "remote error")
	if isAlert || errors.As(err, new(tls.RecordHeaderError)) { // where the bit was in the header, there is no alert
		return &net.OpError{Op: op, Net: "tcp", Err: os.NewSyscallError(op, syscall.ECONNRESET)}
	}
	return err
}

// directClient is a client that connects to the brokers, around proxy and links.
func (env *environment) directClient(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(env.cluster.Addr(0)),
		kgo.Dialer(env.cluster.DialTLS(nil)),
	}, opts...)...)
}

// tell shows progress.
func (env *environment) tell(format string, args ...any) {
	s := int(time.Since(env.began).Seconds())
	fmt.Fprintf(env.out, "%2d:%02d  %s\n", s/60, s%60, fmt.Sprintf(format, args...))
}
