//go:build race

package proxy

// raceEnabled says that allocations cannot be counted.
const raceEnabled = true
