package trace

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"kafka-sni-proxy/internal/loglimit"
	"kafka-sni-proxy/internal/text"
)

const (
	// QueueLength is how many spans may wait to be sent, 3 MiB or so.
	QueueLength = 2048
	// batch is how many are sent at once.
	batch = 512
	// interval is for how long spans are collected before they are sent.
	interval = 5 * time.Second
	// sendTimeout is how long a collector may take.
	sendTimeout = 10 * time.Second
	// tries is how often it is tried to send some spans to a collector that says that it cannot
	// take them now, or that cannot be reached; firstPause and maxPause are in between.
	tries      = 5
	firstPause = time.Second
	maxPause   = 30 * time.Second
	// maxAnswer is how much of a collector's answer is read, in bytes.
	maxAnswer = 64 << 10
)

// Config is what an Exporter is made from. Endpoint and Log are required.
type Config struct {
	// Endpoint is the URL of a collector, such as http://localhost:4318. Without a path,
	// /v1/traces is asked for.
	Endpoint string
	// Connections and Requests are the shares of each that have spans, from 0 to 1.
	Connections, Requests float64
	// Service says who sends, by the names of the semantic conventions.
	Service map[string]string
	// Log is told when spans are lost.
	Log *slog.Logger
	// Hint is what an operator can do when the collector takes no spans, SlowHint when it does
	// not take them fast enough.
	Hint, SlowHint string

	// Interval and Pause are for tests. 0: the constants.
	Interval, Pause time.Duration
}

// Exporter sends spans. It is made by New.
type Exporter struct {
	config                Config
	url                   string
	connections, requests share
	secret                [16]byte
	client                *http.Client
	limited               loglimit.Logger
	resource              *resourcepb.Resource

	queue   chan *tracepb.Span
	dropped atomic.Int64
	full    chan struct{}      // has something when there are enough for a batch
	closing sync.Once          // close of over
	over    chan struct{}      // closed by Shutdown: what waits is to be sent at once
	ended   chan struct{}      // closed when nothing is sent any more
	life    context.Context    // of the goroutine's requests
	kill    context.CancelFunc // ends them

	told int64 // how many dropped spans the log has been told of; of the goroutine alone
}

// New returns an exporter, which begins to send what it is given.
func New(c Config) (*Exporter, error) {
	x, err := newExporter(c)
	if err == nil {
		go x.run()
	}
	return x, err
}

// Check reports whether a collector takes spans, by sending it none.
func Check(ctx context.Context, endpoint string) error {
	x, err := newExporter(Config{Endpoint: endpoint})
	if err != nil {
		return err
	}
	defer x.kill()
	defer x.client.CloseIdleConnections()
	defer context.AfterFunc(ctx, x.kill)()
	_, err = x.post(nil)
	return err
}

func newExporter(c Config) (*Exporter, error) {
	u, err := url.Parse(c.Endpoint)
	if err != nil {
		return nil, err
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/v1/traces"
	}
	if c.Interval == 0 {
		c.Interval = interval
	}
	if c.Pause == 0 {
		c.Pause = firstPause
	}
	x := &Exporter{
		config: c, url: u.String(), connections: shareOf(c.Connections), requests: shareOf(c.Requests),
		client: &http.Client{
			Timeout:       sendTimeout,
			Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: 1, IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		resource: &resourcepb.Resource{},
		queue:    make(chan *tracepb.Span, QueueLength), full: make(chan struct{}, 1),
		over: make(chan struct{}), ended: make(chan struct{}),
	}
	x.limited.Log = c.Log
	rand.Read(x.secret[:])
	for key, value := range c.Service {
		x.resource.Attributes = append(x.resource.Attributes, &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: text.Cut(value, maxText)}}})
	}
	x.life, x.kill = context.WithCancel(context.Background())
	return x, nil
}

// send puts a span into the queue. It does not wait.
func (x *Exporter) send(s *tracepb.Span) {
	select {
	case <-x.over:
		x.dropped.Add(1)
		return
	default:
	}
	select {
	case x.queue <- s:
	default:
		x.dropped.Add(1)
	}
	if len(x.queue) >= batch {
		select {
		case x.full <- struct{}{}:
		default:
		}
	}
}

// Dropped returns how many spans were lost: the queue was full, or the collector did not take
// them.
func (x *Exporter) Dropped() int64 { return x.dropped.Load() }

// Shutdown sends what waits, and ends. When ctx ends first, the rest is lost.
func (x *Exporter) Shutdown(ctx context.Context) {
	x.closing.Do(func() { close(x.over) })
	select {
	case <-x.ended:
	case <-ctx.Done():
		x.kill()
		<-x.ended
	}
	x.client.CloseIdleConnections()
	for { // what came while it ended
		select {
		case <-x.queue:
			x.dropped.Add(1)
		default:
			return
		}
	}
}

