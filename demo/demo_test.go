package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/kafkatest"
)

// asLeakyProxy has the test binary be a proxy that rewrites nothing.
const asLeakyProxy = "DEMO_TEST_LEAKY_PROXY"

func TestMain(m *testing.M) {
	if os.Getenv(asLeakyProxy) == "" {
		os.Exit(m.Run())
	}
	if err := leakyProxy(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// leakyProxy routes and terminates TLS as the real one does, and hands the
// brokers' answers on as they are.
func leakyProxy(args []string) error {
	flags := flag.NewFlagSet("leaky proxy", flag.ContinueOnError)
	bind := flags.String("bind", "", "")
	suffix := flags.String("sni-suffix", "", "")
	upstream := flags.String("upstream", "", "")
	authorities := flags.String("upstream-ca-certs", "", "")
	generate := flags.Bool("generate-certs", false, "")
	flags.String("hosts-file", "", "")
	flags.String("log-format", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *generate {
		_, err := certs.Generate(certs.GenerateOptions{Suffix: *suffix})
		return err
	}
	pair, err := certs.LoadKeyPair("server.pem", "server_key.pem")
	if err != nil {
		return err
	}
	pool, err := certs.LoadPool(*authorities)
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(*upstream)
	if err != nil {
		return err
	}
	ln, err := tls.Listen("tcp", *bind, &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		return err
	}
	for {
		down, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer down.Close()
			up, err := tls.Dial("tcp", net.JoinHostPort("127.0.0.1", port), &tls.Config{RootCAs: pool, ServerName: host})
			if err != nil {
				return
			}
			defer up.Close()
			go io.Copy(up, down)
			io.Copy(down, up)
		}()
	}
}

// try runs the demo on free ports.
func try(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // a build may be part of it
	defer cancel()
	// What the demo leaves behind would be found here.
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	var out, errs bytes.Buffer
	code = program.Run(ctx, append([]string{"--port", "0", "--broker-port", "0"}, args...), &out, &errs)
	if left, _ := filepath.Glob(filepath.Join(folder, "kafka-sni-proxy-demo-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	return code, out.String(), errs.String()
}

func TestDemoShowsTwoClustersOfAFile(t *testing.T) {
	code, out, errs := try(t, "--config", "--records", "5000")
	if code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, out, errs)
	}
	for _, want := range []string{"--config proxy.yaml --generate-certs", "sni-suffix: kafka.example", "1 000 records to audit.kafka.example and back",
		"audit-0.kafka.example", "5 000 produced, 5 000 consumed", "not there"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}

func TestDemoShowsTheRealProxy(t *testing.T) {
	code, out, errs := try(t, "--records", "5000", "--suffix", "demo.internal")
	if code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, out, errs)
	}
	for _, want := range []string{
		"5 000 produced, 5 000 consumed",
		"b2.demo.internal",
		"broker-2.upstream.test:",
		"not there",
		"OK.",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the report does not say %q:\n%s", want, out)
		}
	}
}

// until is a writer that calls then once the text has been written.
type until struct {
	bytes.Buffer
	text string
	then func()
}

func (u *until) Write(p []byte) (int, error) {
	n, err := u.Buffer.Write(p)
	if u.then != nil && strings.Contains(u.String(), u.text) {
		u.then()
		u.then = nil
	}
	return n, err
}

func TestKeepStaysUntilInterrupted(t *testing.T) {
	ctx, interrupt := context.WithTimeout(t.Context(), 3*time.Minute)
	defer interrupt()
	t.Setenv("TMPDIR", t.TempDir())
	var errs bytes.Buffer
	out := &until{text: "Ctrl-C ends it"}
	out.then = func() {
		page := regexp.MustCompile(`http://127\.0\.0\.1:\d+/`).FindString(out.String())
		if response, err := http.Get(page); err != nil {
			t.Errorf("the status page: %v", err)
		} else if response.Body.Close(); response.StatusCode != 200 {
			t.Errorf("the status page: %s", response.Status)
		}
		if err := produceAsTold(ctx, out.String(), "mine"); err != nil {
			t.Errorf("producing to a topic of one's own: %v", err)
		}
		interrupt()
	}
	if code := program.Run(ctx, []string{"--keep", "--port", "0", "--broker-port", "0", "--records", "100"}, out, &errs); code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, out, &errs)
	}
	for _, want := range []string{
		"127.0.0.1 bootstrap.kafka.example b0.kafka.example b1.kafka.example b2.kafka.example\n",
		"security.protocol=SSL",
		"kcat -b bootstrap.kafka.example:",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
}

// produceAsTold produces to a topic with a client that does what --keep says.
func produceAsTold(ctx context.Context, said, topic string) error {
	setting := func(name string) string {
		_, rest, _ := strings.Cut(said, name+"=")
		value, _, _ := strings.Cut(rest, "\n")
		return value
	}
	pool, err := certs.LoadPool(setting("ssl.truststore.location"))
	if err != nil {
		return err
	}
	bootstrap := setting("bootstrap.servers")
	_, port, err := net.SplitHostPort(bootstrap)
	if err != nil {
		return err
	}
	dialer := &kafkatest.Dialer{Suffix: "kafka.example", Proxy: net.JoinHostPort("127.0.0.1", port), TLS: &tls.Config{RootCAs: pool}}
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.Dialer(dialer.DialContext), kgo.UnknownTopicRetries(0))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("hello")}).FirstErr()
}

func TestAProxyThatLeaksFailsTheDemo(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(asLeakyProxy, "yes")
	began := time.Now()
	code, out, errs := try(t, "--records", "5000", "--binary", self)
	if code != 1 || !strings.Contains(errs, "a name of the cluster got through the proxy") || !strings.Contains(errs, kafkatest.Domain) {
		t.Errorf("exit code %d\n%s\n%s", code, out, errs)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %v to notice", took)
	}
}

func TestAPortInUseIsSaidBeforeAnythingStarts(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	for _, flag := range []string{"--port", "--broker-port"} {
		code, out, errs := try(t, flag, port)
		if code != 1 || !strings.Contains(errs, "port "+port+" on 127.0.0.1 is in use") || !strings.Contains(errs, "choose another with "+flag) {
			t.Errorf("%s: exit code %d\n%s\n%s", flag, code, out, errs)
		}
		if strings.Contains(out, "go build") {
			t.Errorf("%s: it was noticed late:\n%s", flag, out)
		}
	}
}

func TestMistakesInFlagsAreUsageErrors(t *testing.T) {
	for _, args := range [][]string{{"--records", "0"}, {"--broker-port", "65534"}, {"--unknown"}, {"argument"}} {
		if code, _, errs := try(t, args...); code != 2 || errs == "" {
			t.Errorf("%v: exit code %d, %q", args, code, errs)
		}
	}
}
