package server

import (
	"crypto/tls"
	"io"
	"testing"

	"kafka-sni-proxy/internal/kafkatest"
	"kafka-sni-proxy/internal/route"
)

// These benchmarks have client, proxy and broker in one process: good for a
// profile and for before and after. bench/ compares the proxy with others.

// BenchmarkRoundTrip is a request and its answer, one at a time.
func BenchmarkRoundTrip(b *testing.B) {
	for name, size := range map[string]int{"small": 100, "1MiB": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			broker := echoBroker(b)
			r := start(b, broker, broker.Addr(), nil)
			c := r.dial(b, "bootstrap."+suffix)
			frame := request(12, 0, 1, make([]byte, size))
			answer := make([]byte, len(frame)+4)
			b.SetBytes(int64(len(frame) + len(answer)))
			b.ReportAllocs()
			for b.Loop() {
				mustWrite(b, c, frame)
				if _, err := io.ReadFull(c, answer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkConnection is a client's connection with one request: two handshakes.
func BenchmarkConnection(b *testing.B) {
	for name, cache := range map[string]tls.ClientSessionCache{"full": nil, "resumed": tls.NewLRUClientSessionCache(1)} {
		b.Run(name, func(b *testing.B) {
			broker := echoBroker(b)
			r := start(b, broker, broker.Addr(), func(p *settings, _ *route.Config) {
				p.Upstream.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			})
			config := r.ca.ClientConfig()
			config.ServerName = "bootstrap." + suffix
			config.ClientSessionCache = cache
			b.ReportAllocs()
			for b.Loop() {
				c, err := tls.Dial("tcp", r.addr, config)
				if err != nil {
					b.Fatal(err)
				}
				mustWrite(b, c, request(12, 0, 1))
				if _, err := kafkatest.ReadFrame(c); err != nil {
					b.Fatal(err)
				}
				c.Close()
			}
		})
	}
}
