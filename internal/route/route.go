// Package route keeps the two directions of one mapping in one place: the
// names that clients use for brokers, and the addresses where those brokers
// live.
//
// A [Table] answers two questions. [Table.Learn] is asked for each broker
// address found in a response: it remembers where the broker lives and returns
// the name and port that the client is to see in its stead. [Table.Resolve] is
// asked for each connection: given the name in the TLS handshake it says which
// addresses to dial.
//
// [Table.Save] and [Table.Load] let the routes outlive the program.
//
// The table dials nothing and knows nothing of TLS or of Kafka's bytes.
package route

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Address is where a broker listens: a host name or IP address, and a TCP port.
type Address struct {
	Host string
	Port int32
}

// String returns "host:port", with an IPv6 host in brackets.
func (a Address) String() string {
	return net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
}

// ParseAddress reads "host:port" or "[v6]:port". The port must be 1–65535.
func ParseAddress(s string) (Address, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return Address{}, fmt.Errorf("%q is not host:port (for example broker.example.com:9092)", s)
	}
	if host == "" {
		return Address{}, fmt.Errorf("%q has no host before the port", s)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return Address{}, fmt.Errorf("%q has no valid port: want a number from 1 to 65535", s)
	}
	return Address{Host: host, Port: int32(n)}, nil
}

// Config is what a Table is made from. Suffix, Upstreams and AdvertisedPort
// are required.
type Config struct {
	// Suffix is the domain under which clients see every broker:
	// "kafka.example" makes "bootstrap.kafka.example", "b0.kafka.example", ….
	Suffix string
	// Upstreams are the bootstrap servers, in the order in which to try them.
	Upstreams []Address
	// Rule derives a broker's name from its host name; nil gives "b<id>".
	Rule *Rule
	// AdvertisedPort is the port that clients are told to use.
	AdvertisedPort int32
	// Covers reports whether the certificate that clients are shown is good for
	// a name; nil does not ask.
	Covers func(name string) bool
	// Log receives one warning for each broker whose name is not the one the
	// rule asks for, or one that clients will have trouble with. Nil discards.
	Log *slog.Logger
}

// Table maps broker names to brokers. Its methods may be called concurrently;
// reading what is known takes no lock.
type Table struct {
	suffix    string
	upstreams []Address
	rule      *Rule
	port      int32
	covers    func(name string) bool
	log       *slog.Logger
	changed   chan struct{}

	byNode sync.Map // int32 → *broker
	byName sync.Map // string → *broker
	known  atomic.Int64

	clusterID atomic.Pointer[string]

	mu      sync.Mutex // held while a route is added or changed
	onLearn func(name string, addr Address)
}

// broker is one learned route. Node and name never change; the address does
// when the broker moves.
type broker struct {
	node int32
	name string
	addr atomic.Pointer[Address]
	// confirmed is false for what came from a file and no response has said
	// since: the broker may have moved in the meantime.
	confirmed atomic.Bool
}

