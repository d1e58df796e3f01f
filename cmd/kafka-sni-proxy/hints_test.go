package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/dial"
	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/kafkatest"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/server"
	"kafka-sni-proxy/internal/session"
)

const hintSuffix = "kafka.example"

// TestRefusedCertificatesSayWhatToDo has certificates refused by each end of
// each side, in both versions of TLS.
func TestRefusedCertificatesSayWhatToDo(t *testing.T) {
	later := func() time.Time { return time.Now().Add(48 * time.Hour) } // when the tests' certificates have expired
	strangers, clients := kafkatest.NewAuthority("strangers"), kafkatest.NewAuthority("clients")
	mtls := func(down, _ *tls.Config) {
		down.ClientAuth, down.ClientCAs = tls.RequireAndVerifyClientCert, clients.Pool()
	}
	brokerMTLS := func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, clients.Pool() }
	for name, tc := range map[string]struct {
		client func(c *tls.Config)
		proxy  func(down, up *tls.Config)
		broker func(c *tls.Config)
		phase  []string // one of them, by the version of TLS
		want   string
	}{
		"client does not know our CA":       {client: func(c *tls.Config) { c.RootCAs = strangers.Pool() }, phase: []string{"handshake"}, want: "give it the CA that signed --cert"},
		"client has no certificate":         {proxy: mtls, phase: []string{"handshake"}, want: "mTLS is enabled"},
		"client has a stranger's":           {proxy: mtls, client: func(c *tls.Config) { show(c, strangers.Client("mallory")) }, phase: []string{"handshake"}, want: "not signed by a CA in --ca-certs"},
		"client's certificate has expired":  {client: func(c *tls.Config) { show(c, clients.Client("alice")) }, proxy: func(down, up *tls.Config) { mtls(down, up); down.Time = later }, phase: []string{"handshake"}, want: "see its dates"},
		"broker's certificate has expired":  {proxy: func(_, up *tls.Config) { up.Time = later }, phase: []string{"upstream-tls"}, want: "see its dates"},
		"broker's CA is not known":          {proxy: func(_, up *tls.Config) { up.RootCAs = strangers.Pool() }, phase: []string{"upstream-tls"}, want: "--upstream-ca-certs"},
		"broker wants a certificate":        {broker: brokerMTLS, phase: []string{"upstream-tls", "response"}, want: "see --upstream-cert"},
		"broker does not know our CA":       {proxy: func(_, up *tls.Config) { show(up, strangers.Client("proxy")) }, broker: brokerMTLS, phase: []string{"upstream-tls", "response"}, want: "see --upstream-cert"},
		"our certificate expired at broker": {proxy: func(_, up *tls.Config) { show(up, clients.Client("proxy")) }, broker: func(c *tls.Config) { brokerMTLS(c); c.Time = later }, phase: []string{"upstream-tls", "response"}, want: "--upstream-cert"},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(fmt.Sprintf("%s, %s", name, tls.VersionName(version)), func(t *testing.T) {
				brokers := kafkatest.Start(t, kafkatest.Options{TLS: func(_ int32, c *tls.Config) {
					c.MaxVersion = version
					if tc.broker != nil {
						tc.broker(c)
					}
				}})
				ca := kafkatest.NewAuthority("downstream")
				down, up := ca.ServerConfig(hintSuffix), brokers.ClientConfig()
				down.MaxVersion = version
				if tc.proxy != nil {
					tc.proxy(down, up)
				}
				addr, log := serveForHints(t, brokers, down, up)
				config := ca.ClientConfig()
				config.ServerName = "bootstrap." + hintSuffix
				if tc.client != nil {
					tc.client(config)
				}
				if c, err := tls.Dial("tcp", addr, config); err == nil {
					c.Write(kafkatest.Frame([]byte{0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff}))
					kafkatest.ReadFrame(c)
					c.Close()
				}
				line := log.await(t, "level=WARN")
				if !strings.Contains(line, tc.want) || !containsAny(line, tc.phase) {
					t.Errorf("want the hint %q and a phase of %v: %s", tc.want, tc.phase, line)
				}
			})
		}
	}
}

