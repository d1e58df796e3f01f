package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/route"
)

// reach connects to where a route leads. What the table does not know it asks
// the cluster for, if that answers; the route then says what came of it.
func (p *Proxy) reach(ctx context.Context, r *route.Route) (*side, route.Address, error) {
	if p.reroute(r); r.Kind == route.Provisional { // and nobody has learned it since the ClientHello
		p.ask(ctx, true)
		p.reroute(r)
	}
	s, address, err := p.dial(ctx, *r)
	if err == nil && r.Kind != route.Bootstrap && !r.Confirmed {
		// What another client has learned meanwhile is still in time here. Later
		// it would end the session.
		if p.reroute(r); r.Confirmed && r.Addresses[0] != address {
			s.Close()
			s, address, err = p.dial(ctx, *r)
		}
	}
	if err == nil || r.Kind != route.Broker || ctx.Err() != nil {
		return s, address, err
	}
	// The broker may be down, or it may have moved.
	was := r.Addresses[0]
	p.ask(ctx, false)
	p.reroute(r)
	switch {
	case r.Addresses[0] != was:
	case !r.Confirmed: // known from a file alone: no better than not known
		r.Kind, r.Node, r.Addresses = route.Provisional, -1, p.bootstrap().Addresses
	default:
		return nil, address, err
	}
	return p.dial(ctx, *r)
}

// reroute looks the route's name up again.
func (p *Proxy) reroute(r *route.Route) {
	if now, err := p.Routes.Resolve(r.Name); err == nil {
		*r = now
	}
}

func (p *Proxy) bootstrap() route.Route {
	r, err := p.Routes.Resolve(p.Routes.Bootstrap())
	if err != nil {
		panic(err) // a table knows its own bootstrap name
	}
	return r
}

// asking is what is known of asking the cluster where its brokers are. There is
// one question at a time, however many wait for the answer.
type asking struct {
	mu       sync.Mutex
	flight   chan struct{} // closed when the question under way has ended; nil: none is
	next     time.Time     // when to ask again
	answered bool          // the last question was
	refused  bool          // that the cluster does not answer has been logged

	nextHere   time.Time // when to ask within a session again
	silentHere int       // questions there without a useful answer, in a row
}

const (
	// askTimeout bounds a question, dialing included. A client waits for it.
	askTimeout = 5 * time.Second
	// askPause is between two questions that were answered, or for which no
	// broker could be reached.
	askPause = time.Second
	// refusedPause is how long a cluster is not asked again that was reached and
	// did not answer. With SASL it never will, and notes a failed authentication.
	refusedPause = time.Minute
	// herePause is between two questions within one session, and for how long
	// none are asked in any after maxSilent without a useful answer. One alone may
	// be due to a broker that dies.
	herePause = 15 * time.Second
	maxSilent = 3
)

// errNotAnswered is from a cluster that was reached and did not tell.
var errNotAnswered = errors.New("the cluster does not answer without authentication")

