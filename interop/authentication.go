package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"kafka-sni-proxy/internal/harness"
)

// The ways in which clients say who they are to the proxy, and the proxy to brokers. Each way
// in has a principal of its own, and at the brokers it is a user of another name.
var (
	waysIn  = []string{"plain", "scram256", "scram512", "oauth", "mtls", "anonymous"}
	waysOut = []string{"plain", "scram256", "scram512", "oauth", "mtls", "none"}
)

const (
	authDomain = "auth.test"
	forbidden  = "topic-of-nobody"
	secretIn   = "Sesame-in-" // and the way: the passwords of clients
	secretOut  = "Sesame-out-"
)

func clientOf(in string) string { return in + "-client" }
func userOf(in string) string   { return in + "-user" }
func topicOf(in string) string  { return "topic-" + in }

// authentication has clients come in each way and be led to brokers in each way, and the
// brokers' own authorizer say who they are: a principal may write to one topic, and to no
// other. Then whoever must not get in tries.
func authentication(ctx context.Context, s *scenarioRun) (string, error) {
	g, err := s.startGuarded(ctx)
	if g != nil {
		defer g.stop()
	}
	if err != nil {
		return "", err
	}
	if err := g.franzGrid(ctx); err != nil {
		return "", err
	}
	for _, out := range waysOut { // which the proxy asks itself, with a credential of its own
		asked, err := g.proxy.metric(ctx, fmt.Sprintf(`cluster_queries_total{cluster=%q,result="answered"}`, out))
		provisional, err2 := g.proxy.metric(ctx, fmt.Sprintf(`provisional_connections_total{cluster=%q}`, out))
		if err := errors.Join(err, err2); err != nil || asked == 0 && provisional > 0 {
			return "", fmt.Errorf("out by %s: the proxy asked the cluster %d times, and %d clients were led to a bootstrap server: %w", out, asked, provisional, err)
		}
	}
	if err := g.check(ctx); err != nil {
		return "", err
	}
	others, err := g.otherClients(ctx)
	if err != nil {
		return "", err
	}
	if err := g.withoutCredential(ctx); err != nil {
		return "", err
	}
	if err := g.changes(ctx); err != nil {
		return "", err
	}
	hostile, err := g.hostileClients(ctx)
	if err != nil {
		return "", err
	}
	searched, err := g.searchSecrets(ctx)
	if err != nil {
		return "", err
	}
	figures := fmt.Sprintf("%d ways in × %d ways out: each principal writes to its own topic, and to no other; %s; credentials and users that are withdrawn count; %s; %d secrets are in none of %s",
		len(waysIn), len(waysOut), others, hostile, len(g.secrets), searched)
	return figures, g.proxy.drain()
}

// cell checks who a client is to the brokers: it may write to its own topic alone.
func (g *guarded) cell(ctx context.Context, in, out string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client, err := g.franz(in, out)
	if err != nil {
		return err
	}
	defer client.Close()
	own, other := topicOf(in), topicOf(waysIn[(slices.Index(waysIn, in)+1)%len(waysIn)])
	if out == "none" {
		own, other = topicOf("none"), topicOf(in)
	}
	if err := client.ProduceSync(ctx, &kgo.Record{Topic: own, Value: []byte(in + " " + out)}).FirstErr(); err != nil {
		return fmt.Errorf("in by %s, out by %s: writing to %s: %w", in, out, own, err)
	}
	for _, topic := range []string{other, forbidden} {
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr(); !errors.Is(err, kerr.TopicAuthorizationFailed) {
			return fmt.Errorf("in by %s, out by %s: writing to %s: %w; want TOPIC_AUTHORIZATION_FAILED", in, out, topic, err)
		}
	}
	return nil
}

// franzGrid tries all cells with franz-go.
func (g *guarded) franzGrid(ctx context.Context) error {
	var group errgroup.Group
	group.SetLimit(6)
	for _, in := range waysIn {
		for _, out := range waysOut {
			group.Go(func() error { return g.cell(ctx, in, out) })
		}
	}
	return group.Wait()
}

