//go:build race

package kafka

// Everything here runs in one goroutine but what says otherwise: the race
// detector finds no more in many rounds than in few, and takes ten times as long.
const underRace = true
