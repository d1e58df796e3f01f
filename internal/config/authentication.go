package config

import "time"

// Authentication says who clients are, and who they are to the brokers. Clients log in at
// the proxy, and the proxy logs in at the brokers with a credential for each of them.
type Authentication struct {
	// How clients prove who they are, any of these. A client's name in what follows is its
	// principal.
	Clients []*ClientMechanism `yaml:"clients"`
	// How the proxy authenticates with the brokers.
	Brokers *BrokerMechanism `yaml:"brokers,omitempty"`
}

// ClientMechanism is a way in which clients prove who they are.
type ClientMechanism struct {
	// PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER, TLS (the principal is in the client's
	// certificate) or ANONYMOUS (who does not log in is let in all the same).
	Mechanism string `yaml:"mechanism"`
	// For PLAIN and SCRAM: the file of users, as kafka-sni-proxy passwd writes it.
	Users string `yaml:"users"`
	// For OAUTHBEARER: the keys that sign tokens (JWKS): their https URL, or a file.
	JWKS string `yaml:"jwks"`
	// For OAUTHBEARER: who issues tokens, as in their claim iss.
	Issuer string `yaml:"issuer"`
	// For OAUTHBEARER: whom tokens are for, as in their claim aud.
	Audience string `yaml:"audience"`
	// For OAUTHBEARER: the claim that has the principal. Default: sub.
	PrincipalClaim string `yaml:"principal-claim"`
	// For OAUTHBEARER: how far the issuer's clock may be from the proxy's. Default: 30s.
	ClockSkew time.Duration `yaml:"clock-skew"`
	// For OAUTHBEARER: the authorities of the server that has the keys, a PEM file. Default:
	// those of the system.
	CACerts string `yaml:"ca-certs"`
	// For TLS: how to make a principal of a certificate's subject, in the form of Kafka's
	// ssl.principal.mapping.rules. Default: DEFAULT, the whole subject.
	PrincipalMappingRules string `yaml:"principal-mapping-rules"`
	// For ANONYMOUS: the principal of who does not log in. Default: ANONYMOUS.
	Principal string `yaml:"principal"`
}

// The values of mechanism.
const (
	Plain       = "PLAIN"
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
	OAuthBearer = "OAUTHBEARER"
	AWSMSKIAM   = "AWS_MSK_IAM"
	TLS         = "TLS"
	Anonymous   = "ANONYMOUS"
	None        = "NONE"
)

// BrokerMechanism is how the proxy authenticates with brokers.
type BrokerMechanism struct {
	// PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER, AWS_MSK_IAM, TLS (a certificate for
	// each principal) or NONE.
	Mechanism string `yaml:"mechanism"`
	// What the brokers are shown for a principal: one of folder, file, exec and template, and
	// default for principals that have nothing there.
	Credentials Credentials `yaml:"credentials"`
	// For how long a session goes on with a credential before the proxy looks again whether it
	// is still the same; also how long what exec printed is kept. Default: 0s, until the
	// broker asks for it anew, and 5m for exec.
	MaxCredentialAge time.Duration `yaml:"max-credential-age"`
	// For OAUTHBEARER: where tokens are fetched (client credentials grant). A credential is
	// CLIENT-ID:CLIENT-SECRET then; without, it is a token.
	TokenEndpoint string `yaml:"token-endpoint"`
	// With token-endpoint: the scope to ask for.
	Scope string `yaml:"scope"`
	// With token-endpoint: the audience to ask for, where the issuer wants it.
	Audience string `yaml:"audience"`
	// With token-endpoint: the authorities of its server, a PEM file. Default: those of the
	// system.
	CACerts string `yaml:"ca-certs"`
	// For OAUTHBEARER: extensions that are sent with the token (KIP-342), such as
	// logicalCluster and identityPoolId.
	Extensions map[string]string `yaml:"extensions"`
	// For AWS_MSK_IAM: the region. Default: the one in the broker's name.
	Region string `yaml:"region"`
}

// Credentials are what the proxy shows to brokers. A credential is USER:PASSWORD on one line
// (PLAIN, SCRAM); a token, or CLIENT-ID:CLIENT-SECRET (OAUTHBEARER); a certificate and its
// private key in PEM (TLS); chain, the ARN of a role, or ACCESS-KEY-ID:SECRET-ACCESS-KEY
// (AWS_MSK_IAM).
type Credentials struct {
	// A folder with one file for each principal, called as the principal is.
	Folder string `yaml:"folder"`
	// A file in YAML: a line PRINCIPAL: CREDENTIAL for each.
	File string `yaml:"file"`
	// A command that prints the credential, with its arguments; ${principal} in them is the
	// principal.
	Exec []string `yaml:"exec"`
	// How long the command may take. Default: 5s.
	ExecTimeout time.Duration `yaml:"exec-timeout"`
	// A credential with ${principal} in the place of the principal. Or file:/path of the file
	// that has it, with ${principal} in its path.
	Template Template `yaml:"template"`
	// For principals that have none. Or file:/path of a file that has it. Default: these are
	// refused.
	Default Secret `yaml:"default"`
	// What the proxy's own questions to the cluster use. Or file:/path of a file that has it.
	// Default: what default says.
	Proxy Secret `yaml:"proxy"`
}

// Source returns the setting that says where credentials are; "" for none.
func (c *Credentials) Source() string {
	for setting, given := range c.sources() {
		if given {
			return setting
		}
	}
	return ""
}

func (c *Credentials) sources() map[string]bool {
	return map[string]bool{"folder": c.Folder != "", "file": c.File != "", "exec": len(c.Exec) > 0, "template": c.Template != ""}
}

// ClientMechanisms are the names of how clients prove who they are.
func (c *Cluster) ClientMechanisms() (names []string) {
	if c.Authentication == nil {
		return nil
	}
	for _, m := range c.Authentication.Clients {
		names = append(names, m.Mechanism)
	}
	return names
}

// BrokerMechanism returns how the proxy authenticates with the brokers of the active target;
// nil when it does not.
func (c *Cluster) BrokerMechanism() *BrokerMechanism {
	if t := c.Targets[c.Active]; t != nil && t.Authentication != nil && t.Authentication.Brokers != nil {
		return t.Authentication.Brokers
	}
	if c.Authentication == nil {
		return nil
	}
	return c.Authentication.Brokers
}