// otherClients has clients of other makers come in, and be led out in turn.
func (g *guarded) otherClients(ctx context.Context) (string, error) {
	tried := 0
	for i, in := range []string{"plain", "scram256", "scram512", "mtls", "anonymous"} {
		out := waysOut[i]
		e := g.endpoint(out)
		switch in {
		case "plain", "scram256", "scram512":
			mechanism := map[string]string{"plain": "PLAIN", "scram256": "SCRAM-SHA-256", "scram512": "SCRAM-SHA-512"}[in]
			e = e.with(loginAs(mechanism, clientOf(in), secretIn+in)...)
		case "mtls":
			store := filepath.Join(g.dir, "client-store.pem")
			if err := concatenate(store, g.front.path("client_key.pem"), g.front.path("client.pem")); err != nil {
				return "", err
			}
			e = e.with("security.protocol=SSL", "ssl.keystore.type=PEM", "ssl.keystore.location="+store)
		default:
			e = e.with("security.protocol=SSL")
		}
		if err := g.produce(ctx, e, topicOf(in), "java", 100); err != nil {
			return "", fmt.Errorf("in by %s, out by %s, by Java: %w", in, out, err)
		}
		if in == "plain" {
			if err := g.refused(ctx, e.with(loginAs("PLAIN", clientOf(in), "a wrong one")...), topicOf(in), "SaslAuthenticationException"); err != nil {
				return "", err
			}
		}
		tried++
	}
	var err error
	if g.python, err = g.java.software.python(ctx, g.scenarioRun.dir); err != nil {
		return "", err
	}
	for i, in := range []string{"plain", "scram256", "scram512"} {
		mechanism := []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}[i]
		out := waysOut[(i+3)%4]
		for _, maker := range []string{"confluent-kafka", "kafka-python"} {
			line := []string{"env", "LD_PRELOAD=" + g.python.names, "INTEROP_HOSTS=" + g.hosts, "PYTHONPATH=" + g.python.packages, g.python.interpreter,
				filepath.Join(g.java.software.root, "interop/python/login.py"), maker, g.endpoint(out).bootstrap, g.caFile(out), mechanism, clientOf(in), secretIn + in, topicOf(in), forbidden}
			output, err := harness.Run(ctx, harness.Command{Name: maker + "-" + in, Args: line, Dir: g.scenarioRun.dir})
			if err != nil || !strings.Contains(output, "written, and refused elsewhere") {
				return "", fmt.Errorf("%s, in by %s, out by %s: %w\n%s", maker, in, out, err, output)
			}
			tried++
		}
	}
	return fmt.Sprintf("%d ways by Java, librdkafka and kafka-python", tried), nil
}

// loginAs are the settings of a Java client that has a name and a password.
func loginAs(mechanism, user, password string) []string {
	lines := login(mechanism, password)
	return []string{lines[0], strings.Replace(lines[1], `username="`+saslUser+`"`, `username="`+user+`"`, 1)}
}

// check has the command check log in at the brokers in each way, with the file that is served,
// but for the ports that are taken.
func (g *guarded) check(ctx context.Context) error {
	// The exit code is 1: the ports are taken. What it says of the brokers matters.
	output, _ := harness.Run(ctx, harness.Command{Name: "check", Dir: g.dir, Args: []string{"sh", "-c", `"$1" check --config "$2" || true`, "sh", g.java.software.proxy, g.proxy.args[2]}})
	if found := strings.Count(output, "broker 1 at guarded-1."); found != len(waysOut) {
		return fmt.Errorf("check is told of the brokers by %d of %d clusters:\n%s", found, len(waysOut), output)
	}
	if !strings.Contains(output, "keys of the issuer") || strings.Contains(output, "Sesame") {
		return fmt.Errorf("check says\n%s", output)
	}
	return nil
}

// changes takes a credential away, and then a user, and puts them back, while the proxy runs.
func (g *guarded) changes(ctx context.Context) error {
	until := func(what, want string) error {
		return harness.Await(ctx, what, func() error {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			client, err := g.franz("plain", "scram256")
			if err != nil {
				return err
			}
			defer client.Close()
			switch err := client.Ping(ctx); {
			case want == "" && err != nil:
				return err
			case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
				return fmt.Errorf("the client is told %w, want %s", err, want)
			}
			return nil
		})
	}
	file := filepath.Join(g.dir, "credentials-scram256", clientOf("plain"))
	if err := os.Rename(file, file+".away"); err != nil {
		return err
	}
	if err := until("waiting for a credential to be gone", "there is no credential for"); err != nil {
		return err
	}
	if err := os.Rename(file+".away", file); err != nil {
		return err
	}
	if err := until("waiting for a credential to be back", ""); err != nil {
		return err
	}
	users, err := os.ReadFile(g.users)
	if err != nil {
		return err
	}
	_, err = harness.Run(ctx, harness.Command{Name: "passwd-delete", Dir: g.dir, Args: []string{g.java.software.proxy, "passwd", "--delete", g.users, clientOf("plain")}})
	if err != nil {
		return err
	}
	if err := until("waiting for a user to be gone", "Invalid username or password"); err != nil {
		return err
	}
	if err := os.WriteFile(g.users, users, 0o600); err != nil {
		return err
	}
	return until("waiting for a user to be back", "")
}
