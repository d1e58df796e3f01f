package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"kafka-sni-proxy/bench/peer"
	"kafka-sni-proxy/internal/harness"
	"kafka-sni-proxy/internal/harness/procfs"
)

// The targets that are always known.
const (
	direct  = "direct"
	tcp     = "tcp"
	naive   = "naive"
	haproxy = "haproxy"
	ours    = "ours"
	ours50  = "ours-50"
)

var (
	knownTargets   = []string{direct, tcp, naive, haproxy, ours, ours50}
	defaultTargets = []string{direct, naive, haproxy, ours}
)

// target is what the load client connects to: a proxy before the broker stand-in,
// or the stand-in itself.
type target struct {
	Name  string `json:"name"`
	About string `json:"about"`

	// start starts a process that leads to the broker. It is nil where nothing
	// has to be started.
	start func(ctx context.Context, upstream peer.Server, args ...string) (*running, error)
	// fixed is a process that runs anyway.
	fixed *running
	// isOurs is set for this project's proxy, whichever build it is.
	isOurs bool
}

// running is a target that can be connected to.
type running struct {
	target *target
	to     peer.Server
	pid    int              // of the process in between; 0: there is none
	own    *harness.Process // nil when it was not started here
}

func (r *running) stop() {
	if r.own != nil {
		r.own.Kill()
	}
}

// alive returns an error when the process in between is gone.
func (r *running) alive() error {
	if r.own == nil {
		return nil
	}
	return r.own.Alive()
}

// cost runs do and returns what the process in between used for it.
func (r *running) cost(do func() error) (procfs.Usage, error) {
	if r.pid == 0 {
		return procfs.Usage{}, do()
	}
	before, err := procfs.Read(r.pid)
	if err != nil {
		return procfs.Usage{}, err
	}
	if err := do(); err != nil {
		return procfs.Usage{}, err
	}
	after, err := procfs.Read(r.pid)
	return after.Sub(before), err
}

// run makes a target ready for a broker.
func (w *target) run(ctx context.Context, upstream peer.Server, args ...string) (*running, error) {
	switch {
	case w.start != nil:
		return w.start(ctx, upstream, args...)
	case w.fixed != nil:
		return w.fixed, nil
	default:
		return &running{target: w, to: upstream}, nil
	}
}

// findTargets returns the targets that were asked for and can be run, and tells
// about those that cannot.
func findTargets(ctx context.Context, s settings, l *launcher, tell func(string, ...any)) ([]*target, error) {
	var targets []*target
	for _, name := range s.targets {
		switch name {
		case direct:
			targets = append(targets, &target{Name: direct, About: "no proxy"})
		case tcp:
			targets = append(targets, l.relayTarget(tcp, "TCP relay that leaves TLS to the ends: io.Copy, which splices in the kernel", "-plain"))
		case naive:
			targets = append(targets, l.relayTarget(naive, "io.Copy between two crypto/tls connections"))
		case haproxy:
			program, err := findHAProxy()
			if err != nil {
				tell("haproxy is not installed; going on without it")
				continue
			}
			targets = append(targets, l.haproxyTarget(ctx, program))
		case ours, ours50:
			if s.binary == "" {
				tell("building kafka-sni-proxy")
			}
			binary, err := harness.Build(ctx, harness.BuildOptions{Binary: s.binary, Dir: l.dir})
			if err != nil {
				return nil, err
			}
			s.binary = binary
			if name == ours50 {
				targets = append(targets, l.manyTarget(name, "kafka-sni-proxy with a file of fifty clusters", binary, 50))
			} else {
				targets = append(targets, l.oursTarget(name, "kafka-sni-proxy", binary))
			}
		}
	}
	for _, e := range s.extra {
		switch e.kind {
		case "build":
			targets = append(targets, l.oursTarget(e.name, "another build of kafka-sni-proxy", e.value))
		case "command":
			targets = append(targets, l.commandTarget(e.name, strings.Fields(e.value)))
		case "other":
			w, err := otherTarget(e.name, e.value)
			if err != nil {
				return nil, err
			}
			targets = append(targets, w)
		}
	}
	names := map[string]bool{}
	for _, w := range targets {
		if names[w.Name] {
			return nil, fmt.Errorf("two targets are called %q", w.Name)
		}
		names[w.Name] = true
	}
	return targets, nil
}

