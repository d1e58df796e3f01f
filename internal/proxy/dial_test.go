package proxy

import (
	"context"
	"net"
	"slices"
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
			r := start(t, b, "mute.upstream.test:9092,"+b.Addr(), func(p *Proxy, _ *route.Config) {
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
			if err := r.CheckUpstream(ctx); err != nil {
				t.Errorf("CheckUpstream: %v", err)
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

func TestFailedAddressesAreTriedLast(t *testing.T) {
	a, b, c := route.Address{Host: "a", Port: 1}, route.Address{Host: "b", Port: 1}, route.Address{Host: "c", Port: 1}
	all := []route.Address{a, b, c}
	var f failures
	want := func(want ...route.Address) {
		t.Helper()
		if got := f.sort(all); !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	want(a, b, c)
	f.note(b)
	want(a, c, b)
	f.note(a)
	want(c, b, a)
	f.note(c)
	want(b, a, c)
	f.forget(a)
	want(a, b, c)
	f.forget(b)
	f.forget(c)
	f.at[a] = time.Now().Add(-failureMemory) // long ago
	want(a, b, c)                            // for one to find out
	want(b, c, a)
	if all[0] != a {
		t.Error("what it was given has changed")
	}
}

func TestLastAddressHasTheWholeTime(t *testing.T) {
	p := &Proxy{DialTimeout: 9 * time.Second}
	if got := p.attemptTimeout(t.Context(), 1); got != 9*time.Second {
		t.Errorf("the last of them has %v", got)
	}
	if got := p.attemptTimeout(t.Context(), 2); got != 3*time.Second {
		t.Errorf("one with another behind it has %v", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	if got := p.attemptTimeout(ctx, 2); got > 2*time.Second {
		t.Errorf("one with another behind it and 4 s in all has %v", got)
	}
}
