package route

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Why a broker does not have the name that the rule is there to give.
const (
	noMatch = "broker mapping rule does not match a broker's host; using the default name"
	noName  = "broker mapping rule gives something that is not a host name; using the default name"
	taken   = "broker mapping rule gives a name that is already taken; using the default name"
)

// choice is the name for a broker at some host.
type choice struct {
	name    string
	free    bool   // no other broker has it
	wanted  any    // see state
	problem string // one of the above, or empty
	result  string // of the rule
}

// choose returns the name for a broker. Two brokers never share one: clients
// that find the same address under two node ids reconnect for ever. The result
// holds as long as the caller holds t.mu.
func (t *Table) choose(node int32, host string) choice {
	var c choice
	if t.rule != nil {
		result, matched := t.rule.apply(host)
		name := normalize(result)
		switch {
		case !matched:
			c.problem = noMatch
		case !validName(name):
			c.problem, c.result = noName, name[:min(len(name), maxName)]
		case name == t.bootstrap:
			c.problem, c.result = taken, name
		case !t.free(name, node):
			c.problem, c.result, c.wanted = taken, name, name
		default:
			c.name, c.free = name, true
			return c
		}
	}
	c.name, c.free = t.fallback(node)
	return c
}

// fallback returns b<id>, or b<id>-<n> when a rule has given this name to
// another broker, kafka-1 being node 0 for instance. Only hosts that are made
// up for it take all of these names.
func (t *Table) fallback(node int32) (name string, free bool) {
	name = t.defaultName(node)
	for n := 2; !t.free(name, node); n++ {
		if n > maxCollisions {
			return name, false
		}
		name = t.broker.name(fmt.Sprintf("%d-%d", node, n))
	}
	return name, true
}

// free reports whether no other broker has a name now. An alias is free: the
// name that every client is told counts for more than one that some may still
// use, and other copies of the proxy may not know the alias.
func (t *Table) free(name string, node int32) bool {
	v, ok := t.byName.Load(name)
	if !ok {
		return true
	}
	b := v.(*broker)
	return b.node == node || b.state.Load().name != name
}

// CanExist reports whether a broker can have a name.
func (t *Table) CanExist(name string) bool {
	if !validName(name) {
		return false
	}
	under := strings.HasSuffix(name, "."+t.suffix)
	if t.rule == nil {
		_, ok := t.defaultNode(name)
		return ok
	}
	if !t.isFallback(name) && !t.rule.canMake(name) {
		return false
	}
	if t.covers == nil {
		return under
	}
	// A certificate that does not even cover the bootstrap name is one that
	// clients do not check names against.
	return t.covers(name) || under && !t.covers(t.bootstrap)
}

func (t *Table) defaultName(node int32) string { return t.broker.name(strconv.Itoa(int(node))) }

// defaultNode returns the node id in b<id>.<suffix>.
func (t *Table) defaultNode(name string) (int32, bool) {
	digits, ours := t.broker.id(name)
	node, ok := number(digits)
	return node, ours && ok
}

// isFallback reports whether a name is b<id> or b<id>-<n> under the suffix.
func (t *Table) isFallback(name string) bool {
	id, ours := t.broker.id(name)
	first, second, hyphen := strings.Cut(id, "-")
	if _, ok := number(first); !ours || !ok {
		return false
	}
	n, ok := number(second)
	return !hyphen || ok && n >= 2 && n <= maxCollisions
}

// number reads a decimal number from 0 to 2147483647 as it is written in names:
// without a leading zero.
func number(s string) (int32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return int32(n), err == nil && n <= math.MaxInt32 && strconv.FormatUint(n, 10) == s
}
