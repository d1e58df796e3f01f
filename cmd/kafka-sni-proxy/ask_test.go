package main

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"kafka-sni-proxy/internal/api"
	"kafka-sni-proxy/internal/api/apitest"
)

// askProxy runs a command against a proxy, and returns what it says.
func askProxy(t *testing.T, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	exit, stdout, stderr := runIn(t, t.TempDir(), append([]string{"kafka-sni-proxy"}, args...)...)
	if exit != want {
		t.Errorf("%q: exit code %d, want %d:\n%s%s", args, exit, want, stdout, stderr)
	}
	return stdout, stderr
}

// serveAPI starts a proxy, and returns its address.
func serveAPI(t *testing.T) (*apitest.Proxy, string) {
	t.Helper()
	proxy := apitest.New()
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	return proxy, strings.TrimPrefix(server.URL, "http://")
}

func TestStatusSaysWhatIsWrongFirst(t *testing.T) {
	proxy, address := serveAPI(t)
	stdout, _ := askProxy(t, exitOK, "status", "--admin", address)
	lines := strings.Split(stdout, "\n")
	if !strings.HasPrefix(lines[1], "failed   cluster audit: no broker can be reached") || !strings.Contains(lines[2], "→ nobody listens there") || strings.Contains(stdout, "\x1b") {
		t.Errorf("does not say what is wrong:\n%s", stdout)
	}
	if _, stderr := askProxy(t, exitRuntime, "status", "--admin", address, "--check"); stderr != "" {
		t.Errorf("the report is said twice: %s", stderr)
	}
	stdout, _ = askProxy(t, exitRuntime, "status", "--admin", address, "--check", "--json")
	var s api.Status
	check(t, json.Unmarshal([]byte(stdout), &s))
	if s.Host != "gate-1" || !strings.Contains(stdout, "\n  \"version\": \"1.4.0\",\n") {
		t.Errorf("is not the answer, indented:\n%s", stdout)
	}
	proxy.Change(func(p *apitest.Proxy) {
		p.Clusters.Clusters, p.Status.Reload.Problems, p.Status.Certificates = p.Clusters.Clusters[1:], nil, nil
	})
	askProxy(t, exitOK, "status", "--admin", address, "--check") // a note is nothing wrong
}

func TestRoutesAreThoseOfTheCluster(t *testing.T) {
	_, address := serveAPI(t)
	stdout, _ := askProxy(t, exitOK, "routes", "--admin", address)
	if lines := strings.Split(strings.TrimSpace(stdout), "\n"); len(lines) != 5 || !strings.HasPrefix(lines[4], "orders      2  b2.orders.kafka.example  b2.orders.internal:9093  ok") {
		t.Errorf("of all clusters:\n%s", stdout)
	}
	stdout, _ = askProxy(t, exitOK, "routes", "--admin", address, "--cluster", "audit", "--json")
	var got api.Clusters
	check(t, json.Unmarshal([]byte(stdout), &got))
	if len(got.Clusters) != 1 || got.Clusters[0].Name != "audit" {
		t.Errorf("of one cluster:\n%s", stdout)
	}
	if _, stderr := askProxy(t, exitRuntime, "routes", "--admin", address, "--cluster", "order"); !strings.Contains(stderr, "did you mean orders?") {
		t.Error(stderr)
	}
}

func TestSessionsAreFilteredAndSortedByTheProxy(t *testing.T) {
	proxy, address := serveAPI(t)
	stdout, stderr := askProxy(t, exitOK, "sessions", "--admin", address, "--filter", "Writer", "--cluster", "orders", "--state", "open", "--sort", "-rate", "--limit", "3")
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[1], "1024  ") || !strings.HasPrefix(lines[3], "1022  ") {
		t.Errorf("%d lines:\n%s", len(lines), stdout)
	}
	if stderr != "3 of 25 sessions are shown: --all shows all, --limit more\n" {
		t.Error(stderr)
	}
	asked := proxy.Asked()
	if want := "/api/v1/sessions?cluster=orders&limit=3&q=Writer&sort=-rate&state=open"; !slices.Contains(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
	if _, stderr := askProxy(t, exitRuntime, "sessions", "--admin", address, "--cluster", "ordres"); !strings.Contains(stderr, "did you mean orders?") {
		t.Error(stderr)
	}
}

