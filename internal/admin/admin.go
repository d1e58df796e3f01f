// Package admin is the port for operators: the status page, the API that it shows, metrics,
// and whether the proxy is alive and ready. It reads snapshots and changes nothing. Whoever can reach the port can cost the
// proxy little: a bounded number of connections, each for a bounded time.
package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"regexp"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"kafka-sni-proxy/internal/api"
	"kafka-sni-proxy/internal/page"
	"kafka-sni-proxy/internal/server"
	"kafka-sni-proxy/internal/session"
)

// Proxy is what is told of.
type Proxy interface {
	Stats() server.Stats
	// Sessions, Failures, Waiting and Details are those of [server.Server].
	Sessions() []server.SessionView
	Failures() []server.Failure
	Waiting() map[string]session.Waiting
	Details() []server.ClusterDetails
	// Facts returns what is known of the process and its configuration.
	Facts() Facts
	// Hint says what an operator can do about an error; "" where that is not known.
	Hint(err error) string
	// Draining reports whether no more clients are accepted, on purpose.
	Draining() bool
	// Clusters returns the names of the clusters that are served.
	Clusters() []string
	// CheckCluster reports whether an upstream of a cluster can be reached.
	CheckCluster(ctx context.Context, name string) error
	// CheckAlive reports whether clients are accepted, or need not be any more.
	CheckAlive(ctx context.Context, patience time.Duration) error
}

// Facts are what is known of the process and its configuration.
type Facts struct {
	Version, GoVersion, Host string
	PID                      int
	Started                  time.Time
	State                    string // as in [api.Status]
	StateSince               time.Time
	Configuration            string // the file; "": flags alone
	MaxConnections           int
	Listeners                []api.Listener
	Certificates             []api.Certificate
	Reload                   api.Reload
	HandOver                 *api.HandOver
	Warnings                 []string
	Via                      map[string]string         // by cluster, without passwords
	Authentication           map[string]Authentication // by cluster, where there is any
	ShowConfiguration        func() string             // see [api.Support]
	Log                      func() []string           // likewise
}

// Authentication is how a cluster's clients log in at the proxy, and the proxy at brokers.
type Authentication struct {
	Clients []string // mechanisms
	Brokers string   // mechanism

}

// Options are what the port is asked to do besides.
type Options struct {
	Access
	// TLS is how the port is spoken to; nil: in plaintext.
	TLS *tls.Config
	// Debug adds /debug/pprof.
	Debug bool
}

// Limits of what one client of the port may cost.
const (
	headerTimeout  = 5 * time.Second
	requestTimeout = 5 * time.Second  // header and body; bodies are not wanted
	answerTimeout  = 10 * time.Second // until the answer has been read
	idleTimeout    = 30 * time.Second
	maxHeader      = 16 << 10
	maxScrapes     = 4 // of /metrics at once
)

// Serve answers on a listener until stop is called. collectors are registered beside the
// proxy's own.
func Serve(ln net.Listener, proxy Proxy, options Options, log *slog.Logger, collectors ...prometheus.Collector) (stop func()) {
	h := newHistory(proxy)
	answers := handler(proxy, h, options, collectors...)
	if at, ok := ln.Addr().(*net.TCPAddr); ok && at.IP.IsLoopback() && options.isOpen() {
		answers = refuseRebinding(answers, proxy.Facts().Host)
	}
	web := &http.Server{
		Handler:           answers,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	var limited net.Listener = &newestListener{Listener: ln}
	if options.TLS != nil {
		limited = tls.NewListener(limited, options.TLS)
	}
	ctx, end := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := web.Serve(limited); !errors.Is(err, net.ErrClosed) {
			log.Error("the admin port has ended", "error", err)
		}
	}()
	past := make(chan struct{})
	go func() {
		defer close(past)
		h.run(ctx)
	}()
	log.Info("status, metrics and health checks", "address", ln.Addr().String())
	return func() {
		end()
		<-past
		// What was accepted is answered, also when another process answers what comes
		// next. Only when Serve has ended, Shutdown knows of all of that.
		ln.Close()
		<-ended
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if web.Shutdown(ctx) != nil {
			web.Close()
		}
	}
}

// Handler answers all that the port answers. The history has no points.
func Handler(proxy Proxy, options Options, more ...prometheus.Collector) http.Handler {
	return handler(proxy, newHistory(proxy), options, more...)
}

// schedulerLatency is for how long goroutines wait for a processor, which no time that the
// proxy measures of itself has in it.
var schedulerLatency = collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile("^/sched/latencies:seconds$")}

func handler(proxy Proxy, h *history, options Options, more ...prometheus.Collector) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(schedulerLatency)),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), metrics{proxy})
	registry.MustRegister(more...)

	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if err := proxy.CheckAlive(r.Context(), healthTimeout); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /readyz", newReadiness(proxy))
	v := newInTurn(&view{proxy, h})
	mux.Handle(api.Prefix, apiHandler(v, proxy.Facts))
	status := page.Handler(v)
	mux.Handle("GET /{$}", status)
	mux.Handle("GET /assets/", status)
	if options.Debug {
		addDebug(mux)
	}
	return options.guard(mux)
}

// healthTimeout is how long accepting a client may take before the proxy counts
// as dead. It pauses for a second when it is out of file descriptors.
const healthTimeout = 5 * time.Second

// maxProfile is how long a profile may take, in which nothing is answered yet.
const maxProfile = 2 * time.Minute

// addDebug adds /debug/pprof.
func addDebug(mux *http.ServeMux) {
	for path, h := range map[string]http.HandlerFunc{
		"": pprof.Index, "cmdline": pprof.Cmdline, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace,
	} {
		mux.HandleFunc("GET /debug/pprof/"+path, func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).SetWriteDeadline(time.Now().Add(maxProfile))
			// pprof compares the time asked for with the server's timeout, which does not
			// count here.
			timeout := &http.Server{WriteTimeout: maxProfile}
			h(w, r.WithContext(context.WithValue(r.Context(), http.ServerContextKey, timeout)))
		})
	}
}