// run is the goroutine that sends.
func (x *Exporter) run() {
	defer close(x.ended)
	defer x.kill()
	due := time.NewTicker(x.config.Interval)
	defer due.Stop()
	for {
		select {
		case <-due.C:
		case <-x.full:
		case <-x.over:
			for x.sendBatch() {
			}
			return
		}
		for x.sendBatch() && len(x.queue) >= batch {
		}
		x.tellDropped()
	}
}

// sendBatch sends some of what waits. It returns false when there was nothing.
func (x *Exporter) sendBatch() bool {
	var spans []*tracepb.Span
	for len(spans) < batch {
		select {
		case s := <-x.queue:
			spans = append(spans, s)
			continue
		default:
		}
		break
	}
	if len(spans) == 0 {
		return false
	}
	// This is ExportTraceServiceRequest on the wire, whose Go package would bring gRPC.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{{
		Resource:   x.resource,
		ScopeSpans: []*tracepb.ScopeSpans{{Scope: &commonpb.InstrumentationScope{Name: "kafka-sni-proxy"}, Spans: spans}},
	}}})
	if err == nil {
		err = x.deliver(body)
	}
	if err != nil {
		lost := int64(len(spans))
		if partly, ok := err.(*rejectedError); ok {
			lost = min(lost, partly.spans)
		}
		x.told += lost
		x.dropped.Add(lost)
		x.limited.Write(slog.LevelWarn, "send", loglimit.Key(err), "traces cannot be sent",
			slog.String("endpoint", x.config.Endpoint), slog.Any("error", err), slog.Int64("dropped", lost), slog.String("hint", x.config.Hint))
	}
	return true
}

// deliver sends some spans, more than once if the collector says that it cannot take them now.
// When the program ends, there is only one more try.
func (x *Exporter) deliver(body []byte) error {
	pause := x.config.Pause
	for try := 1; ; try++ {
		wait, err := x.post(body)
		if err == nil || wait < 0 || try == tries {
			return err
		}
		select {
		case <-x.over:
			return err
		default:
		}
		select {
		case <-time.After(min(max(wait, pause), maxPause)):
		case <-x.over:
		}
		pause *= 2
	}
}

// post sends some spans once. With an error, it returns how long to wait before it is tried
// again; -1: that would be of no use.
func (x *Exporter) post(body []byte) (wait time.Duration, err error) {
	r, err := http.NewRequestWithContext(x.life, http.MethodPost, x.url, bytes.NewReader(body))
	if err != nil {
		return -1, err
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("User-Agent", "kafka-sni-proxy")
	answer, err := x.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	switch code := answer.StatusCode; {
	case code == http.StatusOK:
		return -1, rejected(said)
	case code == http.StatusTooManyRequests, code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
		seconds, _ := strconv.Atoi(answer.Header.Get("Retry-After"))
		return time.Duration(min(max(seconds, 0), int(maxPause/time.Second))) * time.Second, &statusError{answer.Status}
	default:
		return -1, &statusError{answer.Status}
	}
}

// statusError is an answer of a collector that is none.
type statusError struct{ status string }

func (e *statusError) Error() string {
	return "the collector answers " + text.Cut(e.status, 100)
}

// rejectedError is of a collector that has taken some spans and not all.
type rejectedError struct {
	spans  int64
	reason string
}

func (e *rejectedError) Error() string {
	return fmt.Sprintf("the collector has rejected spans: %q", text.Cut(e.reason, 200))
}

// rejected reads an ExportTraceServiceResponse: whether spans were rejected.
func rejected(answer []byte) error {
	partly := field(answer, 1)
	if partly == nil {
		return nil
	}
	e := &rejectedError{}
	each(partly, func(number protowire.Number, kind protowire.Type, value []byte) {
		switch {
		case number == 1 && kind == protowire.VarintType:
			n, _ := protowire.ConsumeVarint(value)
			e.spans = int64(n)
		case number == 2 && kind == protowire.BytesType:
			reason, _ := protowire.ConsumeBytes(value)
			e.reason = string(reason)
		}
	})
	if e.spans <= 0 {
		return nil
	}
	return e
}

// field returns the content of a field of a message; nil for none.
func field(message []byte, number protowire.Number) (content []byte) {
	each(message, func(n protowire.Number, kind protowire.Type, value []byte) {
		if n == number && kind == protowire.BytesType {
			content, _ = protowire.ConsumeBytes(value)
		}
	})
	return content
}

// each calls f with each field of a message, as far as it is well formed.
func each(message []byte, f func(number protowire.Number, kind protowire.Type, value []byte)) {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return
		}
		message = message[n:]
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return
		}
		f(number, kind, message[:n])
		message = message[n:]
	}
}

// tellDropped says that spans were lost because they came too fast.
func (x *Exporter) tellDropped() {
	dropped := x.dropped.Load()
	if dropped == x.told {
		return
	}
	x.limited.Write(slog.LevelWarn, "dropped", "", "traces were dropped: they came faster than the collector takes them",
		slog.Int64("dropped", dropped-x.told), slog.String("hint", x.config.SlowHint))
	x.told = dropped
}
