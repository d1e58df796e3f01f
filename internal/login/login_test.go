package login

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/credentials"
	"kafka-sni-proxy/internal/kafkatest"
	"kafka-sni-proxy/internal/principal"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/sasl"
)

var anyBroker = route.Address{Host: "b.test", Port: 9092}

func store(t *testing.T, all map[string]string, o credentials.Options) *credentials.Store {
	t.Helper()
	o.Folder = t.TempDir()
	for principal, text := range all {
		if err := os.WriteFile(filepath.Join(o.Folder, principal), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := credentials.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWhoAClientIsAndWhatItIsRefusedFor(t *testing.T) {
	p := New(nil)
	rules, err := principal.Parse("RULE:^CN=(.*)$/$1/L")
	if err != nil {
		t.Fatal(err)
	}
	p.Set(&Settings{Clients: Clients{Mechanisms: []string{sasl.OAuthBearer}, Certificates: rules, Verify: func(context.Context, sasl.Secret) (sasl.Identity, error) {
		return sasl.Identity{Principal: "alice"}, nil
	}}})
	if p.Begin(t.Context(), sasl.Plain) != nil || p.Begin(t.Context(), "") != nil || p.Begin(t.Context(), sasl.OAuthBearer) == nil {
		t.Error("mechanisms are not those that are configured")
	}
	if _, ok := p.Anonymous(); ok {
		t.Error("anybody is let in")
	}
	authority := kafkatest.NewAuthority("authority")
	leaf := func(name string) []*x509.Certificate {
		return []*x509.Certificate{authority.Client(name).Leaf}
	}
	if who, known, err := p.ByCertificate(leaf("Alice")); err != nil || !known || who != (sasl.Identity{Principal: "alice", Mechanism: "TLS"}) {
		t.Errorf("%+v, %v, %v", who, known, err)
	}
	if _, known, err := p.ByCertificate(nil); known || err != nil {
		t.Errorf("without a certificate: %v, %v", known, err)
	}
	other, err := principal.Parse("RULE:^OU=(.*)$/$1/")
	if err != nil {
		t.Fatal(err)
	}
	p.Set(&Settings{Clients: Clients{Certificates: other, Anonymous: "guest"}})
	if _, known, err := p.ByCertificate(leaf("Alice")); known || err == nil || !strings.Contains(err.Error(), "no rule of principal-mapping-rules is for the client's certificate") {
		t.Errorf("no rule: %v, %v", known, err)
	}
	if who, ok := p.Anonymous(); !ok || who.Principal != "guest" {
		t.Errorf("%+v", who)
	}
}

// A principal without a credential is refused. A credential that cannot be used is somebody
// else's mistake: the client may try again.
func TestWhatBrokersAreShown(t *testing.T) {
	s := store(t, map[string]string{"alice": "key:Sesame\n", "broken": "Sesame"}, credentials.Options{Proxy: "proxy:Sesame"})
	p := New(nil)
	p.Set(&Settings{Brokers: Brokers{Credential: s.Lookup, ForProxy: s.ForProxy, Exchange: ByPassword(sasl.Plain, nil)}})
	exchange, err := p.Login(t.Context(), sasl.Identity{Principal: "alice"}, anyBroker)
	if err != nil {
		t.Fatal(err)
	}
	if message, _, err := exchange.Next(nil); string(message) != "\x00key\x00Sesame" || err != nil {
		t.Errorf("%q, %v", message, err)
	}
	if exchange, err = p.LoginAsProxy(t.Context(), anyBroker); err != nil || exchange == nil {
		t.Fatal(exchange, err)
	}
	if message, _, _ := exchange.Next(nil); string(message) != "\x00proxy\x00Sesame" {
		t.Errorf("%q", message)
	}
	var unavailable interface{ Unavailable() bool }
	if _, err := p.Login(t.Context(), sasl.Identity{Principal: "nobody"}, anyBroker); !errors.As(err, new(*credentials.NoneError)) || errors.As(err, &unavailable) {
		t.Errorf("%v", err)
	}
	if _, err := p.Login(t.Context(), sasl.Identity{Principal: "broken"}, anyBroker); !errors.As(err, &unavailable) || strings.Contains(fmt.Sprintf("%v %+v", err, err), "Sesame") {
		t.Errorf("%v", err)
	}
	p.Set(&Settings{}) // from now on brokers want nothing
	if exchange, err := p.Login(t.Context(), sasl.Identity{Principal: "alice"}, anyBroker); exchange != nil || err != nil {
		t.Errorf("%v, %v", exchange, err)
	}
	if exchange, err := p.LoginAsProxy(t.Context(), anyBroker); exchange != nil || err != nil {
		t.Errorf("%v, %v", exchange, err)
	}
}

// Each client shows its own certificate, also when TLS sessions could be resumed.
func TestEachClientShowsItsOwnCertificate(t *testing.T) {
	authority := kafkatest.NewAuthority("clients")
	all := map[string]string{}
	for _, name := range []string{"alice", "bob"} {
		cert, key := kafkatest.EncodeKeyPair(authority.Client(name))
		all[name] = string(cert) + string(key)
	}
	var mu sync.Mutex
	var shown []string
	b := kafkatest.NewAuthority("brokers")
	config := b.ServerConfig("b.test")
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, authority.Pool()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			if conn := c.(*tls.Conn); conn.Handshake() == nil {
				mu.Lock()
				shown = append(shown, conn.ConnectionState().PeerCertificates[0].Subject.CommonName)
				mu.Unlock()
				c.Write([]byte{0})
			}
			c.Close()
		}
	}()
	routes, err := route.New(route.Config{Suffix: "kafka.example", Upstreams: []route.Address{{Host: "bootstrap.b.test", Port: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	toBrokers := &tls.Config{RootCAs: b.Pool()}
	c := cluster.New(cluster.Config{Routes: routes, TLS: toBrokers, Dial: func(ctx context.Context, _ string, _ int32) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String())
	}})
	s := store(t, all, credentials.Options{})
	p := New(nil)
	p.SetCluster(c, toBrokers)
	p.Set(&Settings{Brokers: Brokers{Credential: s.Lookup, ForProxy: s.ForProxy, Certificate: credentials.KeyPair}})
	r, err := c.Resolve(c.Bootstrap())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"alice", "bob", "alice", "bob"}
	for _, name := range want {
		conn, _, err := p.Connect(t.Context(), sasl.Identity{Principal: name}, &r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		conn.Read(make([]byte, 1)) // until it has a session to resume
		conn.Close()
	}
	mu.Lock()
	defer mu.Unlock()
	if fmt.Sprint(shown) != fmt.Sprint(want) {
		t.Errorf("the broker was shown %v, want %v", shown, want)
	}
	if _, _, err := p.Connect(t.Context(), sasl.Identity{Principal: "carol"}, &r); !errors.As(err, new(*credentials.NoneError)) {
		t.Errorf("%v", err)
	}
}
