package server

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"kafka-sni-proxy/internal/route"
	"kafka-sni-proxy/internal/session"
)

// TestSessionsCanBeLookedAt has a client at work, one that has not said who it is, and one
// that was refused.
func TestSessionsCanBeLookedAt(t *testing.T) {
	b := echoBroker(t)
	r := start(t, b, b.Addr(), func(p *settings, _ *route.Config) { p.Label = "public" })
	c := r.dial(t, "bootstrap."+suffix)
	mustWrite(t, c, request(18, 0, 1))
	mustRead(t, c)
	r.dialRaw(t)
	if _, err := r.tryDial("elsewhere.example"); err == nil {
		t.Error("a name that is not served was")
	}
	r.log.wait(t, "phase=route")
	waitStats(t, r.Server, "the request is counted, which may be after its response has come", func(s Stats) bool { return s.Requests == 1 })
	all := r.Sessions()
	if len(all) != 2 {
		t.Fatalf("there are %d sessions, want 2", len(all))
	}
	at := all[0]
	if at.State != "open" {
		at = all[1]
	}
	if at.ID == 0 || at.State != "open" || at.Listener != "public" || at.ServerName != "bootstrap."+suffix || at.Destination.Name() != "kafka" ||
		at.Broker.String() != b.Addr() || at.Client.String() != c.LocalAddr().String() || at.Requests != 1 || at.BytesPerSecond <= 0 || at.ClientID != "test" {
		t.Errorf("%+v", at)
	}
	again := r.Sessions()
	if again[0].BytesPerSecond != at.BytesPerSecond && again[1].BytesPerSecond != at.BytesPerSecond {
		t.Error("a look just after another one has another rate")
	}

	st := r.Stats()
	if len(st.Shares) != 2 {
		t.Fatalf("shares: %+v", st.Shares)
	}
	rest, kafka := st.Shares[0], st.Shares[1]
	if rest.Cluster != "" || rest.Listener != "public" || rest.Accepted != 3 || rest.Handshakes+rest.Resumed != 1 || rest.Active != 1 || rest.Failures["route"] != 1 || rest.HandshakeTimes.Count != 1 {
		t.Errorf("of no cluster: %+v", rest)
	}
	if kafka.Cluster != "kafka" || kafka.Active != 1 || kafka.Requests != 1 || kafka.RequestBytes == 0 {
		t.Errorf("of the cluster: %+v", kafka)
	}
	is := st.Clusters["kafka"]
	if len(is.Health) != 1 || !is.Health[0].OK || is.Health[0].Dials != 1 || is.Meter == nil {
		t.Errorf("%+v", is.Health)
	}

	failed := r.Failures()
	if len(failed) != 1 || failed[0].Phase != "route" || failed[0].ServerName != "elsewhere.example" || failed[0].Count != 1 || !strings.HasPrefix(failed[0].Hint, "hint for ") || failed[0].Listener != "public" {
		t.Errorf("%+v", failed)
	}

	// The cluster goes: what its clients have done is not, all at once, that of no cluster.
	r.SetClusters()
	c.CloseWrite()
	io.ReadAll(c)
	r.log.wait(t, `msg="connection closed"`)
	waitStats(t, r.Server, "the cluster's share is gone", func(s Stats) bool { st = s; return len(s.Shares) == 1 })
	if rest = st.Shares[0]; rest.Requests != 0 || rest.Cluster != "" {
		t.Errorf("of no cluster, in the end: %+v", rest)
	}
	if st.Requests != 1 {
		t.Errorf("of all together: %d requests, want 1", st.Requests)
	}
}

func TestRecentFailuresAreBounded(t *testing.T) {
	var r recent
	s := &Server{}
	note := func(i int, key string) {
		client := &net.TCPAddr{IP: net.IPv4(10, 0, byte(i>>8), byte(i)), Port: i}
		r.note(Failure{ServerName: strings.Repeat("x", 10_000), Phase: session.PhaseDial.String(), Reason: "r" + key}, client, key)
	}
	note(1, "a")
	note(1, "a")
	note(1, "b")
	if len(r.all) != 2 || r.all[0].Count != 2 || r.all[0].First.After(r.all[0].Last) || len(r.all[0].ServerName) != maxRecentText {
		t.Errorf("%+v", r.all)
	}
	for i := range 3 * maxRecent {
		note(i, "c")
	}
	if len(r.all) != maxRecent {
		t.Errorf("%d are kept, want %d", len(r.all), maxRecent)
	}
	s.recent.all = r.all
	all := s.Failures()
	if last := fmt.Sprintf("10.0.%d.%d", (3*maxRecent-1)>>8, (3*maxRecent-1)&0xff); !strings.HasPrefix(all[0].Client, last+":") {
		t.Errorf("the newest is of %s, want %s", all[0].Client, last)
	}
}

// Whoever asks for random names, from one address or from one IPv6 network, pushes out nobody's failures
// but those of that network.
func TestOneClientDoesNotPushOutTheFailuresOfOthers(t *testing.T) {
	for name, flood := range map[string]func(i int) net.IP{
		"one address": func(int) net.IP { return net.IPv4(10, 9, 9, 9) },
		"one network": func(i int) net.IP {
			ip := net.ParseIP("2001:db8:0:1::")
			ip[14], ip[15] = byte(i>>8), byte(i)
			return ip
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Server{}
			note := func(ip net.IP, name string) {
				s.recent.note(Failure{ServerName: name, Phase: "route"}, &net.TCPAddr{IP: ip, Port: 1}, "unknown name")
			}
			const others = 50
			for i := range others {
				note(net.IPv4(10, 0, 0, byte(i)), "a")
				note(net.IPv4(10, 0, 0, byte(i)), "b")
			}
			for i := range 10 * maxRecent {
				note(flood(i), fmt.Sprint("random-", i))
			}
			ofOthers := 0
			all := s.Failures()
			for _, f := range all {
				if strings.HasPrefix(f.Client, "10.0.0.") {
					ofOthers++
				}
			}
			if len(all) != maxRecent || ofOthers != 2*others {
				t.Errorf("%d are kept, %d of others: want %d, %d", len(all), ofOthers, maxRecent, 2*others)
			}
			if want := fmt.Sprint("random-", 10*maxRecent-1); all[0].ServerName != want {
				t.Errorf("the newest is %s, want %s", all[0].ServerName, want)
			}
			note(net.IPv4(10, 1, 1, 1), "c") // one more client is heard
			if all = s.Failures(); all[0].ServerName != "c" {
				t.Errorf("the newest is %s", all[0].ServerName)
			}
		})
	}
}

func BenchmarkSessions(b *testing.B) {
	broker := echoBroker(b)
	r := start(b, broker, broker.Addr(), nil)
	for range 500 {
		r.dial(b, "bootstrap."+suffix)
	}
	b.ReportAllocs()
	for b.Loop() {
		r.Sessions()
	}
}
