package route

import (
	"fmt"
	"net"
	"strconv"
)

// Address is where a broker listens: a host name or IP address, and a TCP port.
type Address struct {
	Host string
	Port int32
}

// String returns "host:port", with an IPv6 host in brackets.
func (a Address) String() string {
	return net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
}

// ParseAddress reads "host:port" or "[v6]:port". The port must be 1–65535.
func ParseAddress(s string) (Address, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return Address{}, fmt.Errorf("%q is not host:port (for example broker.example.com:9092)", s)
	}
	if host == "" {
		return Address{}, fmt.Errorf("%q has no host before the port", s)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return Address{}, fmt.Errorf("%q has no valid port: want a number from 1 to 65535", s)
	}
	return Address{Host: host, Port: int32(n)}, nil
}

// check reports what is no address to dial.
func (a Address) check() error {
	if len(a.Host) > maxName {
		return fmt.Errorf("a host of %d bytes is no address", len(a.Host))
	}
	if a.Host == "" || a.Port < 1 || a.Port > 65535 {
		return fmt.Errorf("%s is no address", a)
	}
	return nil
}
