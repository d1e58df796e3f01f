//go:build unix

package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"kafka-sni-proxy/internal/api/apitest"
	"kafka-sni-proxy/internal/harness/terminal"
)

// screen is the program in a terminal, and what is to be seen there.
type screen struct {
	*terminal.Terminal
	t   *testing.T
	cmd *exec.Cmd
}

// terminalPatience is how long a test waits for what has to come.
const terminalPatience = time.Minute

// inTerminal starts the program in a terminal of 80x24.
func inTerminal(t *testing.T, args ...string) *screen {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	x := &screen{t: t, cmd: exec.CommandContext(ctx, "kafka-sni-proxy", args...)}
	x.cmd.Env = append(os.Environ(), "TERM=xterm-256color", "NO_COLOR=", "TZ=UTC")
	var err error
	if x.Terminal, err = terminal.Start(x.cmd, 80, 24); err != nil {
		cancel()
		if errors.Is(err, terminal.ErrNone) {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		x.Close()
	})
	return x
}

// until waits until what is shown is as wanted.
func (x *screen) until(what string, ok func(lines []string) bool) {
	x.t.Helper()
	for late := time.After(terminalPatience); !ok(x.Lines()); {
		select {
		case <-x.Changed:
		case <-late:
			x.t.Fatalf("not seen: %s\n%s", what, strings.Join(x.Lines(), "\n"))
		}
	}
}

// sees waits until all texts are shown.
func (x *screen) sees(texts ...string) {
	x.t.Helper()
	x.until(strings.Join(texts, " … "), func(lines []string) bool {
		all := strings.Join(lines, "\n")
		for _, text := range texts {
			if !strings.Contains(all, text) {
				return false
			}
		}
		return true
	})
}

// press presses keys, and waits until texts are shown.
func (x *screen) press(keys string, texts ...string) {
	x.t.Helper()
	check(x.t, x.Press(keys))
	x.sees(texts...)
}

// left waits for the end of the program, and looks whether the terminal is as before.
func (x *screen) left(exit int) {
	x.t.Helper()
	select {
	case <-x.Ended:
	case <-time.After(terminalPatience):
		x.t.Fatalf("has not ended:\n%s", strings.Join(x.Lines(), "\n"))
	}
	if code := x.cmd.ProcessState.ExitCode(); code != exit {
		x.t.Errorf("exit code %d, want %d:\n%s", code, exit, strings.Join(x.Lines(), "\n"))
	}
	x.until("the screen as it was, with a cursor", func([]string) bool { return x.Plain() })
	before, after, err := x.Modes()
	check(x.t, err)
	if !reflect.DeepEqual(after, before) {
		x.t.Errorf("the terminal is in another mode:\n%+v\n%+v", after, before)
	}
}

const topScreen = "testdata/top.txt"

func TestTopObeysKeys(t *testing.T) {
	_, address := serveAPI(t)
	x := inTerminal(t, "top", "--admin", address)
	x.sees("kafka-sni-proxy 1.4.0 on gate-1  serving", "connections 1234/20.0k  in flight 88  requests 12.3k/s", "p50 350µs p99 4.1ms  added by the proxy p50 11µs p99 83µs", "failures 38",
		"FAILED: (+3: kafka-sni-proxy status) cluster audit", "SESSIONS 27  sort rate, descending", "192.0.2.200", "s sort")
	x.until("the busiest first", func(lines []string) bool { return strings.HasPrefix(lines[7], "192.0.2.200") })
	screen := strings.Join(x.Lines(), "\n") + "\n"
	if *update {
		check(t, os.WriteFile(topScreen, []byte(screen), 0o644))
	}
	if want, err := os.ReadFile(topScreen); err != nil || string(want) != screen {
		t.Errorf("is not %s (%v), which docs/status.md shows: go test ./cmd/kafka-sni-proxy -run TopObeys -update\n%s", topScreen, err, screen)
	}
	x.press("s", "sort requests, descending")
	x.press("S", "sort rate, descending")
	x.press("r", "sort rate, ascending")
	x.until("the least busy first", func(lines []string) bool { return strings.HasPrefix(lines[7], "10.0.0.1:40000") })
	x.press("/", "filter: _")
	x.press("writer-07x\x7f", "filter: writer-07_")
	x.press("\r", "SESSIONS 1 of 27", `filter "writer-07"`, "10.0.0.8:40007")
	x.press("\r", "client id     orders-writer-07", "software      apache-kafka-java/4.1.0", "esc back")
	x.press("\x1b", "CLIENT-ID", "s sort")
	x.press("\x1b", "SESSIONS 27  sort")
	x.press("c", "SESSIONS 1 of 27", "cluster audit", "evil�[2J�]0;") // what a client has sent is not done
	x.press("c", "SESSIONS 26 of 27", "cluster orders")
	x.press("c", "SESSIONS 27  sort")
	x.press("b", "BROKERS 4", "b1.orders.internal", "down")
	x.press("\r", "last error", "remedy        nobody listens there")
	x.press("\x1b", "BROKERS 4", "esc sessions")
	x.press("f", "LAST FAILURES 2", "client-tls")
	x.press("\x1b[B\r", "remedy        have the client trust")
	x.press("\x1b", "esc sessions")
	x.press("f", "SESSIONS 27")
	x.press("?", "sort by the next key", "q, ctrl-c     quit", "any key: back")
	x.until("all of the help", func(lines []string) bool { return !strings.Contains(strings.Join(lines[7:], ""), "…") })
	x.press("?", "s sort")
	x.press("p", "PAUSED")
	x.press("q")
	x.left(exitOK)
	if title := x.Title(); title != "" {
		t.Errorf("a client has set the title: %q", title)
	}
}

