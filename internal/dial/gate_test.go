package dial

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kafka-sni-proxy/internal/hosts"
)

// gateServer is a gate that knows one name, broker.test, and writes down what it is asked for.
type gateServer struct {
	addr   string
	broker string // where broker.test is

	mu    sync.Mutex
	asked []string
}

// allAsked is what the gate has been asked for: "domain", "ipv4" or "ipv6" where the protocol
// says which it is, and the address.
func (g *gateServer) allAsked() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.asked)
}

// reach connects to where an address leads.
func (g *gateServer) reach(kind, address string) (net.Conn, error) {
	g.mu.Lock()
	g.asked = append(g.asked, strings.TrimSpace(kind+" "+address))
	g.mu.Unlock()
	host, _, _ := net.SplitHostPort(address)
	switch {
	case host == "broker.test":
		address = g.broker
	case net.ParseIP(host) == nil:
		return nil, fmt.Errorf("no such host %s", host)
	}
	return net.Dial("tcp", address)
}

func pipe(a, b net.Conn) {
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		both.Go(func() {
			io.Copy(way[0], way[1])
			way[0].(*net.TCPConn).CloseWrite()
		})
	}
	both.Wait()
}

// serve runs script for each connection until the test ends, and waits for the scripts then.
func serve(t *testing.T, script func(net.Conn)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var scripts sync.WaitGroup
	t.Cleanup(func() { ln.Close(); scripts.Wait() })
	scripts.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			scripts.Go(func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(30 * time.Second))
				script(conn)
			})
		}
	})
	return ln.Addr().String()
}

// says is a server that says something at once, and reads until the client has gone.
func says(text string) func(net.Conn) {
	return func(c net.Conn) {
		io.WriteString(c, text)
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c)
	}
}

// socksGate speaks SOCKS5 (RFC 1928, 1929) and wants the user "u" with the password "p@ss",
// or nobody.
func socksGate(t *testing.T, broker string, login bool) *gateServer {
	g := &gateServer{broker: broker}
	g.addr = serve(t, func(c net.Conn) {
		b := make([]byte, 300)
		read := func(n int) []byte {
			if _, err := io.ReadFull(c, b[:n]); err != nil {
				return make([]byte, n)
			}
			return b[:n]
		}
		methods := string(read(int(read(2)[1])))
		switch {
		case login && !strings.Contains(methods, "\x02"):
			c.Write([]byte{5, 0xff})
			return
		case login:
			c.Write([]byte{5, 2})
			user := string(read(int(read(2)[1])))
			if password := string(read(int(read(1)[0]))); user != "u" || password != "p@ss" {
				c.Write([]byte{1, 1})
				return
			}
			c.Write([]byte{1, 0})
		default:
			c.Write([]byte{5, 0})
		}
		var host, kind string
		switch head := read(4); head[3] {
		case 1:
			host, kind = net.IP(read(4)).String(), "ipv4"
		case 4:
			host, kind = net.IP(read(16)).String(), "ipv6"
		case 3:
			host, kind = string(read(int(read(1)[0]))), "domain"
		}
		port := binary.BigEndian.Uint16(read(2))
		to, err := g.reach(kind, net.JoinHostPort(host, fmt.Sprint(port)))
		if err != nil {
			c.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0}) // connection refused
			return
		}
		defer to.Close()
		c.Write([]byte{5, 0, 0, 1, 127, 0, 0, 1, 0, 1})
		pipe(c, to)
	})
	return g
}

// httpGate speaks HTTP CONNECT, and wants the same user.
func httpGate(t *testing.T, broker string, login bool) *gateServer {
	g := &gateServer{broker: broker}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case login && r.Header.Get("Proxy-Authorization") != "Basic dTpwQHNz": // "u:p@ss" in base64
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		case r.Method != http.MethodConnect:
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		to, err := g.reach("", r.RequestURI)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer to.Close()
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 Connection established\r\nX-Gate: yes\r\n\r\n")
		pipe(c, to)
	})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.addr = ln.Addr().String()
	go server.Serve(ln)
	t.Cleanup(func() { server.Close() })
	return g
}

// helloServer says hello first, as no broker does, and then what it is told.
func helloServer(t *testing.T) (addr string, port int32) {
	addr = serve(t, func(c net.Conn) {
		io.WriteString(c, "hello ")
		io.Copy(c, c)
	})
	return addr, int32(netip.MustParseAddrPort(addr).Port())
}

