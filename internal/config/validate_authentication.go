package config

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	clientMechanisms = []string{Plain, ScramSHA256, ScramSHA512, OAuthBearer, TLS, Anonymous}
	brokerMechanisms = []string{Plain, ScramSHA256, ScramSHA512, OAuthBearer, AWSMSKIAM, TLS, None}
)

// authentication checks who clients of a cluster are, and who they are to the brokers.
func (v *validator) authentication(name string, c *Cluster, path func(string) string) {
	for _, target := range slices.Sorted(maps.Keys(c.Targets)) {
		own := c.Targets[target].Authentication
		at := path("targets." + target + ".authentication")
		switch {
		case own == nil:
		case own.Brokers == nil:
			v.wrong.addf(at, "wants brokers: how the proxy authenticates with the brokers there")
		case c.Authentication == nil:
			v.wrong.refer([]string{at}, "needs %s: who the clients are", path("authentication"))
		default:
			v.brokerMechanism(&c.Targets[target].Target, own.Brokers, at+".brokers")
		}
	}
	a := c.Authentication
	if a == nil {
		return
	}
	if len(a.Clients) == 0 {
		v.wrong.addf(path("authentication.clients"), "required: how clients prove who they are, such as [{mechanism: SCRAM-SHA-256, users: users.scram}]; [{mechanism: ANONYMOUS}] lets everybody in")
	}
	v.clientMechanisms(name, a.Clients, path("authentication.clients"))
	v.brokersOfTargets(c, path)
}

// brokersOfTargets checks how the proxy authenticates with the brokers of each target that has
// nothing of its own.
func (v *validator) brokersOfTargets(c *Cluster, path func(string) string) {
	targets := []*Target{}
	if len(c.Targets) == 0 {
		targets = append(targets, &c.Target)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Targets)) {
		if t := c.Targets[name]; t.Authentication == nil {
			targets = append(targets, &t.Target)
		}
	}
	if len(targets) == 0 && c.Authentication.Brokers == nil {
		return
	}
	at := path("authentication.brokers")
	if c.Authentication.Brokers == nil {
		v.wrong.addf(at, "required: how the proxy authenticates with the brokers, such as {mechanism: PLAIN, credentials: {folder: credentials}}; {mechanism: NONE} for brokers that ask nobody who he is")
		return
	}
	if len(targets) == 0 { // of no target, and yet to be right
		targets = append(targets, &Target{})
	}
	for i, t := range targets {
		if i == 0 || t.UpstreamPlaintext {
			v.brokerMechanism(t, c.Authentication.Brokers, at)
		}
	}
}

func (v *validator) clientMechanisms(cluster string, all []*ClientMechanism, path string) {
	first := map[string]int{}
	for i, m := range all {
		at := func(setting string) string { return fmt.Sprintf("%s[%d].%s", path, i, setting) }
		if !slices.Contains(clientMechanisms, m.Mechanism) {
			v.wrong.addf(at("mechanism"), "%s", notMechanism(m.Mechanism, clientMechanisms))
			continue
		}
		if before, twice := first[m.Mechanism]; twice {
			v.wrong.refer([]string{at("mechanism")}, m.Mechanism+" is that of %s, too: each mechanism is there once", fmt.Sprintf("%s[%d]", path, before))
			continue
		}
		first[m.Mechanism] = i
		v.fieldsOf(m, at)
		switch m.Mechanism {
		case OAuthBearer:
			v.oauth(m, at)
		case TLS:
			v.withCertificates(cluster, at("mechanism"))
		case Anonymous:
			if len(all) == 1 {
				v.warnf(at("mechanism"), "nobody is asked who he is: whoever reaches the proxy is %s to the brokers", m.principal())
			}
		}
		v.overPlaintext(cluster, m.Mechanism, at("mechanism"))
	}
}

// principal is who a client is that does not log in.
func (m *ClientMechanism) principal() string {
	if m.Principal == "" {
		return Anonymous
	}
	return m.Principal
}

// notMechanism says that there is no such mechanism.
func notMechanism(name string, known []string) string {
	switch upper := strings.ToUpper(name); {
	case name == "":
		return "required: one of " + strings.Join(known, ", ")
	case upper != name && slices.Contains(known, upper):
		return fmt.Sprintf("%q is not a mechanism: write %s", name, upper)
	case upper == "GSSAPI" || upper == "KERBEROS":
		return fmt.Sprintf("%q is not done: there are %s. Without authentication in the configuration, it goes through untouched", name, strings.Join(known, ", "))
	}
	return fmt.Sprintf("%q is not a mechanism%s", name, didYouMean(name, slices.Values(known)))
}

