package server

import (
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"kafka-sni-proxy/internal/kafkatest"
	"kafka-sni-proxy/internal/route"
)

// TestBrokerThatIsDownIsOneLine has many clients come for a broker that is down.
// The level is what operators have.
func TestBrokerThatIsDownIsOneLine(t *testing.T) {
	b := echoBroker(t)
	info := newLogBuffer()
	r := start(t, b, "gone.upstream.test:9092", func(p *settings, _ *route.Config) {
		p.Log = slog.New(slog.NewTextHandler(io.MultiWriter(info), &slog.HandlerOptions{Level: slog.LevelInfo}))
	})
	const clients = 100
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			if c, err := r.tryDial("bootstrap." + suffix); err == nil {
				io.ReadAll(c)
				c.Close()
			}
		})
	}
	wg.Wait()
	if _, err := r.tryDial("elsewhere.example"); err == nil {
		t.Error("a name that is not served was")
	}
	info.wait(t, "phase=route")
	if n := strings.Count(info.String(), "phase=dial"); n != 1 {
		t.Errorf("%d lines for %d failures of one kind, want 1:\n%s", n, clients, info)
	}
	waitStats(t, r.Server, "all failures are counted", func(s Stats) bool { return s.Failures["dial"] == clients }) // each after its end
}

// TestLogHasNoSecrets sends a password and a record, well and badly framed, at
// the level that logs most.
func TestLogHasNoSecrets(t *testing.T) {
	const password, payload = "correct-horse", "the-customers-data"
	b := kafkatest.StartBroker(t, "broker-0.upstream.test", kafkatest.Answer(func(f []byte) []byte {
		if f[1] == 17 { // SaslHandshake
			return kafkatest.Frame(f[4:8], be16(0), be32(1), str("PLAIN"))
		}
		if f[1] == 3 { // a response that cannot be rewritten
			return kafkatest.Frame(f[4:8], be32(1), be32(0), str(payload))
		}
		return echo(f)
	}))
	r := start(t, b, b.Addr(), nil)
	for name, send := range map[string]func(c io.ReadWriter){
		"well": func(c io.ReadWriter) {
			mustWrite(t, c, request(17, 0, 1, str("PLAIN")))
			mustRead(t, c)
			mustWrite(t, c, kafkatest.Frame([]byte("\x00user\x00"+password)))
			mustRead(t, c)
			mustWrite(t, c, request(12, 0, 2, str(payload)))
			mustRead(t, c)
		},
		"token out of place":  func(c io.ReadWriter) { mustWrite(t, c, kafkatest.Frame([]byte("\x00\x00\x00\x63"+password))) },
		"record out of place": func(c io.ReadWriter) { mustWrite(t, c, []byte(payload+payload)) },
		"produce": func(c io.ReadWriter) {
			mustWrite(t, c, request(0, 3, 1, str(payload), be16(-9), str(password)))
		},
		"response": func(c io.ReadWriter) { mustWrite(t, c, request(3, 0, 1, be32(0))) },
	} {
		c := r.dial(t, "bootstrap."+suffix)
		send(c)
		c.CloseWrite()
		io.ReadAll(c)
		_ = name
	}
	for _, sent := range []string{password, "\x00" + password, "GET /" + payload + " HTTP/1.1\r\nAuthorization: " + password + "\r\n\r\n"} {
		c := r.dialRaw(t)
		mustWrite(t, c, []byte(sent))
		io.ReadAll(c)
	}
	if err := r.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{password, payload, "correct", "customers"} {
		if strings.Contains(r.log.String(), secret) {
			t.Errorf("%q is in the log:\n%s", secret, r.log)
		}
	}
	if n := strings.Count(r.log.String(), "\n"); n < 8 {
		t.Errorf("%d lines in the log, want one for each connection:\n%s", n, r.log)
	}
}
