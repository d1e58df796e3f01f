package view

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"kafka-sni-proxy/internal/api"
)

// Routes returns a table of the addresses of clusters: upstreams, and the brokers that were
// learned with the names that clients have for them.
func Routes(clusters []api.Cluster, now time.Time) *Table {
	t := &Table{Columns: []Column{
		{Title: "CLUSTER", Least: 8, Drop: 2}, {Title: "NODE", Right: true}, {Title: "NAME", Least: 17, Drop: 4}, {Title: "ADDRESS", Least: 20}, {Title: "HEALTH", Colour: health, Drop: 1},
		{Title: "FOR", Right: true, Drop: 7}, {Title: "CONNECTIONS", Right: true, Drop: 5}, {Title: "DIALS", Right: true, Drop: 8}, {Title: "ERRORS", Right: true, Drop: 6},
		{Title: "DIAL-TIME", Right: true, Drop: 9}, {Title: "CONFIRMED", Drop: 10}, {Title: "LAST-ERROR", Drop: 3, Least: 16},
	}}
	for _, c := range clusters {
		for _, b := range c.Brokers {
			failed := ""
			if b.LastError != "" {
				failed = ago(b.LastErrorAt, now) + " ago: " + b.LastError
			}
			took := ""
			if b.LastDialSeconds > 0 {
				took = Seconds(b.LastDialSeconds)
			}
			confirmed := "" // an upstream is told by the configuration
			if b.Node != nil {
				confirmed = yes(b.Confirmed)
			}
			t.Rows = append(t.Rows, []string{c.Name, node(b.Node), b.Name, b.Address, b.Health, ago(b.Since, now), fmt.Sprint(b.Connections), Count(float64(b.Dials)),
				Count(float64(b.DialErrors)), took, confirmed, failed})
		}
	}
	return t
}

func node(id *int32) string {
	if id == nil {
		return ""
	}
	return fmt.Sprint(*id)
}

// sessionState is the colour of what a session is doing.
func sessionState(value string) string {
	switch value {
	case "starting":
		return cyan
	case "draining", "drained", "finishing":
		return yellow
	case "cut":
		return red
	}
	return ""
}

// Sessions returns a table of connections.
func Sessions(sessions []api.Session) *Table {
	t := &Table{Columns: []Column{
		{Title: "ID", Right: true, Drop: 10}, {Title: "CLIENT", Least: 15}, {Title: "CLUSTER", Drop: 4, Least: 8}, {Title: "NODE", Right: true, Drop: 7}, {Title: "BROKER", Drop: 6, Least: 22},
		{Title: "LISTENER", Drop: 12, Least: 8}, {Title: "SNI", Drop: 11, Least: 22}, {Title: "STATE", Colour: sessionState, Drop: 5}, {Title: "AGE", Right: true, Drop: 3},
		{Title: "IDLE", Right: true, Drop: 8}, {Title: "RATE", Right: true, Drop: 1}, {Title: "SENT", Right: true, Drop: 9}, {Title: "RECEIVED", Right: true, Drop: 9},
		{Title: "REQUESTS", Right: true, Drop: 9}, {Title: "IN-FLIGHT", Right: true, Drop: 3}, {Title: "OLDEST", Right: true, Drop: 6}, {Title: "TLS", Drop: 13},
		{Title: "SOFTWARE", Drop: 8, Least: 12}, {Title: "PRINCIPAL", Drop: 3, Least: 12}, {Title: "CLIENT-ID", Drop: 2, Least: 16},
	}}
	for _, s := range sessions {
		t.Rows = append(t.Rows, []string{fmt.Sprint(s.ID), s.Client, s.Cluster, node(s.Node), s.Broker, s.Listener, s.SNI, sessionStateText(&s), whole(s.Age), whole(s.Idle),
			Bytes(s.BytesPerSecond) + "/s", Bytes(float64(s.RequestBytes)), Bytes(float64(s.ResponseBytes)), Count(float64(s.Requests)), fmt.Sprint(s.InFlight), oldest(&s), s.TLS, software(&s), s.Principal, s.ClientID})
	}
	if !slices.ContainsFunc(sessions, func(s api.Session) bool { return s.Principal != "" }) {
		t.leaveOut("PRINCIPAL")
	}
	return t
}

// leaveOut takes a column out of a table.
func (t *Table) leaveOut(title string) {
	i := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Title == title })
	t.Columns = slices.Delete(t.Columns, i, i+1)
	for j, row := range t.Rows {
		t.Rows[j] = slices.Delete(row, i, i+1)
	}
}