// fieldsOf checks that a mechanism has the settings that it needs, and no others.
func (v *validator) fieldsOf(m *ClientMechanism, at func(string) string) {
	const (
		ofUsers = "PLAIN and SCRAM"
		ofOAuth = OAuthBearer
	)
	is := map[string]bool{ofUsers: m.Mechanism == Plain || m.Mechanism == ScramSHA256 || m.Mechanism == ScramSHA512, m.Mechanism: true}
	for _, f := range []struct {
		setting, of, required string
		given                 bool
	}{
		{"users", ofUsers, "the file of users, as kafka-sni-proxy passwd writes it", m.Users != ""},
		{"jwks", ofOAuth, "the keys that sign tokens: their https URL, or a file", m.JWKS != ""},
		{"issuer", ofOAuth, "who issues tokens, as in their claim iss: else tokens of anybody who has a key there would do", m.Issuer != ""},
		{"audience", ofOAuth, "whom tokens are for, as in their claim aud: else tokens for any other service would do", m.Audience != ""},
		{"principal-claim", ofOAuth, "", m.PrincipalClaim != ""},
		{"clock-skew", ofOAuth, "", m.ClockSkew != 0},
		{"ca-certs", ofOAuth, "", m.CACerts != ""},
		{"principal-mapping-rules", TLS, "", m.PrincipalMappingRules != ""},
		{"principal", Anonymous, "", m.Principal != ""},
	} {
		switch {
		case f.given && !is[f.of]:
			v.wrong.addf(at(f.setting), "is for %s, and the mechanism is %s: leave it out", f.of, m.Mechanism)
		case !f.given && is[f.of] && f.required != "":
			v.wrong.addf(at(f.setting), "required: %s", f.required)
		}
	}
}

func (v *validator) oauth(m *ClientMechanism, at func(string) string) {
	if m.JWKS != "" && strings.Contains(m.JWKS, "://") {
		if err := checkIssuerURL(m.JWKS, "of the keys", "https://login.example/keys"); err != nil {
			v.wrong.Add(err, at("jwks"))
		}
	} else if m.CACerts != "" {
		v.wrong.refer([]string{at("ca-certs")}, "is for a URL, and %s is a file: leave it out", at("jwks"))
	}
	if m.ClockSkew < 0 || m.ClockSkew > 10*time.Minute {
		v.wrong.addf(at("clock-skew"), "%v is not within 0s and 10m; 30s is usual", m.ClockSkew)
	}
}

// checkIssuerURL checks where something is fetched that logins depend on.
func checkIssuerURL(text, what, example string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "":
		return fmt.Errorf("this is not the URL %s: write it like %s", what, example)
	case u.User != nil:
		return fmt.Errorf("a user or a password does not belong into the URL %s", what)
	case u.Fragment != "":
		return fmt.Errorf("there is a # in the URL %s: write it like %s", what, example)
	case u.Scheme == "https":
	case u.Scheme != "http":
		return fmt.Errorf("the URL %s begins with %s://: write it like %s", what, u.Scheme, example)
	case u.Hostname() != "localhost" && !net.ParseIP(u.Hostname()).IsLoopback():
		return fmt.Errorf("the URL %s must be https://: who can change what comes from there can let himself in; http:// is for this machine alone", what)
	}
	return nil
}

// withCertificates checks that clients of a cluster are asked for certificates somewhere.
func (v *validator) withCertificates(cluster, at string) {
	for _, l := range v.config.Listeners {
		if l.ClientCertificates.CACerts != "" && slices.Contains(v.config.Served(l), cluster) {
			return
		}
	}
	v.wrong.addf(at, "TLS wants client-certificates.ca-certs at a listener that serves the cluster: without it, no client is asked for a certificate")
}

// overPlaintext warns of what everybody on the way can read.
func (v *validator) overPlaintext(cluster, mechanism, at string) {
	if mechanism != Plain && mechanism != OAuthBearer {
		return
	}
	for i, l := range v.config.Listeners {
		if l.Plaintext && slices.Contains(v.config.Served(l), cluster) {
			v.warnings.refer([]string{at}, "%s is without TLS: everybody on the way can read what clients log in with", ListenerPath(i, "plaintext"))
		}
	}
}

var (
	extensionName  = regexp.MustCompile(`^[A-Za-z]+$`)
	extensionValue = regexp.MustCompile(`^[\x21-\x7E \t\r\n]+$`)
)

