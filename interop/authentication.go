package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	mechanisms "github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
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

// guarded is a cluster that knows who may do what, and a proxy that swaps who clients are.
type guarded struct {
	*scenarioRun
	dir     string
	issuer  *issuer
	behind  *cluster
	front   *proxyCerts
	clients map[string]tls.Certificate // by principal
	proxy   *proxy
	hosts   string
	users   string // file
	secrets []string
}

// authentication has clients come in each way and be led to brokers in each way, and the
// brokers' own authorizer say who they are: a principal may write to one topic, and to no
// other. Then whoever must not get in tries.
func authentication(ctx context.Context, s *scenarioRun) (string, error) {
	g, err := s.startGuarded(ctx, 0)
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

// startGuarded starts all that the scenario needs. It returns what there is after an error, too.
func (s *scenarioRun) startGuarded(ctx context.Context, reauth int) (*guarded, error) {
	g := &guarded{scenarioRun: s, dir: filepath.Join(s.dir, "direct"), hosts: filepath.Join(s.dir, "auth-hosts"), clients: map[string]tls.Certificate{}}
	address, err := s.ports.Address()
	if err != nil {
		return g, err
	}
	users := map[string]string{}
	for _, in := range waysIn {
		users[userOf(in)] = secretOut + in
		g.secrets = append(g.secrets, secretOut+in, secretIn+in)
	}
	if g.issuer, err = startIssuer(ctx, address, users); err != nil {
		return g, err
	}
	setup := clusterSetup{ID: "a3YtaW50ZXJvcC1ndWFyZA", Name: "guarded", Brokers: 1, Guards: &guards{users, g.issuer, reauth}}
	g.behind, err = startCluster(ctx, s.java, s.ports, filepath.Join(filepath.Dir(s.cluster.dir), "cluster-guarded-"+filepath.Base(s.dir)), setup)
	if err != nil {
		return g, err
	}
	if err := g.allow(ctx); err != nil {
		return g, err
	}
	if g.front, err = generateCerts(ctx, s.java.software, filepath.Join(s.dir, "certs"), "plain."+authDomain); err != nil {
		return g, err
	}
	if err := errors.Join(g.writeCredentials(ctx), g.configure()); err != nil {
		return g, err
	}
	return g, g.proxy.start(ctx)
}

func (g *guarded) stop() {
	if g.proxy != nil && g.proxy.Process != nil {
		g.proxy.Kill()
	}
	if g.behind != nil {
		g.behind.stop()
	}
}

// allow makes the topics, and has each user write to and read from its own. Who is not asked is
// ANONYMOUS, and may use that of the brokers' listener without authentication.
func (g *guarded) allow(ctx context.Context) error {
	topics := []string{forbidden, topicOf("none")}
	for _, in := range waysIn {
		topics = append(topics, topicOf(in))
	}
	for _, topic := range topics {
		if err := g.behind.createTopic(ctx, topic, 1, 1); err != nil {
			return err
		}
	}
	allow := func(user string, topic string) error {
		b := kadm.NewACLs().Topics(topic).Groups("*").ResourcePatternType(kadm.ACLPatternLiteral).Allow("User:"+user).AllowHosts("*").
			Operations(kadm.OpRead, kadm.OpWrite, kadm.OpDescribe)
		results, err := g.behind.admin.CreateACLs(ctx, b)
		for _, r := range results {
			err = errors.Join(err, r.Err)
		}
		return err
	}
	for _, in := range waysIn {
		if err := allow(userOf(in), topicOf(in)); err != nil {
			return err
		}
	}
	return allow("ANONYMOUS", topicOf("none"))
}

// writeCredentials writes the proxy's files: users, and for each way out a folder of
// credentials.
func (g *guarded) writeCredentials(ctx context.Context) error {
	g.users = filepath.Join(g.dir, "users.scram")
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{clientOf("plain"), clientOf("scram256"), clientOf("scram512"), "without"} {
		secret := secretIn + strings.TrimSuffix(name, "-client")
		_, err := harness.Run(ctx, harness.Command{Name: "passwd-" + name, Dir: g.dir, Args: []string{"sh", "-c", `printf '%s\n' "$1" | "$2" passwd "$3" "$4"`, "sh", secret, g.java.software.proxy, g.users, name}})
		if err != nil {
			return err
		}
	}
	g.secrets = append(g.secrets, secretIn+"without")
	for _, out := range waysOut {
		folder := filepath.Join(g.dir, "credentials-"+out)
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
		for _, in := range waysIn {
			text := userOf(in) + ":" + secretOut + in + "\n"
			if out == "mtls" {
				issued, err := g.behind.ca.write(out+"-"+in, g.behind.ca.Client(userOf(in)))
				if err != nil {
					return err
				}
				store, err := os.ReadFile(issued.store)
				if err != nil {
					return err
				}
				text = string(store)
			}
			if err := os.WriteFile(filepath.Join(folder, clientOf(in)), []byte(text), 0o600); err != nil {
				return err
			}
		}
	}
	g.clients[clientOf("mtls")] = g.front.client
	return nil
}

// outYAML is how the proxy logs in at brokers.
func (g *guarded) outYAML(out string) (listener, brokers string) {
	credentials := fmt.Sprintf("credentials: {folder: %s, proxy: %q}", filepath.Join(g.dir, "credentials-"+out), "file:"+filepath.Join(g.dir, "credentials-"+out, clientOf("plain")))
	switch out {
	case "plain":
		return listenSASL, "{mechanism: PLAIN, " + credentials + "}"
	case "scram256":
		return listenSASL, "{mechanism: SCRAM-SHA-256, " + credentials + "}"
	case "scram512":
		return listenSASL, "{mechanism: SCRAM-SHA-512, " + credentials + "}"
	case "oauth":
		return listenSASL, fmt.Sprintf("{mechanism: OAUTHBEARER, token-endpoint: %q, %s}", g.issuer.tokenURL(), credentials)
	case "mtls":
		// The proxy's own questions need a certificate, too.
		return listenMTLS, fmt.Sprintf("{mechanism: TLS, credentials: {folder: %s, proxy: %q}}", filepath.Join(g.dir, "credentials-"+out), "file:"+filepath.Join(g.dir, "credentials-mtls", clientOf("mtls")))
	}
	return listenTLS, "{mechanism: NONE}"
}

// configure writes the proxy's file, with a cluster for each way out.
func (g *guarded) configure() error {
	g.proxy = &proxy{name: filepath.Base(g.dir), dir: g.proxyDir}
	if err := g.ports.TakeAll(&g.proxy.port, &g.proxy.admin); err != nil {
		return err
	}
	var certs, clusters, names []string
	for _, out := range waysOut {
		names = append(names, "bootstrap."+out+"."+authDomain, "b1."+out+"."+authDomain)
		c, err := generateCerts(context.Background(), g.java.software, filepath.Join(g.dir, "certs-"+out), out+"."+authDomain)
		if err != nil {
			return err
		}
		if err := c.trustedBy(g.front.pool); err != nil {
			return err
		}
		certs = append(certs, fmt.Sprintf("{cert: %s, key: %s}", c.path("server.pem"), c.path("server_key.pem")))
		listener, brokers := g.outYAML(out)
		clusters = append(clusters, fmt.Sprintf(`  %s:
    sni-suffix: %[1]s.%s
    upstream: [%s]
    upstream-tls: {ca-certs: %s}
    hosts-file: %s
    authentication:
      clients:
        - {mechanism: PLAIN, users: %[6]s}
        - {mechanism: SCRAM-SHA-256, users: %[6]s}
        - {mechanism: SCRAM-SHA-512, users: %[6]s}
        - {mechanism: OAUTHBEARER, jwks: %[7]q, issuer: %[8]q, audience: %[9]s, clock-skew: 1s}
        - {mechanism: TLS, principal-mapping-rules: 'RULE:^CN=(?:[^,]*).*$/mtls-client/'}
        - {mechanism: ANONYMOUS, principal: anonymous-client}
      brokers: %[10]s
`, out, authDomain, g.behind.bootstrap(listener), g.behind.ca.file, filepath.Join(g.proxyDir, "upstream-hosts"), g.users, g.issuer.keysURL(), g.issuer.name, proxyAudience, brokers))
	}
	file := filepath.Join(g.dir, "proxy.yaml")
	g.proxy.args = []string{g.java.software.proxy, "--config", file}
	text := fmt.Sprintf("listeners:\n  - {name: public, bind: 127.0.0.1:%d, certificates: [%s], client-certificates: {ca-certs: %s}}\nclusters:\n%sadmin: {bind: 127.0.0.1:%d}\nlog: {level: debug, access: %s}\n",
		g.proxy.port, strings.Join(certs, ", "), g.front.path("ca.pem"), strings.Join(clusters, ""), g.proxy.admin, filepath.Join(g.dir, "access.log"))
	return errors.Join(writeHosts(g.hosts, names), os.WriteFile(file, []byte(text), 0o600))
}

// endpoint is how Java clients reach a way out.
func (g *guarded) endpoint(out string) *endpoint {
	return &endpoint{name: "guarded-" + out, bootstrap: fmt.Sprintf("bootstrap.%s.%s:%d", out, authDomain, g.proxy.port), hosts: g.hosts,
		ca: g.caFile(out), pool: g.front.pool, settings: javaTLS("SASL_SSL", g.caFile(out)), proxied: true}
}

func (g *guarded) caFile(out string) string { return filepath.Join(g.dir, "certs-"+out, "ca.pem") }

// login is how a franz-go client comes in.
func (g *guarded) login(in string) (mechanisms.Mechanism, *tls.Certificate, error) {
	switch in {
	case "plain":
		return plain.Auth{User: clientOf(in), Pass: secretIn + in}.AsMechanism(), nil, nil
	case "scram256":
		return scram.Auth{User: clientOf(in), Pass: secretIn + in}.AsSha256Mechanism(), nil, nil
	case "scram512":
		return scram.Auth{User: clientOf(in), Pass: secretIn + in}.AsSha512Mechanism(), nil, nil
	case "oauth":
		return oauth.Oauth(func(context.Context) (oauth.Auth, error) {
			token, err := g.issuer.token(clientOf(in), proxyAudience, time.Hour)
			return oauth.Auth{Token: token}, err
		}), nil, nil
	case "mtls":
		return nil, &g.front.client, nil
	}
	return nil, nil, nil
}

// franz returns a franz-go client that comes in one way and is led out another.
func (g *guarded) franz(in, out string, more ...kgo.Opt) (*kgo.Client, error) {
	mechanism, certificate, err := g.login(in)
	if err != nil {
		return nil, err
	}
	return g.franzAs(mechanism, certificate, out, more...)
}

func (g *guarded) franzAs(mechanism mechanisms.Mechanism, certificate *tls.Certificate, out string, more ...kgo.Opt) (*kgo.Client, error) {
	e := g.endpoint(out)
	dial := func(ctx context.Context, _, address string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(address)
		address, err := e.locate(address)
		if err != nil {
			return nil, err
		}
		config := &tls.Config{ServerName: host, RootCAs: e.pool}
		if certificate != nil {
			config.Certificates = []tls.Certificate{*certificate}
		}
		return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	}
	options := append([]kgo.Opt{kgo.SeedBrokers(e.bootstrap), kgo.Dialer(dial), kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(3), kgo.RecordRetries(3)}, more...)
	if mechanism != nil {
		options = append(options, kgo.SASL(mechanism))
	}
	return kgo.NewClient(options...)
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

// withoutCredential has a client that may come in, and that has no credential at the brokers.
func (g *guarded) withoutCredential(ctx context.Context) error {
	before, err := g.connectionsAtBrokers(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	client, err := g.franzAs(plain.Auth{User: "without", Pass: secretIn + "without"}.AsMechanism(), nil, "plain")
	if err != nil {
		return err
	}
	defer client.Close()
	err = client.Ping(ctx)
	if !errors.Is(err, kerr.SaslAuthenticationFailed) || !strings.Contains(err.Error(), `there is no credential for "without" at the brokers`) {
		return fmt.Errorf("a client without a credential is told: %w", err)
	}
	after, err := g.connectionsAtBrokers(ctx)
	if err == nil && after != before {
		err = fmt.Errorf("a client without a credential has caused %d connections to brokers", after-before)
	}
	return err
}

// connectionsAtBrokers is how often the proxy has logged in at brokers.
func (g *guarded) connectionsAtBrokers(ctx context.Context) (int, error) {
	return g.proxy.metric(ctx, `logins_total{side="broker"}`)
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

// hostileClients try to get in with what is no proof of anything.
func (g *guarded) hostileClients(ctx context.Context) (string, error) {
	now := time.Now().Unix()
	claims := func(changed map[string]any) map[string]any {
		all := map[string]any{"iss": g.issuer.name, "sub": clientOf("oauth"), "aud": proxyAudience, "iat": now, "exp": now + 600}
		maps.Copy(all, changed)
		return all
	}
	refused := 0
	wants := func(mechanism mechanisms.Mechanism, want string) error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		client, err := g.franzAs(mechanism, nil, "plain")
		if err != nil {
			return err
		}
		defer client.Close()
		if err := client.Ping(ctx); err == nil || !strings.Contains(err.Error(), want) {
			return fmt.Errorf("a client that must not get in is told %w; want %s", err, want)
		}
		refused++
		return nil
	}
	token := func(t string, err error) mechanisms.Mechanism {
		if err != nil {
			t = "none"
		}
		return oauth.Auth{Token: t}.AsMechanism()
	}
	public, err := g.issuer.publicKeyPEM()
	if err != nil {
		return "", err
	}
	none := "eyJhbGciOiJub25lIn0.eyJzdWIiOiJvYXV0aC1jbGllbnQifQ."
	for _, bad := range []mechanisms.Mechanism{
		token(g.issuer.sign(claims(map[string]any{"exp": now - 60}))),
		token(g.issuer.sign(claims(map[string]any{"nbf": now + 60}))),
		token(g.issuer.sign(claims(map[string]any{"aud": "somebody else"}))),
		token(g.issuer.sign(claims(map[string]any{"iss": "https://evil.example"}))),
		token(signWith(jose.SigningKey{Algorithm: jose.HS256, Key: public}, g.issuer.keyID(), claims(nil))),
		token(none, nil),
	} {
		if err := wants(bad, "unexpected data in oauth response"); err != nil { // which is how franz-go says that the challenge is not empty
			return "", err
		}
	}
	// Who does not exist is told what a wrong password is told.
	for _, user := range []string{clientOf("plain"), "nobody"} {
		if err := wants(plain.Auth{User: user, Pass: "a wrong one"}.AsMechanism(), "Authentication failed: Invalid username or password"); err != nil {
			return "", err
		}
	}
	for _, user := range []string{clientOf("scram256"), "nobody"} {
		if err := wants(scram.Auth{User: user, Pass: "a wrong one"}.AsSha256Mechanism(), "invalid credentials with SASL mechanism SCRAM-SHA-256"); err != nil {
			return "", err
		}
	}
	// A key is rotated, and then the issuer goes away: tokens of the keys that are known do.
	if err := g.issuer.rotate(false); err != nil {
		return "", err
	}
	err = harness.Await(ctx, "waiting for the proxy to know the new key", func() error { return g.cell(ctx, "oauth", "plain") })
	if err != nil {
		return "", err
	}
	g.issuer.setDown(true)
	if err := g.cell(ctx, "oauth", "plain"); err != nil {
		return "", fmt.Errorf("while the issuer is down: %w", err)
	}
	g.issuer.setDown(false)
	return fmt.Sprintf("%d clients refused, a key rotated, the issuer down", refused), nil
}

// searchSecrets looks for each password in all that the proxy says.
func (g *guarded) searchSecrets(ctx context.Context) (string, error) {
	said := map[string]string{}
	for _, path := range []string{"/metrics", "/", "/api/v1/status", "/api/v1/clusters", "/api/v1/sessions", "/api/v1/failures", "/api/v1/support"} {
		text, err := g.proxy.ask(ctx, path)
		if err != nil {
			return "", err
		}
		said[path] = text
	}
	shown, err := harness.Run(ctx, harness.Command{Name: "config-show", Dir: g.dir, Args: []string{g.java.software.proxy, "config", "show", g.proxy.args[2]}})
	if err != nil {
		return "", err
	}
	said["config show"] = shown
	for name, path := range map[string]string{"the log": g.proxy.Output, "the access log": filepath.Join(g.dir, "access.log"), "the file of users": g.users} {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		said[name] = string(text)
	}
	for name, text := range said {
		if len(text) == 0 {
			return "", fmt.Errorf("%s is empty: nothing was searched", name)
		}
		for _, secret := range append(g.secrets, "Bearer ey", "BEGIN PRIVATE KEY") {
			if strings.Contains(text, secret) {
				return "", fmt.Errorf("%s has the secret %s", name, secret)
			}
		}
	}
	if !strings.Contains(said["the access log"], `"principal":"plain-client","mechanism":"PLAIN","broker_mechanism":"SCRAM-SHA-256"`) {
		return "", errors.New("the access log does not say who came, and how")
	}
	return "log, access log, page, API, metrics, config show", nil
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
