package cluster

import (
	"bytes"
	"crypto/tls"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"kafka-sni-proxy/internal/route"
)

var (
	up0    = route.Address{Host: "up0.test", Port: 9092}
	up1    = route.Address{Host: "up1.test", Port: 9092}
	broker = route.Address{Host: "broker.test", Port: 9092}
)

// newTestCluster returns a cluster with two upstreams, of which nothing is known.
func newTestCluster(t *testing.T) (*Cluster, *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	routes, err := route.New(route.Config{Suffix: "kafka.example", Upstreams: []route.Address{up0, up1}})
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{Routes: routes, TLS: &tls.Config{}, Log: slog.New(slog.NewTextHandler(log, nil))}), log
}

// tells has the broker at an address tell an id, then where node 1 is.
func tells(c *Cluster, from route.Address, id string, node1 string) error {
	names, clusterID := c.Learner(from, route.OnePort(9092))
	if err := clusterID([]byte(id)); err != nil {
		return err
	}
	names(1, []byte(node1), 9092)
	return nil
}

func whereIs1(t *testing.T, c *Cluster) string {
	t.Helper()
	r, err := c.Resolve("b1.kafka.example")
	if err != nil {
		t.Fatal(err)
	}
	return r.Addresses[0].Host
}

func wantOther(t *testing.T, err error, a route.Address, got, want string) {
	t.Helper()
	var other *OtherClusterError
	if !errors.As(err, &other) || *other != (OtherClusterError{a, got, want}) {
		t.Fatalf("%v: want that %s belongs to %s and not to %s", err, a, got, want)
	}
}

func TestNothingIsLearnedFromAnotherCluster(t *testing.T) {
	c, log := newTestCluster(t)
	if err := tells(c, up0, "A", "a1.test"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		wantOther(t, tells(c, up1, "B", "b1.test"), up1, "B", "A")
	}
	if where := whereIs1(t, c); where != "a1.test" {
		t.Errorf("node 1 is at %s", where)
	}
	if n := strings.Count(log.String(), "leads to another cluster"); n != 1 {
		t.Errorf("%d lines, want 1:\n%s", n, log)
	}
	if c.Others() != 1 {
		t.Errorf("%d addresses of other clusters", c.Others())
	}
	if admitted, refused := c.identity.admit([]route.Address{up0, up1}); !slices.Equal(admitted, []route.Address{up0}) || len(refused) != 1 {
		t.Errorf("admitted %v, refused %v", admitted, refused)
	}
}

// TestAddressOfAnotherClusterIsTriedAgainAndAskedFirst: DNS may have been put right.
func TestAddressOfAnotherClusterIsTriedAgainAndAskedFirst(t *testing.T) {
	c, log := newTestCluster(t)
	tells(c, up0, "A", "a1.test")
	tells(c, up1, "B", "b1.test")
	c.identity.others[up1] = otherID{id: "B", until: time.Now()} // its time is over
	if admitted, refused := c.identity.admit([]route.Address{up1, up0}); !slices.Equal(admitted, []route.Address{up0, up1}) || len(refused) != 0 {
		t.Errorf("admitted %v, refused %v: want both, the suspect last", admitted, refused)
	}
	wantOther(t, c.Suspect(up1), up1, "B", "A")
	if c.identity.settled.Load() != nil {
		t.Error("there is nothing to look at while an address tells another id")
	}
	if err := tells(c, up1, "A", "a1.test"); err != nil || c.Suspect(up1) != nil || c.Others() != 0 {
		t.Errorf("%v, %v: want it to be trusted again", err, c.Suspect(up1))
	}
	if settled := c.identity.settled.Load(); settled == nil || *settled != "A" {
		t.Error("each response is still looked at, though all addresses tell the same id")
	}
	if !strings.Contains(log.String(), "right cluster again") {
		t.Errorf("log:\n%s", log)
	}
}

