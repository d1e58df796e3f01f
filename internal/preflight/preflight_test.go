package preflight

import (
	"bytes"
	"encoding/json"
	"kafka-sni-proxy/internal/route"
	"net"
	"strings"
	"testing"
	"time"
)

// A certificate's subject, or a broker's host name, may hold what moves a terminal's cursor.
func TestAReportCannotMoveTheCursor(t *testing.T) {
	r := &Report{}
	r.Add(Result{"cluster \x1b[2J", "up\rstream\u009b\n  ok       forged", Failed, "CN=\x1b]0;title\x07", "\x7f"})
	var b bytes.Buffer
	if err := r.Write(&b, false); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\r\x07\x7f\u009b") {
		t.Errorf("control characters are in %q", b.String())
	}
	if strings.Contains(b.String(), "\n  ok") {
		t.Errorf("a peer has written a line of its own:\n%s", b.String())
	}
	for _, want := range []string{"failed", "CN=", "1 of 1 checks failed"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in %q", want, b.String())
		}
	}
}

func TestColoursAreForThoseWhoAskedForThem(t *testing.T) {
	r := &Report{}
	r.Add(Result{Subject: "a", What: "b", Result: "c"})
	var coloured, plain bytes.Buffer
	r.Write(&coloured, true)
	r.Write(&plain, false)
	if !strings.Contains(coloured.String(), "\x1b[32mok") || strings.Contains(plain.String(), "\x1b") {
		t.Errorf("%q, %q", coloured.String(), plain.String())
	}
}

func TestTheReportAsJSON(t *testing.T) {
	r := &Report{}
	r.In(strings.ToUpper).Add(Result{Subject: "s", What: "w", Level: Warning, Result: "found", Remedy: "do"})
	text, err := json.Marshal(r)
	if want := `{"works":true,"results":[{"subject":"s","what":"w","level":"warning","result":"FOUND","remedy":"DO"}]}`; err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
}

func TestAClockBeforeTheProgramWasMadeIsWrong(t *testing.T) {
	made := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for now, want := range map[time.Time]Level{made.Add(-48 * time.Hour): Failed, made: OK} {
		r := &Report{}
		(&Machine{Built: made, Now: now, Descriptors: 1 << 20}).Run(r)
		if got := r.Results()[0]; got.What != "clock" || got.Level != want {
			t.Errorf("at %v: %+v", now, got)
		}
	}
}

func TestDescriptorsAreTwoForEachConnection(t *testing.T) {
	for _, c := range []struct {
		connections int
		descriptors uint64
		want        Level
	}{{0, few, OK}, {0, few - 1, Warning}, {500, 1064, OK}, {501, 1064, Failed}, {1, 10, Failed}} {
		r := &Report{}
		(&Machine{MaxConnections: c.connections, Descriptors: c.descriptors, Now: time.Now()}).Run(r)
		if got := r.Results()[1]; got.Level != c.want {
			t.Errorf("%d connections with %d: %+v", c.connections, c.descriptors, got)
		}
	}
}

// Whoever answers says how many brokers there are, and may say so twice.
func TestAThousandBrokersAreTriedAtTheMost(t *testing.T) {
	var all []broker
	for node := range int32(maxBrokers) + 5 {
		all = append(all, broker{node: maxBrokers + 5 - node}, broker{node: maxBrokers + 5 - node})
	}
	r := &Report{}
	tried := r.first("s", all)
	if len(tried) != maxBrokers || tried[0].node != 1 || tried[maxBrokers-1].node != maxBrokers {
		t.Errorf("%d are tried, from %d on", len(tried), tried[0].node)
	}
	if r.Count(Note) != 1 {
		t.Errorf("nobody says so: %v", r.Results())
	}
}

// A broker may say again what it was sent, and may answer Metadata with nonsense.
func TestABrokersAnswerShowsNoPassword(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		request := make([]byte, 1<<10)
		theirs.Read(request)
		theirs.Write([]byte{0, 0, 0, 10, 0, 0, 0, keySaslHandshake, 0, 0, 0, 0, 0, 0})
		n, _ := theirs.Read(request)
		said := request[n-10 : n]
		theirs.Write(append([]byte{0, 0, 0, 18, 0, 0, 0, keySaslAuthenticate, 0, 58, 0, 10}, said...))
	}()
	err := (&Login{User: "u", Password: "the-secret"}).authenticate(t.Context(), ours, route.Address{})
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "***") {
		t.Errorf("it says %v", err)
	}
}

// Whatever answers there, a check ends.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	f.Add([]byte{0, 0, 0, 6, 0, 0, 0, 18, 0, 0})
	f.Add([]byte{0, 0, 0, 20, 0, 0, 0, 17, 0, 33, 0, 0, 0, 2, 0, 5, 'S', 'C', 'R', 'A', 'M', 0xff, 0xff})
	f.Fuzz(func(t *testing.T, response []byte) {
		for _, talk := range []func(net.Conn){
			func(c net.Conn) { new(answer).askVersions(c) },
			func(c net.Conn) { (&Login{User: "u", Password: "p"}).authenticate(t.Context(), c, route.Address{}) },
			func(c net.Conn) { new(answer).askBrokers(c) },
		} {
			ours, theirs := net.Pipe()
			go func() {
				for b := make([]byte, 1<<10); ; {
					if _, err := theirs.Read(b); err != nil {
						return
					}
				}
			}()
			go func() { theirs.Write(response); theirs.Close() }()
			talk(ours)
			ours.Close()
		}
	})
}
