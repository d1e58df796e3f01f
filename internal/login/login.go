// Package login is who the clients of a cluster are, and who they are to its brokers: it
// puts together the mechanisms of package sasl, the files of users, the rules for
// certificates and the credentials. A [Policy] is what sessions ask, as their
// session.Authentication; [Settings] are what it goes by, and may change while sessions run.
//
// It opens no connection of its own: brokers are connected to by the cluster, issuers of
// tokens by package oauth.
package login

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/principal"
	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/sasl"
	"kafka-sni-proxy/internal/session"
	"kafka-sni-proxy/internal/tlswire"
)

// Settings say how clients of a cluster prove who they are, and what brokers are shown for
// them. They are a value: a change makes new ones.
type Settings struct {
	Clients Clients
	Brokers Brokers
}

// Clients is how clients prove who they are.
type Clients struct {
	// Mechanisms are those of SASL, as clients are told them.
	Mechanisms []string
	// Users are the users of PLAIN and SCRAM, by mechanism.
	Users map[string]*sasl.Users
	// Verify verifies a token (OAUTHBEARER).
	Verify sasl.VerifyToken
	// Certificates makes principals of certificates. Nil: these do not tell who a client is.
	Certificates *principal.Mapper
	// Anonymous is who a client is that does not log in. "": it is refused.
	Anonymous string
}

// Brokers is how the proxy logs in at brokers.
type Brokers struct {
	// Credential returns what is shown for a principal. Nil: brokers want nothing.
	Credential func(ctx context.Context, principal string) (sasl.Secret, error)
	// ForProxy returns what is shown for the proxy's own questions. Nil, or "": nothing.
	ForProxy func() sasl.Secret
	// Exchange begins an exchange with a broker. Nil: there is none, as with certificates.
	Exchange Exchange
	// Certificate reads a credential that is a certificate with its key. Nil: it is none.
	Certificate func(credential sasl.Secret) (tls.Certificate, error)
}

// Policy is how the clients of one cluster log in. It outlives changes of the settings, so
// that sessions that run are held to what is in force.
type Policy struct {
	gate *sasl.Gate

	settings atomic.Pointer[Settings]
	ways     atomic.Pointer[ways]
}

// New returns a policy. It is of no use before Set and SetCluster.
func New(gate *sasl.Gate) *Policy { return &Policy{gate: gate} }

// Set puts settings in force.
func (p *Policy) Set(s *Settings) { p.settings.Store(s) }

// SetCluster says which cluster the brokers are of. tlsConfig is how they are connected to;
// nil: in plaintext.
func (p *Policy) SetCluster(c *cluster.Cluster, tlsConfig *tls.Config) {
	if w := p.ways.Load(); w == nil || w.base != c { // else what it has learned stays
		p.ways.Store(&ways{base: c, tls: tlsConfig})
	}
}

// Mechanisms implements session.Authentication.
func (p *Policy) Mechanisms() []string { return p.settings.Load().Clients.Mechanisms }

// Begin implements session.Authentication.
func (p *Policy) Begin(ctx context.Context, mechanism string) sasl.Server {
	c := &p.settings.Load().Clients
	if !slices.Contains(c.Mechanisms, mechanism) {
		return nil
	}
	if mechanism == sasl.OAuthBearer {
		return sasl.NewTokenServer(ctx, c.Verify)
	}
	server, err := sasl.NewServer(ctx, mechanism, c.Users[mechanism], p.gate)
	if err != nil {
		return nil // there is no such mechanism
	}
	return server
}

// ByCertificate implements session.Authentication.
func (p *Policy) ByCertificate(chain []*x509.Certificate) (sasl.Identity, bool, error) {
	rules := p.settings.Load().Clients.Certificates
	if rules == nil || len(chain) == 0 {
		return sasl.Identity{}, false, nil
	}
	name, ok, err := rules.Principal(chain[0])
	switch {
	case err != nil:
		return sasl.Identity{}, false, err
	case !ok:
		return sasl.Identity{}, false, fmt.Errorf("no rule of principal-mapping-rules is for the client's certificate %q: add one, or DEFAULT", chain[0].Subject)
	}
	return sasl.Identity{Principal: name, Mechanism: "TLS"}, true, nil
}

