package session

import (
	"sync/atomic"
	"time"

	"kafka-sni-proxy/internal/histogram"
	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/tlswire"
)

// Kind tells requests from responses.
type Kind int

const (
	Requests Kind = iota
	Responses

	kinds = iota
)

// String returns the kind's name in metrics.
func (k Kind) String() string { return [kinds]string{"request", "response"}[k] }

// Meter counts what the sessions of one cluster measure. The zero value is ready to use.
//
// Everything is measured and nothing sampled, but for the throttle time, which is seen where
// it is among the bytes that came with a response's header. Of each batch of frames the clock
// is read twice.
type Meter struct {
	latency [kafka.APIs]atomic.Pointer[histogram.Histogram]
	added   [kinds]histogram.Histogram
	stalled [kinds]atomic.Int64

	throttled, throttle atomic.Int64 // responses; milliseconds

	logins logins
}

// Latency adds to a snapshot what was measured for an API: the time from when a request's
// header was read to when its response's was. That is the broker, and the network behind the
// proxy. It reports whether there was anything. api is as [kafka.APIIndex] returns it.
func (m *Meter) Latency(api int, to *histogram.Snapshot) bool {
	h := m.latency[api].Load()
	if h == nil {
		return false
	}
	h.AddTo(to)
	return true
}

// Added adds to a snapshot the time that the proxy itself has added to each batch of
// requests or responses: from when it could be read until the kernel had it for the other
// side, without waiting for a peer that does not read, or for the broker's response to what the
// proxy itself asks it before a request.
func (m *Meter) Added(k Kind, to *histogram.Snapshot) { m.added[k].AddTo(to) }

// Stalled returns for how long forwarding has waited for a peer that does not read: brokers
// for requests, clients for responses.
func (m *Meter) Stalled(k Kind) time.Duration { return time.Duration(m.stalled[k].Load()) }

// Throttled returns how many responses told their client to wait, and for how long together.
func (m *Meter) Throttled() (responses int64, wait time.Duration) {
	return m.throttled.Load(), time.Duration(m.throttle.Load()) * time.Millisecond
}

// answered counts a response.
func (m *Meter) answered(a kafka.Answer, took time.Duration) {
	at := &m.latency[kafka.APIIndex(a.Key)]
	h := at.Load()
	if h == nil {
		at.CompareAndSwap(nil, new(histogram.Histogram))
		h = at.Load()
	}
	h.Add(took)
	if a.Throttle > 0 {
		m.throttled.Add(1)
		m.throttle.Add(int64(a.Throttle))
	}
}

// clock is what now counts from.
var clock = time.Now()

// now is a cheap time, in nanoseconds.
func now() int64 { return int64(time.Since(clock)) }

// Time returns a time of [Config.OnAnswer], or of a [kafka.Answer], as one of the day.
func Time(at int64) time.Time { return time.Now().Add(time.Duration(at - now())) }

// measure counts a batch that was forwarded to a peer since a time.
func (s *Session) measure(k Kind, began int64, to *tlswire.Conn) {
	end := now()
	s.moved.Store(end)
	m := s.cluster.Meter
	if m == nil {
		return
	}
	stalled := to.TakeStalled()
	if stalled > 0 {
		m.stalled[k].Add(int64(stalled))
	}
	took := end - began
	if k == Requests {
		took, s.asked = took-s.asked, 0
	}
	m.added[k].Add(time.Duration(took) - stalled)
}

// observer is a session as kafka.Responses tells it of responses.
type observer Session

// Answered implements [kafka.Observer].
func (o *observer) Answered(a kafka.Answer) {
	if m := o.cluster.Meter; m != nil && !a.Own {
		m.answered(a, time.Duration(o.responseAt-a.Asked))
	}
	if f := o.config.OnAnswer; f != nil && !a.Own {
		f((*Session)(o), a, o.responseAt)
	}
}
