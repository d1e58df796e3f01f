package server

import (
	"cmp"
	"hash/maphash"
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

	kind uint64
}

// recent keeps the last failures. The zero value is ready to use; what is kept takes 600 KiB
// at the most.
type recent struct {
	mu  sync.Mutex
	all []Failure
}

var recentSeed = maphash.MakeSeed()

// note keeps a failure. Those with the same key, of the same host, are kept together.
func (r *recent) note(f Failure, host, key string) {
	var h maphash.Hash
	h.SetSeed(recentSeed)
	for _, part := range []string{f.Phase, host, f.Listener, f.Cluster, f.ServerName, key} {
		h.WriteString(part)
		h.WriteByte(0)
	}
	f.kind, f.Count, f.Last = h.Sum64(), 1, time.Now()
	f.First = f.Last
	for _, text := range []*string{&f.Client, &f.ServerName, &f.Listener, &f.Cluster, &f.Broker, &f.Reason, &f.Hint} {
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
	oldest := 0
	for i := range r.all {
		if r.all[i].Last.Before(r.all[oldest].Last) {
			oldest = i
		}
	}
	r.all[oldest] = f
}

// Failures returns the last failures, the newest first.
func (s *Server) Failures() []Failure {
	s.recent.mu.Lock()
	defer s.recent.mu.Unlock()
	all := slices.Clone(s.recent.all)
	slices.SortStableFunc(all, func(a, b Failure) int { return cmp.Compare(b.Last.UnixNano(), a.Last.UnixNano()) })
	return all
}
