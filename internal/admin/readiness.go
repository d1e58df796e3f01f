package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// readiness answers whether a new client would be served: the proxy is not draining, and an
// upstream can be reached. With several clusters, /readyz is for a load balancer, which must
// not take the proxy from the clients of all clusters because one cannot be reached: it says
// no when none can, and tells of each that cannot. /readyz?cluster=NAME is of one cluster.
//
// It asks the upstreams of a cluster at most once in a few seconds, however many ask it.
type readiness struct {
	proxy Proxy
	now   func() time.Time

	mu     sync.Mutex
	states map[string]*clusterState // of clusters that were asked for
}

func newReadiness(proxy Proxy) *readiness {
	return &readiness{proxy: proxy, now: time.Now, states: map[string]*clusterState{}}
}

// clusterState is whether a cluster was ready when it was checked last.
type clusterState struct {
	mu      sync.Mutex // held while it is checked
	checked time.Time
	problem error
}

const (
	readinessTTL     = 5 * time.Second
	readinessTimeout = 5 * time.Second
	// checksAtOnce is how many clusters are checked at the same time.
	checksAtOnce = 16
	// perCluster is added to how long a result is good for, for each cluster: a check is a
	// TLS handshake.
	perCluster = 250 * time.Millisecond
)

func (r *readiness) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	names := r.proxy.Clusters()
	if asked := req.URL.Query()["cluster"]; len(asked) > 0 {
		for _, name := range asked {
			if !slices.Contains(names, name) {
				http.Error(w, fmt.Sprintf("there is no cluster %q", name), http.StatusNotFound)
				return
			}
		}
		if problem := r.check(asked, len(names)); problem.any() {
			http.Error(w, "not ready: "+problem.text(len(names) > 1), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
		return
	}
	problem := r.check(names, len(names))
	switch {
	case problem.draining || len(problem.clusters) == len(names):
		http.Error(w, "not ready: "+problem.text(len(names) > 1), http.StatusServiceUnavailable)
	case problem.any():
		fmt.Fprintf(w, "ready, but for: %s\n", problem.text(true))
	default:
		fmt.Fprintln(w, "ready")
	}
}

// problems are why clients would not be served.
type problems struct {
	draining bool
	clusters []string
	errors   []error // of each
}

func (p *problems) any() bool { return p.draining || len(p.clusters) > 0 }

// text says what is wrong, with the clusters' names if there are several.
func (p *problems) text(named bool) string {
	if p.draining {
		return "draining"
	}
	var lines []string
	for i, name := range p.clusters {
		text := fmt.Sprintf("no upstream can be reached: %v", p.errors[i])
		if named {
			text = fmt.Sprintf("cluster %s: %s", name, text)
		}
		lines = append(lines, text)
	}
	return strings.Join(lines, "\n")
}

// check checks clusters, of so many that there are.
func (r *readiness) check(names []string, of int) *problems {
	if r.proxy.Draining() {
		return &problems{draining: true}
	}
	found := make([]error, len(names))
	ttl := max(readinessTTL, time.Duration(of)*perCluster)
	slots := make(chan struct{}, checksAtOnce)
	var all sync.WaitGroup
	for i, name := range names {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			found[i] = r.checkOne(name, ttl)
		})
	}
	all.Wait()
	p := &problems{}
	for i, err := range found {
		if err != nil {
			p.clusters, p.errors = append(p.clusters, names[i]), append(p.errors, err)
		}
	}
	return p
}

// checkOne checks a cluster, unless that was done lately.
func (r *readiness) checkOne(name string, ttl time.Duration) error {
	s := r.state(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.checked.IsZero() || r.now().Sub(s.checked) > ttl {
		// Not the request's context: the answer is for those who ask next, too.
		ctx, cancel := context.WithTimeout(context.Background(), readinessTimeout)
		defer cancel()
		s.problem = r.proxy.CheckCluster(ctx, name)
		s.checked = r.now()
	}
	return s.problem
}

// state returns the state of a cluster, and forgets those of clusters that are gone.
func (r *readiness) state(name string) *clusterState {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.states[name] == nil {
		names := r.proxy.Clusters()
		for known := range r.states {
			if !slices.Contains(names, known) {
				delete(r.states, known)
			}
		}
		r.states[name] = new(clusterState)
	}
	return r.states[name]
}
