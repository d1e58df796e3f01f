package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"kafka-sni-proxy/internal/kafkatest"
	"kafka-sni-proxy/internal/route"
)

// isQuestion reports whether a request is the proxy's own.
func isQuestion(frame []byte) bool {
	return len(frame) > 9 && bytes.HasPrefix(frame[8:], str("kafka-sni-proxy"))
}

// withSASL is a script that ends the connection when the proxy asks for itself,
// as a broker with SASL does. What the proxy asks within a client's session is
// given to within, other requests to answer.
func withSASL(answer, within func(frame []byte) []byte) func(net.Conn) {
	return func(c net.Conn) {
		for first := true; ; first = false {
			f, err := kafkatest.ReadFrame(c)
			if err != nil || first && isQuestion(f) {
				return
			}
			reply := answer
			if isQuestion(f) {
				reply = within
			}
			b := reply(f)
			if b == nil {
				return
			}
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}
}

// refusesProxies never tells the proxy anything.
func refusesProxies(answer func(frame []byte) []byte) func(net.Conn) {
	return withSASL(answer, nobody)
}

// nobody answers Metadata v4 with no brokers.
func nobody(frame []byte) []byte { return kafkatest.Frame(frame[4:8], be32(0), be32(0)) }

// metadataV4 answers Metadata v4 with one broker and no topics.
func metadataV4(frame []byte, node int, host string, port int) []byte {
	return kafkatest.Frame(frame[4:8], be32(0), be32(1), be32(node), str(host), be32(port), be16(-1), be16(-1), be32(node), be32(0))
}

// pair is two brokers, of which the second is not an upstream.
type pair struct{ boot, other *kafkatest.Broker }

func (p pair) Dial(ctx context.Context, host string, port int32) (net.Conn, error) {
	if host == p.other.Host {
		return p.other.Dial(ctx, host, port)
	}
	return p.boot.Dial(ctx, host, port)
}

func (p pair) ClientConfig() *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(p.boot.Authority.PEM())
	pool.AppendCertsFromPEM(p.other.Authority.PEM())
	return &tls.Config{RootCAs: pool}
}

const whoIsOther = "I am node 1"

func otherBroker(t testing.TB) *kafkatest.Broker {
	return kafkatest.StartBroker(t, "broker-1.upstream.test", kafkatest.Answer(func(f []byte) []byte {
		return kafkatest.Frame(f[4:8], []byte(whoIsOther))
	}))
}

