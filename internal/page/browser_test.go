package page

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"kafka-sni-proxy/internal/api"
)

// These tests load the page into a real Chromium. Without one they are skipped, unless
// KAFKA_SNI_PROXY_BROWSER is "required"; "make browser" fetches what they need beside it.
// KAFKA_SNI_PROXY_SCREENSHOTS names a folder for pictures of what they saw.

const axeFile = "testdata/browser/node_modules/axe-core/axe.min.js"

// browser is a tab, with what it has found wrong so far.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	problems []string
}

func skipUnlessRequired(t *testing.T, missing string) {
	t.Helper()
	if os.Getenv("KAFKA_SNI_PROXY_BROWSER") == "required" {
		t.Fatal(missing)
	}
	t.Skip(missing)
}

// chromium returns the path of the browser.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	skipUnlessRequired(t, "there is no Chromium")
	return ""
}

// newBrowser starts Chromium with a window of a size, until the test ends.
func newBrowser(t *testing.T, width, height int64, dark bool) *browser {
	t.Helper()
	program := chromium(t)
	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(program), chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(int(width), int(height))}
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	b := &browser{t: t}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	b.ctx, cancel = chromedp.NewContext(ctx, chromedp.WithAllocatorOptions(options...), chromedp.WithListener(b.hear))
	t.Cleanup(cancel)
	var device []chromedp.EmulateViewportOption
	if width < 600 {
		device = append(device, chromedp.EmulateMobile)
	}
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	b.do(chromedp.EmulateViewport(width, height, device...), call(audits.Enable, cdp.Empty{}), colours(scheme))
	return b
}

// colours makes the reader prefer light or dark.
func colours(scheme string) chromedp.Action[chromedp.Void] {
	return call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}

// call makes an action of a command of the browser.
func call[P, R any](command cdp.Command[P, R], parameters P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, command, parameters)
		return err
	})
}

// hear notes what a console would show in red, and what the policy has stopped.
func (b *browser) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			b.problems = append(b.problems, e.Entry.Text+" "+e.Entry.URL)
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			text, _ := json.Marshal(e.Args)
			b.problems = append(b.problems, string(text))
		}
	case *runtime.EventExceptionThrown:
		text, _ := json.Marshal(e.ExceptionDetails)
		b.problems = append(b.problems, string(text))
	case *cdpage.EventJavascriptDialogOpening:
		b.problems = append(b.problems, "a dialog has opened: "+e.Message)
	case *audits.EventIssueAdded:
		if e.Issue.Code == audits.InspectorIssueCodeContentSecurityPolicyIssue {
			text, _ := json.Marshal(e.Issue.Details)
			b.problems = append(b.problems, string(text))
		}
	}
}

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// eval returns the value of an expression, or of what it promises.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// until waits for an expression to become true.
func (b *browser) until(expression string) {
	b.t.Helper()
	const patience = 30_000 // milliseconds
	came := eval[bool](b, fmt.Sprintf(`new Promise((done) => {
		const end = performance.now() + %d;
		const look = () => (%s) ? done(true) : performance.now() > end ? done(false) : setTimeout(look, 20);
		look();
	})`, patience, expression))
	if !came {
		b.t.Fatalf("it never came that %s; the page says %q", expression, eval[string](b, `document.body.innerText`))
	}
}

// open loads the page of a site.
func (b *browser) open(site *testSite) {
	b.t.Helper()
	address := site.URL
	if token := site.token.Load(); token != nil {
		address = strings.Replace(address, "http://", "http://anybody:"+token.(string)+"@", 1)
	}
	b.visit(address)
}

// visit loads the page and waits until its script has asked for everything once.
func (b *browser) visit(address string) {
	b.t.Helper()
	b.do(chromedp.Navigate(address))
	b.until(`historyAt > 0`)
}

func (b *browser) wantNoProblems() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, problem := range b.problems {
		b.t.Errorf("the browser says: %s", problem)
	}
}

