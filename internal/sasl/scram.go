package sasl

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/xdg-go/scram"
)

// The bounds of the iteration count. Kafka's and RFC 7677's least is 4096. The most
// is for what a hostile broker may ask: 15 ms of a core with
// SHA-256, 50 with SHA-512.
const (
	MinIterations = 4096
	MaxIterations = 100_000
)

// hashOf is the hash of a mechanism.
func hashOf(mechanism string) scram.HashGeneratorFcn {
	if mechanism == ScramSHA512 {
		return scram.SHA512
	}
	return scram.SHA256
}

// scramServer is the server of SCRAM: client-first, server-first, client-final,
// server-final. An unknown user is given a salt and an iteration count that could be
// those of a known one, and learns at the end what a wrong password learns.
type scramServer struct {
	mechanism string
	talk      *scram.ServerConversation
	name      string // as prepared; "" before client-first
	known     bool
	step      int
	who       Identity
}

// newScramServer returns the server that adds nonce to the client's.
func newScramServer(mechanism string, users *Users, nonce string) (*scramServer, error) {
	s := &scramServer{mechanism: mechanism}
	server, err := hashOf(mechanism).NewServer(func(string) (scram.StoredCredentials, error) {
		c, known := users.find(kindOf(mechanism), s.name)
		s.known = known
		return c.stored, nil
	})
	if err != nil {
		return nil, err
	}
	s.talk = server.WithNonceGenerator(func() string { return nonce }).NewConversation()
	return s, nil
}

func (s *scramServer) Identity() Identity { return s.who }

func (s *scramServer) Next(in []byte) (out []byte, done bool, err error) {
	s.step++
	switch s.step {
	case 1:
		out, failure := s.first(in)
		if failure != nil {
			s.step = 3
			return out, false, failure
		}
		return out, false, nil
	case 2:
		out, failure := s.final(in)
		if failure != nil {
			return out, false, failure
		}
		return out, true, nil
	}
	return nil, false, s.refuse(errOver)
}

func (s *scramServer) refuse(reason string) *Failure {
	return invalidCredentials(s.mechanism, s.name, reason)
}

// first takes client-first-message.
func (s *scramServer) first(in []byte) (out []byte, _ *Failure) {
	m, rfc, err := parseClientFirst(in)
	if err != nil {
		return []byte(rfc), s.refuse(err.Error())
	}
	name, err := prepareName(m.name)
	if err != nil {
		return []byte(scram.ErrInvalidUsernameEncoding), s.refuse(err.Error())
	}
	s.name = name
	if m.authorization != "" && m.authorization != m.name {
		return []byte(scram.ErrOtherError), otherAuthorization(name)
	}
	text, err := s.talk.Step(string(in))
	if err != nil {
		return []byte(text), s.refuse("client-first-message cannot be read")
	}
	return []byte(text), nil
}

// final takes client-final-message. The texts for a user that is not known and for
// a wrong password are the same.
func (s *scramServer) final(in []byte) (out []byte, _ *Failure) {
	if err := checkMessage(in); err != nil {
		return []byte(scram.ErrInvalidEncoding), s.refuse(err.Error())
	}
	if _, proof, has := strings.Cut(string(in), ",p="); has && !isBase64(proof) {
		return []byte(scram.ErrInvalidEncoding), s.refuse("the proof is not base64")
	}
	text, err := s.talk.Step(string(in))
	switch {
	case err == nil && s.talk.Valid() && s.known:
		s.who = Identity{Principal: s.name, Mechanism: s.mechanism}
		return []byte(text), nil
	case text != scram.ErrInvalidProof:
		if text == "" {
			text = scram.ErrInvalidEncoding
		}
		return []byte(text), s.refuse("client-final-message cannot be read, or is of another exchange")
	case s.known:
		return []byte(text), s.refuse("the password is wrong")
	}
	return []byte(text), s.refuse("there is no such user")
}

