package route

import "unicode/utf8"

// ClusterID returns the id of the cluster that the routes are for; "" when it
// is not known.
func (t *Table) ClusterID() string {
	if id := t.clusterID.Load(); id != nil {
		return *id
	}
	return ""
}

// SetClusterID notes which cluster told an address. It is called before the
// response's brokers are learned.
//
// The first id makes the routes that are there unconfirmed, until a response
// tells them again: nobody knows which cluster they were learned from. Another
// id than the one known forgets all routes: they lead to another cluster. The
// caller decides whether a cluster is followed at all. An id that is empty,
// longer than 255 bytes or not UTF-8 is none, and changes nothing.
//
// The id that is known already takes no lock and allocates nothing.
func (t *Table) SetClusterID(id string) {
	if id == "" || id == t.ClusterID() || len(id) > maxClusterID || !utf8.ValidString(id) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.ClusterID()
	switch was {
	case id: // another session was told meanwhile
		return
	case "":
		t.unconfirm()
		t.log.Info("the cluster's id is known", "cluster_id", id, "brokers_to_confirm", t.Known())
	default:
		t.log.Warn("the upstream is another cluster now: all routes are forgotten, clients start anew from the bootstrap name",
			"cluster_id", id, "was", was, "brokers_forgotten", t.Known())
		t.forget()
	}
	kept := id // what is pointed to is allocated, and the parameter must not be
	t.clusterID.Store(&kept)
	t.markChanged()
}

// unconfirm marks all routes as not told by any response. The caller holds t.mu.
func (t *Table) unconfirm() {
	t.byNode.Range(func(_, v any) bool {
		b := v.(*broker)
		is := *b.state.Load()
		is.confirmed = false
		b.state.Store(&is)
		return true
	})
}

// forget empties the table. The caller holds t.mu.
func (t *Table) forget() {
	t.byName.Clear()
	t.byNode.Clear()
	t.known.Store(0)
	t.unmatched.Store(0)
	t.ruleMatched.Store(false)
	t.full = false
	for _, b := range t.announced {
		b.announced = false
	}
	t.announced = nil
}