// TestClientsOfARestartedProxyAreAtTheRightBrokerAtOnce has a real client come
// back with what it knows to a proxy that knows nothing. The cluster wants a
// certificate from the proxy.
func TestClientsOfARestartedProxyAreAtTheRightBrokerAtOnce(t *testing.T) {
	clients := kafkatest.NewAuthority("proxies")
	cluster := kafkatest.Start(t, kafkatest.Options{
		Topics: map[string]int32{"t": 3},
		TLS: func(_ int32, c *tls.Config) {
			c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, clients.Pool()
		},
	})
	for id := range int32(3) { // each has something to do
		if err := cluster.Kafka.MoveTopicPartition("t", id, id); err != nil {
			t.Fatal(err)
		}
	}
	withCertificate := func(p *settings, _ *route.Config) {
		p.Upstream.Certificates = []tls.Certificate{clients.Client("proxy")}
	}
	before := start(t, cluster, cluster.Bootstrap(), withCertificate)
	d := before.dialer()
	ctx := testContext(t)
	// It does not ask for metadata again unless it has to.
	client := newClient(t, d, kgo.MetadataMaxAge(time.Hour), kgo.DefaultProduceTopic("t"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	produce := func() {
		t.Helper()
		for partition := range int32(3) {
			if err := client.ProduceSync(ctx, &kgo.Record{Partition: partition, Value: []byte("x")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	produce()

	after := start(t, cluster, cluster.Bootstrap(), withCertificate)
	d.Redirect(after.addr, after.ca.ClientConfig()) // the same host, a new program
	if err := before.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	produce()
	client.Close()
	if err := after.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	came := map[string]bool{}
	for line := range strings.Lines(after.log.String()) {
		for _, broker := range []string{"0", "1", "2"} {
			if strings.Contains(line, "sni=b"+broker+".") {
				came[broker] = true
				if !strings.Contains(line, "upstream=broker-"+broker+".") {
					t.Errorf("went elsewhere: %s", line)
				}
			}
		}
	}
	if len(came) != 3 {
		t.Errorf("the client came for the brokers %v only", came)
	}
	if n := strings.Count(after.log.String(), "asked the cluster"); n != 1 {
		t.Errorf("the cluster was asked %d times, want 1", n)
	}
	if err := d.Err(); err != nil {
		t.Error(err)
	}
}

// TestManyClientsAskOnce has many come at once for a broker nobody has told of.
func TestManyClientsAskOnce(t *testing.T) {
	var asked atomic.Int32
	const clients = 20
	other := otherBroker(t)
	var r *rig
	boot := kafkatest.StartBroker(t, "broker-0.upstream.test", kafkatest.Answer(func(f []byte) []byte {
		asked.Add(1)
		if !isQuestion(f) {
			t.Errorf("a client got to the bootstrap broker")
		}
		for r.Stats().Accepted < clients { // let all come before the answer
			time.Sleep(time.Millisecond)
		}
		return metadataV4(f, 1, other.Host, int(other.Port))
	}))
	r = start(t, pair{boot, other}, boot.Addr(), nil)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			c, err := r.tryDial("b1." + suffix)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			c.Write(request(12, 0, 1))
			if got, err := kafkatest.ReadFrame(c); err != nil || !bytes.Contains(got, []byte(whoIsOther)) {
				t.Errorf("answered by %q, %v", got, err)
			}
		})
	}
	wg.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("the cluster was asked %d times, want 1", n)
	}
}

// TestNamesAreAskedForAfterTheyCame has a broker join the cluster right after
// the cluster was asked.
func TestNamesAreAskedForAfterTheyCame(t *testing.T) {
	other := otherBroker(t)
	var joined atomic.Bool
	boot := kafkatest.StartBroker(t, "broker-0.upstream.test", kafkatest.Answer(func(f []byte) []byte {
		switch {
		case !isQuestion(f):
			return echo(f)
		case joined.Load():
			return metadataV4(f, 1, other.Host, int(other.Port))
		}
		return metadataV4(f, 0, "broker-0.upstream.test", 9092)
	}))
	r := start(t, pair{boot, other}, boot.Addr(), nil)
	c := r.dial(t, "b1."+suffix)
	mustWrite(t, c, request(12, 0, 1))
	if got := mustRead(t, c); bytes.Contains(got, []byte(whoIsOther)) {
		t.Fatalf("answered by %q: want a bootstrap server to stand in", got)
	}
	joined.Store(true)
	again := r.dial(t, "b1."+suffix)
	mustWrite(t, again, request(12, 0, 1))
	if got := mustRead(t, again); !bytes.Contains(got, []byte(whoIsOther)) {
		t.Errorf("answered by %q", got)
	}
	mustEnd(t, c) // and the first one is sent after it
}

// TestClusterThatDoesNotAnswerIsNotAskedAgain: with SASL each question is a
// failed authentication. One that says nothing is not waited for twice either.
func TestClusterThatDoesNotAnswerIsNotAskedAgain(t *testing.T) {
	for name, refuse := range map[string][]byte{
		"closes":   nil,
		"nonsense": kafkatest.Frame(be32(0), bytes.Repeat([]byte{0xff}, 40)),
		"nobody":   kafkatest.Frame(be32(0), be32(0), be32(0), be16(-1), be32(-1), be32(0)),
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			boot := kafkatest.StartBroker(t, "broker-0.upstream.test", func(c net.Conn) {
				for first := true; ; first = false {
					f, err := kafkatest.ReadFrame(c)
					if err != nil {
						return
					}
					if first && isQuestion(f) {
						asked.Add(1)
						c.Write(refuse)
						return
					}
					c.Write(echo(f))
				}
			})
			r := start(t, boot, boot.Addr(), nil)
			for node := range 4 {
				c := r.login(t, fmt.Sprintf("b%d.%s", node, suffix))
				mustWrite(t, c, request(12, 0, 1))
				mustRead(t, c)
			}
			if n := asked.Load(); n != 1 {
				t.Errorf("asked %d times, want 1", n)
			}
			r.log.wait(t, "level=INFO", "does not tell the proxy", "broker-0.upstream.test:9092")
			if n := r.Stats().Clusters["kafka"].Brokers; n != 0 {
				t.Errorf("%d brokers known from no answer", n)
			}
		})
	}
}

