package main

import (
	"fmt"
	"math"
	"slices"
)

// summary is what several rounds say about one thing: the median, and the
// least and greatest of them as the spread.
type summary struct {
	Median  float64   `json:"median"`
	Low     float64   `json:"low"`
	High    float64   `json:"high"`
	Samples []float64 `json:"samples"`
}

func (s summary) ok() bool { return len(s.Samples) > 0 }

func summarize(samples []float64) summary {
	if len(samples) == 0 {
		return summary{}
	}
	sorted := slices.Sorted(slices.Values(samples))
	middle := len(sorted) / 2
	median := sorted[middle]
	if len(sorted)%2 == 0 {
		median = (sorted[middle-1] + median) / 2
	}
	return summary{median, sorted[0], sorted[len(sorted)-1], samples}
}

// percentile returns the smallest value that at least this share of the sorted
// values does not exceed.
func percentile(sorted []int64, share float64) int64 {
	if len(sorted) == 0 {
		return 0
	}
	// A hair less, for shares that binary fractions cannot tell exactly.
	rank := int(math.Ceil(share*float64(len(sorted)) - 1e-9))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// figure writes a number with three digits that matter, and never in
// scientific notation.
func figure(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "–"
	case a == 0:
		return "0"
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 0.1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}

// count writes "1 broker", "2 brokers".
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
