package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"kafka-sni-proxy/internal/loglimit"
	"kafka-sni-proxy/internal/session"
)

// report writes the one log line of a session, and counts its failure.
func (s *Server) report(r *session.Result) {
	attrs := []slog.Attr{slog.String("client", r.Client.String()), slog.String("sni", r.ServerName)}
	if r.Reached {
		attrs = append(attrs, slog.String("upstream", r.Upstream.String()),
			slog.Int64("request_bytes", r.Traffic.RequestBytes.Load()), slog.Int64("response_bytes", r.Traffic.ResponseBytes.Load()))
	}
	if r.Destination != nil {
		attrs = append(attrs, slog.String("cluster", r.Destination.Name()))
	}
	if who := r.Login; who.Principal != "" {
		attrs = append(attrs, slog.String("principal", who.Principal), slog.String("mechanism", who.Mechanism))
		if who.BrokerMechanism != "" {
			attrs = append(attrs, slog.String("broker_mechanism", who.BrokerMechanism))
		}
	}
	if r.Listener != "" {
		attrs = append(attrs, slog.String("listener", r.Listener))
	}
	if r.Route.ByNode {
		attrs = append(attrs, slog.Int("node", int(r.Route.Node)))
	}
	attrs = append(attrs, slog.Duration("took", r.Took.Round(time.Microsecond)))

	var (
		panicked *session.PanicError
		retired  session.Retired
		limit    LimitError
		ended    *session.Error
	)
	failed := r.Failed()
	if s.config.Ended != nil {
		s.config.Ended(endOf(r))
	}
	switch {
	case errors.As(r.Err, &limit):
		of := limitedAt(limit, sourceOf(r.Client))
		if limit == LimitClusterConnections {
			of = r.Route.Name
		}
		s.refuse(limit, of, r.Client, r.Label, clusterOf(r))
		return
	case errors.As(r.Err, &panicked):
		s.noteFailure(r, "panic", panicked, s.config.Hint(panicked))
		s.reportPanic(panicked, "connection ended by a panic", attrs...)
		return
	case errors.As(r.Err, &retired):
		s.stats.retired(retired).Add(1)
		attrs = append(attrs, slog.String("retired", string(retired)))
	case failed != nil:
		s.stats.failures[failed.Phase].Add(1)
		if t := tallyOf(r.Destination); t != nil {
			t.failed(failed)
		}
		s.registry.failed(clusterOf(r), r.Label, failed.Phase)
		attrs = append(attrs, slog.String("phase", failed.Phase.String()), slog.Any("error", r.Err))
		hint := s.config.Hint(failed)
		if hint != "" {
			attrs = append(attrs, slog.String("hint", hint))
		}
		s.noteFailure(r, failed.Phase.String(), r.Err, hint)
		s.limited.Write(slog.LevelWarn, failed.Phase.String(), r.ServerName+" "+loglimit.Key(r.Err), "connection failed", attrs...)
		return
	case errors.As(r.Err, &ended):
		attrs = append(attrs, slog.String("phase", ended.Phase.String()), slog.Any("error", r.Err))
	}
	s.log.LogAttrs(context.Background(), slog.LevelDebug, "connection closed", attrs...)
}

// clusterOf returns the name of the cluster that a session was led to; "": none.
func clusterOf(r *session.Result) string {
	if r.Destination == nil {
		return ""
	}
	return r.Destination.Name()
}

// noteFailure keeps what has become of a session for those who ask.
func (s *Server) noteFailure(r *session.Result, phase string, err error, hint string) {
	f := Failure{ServerName: r.ServerName, Principal: r.Login.Principal, Listener: r.Label, Cluster: clusterOf(r), Phase: phase, Reason: err.Error(), Hint: hint}
	if r.Reached {
		f.Broker = r.Upstream.String()
	}
	s.recent.note(f, r.Client, loglimit.Key(err))
}

// hostOf returns a client's address without its port.
func hostOf(client net.Addr) string {
	host, _, err := net.SplitHostPort(client.String())
	if err != nil {
		return client.String()
	}
	return host
}

// recoverPanic runs what no session answers for. A panic is logged and counted.
func (s *Server) recoverPanic(f func()) {
	var panicked *session.PanicError
	if errors.As(session.RecoverPanic(func() error { f(); return nil }), &panicked) {
		s.reportPanic(panicked, "panic")
	}
}

func (s *Server) reportPanic(e *session.PanicError, message string, attrs ...slog.Attr) {
	s.stats.panics.Add(1)
	s.limited.Write(slog.LevelError, "panic", loglimit.Key(e), message,
		append(attrs, slog.Any("error", e), slog.String("stack", string(e.Stack)), slog.String("hint", s.config.Hint(e)))...)
}

// End is what became of one connection.
type End struct {
	// Result is all that is known of it. Of one that was refused on arrival, that is the
	// listener, the client and Err.
	*session.Result

	Outcome Outcome
	// Phase is where the connection failed, or where a peer went away; "": neither.
	Phase string
	// Retired is why this side ended it in good order; "": it did not.
	Retired session.Retired
	// Limit is what it was refused by; "": it was not, or the server was about to end.
	Limit LimitError
}

// Outcome is what became of a connection, in one word.
type Outcome string

const (
	OutcomeOK      Outcome = "ok" // it ended in good order, or a peer just went away
	OutcomeRetired Outcome = "retired"
	OutcomeFailed  Outcome = "failed"
	OutcomeRefused Outcome = "refused"
	OutcomePanic   Outcome = "panic"
)

// endOf says in short what became of a session.
func endOf(r *session.Result) *End {
	e := &End{Result: r, Outcome: OutcomeOK}
	var phase *session.Error
	if errors.As(r.Err, &phase) {
		e.Phase = phase.Phase.String()
	}
	switch {
	case errors.As(r.Err, &e.Limit), errors.Is(r.Err, errDraining):
		e.Outcome, e.Phase = OutcomeRefused, ""
	case errors.As(r.Err, new(*session.PanicError)):
		e.Outcome = OutcomePanic
	case errors.As(r.Err, &e.Retired):
		e.Outcome = OutcomeRetired
	case r.Failed() != nil:
		e.Outcome = OutcomeFailed
	}
	return e
}

// refusedOnArrival tells of a connection that was not let in.
func (s *Server) refusedOnArrival(how *session.Config, client net.Addr, why error) {
	if s.config.Ended != nil {
		s.config.Ended(endOf(&session.Result{Began: time.Now(), Listener: how.Listener, Label: how.Label, Client: client, Traffic: new(session.Traffic), Err: why}))
	}
}
