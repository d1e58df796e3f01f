package api

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// SessionQuery says which sessions are wanted, and in which order.
type SessionQuery struct {
	// Text must be in the client's address, id or principal, its software, the server name, the
	// broker or the cluster, in any case of letters.
	Text string
	// Cluster, Listener, Broker and State are exact; empty: any.
	Cluster, Listener, Broker, State string
	// Sort is one of [SessionSorts]; a "-" in front: the greatest first. Default: -age.
	Sort string
	// Offset is how many to leave out, Limit how many to give: 1 to 1000, 100 unless said.
	Offset, Limit int
}

// SessionSorts are what sessions can be sorted by.
var SessionSorts = []string{"age", "client", "sni", "cluster", "broker", "principal", "software", "bytes", "rate", "requests", "in-flight", "oldest", "idle"}

// DefaultLimit and MaxLimit are of [SessionQuery.Limit].
const (
	DefaultLimit = 100
	MaxLimit     = 1000
)

// Values returns the query as it is asked.
func (q SessionQuery) Values() url.Values {
	v := url.Values{}
	for name, value := range map[string]string{"q": q.Text, "cluster": q.Cluster, "listener": q.Listener, "broker": q.Broker, "state": q.State, "sort": q.Sort} {
		if value != "" {
			v.Set(name, value)
		}
	}
	for name, n := range map[string]int{"offset": q.Offset, "limit": q.Limit} {
		if n != 0 {
			v.Set(name, strconv.Itoa(n))
		}
	}
	return v
}

// ParseSessionQuery reads a query. The error says what is wrong with it.
func ParseSessionQuery(v url.Values) (q SessionQuery, err error) {
	q = SessionQuery{Text: v.Get("q"), Cluster: v.Get("cluster"), Listener: v.Get("listener"), Broker: v.Get("broker"), State: v.Get("state"), Sort: v.Get("sort"), Limit: DefaultLimit}
	if q.Sort == "" {
		q.Sort = "-age"
	}
	if !slices.Contains(SessionSorts, strings.TrimPrefix(q.Sort, "-")) {
		return q, fmt.Errorf("sort: %q is none of %s, with or without a - in front", q.Sort, strings.Join(SessionSorts, ", "))
	}
	for name, number := range map[string]struct {
		to          *int
		least, most int
	}{"offset": {&q.Offset, 0, 1 << 30}, "limit": {&q.Limit, 1, MaxLimit}} {
		text := v.Get(name)
		if text == "" {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < number.least || n > number.most {
			return q, fmt.Errorf("%s: want a number from %d to %d, not %q", name, number.least, number.most, text)
		}
		*number.to = n
	}
	for name := range v {
		if !slices.Contains([]string{"q", "cluster", "listener", "broker", "state", "sort", "offset", "limit"}, name) {
			return q, fmt.Errorf("there is no parameter %q", name)
		}
	}
	return q, nil
}
