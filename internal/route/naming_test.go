package route

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

// namesOnly returns a table whose names one wildcard certificate covers with those of
// other clusters.
func namesOnly(t *testing.T) *Table {
	t.Helper()
	tab, err := New(Config{
		Names:     &Names{Bootstrap: "Audit.kafka.example.", Broker: "b{id}-audit.kafka.example"},
		Upstreams: []Address{{"boot.up", 9092}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func TestNamesOfOnesOwnAreServedAndNoOthers(t *testing.T) {
	tab := namesOnly(t)
	learn(t, tab, 7, "x7.up", "b7-audit.kafka.example")
	for name, want := range map[string]string{
		"audit.kafka.example":              "bootstrap",
		"b7-audit.kafka.example":           "x7.up",
		"B7-AUDIT.kafka.example.":          "x7.up",
		"b8-audit.kafka.example":           "provisional",
		"b2147483647-audit.kafka.example":  "provisional",
		"b2147483648-audit.kafka.example":  "unknown",
		"b07-audit.kafka.example":          "unknown",
		"b-audit.kafka.example":            "unknown",
		"b7.kafka.example":                 "unknown",
		"bootstrap.kafka.example":          "unknown",
		"b7-orders.kafka.example":          "unknown",
		"b7-audit.kafka.example.elsewhere": "unknown",
	} {
		if got := resolves(tab, name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	_, err := tab.Resolve("b7-orders.kafka.example")
	if err == nil || !strings.Contains(err.Error(), "want audit.kafka.example or a broker's name, b<id>-audit.kafka.example") {
		t.Error(err)
	}
}

func TestNamesThatCannotBeToldApartAreRefused(t *testing.T) {
	up := []Address{{"boot.up", 9092}}
	for _, names := range []Names{
		{"", "b{id}.kafka.example"},
		{"kafka", "b{id}.kafka.example"},
		{"boot strap.example", "b{id}.kafka.example"},
		{"audit.example", "broker.kafka.example"},
		{"audit.example", "b{id}-{id}.kafka.example"},
		{"audit.example", "b1{id}.kafka.example"},
		{"audit.example", "b{id}1.kafka.example"},
		{"audit.example", "b{id}..example"},
		{"audit.example", strings.Repeat("b", 60) + "{id}.kafka.example"},
	} {
		if _, err := New(Config{Names: &names, Upstreams: up}); err == nil {
			t.Errorf("%+v is taken", names)
		}
	}
}

func TestRoutesOfOtherNamesAreSetAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "routes")
	tab := namesOnly(t)
	learn(t, tab, 7, "x7.up", "b7-audit.kafka.example")
	if err := tab.Save(path); err != nil {
		t.Fatal(err)
	}
	again := namesOnly(t)
	if err := again.Load(path); err != nil || again.Known() != 1 {
		t.Errorf("%v, %d brokers", err, again.Known())
	}
	other, err := New(Config{Suffix: "kafka.example", Upstreams: []Address{{"boot.up", 9092}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Load(path); err != nil || other.Known() != 0 {
		t.Errorf("%v, %d brokers", err, other.Known())
	}
}

func TestEachBrokerHasThePortOfItsNodeID(t *testing.T) {
	ports := &Ports{Host: "localhost", First: 9193, Last: 9195, FirstNode: 100}
	for node, want := range map[int32]int32{100: 9193, 101: 9194, 102: 9195} {
		host, port, err := ports.Address(node, "ignored")
		if err != nil || host != "localhost" || port != want || ports.Node(port) != node {
			t.Errorf("node %d: %s:%d, %v, and back %d", node, host, port, err, ports.Node(port))
		}
	}
	for _, node := range []int32{-1, 0, 99, 103, 1<<31 - 1, -1 << 31} {
		host, port, err := ports.Address(node, "b0.upstream.test")
		var none *NoPortError
		if !errors.As(err, &none) || none.Node != node || host != "" || port != 0 {
			t.Errorf("node %d: %s:%d, %v", node, host, port, err)
		}
	}
	if _, _, err := ports.Address(103, ""); err == nil || err.Error() != "broker 103 has no port: 9193-9195 are for the node ids 100 to 102" {
		t.Error(err)
	}
}

func TestNodesAreResolvedWhateverTheirNames(t *testing.T) {
	tab, _ := table(t, hostRule)
	if r := tab.ResolveNode(1); r.Kind != Provisional || !r.ByNode || r.Node != 1 || len(r.Addresses) != 2 {
		t.Errorf("%+v", r)
	}
	learn(t, tab, 1, "x1.up", "x1.kafka.example")
	r := tab.ResolveNode(1)
	if r.Kind != Broker || !r.Confirmed || r.Name != "x1.kafka.example" || r.Addresses[0].Host != "x1.up" {
		t.Errorf("%+v", r)
	}
	learn(t, tab, 1, "y1.up", "y1.kafka.example")
	if r, err := tab.Again(&r); err != nil || r.Addresses[0].Host != "y1.up" || r.Name != "y1.kafka.example" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestChangedSettingsKeepWhatIsKnown(t *testing.T) {
	old, _ := table(t, "")
	old.SetClusterID("one")
	learn(t, old, 1, "x1.up", "b1.kafka.example")
	learn(t, old, 2, "x2.up", "b2.kafka.example")
	up := []Address{{"boot3.up", 1}, {"boot2.up", 9093}}

	same, err := New(Config{Suffix: "kafka.example", Upstreams: up})
	if err != nil {
		t.Fatal(err)
	}
	same.Adopt(old)
	if r, _ := same.Resolve("b1.kafka.example"); r.Kind != Broker || r.Confirmed || r.Addresses[0].Host != "x1.up" || same.ClusterID() != "one" {
		t.Errorf("%+v, id %q", r, same.ClusterID())
	}

	rule, err := ParseRule(hostRule)
	if err != nil {
		t.Fatal(err)
	}
	renamed, err := New(Config{Suffix: "kafka.example", Rule: rule, Upstreams: up})
	if err != nil {
		t.Fatal(err)
	}
	renamed.Adopt(old)
	if got := resolves(renamed, "x2.kafka.example"); got != "x2.up" || renamed.Known() != 2 {
		t.Errorf("x2 leads to %s, %d known", got, renamed.Known())
	}

	elsewhere, err := New(Config{Suffix: "kafka.example", Upstreams: []Address{{"other.up", 1}}})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere.Adopt(old)
	if elsewhere.Known() != 0 || elsewhere.ClusterID() != "" {
		t.Error("another cluster's brokers are taken over")
	}
}
