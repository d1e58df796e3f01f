package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"kafka-sni-proxy/internal/certs"
)

// TestMain puts the program into the PATH of scripts, and of exec.Command.
func TestMain(m *testing.M) {
	// With the race detector each program would sleep for a second at its end.
	os.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0"))
	testscript.Main(m, map[string]func(){"kafka-sni-proxy": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":  exits,
			"certs":  makeCerts,
			"occupy": occupy,
			"mode":   mode,
		},
		Condition: func(cond string) (bool, error) {
			program, ok := strings.CutPrefix(cond, "installed:")
			if !ok {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			_, err := exec.LookPath(program)
			return err == nil, nil
		},
	})
}

// exits CODE PROGRAM ARGS… runs a program that must end with that exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if neg || err != nil || len(args) < 2 {
		ts.Fatalf("usage: exits code program args…")
	}
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if exit, ok := err.(*exec.ExitError); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// certs DIR SUFFIX [YEARS] generates certificates, as of so many years from now.
func makeCerts(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: certs dir suffix [years]")
	}
	years := 0
	if len(args) > 2 {
		var err error
		years, err = strconv.Atoi(args[2])
		ts.Check(err)
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	_, err := certs.Generate(certs.GenerateOptions{Dir: dir, Suffix: args[1], Port: 9092, Now: time.Now().AddDate(years, 0, 0)})
	ts.Check(err)
}

// occupy NAME listens on a free port for the rest of the script and puts
// address:port into the variable NAME.
func occupy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: occupy NAME")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { ln.Close() })
	ts.Setenv(args[0], ln.Addr().String())
}

// mode MODE FILES… checks the permissions of files.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.ParseUint(args[0], 8, 32)
	if neg || err != nil || len(args) < 2 {
		ts.Fatalf("usage: mode 0600 files…")
	}
	for _, file := range args[1:] {
		info, err := os.Stat(filepath.Clean(ts.MkAbs(file)))
		ts.Check(err)
		if got := info.Mode().Perm(); got != os.FileMode(want) {
			ts.Fatalf("%s has mode %o, want %o", file, got, want)
		}
	}
}
