package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kafka-sni-proxy/internal/api"
	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/kafkatest"
)

// ask asks the API.
func ask[T any](t *testing.T, p *program, path string) (value T) {
	t.Helper()
	status, body := p.get(api.Prefix + path)
	if status != 200 {
		t.Fatalf("%s: %d %s", path, status, body)
	}
	read := json.NewDecoder(strings.NewReader(body))
	read.DisallowUnknownFields()
	if err := read.Decode(&value); err != nil {
		t.Fatalf("%s: %v: %s", path, err, body)
	}
	return value
}

// TestTheAPITellsWhatIsThere has a client at work, one that was refused, and a file that
// cannot be used.
func TestTheAPITellsWhatIsThere(t *testing.T) {
	c := newCluster(t)
	p := launch(t, c.dir, "--upstream", c.upstream, "--hosts-file", "hosts", "--upstream-ca-certs", "upstream_ca.pem", "--max-connections", "7")
	conn := p.connect(false)
	check(t, c.roundTrip(t, conn))
	if conn, err := tls.Dial("tcp", p.listen, &tls.Config{ServerName: "elsewhere.example", InsecureSkipVerify: true}); err == nil {
		conn.Close()
		t.Error("a name that is not served was")
	}
	p.await("phase=route")
	check(t, os.WriteFile(filepath.Join(c.dir, "hosts.new"), []byte("nowhere"), 0o600), os.Rename(filepath.Join(c.dir, "hosts.new"), filepath.Join(c.dir, "hosts")))
	p.await("level=ERROR .*--hosts-file")
	p.wantMetrics("kafka_sni_proxy_reload_problems 1")

	st := ask[api.Status](t, p, "status")
	if st.State != "serving" || st.Connections.Open != 1 || st.Connections.Most != 7 || st.Connections.Failed["route"] != 1 || st.PID != p.now.Pid || st.HandOver != nil || st.Configuration != "" {
		t.Errorf("%+v", st)
	}
	if l := st.Listeners; len(l) != 1 || l[0].Address != p.listen || l[0].Connections != 1 || l[0].Bootstrap[0] != "bootstrap."+suffix+":"+strings.Split(p.listen, ":")[1] || l[0].Mode != "sni" || !l[0].TLS {
		t.Errorf("%+v", l)
	}
	if certificates := st.Certificates; len(certificates) != 1 || certificates[0].Use != "listener" || certificates[0].File != "server.pem" || len(certificates[0].Fingerprint) != 64 || certificates[0].Warning != "" {
		t.Errorf("%+v", certificates)
	}
	if r := st.Reload; len(r.Problems) != 1 || r.Problems[0].Setting != "--hosts-file" || !strings.Contains(r.Problems[0].Error, "not an address") || time.Since(r.Problems[0].Since) > time.Minute || len(r.Events) != 1 || r.Events[0].Failed[0] != "--hosts-file" {
		t.Errorf("%+v", r)
	}
	clusters := ask[api.Clusters](t, p, "clusters").Clusters
	if len(clusters) != 1 || clusters[0].Name != "kafka" || clusters[0].Health != "ok" || clusters[0].Connections != 1 || clusters[0].Brokers[0].Connections != 1 || clusters[0].APIs[0].API != "Heartbeat" {
		t.Errorf("%+v", clusters)
	}
	sessions := ask[api.Sessions](t, p, "sessions?cluster=kafka")
	if sessions.Matching != 1 || sessions.Sessions[0].Client != conn.LocalAddr().String() || sessions.Sessions[0].Requests != 1 || sessions.Sessions[0].SNI != "bootstrap."+suffix || sessions.Sessions[0].TLS != "TLS 1.3" {
		t.Errorf("%+v", sessions)
	}
	failures := ask[api.Failures](t, p, "failures").Failures
	if len(failures) != 1 || failures[0].Phase != "route" || failures[0].SNI != "elsewhere.example" || failures[0].Remedy == "" {
		t.Errorf("%+v", failures)
	}
	support := ask[api.Support](t, p, "support")
	if !strings.Contains(support.Configuration, "sni-suffix: "+suffix) || !strings.Contains(strings.Join(support.Log, "\n"), "phase=route") {
		t.Errorf("%+v", support)
	}
}