func gate(t *testing.T, text string) *Gate {
	t.Helper()
	g, err := ParseGate(text)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

var gateKinds = map[string]func(*testing.T, string, bool) *gateServer{"socks5": socksGate, "socks5h": socksGate, "http": httpGate}

// TestBrokersAreReachedThroughGates has a broker say something at once: the gate's answer and
// that come together.
func TestBrokersAreReachedThroughGates(t *testing.T) {
	for scheme, start := range gateKinds {
		for name, test := range map[string]struct {
			login bool
			user  string
		}{
			"nobody":        {false, ""},
			"user":          {true, "u:p%40ss@"},
			"a user unused": {false, "u:p%40ss@"},
		} {
			t.Run(scheme+" "+name, func(t *testing.T) {
				broker, port := helloServer(t)
				d := New(nil, gate(t, scheme+"://"+test.user+start(t, broker, test.login).addr))
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				conn, err := d.Dial(ctx, "broker.test", port)
				if err != nil {
					t.Fatal(err)
				}
				cancel() // which is nothing to the connection any more
				defer conn.Close()
				if _, raw := conn.(*net.TCPConn); !raw {
					t.Fatalf("a %T is returned", conn)
				}
				io.WriteString(conn, "world")
				conn.(*net.TCPConn).CloseWrite()
				if got, err := io.ReadAll(conn); err != nil || string(got) != "hello world" {
					t.Errorf("%q, %v", got, err)
				}
			})
		}
	}
}

func TestGatesAreAskedForNamesUnlessTheHostsFileHasThem(t *testing.T) {
	for scheme, start := range gateKinds {
		t.Run(scheme, func(t *testing.T) {
			broker, port := helloServer(t)
			g := start(t, broker, false)
			known := table(t, "127.0.0.9 ::1 127.0.0.1 another.test\n2001:db8::1 down.test")
			for _, host := range []string{"broker.test", "another.test", "127.0.0.1"} {
				conn, err := New(known, gate(t, scheme+"://"+g.addr)).Dial(deadline(t), host, port)
				if err != nil {
					t.Fatal(err)
				}
				conn.Close()
			}
			kinds := map[string]string{"broker.test": "domain ", "127.0.0.1": "ipv4 ", "127.0.0.9": "ipv4 ", "::1": "ipv6 "}
			var want []string
			for _, host := range []string{"broker.test", "127.0.0.9", "::1", "127.0.0.1", "127.0.0.1"} {
				kind := kinds[host]
				if scheme == "http" {
					kind = ""
				}
				want = append(want, kind+net.JoinHostPort(host, fmt.Sprint(port)))
			}
			if got := g.allAsked(); !slices.Equal(got, want) {
				t.Errorf("asked for\n%q, want\n%q", got, want)
			}
		})
	}
}

func TestTheGateItselfMayBeInTheHostsFile(t *testing.T) {
	broker, port := helloServer(t)
	g := socksGate(t, broker, false)
	at := netip.MustParseAddrPort(g.addr)
	known := table(t, fmt.Sprintf("127.0.0.2 ::1 %s gate.test", at.Addr()))
	conn, err := New(known, gate(t, fmt.Sprintf("socks5://gate.test:%d", at.Port()))).Dial(deadline(t), "broker.test", port)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestRefusalsOfGatesAreToldApart(t *testing.T) {
	nobody := "127.0.0.1:1"
	for scheme, start := range gateKinds {
		open, guarded := start(t, nobody, false), start(t, nobody, true)
		isHTTP := scheme == "http"
		for name, test := range map[string]struct {
			gate string
			host string
			want Stage
			skip bool
		}{
			"gate that does not run": {gate: nobody, want: StageReach},
			"no password":            {gate: guarded.addr, want: StageLogin},
			"wrong password":         {gate: "u:wrong@" + guarded.addr, want: StageLogin},
			"wrong user":             {gate: "x:p%40ss@" + guarded.addr, want: StageLogin},
			"unknown name":           {gate: open.addr, host: "unknown.test", want: StageRefuse},
			"broker that is down":    {gate: open.addr, want: StageRefuse},
			"a mail server":          {gate: serve(t, says("220 mail.example ESMTP\r\n")), want: StageSpeak},
			"one that says nothing":  {gate: serve(t, says("")), want: StageSpeak},

			"closed instead of a login": {gate: "u:wrong@" + serve(t, says("\x05\x02")), want: StageLogin, skip: isHTTP},
			"login nobody asked for":    {gate: serve(t, says("\x05\x02\x01\x01")), want: StageLogin, skip: isHTTP},
			"closed instead of a reply": {gate: serve(t, says("\x05\x00")), want: StageRefuse, skip: isHTTP},
			"not allowed":               {gate: serve(t, says("\x05\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00")), want: StageRefuse, skip: isHTTP},
			"no such kind of address":   {gate: serve(t, says("\x05\x00\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00")), want: StageRefuse, skip: isHTTP},
			"reply of no version":       {gate: serve(t, says("\x05\x00\x04\x5a\x00\x00\x00\x00\x00\x00")), want: StageSpeak, skip: isHTTP},
			"reply with a bad address":  {gate: serve(t, says("\x05\x00\x05\x00\x00\x09\x00\x00\x00\x00")), want: StageSpeak, skip: isHTTP},
			"reply that is cut off":     {gate: serve(t, says("\x05\x00\x05\x00\x00\x01\x7f")), want: StageSpeak, skip: isHTTP},

			"forbidden":         {gate: serve(t, says("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")), want: StageRefuse, skip: !isHTTP},
			"gateway timeout":   {gate: serve(t, says("HTTP/1.0 504 Gateway Timeout\r\n\r\nlong story")), want: StageRefuse, skip: !isHTTP},
			"a web server":      {gate: serve(t, says("HTTP/1.1 400 Bad Request\r\n\r\n")), want: StageRefuse, skip: !isHTTP},
			"a cut-off header":  {gate: serve(t, says("HTTP/1.1 200 OK\r\nX-More: ")), want: StageSpeak, skip: !isHTTP},
			"an endless header": {gate: serve(t, says("HTTP/1.1 200 OK\r\n"+strings.Repeat("X-More: yes\r\n", 2000))), want: StageSpeak, skip: !isHTTP},
			"an endless line":   {gate: serve(t, says("HTTP/1.1 200 "+strings.Repeat("OK", 20_000))), want: StageSpeak, skip: !isHTTP},
			"a long refusal":    {gate: serve(t, says("HTTP/1.1 403 "+strings.Repeat("no", 5000)+"\r\n\r\n")), want: StageRefuse, skip: !isHTTP},
		} {
			if test.skip {
				continue
			}
			t.Run(scheme+" "+name, func(t *testing.T) {
				if test.host == "" {
					test.host = "broker.test"
				}
				conn, err := New(nil, gate(t, scheme+"://"+test.gate)).Dial(deadline(t), test.host, 9092)
				if err == nil {
					conn.Close()
				}
				var failed *GateError
				if !errors.As(err, &failed) || failed.Stage != test.want {
					t.Fatalf("%v, want stage %d", err, test.want)
				}
				text := err.Error()
				if strings.Contains(text, "wrong") || strings.Contains(text, "p@ss") || len(text) > 400 {
					t.Errorf("%d characters, or the password is shown: %v", len(text), err)
				}
			})
		}
	}
}

func TestALongHeaderIsNamed(t *testing.T) {
	g := serve(t, says("HTTP/1.1 200 OK\r\n"+strings.Repeat("X-More: yes\r\n", 2000)))
	if _, err := New(nil, gate(t, "http://"+g)).Dial(deadline(t), "broker.test", 9092); err == nil || !strings.Contains(err.Error(), "longer than 16384 bytes") {
		t.Errorf("got %v", err)
	}
}

// TestDeadlinesEndWithDialing reads from connections after the end of the time that there was
// for dialing.
func TestDeadlinesEndWithDialing(t *testing.T) {
	for scheme, start := range gateKinds {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			broker, port := helloServer(t)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			conn, err := New(nil, gate(t, scheme+"://"+start(t, broker, false).addr)).Dial(ctx, "broker.test", port)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			<-ctx.Done()
			time.Sleep(10 * time.Millisecond) // a deadline that is still set is over, too
			if n, err := conn.Read(make([]byte, 1)); n != 1 {
				t.Error(err)
			}
		})
	}
}

