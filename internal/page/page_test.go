package page

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"kafka-sni-proxy/internal/api"
	"kafka-sni-proxy/internal/session"
)

// load gets a page or an asset of a source, compressed if header says so.
func load(t *testing.T, s Source, path string, header ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest("GET", path, nil)
	for _, coding := range header {
		r.Header.Set("Accept-Encoding", coding)
	}
	w := httptest.NewRecorder()
	Handler(s).ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Result(), string(body)
}

var spaces = regexp.MustCompile(`\s+`)

// words are the text of a page, without its tags.
func words(html string) string {
	return spaces.ReplaceAllString(regexp.MustCompile(`(?s)<[^>]*>`).ReplaceAllString(html, " "), " ")
}

func TestThePageIsCompleteWithoutScript(t *testing.T) {
	response, html := load(t, busySource(40), "/")
	if response.StatusCode != http.StatusOK {
		t.Fatalf("status %d", response.StatusCode)
	}
	text := words(html)
	for _, want := range []string{
		"3 problems", "Cluster orders: 1 of 5 addresses cannot be reached since 11:48:00 UTC, 12 min ago b3.orders.internal:9093: dial tcp 10.1.2.3:9093",
		"Files of hosts-file cannot be used since 09:00:00 UTC, 3 h ago", "Certificate of listener public: expires 2026-12-10 19:00 UTC, in 10 days",
		"likely cause: broker or network", "listener inside is plaintext", "serving since 2026-11-27 09:00 UTC, 3 days ago",
		"40 limit 20,000", "4,132 /s", "21 MB/s", "2.1 ms", "p99 14 ms", "41 µs",
		"broker 3 b3.orders.example", "only in the routes file so far", "socks5://gate.internal:1080", "Fetch", "1–40 of 40 sessions", "apache-kafka-java 4.4.0",
		"let the client trust the authority in ca.pem", "a port for each broker 9101–9120", "CN=*.orders.example", "/etc/kafka-sni-proxy/config.yaml",
		"SIGHUP", "handshakes 3", "48 MB",
	} {
		if !strings.Contains(text, strings.NewReplacer("'", "&#39;", "+", "&#43;").Replace(want)) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// Problems of files, and the way to them, come before the rest of the page.
func TestTheVerdictNamesWhatIsWrong(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*fixedSource)
		want   string // the verdict and what follows it
	}{
		"nothing": {func(*fixedSource) {}, "No problems serving since 11:59:40 UTC, 20 s ago"},
		"draining": {func(s *fixedSource) {
			s.status.State, s.status.StateSince, s.status.Connections.Open = "draining", ago(5*time.Second), 3
		}, "No problems draining since 11:59:55 UTC, 5 s ago No new clients are accepted; 3 connections are left."},
		"hand-over": {func(s *fixedSource) {
			s.status.HandOver = &api.HandOver{Since: ago(4 * time.Second)}
		}, "Another process is being started, and will take over: since 11:59:56 UTC, 4 s ago."},
		"taken over": {func(s *fixedSource) { s.status.HandOver = &api.HandOver{Since: ago(4 * time.Second), From: 77} },
			"No problems serving since 11:59:40 UTC, 20 s ago This process has taken over from process 77, which is closing its connections: since 11:59:56 UTC, 4 s ago."},
		"cluster down": {func(s *fixedSource) { s.clusters[0].Health, s.clusters[0].Since = "down", ago(time.Minute) },
			"1 problem serving since 11:59:40 UTC, 20 s ago Cluster kafka is down: none of its addresses can be reached since 11:59:00 UTC, 1 min ago"},
		"another cluster's brokers": {func(s *fixedSource) { s.clusters[0].OtherCluster = 2 }, "Cluster kafka: 2 addresses have the id of another cluster"},
		"certificate ended": {func(s *fixedSource) {
			s.status.Certificates = []api.Certificate{{Use: "listener", Of: "default", NotAfter: ago(time.Minute)}}
		}, "1 problem serving since 11:59:40 UTC, 20 s ago Certificate of listener default: expired 11:59:00 UTC, 1 min ago"},
		"certificate of tomorrow": {func(s *fixedSource) {
			s.status.Certificates = []api.Certificate{{Use: "upstream", Of: "kafka", NotBefore: ago(-time.Hour), NotAfter: ago(-time.Hour * 1000)}}
		}, "Certificate of upstream kafka: not valid before 13:00:00 UTC"},
		"full":        {func(s *fixedSource) { s.status.Connections.Open, s.status.Connections.Most = 10, 10 }, "1 problem serving since 11:59:40 UTC, 20 s ago The limit of 10 connections is reached"},
		"nearly full": {func(s *fixedSource) { s.status.Connections.Open, s.status.Connections.Most = 95, 100 }, "No problems serving since 11:59:40 UTC, 20 s ago Warnings 95 of 100 connections are open"},
		"descriptors": {func(s *fixedSource) { s.status.Process.OpenDescriptors, s.status.Process.MostDescriptors = 1000, 1024 }, "1,000 of 1,024 file descriptors are open"},
		"a client's failure is no alarm": {func(s *fixedSource) {
			s.failures = []api.Failure{{First: ago(time.Hour), Last: ago(time.Minute), Phase: "first-byte", Reason: "no TLS", Remedy: "use TLS"}}
		}, "No problems serving since 11:59:40 UTC, 20 s ago Warnings Connections failed in the last 5 minutes, likely cause: client phase first-byte; 1 kind of error, the first at 11:00:00 UTC, 1 h ago no TLS → use TLS"},
		"a broker's is": {func(s *fixedSource) {
			s.failures = []api.Failure{{First: ago(time.Hour), Last: ago(time.Minute), Phase: "upstream-tls", Reason: "expired"}}
		}, "1 problem serving since 11:59:40 UTC, 20 s ago Connections failed in the last 5 minutes, likely cause: broker"},
		"what is known of a cluster is said once": {func(s *fixedSource) {
			s.clusters[0].Health = "failing"
			s.failures = []api.Failure{{First: ago(time.Hour), Last: ago(time.Minute), Cluster: "kafka", Phase: "dial", Reason: "refused"}}
		}, "1 problem serving since 11:59:40 UTC, 20 s ago Cluster kafka: 0 of 1 address cannot be reached since never"},
		"an old failure": {func(s *fixedSource) {
			s.failures = []api.Failure{{First: ago(time.Hour), Last: ago(time.Minute * 6), Phase: "upstream-tls", Reason: "expired"}}
		}, "No problems serving since 11:59:40 UTC, 20 s ago Warnings Now"},
		"a panic": {func(s *fixedSource) { s.status.Connections.Panics = 1 }, "No problems serving since 11:59:40 UTC, 20 s ago Warnings 1 panic was caught"},
	} {
		source := idleSource()
		test.change(source)
		_, html := load(t, source, "/")
		if text := words(html); !strings.Contains(text, test.want) {
			t.Errorf("%s: the page does not say %q, but %q", name, test.want, text)
		}
	}
}

