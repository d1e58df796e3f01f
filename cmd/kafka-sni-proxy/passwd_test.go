//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"kafka-sni-proxy/internal/sasl"
)

// logsIn has a client log in with a file.
func logsIn(t *testing.T, path, user, password string) error {
	t.Helper()
	text, err := os.ReadFile(path)
	check(t, err)
	users, err := sasl.ParseUsers(text, sasl.NewMask())
	check(t, err)
	server, err := sasl.NewServer(t.Context(), sasl.Plain, users, nil)
	check(t, err)
	_, _, err = server.Next([]byte("\x00" + user + "\x00" + password))
	return err
}

func TestPasswdAsksTwiceOnATerminalAndShowsNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users.scram")
	x := inTerminal(t, "passwd", path, "alice")
	x.sees("New password for alice:")
	x.press("two pencils\r", "The same again:")
	x.press("two pencils\r", "alice has a new password")
	x.left(exitOK)
	if seen := strings.Join(x.Lines(), "\n"); strings.Contains(seen, "pencils") {
		t.Errorf("the password is shown:\n%s", seen)
	}
	if err := logsIn(t, path, "alice", "two pencils"); err != nil {
		t.Error(err)
	}
	x = inTerminal(t, "passwd", path, "alice")
	x.sees("New password for alice:")
	x.press("three pencils\r", "The same again:")
	x.press("four pencils\r", "two different passwords: nothing was written")
	x.left(exitRuntime)
	x = inTerminal(t, "passwd", path, "alice")
	x.sees("New password for alice:")
	x.press("\r", "The same again:")
	x.press("\r", "the password is empty")
	x.left(exitUsage)
	x = inTerminal(t, "passwd", path, "alice")
	x.sees("New password for alice:")
	x.press("five\x03", "interrupted: nothing was written") // Ctrl-C
	x.left(exitRuntime)
	if err := logsIn(t, path, "alice", "two pencils"); err != nil {
		t.Error("the file has changed", err)
	}
}

// passwd runs the command with a password on standard input.
func passwd(password string, args ...string) error {
	cmd := exec.Command("kafka-sni-proxy", append([]string{"passwd", "--iterations", "4096"}, args...)...)
	cmd.Stdin = strings.NewReader(password)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func TestPasswdsAtTheSameTimeLoseNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users.scram")
	const n = 12
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if err := passwd(fmt.Sprint("the password ", i), path, fmt.Sprint("user", i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for i := range n {
		if err := logsIn(t, path, fmt.Sprint("user", i), fmt.Sprint("the password ", i)); err != nil {
			t.Errorf("user%d: %v", i, err)
		}
	}
}

// A service that may read a file can still do so afterwards, everybody else cannot; a link stays one.
func TestPasswdKeepsOwnerAndLink(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "users.scram"), filepath.Join(dir, "link")
	check(t, passwd("two pencils", path, "alice"), os.Symlink("users.scram", link))
	root := os.Getuid() == 0
	if root {
		check(t, os.Chown(path, 65534, 65533))
	}
	check(t, os.Chmod(path, 0o664), passwd("three pencils", link, "alice"), logsIn(t, path, "alice", "three pencils"))
	info, err := os.Lstat(path)
	check(t, err)
	if info.Mode() != 0o640 {
		t.Errorf("mode %v", info.Mode())
	}
	if is := info.Sys().(*syscall.Stat_t); root && (is.Uid != 65534 || is.Gid != 65533) {
		t.Errorf("owner %d:%d", is.Uid, is.Gid)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("%v %v", info, err)
	}
	left, err := os.ReadDir(dir)
	check(t, err)
	if len(left) != 2 {
		t.Errorf("left: %v", left)
	}
	if err := passwd("two pencils", dir, "alice"); err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Error(err)
	}
}