// sessionStateText says also for whom a session waits.
func sessionStateText(s *api.Session) string {
	if s.StalledBy == "" {
		return s.State
	}
	return s.State + ", " + s.StalledBy + " stalls " + whole(s.Stalled)
}

// oldest is for how long the oldest request has had no response, and what it is.
func oldest(s *api.Session) string {
	if s.Oldest <= 0 {
		return ""
	}
	if s.OldestAPI == "" {
		return Seconds(s.Oldest)
	}
	return Seconds(s.Oldest) + "/" + s.OldestAPI
}

func software(s *api.Session) string {
	if s.SoftwareVersion == "" {
		return s.Software
	}
	return s.Software + "/" + s.SoftwareVersion
}

// principal says who a client has proved to be, how, and how the broker knows.
func principal(s *api.Session) string {
	switch {
	case s.Principal == "":
		return ""
	case s.BrokerMechanism == "":
		return s.Principal + " (" + s.Mechanism + ")"
	}
	return s.Principal + " (" + s.Mechanism + "; at the broker " + s.BrokerMechanism + ")"
}

// SessionDetails returns all that is known of a session.
func SessionDetails(s *api.Session, now time.Time, style Style) []string {
	provisional := ""
	if s.Provisional {
		provisional = " (it asked for a broker which is not known yet)"
	}
	return style.facts([][2]string{
		{"id", fmt.Sprint(s.ID)},
		{"client", s.Client},
		{"client id", s.ClientID},
		{"software", software(s)},
		{"principal", principal(s)},
		{"listener", s.Listener},
		{"TLS", s.TLS},
		{"server name", s.SNI},
		{"cluster", s.Cluster},
		{"broker", strings.TrimSpace(s.Broker + provisional)},
		{"node", node(s.Node)},
		{"state", sessionStateText(s)},
		{"began", clock(s.Began, now) + " (" + whole(s.Age) + ")"},
		{"idle for", whole(s.Idle)},
		{"requests", fmt.Sprintf("%d, %s", s.Requests, Bytes(float64(s.RequestBytes)))},
		{"responses", fmt.Sprintf("%d, %s", s.Responses, Bytes(float64(s.ResponseBytes)))},
		{"rate", Bytes(s.BytesPerSecond) + "/s"},
		{"in flight", fmt.Sprint(s.InFlight)},
		{"oldest", oldest(s)},
	})
}

// FailureDetails returns all that is known of a failure.
func FailureDetails(f *api.Failure, now time.Time, style Style) []string {
	return style.facts([][2]string{
		{"reason", f.Reason},
		{"remedy", f.Remedy},
		{"phase", f.Phase},
		{"count", fmt.Sprint(f.Count)},
		{"first", clock(f.First, now) + " (" + ago(f.First, now) + " ago)"},
		{"last", clock(f.Last, now) + " (" + ago(f.Last, now) + " ago)"},
		{"client", f.Client},
		{"server name", f.SNI},
		{"listener", f.Listener},
		{"cluster", f.Cluster},
		{"broker", f.Broker},
	})
}

// BrokerDetails returns all that is known of an address of a cluster.
func BrokerDetails(cluster string, b *api.Broker, now time.Time, style Style) []string {
	failed := ""
	if b.LastError != "" {
		failed = clock(b.LastErrorAt, now) + ": " + b.LastError
	}
	dialled := ""
	if !b.LastDial.IsZero() {
		dialled = clock(b.LastDial, now) + ", took " + Seconds(b.LastDialSeconds)
	}
	return style.facts([][2]string{
		{"cluster", cluster},
		{"node", node(b.Node)},
		{"name", b.Name},
		{"address", b.Address},
		{"health", b.Health + since(b.Since, now)},
		{"last error", failed},
		{"remedy", b.Remedy},
		{"connections", fmt.Sprint(b.Connections)},
		{"dials", fmt.Sprintf("%d, %d failed", b.Dials, b.DialErrors)},
		{"last dial", dialled},
		{"confirmed", yes(b.Confirmed)},
	})
}

// facts returns lines, each with its label; those without a value are left out.
func (s Style) facts(all [][2]string) (lines []string) {
	for _, fact := range all {
		if fact[1] != "" {
			lines = append(lines, s.labelled(fact[0], fact[1])...)
		}
	}
	return lines
}
