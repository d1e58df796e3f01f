package page

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// How the page writes numbers and times. web/page.js has the same functions by the same
// names; a test compares what the two make of the same values.

// count groups digits: 12,345.
func count[N int | int64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// decimal has one digit behind the point while it is small, unless it is 0.
func decimal(x float64) string {
	if x == 0 {
		return "0"
	}
	if math.Abs(x) < 9.95 {
		return strconv.FormatFloat(math.Floor(x*10+0.5)/10, 'f', 1, 64)
	}
	return count(int64(math.Floor(x + 0.5)))
}

func size(bytes float64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	i := 0
	for ; bytes >= 999.5 && i < len(units)-1; i++ {
		bytes /= 1000
	}
	if i == 0 {
		return count(int64(math.Floor(bytes+0.5))) + " B"
	}
	return decimal(bytes) + " " + units[i]
}

// latency is a short time, in seconds.
func latency(s float64) string {
	switch {
	case s < 0.001:
		return count(int64(math.Floor(s*1e6+0.5))) + " µs"
	case s < 1:
		return decimal(s*1e3) + " ms"
	case s < 60:
		return decimal(s) + " s"
	}
	return length(s)
}

// length is a longer time, in seconds, rounded down.
func length(s float64) string {
	switch {
	case s < 1:
		return "0 s"
	case s < 60:
		return count(int64(s)) + " s"
	case s < 3600:
		return count(int64(s/60)) + " min"
	case s < 48*3600:
		return count(int64(s/3600)) + " h"
	}
	return count(int64(s/86400)) + " days"
}

// moment is a point in time: the time of day if it is near, else the date, too.
func moment(t, now time.Time) string {
	if now.Sub(t).Abs() < 20*time.Hour {
		return t.UTC().Format("15:04:05 UTC")
	}
	return t.UTC().Format("2006-01-02 15:04 UTC")
}

// since is a point in time and how long ago it was.
func since(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return moment(t, now) + ", " + length(now.Sub(t).Seconds()) + " ago"
}

// counts lists what is not 0, by name.
func counts(m map[string]int64) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if m[name] != 0 {
			all = append(all, fmt.Sprintf("%s %s", name, count(m[name])))
		}
	}
	return orNone(strings.Join(all, ", "))
}

func sum(m map[string]int64) (total int64) {
	for _, n := range m {
		total += n
	}
	return total
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

func plural(n int, one, several string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + several
}