// TestGatesThatHangAreLetGo has gates hang at each step.
func TestGatesThatHangAreLetGo(t *testing.T) {
	for name, test := range map[string]struct{ scheme, says string }{
		"SOCKS5 at once":           {"socks5://", ""},
		"SOCKS5 with the login":    {"socks5://u:p@", "\x05\x02"},
		"SOCKS5 with the broker":   {"socks5://", "\x05\x00"},
		"HTTP at once":             {"http://", ""},
		"HTTP in the middle of it": {"http://", "HTTP/1.1 200 OK\r\nX-"},
	} {
		t.Run(name, func(t *testing.T) {
			began, ended := make(chan struct{}), make(chan error, 1)
			addr := serve(t, func(c net.Conn) {
				c.Read(make([]byte, 1))
				io.WriteString(c, test.says)
				close(began)
				_, err := io.Copy(io.Discard, c)
				ended <- err
			})
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-began
				cancel()
			}()
			_, err := New(nil, gate(t, test.scheme+addr)).Dial(ctx, "broker.test", 9092)
			if !errors.Is(err, context.Canceled) || !errors.As(err, new(*GateError)) {
				t.Errorf("got %v", err)
			}
			if err := <-ended; errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection was not closed")
			}
		})
	}
}

func TestGatesHaveUntilTheDeadline(t *testing.T) {
	for scheme, want := range map[string]Stage{"socks5": StageRefuse, "http": StageRefuse} {
		addr := serve(t, func(c net.Conn) {
			if scheme == "socks5" {
				io.WriteString(c, "\x05\x00")
			}
			io.Copy(io.Discard, c)
		})
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := New(nil, gate(t, scheme+"://"+addr)).Dial(ctx, "broker.test", 9092)
		var failed *GateError
		if !errors.As(err, &failed) || failed.Stage != want || !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, want stage %d and a deadline exceeded", scheme, err, want)
		}
	}
}

