package route

import (
	"slices"
	"strings"
)

// Learn remembers that a broker lives at host and port, and returns the name
// by which clients are to see it. With a mapping rule, a broker
// whose host changes gets the name that the rule gives now; its earlier names
// stay aliases. The host is not retained.
//
// A broker that cannot be stored is named all the same, so that its address
// never reaches a client: one beyond maxBrokers, one with a negative id or a
// host longer than a host name can be.
//
// Learning what is already known takes no lock and allocates nothing.
func (t *Table) Learn(node int32, host []byte, port int32) (name string) {
	b := t.node(node)
	if b != nil {
		if s := b.state.Load(); s.addr.Port == port && s.addr.Host == string(host) && s.confirmed && t.settled(s) {
			return s.name
		}
	}
	if node < 0 || len(host) > maxName || b == nil && t.Known() >= maxBrokers {
		return t.refuse(node, b)
	}
	t.mu.Lock()
	name = t.learn(node, Address{Host: string(host), Port: port})
	t.mu.Unlock()
	t.tell()
	return name
}

// Name returns what [Table.Learn] would, and learns nothing.
func (t *Table) Name(node int32, host []byte) (name string) {
	b := t.node(node)
	if b != nil {
		if s := b.state.Load(); len(host) > maxName || s.confirmed && s.addr.Host == string(host) && t.settled(s) {
			return s.name
		}
	}
	if node < 0 || len(host) > maxName {
		name, _ = t.fallback(node)
		return name
	}
	return t.choose(node, string(host)).name
}

// settled reports whether a broker has the name that the rule gives its host,
// or cannot have it because another broker does.
func (t *Table) settled(s *state) bool {
	if s.wanted == nil {
		return true
	}
	v, ok := t.byName.Load(s.wanted)
	return ok && v.(*broker).state.Load().name == s.wanted.(string)
}

// refuse names a broker without storing anything. b is what is known of it.
func (t *Table) refuse(node int32, b *broker) string {
	t.refused.Add(1)
	if b != nil {
		return b.state.Load().name
	}
	if node >= 0 && t.Known() >= maxBrokers {
		t.warnFull()
	}
	name, _ := t.fallback(node)
	return name
}

// warnFull warns once that the table is full.
func (t *Table) warnFull() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.full {
		t.full = true
		t.log.Warn("the table of brokers is full: more brokers are named but not routed; if the cluster is not that large, look for what answers as a broker, remove the routes file and restart",
			"brokers", maxBrokers)
	}
}

// learn stores what a response says of a broker, and returns the broker's name.
// The caller holds t.mu.
func (t *Table) learn(node int32, addr Address) string {
	c := t.choose(node, addr.Host)
	b := t.node(node)
	if b == nil {
		if !c.free || t.Known() >= maxBrokers {
			t.refused.Add(1)
			return c.name
		}
		b = &broker{node: node}
		t.store(b, &state{name: c.name, addr: addr, confirmed: true, wanted: c.wanted})
		t.lines.log(t.log, learnedLine, "learned broker", "node", node, "name", c.name, "upstream", addr.String())
		t.explain(b, addr.Host, c)
		t.announce(b)
		return c.name
	}
	was := b.state.Load()
	is := *was
	is.addr, is.confirmed, is.wanted = addr, true, c.wanted
	renamed := c.free && c.name != was.name
	if renamed {
		t.rename(b, &is, c.name)
	}
	b.state.Store(&is)
	t.logMove(b, was, &is)
	if was.addr.Host != addr.Host || was.wanted != c.wanted {
		t.explain(b, addr.Host, c)
	}
	if renamed || was.addr != addr || !was.confirmed {
		t.announce(b)
	}
	return is.name
}

func (t *Table) logMove(b *broker, was, is *state) {
	if was.addr != is.addr {
		t.lines.log(t.log, movedLine, "broker moved", "node", b.node, "name", is.name, "upstream", is.addr.String(), "was", was.addr.String())
	}
	if was.name != is.name {
		t.lines.log(t.log, renamedLine, "broker renamed", "node", b.node, "name", is.name, "was", was.name, "upstream", is.addr.String())
	}
}

// store adds a broker. The caller holds t.mu.
func (t *Table) store(b *broker, s *state) {
	t.takeAlias(s.name)
	b.state.Store(s)
	for _, alias := range s.aliases {
		t.byName.Store(alias, b)
	}
	t.byName.Store(s.name, b)
	t.byNode.Store(b.node, b)
	t.known.Add(1)
}

// rename puts another name into what will be b's state, and has the old one be
// an alias. The caller holds t.mu.
func (t *Table) rename(b *broker, is *state, name string) {
	t.takeAlias(name)
	is.aliases = append(without(is.aliases, name), is.name)
	if extra := len(is.aliases) - maxAliases; extra > 0 {
		for _, oldest := range is.aliases[:extra] {
			t.byName.Delete(oldest)
		}
		is.aliases = is.aliases[extra:]
	}
	is.name = name
	t.byName.Store(name, b)
}

// takeAlias removes a name from the aliases of the broker that has it there:
// the name is about to be the one that a broker is told by. The caller holds
// t.mu.
func (t *Table) takeAlias(name string) {
	v, ok := t.byName.Load(name)
	if !ok {
		return
	}
	b := v.(*broker)
	is := *b.state.Load()
	is.aliases = without(is.aliases, name)
	b.state.Store(&is)
}

// without returns a copy of names in which one is missing.
func without(names []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
}

// explain warns when a broker does not have the name that the rule is there to
// give, or when clients will have trouble with the name. The caller holds t.mu.
func (t *Table) explain(b *broker, host string, c choice) {
	t.countMatch(b, c)
	name := b.state.Load().name
	switch {
	case c.problem == "":
	case c.problem != noMatch:
		t.lines.log(t.log, warningLine, c.problem, "node", b.node, "upstream", host, "rule_result", c.result, "name", name)
	case !b.warnedNoMatch:
		b.warnedNoMatch = true
		t.lines.log(t.log, warningLine, c.problem, "node", b.node, "upstream", host, "rule", t.ruleText(), "name", name)
	}
	if !strings.HasSuffix(name, "."+t.suffix) {
		t.lines.log(t.log, warningLine, "broker mapping rule gives a name outside the SNI suffix; it needs its own DNS record and certificate",
			"node", b.node, "upstream", host, "name", name, "suffix", t.suffix)
	}
	if t.covers != nil && !t.covers(name) {
		t.lines.log(t.log, warningLine, "the certificate shown to clients does not cover a broker's name: clients will refuse it; add the name to --cert, or change the broker mapping rule",
			"node", b.node, "upstream", host, "name", name)
	}
}

// countMatch keeps the count of brokers that the rule does not match. The
// caller holds t.mu.
func (t *Table) countMatch(b *broker, c choice) {
	if t.rule == nil {
		return
	}
	noMatch := c.problem == noMatch
	if !noMatch {
		t.ruleMatched.Store(true)
	}
	switch {
	case noMatch && !b.countedNoMatch:
		t.unmatched.Add(1)
	case !noMatch && b.countedNoMatch:
		t.unmatched.Add(-1)
	}
	b.countedNoMatch = noMatch
}
