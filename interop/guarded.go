package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	mechanisms "github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"kafka-sni-proxy/internal/harness"
)

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

// startGuarded starts all that the scenario needs. It returns what there is after an error, too.
func (s *scenarioRun) startGuarded(ctx context.Context) (*guarded, error) {
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
	setup := clusterSetup{ID: "a3YtaW50ZXJvcC1ndWFyZA", Name: "guarded", Brokers: 1, Guards: &guards{users, g.issuer}}
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
	g.proxy = &proxy{name: "authentication", dir: g.proxyDir}
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
