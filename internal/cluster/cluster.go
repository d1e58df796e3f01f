// Package cluster is one Kafka cluster as the proxy knows it: where its brokers are,
// how to get to them, and which cluster they belong to.
//
// A [Cluster] resolves the name that a client asks for ([Cluster.Resolve]), connects to
// where it leads ([Cluster.Connect]), learns from responses ([Cluster.Learner]), asks
// the cluster itself what it does not know ([Cluster.Query]), and says whether the
// cluster can be reached ([Cluster.Check]).
//
// The package knows nothing of clients, sessions and listeners. A caller that wants to
// hear of a change registers a function ([Cluster.Watch]).
package cluster

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"sync"
	"time"

	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/sasl"
	"kafka-sni-proxy/internal/tlswire"
)

// Config is what a Cluster is made from. Routes is required.
type Config struct {
	// Name is what the cluster is called in the log and in metrics.
	Name string

	// Routes says where names lead, and learns from responses. The cluster is its
	// only user: it takes the table's OnLearn.
	Routes *route.Table

	// TLS is the configuration towards brokers: root CAs, and a client certificate
	// where brokers want one. ServerName is set for each broker. Nil connects in plaintext.
	TLS *tls.Config

	// Dial opens a TCP connection to a broker, trying every address that the host
	// name has. Nil uses a net.Dialer.
	Dial func(ctx context.Context, host string, port int32) (net.Conn, error)

	// DialTimeout bounds each attempt to reach a broker, TCP and TLS together. An
	// attempt that has others behind it gets a third. 0: 10 s.
	DialTimeout time.Duration

	// MaxFrameBytes is the longest response accepted. 0: 100 MiB.
	MaxFrameBytes int

	// IsSelf reports whether a certificate is the proxy's own. A broker that shows it
	// is the proxy, or a copy of it, and is refused. Nil: nothing is refused.
	IsSelf func(*x509.Certificate) bool

	// IsOwnSocket reports whether a connection to a broker leads to a socket that the proxy
	// listens on. It is asked in plaintext, where there is no certificate. Nil: none does.
	IsOwnSocket func(to net.Conn) bool

	// Login begins an exchange in which the proxy logs in at a broker, before it asks something
	// of its own; a nil exchange: none is wanted. Nil: none ever is.
	Login func(ctx context.Context, broker route.Address) (sasl.Client, error)

	// Log gets what an operator acts on. Nil discards.
	Log *slog.Logger
}

// Cluster is made by New. Its methods may be called concurrently.
type Cluster struct {
	*knowledge
	config Config
	tls    *brokerTLS
}

// knowledge is what a cluster has learned. It outlives a change of configuration.
type knowledge struct {
	routes   *route.Table
	failures failures
	queries  queries
	identity identity
	watchers watchers
	health   health
	counts   counts
	offers   offers
}

// New returns a cluster of which nothing is known but what its routes have.
func New(config Config) *Cluster {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	k := &knowledge{routes: config.Routes}
	k.identity.init(config.Routes, config.Log)
	config.Routes.OnLearn(k.learned)
	return (&Cluster{knowledge: k, config: config}).With(config.TLS)
}

// With returns the same cluster with another TLS configuration towards its brokers.
// Connections of the old one go on, and what is learned by one is known to both.
//
// TLS sessions are as the configuration's ClientSessionCache remembers them, their
// client certificate included: a new certificate wants a new cache.
func (c *Cluster) With(config *tls.Config) *Cluster {
	changed := *c
	changed.config.TLS = config
	changed.tls = nil
	if config != nil {
		changed.tls = newBrokerTLS(config, c.config.IsSelf)
	}
	return &changed
}

// Resolve returns the route for a name that a client asks for. See
// [route.Table.Resolve].
func (c *Cluster) Resolve(name string) (route.Route, error) { return c.routes.Resolve(name) }

// ResolveNode returns the route to the broker with a node id.
func (c *Cluster) ResolveNode(node int32) route.Route { return c.routes.ResolveNode(node) }

// Again resolves once more what a route was asked for.
func (c *Cluster) Again(r *route.Route) (route.Route, error) { return c.routes.Again(r) }

// Name returns what the cluster is called in the log and in metrics.
func (c *Cluster) Name() string { return c.config.Name }

// Routes returns the cluster's routes.
func (c *Cluster) Routes() *route.Table { return c.routes }

// Bootstrap returns the name by which clients reach the cluster first.
func (c *Cluster) Bootstrap() string { return c.routes.Bootstrap() }

// Suffix returns the domain under which clients see the brokers.
func (c *Cluster) Suffix() string { return c.routes.Suffix() }

// Brokers returns how many brokers have been learned.
func (c *Cluster) Brokers() int { return c.routes.Known() }

