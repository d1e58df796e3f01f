package main

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kafka-sni-proxy/internal/kafkatest"
)

// numbered is a heartbeat, or its answer, with this correlation id.
func numbered(frame []byte, at int, id uint32) []byte {
	frame = append([]byte(nil), frame...)
	binary.BigEndian.PutUint32(frame[at:], id)
	return frame
}

// loaded is a broker that answers heartbeats a little late, so that there are
// always some without an answer, and counts what it was asked.
type loaded struct {
	upstream string
	asked    [50]atomic.Int64 // by client
}

func newLoaded(t *testing.T) (*loaded, string) {
	t.Helper()
	c := newCluster(t) // for its directory
	authority := kafkatest.NewAuthority("loaded")
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{authority.Server(brokerName)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	b := &loaded{upstream: net.JoinHostPort(brokerName, port)}
	if err := os.WriteFile(filepath.Join(c.dir, "upstream_ca.pem"), authority.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go b.serve(conn)
		}
	}()
	return b, c.dir
}

// serve answers in order. The first byte of an id is the client's number.
func (b *loaded) serve(conn net.Conn) {
	defer conn.Close()
	owed := make(chan uint32, 1000)
	go func() {
		for id := range owed {
			time.Sleep(200 * time.Microsecond) // a broker's work
			conn.Write(numbered(heartbeatResponse, 4, id))
		}
		conn.(*tls.Conn).CloseWrite()
	}()
	defer close(owed)
	for {
		frame, err := kafkatest.ReadFrame(conn)
		if err != nil {
			return
		}
		id := binary.BigEndian.Uint32(frame[4:])
		b.asked[id>>24].Add(1)
		owed <- id
	}
}

// Fifty clients keep requests under way all the time. Whenever the signal comes:
// each request that has reached the broker is answered, and after the last
// answer the client sees a proper end.
func TestNoRequestGoesWithoutItsAnswerWhenALoadedProxyDrains(t *testing.T) {
	b, dir := newLoaded(t)
	p := launch(t, dir, "--upstream", b.upstream, "--hosts-file", "hosts", "--upstream-ca-certs", "upstream_ca.pem")
	busy := make(chan struct{}, len(b.asked)) // one for each client that has had some answers
	var clients sync.WaitGroup
	for n := range b.asked {
		conn := p.connect(false)
		clients.Go(func() {
			answered, err := converse(conn, uint32(n)<<24, func() { busy <- struct{}{} })
			if err != io.EOF {
				t.Errorf("client %d: after %d answers: %v, want a proper end", n, answered, err)
			}
			if asked := b.asked[n].Load(); answered != asked {
				t.Errorf("client %d: the broker got %d requests, and the client %d answers", n, asked, answered)
			}
		})
	}
	for range b.asked {
		select {
		case <-busy:
		case <-time.After(20 * time.Second):
			t.Fatal("the clients do not get on")
		}
	}
	p.signal(syscall.SIGTERM)
	clients.Wait()
	p.end(0)
	if !strings.Contains(p.log.String(), "drained") || strings.Contains(p.log.String(), "level=WARN") {
		t.Errorf("the log:\n%s", p.log.String())
	}
}

// converse sends one request after the other, some ahead of their answers, until
// the other side ends the connection. It returns how many were answered, and how
// it ended.
func converse(conn net.Conn, first uint32, busy func()) (answered int64, err error) {
	defer conn.Close()
	ahead := make(chan struct{}, 8)
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for id := first; ; id++ {
			select {
			case ahead <- struct{}{}:
			case <-ended:
				return
			}
			if _, err := conn.Write(numbered(heartbeat, 8, id)); err != nil {
				return // what was read counts
			}
		}
	}()
	for ; ; answered++ {
		frame, err := kafkatest.ReadFrame(conn)
		if err != nil {
			return answered, err
		}
		if want := first + uint32(answered); binary.BigEndian.Uint32(frame) != want {
			return answered, fmt.Errorf("an answer to %x, when %x is next", frame[:4], want)
		}
		<-ahead
		if answered == 20 {
			busy()
		}
	}
}