func TestNothingThatAClientSendsIsMarkup(t *testing.T) {
	const script = `<script>alert(1)</script>`
	source := busySource(3)
	hostile := &source.sessions[0]
	hostile.Software, hostile.SoftwareVersion, hostile.ClientID = script, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`
	hostile.SNI, hostile.Cluster, hostile.Broker = `"quoted".example`, `</td></table>`+script, `javascript:alert(1)`
	source.failures[0].SNI, source.failures[0].Reason, source.failures[0].Phase = script, script, script
	source.clusters[0].Name, source.clusters[0].ID = `"><script>alert(2)</script>`, script
	source.clusters[0].Brokers[0].LastError, source.clusters[0].Brokers[1].Address = script, `" onclick="alert(1)`
	source.status.Warnings = []string{script}
	_, html := load(t, source, "/?q="+`%22%3E%3Cscript%3Ealert(3)%3C/script%3E`)
	_, all := load(t, source, "/")
	for _, page := range []string{html, all} {
		tags := regexp.MustCompile(`<[^>]*>`).FindAllString(page, -1)
		for _, tag := range tags {
			outside := regexp.MustCompile(`"[^"]*"`).ReplaceAllString(tag, `""`)
			if strings.HasPrefix(tag, "<script") && !strings.Contains(tag, `src="/assets/`) || strings.HasPrefix(tag, "<img") ||
				strings.Contains(outside, "onclick") || strings.Contains(outside, "onmouseover") || strings.Contains(outside, "onerror") || strings.Contains(tag, `href="javascript:`) {
				t.Errorf("there is the tag %s", tag)
			}
		}
	}
	for _, want := range []string{"&lt;script&gt;alert(1)&lt;/script&gt;", "&#34;quoted&#34;.example"} {
		if !strings.Contains(all, want) {
			t.Errorf("the page does not have %s", want)
		}
	}
}

