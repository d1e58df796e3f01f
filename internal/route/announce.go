package route

import "slices"

// OnLearn has f called for each broker that is learned, moves or gets another
// name from now on: once for each name under which the broker can be resolved,
// its aliases included, with its node id and address. A broker that was loaded from a file
// is learned when a response tells of it for the first time. OnLearn must be
// called before the table is used.
//
// The contract of f, in full:
//   - It is called after the names can be resolved, with no lock of the table
//     held. It may call every method of the table.
//   - Calls are one at a time, in the order of the changes. Of several changes
//     to one broker that f has not been told of yet, it is told the last.
//   - The goroutine is one that is in [Table.Learn]: usually the one that caused
//     the change, but when another is in f already, that one goes on with it.
//     So Learn may return before f has been called.
//   - When f panics, the panic reaches the caller of Learn. The changes behind it
//     are told at the next change.
func (t *Table) OnLearn(f func(node int32, name string, addr Address)) { t.listener = f }

// announce has the listener told of a broker, and the routes saved. The caller
// holds t.mu and calls tell when it has released it.
func (t *Table) announce(b *broker) {
	t.markChanged()
	if t.listener != nil && !b.announced {
		b.announced = true
		t.announced = append(t.announced, b)
	}
}

// markChanged tells that there is something new to save.
func (t *Table) markChanged() {
	select {
	case t.changed <- struct{}{}:
	default: // there is a change already that nobody has received
	}
}

// tell calls the listener for what was announced, unless another goroutine is
// at it. The caller does not hold t.mu.
func (t *Table) tell() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.telling {
		return
	}
	t.telling = true
	defer func() { t.telling = false }()
	for len(t.announced) > 0 {
		b := t.announced[0]
		t.announced = t.announced[1:]
		b.announced = false
		t.tellOf(b)
	}
	t.announced = nil
}

// tellOf calls the listener for every name of a broker. The caller holds t.mu,
// which is released meanwhile.
func (t *Table) tellOf(b *broker) {
	t.mu.Unlock()
	defer t.mu.Lock()
	s := b.state.Load()
	t.listener(b.node, s.name, s.addr)
	for _, alias := range s.aliases {
		t.listener(b.node, alias, s.addr)
	}
	name := t.defaultName(b.node)
	if name != s.name && !slices.Contains(s.aliases, name) && t.owner(name) == b {
		t.listener(b.node, name, s.addr)
	}
}
