package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"kafka-sni-proxy/internal/harness"
)

// startBalancer starts HAProxy in front of copies of a proxy.
func (s *scenarioRun) startBalancer(ctx context.Context, port int, copies []*proxy) (*harness.Process, error) {
	var servers []string
	for _, p := range copies {
		servers = append(servers, fmt.Sprintf("%s 127.0.0.1:%d check port %d", p.name, p.port, p.admin))
	}
	return s.startHAProxy(ctx, port, servers...)
}

// startHAProxy starts HAProxy as a plain TCP load balancer: it knows no TLS, and gives
// each connection to any of the servers that say they are ready.
func (s *scenarioRun) startHAProxy(ctx context.Context, port int, servers ...string) (*harness.Process, error) {
	config := fmt.Sprintf(`defaults
	mode tcp
	timeout connect 1s
	timeout client 1h
	timeout server 1h
	option redispatch 1
frontend kafka
	bind 127.0.0.1:%d
	default_backend copies
backend copies
	balance random
	option httpchk GET /readyz
`, port)
	for _, server := range servers {
		config += "\tserver " + server + " inter 500ms fall 1 rise 1\n"
	}
	file := filepath.Join(s.dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, err
	}
	b, err := harness.Start(ctx, harness.Command{Name: "haproxy", Args: []string{"haproxy", "-db", "-f", file}, Dir: s.dir})
	if err != nil {
		return nil, err
	}
	return b, b.Await(ctx, time.Minute, "waiting for HAProxy", func() error {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
		}
		return err
	})
}
