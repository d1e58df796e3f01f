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

	"github.com/twmb/franz-go/pkg/kadm"

	"kafka-sni-proxy/internal/harness"
)

// certificates checks what --generate-certs has written with others' eyes:
// OpenSSL's, and those of a Java client that uses the generated settings as
// they are.
func certificates(ctx context.Context, s *scenarioRun) (string, error) {
	for purpose, file := range map[string]string{"sslserver": "server.pem", "sslclient": "client.pem"} {
		output, err := harness.Run(ctx, harness.Command{Name: "openssl-" + purpose, Dir: s.dir, Args: []string{
			"openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", s.certs.path("ca.pem"), s.certs.path(file)}})
		if err != nil || !strings.Contains(output, ": OK") {
			return "", fmt.Errorf("openssl verify %s: %s: %w", file, output, err)
		}
	}
	for _, name := range underSuffix("bootstrap", "b0", "b4711") {
		_, err := harness.Run(ctx, harness.Command{Name: "openssl-" + name, Dir: s.dir, Args: []string{
			"openssl", "verify", "-verify_hostname", name, "-CAfile", s.certs.path("ca.pem"), s.certs.path("server.pem")}})
		if err != nil {
			return "", err
		}
	}

	// The generated settings name their files relative to their folder, or not
	// at all: the client is run there.
	settings, err := os.ReadFile(s.certs.path("client.properties"))
	if err != nil {
		return "", err
	}
	v := jvm{HeapMB: 256, Short: true, Hosts: s.mtls.hosts, Log: filepath.Join(s.dir, "generated-settings.log")}
	port := s.proxies["mtls"].clientPort()
	output, err := harness.Run(ctx, harness.Command{Name: "generated-settings", Dir: s.certs.dir, Args: s.java.clientArgs(v, "org.apache.kafka.tools.TopicCommand",
		"--bootstrap-server", fmt.Sprintf("bootstrap.%s:%d", suffix, port), "--command-config", s.certs.path("client.properties"), "--list")})
	if err != nil {
		return "", fmt.Errorf("a Java client with the generated client.properties: %w\n%s\nthe settings:\n%s", err, output, settings)
	}
	return "openssl verify; Java client with the generated client.properties", nil
}

// clientMTLS is a producer and a consumer with a client certificate, and
// clients that are refused: one with none, one with one of another CA.
func clientMTLS(ctx context.Context, s *scenarioRun) (string, error) {
	const topic = "client-mtls"
	if err := s.cluster.createTopic(ctx, topic, 3, 3); err != nil {
		return "", err
	}
	store := filepath.Join(s.dir, "client-store.pem")
	if err := concatenate(store, s.certs.path("client_key.pem"), s.certs.path("client.pem")); err != nil {
		return "", err
	}
	withCertificate := s.mtls.with("ssl.keystore.type=PEM", "ssl.keystore.location="+store)
	if err := s.produce(ctx, withCertificate, topic, "p", 1000); err != nil {
		return "", err
	}
	if err := s.consume(ctx, withCertificate, topic, 1000); err != nil {
		return "", err
	}

	stranger, err := s.cluster.ca.write("stranger", s.cluster.ca.Client("stranger"))
	if err != nil {
		return "", err
	}
	for who, e := range map[string]*endpoint{
		"without a certificate":                     s.mtls,
		"with a certificate that another CA signed": s.mtls.with("ssl.keystore.type=PEM", "ssl.keystore.location="+stranger.store),
	} {
		if err := s.refused(ctx, e, topic, "SslAuthenticationException"); err != nil {
			return "", fmt.Errorf("a client %s: %w", who, err)
		}
	}
	return "accepted; refused without a certificate and with a stranger's", nil
}

// refused wants a producer and a consumer to end at once with an error of one
// kind: one that hangs, or that goes on trying, is not told what is wrong.
func (s *scenarioRun) refused(ctx context.Context, e *endpoint, topic, kind string) error {
	for _, subcommand := range [][]string{{"produce", topic, "p", "1000", "1"}, {"consume", topic, "refused"}} {
		p, err := s.startJava(ctx, e, subcommand[0], subcommand[1:]...)
		if err != nil {
			return err
		}
		if _, err := p.finish(); err == nil {
			return fmt.Errorf("the %s client was let in", subcommand[0])
		}
		<-p.Done()
		output, err := os.ReadFile(p.Output)
		if err != nil {
			return err
		}
		if !strings.Contains(string(output), kind) {
			return fmt.Errorf("the %s client ended without %s; it said:\n%s", subcommand[0], kind, p.Tail(8))
		}
	}
	return nil
}

