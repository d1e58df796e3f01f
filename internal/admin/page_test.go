package admin

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// The page shows what the API tells, and to those only who may ask the API.
func TestTheStatusPageIsShownToWhoMayAsk(t *testing.T) {
	closed := Handler(busy(), Options{Access: Access{Token: func() string { return "secret" }}})
	get := func(h http.Handler, path, password string) (int, string) {
		r := httptest.NewRequest("GET", path, nil)
		if password != "" {
			r.SetBasicAuth("anybody", password)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	status, html := get(Handler(busy(), Options{}), "/", "")
	if status != http.StatusOK || !strings.Contains(html, "<h1") {
		t.Fatalf("status %d: %s", status, html)
	}
	for _, want := range []string{"10.0.0.9:1000", "Cluster orders", "connection refused", "a hint", "&lt;script&gt;"} {
		if !strings.Contains(html, want) {
			t.Errorf("the page does not have %s", want)
		}
	}
	paths := []string{"/"}
	for _, m := range regexp.MustCompile(`"(/assets/[^"]+)"`).FindAllStringSubmatch(html, -1) {
		paths = append(paths, m[1])
	}
	if len(paths) < 5 {
		t.Errorf("the page loads %v", paths)
	}
	for _, path := range paths {
		if status, _ := get(closed, path, ""); status != http.StatusUnauthorized {
			t.Errorf("%s without a token: status %d", path, status)
		}
		if status, _ := get(closed, path, "secret"); status != http.StatusOK {
			t.Errorf("%s with the token as password: status %d", path, status)
		}
	}
	if status, _ := get(Handler(busy(), Options{}), "/other", ""); status != http.StatusNotFound {
		t.Errorf("/other: status %d", status)
	}
}