func (v *validator) brokerMechanism(t *Target, m *BrokerMechanism, path string) {
	at := func(setting string) string { return path + "." + setting }
	if !slices.Contains(brokerMechanisms, m.Mechanism) {
		v.wrong.addf(at("mechanism"), "%s", notMechanism(m.Mechanism, brokerMechanisms))
		return
	}
	if m.MaxCredentialAge != 0 && m.MaxCredentialAge < time.Second {
		v.wrong.addf(at("max-credential-age"), "%v is too short: choose a second or more, such as 1h, or 0 for none", m.MaxCredentialAge)
	}
	v.brokerFields(m, at)
	v.credentials(m, at)
	switch {
	case t.UpstreamPlaintext && m.Mechanism == TLS:
		v.wrong.addf(at("mechanism"), "TLS shows certificates, and the brokers are connected to without TLS (upstream-plaintext)")
	case t.UpstreamPlaintext && (m.Mechanism == Plain || m.Mechanism == OAuthBearer || m.Mechanism == AWSMSKIAM):
		v.warnf(at("mechanism"), "the brokers are connected to without TLS (upstream-plaintext): everybody on the way can read the credentials")
	}
	if err := checkIssuerURL(m.TokenEndpoint, "where tokens are fetched", "https://login.example/token"); m.TokenEndpoint != "" && err != nil {
		v.wrong.Add(err, at("token-endpoint"))
	}
	for _, name := range slices.Sorted(maps.Keys(m.Extensions)) {
		switch {
		case !extensionName.MatchString(name) || name == "auth":
			v.wrong.addf(at("extensions."+name), "%q is not the name of an extension: it is made of letters, and is not auth (RFC 7628)", name)
		case !extensionValue.MatchString(m.Extensions[name]):
			v.wrong.addf(at("extensions."+name), "is empty, or has characters that are not ASCII (RFC 7628)")
		}
	}
}

// brokerFields checks that a mechanism has no settings of others.
func (v *validator) brokerFields(m *BrokerMechanism, at func(string) string) {
	for _, f := range []struct {
		setting, of string
		given       bool
	}{
		{"token-endpoint", OAuthBearer, m.TokenEndpoint != ""},
		{"scope", OAuthBearer, m.Scope != ""},
		{"audience", OAuthBearer, m.Audience != ""},
		{"ca-certs", OAuthBearer, m.CACerts != ""},
		{"extensions", OAuthBearer, len(m.Extensions) > 0},
		{"region", AWSMSKIAM, m.Region != ""},
	} {
		switch {
		case !f.given:
		case f.of != m.Mechanism:
			v.wrong.addf(at(f.setting), "is for %s, and the mechanism is %s: leave it out", f.of, m.Mechanism)
		case f.of == OAuthBearer && m.TokenEndpoint == "" && f.setting != "extensions":
			v.wrong.refer([]string{at(f.setting)}, "needs %s: without it a credential is a token, and none is fetched", at("token-endpoint"))
		}
	}
}

func (v *validator) credentials(m *BrokerMechanism, at func(string) string) {
	c := &m.Credentials
	var given []string
	for _, setting := range []string{"folder", "file", "exec", "template"} {
		if c.sources()[setting] {
			given = append(given, at("credentials."+setting))
		}
	}
	if m.Mechanism == None {
		if len(given) > 0 || c.Default != "" || c.Proxy != "" {
			v.wrong.addf(at("credentials"), "the mechanism is NONE, which shows the brokers nothing: leave it out")
		}
		return
	}
	switch {
	case len(given) > 1:
		v.wrong.refer(given[:2], "contradict each other: leave one of them out")
	case len(given) == 0 && c.Default == "":
		v.wrong.addf(at("credentials"), "required: what the brokers are shown: one of folder, file, exec and template, for each principal, or default for all")
	case len(given) == 0:
		v.warnf(at("credentials.default"), "all clients are the same to the brokers, whoever they are: their ACLs and quotas cannot tell them apart")
	}
	if len(c.Exec) == 0 && c.ExecTimeout != 0 {
		v.wrong.refer([]string{at("credentials.exec-timeout")}, "needs %s", at("credentials.exec"))
	}
	if c.ExecTimeout < 0 || c.ExecTimeout > 10*time.Second {
		v.wrong.addf(at("credentials.exec-timeout"), "%v is not within 0s and 10s: a client waits meanwhile, and gives up after 15s", c.ExecTimeout)
	}
	if t := string(c.Template); t != "" && !strings.Contains(t, "${"+Principal+"}") {
		v.wrong.addf(at("credentials.template"), "there is no ${principal} in it: what is the same for all principals is default")
	}
	for setting, value := range map[string]string{"template": string(c.Template), "default": string(c.Default), "proxy": string(c.Proxy)} {
		if value == "***" {
			v.wrong.addf(at("credentials."+setting), "*** stands where a secret is not shown: write it, or file:/path of a file that has it")
		}
	}
}
