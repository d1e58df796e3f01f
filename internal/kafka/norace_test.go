//go:build !race

package kafka

const underRace = false
