package server

import (
	"cmp"
	"hash/maphash"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// maxRecent is how many kinds of failures are kept.
	maxRecent = 200
	// maxRecentText is how much is kept of each text, in bytes.
	maxRecentText = 512
)

// Failure is a client that failed or was refused, or several of the same kind.
type Failure struct {
	First, Last time.Time
	Count       int64
	Client      string // the last one's address
	ServerName  string
	Listener    string
	Cluster     string
	Broker      string
	Principal   string // who the client had proved to be; "": nobody
	Phase       string // as in Stats, or limit, or panic
	Reason      string
	Hint        string // what to do about it

	kind   uint64
	source netip.Prefix // of the client: see sourceOf. Not valid: it has none
}

// recent keeps the last failures. The zero value is ready to use; what is kept takes 600 KiB
// at the most.
type recent struct {
	mu  sync.Mutex
	all []Failure
}

var recentSeed = maphash.MakeSeed()

// note keeps a failure of a client. Those with the same key, of the same host, are kept together.
func (r *recent) note(f Failure, client net.Addr, key string) {
	f.Client, f.source = client.String(), sourceOf(client)
	var h maphash.Hash
	h.SetSeed(recentSeed)
	for _, part := range []string{f.Phase, hostOf(client), f.Listener, f.Cluster, f.ServerName, key} {
		h.WriteString(part)
		h.WriteByte(0)
	}
	f.kind, f.Count, f.Last = h.Sum64(), 1, time.Now()
	f.First = f.Last
	for _, text := range []*string{&f.Client, &f.ServerName, &f.Listener, &f.Cluster, &f.Broker, &f.Principal, &f.Reason, &f.Hint} {
		if len(*text) > maxRecentText {
			*text = (*text)[:maxRecentText]
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.all, func(old Failure) bool { return old.kind == f.kind }); i >= 0 {
		f.First, f.Count = r.all[i].First, r.all[i].Count+1
		r.all[i] = f
		return
	}
	if len(r.all) < maxRecent {
		r.all = append(r.all, f)
		return
	}
	r.all[r.leastMissed(f.source)] = f
}

// leastMissed returns which failure makes room for one of a source: of the source that has the most, the one
// that was the longest ago. So one client that asks for random names pushes out its own failures, and
// not what others have to be helped with. The caller holds r.mu.
func (r *recent) leastMissed(by netip.Prefix) (least int) {
	of := map[netip.Prefix]int{by: 1}
	for i := range r.all {
		of[r.all[i].source]++
	}
	most := 0
	for i := range r.all {
		switch n := of[r.all[i].source]; {
		case n > most, n == most && r.all[i].Last.Before(r.all[least].Last):
			most, least = n, i
		}
	}
	return least
}

// Failures returns the last failures, the newest first.
func (s *Server) Failures() []Failure {
	s.recent.mu.Lock()
	defer s.recent.mu.Unlock()
	all := slices.Clone(s.recent.all)
	slices.SortStableFunc(all, func(a, b Failure) int { return cmp.Compare(b.Last.UnixNano(), a.Last.UnixNano()) })
	return all
}
