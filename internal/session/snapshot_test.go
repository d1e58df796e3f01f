package session

import (
	"crypto/tls"
	"encoding/binary"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kafka-sni-proxy/internal/cluster"
	"kafka-sni-proxy/internal/histogram"
	"kafka-sni-proxy/internal/kafka"
	"kafka-sni-proxy/internal/route"
)

// TestSnapshotsSayWhatIsUnderWay has one read the session the whole time, for the race
// detector, and looks at it by turns.
func TestSnapshotsSayWhatIsUnderWay(t *testing.T) {
	c := &fakeCluster{route: route.Route{Name: "b0." + suffix, Kind: route.Broker, Confirmed: true}}
	e := begin(t, Config{Label: "public"}, c, nil)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			default:
				e.Snapshot()
			}
		}
	}()
	software := kmsg.ApiVersionsRequest{Version: 3, ClientSoftwareName: "librdkafka", ClientSoftwareVersion: "2.16"}
	write(t, e.client, kmsg.NewRequestFormatter(kmsg.FormatterClientID("orders")).AppendRequest(nil, &software, 1))
	first := make([]byte, 200)
	if _, err := e.broker.Read(first); err != nil {
		t.Fatal(err)
	}
	v := e.Snapshot()
	if v.Introduction != (kafka.Introduction{ClientID: "orders", Software: "librdkafka", Version: "2.16"}) {
		t.Errorf("the client is %+v", v.Introduction)
	}
	if v.InFlight != 1 || v.OldestAPI != "ApiVersions" || v.Oldest <= 0 || v.Oldest > time.Since(v.Began) {
		t.Errorf("%d in flight, the oldest is %s, for %v", v.InFlight, v.OldestAPI, v.Oldest)
	}
	if v.State != "open" || v.Listener != "public" || v.ServerName != "b0."+suffix || v.TLSVersion != tls.VersionTLS13 || v.Destination == nil || v.Client == nil {
		t.Errorf("%+v", v)
	}
	answer := kmsg.ApiVersionsResponse{Version: 0}
	body := answer.AppendTo([]byte{0, 0, 0, 0, 0, 0, 0, 1})
	body[3] = byte(len(body) - 4)
	write(t, e.broker, body)
	read(t, e.client)
	if v = e.Snapshot(); v.InFlight != 0 || v.OldestAPI != "" || v.Requests != 1 {
		t.Errorf("answered: %+v", v)
	}
	var latency, added histogram.Snapshot
	if !c.meter.Latency(18, &latency) || latency.Count != 1 || latency.Sum <= 0 || c.meter.Latency(3, new(histogram.Snapshot)) {
		t.Errorf("latency: %+v", latency)
	}
	if c.meter.Added(Requests, &added); added.Count != 1 || added.Sum <= 0 {
		t.Errorf("added: %+v", added)
	}
	e.client.Close()
	r := e.wait(t)
	if r.Introduction.Software != "librdkafka" || r.Handshake <= 0 || r.Connect <= 0 || r.Handshake+r.Connect > r.Took || r.TLSVersion != tls.VersionTLS13 || r.Began.IsZero() {
		t.Errorf("%+v", r)
	}
}

// TestThrottlingIsSeen has a broker tell its client to wait.
func TestThrottlingIsSeen(t *testing.T) {
	c := &fakeCluster{route: route.Route{Name: "b0." + suffix, Kind: route.Broker, Confirmed: true}}
	e := begin(t, Config{}, c, nil)
	write(t, e.client, []byte{0, 0, 0, 8, 0, 1, 0, 4, 0, 0, 0, 9}) // Fetch v4, of which nobody reads the body here
	read(t, e.broker)
	write(t, e.broker, []byte{0, 0, 0, 12, 0, 0, 0, 9, 0, 0, 0, 200, 0, 0, 0, 0})
	read(t, e.client)
	if n, wait := c.meter.Throttled(); n != 1 || wait != 200*time.Millisecond {
		t.Errorf("%d are throttled, for %v", n, wait)
	}
}

// TestTimeForAPeerThatDoesNotReadIsNotTheProxys has a broker send more than the client reads.
func TestTimeForAPeerThatDoesNotReadIsNotTheProxys(t *testing.T) {
	c := &fakeCluster{route: route.Route{Name: "b0." + suffix, Kind: route.Broker, Confirmed: true}}
	e := begin(t, Config{}, c, nil)
	write(t, e.client, []byte{0, 0, 0, 8, 0, 22, 0, 0, 0, 0, 0, 9})
	read(t, e.broker)
	const size = 32 << 20
	sent := make(chan error, 1)
	go func() {
		_, err := e.broker.Write(append(binary.BigEndian.AppendUint32(nil, size), append([]byte{0, 0, 0, 9}, make([]byte, size-4)...)...))
		sent <- err
	}()
	for last := int64(-1); ; { // until nothing moves any more: the client's buffers are full
		if moved := e.Traffic().ResponseBytes.Load(); moved > 0 && moved == last && e.Snapshot().Idle > 200*time.Millisecond {
			break
		} else {
			last = moved
		}
		select {
		case err := <-sent:
			t.Skipf("all of it fits the buffers of this system: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
	if v := e.Snapshot(); v.Stalled[Responses] < 100*time.Millisecond || v.Stalled[Requests] != 0 || e.Waiting().Stalled != v.Stalled && e.Waiting().Stalled[Responses] < v.Stalled[Responses] {
		t.Errorf("stalled for %v", v.Stalled)
	}
	got := 0
	for buffer := make([]byte, 1<<20); got < size+4; {
		n, err := e.client.Read(buffer)
		if got += n; err != nil {
			t.Fatal(err)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	e.client.Close()
	e.wait(t)
	var added histogram.Snapshot
	c.meter.Added(Responses, &added)
	stalled := c.meter.Stalled(Responses)
	if stalled < 200*time.Millisecond {
		t.Errorf("responses waited for %v", stalled)
	}
	if c.meter.Stalled(Requests) != 0 {
		t.Error("requests have waited")
	}
}

// TestTimeInWhichTheBrokerIsAskedIsNotTheProxys has a request held until the broker has said which
// cluster it belongs to.
func TestTimeInWhichTheBrokerIsAskedIsNotTheProxys(t *testing.T) {
	c := &fakeCluster{route: route.Route{Kind: route.Bootstrap, Name: "bootstrap." + suffix}}
	c.suspect.Store(&cluster.OtherClusterError{Address: at, Got: "b", Want: "a"})
	c.clusterID = func([]byte) error { c.suspect.Store(nil); return nil }
	e := begin(t, Config{}, c, nil)
	began := time.Now()
	write(t, e.client, request(1))
	read(t, e.broker)
	asked := time.Now()
	<-time.After(50 * time.Millisecond) // the broker thinks
	thought := time.Since(asked)
	write(t, e.broker, metadata("a"))
	read(t, e.broker)
	write(t, e.broker, response(1)) // when that is forwarded, the request has long been measured, or the end waits for it
	read(t, e.client)
	took := time.Since(began)
	e.client.Close()
	e.wait(t)
	var added histogram.Snapshot
	if c.meter.Added(Requests, &added); added.Count == 0 || added.Sum > took-thought {
		t.Errorf("%v of %v in %d batches, and the broker has taken %v of it", added.Sum, took, added.Count, thought)
	}
}
