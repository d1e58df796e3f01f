package session

import (
	"slices"
	"sync/atomic"
)

// Side is who logs in.
type Side int

const (
	Clients Side = iota // at the proxy
	Brokers             // the proxy, at brokers

	sides = iota
)

// String returns the side's name in metrics.
func (s Side) String() string { return [sides]string{"client", "broker"}[s] }

// Outcome is what became of a login.
type Outcome int

const (
	LoginOK      Outcome = iota
	LoginRefused         // whoever logged in was not let in
	LoginBroken          // it was not finished: the other side went away, or took too long
	LoginAgain           // one more of a connection that was let in (KIP-368)

	outcomes = iota
)

// String returns the outcome's name in metrics.
func (o Outcome) String() string { return [outcomes]string{"ok", "refused", "broken", "again"}[o] }

// loginMechanisms are those that are told apart; the last one stands for none, and for what a
// client has made up.
var loginMechanisms = [...]string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM", "TLS", "ANONYMOUS", "none"}

// logins counts them.
type logins [sides][len(loginMechanisms)][outcomes]atomic.Int64

// LoggedIn counts a login, or another one of a connection.
func (m *Meter) LoggedIn(side Side, mechanism string, became Outcome) {
	if m == nil {
		return
	}
	i := slices.Index(loginMechanisms[:], mechanism)
	if i < 0 {
		i = len(loginMechanisms) - 1
	}
	m.logins[side][i][became].Add(1)
}

// Logins calls f with each count that there is: of a mechanism by which anybody has logged in,
// or tried to, all of them.
func (m *Meter) Logins(f func(side Side, mechanism string, became Outcome, count int64)) {
	for side := range m.logins {
		for i := range m.logins[side] {
			var counts [outcomes]int64
			any := false
			for o := range counts {
				counts[o] = m.logins[side][i][o].Load()
				any = any || counts[o] > 0
			}
			for o, n := range counts {
				if any {
					f(Side(side), loginMechanisms[i], Outcome(o), n)
				}
			}
		}
	}
}
