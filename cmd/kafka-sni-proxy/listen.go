package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"

	"kafka-sni-proxy/internal/config"
	"kafka-sni-proxy/internal/server"
)

// sockets are where clients and administrators connect.
type sockets struct {
	admin net.Listener // nil: none

	// passed are those that the program was started with and that nobody has taken yet, by
	// their names.
	passed      map[string][]net.Listener
	inOrder     []net.Listener // all that were passed, as they came: the first port is the one that is advertised
	isSuccessor bool           // they are those of the process before this one

	mu     sync.Mutex
	byBind map[string][]*socket // by the address that was asked for; several, if they were passed
}

// socket is one where clients connect.
type socket struct {
	net.Listener
	bind string // the address that was asked for
	own  bool   // it was opened here, and not passed
	at   *server.Socket

	isServed bool // its clients are accepted
}

// adminSocket is the name of the admin port among those that are passed: in
// systemd's terms its FileDescriptorName.
const adminSocket = "admin"

// receive takes the sockets that the program was started with, by systemd
// (sd_listen_fds(3)), or by the process before this one, which waits until it is told that
// this one serves.
func (o *sockets) receive(wrong *mistakes) (before *predecessor) {
	before = succeed()
	o.isSuccessor = before != nil
	o.passed = map[string][]net.Listener{}
	for _, file := range activation.Files(true) {
		ln, err := net.FileListener(file) // a copy
		file.Close()
		_, tcp := ln.(*net.TCPListener)
		switch name := file.Name(); {
		case err != nil || !tcp && name != adminSocket:
			wrong.add(fmt.Errorf("the socket %q that was passed to this program cannot be used: it has to listen on TCP (ListenStream=, and no Accept=yes)", name), config.ListenerPath(0, "bind"))
			if ln != nil {
				ln.Close()
			}
		case name == adminSocket:
			o.admin = ln
		default:
			if bind, err := url.QueryUnescape(name); err == nil { // see nameOf
				name = bind
			}
			o.passed[name] = append(o.passed[name], ln)
			o.inOrder = append(o.inOrder, ln)
		}
	}
	return before
}

// formerName is the name under which versions without a configuration file pass sockets.
const formerName = "clients"

// nameOf returns the name under which a socket is passed to the process that takes over:
// its address, in which there must be no colon.
func nameOf(s *socket) string { return url.QueryEscape(s.bind) }

// openAdmin opens the admin port, unless it was passed.
func (o *sockets) openAdmin(bind string, wrong *mistakes) (warnings []string) {
	switch {
	case bind == "" || o.isSuccessor && o.admin != nil:
	case o.admin != nil:
		warnings = append(warnings, fmt.Sprintf("--admin-bind does nothing: a socket was passed to this program, and it listens on %s", o.admin.Addr()))
	default:
		o.admin = listen("admin.bind", bind, wrong)
	}
	return warnings
}

// open gives listeners their sockets. Those that are open already, or were passed, are
// used; others are opened.
func (o *sockets) open(listeners []*listenerPart, wrong *mistakes) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.byBind == nil {
		o.byBind = map[string][]*socket{}
	}
	for _, l := range listeners {
		for _, address := range l.config.Addresses() {
			if len(o.byBind[address]) == 0 {
				o.byBind[address] = o.take(l, address, len(listeners) == 1)
			}
			if len(o.byBind[address]) == 0 {
				if ln := o.listen(config.ListenerPath(l.index, "bind"), address, wrong); ln != nil {
					o.byBind[address] = []*socket{{Listener: ln, bind: address, own: true}}
				}
			}
			l.sockets = append(l.sockets, o.byBind[address]...)
		}
	}
}

// listen opens a port for clients. The caller holds o.mu.
func (o *sockets) listen(path, address string, wrong *mistakes) net.Listener {
	before := len(wrong.found)
	ln := listen(path, address, wrong)
	if ln != nil {
		return ln
	}
	_, port, _ := net.SplitHostPort(address)
	for _, all := range o.byBind {
		for _, s := range all {
			if at := s.Addr().(*net.TCPAddr); strconv.Itoa(at.Port) == port {
				wrong.found = wrong.found[:before]
				wrong.add(fmt.Errorf("%s cannot be opened while this proxy listens on %s: choose another port, or start the proxy anew", address, at), path)
				return nil
			}
		}
	}
	return nil
}

