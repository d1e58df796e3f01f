package cluster

import (
	"slices"
	"sync"
	"time"

	"kafka-sni-proxy/internal/route"
)

// failureMemory is for how long an address that has failed is tried after the
// others.
const failureMemory = 30 * time.Second

// failures are the addresses that could not be reached lately. The zero value
// is ready to use.
type failures struct {
	mu sync.Mutex
	at map[route.Address]time.Time
}

func (f *failures) note(a route.Address) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at == nil {
		f.at = map[route.Address]time.Time{}
	}
	f.at[a] = time.Now()
}

func (f *failures) forget(a route.Address) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.at, a)
}

// sort returns the addresses in the order in which to try them: as they are
// given, but those that have failed lately last, and first of those the one
// whose failure is the longest ago.
//
// An address whose failure is no longer recent is given to one caller to try.
// For all others it stays a failure until that one knows better: they are not to
// wait, all of them, for what may still be down.
func (f *failures) sort(addresses []route.Address) []route.Address {
	if len(addresses) == 1 {
		return addresses
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.at) == 0 {
		return addresses
	}
	now := time.Now()
	recent := map[route.Address]time.Time{}
	for _, a := range addresses {
		switch at, failed := f.at[a]; {
		case !failed:
		case now.Sub(at) < failureMemory:
			recent[a] = at
		default:
			f.at[a] = now
		}
	}
	sorted := slices.Clone(addresses)
	slices.SortStableFunc(sorted, func(a, b route.Address) int { return recent[a].Compare(recent[b]) })
	return sorted
}
