package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"
)

// gate is a SOCKS5 server (RFC 1928) that wants a user and a password (RFC 1929). It knows
// the names of some brokers, which nobody else has to resolve, and no addresses.
type gate struct {
	listener       net.Listener
	user, password string
	knows          map[string]string // the addresses of names
	connections    sync.WaitGroup

	mu      sync.Mutex
	passed  map[string]int // connections made, by the host:port that was asked for
	refused []string       // why, and to whom
}

const gateUser, gatePassword = "gate", "p@ss:/word" // in a URL, escaped

// startGate starts a gate to the brokers of a cluster that ends with the context.
func startGate(ctx context.Context, c *cluster) (*gate, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	g := &gate{listener: listener, user: gateUser, password: gatePassword, knows: map[string]string{}, passed: map[string]int{}}
	for _, b := range c.brokers {
		g.knows[b.name] = b.address
	}
	context.AfterFunc(ctx, func() { listener.Close() })
	go g.serve(ctx)
	return g, nil
}

func (g *gate) address() string { return g.listener.Addr().String() }

func (g *gate) serve(ctx context.Context) {
	for {
		conn, err := g.listener.Accept()
		if err != nil {
			return
		}
		g.connections.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			if err := g.pass(ctx, conn.(*net.TCPConn)); err != nil {
				g.mu.Lock()
				g.refused = append(g.refused, err.Error())
				g.mu.Unlock()
			}
		})
	}
}

func (g *gate) stop() {
	g.listener.Close()
	g.connections.Wait()
}

// pass serves one connection. The error is that of a client that is refused.
func (g *gate) pass(ctx context.Context, conn *net.TCPConn) error {
	if err := g.login(conn); err != nil {
		return err
	}
	host, port, err := g.wanted(conn)
	if err != nil {
		return err
	}
	const hostUnreachable = 4
	address, known := g.knows[host]
	if !known {
		reply(conn, hostUnreachable)
		return fmt.Errorf("asked for %q, which is no name of a broker here", host)
	}
	to, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(address, port))
	if err != nil {
		reply(conn, hostUnreachable)
		return err
	}
	defer to.Close()
	defer context.AfterFunc(ctx, func() { to.Close() })()
	g.mu.Lock()
	g.passed[net.JoinHostPort(host, port)]++
	g.mu.Unlock()
	if err := reply(conn, 0); err != nil {
		return nil // the client has gone
	}
	var both errgroup.Group
	for _, way := range [][2]*net.TCPConn{{conn, to.(*net.TCPConn)}, {to.(*net.TCPConn), conn}} {
		both.Go(func() error { // how it ends is for the two ends to know
			io.Copy(way[0], way[1])
			return way[0].CloseWrite()
		})
	}
	_ = both.Wait()
	return nil
}

// login has the client show user and password.
func (g *gate) login(conn net.Conn) error {
	const byPassword, none = 2, 0xff
	methods, err := counted(conn, 1) // after the version
	if err != nil {
		return err
	}
	for _, m := range methods {
		if m == byPassword {
			if _, err := conn.Write([]byte{5, byPassword}); err != nil {
				return err
			}
			user, err1 := counted(conn, 1)
			password, err2 := counted(conn, 0)
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			if string(user) != g.user || string(password) != g.password {
				conn.Write([]byte{1, 1})
				return errors.New("wrong user or password")
			}
			_, err = conn.Write([]byte{1, 0})
			return err
		}
	}
	conn.Write([]byte{5, none})
	return errors.New("no user and password")
}

// wanted reads what the client wants to be connected to: a name alone.
func (g *gate) wanted(conn net.Conn) (host, port string, err error) {
	const byName = 3
	head := make([]byte, 4) // version, command, 0, type of address
	if _, err := io.ReadFull(conn, head); err != nil {
		return "", "", err
	}
	if head[1] != 1 || head[3] != byName {
		const notSupported = 8
		reply(conn, notSupported)
		return "", "", fmt.Errorf("command %d and type of address %d: a connection to a name was expected", head[1], head[3])
	}
	name, err := counted(conn, 0)
	number := make([]byte, 2)
	if _, err2 := io.ReadFull(conn, number); err == nil {
		err = err2
	}
	return string(name), strconv.Itoa(int(number[0])<<8 | int(number[1])), err
}

// counted reads skip bytes, a length of one byte, and so many bytes.
func counted(conn io.Reader, skip int) ([]byte, error) {
	head := make([]byte, skip+1)
	if _, err := io.ReadFull(conn, head); err != nil {
		return nil, err
	}
	rest := make([]byte, head[skip])
	_, err := io.ReadFull(conn, rest)
	return rest, err
}

func reply(conn net.Conn, code byte) error {
	_, err := conn.Write([]byte{5, code, 0, 1, 0, 0, 0, 0, 0, 0})
	return err
}

// used returns how many connections the gate has made to each host:port, and an error if it
// has refused any, or made none.
func (g *gate) used() (map[string]int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case len(g.refused) > 0:
		return g.passed, fmt.Errorf("the gate has refused %d connections: %q", len(g.refused), g.refused[0])
	case len(g.passed) == 0:
		return g.passed, errors.New("nothing has gone through the gate")
	}
	return g.passed, nil
}
