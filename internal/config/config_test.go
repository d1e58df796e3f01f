package config

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// valid returns a configuration in which nothing is wrong.
func valid() *Config {
	c := Default()
	c.Clusters[DefaultCluster] = &Cluster{SNISuffix: "kafka.example", Target: Target{Upstream: []string{"up.example:9092"}}}
	return c
}

func (c *Config) cluster() *Cluster { return c.Clusters[DefaultCluster] }

func TestDefaultsNeedASuffixAndAnUpstreamAlone(t *testing.T) {
	wrong, warnings := Default().Validate()
	if len(wrong) != 2 || len(warnings) != 0 || !strings.Contains(wrong.Error(), "sni-suffix: required") || !strings.Contains(wrong.Error(), "upstream: required") {
		t.Errorf("%v, %v", wrong, warnings)
	}
	if wrong, warnings := valid().Validate(); len(wrong)+len(warnings) != 0 {
		t.Errorf("%v, %v", wrong, warnings)
	}
}

func TestEachMistakeNamesItsSettingAndWhatToDo(t *testing.T) {
	for want, change := range map[string]func(c *Config){
		`listeners[0].bind: "9092" is not address:port: write 0.0.0.0:9092`:                       func(c *Config) { c.Listeners[0].Bind = "9092" },
		"listeners[0].advertised-port: 70000 is not a port":                                       func(c *Config) { c.Listeners[0].AdvertisedPort = 70000 },
		"client-certificates.require: needs listeners[0].client-certificates.ca-certs, the file":  func(c *Config) { c.Listeners[0].ClientCertificates.Require = true },
		`clusters.kafka.sni-suffix: "a..b" is not a domain name`:                                  func(c *Config) { c.cluster().SNISuffix = "a..b" },
		`clusters.kafka.upstream: "one" is not host:port`:                                         func(c *Config) { c.cluster().Upstream = []string{" one", ""} },
		`clusters.kafka.upstream: "two:x" has no valid port`:                                      func(c *Config) { c.cluster().Upstream = []string{"two:x"} },
		`clusters.kafka.broker-mapping-rule: broker mapping rule "b0" has no "::"`:                func(c *Config) { c.cluster().BrokerMappingRule = "b0" },
		"upstream-tls.ca-certs, clusters.kafka.upstream-tls.trust-any: contradict each other":     func(c *Config) { c.cluster().UpstreamTLS = UpstreamTLS{CACerts: "ca.pem", TrustAny: true} },
		"upstream-tls.cert: needs clusters.kafka.upstream-tls.key, the certificate's private key": func(c *Config) { c.cluster().UpstreamTLS.Cert = "c.pem" },
		"upstream-tls.key: needs clusters.kafka.upstream-tls.cert, the key's certificate":         func(c *Config) { c.cluster().UpstreamTLS.Key = "k.pem" },
		"admin.bind: \"nowhere\" is not address:port":                                             func(c *Config) { c.Admin.Bind = "nowhere" },
		"admin.bind: 0.0.0.0:9092 is the address of listeners[0].bind: choose another port":       func(c *Config) { c.Admin.Bind = DefaultBind },
		"admin.bind: [fe80::1%eth0]:1 is the address of listeners[0].bind":                        func(c *Config) { c.Admin.Bind = "[fe80::1%eth0]:1"; c.Listeners[0].Bind = c.Admin.Bind },
		"limits.max-frame: 3 is not within 1024 and":                                              func(c *Config) { c.Limits.MaxFrame = 3 },
		"limits.max-connections: -1 is not a number of connections":                               func(c *Config) { c.Limits.MaxConnections = -1 },
		"limits.max-handshakes-per-address: -2 is not a number of handshakes":                     func(c *Config) { c.Limits.MaxHandshakesPerAddress = -2 },
		"timeouts.drain: -1s is less than nothing":                                                func(c *Config) { c.Timeouts.Drain = -time.Second },
		"timeouts.handshake: 0s is too short: choose a second or more, such as 10s":               func(c *Config) { c.Timeouts.Handshake = 0 },
		"timeouts.dial: 10ns is too short":                                                        func(c *Config) { c.Timeouts.Dial = 10 },
		"timeouts.idle: 5ms is too short: choose a second or more, such as 10m, or 0 for none":    func(c *Config) { c.Timeouts.Idle = 5 * time.Millisecond },
		"timeouts.connection-age: -1s is too short":                                               func(c *Config) { c.Timeouts.ConnectionAge = -time.Second },
		"timeouts.tcp-user: 1ms is too short":                                                     func(c *Config) { c.Timeouts.TCPUser = time.Millisecond },
		`log.level: "loud" is not a level: choose debug, info, warn or error`:                     func(c *Config) { c.Log.Level = "loud" },
		`log.format: "xml" is not a format: choose text or json`:                                  func(c *Config) { c.Log.Format = "xml" },
		"upstream: bootstrap.kafka.example:9 is this proxy itself: it is under the suffix":        func(c *Config) { c.cluster().Upstream = []string{"bootstrap.kafka.example:9"} },
		"upstream: KAFKA.example.:9092 is this proxy itself":                                      func(c *Config) { c.cluster().Upstream = []string{"KAFKA.example.:9092"} },
		"upstream: localhost:9092 is this proxy itself: it is where it listens for clients":       func(c *Config) { c.cluster().Upstream = []string{"localhost:9092"} },
		"upstream: [::1]:9092 is this proxy itself":                                               func(c *Config) { c.cluster().Upstream = []string{"[::1]:9092"} },
		"upstream: 10.1.2.3:9092 is this proxy itself": func(c *Config) {
			c.Listeners[0].Bind, c.cluster().Upstream = "10.1.2.3:9092", []string{"10.1.2.3:9092"}
		},
	} {
		c := valid()
		change(c)
		wrong, _ := c.Validate()
		if len(wrong) != 1 || !strings.Contains(wrong.Error(), want) {
			t.Errorf("got:\n%v\nwant %q alone", wrong, want)
		}
	}
}