func (l *launcher) relayTarget(name, about string, flags ...string) *target {
	w := &target{Name: name, About: about}
	w.start = func(_ context.Context, upstream peer.Server, _ ...string) (*running, error) {
		c, address, err := l.server("relay", append(flags, "-upstream", upstream.Address, "-name", upstream.ServerName)...)
		if err != nil {
			return nil, err
		}
		to := peer.Server{Address: address, ServerName: bootstrap}
		if name == tcp {
			to.ServerName = upstream.ServerName
		}
		return &running{target: w, to: to, pid: c.PID(), own: c}, nil
	}
	return w
}

func (l *launcher) oursTarget(name, about, binary string) *target {
	w := &target{Name: name, About: about, isOurs: true}
	w.start = func(ctx context.Context, upstream peer.Server, args ...string) (*running, error) {
		_, port, err := net.SplitHostPort(upstream.Address)
		if err != nil {
			return nil, err
		}
		return l.launch(ctx, w, func(address string) ([]string, error) {
			return append([]string{
				binary,
				"--bind", address,
				"--sni-suffix", suffix,
				"--cert", filepath.Join(l.dir, peer.ProxyCertFile),
				"--key", filepath.Join(l.dir, peer.ProxyKeyFile),
				"--upstream", net.JoinHostPort(upstream.ServerName, port),
				"--upstream-ca-certs", filepath.Join(l.dir, peer.CAFile),
				"--hosts-file", filepath.Join(l.dir, hostsFile),
			}, args...), nil
		})
	}
	return w
}

// manyTarget is this project's proxy with many clusters behind one port, all of them the
// broker stand-in; the load goes through the first. It takes no more flags.
func (l *launcher) manyTarget(name, about, binary string, clusters int) *target {
	w := &target{Name: name, About: about}
	w.start = func(ctx context.Context, upstream peer.Server, _ ...string) (*running, error) {
		_, port, err := net.SplitHostPort(upstream.Address)
		if err != nil {
			return nil, err
		}
		return l.launch(ctx, w, func(address string) ([]string, error) {
			path := filepath.Join(l.dir, name+".yaml")
			return []string{binary, "--config", path}, os.WriteFile(path, l.manyClusters(address, net.JoinHostPort(upstream.ServerName, port), clusters), 0o600)
		})
	}
	return w
}

// manyClusters is a configuration file.
func (l *launcher) manyClusters(bind, upstream string, clusters int) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "listeners: [{bind: %q, certificates: [{cert: %q, key: %q}]}]\nclusters:\n", bind,
		filepath.Join(l.dir, peer.ProxyCertFile), filepath.Join(l.dir, peer.ProxyKeyFile))
	for i := range clusters {
		names := fmt.Sprintf("sni-suffix: %s", suffix)
		if i > 0 {
			names = fmt.Sprintf("names: {bootstrap: c%d.%s, broker: 'b{id}-c%d.%s'}", i, suffix, i, suffix)
		}
		fmt.Fprintf(&b, "  c%d: {%s, upstream: [%q], upstream-tls: {ca-certs: %q}, hosts-file: %q}\n", i, names, upstream,
			filepath.Join(l.dir, peer.CAFile), filepath.Join(l.dir, hostsFile))
	}
	return []byte(b.String())
}

// haproxyConfig has no tuning but what makes it comparable: TLS 1.3 with the
// cipher suite that the others agree on, verification, and two threads.
const haproxyConfig = `global
  nbthread 2
  maxconn %d
  ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
  ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256
defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
frontend clients
  bind %s ssl crt %s ssl-min-ver TLSv1.3
  default_backend brokers
backend brokers
  server broker %s ssl verify required ca-file %s verifyhost %s sni str(%[6]s) ssl-min-ver TLSv1.3
`

