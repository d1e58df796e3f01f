package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/tlswire"
)

// queries is what is known of asking the cluster where its brokers are. The proxy asks
// over a connection of its own (Query), or within a client's session (in band), since a
// cluster with SASL answers only those who have authenticated. There is one query of
// the first kind at a time, however many wait for the answer.
type queries struct {
	mu            sync.Mutex
	running       chan struct{} // closed when the query under way has ended; nil: none is
	next          time.Time     // when to query again
	answered      bool          // the last query was
	refusalLogged bool          // that the cluster does not answer has been logged

	nextInBand   time.Time // when a session may query again
	silentInBand int       // queries there without a useful answer, in a row
}

const (
	// QueryTimeout bounds a query, dialing included. A client waits for it.
	QueryTimeout = 5 * time.Second
	// queryPause is between two queries that were answered, or for which no
	// broker could be reached.
	queryPause = time.Second
	// refusedPause is how long a cluster is not asked again that was reached and
	// did not answer. With SASL it never will, and counts a failed authentication.
	refusedPause = time.Minute
	// InBandPause is between two queries within one session, and for how long
	// there are none in any after maxSilent without a useful answer. One alone may
	// be due to a broker that dies.
	InBandPause = 15 * time.Second
	maxSilent   = 3
)

// errNotAnswered is from a cluster that was reached and did not answer.
var errNotAnswered = errors.New("the cluster does not answer without authentication")

// Query has the cluster tell where its brokers are, and returns when the table has
// learned that or when it is not to be had. With fresh, the answer is newer than the
// call, if the cluster answers at all: one that was just given may be older than the
// name that is asked for.
func (c *Cluster) Query(ctx context.Context, fresh bool) {
	q := &c.queries
	for ctx.Err() == nil {
		q.mu.Lock()
		running, pause := q.running, time.Until(q.next)
		switch {
		case running != nil:
			q.mu.Unlock()
			select {
			case <-running:
			case <-ctx.Done():
			}
			return
		case pause <= 0:
			q.running = make(chan struct{})
			q.mu.Unlock()
			c.runQuery(ctx)
			return
		case !fresh || !q.answered:
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// runQuery queries and notes how that went. Those who wait for the answer are released
// even by a panic.
func (c *Cluster) runQuery(ctx context.Context) {
	began := time.Now()
	err := errNotAnswered
	q := &c.queries
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		close(q.running)
		q.running = nil
		if ctx.Err() == nil { // else the client's session was cut
			c.noteQuery(err, time.Since(began))
		}
	}()
	err = c.queryUpstreams(ctx)
}

// noteQuery notes what came of a query. The caller holds the lock of c.queries.
func (c *Cluster) noteQuery(err error, took time.Duration) {
	q := &c.queries
	q.answered = err == nil
	c.counts.query(err == nil)
	q.next = time.Now().Add(queryPause)
	switch {
	case err == nil:
		q.refusalLogged = false
		c.config.Log.Debug("asked the cluster where its brokers are", "brokers", c.routes.Known(), "took", took.Round(time.Microsecond))
	case errors.Is(err, errNotAnswered):
		q.next = time.Now().Add(refusedPause)
		if !q.refusalLogged {
			c.config.Log.Info("the cluster does not tell the proxy where its brokers are, as is usual with SASL; clients that ask for one are served by a bootstrap server until the answers to some client tell", "error", err)
			q.refusalLogged = true
		}
	default:
		c.config.Log.Debug("asking the cluster where its brokers are", "error", err)
	}
}

// queryUpstreams queries a bootstrap server: the next one, when one turns out to
// belong to another cluster.
func (c *Cluster) queryUpstreams(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, QueryTimeout)
	defer cancel()
	upstreams := c.bootstrap()
	for left := len(upstreams); ; left-- {
		err := c.fetchBrokers(ctx, upstreams...)
		var connect *ConnectError
		if left == 1 || !isOtherCluster(err) || errors.As(err, &connect) { // all of them, by now
			return err
		}
	}
}

// MetadataQuery asks for the brokers, and for no topics. The version is an old one in
// which that can be said, and older brokers and newer ones know it.
var MetadataQuery = []byte("\x00\x00\x00\x1e" + // length
	"\x00\x03\x00\x04" + // Metadata v4
	"\x00\x00\x00\x00" + // correlation id
	"\x00\x0fkafka-sni-proxy" +
	"\x00\x00\x00\x00" + // no topics
	"\x00") // create none

// fetchBrokers queries one of the addresses once, and has the table learn from the
// answer.
func (c *Cluster) fetchBrokers(ctx context.Context, addresses ...route.Address) error {
	broker, address, err := c.dial(ctx, addresses)
	if err != nil {
		return err
	}
	defer broker.Close()
	defer context.AfterFunc(ctx, broker.CloseNow)()
	if err := c.logIn(ctx, broker, address); err != nil {
		return fmt.Errorf("%w: logging in at %s: %w", errNotAnswered, address, err)
	}

	told := 0
	names, clusterID := c.Learner(address, nil)
	err = ask(broker, MetadataQuery, &kafka.Responses{Out: io.Discard, MaxFrame: c.config.MaxFrameBytes,
		ClusterID: clusterID,
		Names: func(node int32, host []byte, port int32) (string, int32, error) {
			told++
			return names(node, host, port)
		}})
	if err == nil && told == 0 {
		err = errors.New("there are no brokers in its answer")
	}
	switch {
	case isOtherCluster(err):
		return err
	case err != nil:
		return fmt.Errorf("%w: asking %s for metadata: %w", errNotAnswered, address, err)
	}
	return nil
}

// ask sends a request, and has its response, whole, go the way of responses.
func ask(broker *tlswire.Conn, request []byte, responses *kafka.Responses) error {
	var inFlight kafka.InFlight
	requests := kafka.Requests{Out: broker, InFlight: &inFlight}
	responses.InFlight = &inFlight
	_, err := requests.Forward(request)
	for batch := make([]byte, 16<<10); err == nil && (inFlight.Len() > 0 || !responses.AtBoundary()); {
		n := 0
		n, err = broker.Read(batch)
		if err == nil || err == io.EOF {
			err = errors.Join(responses.Forward(batch[:n]), err)
		}
	}
	return err
}

// NextInBandQuery returns when a session may send [MetadataQuery] to its broker.
func (c *Cluster) NextInBandQuery() time.Time {
	c.queries.mu.Lock()
	defer c.queries.mu.Unlock()
	return c.queries.nextInBand
}

// NoteInBandQuery notes whether the broker at an address told of any broker when it
// was asked within a session.
func (c *Cluster) NoteInBandQuery(answered bool, asked route.Address) {
	c.counts.query(answered)
	q := &c.queries
	q.mu.Lock()
	defer q.mu.Unlock()
	if answered {
		q.silentInBand = 0
		c.config.Log.Debug("asked a broker in a client's session where all of them are", "upstream", asked.String(), "brokers", c.routes.Known())
		return
	}
	if q.silentInBand++; q.silentInBand >= maxSilent {
		q.nextInBand = time.Now().Add(InBandPause)
	}
	if q.silentInBand == maxSilent {
		c.config.Log.Info("brokers do not tell within clients' sessions where all of them are; clients that ask for one stay with a bootstrap server until the answers to some client tell", "upstream", asked.String())
	}
}
