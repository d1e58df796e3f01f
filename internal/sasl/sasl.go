// Package sasl is both sides of the mechanisms by which clients log in at the
// proxy and the proxy logs in at brokers: bytes in, bytes out. It has no sockets,
// no log, and no clock but the one that it is given. How the bytes travel
// (SaslHandshake, SaslAuthenticate, their versions and deadlines) is the session's.
//
// A Server is one exchange with a client:
//
//	users, err := sasl.ParseUsers(text, mask)          // a users file, once
//	server, err := sasl.NewServer(ctx, sasl.ScramSHA256, users, gate)
//	answer, done, err := server.Next(token)            // until done, or err
//	who := server.Identity()
//
// A Client is one exchange with a broker: see NewClient.
//
// The mechanisms, and where each is specified:
//
//	mechanism       source                                 clients  brokers
//	PLAIN           RFC 4616; KIP-43                       plain.go plain.go
//	SCRAM-SHA-256   RFC 5802, RFC 7677; KIP-84             scram.go scram.go
//	SCRAM-SHA-512   RFC 5802, as RFC 7677 does; KIP-84     scram.go scram.go
//	OAUTHBEARER     RFC 7628; KIP-255, KIP-342             oauthbearer.go, both
//
// Who a token is of is asked of a function: see package oauth. AWS_MSK_IAM is OAUTHBEARER
// with a token that the AWS SDK signs: see package mskiam.
//
// SCRAM is that of github.com/xdg-go/scram. What it leaves to its caller is done
// in scram.go, before it gets a message: the length, characters that no message
// has, channel binding of any type, delegation tokens (KIP-48), and the upper
// bound of a broker's iteration count. What clients are told is Kafka's text and
// not the library's, which quotes what the peer has sent.
package sasl

import (
	"context"
	"fmt"
	"time"
)

// The names of the mechanisms, as in SaslHandshake.
const (
	Plain       = "PLAIN"
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
)

// The bounds of what a peer may send.
const (
	// MaxMessage is the longest message that is read, in bytes. Kafka's own limit
	// (sasl.server.max.receive.size) is 512 KiB, for Kerberos tickets.
	MaxMessage = 64 << 10
	// MaxName is the longest name of a user, in bytes: what RFC 4616 has each
	// server accept.
	MaxName = 255
	// MaxPassword is the longest password that is looked at, in bytes.
	MaxPassword = 4096
)

// Server is one exchange of a mechanism with a client: bytes in, bytes out. It is
// used by one goroutine, for one login.
type Server interface {
	// Next takes what the client has sent and returns what to answer. When done,
	// Identity says who it is.
	//
	// An error is what the client is told (SaslAuthenticate, error 58): its text
	// tells no secret and not whether a user exists. It is a *Failure, which also
	// has what the log may say. The answer beside an error is the mechanism's own
	// (RFC 5802: server-error), where it has one; Kafka's brokers leave it out.
	// After an error, or when done, there is nothing more to call.
	Next(in []byte) (out []byte, done bool, err error)
	// Identity is who has logged in; zero before.
	Identity() Identity
}

// Identity is who a client has proved to be.
type Identity struct {
	Principal string // the name alone: "alice", not "User:alice"
	Mechanism string
	Expires   time.Time // zero: never
}

// Client is one exchange with a broker. It is used by one goroutine, for one login.
type Client interface {
	// Mechanism is what SaslHandshake asks for.
	Mechanism() string
	// Next takes the broker's challenge (nil at first) and returns the response,
	// which is to be sent unless it is nil, also when done. done: the broker has
	// proved itself, or there is nothing more to send. A broker that says that the
	// login has succeeded before that has proved nothing.
	Next(challenge []byte) (response []byte, done bool, err error)
}

// Credential is what the proxy shows a broker.
type Credential struct {
	User     string
	Password Secret
	Token    Secret
	Expires  time.Time // zero: never
}

// Format hides the credential from fmt where it would not ask a Secret: see there.
func (c Credential) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "{%s %s}", c.User, hidden) }

// Failure is why a login was refused.
type Failure struct {
	// Text is what the client is told: the text of a Kafka broker.
	Text string
	// Reason is for the log. It tells whether the user exists, and no secret.
	Reason string
	// User is the name that the client has given, at most MaxName bytes; "" where
	// it has not come that far.
	User string
}

func (f *Failure) Error() string { return f.Text }

// invalidCredentials is the failure that tells a client nothing: the text with
// which a broker answers a wrong password, an unknown user and a message that
// cannot be read alike (SaslServerAuthenticator.handleSaslToken).
func invalidCredentials(mechanism, user, reason string) *Failure {
	return &Failure{
		Text:   "Authentication failed during authentication due to invalid credentials with SASL mechanism " + mechanism,
		Reason: reason, User: user,
	}
}

// otherAuthorization is the failure of a client that logs in as one user to act
// as another. It is found before it is known whether the user exists.
func otherAuthorization(user string) *Failure {
	return &Failure{
		Text:   "Authentication failed: Client requested an authorization id that is different from username",
		Reason: "the authorization id is not the name of the user", User: user,
	}
}

// NewServer returns the server of a mechanism that users has credentials for. ctx
// bounds how long a login waits for its turn at the gate (PLAIN); SCRAM does not
// wait: the client does the work.
func NewServer(ctx context.Context, mechanism string, users *Users, gate *Gate) (Server, error) {
	switch mechanism {
	case Plain:
		return &plainServer{ctx: ctx, users: users, gate: gate}, nil
	case ScramSHA256, ScramSHA512:
		s, err := newScramServer(mechanism, users, newNonce())
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	return nil, fmt.Errorf("there is no mechanism %q with a file of users", mechanism)
}

// NewClient returns the client of a mechanism with a user and a password. ctx bounds
// how long it waits for its turn at the gate (SCRAM). It is an error if the
// credential can not be one of this mechanism.
func NewClient(ctx context.Context, mechanism string, c Credential, gate *Gate) (client Client, err error) {
	switch mechanism {
	case Plain:
		client, err = newPlainClient(c)
	case ScramSHA256, ScramSHA512:
		client, err = newScramClient(ctx, mechanism, c, gate, newNonce())
	default:
		err = fmt.Errorf("there is no mechanism %q with a user and a password", mechanism)
	}
	if err != nil {
		return nil, err // and not one that is nil within
	}
	return client, nil
}