// take takes those of the passed sockets that are for an address of a listener: by name, by
// address, or all there are for the only listener. The caller holds o.mu.
func (o *sockets) take(l *listenerPart, address string, isOnly bool) (taken []*socket) {
	isBootstrap := address == l.config.Bind
	for name, all := range o.passed {
		for _, ln := range all {
			switch {
			case name == address, isBootstrap && name == l.config.Name && l.config.Ports == nil,
				isAt(ln, address), isOnly && isBootstrap && l.config.Ports == nil && (!o.isSuccessor || name == formerName):
				taken = append(taken, &socket{Listener: ln, bind: address})
			}
		}
	}
	slices.SortFunc(taken, func(a, b *socket) int {
		return cmp.Compare(slices.Index(o.inOrder, a.Listener), slices.Index(o.inOrder, b.Listener))
	})
	for _, s := range taken {
		for name, all := range o.passed {
			o.passed[name] = without(all, s.Listener)
		}
	}
	return taken
}

// isAt reports whether a socket listens on an address.
func isAt(ln net.Listener, address string) bool {
	want, err := net.ResolveTCPAddr("tcp", address)
	if err != nil || want.Port == 0 {
		return false
	}
	at := ln.Addr().(*net.TCPAddr)
	return at.Port == want.Port && (at.IP.Equal(want.IP) || at.IP.IsUnspecified() && (want.IP == nil || want.IP.IsUnspecified()))
}

func without(all []net.Listener, one net.Listener) (rest []net.Listener) {
	for _, ln := range all {
		if ln != one {
			rest = append(rest, ln)
		}
	}
	return rest
}

// keep keeps the sockets of some listeners, and returns the others, which the caller closes.
func (o *sockets) keep(listeners []*listenerPart) (rest []*socket) {
	used := map[*socket]bool{}
	for _, l := range listeners {
		for _, s := range l.sockets {
			used[s] = true
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for bind, all := range o.byBind {
		for _, s := range all {
			if !used[s] {
				rest = append(rest, s)
				delete(o.byBind, bind)
			}
		}
	}
	return rest
}

// clients returns all sockets where clients connect.
func (o *sockets) clients() (all []*socket) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, sockets := range o.byBind {
		all = append(all, sockets...)
	}
	return all
}

// isOwn reports whether a connection leads to a socket that the proxy listens on: to its
// port, at an address of this machine.
func (o *sockets) isOwn(conn net.Conn) bool {
	to, isTCP := conn.RemoteAddr().(*net.TCPAddr)
	from, isTCP2 := conn.LocalAddr().(*net.TCPAddr)
	if !isTCP || !isTCP2 {
		return false
	}
	at := to.AddrPort().Addr().Unmap()
	if !at.IsLoopback() && at != from.AddrPort().Addr().Unmap() {
		return false // another machine
	}
	return o.listensOn(netip.AddrPortFrom(at, uint16(to.Port)))
}

// listensOn reports whether one of the sockets is at an address of this machine.
func (o *sockets) listensOn(at netip.AddrPort) bool {
	for _, s := range o.clients() {
		own := s.Addr().(*net.TCPAddr).AddrPort()
		if ip := own.Addr().Unmap(); own.Port() == at.Port() && (ip.IsUnspecified() || ip == at.Addr()) {
			return true
		}
	}
	return false
}

// warnings are of sockets that were passed and that no listener is for, which are closed,
// and of addresses that do nothing because there were sockets.
func (o *sockets) passedWarnings(listeners []*listenerPart) (warnings []string) {
	for name, all := range o.passed {
		for _, ln := range all {
			ln.Close()
			if !o.isSuccessor { // whose configuration may have changed
				warnings = append(warnings, fmt.Sprintf("the socket %q that was passed to this program, at %s, is closed: there is no listener of that name (FileDescriptorName=) or address", name, ln.Addr()))
			}
		}
	}
	o.passed = nil
	if len(listeners) == 1 && !o.isSuccessor {
		s := listeners[0].sockets[0]
		if !s.own && s.bind != config.DefaultBind && !isAt(s, s.bind) {
			warnings = append(warnings, fmt.Sprintf("--bind does nothing: sockets were passed to this program, and it listens on %s", s.Addr()))
		}
	}
	return warnings
}

// describe returns what is logged of a socket: the address as it was asked for, and
// whether that includes IPv6. For 0.0.0.0 the system opens a socket for both.
func (s *socket) describe() []any {
	actual := s.Addr().(*net.TCPAddr)
	host, _, err := net.SplitHostPort(s.bind)
	if err != nil || !s.own {
		host = actual.IP.String()
	}
	return []any{"address", net.JoinHostPort(host, strconv.Itoa(actual.Port)), "ipv6", actual.IP.To4() == nil}
}

func (o *sockets) close() {
	for _, s := range o.clients() {
		s.Close()
	}
	for _, all := range o.passed {
		for _, ln := range all {
			ln.Close()
		}
	}
	if o.admin != nil {
		o.admin.Close()
	}
}

// listen opens a port. It returns nil, not a nil *net.TCPListener, when it
// cannot.
func listen(path, address string, wrong *mistakes) net.Listener {
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
	wrong.add(err, path)
	return nil
}
