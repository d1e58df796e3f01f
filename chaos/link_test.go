package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"kafka-sni-proxy/internal/harness"
)

// stretch is a link with a connection through it.
type stretch struct {
	*link
	near, far *net.TCPConn // the ends
}

func newStretch(t *testing.T) *stretch {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	l, err := newLink("127.0.0.1:0", func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", ln.Addr().String())
	})
	if err != nil {
		t.Fatal(err)
	}
	near, err := net.Dial("tcp", l.addr())
	if err != nil {
		t.Fatal(err)
	}
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, conn := range []net.Conn{near, far} {
		conn.SetDeadline(time.Now().Add(20 * time.Second))
	}
	t.Cleanup(func() {
		near.Close()
		far.Close()
		l.close()
	})
	return &stretch{l, near.(*net.TCPConn), far.(*net.TCPConn)}
}

// across sends b and returns what arrives, which is as long.
func (s *stretch) across(t *testing.T, b []byte) []byte {
	t.Helper()
	if _, err := s.near.Write(b); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(b))
	if _, err := io.ReadFull(s.far, got); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestLinkPassesOnEverythingHoweverItIsCut(t *testing.T) {
	s := newStretch(t)
	sent := harness.Filler(5000)
	for _, w := range []impairment{{}, {piece: 1}, {rate: 1 << 20}, {delay: time.Millisecond}, {piece: 7, rate: 1 << 20}} {
		s.impairment.Store(&w)
		if !bytes.Equal(s.across(t, sent), sent) {
			t.Errorf("with %+v something else arrives", w)
		}
	}
}

func TestLinkDamagesOneBit(t *testing.T) {
	s := newStretch(t)
	s.across(t, []byte("x"))
	s.each(func(p *pair) { p.corrupt.Store(true) })
	sent := []byte("hello")
	wrong := 0
	for i, b := range s.across(t, sent) {
		for d := b ^ sent[i]; d != 0; d &= d - 1 {
			wrong++
		}
	}
	if wrong != 1 {
		t.Errorf("%d bits are wrong, want 1", wrong)
	}
	if !bytes.Equal(s.across(t, sent), sent) {
		t.Error("what follows is damaged too")
	}
}

func TestLinkEndsConnectionsAsItIsTold(t *testing.T) {
	s := newStretch(t)
	s.across(t, []byte("x"))
	s.each(func(p *pair) { p.budget.Store(3) })
	s.near.Write([]byte("hello"))
	if got, err := io.ReadAll(s.far); len(got) > 3 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after three bytes: %q, %v", got, err)
	}

	s = newStretch(t)
	s.across(t, []byte("x"))
	s.each((*pair).close)
	if got, err := io.ReadAll(s.far); len(got) > 0 || err != nil {
		t.Errorf("when closed: %q, %v", got, err)
	}

	s = newStretch(t)
	s.across(t, []byte("x"))
	s.each(func(p *pair) { p.halfClose(true) })
	if got, err := io.ReadAll(s.far); len(got) > 0 || err != nil {
		t.Errorf("when half-closed: %q, %v", got, err)
	}
	s.far.Write([]byte("back"))
	s.far.CloseWrite()
	if got, err := io.ReadAll(s.near); string(got) != "back" || err != nil {
		t.Errorf("the other half: %q, %v", got, err)
	}
}

func TestLinkLosesConnectionsSilently(t *testing.T) {
	s := newStretch(t)
	s.across(t, []byte("x"))
	s.each(func(p *pair) { p.lost.Store(true) })
	s.near.Write([]byte("hello"))
	s.near.CloseWrite()
	s.far.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	var timeout net.Error
	if n, err := s.far.Read(make([]byte, 1)); n > 0 || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%d bytes, %v", n, err)
	}
}