func TestAllMistakesAreFoundAtOnce(t *testing.T) {
	c := Default()
	c.Log = Log{}
	c.Limits = Limits{}
	c.Timeouts = Timeouts{}
	c.Admin.Bind = "x"
	c.Listeners[0].Bind = "y"
	wrong, _ := c.Validate()
	if len(wrong) != 9 {
		t.Errorf("%d mistakes, want 9:\n%v", len(wrong), wrong)
	}
}

func TestUpstreamsThatMayBeElsewhereAreTaken(t *testing.T) {
	for _, upstream := range []string{"localhost:9093", "notkafka.example:9092", "kafka.example.com:9092", "10.1.2.3:9092", "otherkafka.example:9092"} {
		c := valid()
		c.cluster().Upstream = []string{upstream}
		if wrong, _ := c.Validate(); len(wrong) > 0 {
			t.Errorf("%s: %v", upstream, wrong)
		}
	}
}

func TestWhatDoesNothingOrIsDangerousIsWarnedAbout(t *testing.T) {
	for want, change := range map[string]func(c *Config){
		"ca-certs: does nothing without listeners[0].client-certificates.require": func(c *Config) { c.Listeners[0].ClientCertificates.CACerts = "ca.pem" },
		"crl: does nothing without listeners[0].client-certificates.require":      func(c *Config) { c.Listeners[0].ClientCertificates.CRL = []string{"crl.pem"} },
		"trust-any: NOT VERIFYING BROKERS":                                        func(c *Config) { c.cluster().UpstreamTLS.TrustAny = true },
		"broker-mapping-rule: ":                                                   func(c *Config) { c.cluster().BrokerMappingRule = "^.*$::b.elsewhere.test" },
	} {
		c := valid()
		change(c)
		wrong, warnings := c.Validate()
		if len(wrong) != 0 || len(warnings) != 1 || !strings.Contains(warnings.Error(), want) {
			t.Errorf("%v, %v, want the warning %q", wrong, warnings, want)
		}
	}
}

func TestSettingsAreBroughtIntoForm(t *testing.T) {
	c := valid()
	c.cluster().SNISuffix = "*.Kafka.Example."
	c.cluster().Upstream = []string{" up.example:9092", "", "up2.example:9092 "}
	if wrong, _ := c.Validate(); len(wrong) > 0 {
		t.Fatal(wrong)
	}
	if c.cluster().SNISuffix != "kafka.example" || !slices.Equal(c.cluster().Upstream, []string{"up.example:9092", "up2.example:9092"}) {
		t.Errorf("%+v", c.cluster())
	}
}

func TestSettingsAreNamedByWhoeverReports(t *testing.T) {
	c := valid()
	c.cluster().UpstreamTLS.Cert = "100%.pem"
	wrong, _ := c.Validate()
	got := wrong[0].Text(func(path string) string { return "--" + path[len("clusters.kafka.upstream-tls."):] })
	if got != "--cert: needs --key, the certificate's private key" {
		t.Error(got)
	}
}

func TestGatesHaveUsersThatTheyCanBeTold(t *testing.T) {
	long := strings.Repeat("x", 256)
	for via, want := range map[string]string{ // "": none
		"socks5://gate:1080":                "",
		"socks5h://u:p%40ss@gate:1080":      "",
		"http://u@gate:3128":                "",
		"http://u:" + long + "@gate:3128":   "",
		"socks5://:p@gate:1080":             "no user: write socks5://user:password@host:port",
		"socks5://u:" + long + "@gate:1080": "longer than the 255 bytes",
		"socks5://" + long + "@gate:1080":   "longer than the 255 bytes",
		"http://u%3A:p@gate:3128":           "a colon",
	} {
		err := CheckVia(Secret(via))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", via, err, want)
		}
	}
}
