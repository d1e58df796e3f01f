package peer

import (
	"crypto/tls"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// BulkArgs asks for traffic on all connections of a set at once.
type BulkArgs struct {
	Set int
	// Requests are sent in turn.
	Requests []Request
	// Depth is how many of them may be without an answer on a connection.
	Depth int
	// BytesPerSecond bounds the records of all connections together. 0: no bound.
	BytesPerSecond int
	// Duration is how long requests are sent: one on each connection at the
	// least. All are waited for.
	Duration time.Duration
	// SlowEvery has every so-many-th connection read slowly. 0: none.
	SlowEvery int
}

// BulkReply says what was done.
type BulkReply struct {
	// Bytes of whole frames, requests and responses.
	Bytes int64
	// Frames is how many those were.
	Frames int64
	// Elapsed is the time to the last response.
	Elapsed time.Duration
}

// Bulk sends requests on every connection until the time is over, and waits
// for all answers.
func (l *Load) Bulk(args BulkArgs, reply *BulkReply) error {
	conns, requests, err := l.prepare(args.Set, args.Requests)
	if err != nil {
		return err
	}
	begin := time.Now()
	var bytes, count atomic.Int64
	var group errgroup.Group
	for i, c := range conns {
		s := stream{conn: c, requests: requests, depth: max(1, args.Depth), end: begin.Add(args.Duration)}
		s.slow = args.SlowEvery > 0 && i%args.SlowEvery == 0
		if args.BytesPerSecond > 0 {
			s.interval = time.Duration(float64(args.Requests[0].Bytes*len(conns)) / float64(args.BytesPerSecond) * float64(time.Second))
			s.next = begin.Add(s.interval * time.Duration(i) / time.Duration(len(conns))) // not all at once
		}
		group.Go(func() error {
			c.SetDeadline(s.end.Add(patience))
			defer c.SetDeadline(time.Time{})
			err := s.run()
			bytes.Add(s.sent + s.received)
			count.Add(s.count)
			return err
		})
	}
	err = group.Wait()
	*reply = BulkReply{Bytes: bytes.Load(), Frames: count.Load(), Elapsed: time.Since(begin)}
	return err
}

// stream is the traffic on one connection.
type stream struct {
	conn     *conn
	requests [][]byte
	depth    int
	end      time.Time
	interval time.Duration // between requests; 0: none
	next     time.Time     // when the next may be sent
	slow     bool

	sent, received, count int64
}

func (s *stream) run() error {
	// A request's correlation id is queued before it is sent, and taken off the
	// queue by the reader that waits for its answer: so many, and one more, are
	// under way.
	inFlight := make(chan int32, s.depth-1)
	read := make(chan error, 1)
	go func() { read <- s.receive(inFlight) }()
	written := s.send(inFlight)
	close(inFlight)
	if err := <-read; err != nil {
		return err
	}
	return written
}

func (s *stream) send(inFlight chan<- int32) error {
	for i := 0; ; i++ {
		if s.interval > 0 {
			time.Sleep(time.Until(s.next))
			s.next = s.next.Add(s.interval)
		}
		if i > 0 && !time.Now().Before(s.end) {
			return nil
		}
		inFlight <- int32(i)
		frame := s.requests[i%len(s.requests)]
		if err := s.conn.send(frame, inRequest, int32(i)); err != nil {
			// Nothing more will come; have the reader see that too.
			s.conn.wire.Conn.Close()
			return err
		}
		s.sent += int64(len(frame))
	}
}

func (s *stream) receive(inFlight <-chan int32) error {
	var failed error
	for correlation := range inFlight {
		if failed != nil {
			continue // the writer must not wait for room in the queue
		}
		n, err := s.receiveOne(correlation)
		if err != nil {
			failed = err
			s.conn.wire.Conn.Close() // ends the writer
			continue
		}
		s.received += int64(n)
		s.count += 2
	}
	return failed
}

func (s *stream) receiveOne(correlation int32) (int, error) {
	if !s.slow {
		return s.conn.receive(correlation)
	}
	const piece = 32 << 10
	size, err := s.conn.receiveHeader(correlation)
	for left := size; left > 0 && err == nil; left -= piece {
		time.Sleep(time.Millisecond)
		_, err = s.conn.in.Discard(min(left, piece))
	}
	return size, err
}

// RoundTripsArgs asks for requests one at a time on each connection of a set.
type RoundTripsArgs struct {
	Set     int
	Request Request
	// PerSecond is how many requests are sent in a second over all connections
	// together. 0: each as soon as the one before has been answered.
	PerSecond int
	Duration  time.Duration
}

// RoundTripsReply has the time that each took.
type RoundTripsReply struct{ Nanoseconds []int64 }

// RoundTrips sends requests, one at a time on each connection, and measures how
// long each answer takes.
func (l *Load) RoundTrips(args RoundTripsArgs, reply *RoundTripsReply) error {
	conns, requests, err := l.prepare(args.Set, []Request{args.Request})
	if err != nil {
		return err
	}
	begin := time.Now()
	taken := make([][]int64, len(conns))
	var group errgroup.Group
	for i, c := range conns {
		t := trips{conn: c, frame: requests[0], next: begin, end: begin.Add(args.Duration)}
		if args.PerSecond > 0 {
			t.interval = time.Duration(len(conns)) * time.Second / time.Duration(args.PerSecond)
			t.next = begin.Add(t.interval * time.Duration(i) / time.Duration(len(conns))) // not all at once
		}
		group.Go(func() (err error) {
			taken[i], err = t.run()
			return err
		})
	}
	err = group.Wait()
	reply.Nanoseconds = slices.Concat(taken...)
	return err
}

// trips are the requests on one connection.
type trips struct {
	conn     *conn
	frame    []byte
	interval time.Duration // between requests; 0: none
	next     time.Time     // when the next is due
	end      time.Time
}

func (t *trips) run() ([]int64, error) {
	t.conn.SetDeadline(t.end.Add(patience))
	defer t.conn.SetDeadline(time.Time{})
	taken := make([]int64, 0, 1<<12)
	for i := int32(0); ; i++ {
		begin := t.wait()
		if !begin.Before(t.end) && i > 0 {
			return taken, nil
		}
		if err := t.conn.send(t.frame, inRequest, i); err != nil {
			return taken, err
		}
		if _, err := t.conn.receive(i); err != nil {
			return taken, err
		}
		taken = append(taken, int64(time.Since(begin)))
	}
}

// wait returns the time from which the next request counts. That is now, however
// late the timer was; but for a request that had to wait for the answer before it
// the time when it was due: one slow answer is not to hide that the others were
// late.
func (t *trips) wait() time.Time {
	if t.interval == 0 {
		return time.Now()
	}
	due := t.next
	t.next = due.Add(t.interval)
	if time.Since(due) > 0 {
		return due
	}
	time.Sleep(time.Until(due))
	return time.Now()
}

// ExchangeArgs asks for the same requests, once, on every connection.
type ExchangeArgs struct {
	Set      int
	Requests []Request
}

// Exchange has every connection of a set carry requests, a few connections
// at a time, as many clients do that are mostly idle.
func (l *Load) Exchange(args ExchangeArgs, reply *BulkReply) error {
	conns, requests, err := l.prepare(args.Set, args.Requests)
	if err != nil {
		return err
	}
	begin := time.Now()
	var bytes, count atomic.Int64
	var group errgroup.Group
	group.SetLimit(8)
	for _, c := range conns {
		group.Go(func() error {
			c.SetDeadline(time.Now().Add(patience))
			defer c.SetDeadline(time.Time{})
			for i, frame := range requests {
				if err := c.send(frame, inRequest, int32(i)); err != nil {
					return err
				}
				n, err := c.receive(int32(i))
				if err != nil {
					return err
				}
				bytes.Add(int64(len(frame) + n))
				count.Add(2)
			}
			return nil
		})
	}
	err = group.Wait()
	*reply = BulkReply{Bytes: bytes.Load(), Frames: count.Load(), Elapsed: time.Since(begin)}
	return err
}

// HandshakesArgs asks for short connections, one after the other.
type HandshakesArgs struct {
	Server Server
	// Workers is how many of them there are at a time.
	Workers int
	// Resume has each worker resume the TLS session of its connection before.
	Resume   bool
	Duration time.Duration
}

// HandshakesReply says how many there were.
type HandshakesReply struct {
	Connections, Resumed int64
	Elapsed              time.Duration
}

// Handshakes opens connections, has one small request answered on each, so
// that the path to the broker is known to work, and closes them.
func (l *Load) Handshakes(args HandshakesArgs, reply *HandshakesReply) error {
	greet, err := frames(Request{Kind: ApiVersions})
	if err != nil {
		return err
	}
	begin := time.Now()
	end := begin.Add(args.Duration)
	var connections, resumed atomic.Int64
	var group errgroup.Group
	for range args.Workers {
		group.Go(func() error {
			config := l.config.Clone()
			if args.Resume {
				config.ClientSessionCache = tls.NewLRUClientSessionCache(0)
			}
			for i := 0; i == 0 || time.Now().Before(end); i++ {
				c, err := l.connect(args.Server, config, greet)
				if err != nil {
					return err
				}
				connections.Add(1)
				if c.ConnectionState().DidResume {
					resumed.Add(1)
				}
				c.Close()
			}
			return nil
		})
	}
	err = group.Wait()
	*reply = HandshakesReply{Connections: connections.Load(), Resumed: resumed.Load(), Elapsed: time.Since(begin)}
	return err
}
