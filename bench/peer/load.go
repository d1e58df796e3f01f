package peer

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"kafka-sni-proxy/internal/certs"
)

// Server is where clients connect to, and the name they ask for.
type Server struct {
	Address    string
	ServerName string
}

// LoadOptions says how the load client is to run.
type LoadOptions struct {
	// Dir has the CA of the servers.
	Dir string
	// Buffer is how much it reads at once on a connection, at the most.
	Buffer int
}

// RunLoad is the load client. It does what its parent asks it for over stdin
// and stdout, see [Client], and ends when stdin does.
func RunLoad(o LoadOptions, stdin io.ReadCloser, stdout io.WriteCloser) error {
	roots, err := certs.LoadPool(filepath.Join(o.Dir, CAFile))
	if err != nil {
		return err
	}
	l := &Load{
		config: &tls.Config{
			RootCAs:                     roots,
			MinVersion:                  tls.VersionTLS13,
			CurvePreferences:            curves,
			DynamicRecordSizingDisabled: true,
		},
		buffer: o.Buffer,
		sets:   map[int]connections{},
	}
	server := rpc.NewServer()
	if err := server.Register(l); err != nil {
		return err
	}
	server.ServeConn(pipes{stdin, stdout})
	return nil
}

// Load is what the parent process calls.
type Load struct {
	config *tls.Config
	buffer int

	mu   sync.Mutex
	sets map[int]connections
	last int
}

// connections are a set of them, to one server.
type connections []*conn

// patience is how much longer than planned anything may take before it counts
// as stalled.
const patience = 10 * time.Second

// OpenArgs asks for connections that have been greeted as a client would: with
// ApiVersions and Metadata.
type OpenArgs struct {
	Server      Server
	Connections int
}

// OpenReply names the set for the other calls.
type OpenReply struct{ Set int }

// Open opens connections, several at a time.
func (l *Load) Open(args OpenArgs, reply *OpenReply) error {
	greet, err := greeting()
	if err != nil {
		return err
	}
	conns := make(connections, args.Connections)
	var group errgroup.Group
	group.SetLimit(16)
	for i := range conns {
		group.Go(func() (err error) {
			conns[i], err = l.connect(args.Server, l.config, greet)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		conns.close()
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	l.sets[l.last] = conns
	reply.Set = l.last
	return nil
}

// connect opens one connection and has these requests answered on it.
func (l *Load) connect(to Server, config *tls.Config, requests [][]byte) (*conn, error) {
	raw, err := net.DialTimeout("tcp", to.Address, patience)
	if err != nil {
		return nil, err
	}
	config = config.Clone()
	config.ServerName = to.ServerName
	c := newConn(raw, l.buffer, func(raw net.Conn) *tls.Conn { return tls.Client(raw, config) })
	c.SetDeadline(time.Now().Add(patience))
	if err := c.greet(requests); err != nil {
		c.Close()
		return nil, fmt.Errorf("connecting to %s: %w", to.ServerName, err)
	}
	c.SetDeadline(time.Time{})
	return c, nil
}

func (c *conn) greet(requests [][]byte) error {
	if err := c.Handshake(); err != nil {
		return err
	}
	if suite := c.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		return fmt.Errorf("the server chose %s, which cannot be compared", tls.CipherSuiteName(suite))
	}
	c.wire.gather = true
	for i, frame := range requests {
		if err := c.send(frame, inRequest, int32(i)); err != nil {
			return err
		}
		if _, err := c.receive(int32(i)); err != nil {
			return err
		}
	}
	return nil
}

// receive reads the response to a request and returns its size.
func (c *conn) receive(correlation int32) (int, error) {
	size, err := c.receiveHeader(correlation)
	if err == nil {
		_, err = c.in.Discard(size)
	}
	return size, err
}

func (c *conn) receiveHeader(correlation int32) (int, error) {
	head, err := c.in.Peek(8)
	if err != nil {
		return 0, err
	}
	size := int(binary.BigEndian.Uint32(head))
	if got := int32(binary.BigEndian.Uint32(head[inResponse:])); got != correlation || size < 4 || size > 2*maxBytes {
		return 0, fmt.Errorf("%w: a response of %d bytes to request %d, when %d is next", errFrame, size, got, correlation)
	}
	return 4 + size, nil
}

// Close closes a set of connections.
func (l *Load) Close(id int, _ *struct{}) error {
	l.mu.Lock()
	conns := l.sets[id]
	delete(l.sets, id)
	l.mu.Unlock()
	conns.close()
	return nil
}

func (cs connections) close() {
	var group errgroup.Group
	group.SetLimit(16)
	for _, c := range cs {
		if c != nil {
			group.Go(c.Close)
		}
	}
	group.Wait() // how they end is of no interest
}

func (l *Load) set(id int) (connections, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sets[id] == nil {
		return nil, fmt.Errorf("no set of connections %d", id)
	}
	return l.sets[id], nil
}

// prepare returns a set of connections and the frames of requests.
func (l *Load) prepare(set int, requests []Request) (connections, [][]byte, error) {
	conns, err := l.set(set)
	if err != nil {
		return nil, nil, err
	}
	encoded, err := frames(requests...)
	return conns, encoded, err
}

// greeting is what clients begin with.
func greeting() ([][]byte, error) {
	return frames(Request{Kind: ApiVersions}, Request{Kind: Metadata, Brokers: 3})
}

func frames(requests ...Request) ([][]byte, error) {
	all := make([][]byte, len(requests))
	for i, r := range requests {
		var err error
		if all[i], err = r.frame(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// pipes is a connection made of stdin and stdout.
type pipes struct {
	io.ReadCloser
	w io.WriteCloser
}

func (p pipes) Write(b []byte) (int, error) { return p.w.Write(b) }

func (p pipes) Close() error {
	p.w.Close()
	return p.ReadCloser.Close()
}
