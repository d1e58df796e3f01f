package main

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// TestForgottenConnectionsHearNothing wants a balancer that forgets to pass bytes on while a
// connection is in use, and nothing, not even the end, once it has been idle.
func TestForgottenConnectionsHearNothing(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	// One remembers for longer than the test takes, the other one for no time at all.
	for name, c := range map[string]struct {
		after time.Duration
		heard bool
	}{"in use": {time.Hour, true}, "idle": {0, false}} {
		t.Run(name, func(t *testing.T) {
			f, err := newForgetful("127.0.0.1:0", echo.Addr().String(), c.after)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := net.Dial("tcp", f.listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			limit := 10 * time.Second
			if !c.heard {
				limit = 200 * time.Millisecond // nothing is to come
			}
			_ = conn.SetReadDeadline(time.Now().Add(limit))
			n, err := conn.Read(make([]byte, 1))
			if c.heard && n != 1 || !c.heard && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("read %d bytes, %v", n, err)
			}
			f.stop()
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the balancer is stopped, and the connection: %v", err)
			}
		})
	}
}
