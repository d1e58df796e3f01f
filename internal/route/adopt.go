package route

import (
	"cmp"
	"slices"
)

// Adopt takes over what another table knows, for a cluster whose settings have changed
// while the program runs. As after a restart with a routes file, what is taken over may be
// wrong by now, and counts as confirmed once a response tells it again. Brokers keep their
// names where both tables make them in the same way.
//
// Nothing is taken over when the tables have no upstream in common: then this may be another
// cluster. Adopt must be called before the table is used.
func (t *Table) Adopt(from *Table) {
	if !slices.ContainsFunc(t.upstreams, func(u Address) bool { return slices.Contains(from.upstreams, u) }) {
		return
	}
	id, brokers := from.snapshot()
	if t.scheme() == from.scheme() && t.ruleText() == from.ruleText() {
		t.restore(&fileContent{ClusterID: id, Brokers: brokers})
		return
	}
	slices.SortFunc(brokers, func(a, b fileBroker) int { return cmp.Compare(a.Node, b.Node) })
	for i := range brokers {
		b := &brokers[i]
		b.Name, b.Aliases = t.Name(b.Node, []byte(b.Host)), nil
		t.restore(&fileContent{ClusterID: id, Brokers: brokers[i : i+1]}) // before the next one is named
	}
}