// TestTheAdminPortAsksWhoItIs speaks TLS to it, with a token and with certificates, and
// replaces the token.
func TestTheAdminPortAsksWhoItIs(t *testing.T) {
	c := newCluster(t)
	token := filepath.Join(c.dir, "token")
	put := func(text string) {
		check(t, os.WriteFile(token+".new", []byte(text), 0o600), os.Rename(token+".new", token))
	}
	put("the-first-token-there-is\n")
	p := launch(t, c.dir, "--upstream", c.upstream, "--hosts-file", "hosts", "--upstream-ca-certs", "upstream_ca.pem",
		"--admin-token-file", "token", "--admin-cert", "server.pem", "--admin-key", "server_key.pem", "--admin-client-ca-certs", "ca.pem", "--admin-pprof")
	roots, err := certs.LoadPool(filepath.Join(c.dir, "ca.pem"))
	check(t, err)
	get := func(path, token string, shown ...tls.Certificate) int {
		t.Helper()
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "bootstrap." + suffix, Certificates: shown}}}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, "GET", strings.Replace(p.admin, "http:", "https:", 1)+path, nil)
		check(t, err)
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		answer, err := client.Do(r)
		if err != nil {
			t.Log(err)
			return 0
		}
		defer answer.Body.Close()
		io.Copy(io.Discard, answer.Body)
		return answer.StatusCode
	}
	want := func(what string, got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	ours, theirs := authorityIn(t, c.dir), authorityIn(t, renewed(t))
	want("nothing shown", get("/metrics", ""), 401)
	want("a probe", get("/healthz", ""), 200)
	want("the token", get("/api/v1/status", "the-first-token-there-is"), 200)
	want("a certificate", get("/metrics", "", ours.client(t, 5)), 200)
	want("a certificate of others, which the client does not even show", get("/metrics", "", theirs.client(t, 6)), 401)
	want("profiles", get("/debug/pprof/", "the-first-token-there-is"), 200)
	if status, err := http.Get(p.admin + "/healthz"); err == nil && status.StatusCode == 200 {
		t.Error("it speaks plaintext")
	}

	if code, out, errs := runIn(t, c.dir, "kafka-sni-proxy", "healthcheck", "--admin-bind", strings.TrimPrefix(p.admin, "http://")); code != 0 || out != "ok\n" {
		t.Errorf("healthcheck: %d %s%s", code, out, errs)
	}
	if code, out, errs := runIn(t, c.dir, "kafka-sni-proxy", "status", "--admin", "localhost:"+p.admin[strings.LastIndex(p.admin, ":")+1:], "--ca-certs", "ca.pem", "--token-file", "token"); code != 0 || !strings.Contains(out, "bootstrap."+suffix) {
		t.Errorf("status: %d %s%s", code, out, errs)
	}

	put("another-token-than-before")
	p.await("reloaded.* setting=--admin-token-file")
	want("the old token", get("/metrics", "the-first-token-there-is"), 401)
	want("the new one", get("/metrics", "another-token-than-before"), 200)
	put("short")
	p.await("level=ERROR .*setting=--admin-token-file.*has 5 characters")
	want("the one before a bad one", get("/metrics", "another-token-than-before"), 200)
	if strings.Contains(p.log.String(), "another-token") || strings.Contains(p.log.String(), "the-first-token") {
		t.Error("the token is in the log")
	}
}

// TestTheAdminPortSpeaksToClientsThatResume has one that would resume its TLS session, as
// browsers and curl would: it is served, and anew each time.
func TestTheAdminPortSpeaksToClientsThatResume(t *testing.T) {
	c := newCluster(t)
	p := launch(t, c.dir, "--upstream", c.upstream, "--hosts-file", "hosts", "--upstream-ca-certs", "upstream_ca.pem", "--admin-cert", "server.pem", "--admin-key", "server_key.pem")
	roots, err := certs.LoadPool(filepath.Join(c.dir, "ca.pem"))
	check(t, err)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
			RootCAs: roots, ServerName: "bootstrap." + suffix, ClientSessionCache: tls.NewLRUClientSessionCache(4), MaxVersion: version}}}
		for range 3 {
			answer, err := client.Get(strings.Replace(p.admin, "http:", "https:", 1) + "/healthz")
			if err != nil {
				t.Fatalf("%s: %v", tls.VersionName(version), err)
			}
			answer.Body.Close()
			if answer.StatusCode != 200 || answer.TLS.DidResume {
				t.Errorf("%s: %d, resumed %v", tls.VersionName(version), answer.StatusCode, answer.TLS.DidResume)
			}
		}
	}
}

