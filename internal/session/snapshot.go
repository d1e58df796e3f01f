package session

import (
	"net"
	"time"

	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/route"
)

// knowledge is how much of a session is set for good, so that others may read it.
type knowledge uint32

const (
	knownNothing knowledge = iota
	knownClient            // the handshake is over: who and where to
	knownBroker            // the broker was reached
)

// Snapshot is a session at a moment.
type Snapshot struct {
	Began      time.Time
	State      string   // starting, open, draining, drained, finishing or cut
	Listener   string   // that the client came by
	Client     net.Addr // the balancer's until the PROXY protocol header is read
	ServerName string   // that it asked for; "": none, or not known yet
	TLSVersion uint16   // as in crypto/tls; 0: plaintext, or not known yet

	Destination *Destination  // nil: not known yet
	Route       route.Route   // once the broker was reached
	Broker      route.Address // likewise

	kafka.Introduction
	Login Login

	RequestBytes, ResponseBytes int64
	Requests, Responses         int64

	InFlight  int           // requests without a response yet
	Oldest    time.Duration // for how long the oldest has been waiting
	OldestAPI string        // which that is
	Idle      time.Duration // since a byte was forwarded

	// Stalled is for how long requests have been waiting for a broker that does not read, and
	// responses for a client that does not.
	Stalled [kinds]time.Duration
}

// Snapshot returns what the session is at now. It may be called at any time, by anybody.
func (s *Session) Snapshot() Snapshot {
	v := Snapshot{
		Began:         s.began,
		State:         s.State(),
		Listener:      s.config.Label,
		Client:        s.client.RemoteAddr(),
		RequestBytes:  s.traffic.RequestBytes.Load(),
		ResponseBytes: s.traffic.ResponseBytes.Load(),
		Requests:      s.traffic.Requests.Load(),
		Responses:     s.traffic.Responses.Load(),
	}
	known := knowledge(s.known.Load())
	if known >= knownClient {
		v.Client, v.ServerName, v.TLSVersion, v.Destination = s.Client(), s.serverName, s.tlsVersion, s.cluster
	}
	since := int64(s.began.Sub(clock))
	if known >= knownBroker {
		v.Route, v.Broker, v.Login = s.route, s.address, s.login()
		if said := s.requests.Introduction.Load(); said != nil {
			v.Introduction = *said
		}
		at, key, waiting := s.inFlight.Oldest()
		if v.InFlight = waiting; waiting > 0 {
			v.Oldest = time.Duration(max(now()-at, 0))
			v.OldestAPI = kafka.APIName(kafka.APIIndex(key))
		}
		since = max(since, s.moved.Load())
		v.Stalled = [kinds]time.Duration{s.broker.StalledFor(), s.client.StalledFor()}
	}
	v.Idle = time.Duration(max(now()-since, 0))
	return v
}
