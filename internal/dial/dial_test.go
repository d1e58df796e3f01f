package dial

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"kafka-sni-proxy/internal/hosts"
)

func table(t *testing.T, text string) *hosts.Table {
	t.Helper()
	table, err := hosts.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// listener accepts and closes connections on 127.0.0.1.
func listener(t *testing.T) (port int32) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	return int32(ln.Addr().(*net.TCPAddr).Port)
}

func TestEveryAddressInTheHostsFileIsTried(t *testing.T) {
	port := listener(t) // on 127.0.0.1 alone: 127.0.0.2 and ::1 refuse
	d := New(table(t, "127.0.0.2 ::1 127.0.0.1 b0.upstream.test\n127.0.0.2 ::1 b1.upstream.test"), nil)
	conn, err := d.Dial(t.Context(), "b0.upstream.test", port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.RemoteAddr().(*net.TCPAddr).IP.String(); got != "127.0.0.1" {
		t.Errorf("connected to %s", got)
	}
	_, err = d.Dial(t.Context(), "b1.upstream.test", port)
	if err == nil || !strings.Contains(err.Error(), "127.0.0.2") || !strings.Contains(err.Error(), "[::1]") {
		t.Errorf("error %v, want one that names both addresses", err)
	}
}

func TestHostsFileBeatsDNSAndLeavesTheRestToIt(t *testing.T) {
	port := listener(t)
	d := New(table(t, "127.0.0.2 localhost"), nil)
	if conn, err := d.Dial(t.Context(), "localhost", port); err == nil {
		t.Errorf("localhost led to %s, past the hosts file", conn.RemoteAddr())
	}
	for _, d := range []*Dialer{New(table(t, "127.0.0.2 other"), nil), New(nil, nil)} {
		conn, err := d.Dial(t.Context(), "localhost", port)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
}

// TestAddressesThatSwallowPacketsAreNotWaitedFor: nothing here ends an attempt
// but that another one is through.
func TestAddressesThatSwallowPacketsAreNotWaitedFor(t *testing.T) {
	port := listener(t)
	d := New(table(t, "127.0.0.2 127.0.0.3 127.0.0.1 b0.upstream.test"), nil)
	letGo := make(chan struct{}, 2)
	d.net.ControlContext = func(ctx context.Context, _, address string, _ syscall.RawConn) error {
		if strings.HasPrefix(address, "127.0.0.1:") {
			return nil
		}
		<-ctx.Done()
		letGo <- struct{}{}
		return ctx.Err()
	}
	conn, err := d.Dial(t.Context(), "b0.upstream.test", port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.RemoteAddr().(*net.TCPAddr).IP.String(); got != "127.0.0.1" {
		t.Errorf("connected to %s", got)
	}
	<-letGo
	<-letGo
}

func TestDialingEndsWithItsContext(t *testing.T) {
	d := New(table(t, "127.0.0.2 127.0.0.3 b0.upstream.test"), nil)
	ctx, cancel := context.WithCancel(t.Context())
	d.net.ControlContext = func(ctx context.Context, _, _ string, _ syscall.RawConn) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	if _, err := d.Dial(ctx, "b0.upstream.test", 1); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
