// Package admin is the port for operators: metrics, and whether the proxy is alive and
// ready. It reads snapshots and changes nothing. Whoever can reach the port can cost the
// proxy little: a bounded number of connections, each for a bounded time.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"kafka-sni-proxy/internal/server"
)

// Proxy is what is told of.
type Proxy interface {
	Stats() server.Stats
	// Draining reports whether no more clients are accepted, on purpose.
	Draining() bool
	// Clusters returns the names of the clusters that are served.
	Clusters() []string
	// CheckCluster reports whether an upstream of a cluster can be reached.
	CheckCluster(ctx context.Context, name string) error
	// CheckAlive reports whether clients are accepted, or need not be any more.
	CheckAlive(ctx context.Context, patience time.Duration) error
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
func Serve(ln net.Listener, proxy Proxy, log *slog.Logger, collectors ...prometheus.Collector) (stop func()) {
	web := &http.Server{
		Handler:           Handler(proxy, collectors...),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	limited := &newestListener{Listener: ln}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := web.Serve(limited); !errors.Is(err, net.ErrClosed) {
			log.Error("metrics and health checks have ended", "error", err)
		}
	}()
	log.Info("metrics and health checks", "address", ln.Addr().String())
	return func() {
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

// Handler answers /metrics, /healthz and /readyz.
func Handler(proxy Proxy, more ...prometheus.Collector) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), metrics{proxy})
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
	return mux
}

// healthTimeout is how long accepting a client may take before the proxy counts
// as dead. It pauses for a second when it is out of file descriptors.
const healthTimeout = 5 * time.Second
