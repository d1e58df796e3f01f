package session

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/tlswire"
)

// lingerTimeout is how long a client that was told of the end may take to close.
const lingerTimeout = 2 * time.Second

// Pump forwards requests and responses until the session is over. It has one more
// goroutine, for the requests.
func (s *Session) Pump() *Result {
	requests := make(chan error, 1)
	go func() { requests <- RecoverPanic(s.pumpRequests) }()
	down := RecoverPanic(s.pumpResponses)
	return s.pumped(down, requests)
}

// pumped ends a session whose responses have ended, and waits for its requests. It is a
// function of its own so that its stack is not there while Pump waits.
//
//go:noinline
func (s *Session) pumped(down error, requests <-chan error) *Result {
	s.inFlight.Close()
	if s.query != nil {
		close(s.query.answered)
	}
	switch ended := s.life.state(); {
	case down != nil:
		s.client.Reset()
		s.broker.CloseNow()
	case ended == drained && s.responses.Frames == 0:
		s.client.Reset() // it has had no answer yet: see Abort
		s.broker.Close()
	case ended == drained:
		s.client.Linger(lingerTimeout)
		s.broker.Close()
	default:
		s.client.Close()
		s.broker.Close()
	}
	return s.end(cause(down, <-requests))
}

// errDrained ends the requests of a session that drains before the next one.
var errDrained = errors.New("the session drains")

// pumpRequests forwards what the client sends, until the client ends its side
// or the session is drained, and then lets pumpResponses end.
func (s *Session) pumpRequests() error {
	err := RecoverPanic(s.forwardRequests)
	s.life.on(requestsDone)
	switch err {
	case errDrained:
	case io.EOF:
		s.broker.CloseWrite() // the client's half-close is passed on
	default:
		s.broker.CloseNow() // ends pumpResponses
		return err
	}
	s.broker.Wake() // have pumpResponses see that it may be done
	return nil
}

// forwardRequests returns errDrained when the session is drained, io.EOF when the
// client has ended its side, both after a whole request.
func (s *Session) forwardRequests() error {
	if s.auth != nil && len(s.auth.early) > 0 {
		if err := s.forwardEarly(); err != nil {
			return requestError(err)
		}
	}
	for {
		switch err := s.client.Await(); {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			if s.woken() {
				return errDrained
			}
			continue
		case err == io.EOF && s.requests.AtBoundary():
			return err
		default:
			return &Error{PhaseRequest, err}
		}
		began := now()
		s.requests.Now = began
		err := forward(s.client, s.broker, s.forwardFrames, &s.traffic.RequestBytes)
		s.measure(Requests, began, s.broker)
		s.traffic.Requests.Store(s.requests.Frames)
		if err == errDrained {
			return err
		}
		if err != nil {
			return requestError(err)
		}
		if s.life.state() == draining && s.requests.AtBoundary() {
			return errDrained
		}
	}
}

// forwardEarly passes on what the client has sent behind its greetings.
func (s *Session) forwardEarly() (err error) {
	s.requests.Now = now()
	s.broker.Cork()
	for early := s.auth.early; len(early) > 0 && err == nil; {
		n := min(len(early), tlswire.MaxBatch)
		s.traffic.RequestBytes.Add(int64(n))
		err = s.forwardFrames(early[:n])
		early = early[n:]
	}
	s.auth.early = nil
	s.traffic.Requests.Store(s.requests.Frames)
	if flushed := s.broker.Flush(); err == nil {
		err = flushed
	}
	return err
}

// woken reports whether the session drains and no more requests are to be read. If not,
// the rest of a request is to come, or it was woken as idle while a response was in flight.
func (s *Session) woken() bool {
	ending := s.life.state() == draining || s.drainIdle()
	if ending && s.requests.AtBoundary() {
		return true
	}
	s.client.Rearm()
	if !ending && s.life.state() == draining {
		s.client.Wake() // Drain came before Rearm, which has taken its wake-up away
	}
	return false
}

