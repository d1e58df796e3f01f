package cluster

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/route"
)

// identity is which cluster this is, by the id that brokers tell in Metadata (from
// version 2 on) and DescribeCluster. Which cluster an address leads to is told by that
// id alone: node ids and topics may be the same in another one.
//
// The first id that is told is taken. An address that tells another id is refused for
// a while, and nothing is learned from it. The cluster counts as replaced when every
// bootstrap server tells the same other id. A new id is taken over only while the old
// one is unconfirmed: it is known from a file alone, or since [Cluster.Reconsider].
type identity struct {
	routes *route.Table // keeps the id, over restarts too
	log    *slog.Logger

	// settled is the id while it is confirmed and no address is known that tells another
	// one: then there is nothing to do. Otherwise nil.
	settled atomic.Pointer[string]

	mu        sync.Mutex
	confirmed bool // a broker has told the id since the start, or since Reconsider
	others    map[route.Address]otherID
	replaced  bool // that the cluster was replaced has been logged
}

// otherID is what an address has told.
type otherID struct {
	id    string
	until time.Time // refused until then; later it is tried, and asked first
}

const (
	// otherMemory is for how long an address is refused that has told another
	// cluster's id.
	otherMemory = time.Minute
	// maxID is how much of an id counts, in bytes. Kafka's have 22.
	maxID = 255
	// maxOthers bounds the addresses that are remembered. Brokers say where brokers are.
	maxOthers = 1024
)

func (i *identity) init(routes *route.Table, log *slog.Logger) { i.routes, i.log = routes, log }

// check takes the cluster id that a broker at an address has told, and returns an
// [*OtherClusterError] if it is another cluster's.
func (i *identity) check(a route.Address, id string, upstreams []route.Address) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	want := i.routes.ClusterID()
	if want == "" || want == id {
		i.confirm(a, id)
		return nil
	}
	i.note(a, id, want)
	if !i.toldByAll(id, upstreams) {
		return &OtherClusterError{Address: a, Got: id, Want: want}
	}
	if i.confirmed {
		if !i.replaced {
			i.log.Error("the cluster was replaced: every upstream now tells another cluster id. Clients are refused, so that no record goes to a wrong cluster. If this is meant, restart the proxy or have it reload (SIGHUP)",
				"cluster_id", id, "was", want)
			i.replaced = true
		}
		return &OtherClusterError{Address: a, Got: id, Want: want}
	}
	i.log.Warn("the cluster was replaced while the proxy did not run, or before it was told to reload: taking the new one over", "cluster_id", id, "was", want)
	i.others = nil
	i.confirm(a, id)
	return nil
}

// confirm notes that an address has told the cluster's own id. The caller holds i.mu.
func (i *identity) confirm(a route.Address, id string) {
	if i.routes.SetClusterID(id); i.routes.ClusterID() != id {
		return // no id: too long, or not text
	}
	if _, told := i.others[a]; told {
		delete(i.others, a)
		i.log.Info("the address leads to the right cluster again", "upstream", a.String(), "cluster_id", id)
	}
	i.confirmed, i.replaced = true, false
	if len(i.others) == 0 {
		i.settled.Store(&id)
	}
}

// note notes that an address has told another id. The caller holds i.mu.
func (i *identity) note(a route.Address, id, want string) {
	i.settled.Store(nil)
	if i.others == nil {
		i.others = map[route.Address]otherID{}
	}
	before, known := i.others[a]
	if !known && len(i.others) >= maxOthers {
		return // it is refused all the same, each time that it tells
	}
	i.others[a] = otherID{id: id, until: time.Now().Add(otherMemory)}
	if before.id != id {
		i.log.Error("an address leads to another cluster: it is refused, and nothing is learned from it. See where --upstream and DNS lead",
			"upstream", a.String(), "cluster_id", id, "want", want)
	}
}

// toldByAll reports whether every bootstrap server tells this id. The caller holds i.mu.
func (i *identity) toldByAll(id string, upstreams []route.Address) bool {
	return !slices.ContainsFunc(upstreams, func(u route.Address) bool { return i.others[u].id != id })
}

// admit returns the addresses that are not refused, suspect ones last, and an error for
// each that is refused.
func (i *identity) admit(addresses []route.Address) (admitted []route.Address, refused []error) {
	if i.settled.Load() != nil {
		return addresses, nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.others) == 0 {
		return addresses, nil
	}
	now := time.Now()
	var suspect []route.Address
	for _, a := range addresses {
		switch other, told := i.others[a]; {
		case !told:
			admitted = append(admitted, a)
		case now.Before(other.until):
			refused = append(refused, &OtherClusterError{Address: a, Got: other.id, Want: i.routes.ClusterID()})
		default:
			suspect = append(suspect, a)
		}
	}
	return append(admitted, suspect...), refused
}

// Suspect returns an [*OtherClusterError] when an address has told another cluster's id,
// and not the right one since. Whoever connects there has to ask it with
// [MetadataQuery] before anything else goes there.
func (c *Cluster) Suspect(a route.Address) error {
	i := &c.identity
	if i.settled.Load() != nil {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if other, told := i.others[a]; told {
		return &OtherClusterError{Address: a, Got: other.id, Want: i.routes.ClusterID()}
	}
	return nil
}

// Others returns how many addresses have told another cluster's id.
func (c *Cluster) Others() int {
	c.identity.mu.Lock()
	defer c.identity.mu.Unlock()
	return len(c.identity.others)
}

// Reconsider has the cluster's id be taken anew from its bootstrap servers, for an
// operator who has replaced the cluster.
func (c *Cluster) Reconsider() {
	i := &c.identity
	i.mu.Lock()
	defer i.mu.Unlock()
	i.settled.Store(nil)
	i.confirmed, i.replaced, i.others = false, false, nil
}

// Learner returns what is called for the broker addresses and the cluster ids in the
// responses of one connection to the broker at an address: see [kafka.Responses]. naming
// gives the addresses that the client is told; nil when there is no client.
func (c *Cluster) Learner(from route.Address, naming route.Naming) (kafka.Names, func(clusterID []byte) error) {
	l := &learner{cluster: c, from: from, naming: naming}
	return l.name, l.clusterID
}

// learner learns from the responses of one connection to a broker.
type learner struct {
	cluster  *Cluster
	from     route.Address
	naming   route.Naming
	verified bool // the connection has told the cluster's own id
}

// clusterID takes the cluster id in a response. The error is an [*OtherClusterError].
func (l *learner) clusterID(id []byte) error {
	id = id[:min(len(id), maxID)]
	if settled := l.cluster.identity.settled.Load(); settled != nil && *settled == string(id) {
		l.verified = true
		return nil
	}
	err := l.cluster.identity.check(l.from, string(id), l.cluster.bootstrap())
	l.verified = err == nil
	return err
}

// name returns the address under which the client is to see a broker, and learns where
// the broker is, also when the client has no address for it. From a connection that has not told the cluster's id nothing is
// learned once the id is known: it may have come to another cluster.
func (l *learner) name(node int32, host []byte, port int32) (name string, advertisedPort int32, err error) {
	if l.verified || l.cluster.routes.ClusterID() == "" {
		name = l.cluster.routes.Learn(node, host, port)
	} else {
		name = l.cluster.routes.Name(node, host)
	}
	if l.naming == nil {
		return name, 0, nil
	}
	return l.naming.Address(node, name)
}
