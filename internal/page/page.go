// Package page is the status page of the admin port: what [api] tells, in a browser. It says
// first what is wrong, since when, and on whose side.
//
// page.go serves it, view.go says what is shown, format.go how numbers and times are written,
// layout.go makes markup of it, in the places of web/page.html. The page is complete without script; web/page.js keeps it up to
// date by /api/v1/.
package page

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"

	"kafka-sni-proxy/internal/api"
)

// Source is what the page tells. The history is for its script, from the API.
type Source interface {
	Status() api.Status
	Clusters() api.Clusters
	Sessions(api.SessionQuery) api.Sessions
	Failures() api.Failures
}

// web has the page's layout, and what the page loads.
//
//go:embed web/page.html web/cluster.html web/page.js web/style.css web/uplot/uPlot.min.css web/uplot/uPlot.iife.min.js web/uplot/LICENSE
var web embed.FS

// assets are the files that the page loads or links to, by the names that they have below /assets/.
var assets = map[string]string{
	"style.css": "web/style.css",
	"page.js":   "web/page.js",
	"uplot.css": "web/uplot/uPlot.min.css",
	"uplot.js":  "web/uplot/uPlot.iife.min.js",

	"uplot-license.txt": "web/uplot/LICENSE",
}

// contentPolicy lets the page load its own files and ask its own server, and nothing else:
// no inline script, no inline style, no frame around it.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// Handler answers GET / with the status page, and GET /assets/ with what it loads.
//
// What clients have sent is text everywhere: layout.go escapes it here, and page.js sets
// text and never markup. The policy above is the second line of defence.
func Handler(s Source) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusOK
		query, err := pageQuery(r)
		if err != nil {
			status = http.StatusBadRequest
		}
		v := newView(s, query, err)
		html := []byte(loaded().page(&v))
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		body := encoded{plain: html}
		if acceptsGzip(r) {
			body.gzip = compress(body.plain)
		}
		body.write(w, r, status)
	})
	mux.HandleFunc("GET /assets/{name}", func(w http.ResponseWriter, r *http.Request) {
		file, ok := loaded().files[r.PathValue("name")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		// During an upgrade the page may be of one version and this process of another:
		// such a file is answered, and not kept.
		caching := "no-cache"
		if r.URL.Query().Get("v") == file.hash {
			caching = "private, max-age=31536000, immutable"
		}
		w.Header().Set("Content-Type", file.mediaType)
		w.Header().Set("Cache-Control", caching)
		file.write(w, r, http.StatusOK)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		mux.ServeHTTP(w, r)
	})
}

// sessionsPerPage is how many sessions the page shows unless it is asked for more.
const sessionsPerPage = 50

// pageQuery returns which sessions the page is to show: the first ones if that was asked
// wrongly, with what is wrong.
func pageQuery(r *http.Request) (api.SessionQuery, error) {
	values := r.URL.Query()
	if values.Get("limit") == "" {
		values.Set("limit", strconv.Itoa(sessionsPerPage))
	}
	query, err := api.ParseSessionQuery(values)
	if err != nil {
		query = api.SessionQuery{Sort: defaultSort, Limit: sessionsPerPage}
	}
	return query, err
}

// encoded is a body, as it is and, where that is wanted, compressed.
type encoded struct{ plain, gzip []byte }

func (e encoded) write(w http.ResponseWriter, r *http.Request, status int) {
	body := e.plain
	w.Header().Set("Vary", "Accept-Encoding")
	if e.gzip != nil && acceptsGzip(r) {
		w.Header().Set("Content-Encoding", "gzip")
		body = e.gzip
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}

func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, quality, _ := strings.Cut(coding, ";")
		if strings.TrimSpace(name) == "gzip" {
			return strings.TrimRight(strings.ReplaceAll(quality, " ", ""), "0.") != "q="
		}
	}
	return false
}

func compress(plain []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(plain) // into memory, where it cannot fail
	w.Close()
	return b.Bytes()
}

// asset is a file that the page loads.
type asset struct {
	encoded
	mediaType string
	hash      string // of its content
}

// layouts are what the page is made from.
type layouts struct {
	whole, one string
	files      map[string]asset
}

// loaded returns them. They are made when somebody asks for the page for the first time: a
// proxy at which nobody looks has none of it in memory.
var loaded = sync.OnceValue(func() *layouts {
	return &layouts{whole: mustRead("web/page.html"), one: mustRead("web/cluster.html"), files: loadAssets()}
})

func mustRead(file string) string {
	content, err := web.ReadFile(file)
	if err != nil {
		panic(err) // it is part of the program
	}
	return string(content)
}

func loadAssets() map[string]asset {
	files := map[string]asset{}
	for name, file := range assets {
		content := []byte(mustRead(file))
		sum := sha256.Sum256(content)
		files[name] = asset{
			encoded:   encoded{plain: content, gzip: compress(content)},
			mediaType: mediaTypes[path.Ext(name)],
			hash:      hex.EncodeToString(sum[:8]),
		}
	}
	return files
}

// mediaTypes do not depend on the machine's own tables, as those of package mime do.
var mediaTypes = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".txt": "text/plain; charset=utf-8"}