// ask has the cluster tell where its brokers are, and returns when the table has
// learned that or when it is not to be had. A caller that insists has an answer
// of its own time if the cluster gives any: one that was just given may be older
// than the name that is asked for.
func (p *Proxy) ask(ctx context.Context, insist bool) {
	a := &p.asking
	for ctx.Err() == nil {
		a.mu.Lock()
		flight, pause := a.flight, time.Until(a.next)
		switch {
		case flight != nil:
			a.mu.Unlock()
			select {
			case <-flight:
			case <-ctx.Done():
			}
			return
		case pause <= 0:
			a.flight = make(chan struct{})
			a.mu.Unlock()
			p.askNow(ctx)
			return
		case !insist || !a.answered:
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// askNow asks and notes how that went.
func (p *Proxy) askNow(ctx context.Context) {
	began := time.Now()
	// Those who wait for the answer have to be told even of a panic.
	err := errNotAnswered
	p.survive(func() { err = p.fetchBrokers(ctx) })

	a := &p.asking
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.flight)
	a.flight = nil
	if ctx.Err() != nil { // the client's session was cut
		return
	}
	a.answered = err == nil
	a.next = time.Now().Add(askPause)
	switch {
	case err == nil:
		a.refused = false
		p.log.Debug("asked the cluster where its brokers are", "brokers", p.Routes.Known(), "took", time.Since(began).Round(time.Microsecond))
	case errors.Is(err, errNotAnswered):
		a.next = time.Now().Add(refusedPause)
		if !a.refused {
			p.log.Info("the cluster does not tell the proxy where its brokers are, as is usual with SASL; clients that ask for one are served by a bootstrap server until the answers to some client tell", "error", err)
			a.refused = true
		}
	default:
		p.log.Debug("asking the cluster where its brokers are", "error", err)
	}
}

// metadataRequest asks for the brokers, and for no topics. The version is an
// old one in which that can be said, and older brokers and newer ones know it.
var metadataRequest = []byte("\x00\x00\x00\x1e" + // length
	"\x00\x03\x00\x04" + // Metadata v4
	"\x00\x00\x00\x00" + // correlation id
	"\x00\x0fkafka-sni-proxy" +
	"\x00\x00\x00\x00" + // no topics
	"\x00") // create none

// fetchBrokers asks a bootstrap server once, and has the table learn from the
// answer.
func (p *Proxy) fetchBrokers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	broker, address, err := p.dial(ctx, p.bootstrap())
	if err != nil {
		return err
	}
	defer broker.Close()
	defer context.AfterFunc(ctx, func() { broker.wire.Conn.Close() })()

	var owed kafka.Owed
	told := 0
	requests := kafka.Requests{Out: broker, Owed: &owed}
	responses := kafka.Responses{Out: io.Discard, Owed: &owed, MaxFrame: p.MaxFrameBytes,
		Names: func(node int32, host []byte, port int32) (string, int32) {
			told++
			return p.Routes.Learn(node, host, port)
		}}
	err = requests.Forward(metadataRequest)
	for batch := make([]byte, 16<<10); err == nil && (owed.Len() > 0 || !responses.AtBoundary()); {
		n := 0
		n, err = broker.Read(batch)
		if err == nil || err == io.EOF {
			err = errors.Join(responses.Forward(batch[:n]), err)
		}
	}
	if err == nil && told == 0 {
		err = errors.New("there are no brokers in its answer")
	}
	if err != nil {
		return fmt.Errorf("%w: asking %s for metadata: %w", errNotAnswered, address, err)
	}
	return nil
}

// askHere is called before each request of a session that may be at the wrong
// broker: one that a bootstrap server stands in for, or one by a route that
// only a file told. A cluster with SASL does not answer the proxy, but it does
// answer this client, who has authenticated by now. So its broker is asked
// here, with a question put between two of the client's requests. The client's
// own metadata may be of no help: behind a load balancer it goes through
// another proxy.
//
// The request waits for the answer. When that sends the client elsewhere, the
// request has not been anywhere else before.
func (s *session) askHere() error {
	if s.draining.Load() {
		return errDrained
	}
	age := time.Since(s.began)
	if age < s.askNext {
		return nil
	}
	if settled, err := s.settled(); settled {
		return err
	}
	a := &s.proxy.asking
	if s.askNext = a.here().Sub(s.began); age < s.askNext {
		return nil
	}
	s.askNext = age + herePause
	if err := s.requests.Ask(metadataRequest); err != nil {
		return err
	}
	if err := s.broker.wire.flush(); err != nil {
		return err
	}
	late := time.AfterFunc(askTimeout, s.owed.GiveUp)
	answered := s.owed.AwaitAnswer()
	late.Stop()
	s.broker.wire.cork()
	s.proxy.noteHere(answered, s.address)
	if s.draining.Load() {
		return errDrained
	}
	_, err := s.settled()
	return err
}

// settled reports whether it is known where the session's broker is. When it
// is elsewhere, the session drains and the error says so.
func (s *session) settled() (bool, error) {
	r, err := s.proxy.Routes.Resolve(s.route.Name)
	if err != nil || !r.Confirmed {
		return false, nil
	}
	s.requests.Before = nil
	if r.Addresses[0] == s.address {
		return true, nil
	}
	s.drain()
	return true, errDrained
}

// here returns when a session may ask.
func (a *asking) here() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.nextHere
}

// noteHere notes how a question within a session went.
func (p *Proxy) noteHere(answered bool, asked route.Address) {
	a := &p.asking
	a.mu.Lock()
	defer a.mu.Unlock()
	if answered {
		a.silentHere = 0
		p.log.Debug("asked a broker in a client's session where all of them are", "upstream", asked.String(), "brokers", p.Routes.Known())
		return
	}
	if a.silentHere++; a.silentHere >= maxSilent {
		a.nextHere = time.Now().Add(herePause)
	}
	if a.silentHere == maxSilent {
		p.log.Info("brokers do not tell within clients' sessions where all of them are; clients that ask for one stay with a bootstrap server until the answers to some client tell", "upstream", asked.String())
	}
}
