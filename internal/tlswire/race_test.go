//go:build race

package tlswire

// raceEnabled says that allocations cannot be counted.
const raceEnabled = true
