package top

import (
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"kafka-sni-proxy/internal/view"
)

const (
	bold    = "\x1b[1m"
	red     = "\x1b[31m"
	yellow  = "\x1b[33m"
	green   = "\x1b[32m"
	reverse = "\x1b[7m"
	plain   = "\x1b[0m"
)

// headerLines is how many lines there are above the list, the titles of its columns among
// them; below it is one line with the keys.
const headerLines = 7

// room is how many rows of a list can be seen.
func (m *model) room() int { return max(m.height-headerLines-1, 1) }

func (m *model) View() tea.View {
	v := tea.NewView(strings.Join(m.lines(), "\n"))
	v.AltScreen = true
	return v
}

// lines are as many as the terminal has.
func (m *model) lines() []string {
	all := m.header()
	var below []string
	switch {
	case m.help:
		below = append([]string{""}, m.window(help())...)
	case m.details:
		below = append([]string{""}, m.window(m.detailLines())...)
	default:
		below = m.list()
	}
	all = append(all, below...)
	for len(all) < m.height-1 {
		all = append(all, "")
	}
	return append(all[:max(m.height-1, 0)], m.lastLine())
}

// marked returns text that fits the terminal, in a colour or another attribute.
func (m *model) marked(mark, text string) string {
	text = view.Cut(view.Clean(text), m.width)
	if mark == "" || text == "" || !m.Style.Coloured && strings.HasPrefix(mark, "\x1b[3") {
		return text
	}
	return mark + text + plain
}

// header says how the proxy is.
func (m *model) header() []string {
	s := m.status
	c := s.Connections
	open := view.Count(float64(c.Open))
	if c.Most > 0 {
		open += "/" + view.Count(float64(c.Most))
	}
	load := "connections " + open + "  in flight " + view.Count(float64(c.InFlight))
	carried, times := "", "latency -  added by the proxy -"
	var failed int64
	for _, n := range c.Failed {
		failed += n
	}
	failures := "failures " + view.Count(float64(failed))
	if r := s.Rates; r != nil {
		load += fmt.Sprintf("  requests %s/s", view.Count(r.Requests))
		carried = fmt.Sprintf("sent %s/s  received %s/s  ", view.Bytes(r.RequestBytes), view.Bytes(r.ResponseBytes))
		latency, added := "-", "-"
		if q := r.Latency; q != nil {
			latency = "p50 " + view.Seconds(q.P50) + " p99 " + view.Seconds(q.P99)
		}
		if q := r.Added; q != nil {
			added = "p50 " + view.Seconds(q.P50) + " p99 " + view.Seconds(q.P99)
		}
		times = "latency " + latency + "  added by the proxy " + added
		failures += " (" + view.Count(r.Failed) + "/s)"
	}
	first := fmt.Sprintf("kafka-sni-proxy %s on %s  %s  up %s  %s", s.Version, s.Host, s.State, view.Seconds(s.Now.Sub(s.Started).Seconds()), s.Now.Local().Format("15:04:05"))
	return []string{m.marked(bold, first), m.marked("", load), m.marked("", carried+failures), m.marked("", times), m.wellLine(), m.marked(bold, m.title())}
}

// wellLine says whether something is wrong, and what is worst.
func (m *model) wellLine() string {
	if m.err != nil {
		silent := time.Since(m.since).Round(time.Second)
		return m.marked(red, fmt.Sprintf("NO ANSWER since %s (%v): %v", m.since.Format("15:04:05"), silent, m.err))
	}
	findings := view.Findings(m.status, m.clusters)
	if len(findings) == 0 {
		return m.marked(green, "nothing is wrong")
	}
	worst, more := findings[0], ""
	if n := len(findings) - 1; n > 0 {
		more = fmt.Sprintf("(+%d: kafka-sni-proxy status) ", n)
	}
	mark := map[view.Level]string{view.Failed: red, view.Warning: yellow}[worst.Level]
	return m.marked(mark, fmt.Sprintf("%s: %s%s: %s", strings.ToUpper(worst.Level.String()), more, worst.What, worst.Text))
}