// login is what a client needs to get in with a password.
func login(mechanism, password string) []string {
	module := "org.apache.kafka.common.security.scram.ScramLoginModule"
	if mechanism == "PLAIN" {
		module = "org.apache.kafka.common.security.plain.PlainLoginModule"
	}
	return []string{
		"sasl.mechanism=" + mechanism,
		fmt.Sprintf(`sasl.jaas.config=%s required username="%s" password="%s";`, module, saslUser, password),
	}
}

// sasl produces and consumes with a password. The brokers want clients that use SCRAM-SHA-512 to
// authenticate anew every two seconds, so with that the producer takes longer.
func sasl(mechanism string) func(context.Context, *scenarioRun) (string, error) {
	return func(ctx context.Context, s *scenarioRun) (string, error) {
		topic := "sasl-" + strings.ToLower(mechanism)
		if err := s.cluster.createTopic(ctx, topic, 3, 3); err != nil {
			return "", err
		}
		e := s.sasl.with(login(mechanism, saslSecret)...)
		if mechanism != "SCRAM-SHA-512" {
			if err := s.produce(ctx, e, topic, "p", 2000); err != nil {
				return "", err
			}
			return "produced and consumed 2000", s.consume(ctx, e, topic, 2000)
		}
		p, err := s.startJava(ctx, e, "produce", topic, "p", "400", "2000")
		if err != nil {
			return "", err
		}
		if _, err := p.finish(); err != nil {
			return "", err
		}
		again := 0
		err = eachLine(p.log(), func(line string) {
			if strings.Contains(line, "SASL client state to REAUTH_SEND_HANDSHAKE_REQUEST") {
				again++
			}
		})
		if err == nil && again == 0 {
			err = errors.New("no session was authenticated again")
		}
		return fmt.Sprintf("produced and consumed 2000; authenticated again %d times", again), errors.Join(err, s.consume(ctx, e, topic, 2000))
	}
}

func saslOAuth(ctx context.Context, s *scenarioRun) (string, error) {
	const topic = "sasl-oauthbearer"
	if err := s.cluster.createTopic(ctx, topic, 3, 3); err != nil {
		return "", err
	}
	e := s.sasl.with(
		"sasl.mechanism=OAUTHBEARER",
		`sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="`+saslUser+`";`,
	)
	if err := s.produce(ctx, e, topic, "p", 2000); err != nil {
		return "", err
	}
	return "produced and consumed 2000 (unsecured token)", s.consume(ctx, e, topic, 2000)
}

func saslWrongPassword(ctx context.Context, s *scenarioRun) (string, error) {
	const topic = "sasl-wrong-password"
	if err := s.cluster.createTopic(ctx, topic, 1, 3); err != nil {
		return "", err
	}
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256"} {
		if err := s.refused(ctx, s.sasl.with(login(mechanism, "a wrong one")...), topic, "SaslAuthenticationException"); err != nil {
			return "", fmt.Errorf("%s: %w", mechanism, err)
		}
	}
	return "PLAIN and SCRAM clients end with SaslAuthenticationException", nil
}

// tapBroker reads through a tap what a broker answers to a Metadata request,
// and returns the upstream names in it.
func (s *scenarioRun) tapBroker(ctx context.Context) ([]string, error) {
	// The names asked for are the proxy's, the certificate shown is the broker's.
	target := fmt.Sprintf("127.0.0.1:%d", s.cluster.brokers[0].ports[listenTLS])
	t, err := newTap("127.0.0.1:0", s.certs.serverTLS(), &tls.Config{InsecureSkipVerify: true}, target)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	go t.serve(ctx)
	defer t.stop()
	defer cancel()
	e := *s.tls
	_, port, err := net.SplitHostPort(t.listener.Addr().String())
	if err != nil {
		return nil, err
	}
	e.bootstrap = fmt.Sprintf("bootstrap.%s:%s", suffix, port)
	client, err := s.goClient(&e)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).Metadata(ctx); err != nil {
		return nil, err
	}
	return t.takeLeaks(), nil
}

func concatenate(to string, from ...string) error {
	var all []byte
	for _, path := range from {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		all = append(all, content...)
	}
	return os.WriteFile(to, all, 0o600)
}
