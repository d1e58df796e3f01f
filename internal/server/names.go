package server

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/session"
	"kafka-sni-proxy/internal/suggest"
)

// Router returns where to connect a client of a listener that asks for a server name; ""
// when it asks for none.
type Router func(serverName string) (*session.Destination, route.Route, error)

// Member is a cluster that a listener serves, and what its clients are told.
type Member struct {
	Cluster *Cluster
	Naming  route.Naming
}

func (m Member) destination() *session.Destination {
	d := &session.Destination{Cluster: m.Cluster, Naming: m.Naming, Auth: m.Cluster.Auth}
	if m.Cluster.tally != nil {
		d.Meter = &m.Cluster.tally.meter
	}
	return d
}

// NoServerNameError refuses clients that do not say which server they want.
type NoServerNameError struct{ Served string }

func (e *NoServerNameError) Error() string {
	return "the client sent no server name (SNI): want " + e.Served
}

// ByPort returns the router of a port where clients bootstrap, or of the port of a broker,
// whatever name they ask for.
func ByPort(m Member, node int32, isBootstrap bool) Router {
	d := m.destination()
	return func(string) (*session.Destination, route.Route, error) {
		r := m.Cluster.ResolveNode(node)
		if isBootstrap {
			r, _ = m.Cluster.Resolve(m.Cluster.Bootstrap()) // which every cluster knows
		}
		if !m.Cluster.admit() {
			return nil, r, LimitClusterConnections
		}
		return d, r, nil
	}
}

// ByName returns the router of a port that serves several clusters, told apart by the name
// that clients ask for. A name is a cluster's own when the cluster's suffix, or its names,
// make it; the longest suffix wins. What a mapping rule gives may be any name: such a one
// is a cluster's that knows a broker of that name, or else one whose rule can give it.
//
// A client that sends no name is refused, or, with allowMissing, gets the first member's
// bootstrap servers.
func ByName(allowMissing bool, members ...Member) Router {
	d := newDirectory(members)
	return func(name string) (*session.Destination, route.Route, error) {
		if name == "" {
			if !allowMissing {
				return nil, route.Route{}, &NoServerNameError{d.served()}
			}
			name = members[0].Cluster.Bootstrap()
		}
		m, r, err := d.find(name)
		switch {
		case err != nil:
			return nil, r, err
		case !m.Cluster.admit():
			return nil, r, LimitClusterConnections
		}
		return m.shared, r, nil
	}
}

// directory finds the cluster for a name.
type directory struct {
	all         []*member
	byBootstrap map[string]*member
	byTemplate  map[string]*member // by the name of a broker with {id} in it
	bySuffix    map[string]*member
	withRule    []*member
}

// member is a Member, and the destination of all its clients.
type member struct {
	Member
	shared *session.Destination
}

func newDirectory(members []Member) *directory {
	d := &directory{byBootstrap: map[string]*member{}, byTemplate: map[string]*member{}, bySuffix: map[string]*member{}}
	for _, of := range members {
		m := &member{of, of.destination()}
		d.all = append(d.all, m)
		routes := m.Cluster.Routes()
		d.byBootstrap[routes.Bootstrap()] = m
		d.byTemplate[routes.Template()] = m
		if routes.HasRule() {
			d.withRule = append(d.withRule, m)
			d.bySuffix[routes.Suffix()] = m
		}
	}
	return d
}

// find returns the cluster for a name, and the route there.
func (d *directory) find(name string) (*member, route.Route, error) {
	if len(d.all) == 1 {
		r, err := d.all[0].Cluster.Resolve(name)
		return d.all[0], r, err
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if len(name) <= maxNameLen {
		if m := d.owner(name); m != nil {
			r, err := m.Cluster.Resolve(name)
			return m, r, err
		}
	}
	return nil, route.Route{Name: name[:min(len(name), maxNameLen)]}, d.unknown(name)
}

// maxNameLen is the longest name that DNS has (RFC 1035, 2.3.4).
const maxNameLen = 253

// owner returns the cluster that serves a name, in lower case; nil for none.
func (d *directory) owner(name string) *member {
	if m := d.byBootstrap[name]; m != nil {
		return m
	}
	if m := d.ofTemplate(name); m != nil {
		return m
	}
	for _, m := range d.withRule { // whose names may be any
		if m.Cluster.Routes().Knows(name) {
			return m
		}
	}
	for _, end, ok := strings.Cut(name, "."); ok; _, end, ok = strings.Cut(end, ".") {
		if m := d.bySuffix[end]; m != nil && m.Cluster.Routes().CanExist(name) {
			return m
		}
	}
	for _, m := range d.withRule {
		if m.Cluster.Routes().CanExist(name) {
			return m
		}
	}
	return nil
}

// ofTemplate returns the cluster of which a name is a broker's by itself.
func (d *directory) ofTemplate(name string) *member {
	for template := range route.TemplatesOf(name) {
		if m := d.byTemplate[template]; m != nil && m.Cluster.Routes().CanExist(name) {
			return m
		}
	}
	return nil
}

// shownClusters is how many clusters a refusal names.
const shownClusters = 4

// served says what is served, in words.
func (d *directory) served() string {
	if len(d.all) == 1 {
		return d.all[0].Cluster.Routes().Served()
	}
	var shown []string
	for _, m := range d.all[:min(len(d.all), shownClusters)] {
		shown = append(shown, m.Cluster.Bootstrap())
	}
	text := strings.Join(shown, ", ")
	if more := len(d.all) - len(shown); more > 0 {
		text += fmt.Sprintf(" or one of %d more", more)
	}
	return text + ", or the name of a broker there"
}

// maxCompared is how many clusters' names are compared with one that is not known, to find
// what was meant.
const maxCompared = 1000

// unknown refuses a name that is no cluster's. The cluster that it is most likely to be
// meant for knows best which of its names is near.
func (d *directory) unknown(name string) error {
	e := &route.UnknownNameError{Name: name[:min(len(name), maxNameLen)], Length: len(name), Served: d.served()}
	if len(name) > maxNameLen {
		return e
	}
	near := suggest.Within(name, min(max(len(name)/3, 1), 3))
	for _, m := range d.all[:min(len(d.all), maxCompared)] {
		near.Compare(m.Cluster.Bootstrap())
	}
	nearest := slices.MaxFunc(d.all[:min(len(d.all), maxCompared)], func(a, b *member) int {
		return cmp.Compare(commonEnd(a.Cluster.Bootstrap(), name), commonEnd(b.Cluster.Bootstrap(), name))
	})
	if _, err := nearest.Cluster.Resolve(name); err != nil {
		if of, ok := err.(*route.UnknownNameError); ok && of.Nearest != "" {
			near.Compare(of.Nearest)
		}
	}
	e.Nearest = near.Best()
	return e
}

// commonEnd returns how many bytes two names have in common at their ends.
func commonEnd(a, b string) (n int) {
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}
