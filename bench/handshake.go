package main

import (
	"context"
	"fmt"
	"time"

	"kafka-sni-proxy/bench/peer"
)

const (
	fullHandshakes    = "full handshakes"
	resumedHandshakes = "resumed sessions"
)

// handshakes measures short connections: TLS to the proxy, the proxy's TLS to
// the broker, one small request, and the end. Four at a time, so that the
// machine is busy.
func (r *round) handshakes(ctx context.Context) {
	for _, resume := range []bool{false, true} {
		name := fullHandshakes
		if resume {
			name = resumedHandshakes
		}
		r.each(ctx, name, r.live, func(ctx context.Context, w *running) (string, error) {
			var reply peer.HandshakesReply
			used, err := w.cost(func() (err error) {
				reply, err = r.front.client.Handshakes(ctx, peer.HandshakesArgs{
					Server: w.to, Workers: 4, Resume: resume, Duration: r.plan.Handshakes,
				})
				return err
			})
			if err != nil {
				return "", err
			}
			if reply.Connections == 0 {
				return "", fmt.Errorf("no connection in %v", reply.Elapsed)
			}
			rate := float64(reply.Connections) / reply.Elapsed.Seconds()
			r.results.add(handshakeRate, name, w.target, r.n, rate)
			r.results.add(resumedShare, name, w.target, r.n, float64(reply.Resumed)/float64(reply.Connections)*100)
			if w.pid == 0 {
				return fmt.Sprintf("%.0f/s", rate), nil
			}
			each := used.CPU / time.Duration(reply.Connections)
			r.results.add(cpuPerHandshake, name, w.target, r.n, float64(each.Microseconds())/1e3)
			return fmt.Sprintf("%.0f/s %.2f ms", rate, float64(each.Microseconds())/1e3), nil
		})
	}
}