// Connect opens a connection, with TLS, to where a route leads, and returns it with the
// broker's address. What the table does not know it asks the cluster for, if that
// answers; r then says what came of it. The error is a [*ConnectError].
func (c *Cluster) Connect(ctx context.Context, r *route.Route) (*tlswire.Conn, route.Address, error) {
	if c.resolveAgain(r); r.Kind == route.Provisional { // and nobody has learned it since the ClientHello
		c.Query(ctx, true)
		c.resolveAgain(r)
	}
	defer func() {
		if r.Kind == route.Provisional {
			c.counts.provisional.Add(1)
		}
	}()
	conn, address, err := c.dial(ctx, r.Addresses)
	if err == nil && r.Kind != route.Bootstrap && !r.Confirmed {
		// What another client has learned meanwhile is still in time here. Later
		// it would end the session.
		if c.resolveAgain(r); r.Confirmed && r.Addresses[0] != address {
			conn.Close()
			conn, address, err = c.dial(ctx, r.Addresses)
		}
	}
	if err == nil || r.Kind != route.Broker || ctx.Err() != nil {
		return conn, address, err
	}
	// The broker may be down, or it may have moved.
	before := r.Addresses[0]
	c.Query(ctx, false)
	c.resolveAgain(r)
	switch {
	case r.Addresses[0] != before:
	case !r.Confirmed: // known from a file alone: no better than not known
		r.Kind, r.Addresses = route.Provisional, c.bootstrap()
	default:
		return nil, address, err
	}
	return c.dial(ctx, r.Addresses)
}

// resolveAgain looks the route's name up again.
func (c *Cluster) resolveAgain(r *route.Route) {
	if now, err := c.routes.Again(r); err == nil {
		*r = now
	}
}

// bootstrap returns the addresses of the bootstrap servers.
func (c *Cluster) bootstrap() []route.Address {
	r, err := c.routes.Resolve(c.routes.Bootstrap())
	if err != nil {
		panic(err) // a table knows its own bootstrap name
	}
	return r.Addresses
}

// Check reports whether a bootstrap server can be reached that belongs to the cluster:
// TCP, verified TLS, and no other cluster's id. It is for readiness checks.
func (c *Cluster) Check(ctx context.Context) error {
	conn, address, err := c.dial(ctx, c.bootstrap())
	if err != nil {
		return err
	}
	conn.Close()
	if c.Suspect(address) != nil {
		// It told another cluster's id a while ago. Where the cluster answers without
		// authentication this finds out whether it still does.
		if err := c.fetchBrokers(ctx, address); isOtherCluster(err) {
			return err
		}
	}
	return nil
}

// watchers are functions that wait for a name to be learned.
type watchers struct {
	mu  sync.Mutex
	all map[watched]map[*watcher]struct{}
}

// watched is what a watcher waits for: a name, or a node id.
type watched struct {
	name   string
	node   int32
	byNode bool
}

func watchedBy(r *route.Route) watched {
	if r.ByNode {
		return watched{node: r.Node, byNode: true}
	}
	return watched{name: r.Name}
}

type watcher struct {
	at    route.Address
	moved func()
}

// Watch has moved called when it is learned that what a route was asked for is elsewhere
// than at an address, also when that has been learned already. It may be called more than
// once, on the goroutine of whoever learns, with locks held: it must not wait. stop ends
// that.
func (c *Cluster) Watch(r *route.Route, at route.Address, moved func()) (stop func()) {
	w, key := &watcher{at, moved}, watchedBy(r)
	ws := &c.watchers
	ws.mu.Lock()
	if ws.all == nil {
		ws.all = map[watched]map[*watcher]struct{}{}
	}
	if ws.all[key] == nil {
		ws.all[key] = map[*watcher]struct{}{}
	}
	ws.all[key][w] = struct{}{}
	ws.mu.Unlock()
	// It may have been learned since the caller resolved it.
	if now, err := c.routes.Again(r); err == nil && now.Confirmed && now.Addresses[0] != at {
		moved()
	}
	return func() {
		ws.mu.Lock()
		defer ws.mu.Unlock()
		delete(ws.all[key], w)
		if len(ws.all[key]) == 0 {
			delete(ws.all, key)
		}
	}
}

// learned is the routes' OnLearn.
func (k *knowledge) learned(node int32, name string, is route.Address) {
	k.watchers.mu.Lock()
	defer k.watchers.mu.Unlock()
	for _, key := range []watched{{name: name}, {node: node, byNode: true}} {
		for w := range k.watchers.all[key] {
			if w.at != is {
				w.moved()
			}
		}
	}
}

func (c *Cluster) dialTimeout() time.Duration { return cmp.Or(c.config.DialTimeout, 10*time.Second) }
