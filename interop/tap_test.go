package main

import (
	"context"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"kafka-sni-proxy/internal/dial"
)

// answer listens, and says text to whoever has sent a line; the addresses of its clients come
// by the channel.
func answer(t *testing.T, text string) (address string, clients chan string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	clients = make(chan string, 10)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			clients <- conn.RemoteAddr().String()
			go func() {
				defer conn.Close()
				io.ReadAll(conn)
				io.WriteString(conn, text)
			}()
		}
	}()
	return ln.Addr().String(), clients
}

// talk says something, and returns what is said then.
func talk(t *testing.T, conn net.Conn) string {
	t.Helper()
	defer conn.Close()
	io.WriteString(conn, "hello")
	conn.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func TestATapWithoutTLSReadsAndCounts(t *testing.T) {
	target, clients := answer(t, "I am broker-1."+upstreamDomain)
	tap, err := newTap("127.0.0.1:0", nil, nil, target)
	if err != nil {
		t.Fatal(err)
	}
	tap.from = net.ParseIP(balancedFrom)
	go tap.serve(t.Context())
	conn, err := net.Dial("tcp", tap.listener.Addr().String())
	if err != nil {
		t.Skip(err)
	}
	if got := talk(t, conn); !strings.HasPrefix(got, "I am") {
		t.Errorf("got %q", got)
	}
	tap.stop()
	if leaks := tap.takeLeaks(); len(leaks) != 1 {
		t.Errorf("leaks %q", leaks)
	}
	if opened, now := tap.seen.under(suffix); opened != 1 || now != 0 {
		t.Errorf("%d connections opened, %d open", opened, now)
	}
	client := <-clients
	if !strings.HasPrefix(client, balancedFrom+":") || len(tap.seen.addresses) != 1 || tap.seen.addresses[0] != client {
		t.Errorf("connected from %s, noted %q", client, tap.seen.addresses)
	}
}

func TestConnectionsAreCountedByDomain(t *testing.T) {
	var seen tapped
	seen.open("b1.edge.test", "")
	seen.open("b1.second.test", "")
	seen.open("bootstrap.edge.test", "")()
	if opened, now := seen.under("edge.test"); opened != 2 || now != 1 {
		t.Errorf("%d opened, %d open", opened, now)
	}
}

func TestTheGateLetsInWhoeverKnowsThePasswordAndANameOfABroker(t *testing.T) {
	target, _ := answer(t, "welcome")
	_, port, _ := net.SplitHostPort(target)
	ctx, cancel := context.WithCancel(t.Context())
	g, err := startGate(ctx, &cluster{brokers: []*broker{{name: "solo-1." + upstreamDomain, address: "127.0.0.1"}}})
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	dialer := func(user, host string) (net.Conn, error) {
		via, err := dial.ParseGate("socks5://" + user + g.address())
		if err != nil {
			t.Fatal(err)
		}
		return dial.New(nil, via).Dial(t.Context(), host, int32(number))
	}
	const solo = "solo-1." + upstreamDomain
	right := gateUser + ":" + url.QueryEscape(gatePassword) + "@"
	if _, err := g.used(); err == nil {
		t.Error("a gate that nobody has used is content")
	}
	conn, err := dialer(right, solo)
	if err != nil {
		t.Fatal(err)
	}
	if got := talk(t, conn); got != "welcome" {
		t.Errorf("got %q", got)
	}
	if passed, err := g.used(); err != nil || passed[net.JoinHostPort(solo, port)] != 1 {
		t.Errorf("%v, %v", passed, err)
	}
	for name, attempt := range map[string][2]string{
		"nobody":         {"", solo},
		"wrong password": {gateUser + ":x@", solo},
		"another name":   {right, "broker-1." + upstreamDomain},
		"an address":     {right, "127.0.0.1"},
	} {
		if conn, err := dialer(attempt[0], attempt[1]); err == nil {
			conn.Close()
			t.Errorf("%s: let in", name)
		}
	}
	cancel()
	g.stop()
	if _, err := g.used(); err == nil {
		t.Error("refusals are not told")
	}
}
