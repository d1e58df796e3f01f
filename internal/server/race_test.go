//go:build race

package server

// raceEnabled says that allocations cannot be counted.
const raceEnabled = true
