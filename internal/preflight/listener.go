package preflight

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"kafka-sni-proxy/internal/certs"
	"kafka-sni-proxy/internal/route"
)

// Listener is where clients will connect.
type Listener struct {
	Label     string
	Leaves    []*x509.Certificate     // that clients will be shown; none in plaintext
	Bootstrap []string                // names and addresses that clients are to know
	Naming    map[string]route.Naming // by cluster
	Brokers   map[string][]Broker     // by cluster

	// Timeout is for each name.
	Timeout time.Duration
	// Own are the addresses of this machine.
	Own []netip.Addr
}

// Run checks the names that clients will ask for.
func (l *Listener) Run(ctx context.Context, r *Report) {
	subject := "listener " + l.Label
	names := slices.Clone(l.Bootstrap)
	for _, cluster := range slices.Sorted(maps.Keys(l.Brokers)) {
		for _, b := range l.Brokers[cluster] {
			host, _, err := l.Naming[cluster].Address(b.Node, b.Name)
			if err != nil {
				r.Add(Result{subject, fmt.Sprintf("broker %d of cluster %s", b.Node, cluster), Failed, err.Error(),
					"widen ports.brokers of the listener, or set ports.first-node-id: each broker needs a port, by its node id"})
				continue
			}
			names = append(names, host)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	l.covered(subject, names, r)
	r.progress("listener %s: resolving %d names", l.Label, len(names))
	r.each(ctx, len(names), func(ctx context.Context, i int) []Result { return []Result{l.resolves(ctx, subject, names[i])} })
}

// covered says whether clients will be shown a certificate for each name.
func (l *Listener) covered(subject string, names []string, r *Report) {
	if len(l.Leaves) == 0 {
		return
	}
	missing := names
	for _, leaf := range l.Leaves {
		missing = certs.Uncovered(leaf, missing...)
	}
	if len(missing) == 0 {
		r.Add(Result{subject, "names in certificates", OK, fmt.Sprintf("all of %s are covered", some(names)), ""})
		return
	}
	r.Add(Result{subject, "names in certificates", Failed, fmt.Sprintf("no certificate covers %s: clients will refuse the connection", some(missing)),
		fmt.Sprintf("get a certificate for %s (a wildcard stands for one label), or add these names to it", wildcardOf(missing[0]))})
}

// some lists names, but not hundreds.
func some(names []string) string {
	const most = 6
	list := strings.Join(names[:min(len(names), most)], ", ")
	if more := len(names) - most; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// resolves says whether a name leads to this machine.
func (l *Listener) resolves(ctx context.Context, subject, name string) Result {
	result := Result{Subject: subject, What: "DNS " + name}
	if _, err := netip.ParseAddr(name); err == nil {
		result.Result = "is an address"
		return result
	}
	ctx, cancel := context.WithTimeout(ctx, l.Timeout)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, name)
	if err != nil {
		result.Level, result.Result = Warning, fmt.Sprintf("does not resolve on this machine: %v", dnsText(err))
		result.Remedy = "have DNS lead it to the proxy, or to the load balancer in front of it: one record " + wildcardOf(name) + " does for all brokers"
		return result
	}
	for _, text := range addresses {
		addr, err := netip.ParseAddr(text)
		if err != nil || !addr.Unmap().IsLoopback() && !slices.Contains(l.Own, addr.Unmap().WithZone("")) {
			result.Level, result.Result = Warning, fmt.Sprintf("resolves to %s, which is not this machine", strings.Join(addresses, ", "))
			result.Remedy = "right, if a load balancer in front of the proxy or another copy is there; otherwise correct DNS"
			return result
		}
	}
	result.Result = "resolves to " + strings.Join(addresses, ", ") + ", this machine"
	return result
}

func dnsText(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.Err
	}
	return err.Error()
}

// wildcardOf is the record that covers a name and those beside it.
func wildcardOf(name string) string {
	if _, domain, ok := strings.Cut(name, "."); ok {
		return "*." + domain
	}
	return name
}