// show has a certificate be shown even when the peer asks for those of other CAs.
func show(c *tls.Config, cert tls.Certificate) {
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
}

func containsAny(line string, phases []string) bool {
	for _, phase := range phases {
		if strings.Contains(line, "phase="+phase+" ") {
			return true
		}
	}
	return false
}

// serveForHints runs a proxy with the program's hints until the test ends.
func serveForHints(t *testing.T, brokers *kafkatest.Cluster, down, up *tls.Config) (addr string, log *lines) {
	t.Helper()
	upstream, err := route.ParseAddress(strings.Split(brokers.Bootstrap(), ",")[0])
	if err != nil {
		t.Fatal(err)
	}
	routes, err := route.New(route.Config{Suffix: hintSuffix, Upstreams: []route.Address{upstream}})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log = newLines()
	s := server.New(server.Config{
		Log:  slog.New(slog.NewTextHandler(log, nil)),
		Hint: hint,
	})
	c := &server.Cluster{Cluster: cluster.New(cluster.Config{Name: "kafka", Routes: routes, TLS: up, Dial: brokers.Dial})}
	s.SetClusters(c)
	socket := s.NewSocket(ln, &server.Listener{TLS: down, Route: server.ByName(false, server.Member{Cluster: c, Naming: route.OnePort(9092)})})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Serve(ctx, socket)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return ln.Addr().String(), log
}

// lines is a log that can be waited on.
type lines struct {
	mu   sync.Mutex
	more *sync.Cond
	text []string
}

func newLines() *lines {
	l := &lines{}
	l.more = sync.NewCond(&l.mu)
	return l
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, string(p))
	l.more.Broadcast()
	return len(p), nil
}

// await returns the first line with a word in it, when there is one.
func (l *lines) await(t *testing.T, word string) string {
	t.Helper()
	late := time.AfterFunc(20*time.Second, func() { l.Write([]byte("(waited too long for " + word + ")")) })
	defer late.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for _, line := range l.text {
			if strings.Contains(line, word) {
				return line
			}
		}
		l.more.Wait()
	}
}

// alert returns the error that crypto/tls makes of an alert from the peer.
func alert(a tls.AlertError) error {
	return fmt.Errorf("TLS with broker b: %w", &net.OpError{Op: "remote error", Err: a})
}

// gateFailed is an error as cluster wraps it.
func gateFailed(stage dial.Stage, err error) error {
	return fmt.Errorf("connecting to broker b: %w", &dial.GateError{Gate: "socks5://gate", Stage: stage, Err: err})
}

