package sasl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// plainServer is the server of PLAIN (RFC 4616) for users whose passwords are kept
// as SCRAM credentials: the keys are derived from the password that the client
// sends, and compared.
type plainServer struct {
	ctx   context.Context
	users *Users
	gate  *Gate
	over  bool
	who   Identity
}

func (s *plainServer) Identity() Identity { return s.who }

func (s *plainServer) Next(in []byte) (out []byte, done bool, err error) {
	if s.over {
		return nil, false, invalidCredentials(Plain, "", errOver)
	}
	s.over = true
	m, failure := parsePlain(in)
	if failure != nil {
		return nil, false, failure
	}
	if failure := s.verify(m); failure != nil {
		return nil, false, failure
	}
	return []byte{}, true, nil
}

// errOver is the reason of a message after the exchange.
const errOver = "a message after the end of the exchange"

// verify does the same work for each user, whether there is such a user or not.
func (s *plainServer) verify(m plainMessage) *Failure {
	name, err := prepareName(m.name)
	if err != nil {
		return invalidCredentials(Plain, m.name, err.Error())
	}
	c, known := s.users.find(kindPlain, name)
	match := false
	if err := s.gate.Do(s.ctx, func() { match = c.matches(preparePassword(m.password)) }); err != nil {
		return invalidCredentials(Plain, name, "too many logins at once: "+err.Error())
	}
	switch {
	case match && known:
		s.who = Identity{Principal: name, Mechanism: Plain}
		return nil
	case known:
		return wrongPassword(name, "the password is wrong")
	}
	return wrongPassword(name, "there is no such user")
}

// wrongPassword has the text of Kafka's PlainSaslServer.
func wrongPassword(user, reason string) *Failure {
	return &Failure{Text: "Authentication failed: Invalid username or password", Reason: reason, User: user}
}

// plainMessage is what a client says: [authzid] NUL authcid NUL passwd.
type plainMessage struct{ name, password string }

// parsePlain reads the message of a client. Texts are those of Kafka's
// PlainSaslServer.
func parsePlain(in []byte) (m plainMessage, _ *Failure) {
	if len(in) > MaxMessage {
		return m, invalidCredentials(Plain, "", fmt.Sprintf("a message of %d bytes", len(in)))
	}
	if !utf8.Valid(in) {
		return m, invalidCredentials(Plain, "", "the message is not UTF-8")
	}
	parts := strings.SplitN(string(in), "\x00", 4) // a fourth is one too many
	if len(parts) != 3 {
		return m, invalidCredentials(Plain, "", fmt.Sprintf("the message has %d NUL, and should have 2", strings.Count(string(in), "\x00")))
	}
	authorization, name, password := parts[0], parts[1], parts[2]
	switch {
	case name == "":
		return m, &Failure{Text: "Authentication failed: username not specified", Reason: "no name"}
	case len(name) > MaxName:
		return m, invalidCredentials(Plain, "", fmt.Sprintf("a name of %d bytes", len(name)))
	case password == "":
		return m, &Failure{Text: "Authentication failed: password not specified", Reason: "no password", User: name}
	case len(password) > MaxPassword:
		return m, invalidCredentials(Plain, name, fmt.Sprintf("a password of %d bytes", len(password)))
	case authorization != "" && authorization != name:
		return m, otherAuthorization(name)
	}
	return plainMessage{name, password}, nil
}

// plainClient is the client of PLAIN.
type plainClient struct {
	message func() []byte // fmt prints no more of a function than its address
	over    bool
}

func newPlainClient(c Credential) (*plainClient, error) {
	if err := checkCredential(Plain, c); err != nil {
		return nil, err
	}
	if strings.ContainsRune(c.User+c.Password.Reveal(), 0) {
		return nil, errors.New("PLAIN: the credential has a NUL, which PLAIN cannot send")
	}
	return &plainClient{message: func() []byte { return []byte("\x00" + c.User + "\x00" + c.Password.Reveal()) }}, nil
}

func (*plainClient) Mechanism() string { return Plain }

// Format hides the password from fmt.
func (*plainClient) Format(f fmt.State, _ rune) { fmt.Fprint(f, Plain+" client") }

func (c *plainClient) Next(challenge []byte) (response []byte, done bool, err error) {
	if c.over || len(challenge) > 0 {
		return nil, false, errors.New("PLAIN: the broker asks for more, and there is no more")
	}
	c.over = true
	return c.message(), true, nil
}

// checkCredential says what is wrong with what is to be shown to a broker. Names and
// passwords go to brokers as they are, without SASLprep: see prep.go.
func checkCredential(mechanism string, c Credential) error {
	password := c.Password.Reveal()
	switch {
	case c.User == "":
		return fmt.Errorf("%s: the credential has no user", mechanism)
	case password == "":
		return fmt.Errorf("%s: the credential has no password", mechanism)
	case !utf8.ValidString(c.User) || !utf8.ValidString(password):
		return fmt.Errorf("%s: the credential is not UTF-8", mechanism)
	case len(c.User)+len(password) > MaxMessage/2:
		return fmt.Errorf("%s: the credential has %d bytes: it may have %d", mechanism, len(c.User)+len(password), MaxMessage/2)
	}
	return nil
}
