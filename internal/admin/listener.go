package admin

import (
	"net"
	"sync"
)

// maxConnections is how many connections there are at once. Prometheus and probes need a
// handful; each connection takes a descriptor that clients of Kafka may want.
const maxConnections = 64

// newestListener keeps the newest maxConnections connections: one more closes the oldest.
// So clients that connect and then do nothing keep nobody out, however many they are: a
// probe is answered long before as many newer ones have come.
type newestListener struct {
	net.Listener

	mu   sync.Mutex
	open []*limitedConn // the oldest first
}

// limitedConn is one of them. Closing it takes it off the list.
type limitedConn struct {
	net.Conn
	listener *newestListener
	once     sync.Once
}

// Accept implements net.Listener.
func (l *newestListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &limitedConn{Conn: conn, listener: l}
	if oldest := l.add(c); oldest != nil {
		oldest.Close()
	}
	return c, nil
}

// add adds a connection, and returns the one that has to go for it, if any.
func (l *newestListener) add(c *limitedConn) (oldest *limitedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = append(l.open, c)
	if len(l.open) > maxConnections {
		return l.open[0]
	}
	return nil
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	c.once.Do(func() { c.listener.remove(c) })
	return c.Conn.Close()
}

func (l *newestListener) remove(c *limitedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.open {
		if l.open[i] == c {
			l.open = append(l.open[:i], l.open[i+1:]...)
			return
		}
	}
}