func TestHintsAreForTypesOfErrors(t *testing.T) {
	failed := func(phase session.Phase, err error) error { return &session.Error{Phase: phase, Err: err} }
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"Java distrusts us":          {failed(session.PhaseHandshake, alert(46)), distrustHint},
		"OpenSSL distrusts us":       {failed(session.PhaseHandshake, alert(48)), distrustHint},
		"OpenSSL distrusts us, late": {failed(session.PhaseRequest, alert(48)), distrustHint},
		"broker, Java":               {failed(session.PhaseUpstreamTLS, alert(46)), brokerDistrustHint},
		"broker, late":               {failed(session.PhaseResponse, alert(116)), brokerDistrustHint},
		"broker, revoked":            {failed(session.PhaseUpstreamTLS, alert(44)), "replace --upstream-cert"},
		"plaintext Kafka":            {failed(session.PhaseFirstByte, &session.NotTLSError{Sent: session.ProtocolKafka}), "security.protocol=SSL"},
		"PROXY":                      {failed(session.PhaseFirstByte, &session.NotTLSError{Sent: session.ProtocolProxy}), "PROXY protocol off"},
		"header missing":             {failed(session.PhaseFirstByte, &session.ProxyHeaderError{Sent: session.ProtocolKafka}), "turn the PROXY protocol on"},
		"header damaged":             {failed(session.PhaseFirstByte, &session.ProxyHeaderError{Err: io.EOF}), "version 1 or 2"},
		"TLS to a plaintext port":    {failed(session.PhaseFirstByte, &session.NotKafkaError{Sent: session.ProtocolTLS}), "security.protocol=PLAINTEXT"},
		"PROXY to a plaintext port":  {failed(session.PhaseFirstByte, &session.NotKafkaError{Sent: session.ProtocolProxy}), "proxy-protocol.from"},
		"HTTP to a plaintext port":   {failed(session.PhaseFirstByte, &session.NotKafkaError{Sent: session.ProtocolHTTP}), "only Kafka clients are served"},
		"no port for a broker":       {failed(session.PhaseRewrite, &kafka.Error{Key: 3, Err: &route.NoPortError{Node: 7}}), "widen ports.brokers"},
		"a cluster's limit":          {server.LimitClusterConnections, "limits.max-connections of the cluster"},
		"plaintext HTTP":             {failed(session.PhaseFirstByte, &session.NotTLSError{Sent: session.ProtocolHTTP}), "only Kafka clients that speak TLS"},
		"HTTP in TLS":                {failed(session.PhaseRequest, session.HTTPError{}), "--admin-bind"},
		"long frame":                 {failed(session.PhaseRequest, &kafka.Error{Key: -1, Err: kafka.ErrFrameSize}), "raise --max-frame-bytes"},
		"long frame of a broker":     {failed(session.PhaseRewrite, &kafka.Error{Key: -1, Err: kafka.ErrFrameSize}), "raise --max-frame-bytes"},
		"version":                    {failed(session.PhaseRequest, &kafka.Error{Key: 3, Err: kafka.ErrNotOffered}), "update it"},
		"dot":                        {failed(session.PhaseHandshake, &session.TrailingDotError{ServerName: "b0.", Err: io.EOF}), "leave out the dot"},
		"no SNI":                     {failed(session.PhaseRoute, &server.NoServerNameError{}), "reach the first upstream alone"},
		"typo":                       {failed(session.PhaseRoute, &route.UnknownNameError{Nearest: "bootstrap.kafka.example"}), "did the client mean bootstrap.kafka.example?"},
		"loop":                       {failed(session.PhaseUpstreamTLS, fmt.Errorf("TLS: %w", &cluster.LoopError{})), "not back to the proxy"},
		"other cluster":              {failed(session.PhaseCluster, &cluster.OtherClusterError{}), "another Kafka cluster"},
		"gate down":                  {failed(session.PhaseDial, gateFailed(dial.StageReach, syscall.ECONNREFUSED)), "host and the port in via"},
		"gate's name":                {failed(session.PhaseDial, gateFailed(dial.StageReach, &net.DNSError{})), "host and the port in via"},
		"gate's login":               {failed(session.PhaseDial, gateFailed(dial.StageLogin, io.EOF)), "the password in via"},
		"gate refuses":               {failed(session.PhaseDial, gateFailed(dial.StageRefuse, io.EOF)), "the gate's own log"},
		"gate is none":               {failed(session.PhaseDial, gateFailed(dial.StageSpeak, io.EOF)), "http:// for one that speaks HTTP CONNECT"},
		"gate is slow":               {failed(session.PhaseDial, gateFailed(dial.StageRefuse, os.ErrDeadlineExceeded)), "firewall between it and the brokers"},
		"gate is slower":             {failed(session.PhaseDial, gateFailed(dial.StageSpeak, context.DeadlineExceeded)), "not answered in time"},
		"no DNS":                     {failed(session.PhaseDial, &net.DNSError{}), "--hosts-file"},
		"nobody there":               {failed(session.PhaseDial, errors.New("refused")), "firewall"},
		"too many clients":           {server.LimitConnections, "--max-connections"},
		"too many handshakes":        {server.LimitHandshakes, "--max-handshakes-per-address"},
		"one name for all":           {&server.OneNameError{ServerName: "bootstrap"}, "remove the fixed server name"},
		"panic":                      {&session.PanicError{}, "report it"},
		"silent peer":                {failed(session.PhaseRequest, session.ErrSilent), "stopped answering"},
	} {
		if got := hint(tc.err); !strings.Contains(got, tc.want) {
			t.Errorf("%s: hint %q, want %q in it", name, got, tc.want)
		}
	}
}