func TestThePageLoadsNothingOfOthersAndIsNotKept(t *testing.T) {
	response, html := load(t, busySource(3), "/")
	const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
	has := func(r *http.Response, name, want string) {
		t.Helper()
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for name, want := range map[string]string{"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		"Cache-Control": "no-store", "Content-Type": "text/html; charset=utf-8"} {
		has(response, name, want)
	}
	if regexp.MustCompile(`(?i)\sstyle="|<style|\son[a-z]+="`).MatchString(html) {
		t.Error("there is an inline style or script, which the policy forbids")
	}
	loaded := regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`).FindAllStringSubmatch(html, -1)
	if len(loaded) != len(assets) {
		t.Fatalf("the page loads %v", loaded)
	}
	for _, m := range loaded {
		response, _ := load(t, idleSource(), m[1])
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d", m[1], response.StatusCode)
		}
		has(response, "Cache-Control", "private, max-age=31536000, immutable")
		has(response, "X-Content-Type-Options", "nosniff")
		has(response, "Content-Security-Policy", policy)
		// A page of another version asks for another hash, and must not keep this file for it.
		other, _ := load(t, idleSource(), regexp.MustCompile(`v=.*`).ReplaceAllString(m[1], "v=0123"))
		has(other, "Cache-Control", "no-cache")
	}
	for _, path := range []string{"/assets/", "/assets/page.html", "/assets/..%2fpage.html", "/other"} {
		if response, _ := load(t, idleSource(), path); response.StatusCode != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", path, response.StatusCode)
		}
	}
}

// What a browser fetches for the first sight of a large proxy: on a poor line at night, too.
func TestThePageIsSmall(t *testing.T) {
	const most = 100 << 10
	response, html := load(t, busySource(5000), "/", "gzip")
	if response.Header.Get("Content-Encoding") != "gzip" {
		t.Fatal("the page is not compressed")
	}
	total := len(html)
	for name := range assets {
		response, body := load(t, idleSource(), "/assets/"+name, "br, gzip;q=0.8")
		if response.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s is not compressed", name)
		}
		total += len(body)
	}
	t.Logf("%d bytes, of these %d for the page itself", total, len(html))
	if total > most {
		t.Errorf("%d bytes are sent, want %d at the most", total, most)
	}
	if response, _ := load(t, idleSource(), "/", "gzip;q=0, br"); response.Header.Get("Content-Encoding") != "" {
		t.Error("it is compressed for who cannot read that")
	}
}

func TestSessionsAreFoundWithoutScript(t *testing.T) {
	source := busySource(5000)
	shows := func(path string, status int, want ...string) string {
		t.Helper()
		response, html := load(t, source, path)
		if response.StatusCode != status {
			t.Errorf("%s: status %d, want %d", path, response.StatusCode, status)
		}
		for _, w := range want {
			if !strings.Contains(html, w) {
				t.Errorf("%s: there is no %s", path, w)
			}
		}
		return html
	}
	shows("/", 200, "1–50 of 5,000 sessions", `<a data-page="next" href="/?offset=50#sessions">`, `<a data-page="previous" href="" hidden>`,
		`aria-sort="descending" data-sort="-age"><a href="/?sort=age#sessions">Age</a>`, `aria-sort="none" data-sort="client"><a href="/?sort=client#sessions">`)
	shows("/?q=librdkafka&cluster=orders&sort=client&offset=100", 200, "101–150 of 833 match, of 5,000 sessions", `value="librdkafka"`, `<option value="orders" selected>`,
		`href="/?cluster=orders&amp;offset=50&amp;q=librdkafka&amp;sort=client#sessions">Previous page`, `aria-sort="ascending" data-sort="client"><a href="/?cluster=orders&amp;q=librdkafka&amp;sort=-client#sessions">`)
	shows("/?offset=999999", 200, "4,951–5,000 of 5,000 sessions")
	shows("/?q=nobody", 200, "0 match, of 5,000 sessions")
	shows("/?cluster=gone", 200, `<option value="gone" selected>`, "0 match")
	shows("/?limit=2", 200, "1–2 of 5,000", `href="/?limit=2&amp;offset=2#sessions"`)
	shows("/?sort=colour", 400, "sort: &#34;colour&#34; is none of", "1–50 of 5,000 sessions")
	if html := shows("/?limit=1000", 200); strings.Count(html, `scope="row"`) < 1000 {
		t.Error("not all sessions that were asked for are there")
	}
}

// However many brokers and failures there are, the page stays readable, and says where the
// rest is. Brokers that are down are among those shown.
func TestThePageSaysWhatItLeavesOut(t *testing.T) {
	source := busySource(0)
	down := source.clusters[0].Brokers[4]
	for id := range int32(900) {
		source.clusters[0].Brokers = append([]api.Broker{{Node: node(id + 10), Address: "b.example:9093", Health: "ok"}}, source.clusters[0].Brokers...)
	}
	for range 150 {
		source.failures = append(source.failures, source.failures[0])
	}
	_, html := load(t, source, "/")
	text := words(html)
	for _, want := range []string{"The first 50 of 905, those that are down first. All: /api/v1/clusters", "The newest 50 of 152. All: /api/v1/failures", "0 sessions"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if !strings.Contains(html, `data-key="broker 3 `+down.Address+`"`) {
		t.Error("the broker that is down is left out")
	}
	if n := strings.Count(html, `data-key="broker`); n > 60 {
		t.Errorf("%d brokers are shown", n)
	}
}

