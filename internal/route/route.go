// Package route keeps the two directions of one mapping in one place: the
// names that clients use for brokers, and the addresses where those brokers
// live.
//
// A [Table] answers two questions. [Table.Learn] is called for each broker
// address found in a response: it remembers where the broker lives and returns
// the name and port that the client is to see instead. [Table.Resolve] is
// called for each connection: given the name in the TLS handshake it returns
// the addresses to dial.
//
// [Table.Save] and [Table.Load] let the routes outlive the program.
//
// The table dials nothing and knows nothing of TLS or of Kafka's bytes.
// Everything in it that grows with what a peer says has a bound; see limits.go.
package route

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
)

// Config is what a Table is made from. Upstreams are required, and Suffix or Names.
type Config struct {
	// Suffix is the domain under which clients see every broker:
	// "kafka.example" makes "bootstrap.kafka.example", "b0.kafka.example", ….
	Suffix string
	// Names are used instead of Suffix; nil for none.
	Names *Names
	// Upstreams are the bootstrap servers, in the order in which to try them.
	Upstreams []Address
	// Rule derives a broker's name from its host name; nil gives "b<id>".
	Rule *Rule
	// Covers reports whether the certificate that clients are shown is good for
	// a name; nil does not ask.
	Covers func(name string) bool
	// Log receives what is learned, and a warning for each broker whose name is
	// not the one the rule asks for or one that clients will have trouble with.
	// Nil discards.
	Log *slog.Logger
}

// Table maps broker names to brokers. Its methods may be called concurrently;
// reading what is known takes no lock.
type Table struct {
	suffix    string // under which all names are, but for those of a rule
	bootstrap string
	broker    nameTemplate // of the names that brokers have by themselves
	upstreams []Address
	rule      *Rule
	covers    func(name string) bool
	log       *slog.Logger
	lines     lineLimits
	changed   chan struct{}

	byNode sync.Map // int32 → *broker
	byName sync.Map // string → *broker, by its name and its aliases
	known  atomic.Int64

	clusterID   atomic.Pointer[string] // nil: not told yet
	unmatched   atomic.Int64
	ruleMatched atomic.Bool
	refused     atomic.Int64

	mu        sync.Mutex // held while anything above changes
	full      bool       // the warning of a full table has been logged
	listener  func(node int32, name string, addr Address)
	announced []*broker // changed, and the listener has not been told
	telling   bool      // a goroutine is telling the listener
}

// broker is one learned route.
type broker struct {
	node  int32
	state atomic.Pointer[state] // replaced as a whole, under Table.mu

	// Under Table.mu.
	announced      bool // it is in Table.announced
	warnedNoMatch  bool
	countedNoMatch bool
}

// state is what is known of a broker. It never changes.
type state struct {
	name    string
	aliases []string // earlier names that still lead to it, oldest first
	addr    Address
	// confirmed is false for what came from a file and no response has said
	// since: the broker may have moved in the meantime.
	confirmed bool
	// wanted is the name that the rule gives but another broker has: a string,
	// or nil. As an interface it is looked up without an allocation.
	wanted any
}

