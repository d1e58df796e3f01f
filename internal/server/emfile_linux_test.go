package server

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kafka-sni-proxy/internal/kafkatest"
)

const (
	fewFiles = "KAFKA_SNI_PROXY_TEST_FEW_FILES"
	free     = 20 // descriptors that the proxy has, for clients and brokers
	tooMany  = 2 * free
)

// TestProxyWithFewFiles is the process that TestNoMoreFilesIsSurvived runs.
func TestProxyWithFewFiles(t *testing.T) {
	if os.Getenv(fewFiles) == "" {
		t.Skip("only with " + fewFiles)
	}
	b := echoBroker(t)
	r := start(t, b, b.Addr(), nil)
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := uint64(len(open) + free)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n}); err != nil {
		t.Fatal(err)
	}
	fmt.Println("serving", r.addr, base64.StdEncoding.EncodeToString(r.ca.PEM()))
	r.log.wait(t, "level=WARN", "cannot accept connections", "too many open files", "hint=")
	fmt.Println("full")
	waitStats(t, r.Server, "all clients have come and gone", func(s Stats) bool { return s.Accepted == tooMany && s.Active == 0 })
	fmt.Println("empty")
	io.Copy(io.Discard, os.Stdin) // until the parent has seen enough
}

// TestNoMoreFilesIsSurvived has a proxy run out of file descriptors and get them
// back.
func TestNoMoreFilesIsSurvived(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxyWithFewFiles$")
	cmd.Env = append(os.Environ(), fewFiles+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	await := func(word string) []string {
		t.Helper()
		for lines.Scan() {
			if f := strings.Fields(lines.Text()); len(f) > 0 && f[0] == word {
				return f
			}
		}
		t.Fatalf("the proxy ended before it was %s", word)
		return nil
	}
	serving := await("serving")
	pem, err := base64.StdEncoding.DecodeString(serving[2])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)

	var idle []net.Conn
	for range tooMany { // those that it cannot take wait in its queue
		c, err := net.Dial("tcp", serving[1])
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	await("full")
	for _, c := range idle {
		c.Close()
	}
	await("empty")
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 30 * time.Second}, "tcp", serving[1], &tls.Config{RootCAs: pool, ServerName: "bootstrap." + suffix})
	if err != nil {
		t.Fatalf("after it has its files back: %v", err)
	}
	c.SetDeadline(time.Now().Add(30 * time.Second))
	mustWrite(t, c, request(12, 0, 1))
	if _, err := kafkatest.ReadFrame(c); err != nil {
		t.Errorf("after it has its files back: %v", err)
	}
	c.Close()
	stdin.Close()
	io.Copy(io.Discard, stdout)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