// clientFirst is what the proxy looks at of a client-first-message:
//
//	gs2-cbind-flag "," [ "a=" authzid ] "," "n=" name ",r=" nonce [ "," extensions ]
type clientFirst struct{ authorization, name string }

// parseClientFirst reads what the library leaves to its caller. Beside an error, it
// returns the server-error of RFC 5802.
func parseClientFirst(in []byte) (m clientFirst, rfc string, err error) {
	if err := checkMessage(in); err != nil {
		return m, scram.ErrInvalidEncoding, err
	}
	fields := strings.Split(string(in), ",")
	switch {
	case strings.HasPrefix(fields[0], "p="):
		// The mechanisms with channel binding (-PLUS) are not offered, so a client
		// that asks for it is refused. y, "I would, but you do not", is fine.
		return m, scram.ErrChannelBindingNotSupported, errors.New("the client asks for channel binding, which is not offered")
	case fields[0] != "n" && fields[0] != "y", len(fields) < 4:
		return m, scram.ErrOtherError, errors.New("client-first-message cannot be read")
	case strings.HasPrefix(fields[2], "m="):
		return m, scram.ErrExtensionsNotSupported, errors.New("the client asks for a mandatory extension")
	}
	ok := true
	decode := func(field, prefix string) (text string) {
		rest, has := strings.CutPrefix(field, prefix)
		if has {
			text, has = decodeName(rest)
		}
		ok = ok && has
		return text
	}
	if fields[1] != "" {
		m.authorization = decode(fields[1], "a=")
	}
	m.name = decode(fields[2], "n=")
	if !ok {
		return m, scram.ErrInvalidUsernameEncoding, errors.New("the name is not encoded as RFC 5802 says")
	}
	if nonce, has := strings.CutPrefix(fields[3], "r="); !has || !isNonce(nonce) {
		return m, scram.ErrOtherError, errors.New("client-first-message has no nonce")
	}
	for _, extension := range fields[4:] {
		key, value, has := strings.Cut(extension, "=")
		switch {
		case !has || key == "":
			return m, scram.ErrOtherError, errors.New("client-first-message has an extension without a value")
		case key == "tokenauth" && !strings.EqualFold(value, "false"):
			return m, scram.ErrExtensionsNotSupported, errors.New("the client logs in with a delegation token, which the proxy does not know")
		}
	}
	return m, "", nil
}

// decodeName undoes the encoding of a saslname: =2C is a comma, =3D an equals sign,
// and nothing else has one.
func decodeName(text string) (string, bool) {
	name := strings.NewReplacer("=2C", ",", "=3D", "=").Replace(text)
	escapes := strings.Count(text, "=2C") + strings.Count(text, "=3D")
	return name, strings.Count(text, "=") == escapes
}

// isNonce: printable ASCII without comma.
func isNonce(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || r == ',' })
}

// isBase64: one text for each value, which the library does not ask for.
func isBase64(text string) bool {
	_, err := base64.StdEncoding.Strict().DecodeString(text)
	return err == nil
}

// checkMessage says what no message of SCRAM may be.
func checkMessage(in []byte) error {
	switch {
	case len(in) > MaxMessage:
		return fmt.Errorf("a message of %d bytes", len(in))
	case !utf8.Valid(in):
		return errors.New("the message is not UTF-8")
	}
	for _, b := range in {
		if b < ' ' || b == 0x7f {
			return errors.New("the message has a control character")
		}
	}
	return nil
}

// scramClient is the client of SCRAM.
type scramClient struct {
	mechanism string
	ctx       context.Context
	gate      *Gate
	nonce     string
	talk      *scram.ClientConversation
	step      int
}

// newScramClient returns the client that begins with nonce.
func newScramClient(ctx context.Context, mechanism string, c Credential, gate *Gate, nonce string) (*scramClient, error) {
	if err := checkCredential(mechanism, c); err != nil {
		return nil, err
	}
	// Brokers keep keys of the password as it is, so it is not prepared.
	client, err := hashOf(mechanism).NewClientUnprepped(c.User, c.Password.Reveal(), "")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", mechanism, err)
	}
	s := &scramClient{mechanism: mechanism, ctx: ctx, gate: gate, nonce: nonce}
	s.talk = client.WithMinIterations(MinIterations).WithNonceGenerator(func() string { return nonce }).NewConversation()
	return s, nil
}

