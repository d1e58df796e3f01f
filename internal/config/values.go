package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// The types of settings that are written in a form of their own. Each has
// UnmarshalText, whose error says what is wrong and what to write, and MarshalText,
// which writes what UnmarshalText reads.

// Secret is text that must not be shown. It prints as ***.
type Secret string

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// GoString keeps %#v from showing it.
func (s Secret) GoString() string { return s.String() }

// Template is the text of a secret, or file: and the path of one. The text is not shown.
type Template string

func (t Template) String() string {
	if strings.HasPrefix(string(t), secretFile) {
		return string(t)
	}
	return Secret(t).String()
}

// GoString keeps %#v from showing it.
func (t Template) GoString() string { return t.String() }

// Size is a number of bytes, written as 1048576, 1MiB, 64KiB or 1GiB.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Size) UnmarshalText(text []byte) error {
	digits, unit := string(text), int64(1)
	for _, u := range sizeUnits {
		if number, ok := strings.CutSuffix(digits, u.name); ok {
			digits, unit = strings.TrimSpace(number), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return fmt.Errorf("%q is not a size: write it like 100MiB, 64KiB, or a number of bytes", text)
	}
	*s = Size(n * unit)
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s Size) String() string {
	for _, u := range sizeUnits {
		if s >= Size(u.bytes) && s%Size(u.bytes) == 0 && u.bytes > 1 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// Ratio is a share, written as a number from 0 to 1.
type Ratio float64

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Ratio) UnmarshalText(text []byte) error {
	n, err := strconv.ParseFloat(string(text), 64)
	if err != nil || !(n >= 0 && n <= 1) {
		return fmt.Errorf("%q is not a share: write a number from 0 for none to 1 for all, such as 0.01", text)
	}
	*r = Ratio(n)
	return nil
}

// MarshalYAML writes it as a number.
func (r Ratio) MarshalYAML() (any, error) { return float64(r), nil }

func (r Ratio) String() string { return strconv.FormatFloat(float64(r), 'g', -1, 64) }

// PortRange is a range of ports, both ends included, written as 9193-9292.
type PortRange struct{ First, Last int }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *PortRange) UnmarshalText(text []byte) error {
	first, last, isRange := strings.Cut(string(text), "-")
	if !isRange {
		last = first
	}
	from, err := strconv.ParseUint(strings.TrimSpace(first), 10, 16)
	to, err2 := strconv.ParseUint(strings.TrimSpace(last), 10, 16)
	switch {
	case err != nil || err2 != nil || from == 0:
		return fmt.Errorf("%q is not a range of ports: write it like 9193-9292, within 1 and 65535", text)
	case to < from:
		return fmt.Errorf("%q ends before it begins: write %d-%d", text, to, from)
	}
	*r = PortRange{int(from), int(to)}
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (r PortRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// Len returns how many ports are in the range.
func (r PortRange) Len() int { return r.Last - r.First + 1 }

// has reports whether a port is in the range.
func (r PortRange) has(port int) bool { return r.First <= port && port <= r.Last }

// Network is a network of IP addresses, written as 10.0.0.0/8, or one address.
type Network struct{ netip.Prefix }

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *Network) UnmarshalText(text []byte) error {
	if addr, err := netip.ParseAddr(string(text)); err == nil && addr.Zone() == "" {
		n.Prefix = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
		return nil
	}
	prefix, err := netip.ParsePrefix(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a network: write it like 10.0.0.0/8, fd00::/8 or 10.1.2.3", text)
	}
	if prefix != prefix.Masked() {
		return fmt.Errorf("%q has bits set behind its length: write %s", text, prefix.Masked())
	}
	n.Prefix = prefix
	return nil
}
