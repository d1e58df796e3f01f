package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafka-sni-proxy/internal/kafkatest"
)

const (
	brokers = 3
	suffix  = "kafka.example"
)

// stage is everything that runs, and the folder it runs in:
//
//	clients ─ front ─ proxy ─ back[i] ─ broker i
type stage struct {
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

	proxy  *program
	listen string // where the proxy does, in all its lives
	admin  string
	rand   *rand.Rand
}

// newStage starts all but the proxy.
func newStage(ctx context.Context, s settings, out io.Writer) (st *stage, err error) {
	st = &stage{settings: s, out: out, began: time.Now(), rand: rand.New(rand.NewPCG(s.seed, 0))}
	if st.dir, err = os.MkdirTemp("", "kafka-sni-proxy-chaos-"); err != nil {
		return nil, err
	}
	if st.binary, err = build(ctx, s, st.dir); err == nil {
		err = st.startNetwork()
	}
	if err == nil {
		err = st.writeFiles()
	}
	if err != nil {
		st.close()
		return nil, err
	}
	return st, nil
}

// close ends everything. The folder is kept when something is to be looked up
// in it.
func (st *stage) close() {
	if st.proxy != nil {
		st.proxy.kill()
	}
	for _, l := range append(st.back[:], st.front) {
		if l != nil {
			l.close()
		}
	}
	if st.cluster != nil {
		st.cluster.Close()
	}
	if !st.keep {
		os.RemoveAll(st.dir)
	}
}

// build makes the proxy from source, unless there is one already.
func build(ctx context.Context, s settings, dir string) (binary string, err error) {
	if s.binary != "" {
		return filepath.Abs(s.binary)
	}
	binary = filepath.Join(dir, "kafka-sni-proxy")
	args := []string{"build", "-buildvcs=false", "-o", binary}
	cgo := "CGO_ENABLED=0"
	if s.race {
		args, cgo = append(args, "-race"), "CGO_ENABLED=1"
	}
	build := exec.CommandContext(ctx, "go", append(args, "kafka-sni-proxy/cmd/kafka-sni-proxy")...)
	build.Env = append(os.Environ(), cgo)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the proxy: %w\n%s", err, out)
	}
	return binary, nil
}

// startNetwork starts the cluster and the links. The links to brokers have a
// loopback address of their own, so that they can have the ports which brokers
// say they listen on.
func (st *stage) startNetwork() (err error) {
	if st.cluster, err = kafkatest.NewCluster(kafkatest.Options{Brokers: brokers}); err != nil {
		return err
	}
	var hosts strings.Builder
	address := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250))
	for i := range st.back {
		host, port := st.cluster.Host(int32(i)), int32(9092+i)
		fmt.Fprintln(&hosts, address, host)
		st.back[i], err = newLink(fmt.Sprintf("%s:%d", address, port), func(ctx context.Context) (net.Conn, error) {
			return st.cluster.Dial(ctx, host, port)
		})
		if err != nil {
			return err
		}
	}
	st.front, err = newLink("127.0.0.1:0", func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", st.listen)
	})
	if err != nil {
		return err
	}
	if err := freeAddresses(&st.listen, &st.admin); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(st.dir, "hosts"), []byte(hosts.String()), 0o600)
}

// freeAddresses finds ports that are free, and that nobody else has a reason to
// take.
func freeAddresses(addresses ...*string) error {
	for _, address := range addresses {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		*address = ln.Addr().String()
		defer ln.Close()
	}
	return nil
}