// TestWarningsAreOfWhatIsSoNow has a certificate renewed, and then the configuration changed.
func TestWarningsAreOfWhatIsSoNow(t *testing.T) {
	r := newRealm(t)
	cluster := r.cluster("orders", 1)
	file := fmt.Sprintf("listeners: [{bind: 127.0.0.1:0, certificates: [{cert: server.pem, key: server_key.pem}]}]\nadmin: {bind: 0.0.0.0:0}\n"+
		"clusters: {orders: {sni-suffix: kafka.example, upstream: [%q], upstream-tls: {ca-certs: orders-ca.pem}, hosts-file: hosts}}\n", cluster.Bootstrap())
	r.write("proxy.yaml", file)
	p := r.launch()
	warnings := func() (all string) {
		status, body := p.get(api.Prefix + "status")
		var st api.Status
		if err := json.Unmarshal([]byte(body), &st); status != 200 || err != nil {
			t.Fatalf("%d %v %s", status, err, body)
		}
		return strings.Join(st.Warnings, "\n")
	}
	const expires, isOpen = "server.pem expires on", "everybody who can reach it"
	want := func(when string, wanted ...string) {
		t.Helper()
		got := warnings()
		for _, text := range wanted {
			if !strings.Contains(got, text) {
				t.Errorf("%s there is no %q in %q", when, text, got)
			}
		}
	}
	want("at the start", expires, isOpen)
	r.write("proxy.yaml", file+"log: {level: debug}\n")
	p.await("the configuration is in use")
	want("after another change", expires, isOpen)
	cert, key := kafkatest.PEM(r.ca.ServerUntil(time.Now().AddDate(1, 0, 0), "*.kafka.example"))
	r.write("server.pem", string(cert))
	r.write("server_key.pem", string(key))
	waitFor(t, func() bool { return !strings.Contains(warnings(), expires) }, "a renewed certificate is not warned about")
	want("in the end", isOpen)
}

// TestAnOpenAdminPortIsWarnedOf, unless it is on loopback.
func TestAnOpenAdminPortIsWarnedOf(t *testing.T) {
	for _, test := range []struct {
		files *adminFiles
		want  string
	}{
		{&adminFiles{}, ""},
		{adminOf("127.0.0.1:9090", "", "", ""), ""},
		{adminOf("[::1]:9090", "", "", ""), ""},
		{adminOf("localhost:9090", "", "", ""), ""},
		{adminOf("0.0.0.0:9090", "", "", ""), "everybody who can reach it sees"},
		{adminOf(":9090", "", "", ""), "everybody who can reach it sees"},
		{adminOf("10.0.0.1:9090", "token", "", ""), "crosses the network in plaintext"},
		{adminOf("10.0.0.1:9090", "token", "cert", ""), ""},
		{adminOf("10.0.0.1:9090", "", "cert", "ca"), ""},
		{adminOf("10.0.0.1:9090", "", "cert", ""), "everybody who can reach it sees"},
	} {
		got := strings.Join(test.files.warnings(), "\n")
		if test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("%+v: %q, want %q", test.files.config, got, test.want)
		}
	}
}

func adminOf(bind, token, cert, ca string) *adminFiles {
	f := &adminFiles{}
	f.config.Bind, f.config.TokenFile, f.config.Cert, f.config.ClientCACerts = bind, token, cert, ca
	return f
}

func TestTokens(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	for text, want := range map[string]string{
		"0123456789abcdef":              "",
		"  0123456789abcdef \r\n":       "",
		"0123456789abcde":               "has 15 characters: a token has 16 or more",
		"":                              "has 0 characters",
		"0123456789abcdef 01234":        "one line of printable ASCII",
		"0123456789abcdef\nsecond":      "one line of printable ASCII",
		"0123456789abcdefé":             "one line of printable ASCII",
		strings.Repeat("x", 2*maxToken): "up to 4096 characters",
	} {
		check(t, os.WriteFile(file, []byte(text), 0o600))
		token, err := loadToken(file)
		switch {
		case want == "" && (err != nil || token != "0123456789abcdef"):
			t.Errorf("%q: %q, %v", text, token, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestTheLastLinesOfTheLogAreKept(t *testing.T) {
	var out strings.Builder
	l := &logLines{to: &out}
	for i := range 2*maxLogLines + 5 {
		io.WriteString(l, strings.Repeat("x", i*10)+"\n")
	}
	last := l.last()
	if len(last) != maxLogLines || len(last[0]) != maxLogLine || out.Len() == 0 {
		t.Errorf("%d lines, the first of %d bytes", len(last), len(last[0]))
	}
	io.WriteString(l, "the newest\n")
	if last = l.last(); last[maxLogLines-1] != "the newest" {
		t.Errorf("the last one is %q", last[maxLogLines-1])
	}
	if (*logLines)(nil).last() != nil {
		t.Error("without an admin port there are lines")
	}
}