// What a client has sent is not done by the terminal of whoever looks at it.
func TestSessionsAreCleanedOfControlCharacters(t *testing.T) {
	_, address := serveAPI(t)
	for _, args := range [][]string{{"sessions"}, {"sessions", "--json"}} {
		stdout, _ := askProxy(t, exitOK, append(args, "--admin", address)...)
		if strings.ContainsFunc(stdout, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Errorf("%q: is not clean: %q", args, stdout)
		}
		if !strings.Contains(stdout, "owned") {
			t.Errorf("%q: the session is not there:\n%s", args, stdout)
		}
	}
	stdout, _ := askProxy(t, exitOK, "sessions", "--admin", address, "--json")
	var got api.Sessions
	check(t, json.Unmarshal([]byte(stdout), &got))
	if !slices.ContainsFunc(got.Sessions, func(s api.Session) bool { return s.ClientID == apitest.Hostile }) {
		t.Error("as JSON, the client id is another one")
	}
}

// More than a page are asked for page by page, and each is there once although they change.
func TestSessionsOfAllPages(t *testing.T) {
	proxy, address := serveAPI(t)
	proxy.Change(func(p *apitest.Proxy) {
		p.Sessions = nil
		for i := range 2500 {
			p.Sessions = append(p.Sessions, api.Session{ID: uint64(i), Client: fmt.Sprintf("10.0.0.1:%d", i), State: "open"})
		}
		p.Sessions[1500].ID = 7 // as one that has moved to the next page
	})
	for _, c := range []struct {
		args  []string
		want  int
		asked int
	}{{[]string{"--all"}, 2499, 3}, {[]string{"--limit=1200"}, 1200, 2}, {nil, 100, 1}} {
		proxy.Asked()
		stdout, _ := askProxy(t, exitOK, append([]string{"sessions", "--json", "--sort=client", "--admin", address}, c.args...)...)
		var got api.Sessions
		check(t, json.Unmarshal([]byte(stdout), &got))
		seen, asked := map[uint64]bool{}, len(proxy.Asked())
		for _, s := range got.Sessions {
			seen[s.ID] = true
		}
		if len(got.Sessions) != c.want || len(seen) != c.want || got.Total != 2500 || asked != c.asked {
			t.Errorf("%q: %d sessions, %d different, of %d, asked %d times", c.args, len(got.Sessions), len(seen), got.Total, asked)
		}
	}
}

func TestAskingFindsTheAdminPort(t *testing.T) {
	_, address := serveAPI(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "proxy.yaml")
	config := "listeners: [{bind: '127.0.0.1:0', certificates: [{cert: server.pem, key: server_key.pem}]}]\nclusters: {orders: {sni-suffix: kafka.example, upstream: ['127.0.0.1:1']}}\n"
	check(t, os.WriteFile(file, []byte(config+"admin: {bind: '"+address+"'}\n"), 0o644))
	askProxy(t, exitOK, "routes", "--admin-bind", address)
	askProxy(t, exitOK, "routes", "--config", file)
	askProxy(t, exitOK, "routes", "--admin", "http://"+address+"/")
	askProxy(t, exitOK, "routes", "--admin", address, "--admin-bind", "127.0.0.1:1") // --admin wins
	t.Setenv("KAFKA_SNI_PROXY_CERT", "of the proxy, which is no concern of ours")
	t.Setenv("KAFKA_SNI_PROXY_ADMIN_BIND", address)
	askProxy(t, exitOK, "routes")
}