// screenshot writes a picture of the page, if pictures are wanted.
func (b *browser) screenshot(name string, take chromedp.Action[[]byte]) {
	b.t.Helper()
	dir := os.Getenv("KAFKA_SNI_PROXY_SCREENSHOTS")
	if dir == "" {
		return
	}
	picture, err := chromedp.Run(b.ctx, take)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), fewColours(b.t, picture), 0o666); err != nil {
		b.t.Fatal(err)
	}
}

// fewColours makes a picture smaller: it keeps the 256 colours that are used most.
func fewColours(t *testing.T, picture []byte) []byte {
	t.Helper()
	whole, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	area, used := whole.Bounds(), map[color.Color]int{}
	for y := range area.Dy() {
		for x := range area.Dx() {
			used[whole.At(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(used), func(a, b color.Color) int {
		return cmp.Or(cmp.Compare(used[b], used[a]), strings.Compare(fmt.Sprint(a), fmt.Sprint(b)))
	})
	few := image.NewPaletted(area, colours[:min(256, len(colours))])
	nearest := map[color.Color]uint8{}
	for y := range area.Dy() {
		for x := range area.Dx() {
			c := whole.At(x, y)
			index, ok := nearest[c]
			if !ok {
				index = uint8(few.Palette.Index(c))
				nearest[c] = index
			}
			few.SetColorIndex(x, y, index)
		}
	}
	var small bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, few); err != nil {
		t.Fatal(err)
	}
	return small.Bytes()
}

// wantAccessible lets axe look at the page: WCAG 2.2, levels A and AA, and its best practices.
func (b *browser) wantAccessible() {
	b.t.Helper()
	axe, err := os.ReadFile(axeFile)
	if err != nil {
		skipUnlessRequired(b.t, "axe-core is not there: make browser fetches it")
	}
	b.do(call(runtime.Evaluate, runtime.EvaluateParams{Expression: string(axe)}))
	for _, violation := range eval[[]string](b, `axe.run(document).then((r) => r.violations.map((v) => v.id + ": " + v.help + " " + v.nodes.slice(0, 5).map((n) => n.html.slice(0, 200) + " " + n.failureSummary).join(" | ")))`) {
		b.t.Errorf("axe: %s", violation)
	}
}

// A page for each kind of reader: none of them breaks it, meets something that the policy
// stops, or has to scroll sideways but within a table.
func TestBrowserShowsThePageToEachReader(t *testing.T) {
	hostile := busySource(5000)
	hostile.sessions[4999].Software, hostile.sessions[4999].ClientID, hostile.failures[0].SNI = "<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "<script>alert(2)</script>"
	for name, reader := range map[string]struct {
		source        *fixedSource
		width, height int64
		dark          bool
	}{
		"desktop":    {busySource(40), 1280, 900, false},
		"sessions":   {hostile, 1280, 900, false},
		"idle":       {idleSource(), 1280, 900, false},
		"dark":       {busySource(40), 1280, 900, true},
		"phone":      {hostile, 360, 740, false},
		"phone-dark": {idleSource(), 360, 740, true},
	} {
		t.Run(name, func(t *testing.T) {
			site := newTestSite(t, reader.source)
			b := newBrowser(t, reader.width, reader.height, reader.dark)
			b.open(site)
			paint := eval[float64](b, `performance.getEntriesByType("paint").find((e) => e.name === "first-contentful-paint")?.startTime ?? -1`)
			t.Logf("first paint after %.0f ms", paint)
			if width := eval[int64](b, `document.documentElement.scrollWidth`); width > reader.width {
				t.Errorf("the page is %d wide, in a window of %d", width, reader.width)
			}
			if n := eval[int](b, `document.querySelectorAll("main script, main img, main iframe, [onerror], [onclick]").length`); n != 0 {
				t.Errorf("%d elements have come from what clients sent", n)
			}
			if n := eval[int](b, `document.querySelectorAll("#plots canvas").length`); n != 5 {
				t.Errorf("there are %d plots", n)
			}
			b.screenshot(name, chromedp.FullScreenshot(100))
			b.wantNoProblems()
			b.wantAccessible()
		})
	}
}

// compare gives what the server makes of the source now, and what the script has made of
// the page: elements, classes, links and texts.
const compare = `(async () => {
	const told = (node) => {
		if (node.nodeType === 3) return node.data.trim().replace(/\s+/g, " ");
		if (node.nodeType !== 1 || node.tagName === "TEMPLATE" || node.id === "history" || node.id === "silence") return "";
		const attributes = ["class", "id", "data-key", "href", "aria-sort", "aria-label", "hidden", "scope"].filter((a) => node.hasAttribute(a) && !(a === "href" && node.hidden) && !(a === "class" && !node.className)).map((a) => a + "=" + node.getAttribute(a));
		return "\n<" + [node.tagName, ...attributes].join(" ") + ">" + [...node.childNodes].map(told).join("");
	};
	const html = await (await fetch(location.pathname + location.search)).text();
	return [new DOMParser().parseFromString(html, "text/html"), document].map((d) => d.title + told(d.querySelector("main")));
})()`

// The script lays out what it is told as the server does: nobody sees a page change its words
// because a poll came.
func TestBrowserScriptMakesTheSamePageAsTheServer(t *testing.T) {
	ending := busySource(120)
	ending.status.State, ending.status.HandOver = "draining", &api.HandOver{Since: ago(4 * time.Second), From: 77}
	ending.status.Rates, ending.status.Connections.Panics, ending.status.Connections.Most = nil, 2, 130
	ending.clusters[0].Health, ending.clusters[1].Name, ending.clusters[1].OtherCluster = "down", "new & <b>other</b>", 3
	ending.status.Certificates[1].NotAfter = ago(time.Hour)
	for range 60 {
		ending.failures = append(ending.failures, api.Failure{First: ago(time.Hour), Last: ago(time.Minute), Count: 2000, Phase: "rewrite", Client: "c", Reason: "a response"})
		ending.status.Reload.Events = append(ending.status.Reload.Events, api.ReloadEvent{Time: ago(time.Hour), Changed: []string{"routes-file"}})
	}
	for id := range int32(70) {
		ending.clusters[0].Brokers = append(ending.clusters[0].Brokers, api.Broker{Node: node(100 + id), Address: "b.example:9093", Health: "ok"})
	}
	const image = `"><img src=x onerror=alert(1)>`
	ending.sessions[119].Software, ending.sessions[119].SNI, ending.failures[0].Reason, ending.clusters[0].Brokers[0].LastError = image, image, image, image
	ending.status.Warnings = []string{image, "<script>alert(1)</script>"}
	site := newTestSite(t, idleSource())
	b := newBrowser(t, 1280, 900, false)
	b.open(site)
	for i, source := range []*fixedSource{busySource(40), ending, idleSource(), ending, busySource(5000)} {
		source.status.Host = fmt.Sprintf("proxy-%d", i+2)
		site.source.Store(source)
		b.until(fmt.Sprintf(`document.querySelector("[data-text=host]").textContent === %q`, source.status.Host))
		both := eval[[]string](b, compare)
		server, script := strings.Split(both[0], "\n"), strings.Split(both[1], "\n")
		for n := range max(len(server), len(script)) {
			if n >= len(server) || n >= len(script) || server[n] != script[n] {
				t.Errorf("source %d, line %d of %d: the server makes\n%s\nand the script\n%s", i, n, len(server), strings.Join(server[min(n, len(server)):min(n+3, len(server))], "\n"), strings.Join(script[min(n, len(script)):min(n+3, len(script))], "\n"))
				break
			}
		}
		if len(server) < 200 {
			t.Errorf("only %d elements were compared", len(server))
		}
		if n := eval[int](b, `document.querySelectorAll("main script, main img").length`); n != 0 {
			t.Errorf("%d elements have come from what others sent", n)
		}
	}
	b.wantNoProblems()
}

// press puts the focus on an element, which a keyboard must be able to reach, and presses keys.
func (b *browser) press(selector, keys string) {
	b.t.Helper()
	if reached := eval[bool](b, fmt.Sprintf(`(() => { const e = document.querySelector(%q); e.focus(); return document.activeElement === e && e.tabIndex >= 0; })()`, selector)); !reached {
		b.t.Fatalf("a keyboard cannot reach %s", selector)
	}
	b.do(chromedp.KeyEvent(keys))
}

// hide does to the page what another tab in front of it does, while it waits for answers.
func (b *browser) hide(hidden bool) {
	b.t.Helper()
	eval[bool](b, fmt.Sprintf(`poll(), Object.defineProperty(document, "hidden", { value: %v, configurable: true }), document.dispatchEvent(new Event("visibilitychange"))`, hidden))
}

func TestBrowserFindsSessionsByKeyboard(t *testing.T) {
	site := newTestSite(t, busySource(5000))
	b := newBrowser(t, 1280, 900, false)
	b.open(site)
	says := func(words string) {
		t.Helper()
		b.until(fmt.Sprintf(`document.querySelector("[data-text=range]").textContent === %q`, words))
	}
	says("1–50 of 5,000 sessions")
	b.press(`[data-page=next]`, kb.Enter)
	says("51–100 of 5,000 sessions")
	b.press(`[data-page=previous]`, kb.Enter)
	says("1–50 of 5,000 sessions")
	// The link is gone; the focus is not.
	if on := eval[string](b, `document.activeElement.tagName`); on == "BODY" {
		t.Error("the focus is lost with the link to the previous page")
	}
	b.press(`input[name=q]`, "librdkafka")
	says("1–50 of 1,250 match, of 5,000 sessions")
	b.until(`document.querySelector("#found[role=status]").textContent === "1–50 of 1,250 match, of 5,000 sessions"`)
	if on := eval[string](b, `document.activeElement.name + "=" + document.activeElement.value`); on != "q=librdkafka" {
		t.Errorf("the focus is on %s", on)
	}
	b.press(`th[data-sort=client] a`, kb.Enter)
	b.until(`document.querySelector("th[data-sort=client]").getAttribute("aria-sort") === "ascending"`)
	b.until(`document.querySelector("[data-table=sessions] tbody th").textContent.startsWith("10.0.0.101:")`)
	if on := eval[string](b, `document.activeElement.textContent`); on != "Client" {
		t.Errorf("the focus is on %s", on)
	}
	b.do(chromedp.KeyEvent(kb.Enter))
	b.until(`document.querySelector("th[data-sort=client]").getAttribute("aria-sort") === "descending"`)
	b.until(`document.querySelector("[data-table=sessions] tbody th").textContent.startsWith("10.0.9.9")`)
	if address := eval[string](b, `location.search + location.hash`); address != "?q=librdkafka&sort=-client#sessions" {
		t.Errorf("the address says %s", address)
	}
	// Who loads the page again, or sends its address, sees the same.
	b.do(chromedp.Reload())
	b.until(`historyAt > 0`)
	says("1–50 of 1,250 match, of 5,000 sessions")
	b.press(`a.all`, kb.Enter)
	says("1–50 of 5,000 sessions")
	b.wantNoProblems()
}

func TestBrowserSendsThePasswordThatThePageWasLoadedWith(t *testing.T) {
	site := newTestSite(t, idleSource())
	site.token.Store("secret")
	b := newBrowser(t, 1280, 900, false)
	b.open(site)
	b.wantNoProblems()
	site.silent.Store(http.StatusUnauthorized) // by certificates
	eval[any](b, `poll()`)
	b.until(`document.querySelector("#silence").textContent.includes("(a login is needed: reload the page)")`)
}

func TestBrowserSaysThatTheProxyDoesNotAnswer(t *testing.T) {
	site := newTestSite(t, idleSource())
	b := newBrowser(t, 1280, 900, false)
	b.open(site)
	site.silent.Store(http.StatusBadGateway)
	b.until(`!document.querySelector("#silence").hidden`)
	said := eval[string](b, `document.querySelector("#silence").textContent`)
	if !strings.HasPrefix(said, "The proxy has not answered since ") || !strings.HasSuffix(said, " UTC (status 502). The values below are of 12:00:00 UTC. Trying again.") {
		t.Errorf("the page says %q", said)
	}
	if waits := eval[[]int](b, `[1, 2, 3, 9].map((n) => { failed = n; return wait(); })`); !slices.Equal(waits, []int{6000, 12000, 24000, 30000}) {
		t.Errorf("it waits for %v ms", waits)
	}
	b.screenshot("silent", chromedp.FullScreenshot(100))
	b.wantAccessible()
	site.silent.Store(0)
	eval[any](b, `poll()`)
	b.until(`document.querySelector("#silence").hidden && !document.body.classList.contains("silent")`)
}

func TestBrowserAsksNothingWhileThePageIsHiddenOrPaused(t *testing.T) {
	site := newTestSite(t, idleSource())
	b := newBrowser(t, 1280, 900, false)
	b.open(site)
	// An answer is waited for within poll, so a question that should not be asked is seen.
	wantQuiet := func(when string) {
		t.Helper()
		b.until(`!polling`)
		before := site.asked.Load()
		if waits := eval[bool](b, `poll().then(() => timer !== null)`); waits {
			t.Errorf("%s: the page is going to ask", when)
		}
		if n := site.asked.Load() - before; n != 0 {
			t.Errorf("%s: the page has asked %d times", when, n)
		}
	}
	wantQuestions := func(when string) {
		t.Helper()
		before := site.asked.Load()
		b.until(`!polling && timer !== null`)
		if site.asked.Load() == before {
			eval[bool](b, `poll().then(() => true)`)
		}
		if site.asked.Load() == before {
			t.Errorf("%s: the page asks nothing", when)
		}
	}
	b.press(`#pause`, " ")
	b.until(`document.querySelector("#pause").getAttribute("aria-pressed") === "true"`)
	wantQuiet("paused")
	b.press(`#pause`, " ")
	wantQuestions("no longer paused")

	b.hide(true)
	wantQuiet("hidden")
	b.hide(false)
	wantQuestions("shown again")
	b.wantNoProblems()
}

// The colours of the plots follow the reader's, too.
func TestBrowserDrawsPlotsInTheColoursOfThePage(t *testing.T) {
	site := newTestSite(t, busySource(3))
	b := newBrowser(t, 1280, 900, false)
	b.open(site)
	const line = `plots[0].chart.series[1].stroke()`
	light := eval[string](b, line)
	b.do(colours("dark"))
	b.until(fmt.Sprintf(`%s !== %q && %s === getComputedStyle(document.documentElement).getPropertyValue("--plot-1").trim()`, line, light, line))
	if n := eval[int](b, `document.querySelectorAll("#plots canvas").length`); n != 5 {
		t.Errorf("there are %d plots", n)
	}
	if said := eval[string](b, `document.querySelector("#plots .legend li").textContent`); !strings.Contains(said, "to brokers") || !strings.Contains(said, "MB/s, max") {
		t.Errorf("the legend says %q", said)
	}
	b.wantNoProblems()
}

// The picture in docs/status-page.md.
func TestBrowserPicture(t *testing.T) {
	if os.Getenv("KAFKA_SNI_PROXY_SCREENSHOTS") == "" {
		t.Skip("no picture is wanted")
	}
	site := newTestSite(t, busySource(40))
	b := newBrowser(t, 1280, 1680, false)
	b.open(site)
	b.screenshot("status-page", chromedp.CaptureScreenshot())
}
