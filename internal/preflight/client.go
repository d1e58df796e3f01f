package preflight

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/tlswire"
)

// Client goes the way in, through a proxy that runs.
type Client struct {
	Bootstrap route.Address
	TLS       *tls.Config // nil: plaintext
	Login     *Login      // nil: nobody is logged in
	Timeout   time.Duration

	// ConnectTo is where all names lead, in place of what they resolve to; "": nowhere else.
	ConnectTo string
}

// Run takes the steps of a client: the bootstrap address, then each broker by the name that
// it was told.
func (c *Client) Run(ctx context.Context, r *Report) {
	r.progress("bootstrap %s", c.Bootstrap)
	a := c.step(ctx, "bootstrap "+c.Bootstrap.String(), c.Bootstrap, true, r)
	if a == nil || !a.speaksKafka {
		return
	}
	if a.err != nil {
		r.Add(Result{c.subject(), "Metadata", Failed, a.err.Error(), c.remedy(a)})
		return
	}
	if a.loginRefused != nil {
		r.Add(Result{c.subject(), "SASL", Failed, a.loginRefused.Error(), "see the file of --login, USER:PASSWORD on one line; the broker judges it, not the proxy"})
		return
	}
	if a.needsLogin {
		r.Add(Result{c.subject(), "Metadata", Note, "not checked: the cluster answers only clients that have logged in", "give --login FILE, with USER:PASSWORD on one line (SASL PLAIN)"})
		return
	}
	r.Add(Result{c.subject(), "Metadata", OK, fmt.Sprintf("%d brokers, cluster id %q", len(a.brokers), a.clusterID), ""})
	if c.TLS == nil && c.Login != nil {
		r.Add(loginInClear(c.subject()))
	}
	c.unique(a.brokers, r)
	brokers := r.first(c.subject(), a.brokers)
	r.each(ctx, len(brokers), func(ctx context.Context, i int) []Result {
		b, own := brokers[i], &Report{}
		r.progress("broker %d of %d", i+1, len(brokers))
		c.step(ctx, fmt.Sprintf("broker %d at %s", b.node, b.address), b.address, false, own)
		return own.Results()
	})
}

func (c *Client) subject() string { return "as a client of " + c.Bootstrap.String() }

// unique finds brokers that clients cannot tell apart.
func (c *Client) unique(brokers []broker, r *Report) {
	nodes := map[route.Address]int32{}
	for _, b := range brokers {
		if other, taken := nodes[b.address]; taken && other != b.node {
			r.Add(Result{c.subject(), fmt.Sprintf("brokers %d and %d", other, b.node), Failed, fmt.Sprintf("have the same address, %s", b.address), "this is no answer of the proxy's: see that the bootstrap name leads to it"})
		}
		nodes[b.address] = b.node
	}
}

// step connects to an address as a client does, and reports each part of that.
func (c *Client) step(ctx context.Context, what string, at route.Address, metadata bool, r *Report) *answer {
	add := func(level Level, remedy, format string, args ...any) {
		r.Add(Result{c.subject(), what, level, fmt.Sprintf(format, args...), remedy})
	}
	if !c.resolve(ctx, at, add) {
		return nil
	}
	e := endpoint{address: at, tls: c.TLS, dial: c.dial, timeout: c.Timeout, login: c.Login}
	a := e.probe(ctx, metadata)
	if a.at == nil {
		add(Failed, c.remedy(a), "TCP: %v", a.err)
		return a
	}
	if a.err != nil && !a.speaksKafka {
		text, remedy := a.err.Error(), c.remedy(a)
		if a.tls != nil {
			if result, better, ok := refused(a.err, a.tls.PeerCertificates, time.Now(), "--client-ca-certs"); ok {
				text, remedy = result, strings.ReplaceAll(better, "its owner", "the proxy's operator")
			}
		}
		add(Failed, remedy, "connected to %s: %s", a.at, text)
		return a
	}
	if c.TLS == nil {
		add(OK, "", "connected to %s, plaintext, speaks Kafka", a.at)
	} else {
		add(OK, "", "connected to %s, %s, speaks Kafka", a.at, describeTLS(a.tls))
	}
	return a
}

// resolve reports what a name leads to.
func (c *Client) resolve(ctx context.Context, at route.Address, add func(level Level, remedy, format string, args ...any)) bool {
	if _, err := netip.ParseAddr(at.Host); err == nil {
		if c.TLS != nil {
			add(Warning, "connect by the bootstrap name: a client sends no server name (SNI) for an address, and the proxy cannot tell which broker is meant", "%s is an address", at.Host)
		}
		return true
	}
	if c.ConnectTo != "" {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, at.Host)
	if err != nil {
		add(Failed, fmt.Sprintf("make a DNS record for %s that leads to the proxy; --connect-to HOST:PORT tries it without", wildcardOf(at.Host)), "%s does not resolve: %s", at.Host, dnsText(err))
		return false
	}
	add(OK, "", "resolves to %s", strings.Join(addresses, ", "))
	return true
}

func (c *Client) dial(ctx context.Context, host string, port int32) (net.Conn, error) {
	to := net.JoinHostPort(host, strconv.Itoa(int(port)))
	if c.ConnectTo != "" {
		to = c.ConnectTo
	}
	return new(net.Dialer).DialContext(ctx, "tcp", to)
}

// remedy says what to do about a step that has failed, from the client's side.
func (c *Client) remedy(a *answer) string {
	err := a.err
	var record tls.RecordHeaderError
	alert, hasAlert := tlswire.RemoteAlert(err)
	switch {
	case a.at == nil && isTimeout(err):
		return "nothing answers there: see the address, and the firewall in between"
	case a.at == nil && errors.Is(err, syscall.ECONNREFUSED):
		return "nobody listens there: see that the proxy runs, and its port (--bind, --advertised-port)"
	case a.at == nil:
		return "see the address and the port, and that the proxy runs"
	case errors.As(err, &record):
		return "this port does not speak TLS: see that it is the proxy's; for a plaintext listener give --client-plaintext"
	case hasAlert && alert == tlswire.AlertUnrecognizedName:
		return "the proxy serves no such name: see --sni-suffix, and the proxy's log for what it serves"
	case hasAlert && a.wantsClient:
		return "the proxy wants a client certificate (mTLS) that it trusts: give one with --client-cert and --client-key"
	case c.TLS == nil && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, errNoKafka)):
		return "leave out --client-plaintext if this listener speaks TLS; otherwise see the proxy's log for this connection"
	case isTimeout(err), errors.Is(err, context.DeadlineExceeded):
		return "it connects, but nothing answers: see that the port is the proxy's, and the proxy's log"
	case errors.Is(err, errNoKafka):
		return "something else than the proxy answers there: see the address and the port"
	}
	return "the proxy ended the connection: its log has a line for it, with the reason and a hint"
}