// Rows beyond the end of the terminal come into sight, and the one that is selected stays so
// when others come.
func TestTopScrolls(t *testing.T) {
	proxy, address := serveAPI(t)
	x := inTerminal(t, "top", "--admin", address, "--sort", "client", "--interval", "500ms")
	x.until("the first one", func(lines []string) bool { return strings.HasPrefix(lines[7], "10.0.0.10") })
	x.press("\x1b[F") // End
	x.until("the last one", func(lines []string) bool { return strings.HasPrefix(lines[22], "[2001:db8::17]") })
	proxy.Change(func(p *apitest.Proxy) {
		first := p.Sessions[0]
		first.ID, first.Client = 5000, "1.0.0.1:1" // before all others
		p.Sessions = append(p.Sessions, first)
	})
	x.sees("SESSIONS 28")
	x.press("\r", "client        [2001:db8::17]:51000")
	proxy.Change(func(p *apitest.Proxy) { p.Sessions = p.Sessions[:20] })
	x.sees("It has ended")
	x.press("\x1b", "s sort")
	x.press("g")
	x.until("the first one again", func(lines []string) bool { return strings.HasPrefix(lines[7], "10.0.0.10") })
}

func TestTopFollowsTheSizeOfTheTerminal(t *testing.T) {
	_, address := serveAPI(t)
	x := inTerminal(t, "top", "--admin", address)
	x.sees("SESSIONS 27")
	check(t, x.Resize(140, 40))
	x.until("all rows and more columns", func(lines []string) bool {
		return strings.Contains(lines[6], "OLDEST") && strings.Contains(lines[32], "10.0.0.1:") && strings.HasPrefix(lines[39], "? help")
	})
	check(t, x.Resize(60, 12))
	x.until("fewer columns and rows", func(lines []string) bool {
		return strings.HasPrefix(lines[6], "CLIENT") && !strings.Contains(lines[6], "STATE") && strings.HasPrefix(lines[11], "? help") && strings.HasSuffix(lines[11], "…")
	})
	check(t, x.Resize(20, 4))
	x.until("what fits", func(lines []string) bool { return strings.HasPrefix(lines[3], "? help") })
	check(t, x.Resize(80, 24))
	x.until("all as before", func(lines []string) bool {
		return strings.HasPrefix(lines[23], "? help") && strings.HasPrefix(lines[22], "10.0.0.")
	})
}

func TestTopSaysWhenTheProxyDoesNotAnswer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	address := ln.Addr().String()
	proxy := apitest.New()
	server := &http.Server{Handler: proxy}
	go server.Serve(ln)
	x := inTerminal(t, "top", "--admin", address, "--interval", "500ms")
	x.sees("FAILED: ", "SESSIONS 27")
	server.Close()
	x.sees("NO ANSWER since", "no answer", "SESSIONS 27") // what was known is still there
	proxy.Change(func(p *apitest.Proxy) { p.Sessions = p.Sessions[:2] })
	ln, err = net.Listen("tcp", address)
	check(t, err)
	server = &http.Server{Handler: proxy}
	go server.Serve(ln)
	defer server.Close()
	x.sees("FAILED: ", "SESSIONS 2  sort")
	x.press("\x03")
	x.left(exitOK)
}

func TestTopWithoutAProxyEndsAtOnce(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	ln.Close()
	x := inTerminal(t, "top", "--admin", ln.Addr().String())
	x.sees("no answer", "see that the proxy runs")
	x.left(exitRuntime)
}

func TestTopLeavesTheTerminalAsItWas(t *testing.T) {
	for name, end := range map[string]func(x *screen){
		"q":       func(x *screen) { x.press("q") },
		"Ctrl-C":  func(x *screen) { x.press("\x03") },
		"SIGTERM": func(x *screen) { check(x.t, x.cmd.Process.Signal(syscall.SIGTERM)) },
		"SIGINT":  func(x *screen) { check(x.t, x.cmd.Process.Signal(syscall.SIGINT)) },
		"SIGHUP":  func(x *screen) { check(x.t, x.cmd.Process.Signal(syscall.SIGHUP)) },
	} {
		t.Run(name, func(t *testing.T) {
			_, address := serveAPI(t)
			x := inTerminal(t, "top", "--admin", address)
			x.sees("SESSIONS 27", "s sort")
			end(x)
			x.left(exitOK)
		})
	}
}

func TestReportsFitTheTerminal(t *testing.T) {
	_, address := serveAPI(t)
	x := inTerminal(t, "routes", "--admin", address)
	x.until("a table of its width", func(lines []string) bool {
		return strings.HasPrefix(lines[0], "CLUSTER") && strings.HasSuffix(lines[1], "…") && strings.HasPrefix(lines[4], "orders")
	})
	x.left(exitOK)
}