// drainIdle begins to drain a session that Look found idle, unless something
// is under way after all, or has been since.
func (s *Session) drainIdle() bool {
	if found := s.idleMark.Swap(0); found == 0 || found != s.mark() || !s.requests.AtBoundary() || s.inFlight.Len() > 0 {
		return false
	}
	s.life.setEndReason(RetiredIdle)
	_, now := s.life.on(drain)
	return now == draining
}

// mark changes with each byte that is forwarded. It is not 0.
func (s *Session) mark() uint32 { return uint32(s.traffic.Bytes()) | 1<<31 }

// forwardFrames forwards requests, and asks before those that are held.
func (s *Session) forwardFrames(p []byte) error {
	for {
		n, err := s.requests.Forward(p)
		switch {
		case err == nil:
			return nil
		case err != kafka.ErrHeld && s.requests.Frames == 0 && isHTTP(p):
			return HTTPError{}
		case err != kafka.ErrHeld:
			return err
		}
		p = p[n:]
		began := now()
		err = s.beforeRequest()
		s.asked += now() - began
		if err != nil {
			return err
		}
		s.requests.Pass()
	}
}

// The requests of a batch are written together, so all of them have to fit what
// may be in flight.
const _ = uint(kafka.MaxForward - tlswire.MaxBatch)

// forward passes on what has arrived at from, with one system call if it can.
func forward(from, to *tlswire.Conn, frames func(p []byte) error, bytes *atomic.Int64) error {
	to.Cork()
	var err error
	for p := from.Next(); p != nil && err == nil; p = from.Next() {
		bytes.Add(int64(len(p)))
		err = frames(p)
	}
	if flushed := to.Flush(); err == nil {
		err = flushed // what came before an error is the peer's all the same
	}
	return err
}

// pumpResponses forwards what the broker sends, until it closes or there is
// nothing left that it could send.
func (s *Session) pumpResponses() error {
	for {
		switch err := s.broker.Await(); {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && s.requestsDone():
			if s.answered() {
				return nil
			}
			s.broker.Rearm()
			continue
		case err == io.EOF && s.responses.AtBoundary():
			return nil
		default:
			return s.responseError(err)
		}
		began := now()
		s.responseAt = began
		err := forward(s.broker, s.client, s.responses.Forward, &s.traffic.ResponseBytes)
		s.measure(Responses, began, s.client)
		s.traffic.Responses.Store(s.responses.Frames)
		s.traffic.Rewritten.Store(s.responses.Rewritten)
		s.traffic.EndpointsDropped.Store(s.responses.Dropped)
		s.traffic.NotLeader.Store(s.responses.NotLeader)
		switch {
		case err != nil:
			return s.responseError(err)
		case s.requestsDone() && s.answered():
			return nil
		}
	}
}

// requestsDone reports whether no more requests will be read.
func (s *Session) requestsDone() bool {
	now := s.life.state()
	return now == drained || now == finishing || now == cut
}

// answered reports whether every request has its whole response.
func (s *Session) answered() bool {
	return s.responses.AtBoundary() && s.inFlight.Len() == 0
}

// HTTPError is of a client that sends HTTP where Kafka requests belong, inside TLS.
type HTTPError struct{}

func (HTTPError) Error() string { return "the client sent an HTTP request inside TLS" }

// requestError gives an error of the requests its phase.
func requestError(err error) error {
	var failed *Error
	if errors.As(err, &failed) {
		return err
	}
	return &Error{PhaseRequest, err}
}

// errClientLeft is of what a broker says after the client has left.
var errClientLeft = errors.New("after the client had left")

// responseError gives an error of the responses its phase: it tells a response that was
// refused from a connection that failed.
//
// What a broker says to a client that has left before its first response is no failure.
// A JDK's server sends a bad record then, when its TLS session was resumed.
func (s *Session) responseError(err error) error {
	var refused *kafka.Error
	var other *cluster.OtherClusterError
	switch {
	case errors.As(err, &refused):
		return &Error{PhaseRewrite, err}
	case errors.As(err, &other):
		return &Error{PhaseCluster, err}
	case s.life.state() == finishing && s.responses.Frames == 0:
		return &Error{PhaseResponse, fmt.Errorf("%w: %w", errClientLeft, err)}
	}
	return &Error{PhaseResponse, err}
}
