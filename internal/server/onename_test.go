package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"kafka-sni-proxy/internal/kafkatest"
	"kafka-sni-proxy/internal/route"
)

// TestClientsWithOneNameForAllBrokersAreWarnedAboutOnce has clients that send the
// bootstrap name to every broker, as some Node.js and Go set-ups do.
func TestClientsWithOneNameForAllBrokersAreWarnedAboutOnce(t *testing.T) {
	for brokers, want := range map[int]int{3: 1, 1: 0} {
		t.Run(fmt.Sprint(brokers, " brokers"), func(t *testing.T) {
			c := kafkatest.Start(t, kafkatest.Options{Brokers: brokers, Topics: map[string]int32{"t": 1}})
			if brokers > 1 {
				if err := c.Kafka.MoveTopicPartition("t", 0, 2); err != nil { // not the first upstream
					t.Fatal(err)
				}
			}
			r := start(t, c, strings.Split(c.Bootstrap(), ",")[0], func(p *settings, _ *route.Config) { p.IdleTimeout = time.Minute })
			fixed := func(ctx context.Context, _, _ string) (net.Conn, error) {
				config := r.ca.ClientConfig()
				config.ServerName = "bootstrap." + suffix
				return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", r.addr)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			produced := make(chan error, 2)
			for range 2 {
				client, err := kgo.NewClient(kgo.SeedBrokers("bootstrap."+suffix+":9092"), kgo.Dialer(fixed), kgo.DefaultProduceTopic("t"),
					kgo.MetadataMinAge(10*time.Millisecond), kgo.MaxVersions(kversion.V3_8_0()), kgo.RetryBackoffFn(func(int) time.Duration { return time.Millisecond }))
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				client.Produce(ctx, kgo.StringRecord("x"), func(_ *kgo.Record, err error) { produced <- err })
			}
			if want == 0 {
				for range 2 {
					if err := <-produced; err != nil {
						t.Error(err)
					}
				}
			} else {
				waitStats(t, r.Server, "both have been told often", func(s Stats) bool { return s.Responses > 100 })
			}
			if err := r.Shutdown(testContext(t)); err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(r.log.String(), `level=WARN msg="a client asks for partitions of other brokers`); n != want {
				t.Errorf("%d warnings, want %d:\n%.2000s", n, want, r.log)
			}
			if n := r.Stats().OneNameClients; n != int64(want) {
				t.Errorf("%d clients counted", n)
			}
		})
	}
}

func TestClientsThatWereWarnedAboutAreBounded(t *testing.T) {
	var o oneName
	warned := 0
	for i := range 2 * maxOneName {
		if o.first(&net.TCPAddr{IP: net.IPv4(10, 0, byte(i>>8), byte(i))}) {
			warned++
		}
	}
	if warned != maxOneName || len(o.seen) != maxOneName {
		t.Errorf("%d warned about, %d remembered", warned, len(o.seen))
	}
	if o.first(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 0)}) || o.first(&net.UnixAddr{}) {
		t.Error("warned twice, or of what has no address")
	}
}