// writeFiles makes the certificates of both sides.
func (st *stage) writeFiles() error {
	pool := x509.NewCertPool()
	var pems []byte
	for i := range st.authorities {
		st.authorities[i] = kafkatest.NewAuthority(fmt.Sprint("clients ", i))
		pool.AppendCertsFromPEM(st.authorities[i].PEM())
		pems = append(pems, st.authorities[i].PEM()...)
	}
	st.clientTLS = &tls.Config{
		RootCAs:      pool,
		Certificates: []tls.Certificate{st.authorities[0].Client("chaos")},
		MinVersion:   tls.VersionTLS12,
		// Some sessions are resumed and some are not, as with real clients.
		ClientSessionCache: tls.NewLRUClientSessionCache(2),
	}
	st.dialer = &kafkatest.Dialer{Suffix: suffix, Proxy: st.front.addr(), TLS: st.clientTLS, Scanner: st.cluster.Scanner()}
	return errors.Join(
		os.WriteFile(filepath.Join(st.dir, "upstream-ca.pem"), st.cluster.Authority.PEM(), 0o600),
		os.WriteFile(filepath.Join(st.dir, "client-ca.pem"), pems, 0o600),
		st.writeServerCertificate(0),
	)
}

// writeServerCertificate puts a new certificate in the place of the proxy's own.
func (st *stage) writeServerCertificate(authority int) error {
	return writePair(st.dir, "server", st.authorities[authority].Server("*."+suffix, suffix))
}

// writePair writes a certificate and its key, each with a rename.
func writePair(dir, name string, cert tls.Certificate) error {
	key, err := x509.MarshalECPrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		return err
	}
	replace := func(file, kind string, der []byte) error {
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path+".new", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			return err
		}
		return os.Rename(path+".new", path)
	}
	return errors.Join(
		replace(name+"_key.pem", "EC PRIVATE KEY", key),
		replace(name+".pem", "CERTIFICATE", cert.Certificate[0]),
	)
}

// startProxy starts the proxy. Its lives differ: some remember where brokers
// are, others have to ask the cluster; some end connections that are old, or idle.
func (st *stage) startProxy(ctx context.Context) (err error) {
	var upstreams []string
	for i := range int32(brokers) {
		upstreams = append(upstreams, st.cluster.Addr(i))
	}
	_, port, _ := net.SplitHostPort(st.front.addr())
	args := []string{
		"--bind", st.listen,
		"--admin-bind", st.admin,
		"--advertised-port", port,
		"--sni-suffix", suffix,
		"--upstream", strings.Join(upstreams, ","),
		"--upstream-ca-certs", "upstream-ca.pem",
		"--hosts-file", "hosts",
		"--mtls-enable", "--ca-certs", "client-ca.pem",
		"--drain-timeout", "15s", // above the 10 s for which the group may hold back its answers
	}
	for _, some := range [][]string{{"--routes-file", "routes"}, {"--max-connection-age", "2s"}, {"--idle-timeout", "1s"}} {
		if st.rand.IntN(2) == 0 {
			args = append(args, some...)
		}
	}
	st.proxy, err = launch(ctx, st.binary, st.dir, st.logFile(), st.admin, args)
	return err
}

func (st *stage) logFile() string { return filepath.Join(st.dir, "proxy.log") }

// client returns a client that knows the proxy's bootstrap address and nothing
// else. What it does when the network fails it does soon, and for ever.
func (st *stage) client(opts ...kgo.Opt) (*kgo.Client, error) {
	return st.clientOf(st.dialer, opts...)
}

func (st *stage) clientOf(dialer *kafkatest.Dialer, opts ...kgo.Opt) (*kgo.Client, error) {
	_, port, _ := net.SplitHostPort(st.front.addr())
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
	if alert := (*net.OpError)(nil); errors.As(err, &alert) && (alert.Op == "local error" || alert.Op == "remote error") {
		return &net.OpError{Op: op, Net: "tcp", Err: os.NewSyscallError(op, syscall.ECONNRESET)}
	}
	return err
}

// insider is a client that goes around the proxy, and around the links.
func (st *stage) insider(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(st.cluster.Addr(0)),
		kgo.Dialer(st.cluster.DialTLS(nil)),
	}, opts...)...)
}

// tell shows progress.
func (st *stage) tell(format string, args ...any) {
	s := int(time.Since(st.began).Seconds())
	fmt.Fprintf(st.out, "%2d:%02d  %s\n", s/60, s%60, fmt.Sprintf(format, args...))
}
