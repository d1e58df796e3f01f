package preflight

import (
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Machine is what the proxy will need of the machine that it runs on.
type Machine struct {
	MaxConnections int       // that the configuration allows; 0: no limit
	Built          time.Time // when the program's source was committed; zero: not known
	Now            time.Time
	// Descriptors is how many files the program may open. 0: the system is asked.
	Descriptors uint64
}

// For each connection there are two sockets. Others are the program's own: ports, files,
// connections of its own to brokers.
const (
	perConnection = 2
	ownFiles      = 64
	// few is what a program has by default on many systems, and what is soon not enough.
	few = 4096
)

// Run checks the machine.
func (m *Machine) Run(r *Report) {
	const subject = "this machine"
	if !m.Built.IsZero() && m.Now.Before(m.Built.Add(-24*time.Hour)) {
		r.Add(Result{subject, "clock", Failed, fmt.Sprintf("says %s, and this program was made on %s", moment(m.Now), moment(m.Built)),
			"set the clock (timedatectl, or its NTP service): no certificate can be verified with it"})
	} else {
		r.Add(Result{subject, "clock", OK, "says " + moment(m.Now), ""})
	}
	limit := m.Descriptors
	if limit == 0 {
		limit = maxDescriptors()
	}
	if limit == 0 {
		return
	}
	room := (max(limit, ownFiles) - ownFiles) / perConnection
	result := Result{Subject: subject, What: "open files", Result: fmt.Sprintf("%d allowed: enough for %d connections at once", limit, room)}
	const how = "raise the limit of open files (ulimit -n, or LimitNOFILE= for systemd)"
	switch {
	case uint64(m.MaxConnections) > room:
		result.Level, result.Remedy = Failed, fmt.Sprintf("--max-connections is %d: %s, or lower it", m.MaxConnections, how)
	case m.MaxConnections == 0 && limit < few:
		result.Level, result.Remedy = Warning, how+", or bound --max-connections"
	}
	r.Add(result)
}

// OwnAddresses returns the addresses of this machine.
func OwnAddresses() (all []netip.Addr) {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, prefix.Addr().Unmap())
		}
	}
	return all
}
