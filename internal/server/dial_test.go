package server

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"kafka-sni-proxy/internal/route"
)

// TestUpstreamThatDoesNotAnswerLeavesTimeForTheNext has the first upstream
// swallow packets, or accept connections and say nothing.
func TestUpstreamThatDoesNotAnswerLeavesTimeForTheNext(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	for name, dial := range map[string]func(ctx context.Context) (net.Conn, error){
		"no connection": func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		"no TLS": func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", mute.Addr().String())
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := echoBroker(t)
			var dialed atomic.Int32
			r := start(t, b, "mute.upstream.test:9092,"+b.Addr(), func(p *settings, _ *route.Config) {
				p.Dial = func(ctx context.Context, host string, port int32) (net.Conn, error) {
					if host == b.Host {
						return b.Dial(ctx, host, port)
					}
					dialed.Add(1)
					return dial(ctx)
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second) // less than an attempt may take
			defer cancel()
			if err := r.cluster.Check(ctx); err != nil {
				t.Errorf("Check: %v", err)
			}
			for range 3 { // who come now do not even try it
				c := r.dial(t, "bootstrap."+suffix)
				mustWrite(t, c, request(12, 0, 1))
				mustRead(t, c)
			}
			if n := dialed.Load(); n != 1 {
				t.Errorf("it was tried %d times, want 1", n)
			}
		})
	}
}