func TestNumbersAndTimesAreWrittenShortly(t *testing.T) {
	for got, want := range map[string]string{
		count(0): "0", count(999): "999", count(1000): "1,000", count(-1234567): "-1,234,567",
		decimal(0.04): "0.0", decimal(9.94): "9.9", decimal(9.96): "10", decimal(1234.5): "1,235",
		size(0): "0 B", size(999): "999 B", size(999.6): "1.0 kB", size(12_345_678): "12 MB", size(1.5e12): "1.5 TB", size(9e18): "9,000 PB",
		latency(0.0000414): "41 µs", latency(0.00214): "2.1 ms", latency(1.24): "1.2 s", latency(61): "1 min",
		length(-3): "0 s", length(59.9): "59 s", length(60): "1 min", length(3600): "1 h", length(48 * 3600): "2 days",
		since(time.Time{}, noon): "never", since(ago(time.Hour), noon): "11:00:00 UTC, 1 h ago", since(ago(30*time.Hour), noon): "2026-11-29 06:00 UTC, 30 h ago",
		counts(nil): "none", counts(map[string]int64{"b": 1200, "a": 1, "c": 0}): "a 1, b 1,200",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestEachPhaseHasASideOnWhichItsCauseIsLookedFor(t *testing.T) {
	for _, phase := range session.Phases {
		if sides[phase.String()] == "" {
			t.Errorf("a failure in the phase %s has no side", phase)
		}
	}
}

// TestTheLayoutHasAPlaceForEachValue, and what is put there is not looked through for places.
func TestTheLayoutHasAPlaceForEachValue(t *testing.T) {
	if got := fill("a{x}b{y}c", map[string]markup{"x": "{y}", "y": escape(`<"'&>`)}); got != "a{y}b&lt;&#34;&#39;&amp;&gt;c" {
		t.Errorf("%s", got)
	}
	for _, layout := range []string{"{z}", "{x"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s is filled", layout)
				}
			}()
			fill(layout, map[string]markup{"x": ""})
		}()
	}
	var w writer
	w.open("a", "class", "", "href", `/?q="><script>`)
	if got := w.markup(); got != `<a href="/?q=&#34;&gt;&lt;script&gt;">` {
		t.Errorf("%s", got)
	}
}
