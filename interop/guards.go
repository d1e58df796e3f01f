package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

const (
	guardAdmin  = "guard"
	guardSecret = "guard-secret"
)

// guards are what a cluster asks of those who come: who they are, also of its own brokers, and
// what they may do. On its listener TLS nobody is asked, and everybody is ANONYMOUS.
type guards struct {
	users  map[string]string // and their passwords, for PLAIN and SCRAM
	issuer *issuer           // of tokens that are taken
}

// admin are the options of a client of the internal listener.
func (g *guards) admin() []kgo.Opt {
	if g == nil {
		return nil
	}
	return []kgo.Opt{kgo.SASL(plain.Auth{User: guardAdmin, Pass: guardSecret}.AsMechanism())}
}

// scram are the arguments for the users when a broker's log is formatted.
func (g *guards) scram() (args []string) {
	if g == nil {
		return nil
	}
	for _, user := range slices.Sorted(maps.Keys(g.users)) {
		for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
			args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, user, g.users[user]))
		}
	}
	return args
}

// vm adds what Java must be told: which issuer may be asked.
func (g *guards) vm(line []string) []string {
	if g == nil {
		return line
	}
	return slices.Insert(slices.Clone(line), 1, "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls="+g.issuer.keysURL())
}

// properties are those of a broker, which take the place of others.
func (g *guards) properties() string {
	if g == nil {
		return ""
	}
	module := "org.apache.kafka.common.security.plain.PlainLoginModule required"
	users := module
	for _, user := range slices.Sorted(maps.Keys(g.users)) {
		users += fmt.Sprintf(` user_%s="%s"`, user, g.users[user])
	}
	return strings.NewReplacer("{module}", module, "{users}", users, "{admin}", guardAdmin, "{admin-secret}", guardSecret,
		"{keys}", g.issuer.keysURL(), "{issuer}", g.issuer.name, "{audience}", brokersAudience).Replace(guardedProperties)
}

const guardedProperties = `
listener.security.protocol.map=INTERNAL:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT,TLS:SSL,SASL:SASL_SSL,MTLS:SSL,PLAIN:PLAINTEXT,SCRAM:SASL_SSL
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.mechanism.controller.protocol=PLAIN
listener.name.internal.sasl.enabled.mechanisms=PLAIN
listener.name.controller.sasl.enabled.mechanisms=PLAIN
listener.name.internal.plain.sasl.jaas.config={module} username="{admin}" password="{admin-secret}" user_{admin}="{admin-secret}";
listener.name.controller.plain.sasl.jaas.config={module} username="{admin}" password="{admin-secret}" user_{admin}="{admin-secret}";
listener.name.sasl.plain.sasl.jaas.config={users};
listener.name.sasl.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;
listener.name.sasl.oauthbearer.sasl.server.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler
listener.name.sasl.oauthbearer.sasl.oauthbearer.jwks.endpoint.url={keys}
listener.name.sasl.oauthbearer.sasl.oauthbearer.expected.issuer={issuer}
listener.name.sasl.oauthbearer.sasl.oauthbearer.expected.audience={audience}
ssl.principal.mapping.rules=RULE:^CN=([^,]*).*$/$1/,DEFAULT
listener.name.sasl.scram-sha-512.connections.max.reauth.ms=0
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:{admin}
allow.everyone.if.no.acl.found=false
`
