package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"kafka-sni-proxy/internal/kafkatest"
	"kafka-sni-proxy/internal/route"
)

// withBrokers returns a cluster whose upstream is the first broker. dial, if set, is
// called before each connection.
func withBrokers(t *testing.T, dial func(host string), brokers ...*kafkatest.Broker) *Cluster {
	t.Helper()
	up := route.Address{Host: brokers[0].Host, Port: brokers[0].Port}
	routes, err := route.New(route.Config{Suffix: "kafka.example", Upstreams: []route.Address{up}})
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{InsecureSkipVerify: true} // each broker has an authority of its own
	return New(Config{Routes: routes, TLS: config, Dial: func(ctx context.Context, host string, port int32) (net.Conn, error) {
		if dial != nil {
			dial(host)
		}
		for _, b := range brokers {
			if b.Host == host {
				return b.Dial(ctx, host, port)
			}
		}
		return nil, errors.New("nobody lives there")
	}})
}

// silentBroker hangs up at the first request.
func silentBroker(t *testing.T, host string) *kafkatest.Broker {
	return kafkatest.StartBroker(t, host, func(c net.Conn) { kafkatest.ReadFrame(c) })
}

func connect(t *testing.T, c *Cluster, name string) route.Address {
	t.Helper()
	r, err := c.Resolve(name)
	if err != nil {
		t.Fatal(err)
	}
	conn, address, err := c.Connect(t.Context(), &r)
	if err != nil {
		t.Fatal(err)
	}
	conn.CloseNow()
	return address
}

// TestConnectionIsMovedToWhatWasLearnedMeanwhile has a route be learned while a
// bootstrap server is dialed in the broker's place.
func TestConnectionIsMovedToWhatWasLearnedMeanwhile(t *testing.T) {
	boot, other := silentBroker(t, "boot.test"), silentBroker(t, "other.test")
	var c *Cluster
	dialed := 0
	c = withBrokers(t, func(host string) {
		if dialed++; dialed == 2 { // the first is the query's
			c.routes.Learn(1, []byte("other.test"), other.Port)
		}
	}, boot, other)
	if at := connect(t, c, "b1.kafka.example"); at.Host != "other.test" {
		t.Errorf("connected to %s, want the broker that was learned meanwhile", at)
	}
	if dialed != 3 {
		t.Errorf("%d connections, want 3", dialed)
	}
}

func TestWatchTellsWhatIsKnownAlready(t *testing.T) {
	for by, asked := range map[string]route.Route{
		"name":    {Name: "b1.kafka.example"},
		"node id": {Node: 1, ByNode: true},
	} {
		t.Run(by, func(t *testing.T) { watchTellsWhatIsKnown(t, asked) })
	}
}

func watchTellsWhatIsKnown(t *testing.T, asked route.Route) {
	c := withBrokers(t, nil, silentBroker(t, "boot.test"))
	c.routes.Learn(1, []byte("there.test"), 9092)
	moved := 0
	watch := func(at string) (stop func()) {
		return c.Watch(&asked, route.Address{Host: at, Port: 9092}, func() { moved++ })
	}
	stop := watch("there.test")
	if moved != 0 {
		t.Error("told that it has moved to where it is")
	}
	c.routes.Learn(1, []byte("elsewhere.test"), 9092)
	if moved != 1 {
		t.Errorf("told %d times that it has moved, want 1", moved)
	}
	stop()
	c.routes.Learn(1, []byte("further.test"), 9092)
	if moved != 1 {
		t.Error("told after it had stopped watching")
	}
	defer watch("there.test")() // learned before Watch was called
	if moved != 2 {
		t.Error("not told of what was known already")
	}
	if n := len(c.watchers.all); n != 1 {
		t.Errorf("%d names watched, want 1", n)
	}
}

func TestPausesBetweenQueries(t *testing.T) {
	c := withBrokers(t, nil, silentBroker(t, "boot.test"))
	for name, tc := range map[string]struct {
		err  error
		want time.Duration
	}{
		"answered":     {nil, time.Second},
		"not reached":  {errors.New("connection refused"), time.Second},
		"not answered": {errNotAnswered, time.Minute}, // with SASL it is a failed authentication each time
	} {
		c.noteQuery(tc.err, 0)
		if pause := time.Until(c.queries.next); pause > tc.want || pause < tc.want-500*time.Millisecond {
			t.Errorf("%s: the next query is in %v, want %v", name, pause, tc.want)
		}
	}
	for i := range 2 * maxSilent {
		c.NoteInBandQuery(false, up0)
		if paused := time.Until(c.NextInBandQuery()) > 0; paused != (i+1 >= maxSilent) {
			t.Errorf("after %d useless answers, paused is %t", i+1, paused)
		}
	}
	c.NoteInBandQuery(true, up0)
	if c.queries.silentInBand != 0 {
		t.Error("an answer is forgotten")
	}
}

// TestTLSConfigurationIsReplacedAsAWhole has the cluster with a new configuration know
// what the old one knew, and connect by its own rules.
func TestTLSConfigurationIsReplacedAsAWhole(t *testing.T) {
	boot := silentBroker(t, "boot.test")
	c := withBrokers(t, nil, boot)
	c.routes.Learn(7, []byte("boot.test"), boot.Port)
	strict := c.With(&tls.Config{})
	if strict.Brokers() != 1 {
		t.Error("what was learned is lost")
	}
	if err := strict.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("Check: %v, want that the certificate is not trusted", err)
	}
	if err := c.Check(t.Context()); err != nil {
		t.Errorf("the cluster as it was: %v", err)
	}
}

func TestConfigurationsOfBrokersAreBounded(t *testing.T) {
	b := newBrokerTLS(&tls.Config{}, nil)
	for port := range int32(2*maxConfigs + 10) {
		b.to(route.Address{Host: "b.test", Port: port})
	}
	if n := len(b.byAddress); n > maxConfigs {
		t.Errorf("%d configurations are kept", n)
	}
}
