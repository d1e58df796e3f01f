package sasl

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// OAuthBearer is the mechanism of tokens (RFC 7628; KIP-255, extensions: KIP-342).
const OAuthBearer = "OAUTHBEARER"

// VerifyToken says who a token is of. The error is for the log: it tells what is wrong with the
// token, and has no part of it that is secret. An error with a method Unavailable says that
// it cannot be told now.
type VerifyToken func(ctx context.Context, token Secret) (Identity, error)

// These are those of Kafka's OAuthBearerClientInitialResponse.
var (
	bearerForm = regexp.MustCompile(`^n,(?:a=((?:[\x01-\x2B\x2D-\x3C\x3E-\x7F]|=2C|=3D)+))?,\x01((?:[A-Za-z]+=[\x21-\x7E \t\r\n]+\x01)*)\x01$`)
	authForm   = regexp.MustCompile(`^(\w+) +([-_.a-zA-Z0-9]+)$`)
)

// invalidToken is what a client is told whose token is not taken (RFC 7628, section 3.2.2), as
// by Kafka's validator.
const invalidToken = `{"status":"invalid_token"}`

// tokenServer is the server of OAUTHBEARER: the client's message, and for a token that is not
// taken a challenge that says so, which the client answers with a byte 1.
type tokenServer struct {
	ctx     context.Context
	verify  VerifyToken
	refused *Failure
	over    bool
	who     Identity
}

// NewTokenServer returns the server of OAUTHBEARER. ctx bounds how long verifying takes.
func NewTokenServer(ctx context.Context, verify VerifyToken) Server {
	return &tokenServer{ctx: ctx, verify: verify}
}

func (s *tokenServer) Identity() Identity { return s.who }

// Refused returns why the token was not taken, once the client was told that it was not; nil
// before. Many clients hang up then.
func (s *tokenServer) Refused() *Failure { return s.refused }

func (s *tokenServer) Next(in []byte) (out []byte, done bool, err error) {
	switch {
	case s.refused != nil && !s.over && len(in) == 1 && in[0] == 1:
		s.over = true
		return nil, false, s.refused
	case s.over || s.refused != nil:
		s.over = true
		return nil, false, invalidCredentials(OAuthBearer, "", errOver)
	}
	m, failure := parseBearer(in)
	if failure != nil {
		s.over = true
		return nil, false, failure
	}
	who, err := s.verify(s.ctx, m.token)
	var unavailable interface{ Unavailable() bool }
	switch {
	case errors.As(err, &unavailable):
		s.over = true
		return nil, false, err
	case err != nil:
		s.refused = &Failure{Text: invalidToken, Reason: err.Error()}
		return []byte(invalidToken), false, nil
	}
	s.over = true
	if m.authorization != "" && m.authorization != who.Principal {
		return nil, false, otherAuthorization(who.Principal)
	}
	who.Mechanism = OAuthBearer
	s.who = who
	return []byte{}, true, nil
}

// bearerMessage is what a client says.
type bearerMessage struct {
	authorization string
	token         Secret
}

// parseBearer reads the message of a client. Its extensions are looked at no further: they are
// for the broker that it does not reach.
func parseBearer(in []byte) (m bearerMessage, _ *Failure) {
	bad := func(reason string) (bearerMessage, *Failure) {
		return bearerMessage{}, invalidCredentials(OAuthBearer, "", reason)
	}
	if len(in) > MaxMessage {
		return bad(fmt.Sprintf("a message of %d bytes", len(in)))
	}
	if len(in) > 0 && in[0] != 'n' {
		return bad("channel binding is asked for, or the message does not begin as one of OAUTHBEARER does")
	}
	found := bearerForm.FindSubmatch(in)
	if found == nil {
		return bad("the message is not one of OAUTHBEARER")
	}
	auth := ""
	for pair := range strings.SplitSeq(string(found[2]), "\x01") {
		if name, value, _ := strings.Cut(pair, "="); name == "auth" {
			if auth != "" {
				return bad("auth is there twice")
			}
			auth = value
		}
	}
	parts := authForm.FindStringSubmatch(auth)
	if parts == nil || !strings.EqualFold(parts[1], "bearer") {
		return bad("auth is not Bearer and a token")
	}
	m.authorization = strings.NewReplacer("=2C", ",", "=3D", "=").Replace(string(found[1]))
	if len(m.authorization) > MaxName {
		return bad(fmt.Sprintf("an authorization id of %d bytes", len(m.authorization)))
	}
	m.token = Secret(parts[2])
	return m, nil
}

// tokenClient is the client of OAUTHBEARER.
type tokenClient struct {
	message func() []byte // fmt prints no more of a function than its address
	step    int
}

// NewTokenClient returns the client of OAUTHBEARER with a token, and with extensions (KIP-342),
// which config has checked.
func NewTokenClient(token Secret, extensions map[string]string) (Client, error) {
	if !authForm.MatchString("Bearer " + token.Reveal()) {
		return nil, errors.New("OAUTHBEARER: the credential is not a token")
	}
	return &tokenClient{message: func() []byte {
		var b strings.Builder
		b.WriteString("n,,\x01auth=Bearer " + token.Reveal())
		for _, name := range slices.Sorted(maps.Keys(extensions)) {
			b.WriteString("\x01" + name + "=" + extensions[name])
		}
		b.WriteString("\x01\x01")
		return []byte(b.String())
	}}, nil
}

func (*tokenClient) Mechanism() string { return OAuthBearer }

// Format hides the token from fmt.
func (*tokenClient) Format(f fmt.State, _ rune) { fmt.Fprint(f, OAuthBearer+" client") }

// Next sends the token. A broker that does not take it says why, and refuses when it is
// answered with a byte 1.
func (c *tokenClient) Next(challenge []byte) (response []byte, done bool, err error) {
	c.step++
	switch {
	case c.step == 1 && len(challenge) == 0:
		return c.message(), false, nil
	case c.step == 2 && len(challenge) == 0:
		return nil, true, nil
	case c.step == 2:
		return []byte{1}, false, nil
	}
	return nil, false, errors.New("OAUTHBEARER: the broker asks for more, and there is no more")
}
