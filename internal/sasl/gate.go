package sasl

import (
	"context"
	"runtime"
)

// Gate bounds how many derivations of keys from passwords (PBKDF2) run at once:
// each is milliseconds of a core, and a burst of logins must leave cores for the
// connections that run. All clusters share one. A nil Gate lets everybody in.
type Gate struct{ turns chan struct{} }

// NewGate returns a gate for n at once; for half of the cores, and at least one, if
// n is 0.
func NewGate(n int) *Gate {
	if n <= 0 {
		n = max(runtime.GOMAXPROCS(0)/2, 1)
	}
	return &Gate{make(chan struct{}, n)}
}

// Do calls f when it has its turn. If ctx ends before, it returns why, and does not
// call f.
func (g *Gate) Do(ctx context.Context, f func()) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if g != nil {
		select {
		case g.turns <- struct{}{}:
			defer func() { <-g.turns }()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	f()
	return nil
}
