package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestSupportBundle gathers from a real proxy, whose file has secrets.
func TestSupportBundle(t *testing.T) {
	c := newCluster(t)
	const secret = "the-secret-of-the-gate"
	check(t, os.WriteFile(filepath.Join(c.dir, "proxy.yaml"), []byte(`
listeners: [{bind: 127.0.0.1:0, certificates: [{cert: server.pem, key: server_key.pem}]}]
clusters:
  kafka: {sni-suffix: `+suffix+`, upstream: ["`+c.upstream+`"], hosts-file: hosts, upstream-tls: {ca-certs: upstream_ca.pem}}
  other: {sni-suffix: other.example, upstream: ["up.example:1"], via: "socks5://me:`+secret+`@gate.example:1080"}
admin: {bind: "localhost:0", token-file: token, pprof: true}
`), 0o600), os.WriteFile(filepath.Join(c.dir, "token"), []byte("the-token-of-operators"), 0o600))
	p := launch(t, c.dir, "--config", "proxy.yaml")
	admin := strings.TrimPrefix(p.admin, "http://")
	bundle := filepath.Join(t.TempDir(), "bundle.tar.gz")
	gather := func(want int, args ...string) (stdout, stderr string) {
		t.Helper()
		code, stdout, stderr := runIn(t, c.dir, append([]string{"kafka-sni-proxy", "support-bundle", "--admin", admin}, args...)...)
		if code != want {
			t.Errorf("exit code %d, want %d: %s", code, want, stderr)
		}
		return stdout, stderr
	}
	if _, stderr := gather(exitRuntime); !strings.Contains(stderr, "--token-file") {
		t.Error(stderr)
	}
	if stdout, _ := gather(exitOK, "--token-file", "token", "--output", bundle); stdout != bundle+"\n" {
		t.Error(stdout)
	}
	if _, stderr := gather(exitRuntime, "--token-file", "token", "--output", bundle); !strings.Contains(stderr, "is there already: choose another name") {
		t.Error(stderr)
	}
	content, err := os.ReadFile(bundle)
	check(t, err)
	files := unpack(t, content)
	for name, want := range map[string]string{
		"configuration.yaml": "via: '***'",
		"status.json":        `"state": "serving"`,
		"clusters.json":      `"socks5://gate.example:1080"`,
		"sessions.json":      `"total": 0`,
		"failures.json":      `"failures"`,
		"history.json":       `"interval_seconds": 10`,
		"metrics.txt":        "kafka_sni_proxy_build_info",
		"log.txt":            "msg=listening",
		"goroutines.txt":     "goroutine ",
		"versions.txt":       "kafka-sni-proxy ",
		"openapi.yaml":       "openapi: 3.1.0",
		"README.txt":         "Look at it before you send it",
	} {
		if text := strings.ReplaceAll(files[name], `":`, `": `); !strings.Contains(text, want) {
			t.Errorf("%s lacks %q: %.500s", name, want, text)
		}
	}
	for name, text := range files {
		if strings.Contains(text, secret) || strings.Contains(text, "the-token-of-operators") || strings.Contains(text, "PRIVATE KEY") {
			t.Errorf("%s has a secret", name)
		}
	}
	if files["missing.txt"] != "" {
		t.Error(files["missing.txt"])
	}
	stdout, _ := gather(exitOK, "--token-file", "token", "--output", "-")
	if names := unpack(t, []byte(stdout)); len(names) != len(files) {
		t.Errorf("to standard output: %d files", len(names))
	}
}

// unpack returns the files of an archive, without their directory.
func unpack(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	zipped, err := gzip.NewReader(bytes.NewReader(archive))
	check(t, err)
	files, names := map[string]string{}, []string{}
	for all := tar.NewReader(zipped); ; {
		h, err := all.Next()
		if err == io.EOF {
			break
		}
		check(t, err)
		text, err := io.ReadAll(all)
		check(t, err)
		name := filepath.Base(h.Name)
		files[name] = string(text)
		names = append(names, name)
	}
	if slices.Contains(names, "") {
		t.Error("a file has no name")
	}
	return files
}
