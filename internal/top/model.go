package top

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"

	"kafka-sni-proxy/internal/api"
)

// page is what is shown below the header.
type page int

const (
	sessionsPage page = iota
	brokersPage
	failuresPage
)

// everyClusters is with how many answers the clusters are asked for, when they are not what
// is shown: they are long, and only tell what is wrong.
const everyClusters = 5

// model is the state of the view. It is changed by messages alone: Update.
type model struct {
	Options
	ctx context.Context

	width, height int

	page     page
	details  bool // of what is selected, in place of the list
	help     bool
	paused   bool
	entering bool // the filter is being written
	entered  string

	selected int // row of the list
	scroll   int // first row, or first line of details, that is shown

	session      api.Session // whose details are shown
	sessionEnded bool        // it is not in the last answer

	// round counts the questions. An answer to an earlier one is not used.
	round    int
	cancel   context.CancelFunc // of the last question
	status   *api.Status
	clusters *api.Clusters
	failures *api.Failures
	sessions *api.Sessions

	err   error     // of the last question
	since time.Time // when the proxy last answered, with err
}

// brokerRow is a broker and its cluster.
type brokerRow struct {
	cluster string
	broker  *api.Broker
}

func newModel(ctx context.Context, o Options) *model {
	if o.Query.Sort == "" {
		o.Query.Sort = "-rate"
	}
	return &model{Options: o, ctx: ctx, cancel: func() {}, width: 80, height: 24, clusters: &api.Clusters{}, failures: &api.Failures{}, sessions: &api.Sessions{}}
}

// answer is what the proxy has said; what was not asked for is nil.
type answer struct {
	round    int
	at       time.Time
	status   *api.Status
	clusters *api.Clusters
	failures *api.Failures
	sessions *api.Sessions
	err      error
}

// timeToAsk is when the next question is due.
type timeToAsk struct{ round int }

// question is what the page needs to know.
func (m *model) question() question {
	q := question{m.Client, m.page, m.round, m.Query, m.page == brokersPage || m.round%everyClusters == 0}
	q.query.Limit = min(max(api.DefaultLimit, m.scroll+2*m.height), api.MaxLimit)
	return q
}

// question is a copy of what the model wants to know: it is asked beside it.
type question struct {
	client       *api.Client
	page         page
	round        int
	query        api.SessionQuery
	withClusters bool
}

func (q question) ask(ctx context.Context) (a answer) {
	a = answer{round: q.round}
	a.status, a.err = q.client.Status(ctx)
	if a.err == nil && q.withClusters {
		a.clusters, a.err = q.client.Clusters(ctx)
	}
	switch {
	case a.err != nil:
	case q.page == sessionsPage:
		a.sessions, a.err = q.client.Sessions(ctx, q.query)
	case q.page == failuresPage:
		a.failures, a.err = q.client.Failures(ctx)
	}
	a.at = time.Now()
	return a
}

// next has the proxy be asked now. What was asked before is not waited for.
func (m *model) next() tea.Cmd {
	m.round++
	m.cancel()
	var ctx context.Context
	ctx, m.cancel = context.WithCancel(m.ctx)
	q := m.question()
	return func() tea.Msg { return q.ask(ctx) }
}

// later has it be asked after the interval.
func (m *model) later() tea.Cmd {
	round := m.round
	return tea.Tick(m.Interval, func(time.Time) tea.Msg { return timeToAsk{round} })
}

// take keeps an answer.
func (m *model) take(a answer) {
	if m.err = a.err; a.err != nil {
		return
	}
	m.since = a.at
	m.status = a.status
	if a.clusters != nil {
		m.clusters = a.clusters
	}
	if a.failures != nil {
		m.failures = a.failures
	}
	if a.sessions != nil {
		m.takeSessions(a.sessions)
	}
	m.selected = max(min(m.selected, m.count()-1), 0)
}

// takeSessions keeps sessions. The one that was selected stays selected, wherever it is now.
func (m *model) takeSessions(s *api.Sessions) {
	at := func(all []api.Session, id uint64) int {
		return slices.IndexFunc(all, func(s api.Session) bool { return s.ID == id })
	}
	if m.selected > 0 && m.selected < len(m.sessions.Sessions) {
		if i := at(s.Sessions, m.sessions.Sessions[m.selected].ID); i >= 0 {
			m.selected = i
		}
	}
	m.sessions = s
	if i := at(s.Sessions, m.session.ID); i >= 0 {
		m.session, m.sessionEnded = s.Sessions[i], false
	} else {
		m.sessionEnded = true
	}
}

// count is how many rows the list has.
func (m *model) count() int {
	switch m.page {
	case brokersPage:
		return len(m.rows())
	case failuresPage:
		return len(m.failures.Failures)
	}
	return len(m.sessions.Sessions)
}

// ofCluster are the clusters whose brokers are listed.
func (m *model) ofCluster() []api.Cluster {
	if m.Query.Cluster == "" {
		return m.clusters.Clusters
	}
	return slices.DeleteFunc(slices.Clone(m.clusters.Clusters), func(c api.Cluster) bool { return c.Name != m.Query.Cluster })
}

// rows are the brokers that are listed.
func (m *model) rows() []brokerRow {
	var all []brokerRow
	for _, c := range m.ofCluster() {
		for i := range c.Brokers {
			all = append(all, brokerRow{c.Name, &c.Brokers[i]})
		}
	}
	return all
}