func TestReplacedClusterIsTakenOverOnlyWhenAskedTo(t *testing.T) {
	c, log := newTestCluster(t)
	tells(c, up0, "A", "a1.test")
	for range 2 {
		wantOther(t, tells(c, up0, "B", "b1.test"), up0, "B", "A")
		wantOther(t, tells(c, up1, "B", "b1.test"), up1, "B", "A")
	}
	if n := strings.Count(log.String(), "the cluster was replaced"); n != 1 {
		t.Errorf("%d lines, want 1:\n%s", n, log)
	}
	c.Reconsider()
	wantOther(t, tells(c, up1, "B", "b1.test"), up1, "B", "A") // the other one may still tell A
	if err := tells(c, up0, "B", "b1.test"); err != nil {
		t.Fatalf("all upstreams tell it: %v", err)
	}
	if where := whereIs1(t, c); where != "b1.test" {
		t.Errorf("node 1 is at %s", where)
	}
	wantOther(t, tells(c, broker, "A", "a1.test"), broker, "A", "B")
}

func TestReconsideringKeepsTheClusterThatIsThere(t *testing.T) {
	c, _ := newTestCluster(t)
	tells(c, up0, "A", "a1.test")
	c.Reconsider()
	tells(c, up0, "A", "a1.test")
	wantOther(t, tells(c, up1, "B", "b1.test"), up1, "B", "A")
	if where := whereIs1(t, c); where != "a1.test" {
		t.Errorf("node 1 is at %s", where)
	}
}

// TestUnverifiedConnectionTeachesNothing: FindCoordinator, Produce and Fetch tell
// addresses and no cluster id.
func TestUnverifiedConnectionTeachesNothing(t *testing.T) {
	c, _ := newTestCluster(t)
	tells(c, up0, "A", "a1.test")
	names, clusterID := c.Learner(up1, route.OnePort(9092))
	if name, port, _ := names(1, []byte("b1.test"), 9092); name != "b1.kafka.example" || port != 9092 {
		t.Errorf("the client is told %s:%d", name, port)
	}
	if name, _, _ := names(2, []byte("b2.test"), 9092); name != "b2.kafka.example" {
		t.Errorf("the client is told %s", name)
	}
	if where := whereIs1(t, c); where != "a1.test" || c.Brokers() != 1 {
		t.Errorf("node 1 is at %s, %d brokers", where, c.Brokers())
	}
	if err := clusterID([]byte("A")); err != nil {
		t.Fatal(err)
	}
	names(1, []byte("moved.test"), 9092)
	if where := whereIs1(t, c); where != "moved.test" {
		t.Errorf("node 1 is at %s, though the connection is verified", where)
	}
}

// TestClustersWithoutAnIDAreLearnedFrom: Metadata before version 2 has none.
func TestClustersWithoutAnIDAreLearnedFrom(t *testing.T) {
	c, _ := newTestCluster(t)
	names, _ := c.Learner(up0, route.OnePort(9092))
	names(1, []byte("a1.test"), 9092)
	if where := whereIs1(t, c); where != "a1.test" {
		t.Errorf("node 1 is at %s", where)
	}
}

func TestAddressesOfOtherClustersAreBounded(t *testing.T) {
	c, _ := newTestCluster(t)
	tells(c, up0, "A", "a1.test")
	for port := range int32(2 * maxOthers) {
		if tells(c, route.Address{Host: "x", Port: port}, "B", "b1.test") == nil {
			t.Fatal("learned")
		}
	}
	if c.Others() > maxOthers {
		t.Errorf("%d remembered", c.Others())
	}
}

func TestIDsAreCutToWhatAnIDMayBe(t *testing.T) {
	c, log := newTestCluster(t)
	if err := tells(c, up0, "A", "a1.test"); err != nil {
		t.Fatal(err)
	}
	tells(c, up1, strings.Repeat("B", 1<<20), "b1.test")
	if log.Len() > 10_000 || len(c.identity.others[up1].id) > maxID {
		t.Errorf("%d bytes in the log, an id of %d is kept", log.Len(), len(c.identity.others[up1].id))
	}
}
