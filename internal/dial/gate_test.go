package dial

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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

func (g *gateServer) note(address string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, address)
}

func (g *gateServer) lastAsked() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.asked) == 0 {
		return ""
	}
	return g.asked[len(g.asked)-1]
}

// reach connects to where an address leads.
func (g *gateServer) reach(address string) (net.Conn, error) {
	g.note(address)
	host, port, _ := net.SplitHostPort(address)
	switch {
	case host == "broker.test":
		address = g.broker
	case net.ParseIP(host) == nil:
		return nil, fmt.Errorf("no such host %s", host)
	default:
		address = net.JoinHostPort(host, port)
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

// serve runs script for each connection until the test ends.
func serve(t *testing.T, script func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(30 * time.Second))
				script(conn)
			}()
		}
	}()
	return ln.Addr().String()
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
		if login {
			if !strings.Contains(methods, "\x02") {
				c.Write([]byte{5, 0xff})
				return
			}
			c.Write([]byte{5, 2})
			user := string(read(int(read(2)[1])))
			password := string(read(int(read(1)[0])))
			if user != "u" || password != "p@ss" {
				c.Write([]byte{1, 1})
				return
			}
			c.Write([]byte{1, 0})
		} else {
			c.Write([]byte{5, 0})
		}
		var host string
		switch head := read(4); head[3] {
		case 1:
			host = net.IP(read(4)).String()
		case 4:
			host = net.IP(read(16)).String()
		default:
			host = string(read(int(read(1)[0])))
		}
		port := binary.BigEndian.Uint16(read(2))
		to, err := g.reach(net.JoinHostPort(host, fmt.Sprint(port)))
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
		// "u:p@ss" in base64.
		if login && r.Header.Get("Proxy-Authorization") != "Basic dTpwQHNz" {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		if r.Method != http.MethodConnect {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		to, err := g.reach(r.Host)
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
		io.WriteString(c, "HTTP/1.1 200 Connection established\r\nX-Gate: yes\r\n\r\n")
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

// echoServer says hello first, as no broker does, and then what it is told.
func echoServer(t *testing.T) string {
	return serve(t, func(c net.Conn) {
		io.WriteString(c, "hello ")
		io.Copy(c, c)
	})
}

func gate(t *testing.T, text string) *Gate {
	t.Helper()
	g, err := ParseGate(text)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

var gateKinds = map[string]func(*testing.T, string, bool) *gateServer{"socks5": socksGate, "http": httpGate}

func TestBrokersAreReachedThroughGates(t *testing.T) {
	for scheme, start := range gateKinds {
		for user, login := range map[string]bool{"": false, "u:p%40ss@": true} {
			t.Run(scheme+" "+user, func(t *testing.T) {
				broker := echoServer(t)
				_, port, _ := net.SplitHostPort(broker)
				g := start(t, broker, login)
				for host, known := range map[string]*hosts.Table{
					"broker.test":  nil,                                              // the gate knows the name
					"another.test": table(t, "127.0.0.9 ::1 127.0.0.1 another.test"), // and the hosts file this one
				} {
					d := New(known, gate(t, scheme+"://"+user+g.addr))
					var n int32
					fmt.Sscan(port, &n)
					conn, err := d.Dial(deadline(t), host, n)
					if err != nil {
						t.Fatal(err)
					}
					if _, raw := conn.(*net.TCPConn); !raw {
						t.Errorf("a %T is returned", conn)
					}
					conn.SetDeadline(time.Now().Add(30 * time.Second))
					io.WriteString(conn, "world")
					conn.(*net.TCPConn).CloseWrite()
					if got, err := io.ReadAll(conn); err != nil || string(got) != "hello world" {
						t.Errorf("%q, %v", got, err)
					}
					conn.Close()
				}
				if last := g.lastAsked(); last != "127.0.0.1:"+port && last != "broker.test:"+port {
					t.Errorf("asked for %s last", last)
				}
			})
		}
	}
}

func tableOf(t *testing.T, text string) *hosts.Table { return table(t, text) }

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestRefusalsOfGatesAreToldApart(t *testing.T) {
	nobody := "127.0.0.1:1"
	for scheme, start := range gateKinds {
		open, guarded := start(t, nobody, false), start(t, nobody, true)
		for name, test := range map[string]struct {
			gate string
			host string
			want Stage
		}{
			"gate that does not run": {nobody, "broker.test", StageReach},
			"no password":            {guarded.addr, "broker.test", StageLogin},
			"wrong password":         {"u:wrong@" + guarded.addr, "broker.test", StageLogin},
			"unknown name":           {open.addr, "unknown.test", StageRefuse},
			"broker that is down":    {open.addr, "broker.test", StageRefuse},
			"something else":         {serve(t, func(c net.Conn) { io.WriteString(c, "220 mail.example ESMTP\r\n") }), "broker.test", StageSpeak},
			"endless header": {serve(t, func(c net.Conn) {
				io.WriteString(c, "HTTP/1.1 200 OK\r\n")
				for range 1000 {
					if _, err := io.WriteString(c, "X-More: "+strings.Repeat("x", 100)+"\r\n"); err != nil {
						return
					}
				}
			}), "broker.test", StageSpeak},
		} {
			t.Run(scheme+" "+name, func(t *testing.T) {
				d := New(nil, gate(t, scheme+"://"+test.gate))
				conn, err := d.Dial(deadline(t), test.host, 9092)
				if err == nil {
					conn.Close()
				}
				var failed *GateError
				if !errors.As(err, &failed) || failed.Stage != test.want {
					t.Errorf("%v, want stage %d", err, test.want)
				}
				if err != nil && strings.Contains(err.Error(), "wrong") {
					t.Errorf("the password is shown: %v", err)
				}
			})
		}
	}
}

func TestGatesThatHangAreLetGo(t *testing.T) {
	for scheme := range gateKinds {
		began, ended := make(chan struct{}), make(chan struct{})
		addr := serve(t, func(c net.Conn) {
			c.Read(make([]byte, 1))
			close(began)
			io.Copy(io.Discard, c)
			close(ended)
		})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-began
			cancel()
		}()
		_, err := New(nil, gate(t, scheme+"://"+addr)).Dial(ctx, "broker.test", 9092)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", scheme, err)
		}
		<-ended // the connection was closed
	}
}

func TestGatesAreParsed(t *testing.T) {
	for text, want := range map[string]string{
		"socks5://gate.example:1080":               "socks5://gate.example:1080",
		"socks5h://gate.example:1080":              "socks5h://gate.example:1080",
		"http://user:p%40ss@[::1]:3128":            "http://user:xxxxx@[::1]:3128",
		"https://gate.example:443":                 "",
		"gate.example:1080":                        "",
		"socks5://gate.example":                    "",
		"socks5://user:secret%zz@gate.example:108": "",
	} {
		g, err := ParseGate(text)
		if want == "" {
			if err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		if err != nil || g.String() != want {
			t.Errorf("%s: %v, %v", text, g, err)
		}
	}
}