func TestNoDescriptorIsLeft(t *testing.T) {
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("only Linux tells which descriptors are open")
		}
		return len(entries)
	}
	client := func(scheme string) *Dialer {
		return New(table(t, "127.0.0.1 ::1 127.0.0.2 many.test"), gate(t, scheme))
	}
	// The gates are at hand, and end each connection before the next one begins.
	refusing := serve(t, says("\x05\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00"))
	closing := serve(t, says(""))
	forbidding := serve(t, says("HTTP/1.1 403 Forbidden\r\n\r\n"))
	for _, d := range []*Dialer{client("socks5://" + refusing), client("socks5://" + closing), client("http://" + forbidding), client("http://" + closing)} {
		before := open()
		for range 100 {
			if _, err := d.Dial(deadline(t), "many.test", 9092); err == nil {
				t.Fatal("connected")
			}
		}
		// The scripts' ends may be a moment late, those of the dialer never.
		if after := open(); after > before+20 {
			t.Errorf("%d descriptors before, %d after 300 connections that failed", before, after)
		}
	}
}

func TestHostsFilesAreReplaced(t *testing.T) {
	_, port := helloServer(t)
	d := New(table(t, "127.0.0.2 broker.test"), nil)
	for addr, want := range map[*hosts.Table]bool{table(t, "127.0.0.1 broker.test"): true, table(t, "127.0.0.2 broker.test"): false} {
		d.SetHosts(addr)
		conn, err := d.Dial(deadline(t), "broker.test", port)
		if (err == nil) != want {
			t.Errorf("got %v", err)
		}
		if err == nil {
			conn.Close()
		}
	}
}

func TestGatesAreParsed(t *testing.T) {
	long := strings.Repeat("x", 256)
	for text, want := range map[string]string{ // what it prints as, or a part of the error
		"socks5://gate.example:1080":               "socks5://gate.example:1080",
		"socks5h://gate.example:1080":              "socks5h://gate.example:1080",
		"socks5://gate.example:1080/":              "socks5://gate.example:1080/",
		"http://user:p%40ss@[::1]:3128":            "http://user:xxxxx@[::1]:3128",
		"http://user@gate.example:3128":            "http://user@gate.example:3128",
		"https://gate.example:443":                 `not "https://"`,
		"gate.example:1080":                        "a gate's address is",
		"secret:1080":                              "a gate's address is",
		"socks5://gate.example":                    "a gate's address is",
		"socks5://user:secret%zz@gate.example:108": "a gate's address is",
		"socks5://user:secret@gate.example:70000":  "70000 is not within 1 and 65535",
		"socks5://user:secret@gate.example:0":      "not within",
		"socks5://gate.example:1080/path":          "behind the gate's port",
		"socks5://gate.example:1080?secret":        "behind the gate's port",
		"socks5://:secret@gate.example:1080":       "no user",
		"socks5://" + long + "@gate.example:1080":  "longer than the 255 bytes",
		"socks5://u:" + long + "@gate.example:1":   "longer than the 255 bytes",
		"http://user%3A:secret@gate.example:3128":  "a colon",
	} {
		g, err := ParseGate(text)
		got := fmt.Sprint(err)
		if err == nil {
			got = g.String()
		}
		if !strings.Contains(got, want) || strings.Contains(got, "secret") || strings.Contains(got, long) {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
