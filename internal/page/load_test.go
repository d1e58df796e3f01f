package page

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"kafka-sni-proxy/internal/api"
	"kafka-sni-proxy/internal/harness"
	"kafka-sni-proxy/internal/harness/procfs"
	"kafka-sni-proxy/internal/kafkatest"
)

// These tests load the page of the real program into a real Chromium, while thousands of
// clients are connected. KAFKA_SNI_PROXY_PAGE_COST is how long the processor time of the proxy
// is measured for, with the page open and without; 10 s if it is not set.

const (
	suffix  = "kafka.example"
	hostile = "<script>alert(1)</script>"
)

// runningProxy is the program in front of a cluster in memory, and its clients.
type runningProxy struct {
	t       *testing.T
	process *harness.Process
	cluster *kafkatest.Cluster
	listen  string
	address string // of the page
	tls     *tls.Config
	clients []*client
}

// startProxy builds the program and runs it until the test ends.
func startProxy(t *testing.T) *runningProxy {
	t.Helper()
	chromium(t)
	if _, err := procfs.MaxFiles(); errors.Is(err, errors.ErrUnsupported) {
		t.Skip("the processor time of a process is read on Linux alone")
	}
	dir := t.TempDir()
	binary, err := harness.Build(t.Context(), harness.BuildOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	p := &runningProxy{t: t, cluster: kafkatest.Start(t, kafkatest.Options{Ports: make([]int, 3), Topics: map[string]int32{"orders": 12}})}
	var upstreams, hosts []string
	for id := range int32(3) {
		upstreams, hosts = append(upstreams, p.cluster.Addr(id)), append(hosts, "127.0.0.1 "+p.cluster.Host(id)+"\n")
	}
	authority := kafkatest.NewAuthority("clients")
	p.tls = authority.ClientConfig()
	var ports harness.Ports
	listen, err1 := ports.Address()
	admin, err2 := ports.Address()
	if err := errors.Join(err1, err2,
		kafkatest.WriteKeyPair(dir, "server", authority.ServerUntil(time.Now().AddDate(1, 0, 0), "*."+suffix)),
		os.WriteFile(filepath.Join(dir, "upstream-ca.pem"), p.cluster.Authority.PEM(), 0o600),
		os.WriteFile(filepath.Join(dir, "hosts"), []byte(strings.Join(hosts, "")), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	p.listen, p.address = listen, "http://"+admin
	p.process, err = harness.Start(context.WithoutCancel(t.Context()), harness.Command{Name: "proxy", Dir: dir, Args: []string{binary, "--bind", listen, "--admin-bind", admin,
		"--sni-suffix", suffix, "--upstream", strings.Join(upstreams, ","), "--upstream-ca-certs", "upstream-ca.pem", "--hosts-file", "hosts"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.process.Kill)
	if err := p.process.Await(t.Context(), 20*time.Second, "the proxy does not listen", func() error {
		_, err := p.get("/readyz")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return p
}

// get asks the admin port.
func (p *runningProxy) get(path string) ([]byte, error) {
	response, err := http.Get(p.address + path)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %s", path, response.Status, body)
	}
	return body, err
}

// sessions asks for sessions, and says how long the answer took.
func (p *runningProxy) sessions(query string) (found api.Sessions, took time.Duration) {
	p.t.Helper()
	start := time.Now()
	body, err := p.get("/api/v1/sessions?" + query)
	took = time.Since(start)
	if err == nil {
		err = json.Unmarshal(body, &found)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return found, took
}

// client is a connection of a client that asks one thing at a time.
type client struct {
	net.Conn
	format *kmsg.RequestFormatter
	last   int32
}

// programs are what clients say that they are.
var programs = [][2]string{{"apache-kafka-java", "4.1.0"}, {"librdkafka", "2.12.0"}, {"kgo", "v1.20.0"}, {"sarama", "1.46.0"}, {"apache-kafka-java", "3.7.2"}}

// connect opens connections, each of which has asked for the versions of the broker: the last
// one with a name that no broker lets pass.
func (p *runningProxy) connect(n int) {
	p.t.Helper()
	p.clients = make([]*client, n)
	group, ctx := errgroup.WithContext(p.t.Context())
	group.SetLimit(32)
	for i := range p.clients {
		group.Go(func() error {
			id := fmt.Sprintf("orders-service-%d", i)
			conn, err := (&tls.Dialer{Config: p.serverName(fmt.Sprintf("b%d.%s", i%3, suffix))}).DialContext(ctx, "tcp", p.listen)
			if err != nil {
				return err
			}
			p.clients[i] = &client{Conn: conn, format: kmsg.NewRequestFormatter(kmsg.FormatterClientID(id))}
			hello := kmsg.NewPtrApiVersionsRequest()
			hello.SetVersion(3)
			hello.ClientSoftwareName, hello.ClientSoftwareVersion = programs[i%len(programs)][0], programs[i%len(programs)][1]
			if i == n-1 {
				hello.ClientSoftwareName = hostile
			}
			return p.clients[i].ask(hello)
		})
	}
	err := group.Wait()
	p.t.Cleanup(func() {
		for _, c := range p.clients {
			if c != nil {
				c.Close()
			}
		}
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *runningProxy) serverName(name string) *tls.Config {
	config := p.tls.Clone()
	config.ServerName = name
	return config
}

// ask sends a request, and reads the response.
func (c *client) ask(request kmsg.Request) error {
	c.last++
	c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write(c.format.AppendRequest(nil, request, c.last)); err != nil {
		return err
	}
	_, err := kafkatest.ReadFrame(c)
	return err
}

// kafkaClient is a client with all that a client does.
func (p *runningProxy) kafkaClient(opts ...kgo.Opt) *kgo.Client {
	p.t.Helper()
	dialer := &kafkatest.Dialer{Suffix: suffix, Proxy: p.listen, TLS: p.tls}
	_, port, _ := net.SplitHostPort(p.listen)
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers("bootstrap." + suffix + ":" + port), kgo.Dialer(dialer.DialContext)}, opts...)...)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(c.Close)
	return c
}

// load keeps requests running until it is stopped: records of 4 kB are produced and consumed,
// and some of the connections ask for metadata.
func (p *runningProxy) load() (stop func()) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.t.Context())
	producer, consumer := p.kafkaClient(kgo.DefaultProduceTopic("orders"), kgo.ProducerLinger(0)), p.kafkaClient(kgo.ConsumeTopics("orders"))
	var group errgroup.Group
	every := func(interval time.Duration, do func() error) {
		group.Go(func() error {
			tick := time.NewTicker(interval)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return nil
				case <-tick.C:
				}
				if err := do(); err != nil && ctx.Err() == nil {
					return err
				}
			}
		})
	}
	record := harness.Filler(4000)
	every(5*time.Millisecond, func() error {
		return producer.ProduceSync(ctx, &kgo.Record{Value: record}).FirstErr()
	})
	every(5*time.Millisecond, func() error { return consumer.PollFetches(ctx).Err() })
	every(5*time.Millisecond, func() error {
		about := kmsg.NewPtrMetadataRequest()
		about.SetVersion(9)
		return p.clients[rand.N(1+rand.N(len(p.clients)-1))].ask(about) // the first of them more often
	})
	stop = func() {
		cancel()
		if err := group.Wait(); err != nil {
			p.t.Errorf("the load has ended: %v", err)
		}
	}
	p.t.Cleanup(stop)
	return stop
}

// window is how long processor time is measured for.
func window(t *testing.T) time.Duration {
	t.Helper()
	length := 10 * time.Second
	if said := os.Getenv("KAFKA_SNI_PROXY_PAGE_COST"); said != "" {
		var err error
		if length, err = time.ParseDuration(said); err != nil {
			t.Fatal(err)
		}
	}
	return length
}

// cpu returns the processor time in seconds that the proxy takes in a minute.
func (p *runningProxy) cpu(length time.Duration) float64 {
	p.t.Helper()
	start, before := time.Now(), p.used()
	select {
	case <-p.process.Done():
		p.t.Fatal(p.process.Alive())
	case <-time.After(length): // this is measured, not waited for
	}
	return (p.used() - before).Seconds() / time.Since(start).Minutes()
}

// used returns the processor time that the proxy has taken so far.
func (p *runningProxy) used() time.Duration {
	p.t.Helper()
	usage, err := procfs.Read(p.process.PID())
	if err != nil {
		p.t.Fatal(err)
	}
	return usage.CPU
}

// reportCost logs what an open page costs the proxy. What it asks 20 times a minute may be
// little beside the load, so it is also asked often.
func (p *runningProxy) reportCost(when string) {
	p.t.Helper()
	const often, perMinute = 100, 20
	length := window(p.t)
	b := newBrowser(p.t, 1280, 900, false)
	b.visit(p.address)

	start, before := time.Now(), p.used()
	eval[bool](b, fmt.Sprintf(`(async () => { for (let n = 0; n < %d;) { await new Promise((done) => setTimeout(done)); if (!polling) { await poll(); n++; } } return true; })()`, often))
	took, used := time.Since(start), p.used()-before

	const asked = `performance.setResourceTimingBufferSize(10000), performance.getEntriesByType("resource").filter((e) => e.name.endsWith("/status")).length`
	eval[any](b, `performance.clearResourceTimings()`)
	with := p.cpu(length)
	polls := eval[int](b, asked)
	if polls < int(length/(5*time.Second)) {
		p.t.Errorf("the page has asked only %d times within %v", polls, length)
	}
	b.wantNoProblems()
	b.do(chromedp.Navigate("about:blank"))
	without := p.cpu(length)

	each := (used.Seconds() - without*took.Minutes()) / often
	p.t.Logf("%s: a poll of the page takes %.2f ms of processor time, %d of them in a minute %.2f s", when, each*1000, perMinute, each*perMinute)
	p.t.Logf("%s: the proxy takes %.2f s of processor time in a minute with the page open, %.2f s without: the page costs %.2f s (%d polls within %v)", when, with, without, with-without, polls, length)
}

// readers are the windows in which the page is looked at.
var readers = []struct {
	name          string
	width, height int64
	dark          bool
}{
	{"desktop", 1280, 900, false}, {"desktop-dark", 1280, 900, true}, {"phone", 360, 740, false}, {"phone-dark", 360, 740, true},
}

// wantShown looks at the page as each of the readers, and for what each must see.
func (p *runningProxy) wantShown(name string, look func(b *browser)) {
	for _, reader := range readers {
		p.t.Run(reader.name, func(t *testing.T) {
			b := newBrowser(t, reader.width, reader.height, reader.dark)
			b.visit(p.address)
			t.Logf("first paint after %.0f ms", eval[float64](b, `performance.getEntriesByType("paint").find((e) => e.name === "first-contentful-paint")?.startTime ?? -1`))
			// The history has a point every 10 s.
			b.until(`plots.length === 5 && plots[3].chart.data[0].length > 1 && plots[3].chart.data[1].filter(isNode).length > 1`)
			if width := eval[int64](b, `document.documentElement.scrollWidth`); width > reader.width {
				t.Errorf("the page is %d wide, in a window of %d", width, reader.width)
			}
			look(b)
			b.screenshot(name+"-"+reader.name, chromedp.FullScreenshot(100))
			b.wantAccessible()
			b.wantNoProblems()
		})
	}
}

func TestBrowserShowsARunningProxyUnderLoad(t *testing.T) {
	n := 5000
	p := startProxy(t)
	if files, _ := procfs.MaxFiles(); (files-500)/2 < n {
		n = (files - 500) / 2
		t.Logf("only %d clients: the limit on descriptors is %d (ulimit -Hn)", n, files)
	}
	// The proxy learns from it where the brokers are.
	if err := p.kafkaClient().Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.connect(n)
	p.reportCost(fmt.Sprintf("%d clients, no load", n))
	p.load()
	p.reportCost(fmt.Sprintf("%d clients under load", n))

	best := time.Hour
	var all api.Sessions
	for range 10 {
		var took time.Duration
		all, took = p.sessions("limit=1000&sort=-rate")
		best = min(best, took)
	}
	if len(all.Sessions) != 1000 || all.Total < n {
		t.Errorf("%d of %d sessions are listed, of %d clients", len(all.Sessions), all.Total, n)
	}
	t.Logf("the 1,000 sessions with the greatest rate, of %d, within %.1f ms: the best of ten", all.Total, best.Seconds()*1000)

	p.wantShown("load", func(b *browser) {
		t := b.t
		all, _ := p.sessions("limit=1")
		// A client may come or go meanwhile: the page shows the total of a moment.
		if same := eval[bool](b, `(async () => {
			for (let tries = 0; tries < 20; tries++) {
				await pollSessions();
				const { total } = await ask("sessions?limit=1");
				if ($("[data-text=range]").textContent === "1–50 of " + count(total) + " sessions") return true;
			}
			return false;
		})()`); !same {
			t.Errorf("the page shows %q, of %d sessions", eval[string](b, `$("[data-text=range]").textContent`), all.Total)
		}
		if all.Total < n {
			t.Errorf("there are %d sessions, of %d clients", all.Total, n)
		}
		if said := eval[string](b, `document.querySelector("[data-facts=figures] [data-key=requests] dd").textContent`); !strings.Contains(said, "/s") {
			t.Errorf("requests: the page says %q", said)
		}
		b.screenshot("load-top-"+fmt.Sprint(eval[int](b, `innerWidth`)), chromedp.CaptureScreenshot())

		b.press(`input[name=q]`, "<script>")
		b.until(`$("[data-text=range]").textContent.startsWith("1–1 of 1 match, of ")`)
		if said := eval[string](b, `document.querySelector("[data-table=sessions] tbody td").firstElementChild.textContent`); said != hostile {
			t.Errorf("the software is shown as %q", said)
		}
		if n := eval[int](b, `document.querySelectorAll("body script").length`); n != 0 {
			t.Errorf("%d scripts have come from what a client sent", n)
		}
		// And the page that the server makes is as careful.
		b.do(chromedp.Reload())
		b.until(`historyAt > 0`)
		if n := eval[int](b, `document.querySelectorAll("body script").length`); n != 0 {
			t.Errorf("%d scripts have come from what a client sent", n)
		}
		b.press(`a.all`, kb.Enter)
		b.until(`document.querySelectorAll("[data-table=sessions] tbody tr").length === 50`)
	})
}

func TestBrowserShowsARunningProxyWithoutClients(t *testing.T) {
	p := startProxy(t)
	p.reportCost("no clients")
	p.wantShown("alone", func(b *browser) {
		b.until(`document.querySelector("[data-text=range]").textContent === "0 sessions"`)
		if said := eval[string](b, `document.querySelector("[data-text=verdict]").textContent`); said != "No problems" {
			b.t.Errorf("the page says %q", said)
		}
	})
}
