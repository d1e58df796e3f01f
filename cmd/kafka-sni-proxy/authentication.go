package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/config"
	"kafka-sni-proxy/internal/credentials"
	"kafka-sni-proxy/internal/login"
	"kafka-sni-proxy/internal/oauth"
	"kafka-sni-proxy/internal/preflight"
	"kafka-sni-proxy/internal/principal"
	"kafka-sni-proxy/internal/reload"
	"kafka-sni-proxy/internal/sasl"
)

// authentication is what a cluster's settings of that name were made into.
type authentication struct {
	users     []*usersFile
	store     *credentials.Store // nil: brokers are shown nothing
	verifiers []*oauth.Verifier
	policy    *login.Policy // of all clusters of that name, one after the other

	settings login.Settings // but for the users
}

// usersFile is a file of users, which several mechanisms may share.
type usersFile struct {
	reload.Source[*sasl.Users]
	mechanisms []string
}

// inForce are the settings, with the users as they are now.
func (a *authentication) inForce() *login.Settings {
	s := a.settings
	s.Clients.Users = map[string]*sasl.Users{}
	for _, users := range a.users {
		for _, mechanism := range users.mechanisms {
			s.Clients.Users[mechanism] = users.Value()
		}
	}
	return &s
}

// parts are the files that are watched.
func (a *authentication) parts() (all []reload.Part) {
	if a == nil {
		return nil
	}
	for _, users := range a.users {
		all = append(all, users)
	}
	return all
}

// warnings are of what is likely to be wrong.
func (a *authentication) warnings() (all []string) {
	if a == nil {
		return nil
	}
	for _, users := range a.users {
		all = append(all, users.Warn()...)
	}
	if a.store != nil {
		all = append(all, a.store.Warnings()...)
	}
	return all
}

// authentication reads what the authentication of a cluster names; nil: there is none.
func (l *loader) authentication(name string, c *config.Cluster) *authentication {
	brokers := c.BrokerMechanism()
	if c.Authentication == nil || brokers == nil {
		return nil
	}
	a := &authentication{}
	for i, m := range c.Authentication.Clients {
		path := func(setting string) string {
			return config.ClusterPath(name, fmt.Sprintf("authentication.clients[%d].%s", i, setting))
		}
		l.clientMechanism(a, m, path)
	}
	path := config.ClusterPath(name, "authentication.brokers")
	if t := c.Targets[c.Active]; t != nil && t.Authentication != nil {
		path = config.TargetPath(name, c, "authentication.brokers")
	}
	l.brokerMechanism(a, brokers, path)
	return a
}

func (l *loader) clientMechanism(a *authentication, m *config.ClientMechanism, path func(string) string) {
	clients := &a.settings.Clients
	switch m.Mechanism {
	case config.TLS:
		rules, err := principal.Parse(m.PrincipalMappingRules)
		if err != nil {
			l.add(err, path("principal-mapping-rules"))
		}
		clients.Certificates = rules
	case config.Anonymous:
		clients.Anonymous = m.Principal
		if m.Principal == "" {
			clients.Anonymous = config.Anonymous
		}
	case config.OAuthBearer:
		clients.Mechanisms = append(clients.Mechanisms, m.Mechanism)
		l.tokens(a, m, path)
	default:
		clients.Mechanisms = append(clients.Mechanisms, m.Mechanism)
		l.users(a, m, path("users"))
	}
}

// tokens prepares the verification of tokens.
func (l *loader) tokens(a *authentication, m *config.ClientMechanism, path func(string) string) {
	authorities, ok := l.authorities(m.CACerts, path("ca-certs"))
	if !ok {
		return
	}
	v, err := oauth.NewVerifier(oauth.Options{
		JWKS: m.JWKS, CACerts: authorities, Issuer: m.Issuer, Audience: m.Audience, PrincipalClaim: m.PrincipalClaim, ClockSkew: m.ClockSkew,
		Log: func(err error) { l.keysFetched(path("jwks"), err) },
	})
	if err != nil {
		l.add(err, path("jwks"))
		return
	}
	a.verifiers = append(a.verifiers, v)
	a.settings.Clients.Verify = v.Verify
}

// authorities reads a file of authorities; nil: there is none, and those of the system do.
func (l *loader) authorities(file, path string) (text []byte, ok bool) {
	if file == "" {
		return nil, true
	}
	if _, err := certs.LoadPool(file); err != nil {
		l.add(err, path)
		return nil, false
	}
	text, err := os.ReadFile(file)
	if err != nil {
		l.add(err, path)
	}
	return text, err == nil
}

// keysFetched logs that keys of an issuer cannot be fetched, or can be again.
func (l *loader) keysFetched(path string, err error) {
	if err == nil {
		l.log.Info("the keys of an issuer can be fetched again", "setting", l.name(path))
		return
	}
	l.log.Warn("the keys of an issuer cannot be fetched: those that are known stay in use", "setting", l.name(path), "error", err)
}

// users reads a file of users, once for all mechanisms.
func (l *loader) users(a *authentication, m *config.ClientMechanism, path string) {
	same := slices.IndexFunc(a.users, func(u *usersFile) bool { return u.Files[0] == m.Users })
	if same >= 0 {
		a.users[same].mechanisms = append(a.users[same].mechanisms, m.Mechanism)
		return
	}
	u := &usersFile{mechanisms: []string{m.Mechanism}}
	u.Source = reload.Source[*sasl.Users]{
		Setting:  l.name(path),
		Files:    []string{m.Users},
		Read:     func() (*sasl.Users, error) { return readUsers(m.Users, l.mask()) },
		Same:     (*sasl.Users).Equal,
		Describe: func(all *sasl.Users) []any { return []any{"users", all.Len()} },
		Warnings: func(all *sasl.Users) []string { return usersWarnings(m.Users, u.mechanisms, all) },
	}
	if err := u.Load(); err != nil {
		l.add(err, path)
	}
	a.users = append(a.users, u)
}

