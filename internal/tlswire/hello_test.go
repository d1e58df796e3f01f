package tlswire

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"kafka-sni-proxy/internal/kafkatest"
)

// helloWith returns the record of a ClientHello with this server name, which may be
// one that crypto/tls does not send.
func helloWith(t testing.TB, name string) []byte {
	t.Helper()
	placeholder := strings.Repeat("n", len(name))
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	go tls.Client(client, &tls.Config{ServerName: placeholder, InsecureSkipVerify: true}).Handshake()
	header := make([]byte, recordHeader)
	if _, err := io.ReadFull(server, header); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, recordLen(header)-recordHeader)
	if _, err := io.ReadFull(server, body); err != nil {
		t.Fatal(err)
	}
	return append(header, bytes.Replace(body, []byte(placeholder), []byte(name), 1)...)
}

func TestServerNameOfARefusedHelloIsKnown(t *testing.T) {
	const name = "bootstrap.kafka.example." // which crypto/tls does not take
	server, raw := rawPair(t)
	raw.Write(helloWith(t, name))
	if err := server.HandshakeContext(context.Background()); err == nil {
		t.Fatal("the handshake went well")
	}
	if got := server.HelloServerName(); got != name {
		t.Errorf("HelloServerName() = %q, want %q", got, name)
	}
}

func TestServerNameIsFoundInRecordsCutAnywhere(t *testing.T) {
	const name = "bootstrap.kafka.example."
	record := helloWith(t, name)
	payload := record[recordHeader:]
	for at := 1; at < len(payload); at += 7 {
		var records []byte
		for _, fragment := range [][]byte{payload[:at], payload[at:]} {
			records = append(records, typeHandshake, 3, 1, byte(len(fragment)>>8), byte(len(fragment)))
			records = append(records, fragment...)
		}
		if got := string(helloServerName(records)); got != name {
			t.Fatalf("cut at %d: %q", at, got)
		}
	}
	for n := range record {
		if got := helloServerName(record[:n]); got != nil {
			t.Fatalf("%d of %d bytes: %q", n, len(record), got)
		}
	}
}

func FuzzHelloServerName(f *testing.F) {
	f.Add(helloWith(f, "bootstrap.kafka.example."))
	f.Fuzz(func(t *testing.T, records []byte) {
		if name := helloServerName(records); len(name) > len(records) {
			t.Errorf("a name of %d bytes in %d", len(name), len(records))
		}
	})
}

// rawPair returns a server's end before its handshake, and the client's socket.
func rawPair(t testing.TB) (*Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close(); conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	raw.SetDeadline(time.Now().Add(30 * time.Second))
	return Server(conn, kafkatest.NewAuthority("tlswire").ServerConfig(suffix)), raw
}

// TestPlaintextAlertsAreNamed has a client that sends an alert without encryption
// after the server's flight, as OpenSSL does in TLS 1.3 when it refuses a certificate.
func TestPlaintextAlertsAreNamed(t *testing.T) {
	for alert, want := range map[byte]string{
		42: "remote error: tls: bad certificate",
		48: "remote error: tls: unknown certificate authority",
		90: "remote error: tls: user canceled",
		0:  io.EOF.Error(),
	} {
		server, raw := rawPair(t)
		raw.Write(helloWith(t, "b0."+suffix))
		go func() {
			flight := make([]byte, 1)
			io.ReadFull(raw, flight) // the server has its keys
			raw.Write([]byte{typeAlert, 3, 3, 0, 2, levelFatal, alert})
		}()
		err := server.HandshakeContext(context.Background())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("alert %d: %v, want %q in it", alert, err, want)
		}
		got, ok := RemoteAlert(err)
		if ok != (alert != 0) || ok && got != tls.AlertError(alert) {
			t.Errorf("RemoteAlert(%v) = %d, %v", err, got, ok)
		}
	}
}

func TestRemoteAlertIsThatOfThePeer(t *testing.T) {
	server, raw := rawPair(t)
	client := tls.Client(raw, &tls.Config{ServerName: "b0." + suffix}) // which does not know the authority
	go client.Handshake()
	err := server.HandshakeContext(context.Background())
	if alert, ok := RemoteAlert(err); !ok || alert != 42 {
		t.Errorf("RemoteAlert(%v) = %d, %v, want that of a bad certificate", err, alert, ok)
	}
	for _, other := range []error{nil, io.EOF, errors.New("remote error: tls: bad certificate"), &net.OpError{Op: "local error", Err: tls.AlertError(42)}} {
		if alert, ok := RemoteAlert(other); ok {
			t.Errorf("RemoteAlert(%v) = %d", other, alert)
		}
	}
}
