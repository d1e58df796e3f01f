package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"kafka-sni-proxy/bench/peer"
	"kafka-sni-proxy/internal/harness"
)

// launcher starts processes, in one folder and on ports of their own.
type launcher struct {
	life  context.Context // theirs: the contexts of samples end sooner
	dir   string
	ports harness.Ports
}

// role is this program in one of its roles.
func (l *launcher) role(name string, args []string) harness.Command {
	return harness.Command{Args: append([]string{name, "-dir", l.dir}, args...), Dir: l.dir}
}

// server starts this program in a role that says its address first.
func (l *launcher) server(name string, args ...string) (*harness.Process, string, error) {
	return harness.StartServer(l.life, l.role(name, args))
}

// ends are the two ends: a broker stand-in, and a load client.
type ends struct {
	broker   *harness.Process
	upstream peer.Server
	load     *harness.Process
	client   *peer.Client
}

// startEnds starts them. buffer is how much they read at once.
func (l *launcher) startEnds(address string, buffer int) (*ends, error) {
	size := fmt.Sprintf("-buffer=%d", buffer)
	broker, at, err := l.server("broker", "-address", address, size)
	if err != nil {
		return nil, err
	}
	load, client, err := l.startLoad(size)
	if err != nil {
		broker.Kill()
		return nil, err
	}
	return &ends{broker, peer.Server{Address: at, ServerName: brokerHost}, load, client}, nil
}

func (l *launcher) startLoad(args ...string) (*harness.Process, *peer.Client, error) {
	load, stdout, err := harness.StartRole(l.life, l.role("load", args))
	if err != nil {
		return nil, nil, err
	}
	return load, peer.NewClient(stdout, load.Stdin), nil
}

func (e *ends) stop() {
	e.load.Kill()
	e.broker.Kill()
}

// prepare makes what the processes need in dir, unless it is there: the
// certificates, and a hosts file that leads to the broker.
func prepare(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, peer.CAFile)); err != nil {
		if err := peer.WriteCertificates(dir, "*."+suffix, brokerHost); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, hostsFile), []byte("127.0.0.1 "+brokerHost+"\n"), 0o644)
}

const (
	suffix     = "kafka.example"
	bootstrap  = "bootstrap." + suffix
	brokerHost = "lkc-bench.eu-central-1.aws.upstream.example"
	hostsFile  = "hosts"
)
