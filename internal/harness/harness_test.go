package harness

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain has the test binary play the programs that the tests start.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		os.Exit(roles[os.Args[1]]())
	}
	os.Exit(m.Run())
}

var roles = map[string]func() int{
	"say": func() int {
		fmt.Print("one\r\ntwo\nthree")
		fmt.Fprintln(os.Stderr, "trouble")
		return 3
	},
	"environment": func() int {
		fmt.Println(strings.Join(os.Environ(), "\n"))
		return 0
	},
	"parent": func() int {
		self, _ := os.Executable()
		child := exec.Command(self, "stubborn")
		child.Stdout = os.Stdout
		child.Run()
		return 0
	},
	"stubborn": func() int {
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("waiting")
		select {}
	},
	"echo": func() int {
		if err := ServeRole("127.0.0.1:0", os.Stdin, os.Stdout, func(c net.Conn) { io.Copy(c, c) }); err != nil {
			return 1
		}
		return 0
	},
	"silent": func() int {
		fmt.Fprintln(os.Stderr, "no certificate")
		return 1
	},
}

func command(t *testing.T, role string) Command {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Command{Name: role, Args: []string{self, role}, Dir: t.TempDir()}
}

func start(t *testing.T, ctx context.Context, c Command) *Process {
	t.Helper()
	p, err := Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// TestNoProcessIsConfiguredByTheUsersEnvironment is why every program starts
// its processes here.
func TestNoProcessIsConfiguredByTheUsersEnvironment(t *testing.T) {
	t.Setenv("KAFKA_SNI_PROXY_SNI_SUFFIX", "mine.example")
	t.Setenv("GOGC", "1")
	t.Setenv("HARNESS_TEST", "kept")
	out, err := Run(t.Context(), command(t, "environment"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out, "\n")
	if strings.Contains(out, "KAFKA_SNI_PROXY_") || strings.Contains(out, "GOGC=") {
		t.Errorf("the process was given\n%s", out)
	}
	if !slices.Contains(lines, "HARNESS_TEST=kept") {
		t.Errorf("the process was not given the rest:\n%s", out)
	}
}

func TestErrorsShowTheEndOfTheOutput(t *testing.T) {
	p := start(t, t.Context(), command(t, "say"))
	err := p.Wait()
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "trouble") {
		t.Errorf("got %v", err)
	}
	if alive := p.Alive(); alive == nil || !strings.Contains(alive.Error(), "by itself") {
		t.Errorf("it is gone, and Alive says %v", alive)
	}
}

func TestLinesAreHandedOverWhole(t *testing.T) {
	var lines []string
	c := command(t, "say")
	c.Line = func(line string) { lines = append(lines, line) }
	p := start(t, t.Context(), c)
	<-p.Done()
	if want := []string{"one", "two", "three"}; !slices.Equal(lines, want) {
		t.Errorf("got %q, want %q", lines, want)
	}
	if all := p.Tail(10); !strings.Contains(all, "three") || !strings.Contains(all, "trouble") {
		t.Errorf("the file has %q", all)
	}
}

func TestALineWithoutEndIsCut(t *testing.T) {
	longest := 0
	w := lineWriter{line: func(line string) { longest = max(longest, len(line)) }}
	for range 5 {
		w.Write(make([]byte, maxLine/2))
	}
	w.flush()
	if longest == 0 || longest > 2*maxLine || cap(w.part) > 4*maxLine {
		t.Errorf("lines up to %d bytes, %d held", longest, cap(w.part))
	}
}

func waiting(t *testing.T, p *Process) {
	t.Helper()
	if err := p.Await(t.Context(), 20*time.Second, "it does not run", func() error {
		if !strings.Contains(p.Tail(1), "waiting") {
			return errors.New("it has said nothing")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAProcessThatIgnoresSIGTERMIsKilled(t *testing.T) {
	p := start(t, t.Context(), command(t, "stubborn"))
	waiting(t, p)
	err := p.Stop(50 * time.Millisecond)
	if !errors.Is(err, ErrKilled) || strings.Contains(err.Error(), "goroutine") {
		t.Errorf("got %v", err)
	}
	if output, _ := os.ReadFile(p.Output); !strings.Contains(string(output), "signal.Ignore") && !strings.Contains(string(output), "harness_test.go") {
		t.Errorf("it has not said where it hangs:\n%s", output)
	}
}

func TestAProcessEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	p := start(t, ctx, command(t, "stubborn"))
	waiting(t, p)
	cause := errors.New("the run is over")
	cancel(cause)
	if err := p.Wait(); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

func TestWhatAProcessHasStartedEndsWithIt(t *testing.T) {
	p, stdout, err := StartRole(t.Context(), Command{Args: []string{"parent"}, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer stdout.Close()
	if _, err := fmt.Fscanln(stdout, new(string)); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	// The child has the other end of the pipe, too.
	stdout.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadAll(stdout); err != nil {
		t.Errorf("the child is still there: %v", err)
	}
}

func TestAwaitEndsAtOnceWithTheProcess(t *testing.T) {
	p := start(t, t.Context(), command(t, "silent"))
	err := p.Await(t.Context(), time.Hour, "it does not listen", func() error { return errors.New("refused") })
	if err == nil || !strings.Contains(err.Error(), "it does not listen") || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("got %v", err)
	}
}

func TestAwaitSaysWhatItSawLast(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("time is up"))
	err := Await(ctx, "waiting for the cluster", func() error { return errors.New("2 of 3 brokers") })
	if err == nil || err.Error() != "waiting for the cluster: time is up (last: 2 of 3 brokers)" {
		t.Errorf("got %v", err)
	}
	tries := 0
	sentinel := errors.New("it is gone")
	if err := Await(t.Context(), "waiting", func() error { tries++; return Final(sentinel) }); !errors.Is(err, sentinel) || tries != 1 {
		t.Errorf("%d tries, %v", tries, err)
	}
}

func TestAServerTellsItsAddressAndEndsWithItsInput(t *testing.T) {
	p, address, err := StartServer(t.Context(), Command{Args: []string{"echo"}, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintln(c, "hello")
	var got string
	if fmt.Fscanln(c, &got); got != "hello" {
		t.Errorf("got %q", got)
	}
	p.Stdin.Close()
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	if _, _, err := StartServer(t.Context(), Command{Args: []string{"silent"}, Dir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("a server that does not start: %v", err)
	}
}

func TestPortsAreFreeAndHandedOutOnce(t *testing.T) {
	var ports Ports
	first, err := ports.Take()
	if err != nil {
		t.Fatal(err)
	}
	// The next one is in use by then, unless somebody else has it anyway.
	if ln, err := net.Listen("tcp", loopback(first+1)); err == nil {
		defer ln.Close()
	}
	seen := map[int]bool{first: true}
	for range 20 {
		port, err := ports.Take()
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] || port == first+1 || port < firstPort || port >= lastPort {
			t.Errorf("port %d", port)
		}
		seen[port] = true
	}
	// A range goes around what is in use.
	ports.next = first
	if from, err := ports.TakeRange(5); err != nil || from <= first+1 {
		t.Errorf("5 ports from %d on, %v: %d is in use", from, err, first+1)
	}
	ports.next = lastPort - 3
	if _, err := ports.TakeRange(5); err == nil {
		t.Error("5 ports, of 3 that are left")
	}
	ports.next = lastPort
	if _, err := ports.Take(); err == nil {
		t.Error("no error when there is none left")
	}
}

func TestRecordsTellWhichTheyAre(t *testing.T) {
	seen := map[string]bool{}
	for p := range int32(3) {
		for n := range int64(500) {
			v := AppendRecord(nil, p, n, 200+int(n))
			if seen[string(v)] || len(v) != 200+int(n) {
				t.Fatalf("record %d of partition %d: %d bytes", n, p, len(v))
			}
			seen[string(v)] = true
			if gotP, gotN, ok := ReadRecord(v); !ok || gotP != p || gotN != n {
				t.Fatalf("record %d of partition %d is read as %d of %d, %v", n, p, gotN, gotP, ok)
			}
		}
	}
	good := AppendRecord(nil, 2, 7, 300)
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 1
		if p, n, ok := ReadRecord(bad); ok && p == 2 && n == 7 {
			t.Errorf("damage of byte %d is not seen", i)
		}
	}
	for _, bad := range []string{"", "record", "record 1 of partition 1 ", "record -1 of partition 1 abc", string(good[:20])} {
		if _, _, ok := ReadRecord([]byte(bad)); ok && len(bad) != len("record 1 of partition 1 ") {
			t.Errorf("%q is taken for a record", bad)
		}
	}
}

func TestBuildChecksABinaryThatIsGiven(t *testing.T) {
	dir := t.TempDir()
	if _, err := Build(t.Context(), BuildOptions{Binary: filepath.Join(dir, "missing")}); err == nil {
		t.Error("no error for a binary that is not there")
	}
	file := filepath.Join(dir, "proxy")
	if err := os.WriteFile(file, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := Build(t.Context(), BuildOptions{Binary: file}); err != nil || got != file {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestExitCodesAndHelp(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	var count int
	do := func(ctx context.Context, args []string, stdout io.Writer) error {
		fs := flag.NewFlagSet("try", flag.ContinueOnError)
		fs.IntVar(&count, "count", 4, "how `many` times")
		if err := ParseFlags(fs, "Tries it.", args, stdout); err != nil {
			return err
		}
		if count < 0 {
			return Usagef("--count must not be below 0")
		}
		if count == 0 {
			return errors.New("nothing was done")
		}
		return nil
	}
	for _, test := range []struct {
		ctx    context.Context
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{t.Context(), nil, 0, "", ""},
		{t.Context(), []string{"--help"}, 0, "--count MANY\n        how many times (default 4)", ""},
		{t.Context(), []string{"--unknown"}, 2, "", "there is no flag --unknown\nSee --help."},
		{t.Context(), []string{"argument"}, 2, "", `"argument" is not a flag`},
		{t.Context(), []string{"--count", "-1"}, 2, "", "must not be below 0"},
		{t.Context(), []string{"--count", "0"}, 1, "", "try: nothing was done"},
		{cancelled, []string{"--count", "0"}, 1, "", "try: interrupted"},
	} {
		var stdout, stderr strings.Builder
		code := Program{"try", do}.Run(test.ctx, test.args, &stdout, &stderr)
		if code != test.code || !strings.Contains(stdout.String(), test.stdout) || !strings.Contains(stderr.String(), test.stderr) || (test.stderr == "") != (stderr.Len() == 0) {
			t.Errorf("%v: exit code %d\n%s\n%s", test.args, code, &stdout, &stderr)
		}
	}
}