// New returns an empty table.
func New(c Config) (*Table, error) {
	suffix, names := normalize(c.Suffix), c.Names
	if names == nil {
		if !validName(suffix) {
			return nil, fmt.Errorf("suffix %q is not a domain name (for example kafka.example.com)", c.Suffix)
		}
		names = &Names{Bootstrap: "bootstrap." + suffix, Broker: "b" + idPlace + "." + suffix}
	} else if _, suffix, _ = strings.Cut(normalize(names.Bootstrap), "."); !validName(normalize(names.Bootstrap)) || suffix == "" {
		return nil, fmt.Errorf("the bootstrap name %q is not a host name (for example orders.kafka.example.com)", names.Bootstrap)
	}
	broker, err := parseTemplate(names.Broker)
	if err != nil {
		return nil, err
	}
	if len(c.Upstreams) == 0 {
		return nil, fmt.Errorf("no upstream: at least one host:port is needed to bootstrap from")
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Table{
		suffix:    suffix,
		bootstrap: normalize(names.Bootstrap),
		broker:    broker,
		upstreams: append([]Address(nil), c.Upstreams...),
		rule:      c.Rule,
		covers:    c.Covers,
		log:       log,
		changed:   make(chan struct{}, 1),
	}, nil
}

// Bootstrap returns the name by which clients reach the cluster first.
func (t *Table) Bootstrap() string { return t.bootstrap }

// Suffix returns the domain under which the table names brokers.
func (t *Table) Suffix() string { return t.suffix }

// Template returns the name that brokers have by themselves, with {id} for the node id.
func (t *Table) Template() string { return t.broker.String() }

// HasRule reports whether a mapping rule gives brokers names that can be any.
func (t *Table) HasRule() bool { return t.rule != nil }

// Known returns how many brokers have been learned.
func (t *Table) Known() int { return int(t.known.Load()) }

// Refused returns how often a broker was named but not stored, because the
// table was full or the broker could not be one.
func (t *Table) Refused() int64 { return t.refused.Load() }

// Unmatched returns how many known brokers have a host that the mapping rule
// does not match now; 0 without a rule.
func (t *Table) Unmatched() int { return int(t.unmatched.Load()) }

// RuleMatched reports whether the mapping rule has matched the host of any
// broker. When it is false although brokers are known, the rule is of no use.
func (t *Table) RuleMatched() bool { return t.ruleMatched.Load() }

// Changed receives when there is something new to save. Changes that nobody has
// received yet count as one.
func (t *Table) Changed() <-chan struct{} { return t.changed }

// Kind says how a name was understood.
type Kind int

const (
	// Bootstrap is the name every client knows: any upstream will do.
	Bootstrap Kind = iota
	// Broker is a name that one broker has or had.
	Broker
	// Provisional is a name that a broker can have, but none is known to. A
	// bootstrap server can serve it until the broker is learned.
	Provisional
)

// String returns "bootstrap", "broker" or "provisional".
func (k Kind) String() string {
	return [...]string{"bootstrap", "broker", "provisional"}[k]
}

// Route is where a connection goes.
type Route struct {
	Kind Kind
	// Name is the name that was asked for, in lower case, without the final dot; or the
	// broker's, where a node id was asked for.
	Name string
	// Node is the node id that was asked for, with ByNode.
	Node   int32
	ByNode bool
	// Confirmed is whether a response has told where the broker is since the
	// program began; otherwise it may have moved. False unless Kind is Broker.
	Confirmed bool
	// Addresses are the addresses to dial, in order, until one answers.
	Addresses []Address
}

// NodeOf returns the node id of the broker that a name leads to.
func (t *Table) NodeOf(name string) (node int32, ok bool) {
	b := t.owner(normalize(name))
	if b == nil {
		return 0, false
	}
	return b.node, true
}

// Resolve returns the route for the name in a TLS handshake (SNI). Case and a
// final dot do not matter. The error for a name that is not served is an
// [*UnknownNameError]; the route has the name then, or the beginning of one that
// is too long to be a name.
func (t *Table) Resolve(sni string) (Route, error) {
	if len(sni) > maxName+len(".") {
		return t.unknown(sni)
	}
	name := normalize(sni)
	if name == t.bootstrap {
		return Route{Kind: Bootstrap, Name: name, Addresses: t.upstreams}, nil
	}
	if b := t.owner(name); b != nil {
		s := b.state.Load()
		return Route{Kind: Broker, Name: name, Confirmed: s.confirmed, Addresses: []Address{s.addr}}, nil
	}
	if t.CanExist(name) {
		return Route{Kind: Provisional, Name: name, Addresses: t.upstreams}, nil
	}
	return t.unknown(name)
}

// ResolveNode returns the route to the broker with a node id.
func (t *Table) ResolveNode(node int32) Route {
	r := Route{Kind: Provisional, Node: node, ByNode: true}
	if b := t.node(node); b != nil {
		s := b.state.Load()
		r.Kind, r.Name, r.Confirmed, r.Addresses = Broker, s.name, s.confirmed, []Address{s.addr}
		return r
	}
	r.Name, r.Addresses = t.defaultName(node), t.upstreams
	return r
}

// Again resolves once more what a route was asked for.
func (t *Table) Again(r *Route) (Route, error) {
	if r.ByNode {
		return t.ResolveNode(r.Node), nil
	}
	return t.Resolve(r.Name)
}

// Knows reports whether a name is that of a known broker.
func (t *Table) Knows(name string) bool { return t.owner(normalize(name)) != nil }

// owner returns the broker that a name leads to, nil when none is known.
func (t *Table) owner(name string) *broker {
	if v, ok := t.byName.Load(name); ok {
		return v.(*broker)
	}
	// Another copy of the proxy may call a broker b<id> that this one names by
	// the rule. That can mean nobody else if the rule cannot make this name.
	if t.rule == nil {
		return nil
	}
	node, ok := t.defaultNode(name)
	if !ok || t.rule.canMake(name) {
		return nil
	}
	return t.node(node)
}

// node returns the broker with a node id, nil when none is known.
func (t *Table) node(node int32) *broker {
	if v, ok := t.byNode.Load(node); ok {
		return v.(*broker)
	}
	return nil
}

// Entry is one learned route, for reports.
type Entry struct {
	Node    int32
	Name    string
	Aliases []string // earlier names that still lead to the broker, oldest first
	Address Address
	// Confirmed is whether a response has told it since the start: a file alone does not.
	Confirmed bool
}

// Entries returns what has been learned, in no particular order. The slices in
// it belong to the table.
func (t *Table) Entries() []Entry {
	var all []Entry
	t.byNode.Range(func(_, v any) bool {
		b := v.(*broker)
		s := b.state.Load()
		all = append(all, Entry{Node: b.node, Name: s.name, Aliases: s.aliases, Address: s.addr, Confirmed: s.confirmed})
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
	if name == "" || len(name) > maxName {
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
