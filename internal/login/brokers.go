package login

import (
	"context"
	"fmt"

	"kafka-sni-proxy/internal/credentials"
	"kafka-sni-proxy/internal/oauth"
	"kafka-sni-proxy/internal/sasl"
)

// Exchange begins an exchange with a broker with a credential, which is a text.
type Exchange func(ctx context.Context, credential sasl.Secret) (sasl.Client, error)

// ByPassword is the exchange of PLAIN and SCRAM. The credential is USER:PASSWORD.
func ByPassword(mechanism string, gate *sasl.Gate) Exchange {
	return func(ctx context.Context, credential sasl.Secret) (sasl.Client, error) {
		c, err := credentials.UserPassword(credential)
		if err != nil {
			return nil, err
		}
		return sasl.NewClient(ctx, mechanism, c, gate)
	}
}

// ByToken is the exchange of OAUTHBEARER. The credential is the token.
func ByToken(extensions map[string]string) Exchange {
	return func(_ context.Context, credential sasl.Secret) (sasl.Client, error) {
		c, err := credentials.Token(credential)
		if err != nil {
			return nil, err
		}
		return sasl.NewTokenClient(c.Token, extensions)
	}
}

// ByFetchedToken is the exchange of OAUTHBEARER with tokens that an issuer gives. The
// credential is CLIENT-ID:CLIENT-SECRET.
func ByFetchedToken(source *oauth.Source, extensions map[string]string) Exchange {
	return func(ctx context.Context, credential sasl.Secret) (sasl.Client, error) {
		c, err := credentials.UserPassword(credential)
		if err != nil {
			return nil, err
		}
		got, err := source.Token(ctx, c.User, c.Password)
		if err != nil {
			return nil, err
		}
		return sasl.NewTokenClient(got.Token, extensions)
	}
}

// begin begins an exchange for somebody with a credential.
func (e Exchange) begin(ctx context.Context, credential sasl.Secret, whose string) (sasl.Client, error) {
	client, err := e(ctx, credential)
	if err != nil {
		return nil, &unusable{whose, err}
	}
	return client, nil
}

// unusable is of a credential that cannot be shown. It is no refusal: somebody has made a
// mistake, and the client may try again when it is mended.
type unusable struct {
	whose string
	err   error
}

func (e *unusable) Error() string {
	return fmt.Sprintf("the credential of %q cannot be used: %v", e.whose, e.err)
}
func (e *unusable) Unwrap() error { return e.err }

// Unavailable tells it from a refusal.
func (e *unusable) Unavailable() bool { return true }