// TestClientsWithSASLComeThroughAProxyThatKnowsNothing is the provisional way,
// with a real client.
func TestClientsWithSASLComeThroughAProxyThatKnowsNothing(t *testing.T) {
	cluster := kafkatest.Start(t, kafkatest.Options{
		Topics: map[string]int32{"t": 3},
		SASL:   []kafkatest.Credential{{Mechanism: "PLAIN", User: "u", Password: "p"}},
	})
	before := start(t, cluster, cluster.Bootstrap(), nil)
	d := before.dialer()
	ctx := testContext(t)
	client := newClient(t, d, kgo.MetadataMaxAge(time.Hour), kgo.MetadataMinAge(50*time.Millisecond), kgo.DefaultProduceTopic("t"),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.SASL(plain.Auth{User: "u", Pass: "p"}.AsMechanism()))
	produce := func() {
		t.Helper()
		for partition := range int32(3) {
			if err := client.ProduceSync(ctx, &kgo.Record{Partition: partition, Value: []byte("x")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	produce()
	after := start(t, cluster, cluster.Bootstrap(), nil)
	d.Redirect(after.addr, after.ca.ClientConfig())
	if err := before.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	produce()
	after.log.wait(t, "does not tell the proxy")
	if err := d.Err(); err != nil {
		t.Error(err)
	}
}

// TestBrokerThatMovedIsFoundByAsking has the cluster asked because the
// address that is known does not answer any more.
func TestBrokerThatMovedIsFoundByAsking(t *testing.T) {
	other := otherBroker(t)
	boot := kafkatest.StartBroker(t, "broker-0.upstream.test", kafkatest.Answer(func(f []byte) []byte {
		return metadataV4(f, 1, other.Host, int(other.Port))
	}))
	r := start(t, pair{boot, other}, boot.Addr(), func(p *settings, c *route.Config) {
		var err error
		if p.Routes, err = route.New(*c); err != nil {
			t.Fatal(err)
		}
		p.Routes.Learn(1, []byte("old.upstream.test"), 9092)
	})
	c := r.dial(t, "b1."+suffix)
	mustWrite(t, c, request(12, 0, 1))
	if got := mustRead(t, c); !bytes.Contains(got, []byte(whoIsOther)) {
		t.Errorf("answered by %q", got)
	}
}

// staleRoutes loads a file by which broker 1 lives at host.
func staleRoutes(t *testing.T, boot *kafkatest.Broker, host string) func(p *settings, c *route.Config) {
	t.Helper()
	up, err := route.ParseAddress(boot.Addr())
	if err != nil {
		t.Fatal(err)
	}
	before, err := route.New(route.Config{Suffix: suffix, Upstreams: []route.Address{up}})
	if err != nil {
		t.Fatal(err)
	}
	before.Learn(1, []byte(host), 9092)
	file := filepath.Join(t.TempDir(), "routes.json")
	if err := before.Save(file); err != nil {
		t.Fatal(err)
	}
	return func(p *settings, c *route.Config) {
		if p.Routes, err = route.New(*c); err != nil {
			t.Fatal(err)
		}
		if err := p.Routes.Load(file); err != nil {
			t.Fatal(err)
		}
		os.Remove(file)
	}
}

// TestRouteFromAFileIsNotTrustedBlindly: the broker has moved while the proxy
// was down, and the cluster does not tell. Whether its old address refuses, or is
// another broker's now, its sessions end as soon as some client teaches.
func TestRouteFromAFileIsNotTrustedBlindly(t *testing.T) {
	for _, old := range []string{"old.upstream.test", "broker-0.upstream.test"} {
		t.Run(old, func(t *testing.T) {
			other := otherBroker(t)
			boot := kafkatest.StartBroker(t, "broker-0.upstream.test", refusesProxies(func(f []byte) []byte {
				if f[1] == 3 {
					return metadataV0(f, 1, other.Host, int(other.Port))
				}
				return echo(f)
			}))
			r := start(t, pair{boot, other}, boot.Addr(), staleRoutes(t, boot, old))
			if r.Stats().Clusters["kafka"].Brokers != 1 {
				t.Fatal("nothing was loaded")
			}
			waiting := r.login(t, "b1."+suffix)
			mustWrite(t, waiting, request(12, 0, 1))
			mustRead(t, waiting)
			teacher := r.dial(t, "bootstrap."+suffix)
			mustWrite(t, teacher, request(3, 0, 1, be32(0)))
			mustRead(t, teacher)
			mustEnd(t, waiting)
			again := r.dial(t, "b1."+suffix)
			mustWrite(t, again, request(12, 0, 1))
			if got := mustRead(t, again); !bytes.Contains(got, []byte(whoIsOther)) {
				t.Errorf("answered by %q", got)
			}
		})
	}
}

// TestSessionsAtTheRightBrokerStay: what a file says, or a bootstrap server that
// stands in, is right more often than not.
func TestSessionsAtTheRightBrokerStay(t *testing.T) {
	boot := kafkatest.StartBroker(t, "broker-0.upstream.test", refusesProxies(func(f []byte) []byte {
		if f[1] == 3 {
			return metadataV0(f, 1, "broker-0.upstream.test", 9092)
		}
		return echo(f)
	}))
	r := start(t, boot, boot.Addr(), staleRoutes(t, boot, boot.Host))
	other := start(t, boot, boot.Addr(), nil)
	for _, r := range []*rig{r, other} {
		c := r.login(t, "b1."+suffix)
		mustWrite(t, c, request(12, 0, 1))
		mustRead(t, c)
		mustWrite(t, c, request(3, 0, 2, be32(0))) // it is told of itself
		mustRead(t, c)
		for i := range 3 {
			mustWrite(t, c, request(12, 0, 3+i))
			mustRead(t, c)
		}
	}
}

// TestBrokerIsAskedInTheClientsSession has a client come for a broker whose
// place this proxy does not know, and never ask for metadata here: behind a
// load balancer that goes through another proxy.
func TestBrokerIsAskedInTheClientsSession(t *testing.T) {
	for name, fromFile := range map[string]bool{"unknown": false, "from a file": true} {
		t.Run(name, func(t *testing.T) {
			var authenticated atomic.Bool
			other := otherBroker(t)
			boot := kafkatest.StartBroker(t, "broker-0.upstream.test", withSASL(func(f []byte) []byte {
				if f[1] == 36 {
					authenticated.Store(true)
				}
				if f[1] == 12 {
					t.Error("a request for broker 1 got to another one")
				}
				return echo(f)
			}, func(f []byte) []byte {
				if !authenticated.Load() {
					t.Error("asked before the client has authenticated")
				}
				return metadataV4(f, 1, other.Host, int(other.Port))
			}))
			var change func(p *settings, c *route.Config)
			if fromFile {
				change = staleRoutes(t, boot, boot.Host)
			}
			r := start(t, pair{boot, other}, boot.Addr(), change)
			c := r.login(t, "b1."+suffix)
			mustWrite(t, c, append(request(12, 0, 3), request(12, 0, 4)...))
			mustEnd(t, c)
			again := r.dial(t, "b1."+suffix)
			mustWrite(t, again, request(12, 0, 1))
			if got := mustRead(t, again); !bytes.Contains(got, []byte(whoIsOther)) {
				t.Errorf("answered by %q", got)
			}
		})
	}
}

// TestWhatIsUnderWayIsAnsweredBeforeTheClientIsSentElsewhere: only what has not
// been forwarded is left for the client to send again.
func TestWhatIsUnderWayIsAnsweredBeforeTheClientIsSentElsewhere(t *testing.T) {
	other := otherBroker(t)
	asked := make(chan struct{})
	boot := kafkatest.StartBroker(t, "broker-0.upstream.test", func(c net.Conn) {
		first, err := kafkatest.ReadFrame(c)
		if err != nil || isQuestion(first) {
			return
		}
		question, err := kafkatest.ReadFrame(c)
		if err != nil || !isQuestion(question) {
			t.Errorf("got %q, %v; want a question", question, err)
			return
		}
		close(asked)
		c.Write(append(kafkatest.Frame(first[4:8], be16(0), make([]byte, 100_000)), metadataV4(question, 1, other.Host, int(other.Port))...))
		if f, err := kafkatest.ReadFrame(c); err == nil {
			t.Errorf("got %q", f)
		}
	})
	r := start(t, pair{boot, other}, boot.Addr(), nil)
	c := r.dial(t, "b1."+suffix)
	mustWrite(t, c, append(request(17, 1, 1), request(12, 0, 2)...)) // does not wait for the answer
	<-asked
	if got := mustRead(t, c); len(got) != 100_006 {
		t.Errorf("the answer has %d bytes", len(got))
	}
	mustEnd(t, c)
}

// TestSessionsAtTheRightBrokerAreAskedInOnce: the stand-in happens to be the
// one that was asked for.
func TestSessionsAtTheRightBrokerAreAskedInOnce(t *testing.T) {
	var asked atomic.Int32
	boot := kafkatest.StartBroker(t, "broker-0.upstream.test", withSASL(echo, func(f []byte) []byte {
		asked.Add(1)
		return metadataV4(f, 1, "broker-0.upstream.test", 9092)
	}))
	r := start(t, boot, boot.Addr(), nil)
	c := r.login(t, "b1."+suffix)
	for i := range 5 {
		f := request(12, 0, i, bytes.Repeat([]byte{byte(i)}, 1000*i))
		mustWrite(t, c, f)
		if got := mustRead(t, c); !bytes.Equal(got[4:], f[4:]) {
			t.Fatal("an answer has changed")
		}
	}
	if n := asked.Load(); n != 1 || r.Stats().Clusters["kafka"].Brokers != 1 {
		t.Errorf("asked %d times, %d brokers known", n, r.Stats().Clusters["kafka"].Brokers)
	}
	c.Close()
	r.log.wait(t, "connection closed", "sni=b1.")
	if st := r.Stats(); st.Responses != 7 || st.Rewritten != 0 {
		t.Errorf("%d answers to the client counted, %d rewritten", st.Responses, st.Rewritten)
	}
}

// TestNameThatIsNoBrokersStaysWithTheBootstrapServer is a client that asks for
// a broker that is not in the cluster.
func TestNameThatIsNoBrokersStaysWithTheBootstrapServer(t *testing.T) {
	var asked atomic.Int32
	boot := kafkatest.StartBroker(t, "broker-0.upstream.test", withSASL(echo, func(f []byte) []byte {
		asked.Add(1)
		return metadataV4(f, 0, "broker-0.upstream.test", 9092)
	}))
	r := start(t, boot, boot.Addr(), nil)
	c := r.login(t, "b9."+suffix)
	for i := range 5 {
		mustWrite(t, c, request(12, 0, i))
		mustRead(t, c)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times, want 1 for now", n)
	}
}

// TestBrokerThatEndsSessionsInWhichItIsAskedIsNotAskedAgain: nothing is better
// then than it would be without asking, nor worse.
func TestBrokerThatEndsSessionsInWhichItIsAskedIsNotAskedAgain(t *testing.T) {
	var asked atomic.Int32
	boot := kafkatest.StartBroker(t, "broker-0.upstream.test", withSASL(echo, func([]byte) []byte {
		asked.Add(1)
		return nil
	}))
	r := start(t, boot, boot.Addr(), nil)
	const enough = 3
	for range enough {
		c := r.login(t, "b1."+suffix)
		mustWrite(t, c, request(12, 0, 1))
		mustEnd(t, c)
		waitStats(t, r.Server, "the proxy has noted that, too", func(s Stats) bool { return s.Active == 0 })
	}
	c := r.login(t, "b1."+suffix)
	mustWrite(t, c, request(12, 0, 1))
	mustRead(t, c)
	r.log.wait(t, "level=INFO", "do not tell within clients' sessions")
	if n := asked.Load(); n != enough {
		t.Errorf("asked %d times", n)
	}
	for phase, n := range r.Stats().Failures {
		if n > 0 {
			t.Errorf("%d failures in phase %s", n, phase)
		}
	}
}

// TestUnansweredQuestionDoesNotKeepTheProxyFromEnding has a broker say nothing
// any more.
func TestUnansweredQuestionDoesNotKeepTheProxyFromEnding(t *testing.T) {
	asked := make(chan struct{})
	boot := kafkatest.StartBroker(t, "broker-0.upstream.test", withSASL(echo, func(f []byte) []byte {
		close(asked)
		return []byte{}
	}))
	r := start(t, boot, boot.Addr(), nil)
	c := r.login(t, "b1."+suffix)
	mustWrite(t, c, request(12, 0, 1))
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Shutdown(ctx) }()
	cancel()
	if err := <-done; err != context.Canceled {
		t.Errorf("Shutdown: %v", err)
	}
}