// New returns an empty table.
func New(c Config) (*Table, error) {
	suffix := normalize(c.Suffix)
	if !validName(suffix) {
		return nil, fmt.Errorf("suffix %q is not a domain name (for example kafka.example.com)", c.Suffix)
	}
	if len(c.Upstreams) == 0 {
		return nil, fmt.Errorf("no upstream: at least one host:port is needed to bootstrap from")
	}
	if c.AdvertisedPort < 1 || c.AdvertisedPort > 65535 {
		return nil, fmt.Errorf("advertised port %d is not within 1 to 65535", c.AdvertisedPort)
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Table{
		suffix:    suffix,
		upstreams: append([]Address(nil), c.Upstreams...),
		rule:      c.Rule,
		port:      c.AdvertisedPort,
		covers:    c.Covers,
		log:       log,
		changed:   make(chan struct{}, 1),
	}, nil
}

// Bootstrap returns the name by which clients reach the cluster first.
func (t *Table) Bootstrap() string { return "bootstrap." + t.suffix }

// Suffix returns the domain under which the table names brokers.
func (t *Table) Suffix() string { return t.suffix }

// Known returns how many brokers have been learned.
func (t *Table) Known() int { return int(t.known.Load()) }

// ClusterID returns the id of the cluster that the routes are of; "": not known.
func (t *Table) ClusterID() string {
	if id := t.clusterID.Load(); id != nil {
		return *id
	}
	return ""
}

// SetClusterID says which cluster routes are learned from, from now on. All routes of
// another one are forgotten. When none was known, what was learned before is unconfirmed.
func (t *Table) SetClusterID(id string) {
	if t.ClusterID() == id {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.ClusterID()
	t.clusterID.Store(&id)
	t.byNode.Range(func(_, v any) bool {
		b := v.(*broker)
		b.confirmed.Store(false)
		if was != "" {
			t.byNode.Delete(b.node)
			t.byName.Delete(b.name)
			t.known.Add(-1)
		}
		return true
	})
}

// Name returns the address under which clients are to see a broker, without learning
// anything.
func (t *Table) Name(node int32, host []byte) (name string, advertisedPort int32) {
	if v, ok := t.byNode.Load(node); ok {
		return v.(*broker).name, t.port
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.nameFor(node, string(host)), t.port
}

// OnLearn has f called with the name and the address of each broker that is
// learned or moves from now on, after it can be resolved. One that was loaded
// from a file is learned when a response tells of it for the first time. f must
// be set before the table is used.
func (t *Table) OnLearn(f func(name string, addr Address)) { t.onLearn = f }

// Changed receives when there is something new to save. Changes that nobody has
// received yet count as one.
func (t *Table) Changed() <-chan struct{} { return t.changed }

// Learn remembers that a broker lives at host and port, and returns the
// address under which clients are to see it. A broker keeps its name for as
// long as the table lives, wherever it moves. The host is not retained.
//
// Learning what is already known takes no lock and writes nothing.
func (t *Table) Learn(node int32, host []byte, port int32) (name string, advertisedPort int32) {
	v, ok := t.byNode.Load(node)
	if !ok {
		return t.add(node, Address{Host: string(host), Port: port}), t.port
	}
	b := v.(*broker)
	if a := b.addr.Load(); a.Port != port || a.Host != string(host) || !b.confirmed.Load() {
		t.update(b, Address{Host: string(host), Port: port})
	}
	return b.name, t.port
}

func (t *Table) add(node int32, addr Address) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if v, ok := t.byNode.Load(node); ok { // another session learned it meanwhile
		b := v.(*broker)
		t.set(b, addr)
		return b.name
	}
	b := &broker{node: node, name: t.nameFor(node, addr.Host)}
	b.addr.Store(&addr)
	b.confirmed.Store(true)
	t.put(b)
	t.log.Info("learned broker", "node", node, "name", b.name, "upstream", addr.String())
	t.announce(b)
	return b.name
}

// put makes a broker known, and warns when clients will have trouble with its
// name. The caller holds t.mu.
func (t *Table) put(b *broker) {
	if !strings.HasSuffix(b.name, "."+t.suffix) {
		t.log.Warn("broker mapping rule gives a name outside the SNI suffix; it needs its own DNS record and certificate",
			"node", b.node, "upstream", b.addr.Load().Host, "name", b.name, "suffix", t.suffix)
	}
	if t.covers != nil && !t.covers(b.name) {
		t.log.Warn("the certificate shown to clients does not cover a broker's name: clients will refuse it; add the name to --cert, or change the broker mapping rule",
			"node", b.node, "upstream", b.addr.Load().Host, "name", b.name)
	}
	t.byName.Store(b.name, b)
	t.byNode.Store(b.node, b)
	t.known.Add(1)
}

func (t *Table) update(b *broker, addr Address) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set(b, addr)
}

// set is told where a known broker lives. The caller holds t.mu.
func (t *Table) set(b *broker, addr Address) {
	was := b.addr.Load()
	moved := *was != addr
	if moved {
		b.addr.Store(&addr)
		t.log.Info("broker moved", "node", b.node, "name", b.name, "upstream", addr.String(), "was", was.String())
	}
	if first := b.confirmed.CompareAndSwap(false, true); first || moved {
		t.announce(b)
	}
}

// announce tells those who wait that a route is new. The caller holds t.mu.
func (t *Table) announce(b *broker) {
	select {
	case t.changed <- struct{}{}:
	default: // there is a change already that nobody has received
	}
	if t.onLearn != nil {
		t.onLearn(b.name, *b.addr.Load())
	}
}

// nameFor chooses the name for a new broker. Two brokers never share one:
// clients that find the same address under two node ids reconnect for ever.
// The caller holds t.mu.
func (t *Table) nameFor(node int32, host string) string {
	fallback := fmt.Sprintf("b%d.%s", node, t.suffix)
	if t.rule != nil {
		name, matched := t.rule.apply(host)
		name = normalize(name)
		switch {
		case !matched:
			// The rule speaks of other hosts: the default name is what was asked for.
		case !validName(name):
			t.log.Warn("broker mapping rule gives something that is not a host name; using the default name",
				"node", node, "upstream", host, "rule_result", name, "name", fallback)
		case !t.free(name):
			t.log.Warn("broker mapping rule gives a name that is already taken; using the default name",
				"node", node, "upstream", host, "rule_result", name, "name", fallback)
		default:
			return name
		}
	}
	// A rule may have given this very name to another broker, kafka-1 being
	// node 0 for instance.
	name := fallback
	for n := 2; !t.free(name); n++ {
		name = fmt.Sprintf("b%d-%d.%s", node, n, t.suffix)
	}
	return name
}

func (t *Table) free(name string) bool {
	_, taken := t.byName.Load(name)
	return !taken && name != t.Bootstrap()
}

// Kind says how a name was understood.
type Kind int

const (
	// Bootstrap is the name every client knows: any upstream will do.
	Bootstrap Kind = iota
	// Broker is a name that one broker owns.
	Broker
	// Provisional is a name under the suffix whose owner is not known yet. A
	// bootstrap server can serve it until the owner is learned.
	Provisional
)

// String returns "bootstrap", "broker" or "provisional".
func (k Kind) String() string {
	return [...]string{"bootstrap", "broker", "provisional"}[k]
}

// Route is where a connection goes.
type Route struct {
	Kind Kind
	// Name is the name that was asked for, in lower case, without the final dot.
	Name string
	// Node is the broker's id; -1 unless Kind is Broker.
	Node int32
	// Confirmed is whether a response has told where the broker is since the
	// program began; otherwise it may have moved. False unless Kind is Broker.
	Confirmed bool
	// Addresses are the addresses to dial, in order, until one answers.
	Addresses []Address
}

// Resolve returns the route for the name in a TLS handshake (SNI). Case and a
// final dot do not matter. The error for a name that is not served says what is.
func (t *Table) Resolve(sni string) (Route, error) {
	name := normalize(sni)
	if name == t.Bootstrap() {
		return Route{Kind: Bootstrap, Name: name, Node: -1, Addresses: t.upstreams}, nil
	}
	if v, ok := t.byName.Load(name); ok {
		b := v.(*broker)
		return Route{Kind: Broker, Name: name, Node: b.node, Confirmed: b.confirmed.Load(), Addresses: []Address{*b.addr.Load()}}, nil
	}
	if strings.HasSuffix(name, "."+t.suffix) && validName(name) {
		return Route{Kind: Provisional, Name: name, Node: -1, Addresses: t.upstreams}, nil
	}
	return Route{}, fmt.Errorf("server name %q is not served here: want %s or a broker under .%s", sni, t.Bootstrap(), t.suffix)
}

// Entry is one learned route, for reports.
type Entry struct {
	Node    int32
	Name    string
	Address Address
}

// Entries returns what has been learned, in no particular order.
func (t *Table) Entries() []Entry {
	var all []Entry
	t.byNode.Range(func(_, v any) bool {
		b := v.(*broker)
		all = append(all, Entry{Node: b.node, Name: b.name, Address: *b.addr.Load()})
		return true
	})
	return all
}

func normalize(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// validName reports whether a lower-case name can be a DNS host name (RFC 1123,
// and the underscores that people use all the same).
func validName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}
