package kafkatest

import (
	"context"
	"fmt"
)

// StopBroker takes the broker out of the cluster and cuts its connections, as
// a broker that dies does once the controller has noticed: the others lead its
// partitions and metadata no longer lists it.
//
// The broker with the highest node id is the controller and stays it: while
// that one is stopped, requests that need a controller go unanswered.
func (c *Cluster) StopBroker(id int32) error {
	if err := c.Kafka.RemoveNode(id); err != nil {
		return fmt.Errorf("kafkatest: stopping broker %d: %w", id, err)
	}
	c.cut(id)
	return nil
}

// StartBroker brings a stopped broker back under its old name.
func (c *Cluster) StartBroker(id int32) error {
	c.mu.Lock()
	host, port := c.nodes[id].host, c.nodes[id].port
	c.mu.Unlock()
	return c.StartBrokerAt(id, host, port)
}

// StartBrokerAt brings a stopped broker back under another name or port: the
// same node id at a new address. With [Options.Ports], port is ignored.
func (c *Cluster) StartBrokerAt(id int32, host string, port int32) error {
	c.mu.Lock()
	n, ok := c.nodes[id]
	if !ok || n.ln != nil {
		c.mu.Unlock()
		return fmt.Errorf("kafkatest: broker %d is not stopped", id)
	}
	n.host, n.port = host, port
	c.next = id
	c.mu.Unlock()
	if _, _, err := c.Kafka.AddNode(id, 0); err != nil {
		return fmt.Errorf("kafkatest: starting broker %d: %w", id, err)
	}
	return nil
}

// Refuse has Dial refuse the broker from now on, or no longer. The cluster does
// not notice: metadata goes on to list the broker, and it leads what it led, as
// in the first seconds of a restart. Open connections stay; see CutConnections.
func (c *Cluster) Refuse(id int32, refuse bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[id].refuse = refuse
}

// CutConnections resets every connection to the broker, which stays up.
func (c *Cluster) CutConnections(id int32) { c.cut(id) }

func (c *Cluster) cut(id int32) {
	c.mu.Lock()
	open := make([]*conn, 0, len(c.nodes[id].open))
	for conn := range c.nodes[id].open {
		open = append(open, conn)
	}
	c.mu.Unlock()
	for _, conn := range open {
		Reset(conn)
		conn.Close()
	}
}

// Connections returns how many connections the broker has now.
func (c *Cluster) Connections(id int32) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.nodes[id].open)
}

// Opened returns how many connections the broker has accepted so far.
func (c *Cluster) Opened(id int32) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[id].opened
}

// WaitConnections waits until the broker has exactly n connections.
func (c *Cluster) WaitConnections(ctx context.Context, id int32, n int) error {
	for {
		c.mu.Lock()
		have, changed := len(c.nodes[id].open), c.changed
		c.mu.Unlock()
		if have == n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("kafkatest: broker %d has %d connections, waited for %d: %w", id, have, n, ctx.Err())
		}
	}
}

// WrongNames returns the server names that clients asked the broker for in a
// TLS handshake and that were not its own. Such a handshake is refused, as it
// is by clusters that route by SNI themselves.
func (c *Cluster) WrongNames(id int32) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.nodes[id].wrong...)
}
