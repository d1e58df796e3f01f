package accesslog

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestARealDiskThatIsFull fills a file system of 64 KiB.
func TestARealDiskThatIsFull(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("none", disk, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("no file system of its own: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
	path, other := filepath.Join(disk, "access.log"), filepath.Join(disk, "other")
	if err := os.WriteFile(other, make([]byte, 40<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	const n = 200 // of 300 bytes or so
	j := newJournal()
	w := mustOpen(t, j.config(path))
	for i := range n {
		w.Write(numbered("x", i))
	}
	j.await(t, "the access log cannot be written")
	if got := clients(t, path); len(got) == 0 || len(got) == n {
		t.Fatalf("%d lines had room", len(got))
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	j.await(t, "the access log is written again")
	mustClose(t, w)
	wantAll(t, clients(t, path), []string{"x"}, n)
	if !strings.Contains(j.String(), "no space left on device") {
		t.Errorf("the log does not say why:\n%s", j)
	}
}
