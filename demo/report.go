package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafka-sni-proxy/internal/kafkatest"
)

// report looks at what happened from outside, says it, and returns everything
// that is not as it should be.
func report(ctx context.Context, env *environment, l *load, p *printer) error {
	client, err := l.client()
	if err != nil {
		return err
	}
	defer client.Close()

	var errs []error
	check := func(err error) { errs = append(errs, err) }

	p.line("Records: %s produced, %s consumed in %.1f s; each exactly once, in order, unchanged.",
		count(l.produced.Load()), count(l.consumed.Load()), l.took.Seconds())
	check(committed(ctx, client, l.consumed.Load()))
	read, written := env.dialer.Bytes()
	p.line("Bytes:   %s from the clients to the proxy, %s back. Batches that met a partition on the move went twice.",
		megabytes(written), megabytes(read))

	p.line("")
	p.line("Routes the proxy has learned from the cluster's answers:")
	routes, err := learnedRoutes(env.proxy)
	check(err)
	for _, r := range routes {
		p.row(r.Name, "->", r.Upstream)
	}
	want := brokers
	if env.config {
		want++
	}
	if len(routes) != want {
		check(fmt.Errorf("the proxy logged %d learned routes, want one for each of the %d brokers", len(routes), want))
	}

	p.line("")
	p.line("Broker addresses the clients were told:")
	told, err := told(ctx, client)
	check(err)
	for _, t := range told {
		p.row(t.api, strings.Join(t.addrs, "  "))
		for _, addr := range t.addrs {
			check(env.isOurs(addr))
		}
	}
	asked := env.dialer.Asked()
	p.row("connected to", strings.Join(asked, "  "))
	for _, addr := range asked {
		check(env.isOurs(addr))
	}

	p.line("")
	bytes, streams := env.dialer.Scanner.Scanned()
	if leaks := env.dialer.Err(); leaks != nil {
		check(leaks)
	} else {
		p.line("Proof:   all %s decrypted bytes of the clients' %d connections were searched for %q: not there.",
			count(bytes), streams, kafkatest.Domain)
	}
	leak, err := around(ctx, env)
	check(err)
	if leak != nil {
		p.line("Control: the same search on one connection around the proxy finds it in the first answer, at byte %d.", leak.Offset)
	}
	return errors.Join(errs...)
}

// committed checks that the group has committed all there is.
func committed(ctx context.Context, client *kgo.Client, records int64) error {
	offsets, err := kadm.NewClient(client).FetchOffsets(ctx, group)
	if err != nil {
		return fmt.Errorf("fetching the group's offsets: %w", err)
	}
	var sum int64
	offsets.Each(func(o kadm.OffsetResponse) { sum += o.At })
	if sum != records {
		return fmt.Errorf("the group has committed %d records of %d", sum, records)
	}
	return nil
}

// answer is what one API says about where brokers are.
type answer struct {
	api   string
	addrs []string
}

// told asks once more, by way of the proxy, what all clients have asked.
func told(ctx context.Context, client *kgo.Client) ([]answer, error) {
	metadata, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("asking for metadata: %w", err)
	}
	cluster, err := kmsg.NewPtrDescribeClusterRequest().RequestWith(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("asking for the cluster: %w", err)
	}
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKeys = []string{group}
	coordinators, err := find.RequestWith(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("asking for the group's coordinator: %w", err)
	}
	answers := []answer{{api: "Metadata"}, {api: "DescribeCluster"}, {api: "FindCoordinator"}}
	add := func(i int, host string, port int32) {
		answers[i].addrs = append(answers[i].addrs, net.JoinHostPort(host, strconv.Itoa(int(port))))
	}
	for _, b := range metadata.Brokers {
		add(0, b.Host, b.Port)
	}
	for _, b := range cluster.Brokers {
		add(1, b.Host, b.Port)
	}
	for _, c := range coordinators.Coordinators {
		add(2, c.Host, c.Port)
	}
	for _, a := range answers {
		slices.Sort(a.addrs)
		if len(a.addrs) == 0 {
			err = errors.Join(err, fmt.Errorf("%s named no broker", a.api))
		}
	}
	return answers, err
}

// isOurs checks that the address leads back to the proxy.
func (env *environment) isOurs(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if !strings.HasSuffix(host, "."+env.suffix) || port != strconv.Itoa(env.port) {
		return fmt.Errorf("a client was told of %s, which is not the proxy", addr)
	}
	return nil
}

// around asks a broker for metadata without the proxy, under the same scanner:
// one that finds nothing here would prove nothing there.
func around(ctx context.Context, env *environment) (*kafkatest.Leak, error) {
	conn, err := env.cluster.DialTLS(nil)(ctx, "tcp", env.cluster.Bootstrap())
	if err != nil {
		return nil, fmt.Errorf("connecting to a broker without the proxy: %w", err)
	}
	defer conn.Close()
	scanned := env.cluster.Scanner().Conn(conn, "a connection around the proxy")
	request := kmsg.NewRequestFormatter().AppendRequest(nil, kmsg.NewPtrMetadataRequest(), 1)
	if _, err := scanned.Write(request); err != nil {
		return nil, fmt.Errorf("asking a broker without the proxy: %w", err)
	}
	_, err = kafkatest.ReadFrame(scanned)
	var leak *kafkatest.Leak
	if !errors.As(err, &leak) {
		return nil, fmt.Errorf("the scanner found no upstream name where there are three: its silence proves nothing (%v)", err)
	}
	return leak, nil
}