func TestAskingSaysWhatIsWrongWithFlags(t *testing.T) {
	for _, c := range []struct {
		args string
		want []string
	}{
		{"status", []string{"--admin: is missing"}},
		{"status --admn 127.0.0.1:1", []string{"did you mean --admin?"}},
		{"status --admin nowhere", []string{`--admin: "nowhere" is not address:port`}},
		{"status --admin ftp://127.0.0.1:1", []string{"neither host:port nor http://host:port"}},
		{"status --admin http://127.0.0.1:1 --cert a.pem", []string{"begins with http://", "--cert, --key: go together"}},
		{"status --admin 127.0.0.1:1 --token-file nosuch --ca-certs nosuch", []string{"--token-file: the file cannot be read", "--ca-certs: "}},
		{"status --config nosuch.yaml", []string{"nosuch.yaml does not exist"}},
		{"status --filter a --admin 127.0.0.1:1", []string{"--filter: there is no such flag"}},
		{"sessions --admin 127.0.0.1:1 --sort byte --state opn --limit 0", []string{"did you mean bytes?", "did you mean open?", "--limit: has to be 1 or more"}},
		{"sessions --admin 127.0.0.1:1 --sort nothing-like-it", []string{"there are age, client, sni"}},
		{"sessions --admin 127.0.0.1:1 --all --limit 3", []string{"contradict each other"}},
		{"top --admin 127.0.0.1:1 --interval 1ms", []string{"--interval: has to be 500ms to 1h"}},
		{"top --admin 127.0.0.1:1", []string{"needs a terminal", "kafka-sni-proxy sessions"}},
		{"sesions", []string{"did you mean kafka-sni-proxy sessions?"}},
		{"status routes", []string{"there is no such command"}},
	} {
		_, stderr := askProxy(t, exitUsage, strings.Fields(c.args)...)
		for _, want := range c.want {
			if !strings.Contains(stderr, want) {
				t.Errorf("%s: no %q in:\n%s", c.args, want, stderr)
			}
		}
	}
}

func TestAskingSaysWhyThereIsNoAnswer(t *testing.T) {
	proxy, address := serveAPI(t)
	proxy.Change(func(p *apitest.Proxy) { p.Token = "secret" })
	nobody := fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1))
	dir := t.TempDir()
	for name, text := range map[string]string{"right": "secret\n", "wrong": "guessed\n", "two": "a b\n"} {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	for _, command := range []string{"status", "routes", "sessions"} {
		for _, c := range []struct{ args, want string }{
			{"--admin " + nobody, "connection refused: see that the proxy runs, with this admin port (--admin-bind)"},
			{"--admin " + address, "wants a token: a token is wanted (Bearer realm=\"admin port\"): give it with --token-file"},
			{"--admin " + address + " --token-file " + filepath.Join(dir, "wrong"), "the one in --token-file is not the one that the proxy was given"},
			{"--admin https://" + address, "TLS: what answers there does not speak it"},
		} {
			_, stderr := askProxy(t, exitRuntime, append([]string{command}, strings.Fields(c.args)...)...)
			if !strings.Contains(stderr, c.want) || strings.Contains(stderr, "guessed") {
				t.Errorf("%s %s: no %q in: %s", command, c.args, c.want, stderr)
			}
		}
		askProxy(t, exitOK, command, "--admin", address, "--token-file", filepath.Join(dir, "right"))
	}
	if _, stderr := askProxy(t, exitUsage, "status", "--admin", address, "--token-file", filepath.Join(dir, "two")); !strings.Contains(stderr, "does not hold a token on one line") {
		t.Error(stderr)
	}
}

func TestAskingSpeaksTLS(t *testing.T) {
	server := httptest.NewTLSServer(apitest.New())
	defer server.Close()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	check(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o644))
	address := strings.TrimPrefix(server.URL, "https://")
	askProxy(t, exitOK, "status", "--admin", address, "--ca-certs", ca)
	askProxy(t, exitOK, "status", "--admin", server.URL, "--ca-certs", ca)
	if _, stderr := askProxy(t, exitRuntime, "status", "--admin", server.URL); !strings.Contains(stderr, "unknown authority: see --ca-certs") {
		t.Error(stderr)
	}
	if _, stderr := askProxy(t, exitRuntime, "status", "--admin", address); !strings.Contains(stderr, "speaks TLS: give --ca-certs, or --admin https://"+address) {
		t.Error(stderr)
	}
}

func TestShellsCompleteWhatSessionsTakes(t *testing.T) {
	stdout, _ := askProxy(t, exitOK, "__complete", "sessions", "--sort", "in")
	if !strings.HasPrefix(stdout, "in-flight\n:") {
		t.Error(stdout)
	}
	stdout, _ = askProxy(t, exitOK, "__complete", "sessions", "--fil")
	if !strings.Contains(stdout, "--filter") {
		t.Error(stdout)
	}
}
