package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"kafka-sni-proxy/internal/api"
)

// Level says how bad something is.
type Level int

// The worst first, which is the order in which they are shown.
const (
	Failed  Level = iota // something does not work now
	Warning              // something will not work, or only a part of it does
	Note                 // somebody should know of it
)

func (l Level) String() string { return [...]string{"failed", "warning", "note"}[l] }

func (l Level) colour() string { return [...]string{red, yellow, cyan}[l] }

// Finding is something that is wrong, or should be known.
type Finding struct {
	Level Level
	// What it is about, such as "cluster orders".
	What string
	Text string
	// Since is from when on it is so; zero: not known.
	Since  time.Time
	Remedy string // what to do; empty: that is in Text, or not known
}

// IsWrong reports whether any of the findings is worse than a note.
func IsWrong(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Level < Note })
}

// Findings returns what is wrong, the worst first.
func Findings(s *api.Status, c *api.Clusters) []Finding {
	var all []Finding
	for i := range c.Clusters {
		all = append(append(all, ofCluster(&c.Clusters[i])...), ofPeers(&c.Clusters[i])...)
	}
	for _, p := range s.Reload.Problems {
		all = append(all, Finding{Failed, "file of " + p.Setting, strings.Join(p.Files, ", ") + ": " + p.Error, p.Since,
			"correct the file: what was loaded before stays in use until then"})
	}
	for _, certificate := range s.Certificates {
		all = append(all, ofCertificate(certificate, s.Now)...)
	}
	all = append(all, ofLimits(s)...)
	all = append(all, ofState(s)...)
	for _, text := range s.Warnings {
		all = append(all, Finding{Level: Note, What: "configuration", Text: text})
	}
	slices.SortStableFunc(all, func(a, b Finding) int { return cmp.Compare(a.Level, b.Level) })
	return all
}

// ofCluster returns what is wrong with a cluster.
func ofCluster(c *api.Cluster) []Finding {
	var all []Finding
	f := Finding{What: "cluster " + c.Name, Since: c.Since}
	down, tried := 0, 0
	for _, b := range c.Brokers {
		if b.Health != "unknown" {
			tried++
		}
		if b.Health != "down" {
			continue
		}
		down++
		if f.Remedy == "" {
			if f.Text, f.Remedy = b.LastError, b.Remedy; !strings.Contains(b.LastError, b.Address) {
				f.Text = join(b.Address, b.LastError)
			}
		}
	}
	switch c.Health {
	case "down":
		f.Level, f.Text = Failed, join("no broker can be reached", f.Text)
		all = append(all, f)
	case "failing":
		f.Level, f.Text = Warning, join(fmt.Sprintf("%d of %d addresses cannot be reached", down, tried), f.Text)
		all = append(all, f)
	}
	if n := c.OtherCluster; n > 0 {
		all = append(all, Finding{Failed, "cluster " + c.Name, fmt.Sprintf("another cluster answers at %s", plural(n, "address", "addresses")), time.Time{},
			"see that all upstreams, and the names that they tell, lead to brokers of this cluster"})
	}
	return all
}

// join puts a reason behind a text.
func join(text, reason string) string {
	if reason == "" || strings.HasSuffix(reason, ": ") {
		return text + strings.TrimSuffix(reason, ": ")
	}
	return text + ": " + reason
}

// ofCertificate returns what is wrong with a certificate.
func ofCertificate(c api.Certificate, now time.Time) []Finding {
	f := Finding{Level: Warning, What: useOf(c) + " " + c.Of, Text: c.Warning, Remedy: "renew it, and replace the file: it is read again by itself"}
	switch {
	case now.After(c.NotAfter):
		f.Level, f.Since = Failed, c.NotAfter
		f.Text = "has expired"
	case now.Before(c.NotBefore):
		f.Level = Failed
		f.Text, f.Remedy = "is not valid before "+c.NotBefore.UTC().Format(time.RFC3339), "see that the clock is right"
	case c.Warning == "":
		return nil
	}
	if !strings.Contains(f.Text, c.File) {
		f.Text = c.File + " (" + c.Subject + ") " + f.Text
	}
	return []Finding{f}
}

// useOf says what a certificate is for.
func useOf(c api.Certificate) string {
	switch c.Use {
	case "listener":
		return "certificate of listener"
	case "upstream":
		return "certificate for cluster"
	case "client-authority":
		return "authority of clients of listener"
	}
	return "certificate (" + c.Use + ") of"
}

// ofPeers returns who does not read.
func ofPeers(c *api.Cluster) (all []Finding) {
	if n := c.StalledByClients; n > 0 {
		all = append(all, Finding{Note, "cluster " + c.Name, plural(n, "client does", "clients do") + " not read what the broker has sent", time.Time{},
			"the client is busy or its network is full: kafka-sni-proxy sessions --cluster " + c.Name})
	}
	if n := c.StalledByBrokers; n > 0 {
		all = append(all, Finding{Note, "cluster " + c.Name, "on " + plural(n, "connection", "connections") + " the broker does not read requests", time.Time{},
			"the broker or the network to it is overloaded"})
	}
	return all
}

// ofLimits returns the limits that are, or will soon be, reached.
func ofLimits(s *api.Status) []Finding {
	var all []Finding
	if c := s.Connections; c.Most > 0 && c.Open >= c.Most {
		all = append(all, Finding{Failed, "connections", fmt.Sprintf("all %d that are allowed are open: further clients are refused", c.Most), time.Time{},
			"raise --max-connections (limits.max-connections), or see who has so many: kafka-sni-proxy sessions"})
	}
	if p := s.Process; p.MostDescriptors > 0 && int64(p.OpenDescriptors)*10 >= p.MostDescriptors*9 {
		all = append(all, Finding{Warning, "open files", fmt.Sprintf("%d of %d are in use: further connections will fail", p.OpenDescriptors, p.MostDescriptors), time.Time{},
			"raise the limit of the process (ulimit -n, LimitNOFILE of systemd)"})
	}
	if n := s.Connections.Panics; n > 0 {
		all = append(all, Finding{Note, "defects", fmt.Sprintf("%s ended by a defect of the program", plural(int(n), "connection was", "connections were")), time.Time{},
			"please report it, with the log lines that say panic"})
	}
	return all
}

// ofState says whether the process is about to end.
func ofState(s *api.Status) []Finding {
	f := Finding{Level: Note, What: "state", Since: s.StateSince}
	switch s.State {
	case "serving", "":
		h := s.HandOver
		if h == nil {
			return nil
		}
		f.Since, f.Text = h.Since, "another process is being started, which is to take over"
		if h.From != 0 {
			f.Text = fmt.Sprintf("took over from process %d, which ends its connections one by one", h.From)
		}
	case "draining":
		f.Text = "draining: no new clients, requests in flight are waited for"
	default:
		f.Text = s.State
	}
	return []Finding{f}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
