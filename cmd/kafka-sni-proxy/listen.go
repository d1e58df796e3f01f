package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"

	"kafka-sni-proxy/internal/config"
)

// listeners are where clients and administrators connect.
type listeners struct {
	bind    string         // what was asked for; "": sockets were passed
	clients []net.Listener // TCP
	admin   net.Listener   // nil: none
}

// adminSocket is the name of the admin port among those that are passed: in
// systemd's terms its FileDescriptorName.
const adminSocket = "admin"

// open opens the ports that the flags name. Where systemd has passed sockets
// (sd_listen_fds(3)) those are used instead: the one with the name "admin" for
// the admin port, all others for clients. So are those of the process before
// this one, which waits until it is told that this one serves.
func open(f *config.Config, wrong *usageErrors, warnings *[]string) (p listeners, before *predecessor) {
	bind, admin := f.Listeners[0].Bind, f.Admin.Bind
	if admin == bind { // which has been said
		admin = ""
	}
	before = succeed()
	p = passed(wrong)
	if before != nil { // the flags are those by which they were opened
		return p, before
	}
	switch {
	case len(p.clients) == 0:
		if ln := listen("bind", bind, wrong); ln != nil {
			p.clients, p.bind = []net.Listener{ln}, bind
		}
	case bind != config.DefaultBind:
		*warnings = append(*warnings, fmt.Sprintf("--bind does nothing: sockets were passed to this program, and it listens on %s", p.clients[0].Addr()))
	}
	switch {
	case admin == "":
	case p.admin != nil:
		*warnings = append(*warnings, fmt.Sprintf("--admin-bind does nothing: a socket was passed to this program, and it listens on %s", p.admin.Addr()))
	default:
		p.admin = listen("admin.bind", admin, wrong)
	}
	return p, nil
}

// describe returns what is logged of a listener: the address as it was asked for, and
// whether that includes IPv6. For 0.0.0.0 the system opens a socket for both.
func (p listeners) describe(ln net.Listener) []any {
	actual := ln.Addr().(*net.TCPAddr)
	host, _, err := net.SplitHostPort(p.bind)
	if err != nil {
		host = actual.IP.String()
	}
	return []any{"address", net.JoinHostPort(host, strconv.Itoa(actual.Port)), "ipv6", actual.IP.To4() == nil}
}

// passed returns the sockets that the program was started with.
func passed(wrong *usageErrors) (p listeners) {
	for _, file := range activation.Files(true) {
		ln, err := net.FileListener(file) // a copy
		file.Close()
		_, tcp := ln.(*net.TCPListener)
		switch {
		case err != nil || !tcp && file.Name() != adminSocket:
			wrong.add("bind", fmt.Errorf("the socket %q that was passed to this program cannot be used: it has to listen on TCP (ListenStream=, and no Accept=yes)", file.Name()))
			if ln != nil {
				ln.Close()
			}
		case file.Name() == adminSocket:
			p.admin = ln
		default:
			p.clients = append(p.clients, ln)
		}
	}
	return p
}

func (p listeners) close() {
	for _, ln := range p.clients {
		ln.Close()
	}
	if p.admin != nil {
		p.admin.Close()
	}
}

// listen opens a port. It returns nil, not a nil *net.TCPListener, when it
// cannot.
func listen(setting, address string, wrong *usageErrors) net.Listener {
	if config.CheckBind(address) != nil { // which has been said
		return nil
	}
	ln, err := net.Listen("tcp", address)
	if err == nil {
		return ln
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		err = fmt.Errorf("%s is in use by another program: end that, or choose another port", address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		err = fmt.Errorf("%s is not an address of this machine: use 0.0.0.0 for all it has", address)
	case errors.Is(err, fs.ErrPermission):
		err = fmt.Errorf("%s may not be opened by this user: ports below 1024 are for root; choose another port", address)
	default:
		err = fmt.Errorf("%s cannot be listened on: %w", address, err)
	}
	wrong.add(setting, err)
	return nil
}
