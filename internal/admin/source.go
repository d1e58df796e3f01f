package admin

import "kafka-sni-proxy/internal/api"

// Source is what the page and the API tell.
type Source interface {
	Status() api.Status
	Clusters() api.Clusters
	Sessions(api.SessionQuery) api.Sessions
	Failures() api.Failures
	// History returns the last hour of a cluster, of all together for ""; false: there is no such cluster.
	History(cluster string) (api.History, bool)
}

// maxLooks is how many answers are gathered at once: each goes through all sessions, under the
// lock that new clients need.
const maxLooks = 4

// inTurn is a source that is asked by so many at once. The others wait, of which there are no
// more than connections.
type inTurn struct {
	Source
	turns chan struct{}
}

func newInTurn(s Source) *inTurn { return &inTurn{s, make(chan struct{}, maxLooks)} }

// wait waits for a turn, which ends when done is called.
func (s *inTurn) wait() (done func()) {
	s.turns <- struct{}{}
	return func() { <-s.turns }
}

// Status implements Source.
func (s *inTurn) Status() api.Status {
	defer s.wait()()
	return s.Source.Status()
}

// Clusters implements Source.
func (s *inTurn) Clusters() api.Clusters {
	defer s.wait()()
	return s.Source.Clusters()
}

// Sessions implements Source.
func (s *inTurn) Sessions(q api.SessionQuery) api.Sessions {
	defer s.wait()()
	return s.Source.Sessions(q)
}

// History implements Source.
func (s *inTurn) History(cluster string) (api.History, bool) {
	defer s.wait()()
	return s.Source.History(cluster)
}
