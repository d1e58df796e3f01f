package preflight

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/hosts"
	"kafka-sni-proxy/internal/route"
)

// Cluster is a Kafka cluster, and how the proxy would reach it.
type Cluster struct {
	Name      string
	Upstreams []route.Address
	TLS       *tls.Config // towards brokers; nil: plaintext
	Dial      func(ctx context.Context, host string, port int32) (net.Conn, error)
	Timeout   time.Duration                // of each attempt
	IsSelf    func(*x509.Certificate) bool // reports the proxy's own certificate

	Hosts *hosts.Table // nil: none
	Rule  *route.Rule  // nil: none
	Table *route.Table // with what a routes file has, if there is one
	Login *Login       // nil: nobody is logged in
	Hint  func(error) string

	// WithoutNames is set when clients tell brokers apart by port alone.
	WithoutNames bool
}

// Broker is a broker as clients will see it.
type Broker struct {
	Node int32
	Name string
}

// Run checks the cluster, and returns the brokers that are known of.
func (c *Cluster) Run(ctx context.Context, r *Report) (known []Broker) {
	subject := "cluster " + c.Name
	answers := make([]*answer, len(c.Upstreams))
	r.progress("cluster %s: asking %d bootstrap servers", c.Name, len(c.Upstreams))
	r.each(ctx, len(c.Upstreams), func(ctx context.Context, i int) []Result {
		answers[i] = c.endpoint(c.Upstreams[i]).probe(ctx, true)
		return c.results(subject, "upstream "+c.Upstreams[i].String(), c.Upstreams[i], answers[i])
	})
	brokers, source := c.brokers(answers)
	c.clusterIDs(subject, answers, r)
	c.source(subject, answers, brokers, source, r)
	if c.TLS == nil && c.Login != nil {
		r.Add(loginInClear(subject))
	}
	brokers = r.first(subject, brokers)
	r.each(ctx, len(brokers), func(ctx context.Context, i int) []Result {
		b := brokers[i]
		r.progress("cluster %s: broker %d of %d", c.Name, i+1, len(brokers))
		return c.results(subject, fmt.Sprintf("broker %d at %s", b.node, b.address), b.address, c.endpoint(b.address).probe(ctx, false))
	})
	if !c.WithoutNames {
		known = c.names(subject, brokers, r)
	} else {
		for _, b := range brokers {
			known = append(known, Broker{Node: b.node})
		}
	}
	c.hosts(subject, brokers, r)
	return known
}

func (c *Cluster) endpoint(a route.Address) *endpoint {
	return &endpoint{address: a, tls: c.TLS, dial: c.Dial, timeout: c.Timeout, login: c.Login, isSelf: c.IsSelf}
}

// results says what came of a probe.
func (c *Cluster) results(subject, what string, at route.Address, a *answer) []Result {
	result := Result{Subject: subject, What: what}
	where := at.Host
	if a.at != nil {
		where = a.at.String()
	}
	switch {
	case a.err != nil:
		result.Level, result.Result, result.Remedy = Failed, a.err.Error(), c.Hint(a.err)
		if a.tls != nil {
			if text, remedy, ok := refused(a.err, a.tls.PeerCertificates, time.Now(), "--upstream-ca-certs"); ok {
				result.Result, result.Remedy = fmt.Sprintf("%s: %s", where, text), remedy
			}
		}
		if errors.Is(a.err, context.DeadlineExceeded) || isTimeout(a.err) {
			result.Result = fmt.Sprintf("no answer within %v: %v", c.Timeout, a.err)
		}
		if a.wantsClient && len(c.TLS.Certificates) == 0 && a.tls != nil && !isRefused(a.err) {
			result.Remedy = "it asks for a client certificate (mTLS), and there is none: give one with --upstream-cert and --upstream-key"
		}
		if a.speaksKafka {
			result.Remedy = "it answers ApiVersions, and Metadata not as Kafka does: see what is there, and its own log"
		}
		return []Result{result}
	case a.tls == nil:
		result.Result = fmt.Sprintf("%s, plaintext, speaks Kafka", where)
	default:
		result.Result = fmt.Sprintf("%s, %s", where, describeTLS(a.tls))
		if c.TLS.InsecureSkipVerify {
			result.Level, result.Result = Warning, result.Result+", NOT VERIFIED"
			result.Remedy = "take --trust-upstream-certs out: anyone in between can read and change everything"
		} else if leaf := a.tls.PeerCertificates[0]; time.Until(leaf.NotAfter) < certs.RenewBefore {
			result.Level, result.Remedy = Warning, "the certificate expires soon: have its owner renew it"
		}
	}
	all := []Result{result}
	if a.loginRefused != nil {
		all = append(all, Result{subject, what, Failed, "login: " + a.loginRefused.Error(), c.loginRemedy()})
	}
	return all
}

func isRefused(err error) bool { return errors.As(err, new(*tls.CertificateVerificationError)) }

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// brokers returns the brokers that are known of, in order, and how.
func (c *Cluster) brokers(answers []*answer) (all []broker, source string) {
	for i, a := range answers {
		if len(a.brokers) > 0 {
			all, source = a.brokers, "told by "+c.Upstreams[i].String()
			break
		}
	}
	if all == nil && c.Table != nil {
		for _, e := range c.Table.Entries() {
			all, source = append(all, broker{e.Node, e.Address}), "from the routes file"
		}
	}
	return all, source
}

// maxBrokers is how many brokers are tried. Whoever answers says how many there are.
const maxBrokers = 1000