// newNonce is 18 random bytes as text.
func newNonce() string {
	var b [18]byte
	rand.Read(b[:]) // never fails
	return base64.StdEncoding.EncodeToString(b[:])
}

func (c *scramClient) Mechanism() string { return c.mechanism }

// Format hides from fmt what the exchange knows.
func (c *scramClient) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.mechanism+" client") }

func (c *scramClient) Next(challenge []byte) (response []byte, done bool, err error) {
	c.step++
	switch c.step {
	case 1:
		text, err := c.talk.Step("")
		if err != nil {
			return nil, false, c.error("client-first-message", err)
		}
		return []byte(text), false, nil
	case 2:
		response, err := c.prove(challenge)
		if err != nil {
			c.step = 4
			return nil, false, c.error("server-first-message", err)
		}
		return response, false, nil
	case 3:
		if err := c.verify(challenge); err != nil {
			return nil, false, c.error("server-final-message", err)
		}
		return nil, true, nil
	}
	return nil, false, c.error("the broker", errors.New("sends a message after the end of the exchange"))
}

func (c *scramClient) error(what string, err error) error {
	return fmt.Errorf("%s: %s: %w", c.mechanism, what, err)
}

// prove answers server-first-message.
func (c *scramClient) prove(challenge []byte) ([]byte, error) {
	if err := checkServerFirst(challenge, c.nonce); err != nil {
		return nil, err
	}
	var text string
	var err error
	if waited := c.gate.Do(c.ctx, func() { text, err = c.talk.Step(string(challenge)) }); waited != nil {
		return nil, fmt.Errorf("too many logins at once: %w", waited)
	}
	if err != nil {
		return nil, errors.New("cannot be read") // the library's text quotes the broker's
	}
	return []byte(text), nil
}

// verify checks that the broker knows the user's keys.
func (c *scramClient) verify(challenge []byte) error {
	if err := checkMessage(challenge); err != nil {
		return err
	}
	if _, err := c.talk.Step(string(challenge)); err == nil && c.talk.Valid() {
		return nil
	}
	if text, is := strings.CutPrefix(string(challenge), "e="); is {
		return fmt.Errorf("the broker refuses the login: %.100q", text)
	}
	return errors.New("the broker does not prove that it knows the password")
}

// checkServerFirst says what is wrong with a server-first-message before anything
// is computed:
//
//	"r=" nonce ",s=" salt ",i=" iteration-count [ "," extensions ]
func checkServerFirst(challenge []byte, nonce string) error {
	if err := checkMessage(challenge); err != nil {
		return err
	}
	if text, is := strings.CutPrefix(string(challenge), "e="); is {
		return fmt.Errorf("the broker refuses the login: %.100q", text)
	}
	fields := strings.Split(string(challenge), ",")
	if len(fields) < 3 {
		return errors.New("cannot be read")
	}
	theirs, has := strings.CutPrefix(fields[0], "r=")
	switch {
	case !has || !isNonce(theirs):
		return errors.New("has no nonce")
	case !strings.HasPrefix(theirs, nonce) || len(theirs) == len(nonce):
		return errors.New("the broker's nonce does not extend the proxy's")
	case !strings.HasPrefix(fields[1], "s=") || len(fields[1]) < len("s=")+4:
		return errors.New("has no salt")
	}
	digits, _ := strings.CutPrefix(fields[2], "i=")
	iterations, err := strconv.Atoi(digits)
	switch {
	case err != nil || digits[0] < '1' || digits[0] > '9':
		return errors.New("has no iteration count")
	case iterations < MinIterations || iterations > MaxIterations:
		return fmt.Errorf("the broker asks for %d iterations: %d to %d are done", iterations, MinIterations, MaxIterations)
	}
	return nil
}