// Anonymous implements session.Authentication.
func (p *Policy) Anonymous() (sasl.Identity, bool) {
	name := p.settings.Load().Clients.Anonymous
	return sasl.Identity{Principal: name, Mechanism: "ANONYMOUS"}, name != ""
}

// Login implements session.Authentication.
func (p *Policy) Login(ctx context.Context, client sasl.Identity, _ route.Address) (sasl.Client, error) {
	b := &p.settings.Load().Brokers
	if b.Exchange == nil {
		return nil, nil
	}
	credential, err := b.Credential(ctx, client.Principal)
	if err != nil {
		return nil, err
	}
	return b.Exchange.begin(ctx, credential, client.Principal)
}

// Connect implements session.Authentication.
func (p *Policy) Connect(ctx context.Context, client sasl.Identity, r *route.Route) (*tlswire.Conn, route.Address, error) {
	b, w := &p.settings.Load().Brokers, p.ways.Load()
	if b.Certificate == nil {
		return w.base.Connect(ctx, r)
	}
	credential, err := b.Credential(ctx, client.Principal)
	if err != nil {
		return nil, route.Address{}, err
	}
	c, err := w.with(credential, b.Certificate)
	if err != nil {
		return nil, route.Address{}, &unusable{client.Principal, err}
	}
	return c.Connect(ctx, r)
}

// LoginAsProxy begins an exchange for the proxy's own questions; nil: none is wanted, or there
// is no credential for that. It is for [cluster.Config].
func (p *Policy) LoginAsProxy(ctx context.Context, _ route.Address) (sasl.Client, error) {
	s := p.settings.Load()
	if s == nil || s.Brokers.Exchange == nil {
		return nil, nil
	}
	credential := s.Brokers.ForProxy()
	if credential == "" {
		return nil, nil
	}
	return s.Brokers.Exchange.begin(ctx, credential, "the proxy itself")
}

// APIVersions implements session.Authentication.
func (p *Policy) APIVersions(ctx context.Context, r *route.Route, version int16) ([]byte, error) {
	c, err := p.forProxy()
	if err != nil {
		return nil, err
	}
	return c.APIVersions(ctx, r, version)
}

// forProxy returns the cluster as the proxy itself connects to it.
func (p *Policy) forProxy() (*cluster.Cluster, error) {
	b, w := &p.settings.Load().Brokers, p.ways.Load()
	if b.Certificate == nil || b.ForProxy == nil {
		return w.base, nil
	}
	credential := b.ForProxy()
	if credential == "" {
		return w.base, nil
	}
	return w.with(credential, b.Certificate)
}

// ways are the ways to a cluster: one for each certificate.
type ways struct {
	base *cluster.Cluster
	tls  *tls.Config

	mu  sync.Mutex
	all map[[32]byte]*cluster.Cluster // by the hash of the credential
}

// maxWays is for how many certificates a way is kept. Each keeps TLS sessions.
const maxWays = 10_000

// rememberedSessions is how many TLS sessions are kept for each of them: one for each broker
// of most clusters.
const rememberedSessions = 16

// with returns the way with a certificate.
func (w *ways) with(credential sasl.Secret, read func(sasl.Secret) (tls.Certificate, error)) (*cluster.Cluster, error) {
	key := sha256.Sum256([]byte(credential.Reveal()))
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.all[key]; c != nil {
		return c, nil
	}
	if w.tls == nil {
		return nil, errors.New("the brokers are connected to without TLS: there is nobody to show a certificate to")
	}
	cert, err := read(credential)
	if err != nil {
		return nil, err
	}
	config := w.tls.Clone()
	config.Certificates = []tls.Certificate{cert}
	config.ClientSessionCache = tls.NewLRUClientSessionCache(rememberedSessions)
	if w.all == nil || len(w.all) >= maxWays {
		w.all = map[[32]byte]*cluster.Cluster{}
	}
	c := w.base.With(config)
	w.all[key] = c
	return c, nil
}

var _ session.Authentication = (*Policy)(nil)
