package api_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"kafka-sni-proxy/internal/api"
	"kafka-sni-proxy/internal/api/apitest"
)

func TestClientAsksForEverything(t *testing.T) {
	proxy := apitest.New()
	proxy.Token = "secret"
	server := httptest.NewServer(proxy)
	defer server.Close()
	c := &api.Client{Base: server.URL, Token: "secret"}
	ctx := t.Context()
	s, err := c.Status(ctx)
	if err != nil || s.Host != "gate-1" || s.Rates.Added.P50 != 11e-6 {
		t.Errorf("%+v, %v", s, err)
	}
	if clusters, err := c.Clusters(ctx); err != nil || len(clusters.Clusters) != 2 || *clusters.Clusters[1].Brokers[1].Node != 1 {
		t.Errorf("%+v, %v", clusters, err)
	}
	if sessions, err := c.Sessions(ctx, api.SessionQuery{Text: "WRITER", Sort: "-rate", Offset: 1, Limit: 2}); err != nil || sessions.Matching != 25 || len(sessions.Sessions) != 2 || sessions.Sessions[0].ID != 1023 {
		t.Errorf("%+v, %v", sessions, err)
	}
	if failures, err := c.Failures(ctx); err != nil || len(failures.Failures) != 2 {
		t.Errorf("%+v, %v", failures, err)
	}
	if history, err := c.History(ctx, "orders"); err != nil || history.Cluster != "orders" || history.Columns["connections"][0] != nil {
		t.Errorf("%+v, %v", history, err)
	}
	want := []string{"/api/v1/status", "/api/v1/clusters", "/api/v1/sessions?limit=2&offset=1&q=WRITER&sort=-rate", "/api/v1/failures", "/api/v1/history?cluster=orders"}
	if asked := proxy.Asked(); !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
}

// answering is a server that says the same to everybody.
func answering(t *testing.T, start func(http.Handler) *httptest.Server, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := start(handler)
	server.Config.ErrorLog = nil
	t.Cleanup(server.Close)
	return server
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
}

func TestClientSaysWhyThereIsNoAnswer(t *testing.T) {
	nobody := httptest.NewServer(nil)
	nobody.Close()
	guarded := apitest.New()
	guarded.Token = "secret"
	wrongPlace := answering(t, httptest.NewServer, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, nobody.URL, http.StatusFound) })
	withTLS := answering(t, httptest.NewTLSServer, apitest.New().ServeHTTP)
	trusted := x509.NewCertPool()
	trusted.AddCert(withTLS.Certificate())
	mutual := httptest.NewUnstartedServer(apitest.New())
	mutual.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	mutual.StartTLS()
	defer mutual.Close()
	both := x509.NewCertPool()
	both.AddCert(mutual.Certificate())
	for name, c := range map[string]struct {
		base, token string
		tls         *tls.Config
		want        error
		text        string
	}{
		"nobody listens":         {base: nobody.URL, want: api.ErrUnreachable, text: "connection refused"},
		"no API":                 {base: answering(t, httptest.NewServer, http.NotFound).URL, want: api.ErrNotAdmin, text: "404 Not Found"},
		"no JSON":                {base: answering(t, httptest.NewServer, says("<html>")).URL, want: api.ErrNotAdmin, text: "no JSON"},
		"other JSON":             {base: answering(t, httptest.NewServer, says(`{"listeners": 3}`)).URL, want: api.ErrNotAdmin, text: "cannot unmarshal"},
		"nothing":                {base: answering(t, httptest.NewServer, says("")).URL, want: api.ErrNotAdmin, text: "no JSON"},
		"elsewhere":              {base: wrongPlace.URL, want: api.ErrNotAdmin, text: "302 Found"},
		"no HTTP":                {base: "http://" + greeting(t, "220 mail.example ESMTP\r\n"), want: api.ErrNotAdmin, text: "does not speak HTTP"},
		"no token":               {base: answering(t, httptest.NewServer, guarded.ServeHTTP).URL, want: api.ErrUnauthorized, text: `a token is wanted (Bearer realm="admin port")`},
		"TLS, unexpected":        {base: "http" + strings.TrimPrefix(withTLS.URL, "https"), want: api.ErrSpeaksTLS},
		"TLS, not trusted":       {base: withTLS.URL, want: api.ErrTLS, text: "unknown authority"},
		"TLS, certificate wants": {base: mutual.URL, tls: &tls.Config{RootCAs: both}, want: api.ErrTLS, text: "certificate required"},
		"no TLS":                 {base: "https" + strings.TrimPrefix(wrongPlace.URL, "http"), want: api.ErrTLS, text: "does not speak it"},
		"refused": {base: answering(t, httptest.NewServer, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, `{"error": "too many questions"}`)
		}).URL, want: api.ErrRefused, text: "too many questions"},
		"too long": {base: answering(t, httptest.NewServer, func(w http.ResponseWriter, _ *http.Request) {
			for block := make([]byte, 1<<20); ; {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}).URL, want: api.ErrNotAdmin, text: "longer than 1 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			client := &api.Client{Base: c.base, Token: c.token, HTTP: api.NewHTTP(c.tls)}
			client.Bound(1 << 20)
			_, err := client.Status(t.Context())
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v, want %v with %q", err, c.want, c.text)
			}
		})
	}
	if _, err := (&api.Client{Base: withTLS.URL, HTTP: api.NewHTTP(&tls.Config{RootCAs: trusted})}).Status(t.Context()); err != nil {
		t.Errorf("with TLS: %v", err)
	}
}

// greeting is the address of a server that speaks first, and no HTTP.
func greeting(t *testing.T, text string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 1)) // or the connection would count as one that was not used yet
			io.WriteString(conn, text)
			conn.Close()
		}
	}()
	return ln.Addr().String()
}

// An answer that does not come ends with the context, and says that it did not come.
func TestClientDoesNotWaitLongerThanItsContext(t *testing.T) {
	asked := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	defer server.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-asked
		cancel(errors.New("enough"))
	}()
	if _, err := (&api.Client{Base: server.URL}).Status(ctx); !errors.Is(err, api.ErrUnreachable) || !strings.Contains(err.Error(), "enough") {
		t.Error(err)
	}
}