// findHAProxy looks where Debian's package puts it, too, which is not on every
// user's PATH.
func findHAProxy() (string, error) {
	program, err := exec.LookPath("haproxy")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/haproxy")
	}
	return program, err
}

func (l *launcher) haproxyTarget(ctx context.Context, program string) *target {
	version, _ := exec.CommandContext(ctx, program, "-v").Output()
	first, _, _ := strings.Cut(string(version), " - ")
	w := &target{Name: haproxy, About: cmp.Or(strings.TrimSpace(first), "HAProxy") + ", TLS on both sides, two threads, no Kafka"}
	w.start = func(ctx context.Context, upstream peer.Server, _ ...string) (*running, error) {
		return l.launch(ctx, w, func(address string) ([]string, error) {
			file, err := os.CreateTemp(l.dir, "haproxy-*.cfg")
			if err != nil {
				return nil, err
			}
			defer file.Close()
			if _, err := fmt.Fprintf(file, haproxyConfig, slices.Max(fullPlan.Idle)+100, address,
				filepath.Join(l.dir, peer.ProxyCertFile), upstream.Address, filepath.Join(l.dir, peer.CAFile), upstream.ServerName); err != nil {
				return nil, err
			}
			// In the foreground, as one process.
			return []string{program, "-db", "-f", file.Name()}, nil
		})
	}
	return w
}

// commandTarget is any other proxy that can be started by a command line.
func (l *launcher) commandTarget(name string, command []string) *target {
	w := &target{Name: name, About: filepath.Base(command[0])}
	w.start = func(ctx context.Context, upstream peer.Server, _ ...string) (*running, error) {
		_, brokerPort, err := net.SplitHostPort(upstream.Address)
		if err != nil {
			return nil, err
		}
		return l.launch(ctx, w, func(address string) ([]string, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			replace := strings.NewReplacer(
				"{port}", port, "{suffix}", suffix,
				"{broker}", upstream.Address, "{brokerhost}", upstream.ServerName, "{brokerport}", brokerPort,
				"{ca}", filepath.Join(l.dir, peer.CAFile), "{hosts}", filepath.Join(l.dir, hostsFile),
				"{cert}", filepath.Join(l.dir, peer.ProxyCertFile), "{key}", filepath.Join(l.dir, peer.ProxyKeyFile))
			args := make([]string, len(command))
			for i := range command {
				args[i] = replace.Replace(command[i])
			}
			return args, nil
		})
	}
	return w
}

// otherTarget is a proxy that somebody else has started.
func otherTarget(name, value string) (*target, error) {
	parts := strings.Split(value, ",")
	if len(parts) != 3 {
		return nil, fmt.Errorf("--other %s=%s: it must be name=address,pid,sni", name, value)
	}
	pid, err := strconv.Atoi(parts[1])
	if err != nil {
		return nil, fmt.Errorf("--other %s=%s: %q is not a process id", name, value, parts[1])
	}
	w := &target{Name: name, About: "a proxy that was running already"}
	w.fixed = &running{target: w, to: peer.Server{Address: parts[0], ServerName: parts[2]}, pid: pid}
	_, err = procfs.Read(pid)
	return w, err
}

// launch starts a proxy on a free port and waits until it takes connections.
func (l *launcher) launch(ctx context.Context, w *target, command func(address string) ([]string, error)) (*running, error) {
	address, err := l.ports.Address()
	if err != nil {
		return nil, err
	}
	args, err := command(address)
	if err != nil {
		return nil, err
	}
	c, err := harness.Start(l.life, harness.Command{Name: w.Name, Args: args, Dir: l.dir})
	if err != nil {
		return nil, err
	}
	// Virtual machines, such as Java's, take their time.
	if err := c.Await(ctx, 20*time.Second, w.Name+" does not take connections", func() error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			conn.Close()
		}
		return err
	}); err != nil {
		c.Kill()
		return nil, err
	}
	return &running{target: w, to: peer.Server{Address: address, ServerName: bootstrap}, pid: c.PID(), own: c}, nil
}