// names are the clusters that there are.
func (m *model) names() []string {
	var all []string
	for _, l := range m.status.Listeners {
		all = append(all, l.Clusters...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (m *model) Init() tea.Cmd { return m.later() }

func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case timeToAsk:
		if msg.round == m.round && !m.paused {
			return m, m.next()
		}
	case answer:
		if msg.round == m.round {
			m.take(msg)
			return m, m.later()
		}
	case tea.PasteMsg:
		if m.entering {
			m.enter(msg.Content)
		}
	case tea.KeyPressMsg:
		if m.entering {
			return m, m.filterKey(msg)
		}
		return m, m.key(msg.String())
	}
	return m, nil
}

// enter adds text to the filter that is being written.
func (m *model) enter(text string) {
	for _, r := range text {
		if unicode.IsPrint(r) && len(m.entered)+utf8.RuneLen(r) <= 200 {
			m.entered += string(r)
		}
	}
}

// filterKey is of a key while the filter is being written.
func (m *model) filterKey(key tea.KeyPressMsg) tea.Cmd {
	switch key.String() {
	case "ctrl+c":
		return tea.Quit
	case "esc":
		m.entering = false
	case "enter":
		m.entering = false
		m.Query.Text = strings.TrimSpace(m.entered)
		return m.anew()
	case "backspace":
		_, size := utf8.DecodeLastRuneInString(m.entered)
		m.entered = m.entered[:len(m.entered)-size]
	case "ctrl+u":
		m.entered = ""
	default:
		m.enter(key.Text)
	}
	return nil
}

// anew shows the list from its beginning, with a new answer.
func (m *model) anew() tea.Cmd {
	m.selected, m.scroll, m.details = 0, 0, false
	return m.next()
}

// key is of a key that is a command.
func (m *model) key(name string) tea.Cmd {
	switch name {
	case "q", "ctrl+c":
		return tea.Quit
	case "ctrl+z":
		return tea.Suspend
	case "?":
		m.help, m.scroll = !m.help, 0
		return nil
	}
	if m.help { // any other key takes it away
		m.help = false
		return nil
	}
	switch name {
	case "p":
		if m.paused = !m.paused; !m.paused {
			return m.next()
		}
	case "space":
		return m.next()
	case "s":
		return m.sortBy(1)
	case "S":
		return m.sortBy(-1)
	case "r":
		if m.page != sessionsPage {
			return nil
		}
		if rest, greatestFirst := strings.CutPrefix(m.Query.Sort, "-"); greatestFirst {
			m.Query.Sort = rest
		} else {
			m.Query.Sort = "-" + m.Query.Sort
		}
		return m.anew()
	case "/":
		if m.page == sessionsPage {
			m.entering, m.entered, m.details = true, m.Query.Text, false
		}
	case "c":
		all := append([]string{""}, m.names()...)
		m.Query.Cluster = all[(slices.Index(all, m.Query.Cluster)+1)%len(all)]
		return m.anew()
	case "f":
		return m.turn(failuresPage)
	case "b":
		return m.turn(brokersPage)
	case "esc":
		return m.back()
	case "enter":
		m.openDetails()
	default:
		return m.move(name)
	}
	return nil
}

// sortBy sorts by the next or the last key.
func (m *model) sortBy(step int) tea.Cmd {
	if m.page != sessionsPage {
		return nil
	}
	key, greatestFirst := strings.CutPrefix(m.Query.Sort, "-")
	n := len(api.SessionSorts)
	m.Query.Sort = api.SessionSorts[(slices.Index(api.SessionSorts, key)+step+n)%n]
	if greatestFirst {
		m.Query.Sort = "-" + m.Query.Sort
	}
	return m.anew()
}

// turn shows another page, or the sessions again.
func (m *model) turn(p page) tea.Cmd {
	if m.page == p {
		p = sessionsPage
	}
	m.page = p
	return m.anew()
}

// back leaves the details, then the filters, then the page.
func (m *model) back() tea.Cmd {
	switch {
	case m.details:
		m.details = false
		m.show()
	case m.page != sessionsPage:
		return m.turn(sessionsPage)
	case m.Query.Text != "" || m.Query.Cluster != "":
		m.Query.Text, m.Query.Cluster = "", ""
		return m.anew()
	}
	return nil
}

// openDetails shows what is selected.
func (m *model) openDetails() {
	if m.details || m.selected >= m.count() {
		return
	}
	m.details, m.scroll = true, 0
	if m.page == sessionsPage {
		m.session, m.sessionEnded = m.sessions.Sessions[m.selected], false
	}
}

// move goes up and down.
func (m *model) move(name string) tea.Cmd {
	step := 0
	switch name {
	case "up", "k":
		step = -1
	case "down", "j":
		step = 1
	case "pgup":
		step = -m.room()
	case "pgdown":
		step = m.room()
	case "home", "g":
		step = -1 << 20
	case "end", "G":
		step = 1 << 20
	default:
		return nil
	}
	if m.details {
		m.scroll = max(m.scroll+step, 0) // the screen knows how far there is
		return nil
	}
	before := m.selected
	m.selected = max(min(m.selected+step, m.count()-1), 0)
	m.show()
	// The next rows are asked for before they are needed.
	if !m.paused && m.page == sessionsPage && m.selected > before && m.selected+m.room() >= m.count() && m.count() < min(m.sessions.Matching, api.MaxLimit) {
		return m.next()
	}
	return nil
}

// show scrolls so that the selected row can be seen.
func (m *model) show() {
	m.scroll = max(min(m.scroll, m.selected), m.selected-m.room()+1, 0)
}