// first returns the brokers that are tried, by node id, and says so when some are not.
func (r *Report) first(subject string, all []broker) []broker {
	all = slices.SortedFunc(slices.Values(all), func(a, b broker) int { return cmp.Compare(a.node, b.node) })
	all = slices.CompactFunc(all, func(a, b broker) bool { return a.node == b.node })
	if len(all) > maxBrokers {
		r.Add(Result{subject, "brokers", Note, fmt.Sprintf("only the first %d of %d are tried", maxBrokers, len(all)), ""})
	}
	return all[:min(len(all), maxBrokers)]
}

func loginInClear(subject string) Result {
	return Result{subject, "login", Warning, "the password went over the network in plaintext", "use TLS, or log in with another account's password here"}
}

// clusterIDs finds bootstrap servers that belong to different clusters.
func (c *Cluster) clusterIDs(subject string, answers []*answer, r *Report) {
	first, id := "", ""
	for i, a := range answers {
		switch {
		case a.clusterID == "":
		case id == "":
			first, id = c.Upstreams[i].String(), a.clusterID
		case a.clusterID != id:
			r.Add(Result{subject, "cluster id", Failed,
				fmt.Sprintf("%s tells %q, and %s tells %q: these are two clusters", first, id, c.Upstreams[i], a.clusterID),
				"leave in --upstream the servers of one cluster alone"})
		}
	}
}

// source says how the brokers are known, or why not.
func (c *Cluster) source(subject string, answers []*answer, brokers []broker, source string, r *Report) {
	needsLogin := slices.ContainsFunc(answers, func(a *answer) bool { return a.needsLogin && a.loginRefused == nil })
	switch {
	case len(brokers) > 0:
		id := ""
		for _, a := range answers {
			if id == "" && a.clusterID != "" {
				id = fmt.Sprintf(", cluster id %q", a.clusterID)
			}
		}
		r.Add(Result{subject, "brokers", OK, fmt.Sprintf("%d, %s%s", len(brokers), source, id), ""})
	case needsLogin:
		r.Add(Result{subject, "brokers", Note, "not checked: the cluster tells of them only to clients that have logged in",
			"give --login FILE, with USER:PASSWORD on one line (SASL PLAIN, as an API key of Confluent Cloud), or --routes-file of a proxy that has run"})
	}
}

// names tries how clients will see the brokers.
func (c *Cluster) names(subject string, brokers []broker, r *Report) (known []Broker) {
	for _, b := range brokers {
		name := c.Table.Learn(b.node, []byte(b.address.Host), b.address.Port)
		known = append(known, Broker{b.node, name})
		result := Result{Subject: subject, What: fmt.Sprintf("name of broker %d", b.node), Result: name}
		if c.Rule == nil {
			continue // b<id>.<suffix>, which nothing can be wrong with
		}
		switch given, matched := c.Rule.Apply(b.address.Host); {
		case !matched:
			result.Level, result.Result = Warning, fmt.Sprintf("%s: --broker-mapping-rule does not match %s", name, b.address.Host)
			result.Remedy = "correct the regular expression, if the broker is not to be seen under the default name"
		case strings.EqualFold(strings.TrimSuffix(given, "."), name):
			result.Result = fmt.Sprintf("%s, from %s", name, b.address.Host)
		default:
			result.Level, result.Result = Failed, fmt.Sprintf("--broker-mapping-rule makes %q of %s, which %s; it would be seen as %s", given, b.address.Host, c.problem(given, b.node, known), name)
			result.Remedy = "have the replacement keep what tells the brokers apart, as ${1} does for the first group"
		}
		r.Add(result)
	}
	return known
}

// problem says why a name that the rule gives cannot be used.
func (c *Cluster) problem(given string, node int32, known []Broker) string {
	for _, other := range known {
		if other.Node != node && strings.EqualFold(other.Name, strings.TrimSuffix(given, ".")) {
			return fmt.Sprintf("broker %d has already", other.Node)
		}
	}
	if strings.EqualFold(given, c.Table.Bootstrap()) {
		return "is the bootstrap name"
	}
	return "is not a host name"
}

// hosts finds lines of the hosts file that nothing is looked up with.
func (c *Cluster) hosts(subject string, brokers []broker, r *Report) {
	if c.Hosts.Len() == 0 {
		return
	}
	var asked []string
	for _, u := range c.Upstreams {
		asked = append(asked, u.Host)
	}
	for _, b := range brokers {
		asked = append(asked, b.address.Host)
	}
	unused := c.Hosts.Unused(asked...)
	result := Result{Subject: subject, What: "hosts file"}
	switch list := strings.Join(unused[:min(len(unused), 10)], ", "); {
	case len(unused) == 0:
		result.Result = "each name in it is used"
	case len(brokers) == 0:
		result.Level, result.Result = Note, fmt.Sprintf("no bootstrap server is called %s; brokers may be", list)
	default:
		result.Level, result.Result = Warning, fmt.Sprintf("no broker is called %s: these lines are never used", list)
		result.Remedy = "write the names as the brokers tell them (see the lines above), or take the lines out of --hosts-file"
	}
	r.Add(result)
}

// loginRemedy is of a login that the brokers do not take.
func (c *Cluster) loginRemedy() string {
	if c.Login != nil && c.Login.Begin != nil {
		return "put a credential that the brokers take where authentication.brokers.credentials.proxy of the cluster says, or give --login FILE; or see that the mechanism is one that they have at this port"
	}
	return "see the file of --login, USER:PASSWORD on one line"
}