// title says what the list has.
func (m *model) title() string {
	var text string
	switch m.page {
	case brokersPage:
		text = fmt.Sprintf("BROKERS %d", m.count())
	case failuresPage:
		text = fmt.Sprintf("LAST FAILURES %d", m.count())
	default:
		text = fmt.Sprintf("SESSIONS %d", m.sessions.Total)
		if m.sessions.Matching != m.sessions.Total {
			text = fmt.Sprintf("SESSIONS %d of %d", m.sessions.Matching, m.sessions.Total)
		}
		key, greatestFirst := strings.CutPrefix(m.Query.Sort, "-")
		direction := "ascending"
		if greatestFirst {
			direction = "descending"
		}
		text += "  sort " + key + ", " + direction
		if m.Query.Text != "" {
			text += fmt.Sprintf("  filter %q", m.Query.Text)
		}
		for _, exact := range [][2]string{{"listener", m.Query.Listener}, {"broker", m.Query.Broker}, {"state", m.Query.State}} {
			if exact[1] != "" {
				text += "  " + exact[0] + " " + exact[1]
			}
		}
	}
	if m.Query.Cluster != "" && m.page != failuresPage {
		text += "  cluster " + m.Query.Cluster
	}
	if m.paused {
		text += "  PAUSED"
	}
	return text
}

// list is the table, as much of it as can be seen, its titles first.
func (m *model) list() []string {
	m.show()
	style := view.Style{Width: m.width, Coloured: m.Style.Coloured}
	table := m.table()
	if len(table.Rows) == 0 {
		return []string{"", "  " + m.empty()}
	}
	from := min(m.scroll, len(table.Rows)-1)
	table.Rows = table.Rows[from:min(from+m.room(), len(table.Rows))]
	lines := table.Lines(style)
	if at := m.selected - from + 1; at > 0 && at < len(lines) {
		style.Coloured = false
		line := table.Lines(style)[at]
		lines[at] = reverse + line + strings.Repeat(" ", max(m.width-view.Width(line), 0)) + plain
	}
	return lines
}

func (m *model) table() *view.Table {
	switch m.page {
	case brokersPage:
		return view.Routes(m.ofCluster(), m.status.Now)
	case failuresPage:
		return view.Failures(m.failures, m.status.Now, len(m.failures.Failures))
	}
	return view.Sessions(m.sessions.Sessions)
}

// empty says why there is nothing in the list.
func (m *model) empty() string {
	switch {
	case m.page == brokersPage:
		return "no brokers"
	case m.page == failuresPage:
		return "no connection has failed"
	case m.sessions.Total > 0:
		return "no session matches: esc takes the filters away"
	}
	return "no sessions"
}

// detailLines are of what is selected.
func (m *model) detailLines() []string {
	style := view.Style{Width: m.width}
	now := m.status.Now
	switch m.page {
	case brokersPage:
		if rows := m.rows(); m.selected < len(rows) {
			return view.BrokerDetails(rows[m.selected].cluster, rows[m.selected].broker, now, style)
		}
	case failuresPage:
		if m.selected < len(m.failures.Failures) {
			return view.FailureDetails(&m.failures.Failures[m.selected], now, style)
		}
	default:
		lines := view.SessionDetails(&m.session, now, style)
		if m.sessionEnded {
			lines = append([]string{"It has ended, or is no longer among the first that are listed. This is how it was:"}, lines...)
		}
		return lines
	}
	return nil
}

// window is what can be seen of lines.
func (m *model) window(lines []string) []string {
	m.scroll = max(min(m.scroll, len(lines)-m.room()), 0)
	lines = lines[m.scroll:min(m.scroll+m.room(), len(lines))]
	for i := range lines {
		lines[i] = m.marked("", lines[i])
	}
	return lines
}

// lastLine is the filter that is being written, or the keys.
func (m *model) lastLine() string {
	switch {
	case m.entering:
		// The end of a long text is what is being written.
		text := m.entered
		for view.Width(text) > max(m.width-10, 1) {
			text = text[len(string([]rune(text)[:1])):]
		}
		return m.marked(bold, "filter: "+text+"_")
	case m.help:
		return m.marked("", "any key: back")
	case m.details:
		return m.marked("", "? help  q quit  esc back  ↑↓ scroll  p pause")
	case m.page == sessionsPage:
		return m.marked("", "? help  q quit  s sort  r reverse  / filter  c cluster  f failures  b brokers  enter details  p pause")
	}
	return m.marked("", "? help  q quit  esc sessions  c cluster  f failures  b brokers  enter details  p pause")
}

// help says what the keys do.
func help() []string {
	return strings.Split(`s, S          sort by the next key, or by the one before
r             reverse the order
/             filter: a text in the client's address or id, its software, the
              server name, the broker or the cluster; enter applies, esc leaves
c             the next cluster alone, then all again
enter         all that is known of the row that is selected
f             the last failures, each with what to do; again: the sessions
b             brokers and upstreams; again: the sessions
↑ ↓ k j       move; also page up, page down, home, end, g, G
esc           back; in the list: take the filters away
p, space      pause; ask now
q, ctrl-c     quit

SENT and RECEIVED are bytes of requests and responses, RATE is both. IN-FLIGHT
are requests without a response, OLDEST is for how long the oldest has waited.`, "\n")
}
