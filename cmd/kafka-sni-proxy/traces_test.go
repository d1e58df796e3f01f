package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"kafka-sni-proxy/internal/config"
)

// TestTracesReachTheCollectorBeforeTheEnd: of a connection, its steps and its requests.
func TestTracesReachTheCollectorBeforeTheEnd(t *testing.T) {
	var mu sync.Mutex
	byName := map[string]*tracepb.Span{}
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var data tracepb.TracesData
		if err == nil {
			err = proto.Unmarshal(body, &data)
		}
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range data.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					byName[s.Name] = s
				}
			}
		}
	}))
	defer collector.Close()
	c := newCluster(t)
	p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem", "--trace-endpoint", collector.URL, "--trace-requests", "1")
	conn := p.connect(false)
	check(t, c.roundTrip(t, conn))
	if status, metrics := p.get("/metrics"); status != 200 || !strings.Contains(metrics, "kafka_sni_proxy_traces_dropped_total 0\n") {
		t.Errorf("/metrics has no traces_dropped_total")
	}
	p.signal(syscall.SIGTERM)
	p.end(0)

	mu.Lock()
	defer mu.Unlock()
	root, request := byName["kafka connection"], byName["Heartbeat"]
	if root == nil || request == nil || byName["handshake"] == nil || byName["connect"] == nil {
		t.Fatalf("there are %v", byName)
	}
	for _, s := range byName {
		if s != root && (!bytes.Equal(s.ParentSpanId, root.SpanId) || !bytes.Equal(s.TraceId, root.TraceId)) {
			t.Errorf("%s does not belong to the connection", s.Name)
		}
		if s.StartTimeUnixNano < root.StartTimeUnixNano || s.EndTimeUnixNano > root.EndTimeUnixNano || s.EndTimeUnixNano < s.StartTimeUnixNano {
			t.Errorf("%s is from %d to %d, and the connection from %d to %d", s.Name, s.StartTimeUnixNano, s.EndTimeUnixNano, root.StartTimeUnixNano, root.EndTimeUnixNano)
		}
	}
	if took := request.EndTimeUnixNano - request.StartTimeUnixNano; took == 0 || request.StartTimeUnixNano < byName["connect"].EndTimeUnixNano {
		t.Errorf("the request took %d ns, from %d on", took, request.StartTimeUnixNano)
	}
	var keys []string
	for _, a := range request.Attributes {
		keys = append(keys, a.Key)
	}
	for _, key := range []string{"kafka_sni_proxy.api.key", "kafka_sni_proxy.correlation_id", "kafka_sni_proxy.cluster", "server.address", "client.address"} {
		if !slices.Contains(keys, key) {
			t.Errorf("the request has no %s: %q", key, keys)
		}
	}
}

// TestWithoutTracesAndAccessLogNobodyIsTold: so there is nothing in the way of a request.
func TestWithoutTracesAndAccessLogNobodyIsTold(t *testing.T) {
	a := &app{}
	a.startTraces(config.Default())
	if a.traces != nil || a.traces.onAnswer() != nil || a.onEnded() != nil || a.traces.metrics() != nil || a.accessLog.metrics() != nil {
		t.Error("somebody is told, or counts")
	}
	a.traces.flush(t.Context())
	a.close()
}