func readUsers(file string, mask sasl.Mask) (*sasl.Users, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist: make it with kafka-sni-proxy passwd %s USER", file, file)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, sasl.MaxUsersFile+1))
	if err != nil {
		return nil, err
	}
	users, err := sasl.ParseUsers(text, mask)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return users, nil
}

func usersWarnings(file string, mechanisms []string, users *sasl.Users) (all []string) {
	for _, mechanism := range mechanisms {
		if users.Count(mechanism) == 0 {
			all = append(all, fmt.Sprintf("nobody can log in by %s with %s: add users with kafka-sni-proxy passwd %s USER", mechanism, file, file))
		}
	}
	if is, err := os.Stat(file); err == nil && is.Mode().Perm()&0o004 != 0 {
		all = append(all, fmt.Sprintf("everybody on this machine can read %s, and try passwords with it: chmod o-r %s", file, file))
	}
	return all
}

// brokerMechanism opens what brokers are shown.
func (l *loader) brokerMechanism(a *authentication, m *config.BrokerMechanism, path string) {
	switch m.Mechanism {
	case config.None:
		return
	case config.AWSMSKIAM:
		l.add(errors.New("this version does not log in by AWS_MSK_IAM yet: have MSK take SCRAM-SHA-512, or leave authentication out, so that clients log in at MSK themselves"), path+".mechanism")
		return
	}
	c := &m.Credentials
	store, err := credentials.New(credentials.Options{
		Folder: c.Folder, File: c.File, Exec: c.Exec, ExecTimeout: c.ExecTimeout, MaxAge: m.MaxCredentialAge,
		Template: sasl.Secret(c.Template), Default: sasl.Secret(c.Default), Proxy: sasl.Secret(c.Proxy),
	})
	if err != nil {
		l.add(err, path+".credentials."+c.Source())
		return
	}
	a.store = store
	b := &a.settings.Brokers
	b.Credential, b.ForProxy = store.Lookup, store.ForProxy
	switch m.Mechanism {
	case config.TLS:
		b.Certificate = credentials.KeyPair
	case config.OAuthBearer:
		b.Exchange = l.byToken(m, path)
	default:
		b.Exchange = login.ByPassword(m.Mechanism, l.gate)
	}
}

// byToken is how tokens are shown to brokers.
func (l *loader) byToken(m *config.BrokerMechanism, path string) login.Exchange {
	if m.TokenEndpoint == "" {
		return login.ByToken(m.Extensions)
	}
	authorities, ok := l.authorities(m.CACerts, path+".ca-certs")
	if !ok {
		return nil
	}
	source, err := oauth.NewSource(oauth.Endpoint{URL: m.TokenEndpoint, Scope: m.Scope, Audience: m.Audience, CACerts: authorities})
	if err != nil {
		l.add(err, path+".token-endpoint")
		return nil
	}
	return login.ByFetchedToken(source, m.Extensions)
}

// newMask returns what the salts of users that do not exist are made of: of a key that all
// copies of the proxy have, where there is one.
func newMask(c *config.Config) sasl.Mask {
	for _, l := range c.Listeners {
		for _, pair := range l.Certificates {
			if key, err := os.ReadFile(pair.Key); err == nil {
				return sasl.MaskFrom(key)
			}
		}
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	return sasl.MaskFrom(secret)
}

// authentication checks what clients of a cluster log in with, and has the check log in at
// the brokers as the proxy does.
func (w *wayCheck) authentication(ctx context.Context, name string, part *clusterPart, c *preflight.Cluster) {
	a := part.login
	if a == nil {
		return
	}
	subject := "cluster " + name
	for _, v := range a.verifiers {
		result := preflight.Result{Subject: subject, What: "keys of the issuer"}
		if err := v.Warm(ctx); err != nil {
			result.Level, result.Result, result.Remedy = preflight.Failed, err.Error(), "see that jwks is right, can be reached from here, and that its certificate is trusted (ca-certs)"
		} else {
			n, _ := v.Keys()
			result.Result = fmt.Sprintf("%d can verify tokens", n)
		}
		w.report.Add(result)
	}
	for _, warning := range a.warnings() {
		w.report.Add(preflight.Result{Subject: subject, What: "authentication", Level: preflight.Warning, Result: warning})
	}
	b := &a.settings.Brokers
	if b.ForProxy == nil {
		return
	}
	credential := b.ForProxy()
	switch {
	case credential == "":
		w.report.Add(preflight.Result{Subject: subject, What: "login at brokers", Level: preflight.Note, Result: "not checked: the proxy has no credential of its own", Remedy: "give authentication.brokers.credentials a proxy: then the proxy can ask the brokers itself where they are, too"})
	case b.Certificate != nil:
		pair, err := b.Certificate(credential)
		if err != nil {
			w.report.Add(preflight.Result{Subject: subject, What: "login at brokers", Level: preflight.Failed, Result: err.Error(), Remedy: "correct authentication.brokers.credentials.proxy"})
			return
		}
		c.TLS.Certificates = []tls.Certificate{pair}
	case c.Login == nil:
		policy := login.New(w.gate)
		policy.Set(a.inForce())
		c.Login = &preflight.Login{Begin: policy.LoginAsProxy}
	}
}
