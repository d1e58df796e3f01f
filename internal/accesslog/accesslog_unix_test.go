//go:build unix

package accesslog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
)

// journal is a log that can be waited on.
type journal struct {
	mu   sync.Mutex
	more *sync.Cond
	text bytes.Buffer
}

func newJournal() *journal {
	j := &journal{}
	j.more = sync.NewCond(&j.mu)
	return j
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	defer j.more.Broadcast()
	return j.text.Write(p)
}

// await waits until there is a text in the log.
func (j *journal) await(t *testing.T, text string) {
	t.Helper()
	late := time.AfterFunc(20*time.Second, func() { j.Write([]byte("(waited too long)")) })
	defer late.Stop()
	j.mu.Lock()
	defer j.mu.Unlock()
	for !strings.Contains(j.text.String(), text) {
		if strings.Contains(j.text.String(), "(waited too long)") {
			t.Fatalf("no %q in the log:\n%s", text, j.text.String())
		}
		j.more.Wait()
	}
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (j *journal) config(path string) Config {
	return Config{Path: path, Log: slog.New(slog.NewTextHandler(j, nil)), Hint: "make room", SlowHint: "be quicker", Pause: time.Millisecond}
}

func mustOpen(t *testing.T, c Config) *Writer {
	t.Helper()
	w, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func mustClose(t *testing.T, w *Writer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := w.Close(ctx); err != nil {
		t.Error(err)
	}
}

// numbered is an entry that can be told from others.
func numbered(by string, n int) *Entry {
	return &Entry{Client: fmt.Sprintf("%s:%d", by, n), Reason: strings.Repeat("x", 100), Result: Refused}
}

// clients returns the clients of all lines of some files, which must be whole.
func clients(t *testing.T, paths ...string) (all []string) {
	t.Helper()
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			var e struct{ Client, Result string }
			if err := json.Unmarshal([]byte(line), &e); err != nil || e.Result != "refused" || !strings.HasSuffix(line, "\n") {
				t.Fatalf("%s has the line %q: %v", path, line, err)
			}
			all = append(all, e.Client)
		}
	}
	return all
}

// wantAll checks that each of so many entries is there, once.
func wantAll(t *testing.T, got []string, by []string, n int) {
	t.Helper()
	seen := map[string]int{}
	for _, c := range got {
		seen[c]++
	}
	for _, name := range by {
		for i := range n {
			if c := fmt.Sprintf("%s:%d", name, i); seen[c] != 1 {
				t.Fatalf("%s is there %d times, of %d lines", c, seen[c], len(got))
			}
		}
	}
	if len(got) != n*len(by) {
		t.Errorf("%d lines, want %d", len(got), n*len(by))
	}
}

func TestAnEntryIsOneLineOfJSON(t *testing.T) {
	node := int32(3)
	at := time.Date(2026, 2, 3, 4, 5, 6, 7_890_000, time.FixedZone("", 3600))
	e := &Entry{
		Time: Time(at), Began: Time(at.Add(-time.Second)), Client: "10.0.0.7:40112", SNI: "b3.kafka.example", Cluster: "orders", Node: &node,
		Upstream: "b3.orders.internal:9093", Software: "a\"<b>\n\u2028", RequestBytes: 17, Handshake: Seconds(1500 * time.Microsecond), Took: Seconds(time.Second), Result: Failed, Phase: "request", Reason: "bad",
	}
	want := `{"time":"2026-02-03T03:05:06.007890Z","began":"2026-02-03T03:05:05.007890Z","client":"10.0.0.7:40112","sni":"b3.kafka.example","cluster":"orders","node":3,` +
		`"upstream":"b3.orders.internal:9093","software":"a\"<b>\n\u2028","request_bytes":17,"response_bytes":0,"requests":0,"responses":0,"rewritten":0,` +
		`"handshake_seconds":0.0015,"took_seconds":1,"result":"failed","phase":"request","reason":"bad"}` + "\n"
	if got := string(e.line()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTextsAreCutAndValid(t *testing.T) {
	for _, text := range []string{strings.Repeat("é", 400), strings.Repeat("\xff", 2000), strings.Repeat("\xff€", 300), strings.Repeat("x", 511) + "€", "\xc3", strings.Repeat("a\xff", 400)} {
		var e struct {
			ClientID string `json:"client_id"`
		}
		if err := json.Unmarshal(Entry{ClientID: text}.line(), &e); err != nil {
			t.Fatal(err)
		}
		if len(e.ClientID) > MaxText || !utf8.ValidString(e.ClientID) || utf8.ValidString(text) && len(e.ClientID) < MaxText-3 {
			t.Errorf("%q became %d bytes", text[:min(len(text), 20)], len(e.ClientID))
		}
	}
}

// TestTenThousandConnectionsRefusedAtOnce: none of those waits, none is lost, even if nothing
// is written meanwhile.
func TestTenThousandConnectionsRefusedAtOnce(t *testing.T) {
	const each, of = 1000, 10
	r, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	j := newJournal()
	c := j.config(Stdout)
	c.Stdout = stdout
	w := mustOpen(t, c)
	stdout.Close() // the writer has its own
	var all sync.WaitGroup
	var by []string
	for i := range of { // while nobody reads
		name := fmt.Sprint("10.0.0.", i)
		by = append(by, name)
		all.Go(func() {
			for n := range each {
				w.Write(numbered(name, n))
			}
		})
	}
	all.Wait()
	var got []string
	lines := bufio.NewScanner(r)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines.Scan() {
			var e struct{ Client string }
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				t.Errorf("%q: %v", lines.Text(), err)
			}
			got = append(got, e.Client)
		}
	}()
	mustClose(t, w)
	<-ended
	wantAll(t, got, by, each)
	if n := w.Dropped(); n != 0 {
		t.Errorf("%d lines were dropped", n)
	}
}

// TestWhatDoesNotFitIsCounted: a reader that does not read costs MaxWaiting bytes, and nobody
// waits for it; and it does not hold the end up.
func TestWhatDoesNotFitIsCounted(t *testing.T) {
	r, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	j := newJournal()
	c := j.config(Stdout)
	c.Stdout = stdout
	w := mustOpen(t, c)
	stdout.Close()
	written := 0
	for length := len(numbered("x", 10000).line()); w.Dropped() < 100; written++ {
		if w.Write(numbered("x", 10000)); written*length > 2*MaxWaiting {
			t.Fatalf("%d lines of %d bytes, and none was dropped", written, length)
		}
	}
	w.mu.Lock()
	if len(w.waiting) > MaxWaiting || w.bytes > MaxWaiting {
		t.Errorf("%d bytes wait", w.bytes)
	}
	w.mu.Unlock()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Close(over); err == nil {
		t.Error("the end says nothing of what is lost")
	}
	read := make(chan int)
	go func() {
		content, _ := io.ReadAll(r)
		read <- bytes.Count(content, []byte("\n"))
	}()
	<-w.ended
	// What is in a write at the end may get there after all.
	if got := <-read; int64(got)+w.Dropped() < int64(written) {
		t.Errorf("%d lines were read and %d dropped, of %d", got, w.Dropped(), written)
	}
}

// TestNobodyReadsAnyMore: the program goes on.
func TestNobodyReadsAnyMore(t *testing.T) {
	if os.Getenv("ACCESSLOG_TEST_STDOUT") != "" {
		w, err := Open(Config{Path: Stdout, Stdout: os.Stdout, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Pause: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		w.Write(numbered("x", 1))
		io.Copy(io.Discard, os.Stdin) // until the test has seen it
		fmt.Fprintln(os.Stderr, "goes on")
		os.Exit(0)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNobodyReadsAnyMore$")
	cmd.Env = append(os.Environ(), "ACCESSLOG_TEST_STDOUT=1")
	r, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	cmd.Stdout = stdout
	j := newJournal()
	cmd.Stderr = j
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stdout.Close()
	j.await(t, "broken pipe")
	stdin.Close()
	if err := cmd.Wait(); err != nil || !strings.Contains(j.String(), "goes on") {
		t.Errorf("%v:\n%s", err, j)
	}
}

// flaky is a file on a disk that is full at times.
type flaky struct {
	*os.File
	mu    sync.Mutex
	room  int // bytes
	after func()
}

func (f *flaky) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.File.Write(p[:min(len(p), f.room)])
	f.room -= n
	if f.after != nil {
		f.after()
	}
	if err == nil && n < len(p) {
		err = syscall.ENOSPC
	}
	return n, err
}

func (f *flaky) setRoom(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.room = n
}

// openFlaky opens a log on a disk with little room.
func openFlaky(t *testing.T, j *journal, path string, room int) (*Writer, *flaky) {
	t.Helper()
	w := mustOpen(t, j.config(path))
	mustClose(t, w)
	f, err := open(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	disk := &flaky{File: f, room: room}
	w.out, w.closed, w.closes, w.ended = disk, false, make(chan struct{}), make(chan struct{})
	go w.run()
	return w, disk
}

// TestAFullDiskLeavesNoHalfLine: what has no room waits, is told of once, and comes in order
// when there is room again.
func TestAFullDiskLeavesNoHalfLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	j := newJournal()
	line := len(numbered("x", 0).line())
	w, disk := openFlaky(t, j, path, 2*line+line/2)
	for n := range 9 {
		w.Write(numbered("x", n))
	}
	j.await(t, "the access log cannot be written")
	if got := clients(t, path); len(got) > 2 {
		t.Errorf("%d lines had room", len(got))
	}
	disk.setRoom(1 << 20)
	j.await(t, "the access log is written again")
	w.Write(numbered("x", 9))
	mustClose(t, w)
	wantAll(t, clients(t, path), []string{"x"}, 10)
	if n := strings.Count(j.String(), "msg="); n != 2 || !strings.Contains(j.String(), `hint="make room"`) || !strings.Contains(j.String(), "no space left") {
		t.Errorf("%d lines in the log:\n%s", n, j)
	}
	if w.Dropped() != 0 {
		t.Errorf("%d lines were dropped", w.Dropped())
	}
}

// TestLinesThatNeverFindRoomAreCounted: those of the end, too.
func TestLinesThatNeverFindRoomAreCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	j := newJournal()
	w, _ := openFlaky(t, j, path, 0)
	written := int64(0)
	for ; w.Dropped() < 5; written++ {
		w.Write(numbered("x", 1))
	}
	if err := w.Close(t.Context()); err == nil {
		t.Error("the end says nothing of what is lost")
	}
	if w.Dropped() != written {
		t.Errorf("%d dropped, want %d", w.Dropped(), written)
	}
	w.Write(numbered("x", 1)) // after the end
	if w.Dropped() != written+1 {
		t.Error("a line after the end is not counted")
	}
}

// TestALineOfAnotherProcessIsNotCutOff: when it has written behind the half line, a new one
// begins, and only that half is broken.
func TestALineOfAnotherProcessIsNotCutOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	j := newJournal()
	other, err := open(path, os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	w, disk := openFlaky(t, j, path, 10)
	once := sync.OnceFunc(func() { other.Write(append([]byte("\n"), numbered("y", 0).line()...)) })
	disk.mu.Lock()
	disk.after = once
	disk.mu.Unlock()
	w.Write(numbered("x", 0))
	j.await(t, "cannot be written")
	disk.setRoom(1 << 20)
	mustClose(t, w)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := string(numbered("x", 0).line()[:10]) + "\n" + string(numbered("y", 0).line()) + "\n" + string(numbered("x", 0).line())
	if string(content) != want {
		t.Errorf("got\n%s\nwant\n%s", content, want)
	}
}

func TestALineThatWasCutByTheEndOfAProcessIsEnded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	if err := os.WriteFile(path, []byte(`{"client`), 0o600); err != nil {
		t.Fatal(err)
	}
	w := mustOpen(t, newJournal().config(path))
	w.Write(numbered("x", 0))
	mustClose(t, w)
	content, err := os.ReadFile(path)
	if err != nil || string(content) != `{"client`+"\n"+string(numbered("x", 0).line()) {
		t.Errorf("%v\n%s", err, content)
	}
}

// TestRotationUnderLoadLosesNothing: files are renamed in the way of logrotate.
func TestRotationUnderLoadLosesNothing(t *testing.T) {
	const each, of, rotations = 5000, 4, 20
	path := filepath.Join(t.TempDir(), "access.log")
	j := newJournal()
	w := mustOpen(t, j.config(path))
	var all sync.WaitGroup
	var by []string
	tick := make(chan struct{}, rotations)
	for i := range of {
		name := fmt.Sprint("client-", i)
		by = append(by, name)
		all.Go(func() {
			for n := range each {
				if w.Write(numbered(name, n)); i == 0 && n%(each/rotations) == 0 {
					tick <- struct{}{}
				}
			}
		})
	}
	paths := []string{path}
	for n := range rotations {
		<-tick
		to := fmt.Sprint(path, ".", n)
		if err := os.Rename(path, to); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, to)
		w.Reopen()
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("there is no new file after Reopen: %v", err)
		}
	}
	all.Wait()
	mustClose(t, w)
	wantAll(t, clients(t, paths...), by, each)
	if w.Dropped() != 0 || j.String() != "" {
		t.Errorf("%d dropped:\n%s", w.Dropped(), j)
	}
}

// TestTwoProcessesAppendWholeLines: as at a hand-over, also when only one of them is told of
// a rotation.
func TestTwoProcessesAppendWholeLines(t *testing.T) {
	const each = 5000
	path := filepath.Join(t.TempDir(), "access.log")
	j := newJournal()
	old, successor := mustOpen(t, j.config(path)), mustOpen(t, j.config(path))
	var all sync.WaitGroup
	half := make(chan struct{}, 2)
	for name, w := range map[string]*Writer{"old": old, "new": successor} {
		all.Go(func() {
			for n := range each {
				if w.Write(numbered(name, n)); n == each/2 {
					half <- struct{}{}
				}
			}
		})
	}
	<-half
	<-half
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	successor.Reopen()
	all.Wait()
	mustClose(t, successor)
	rotated, err := os.Stat(path + ".1")
	if err != nil {
		t.Fatal(err)
	}
	old.Write(numbered("old", each))
	mustClose(t, old)
	if now, err := os.Stat(path + ".1"); err != nil || now.Size() != rotated.Size() && old.Dropped() != 0 {
		t.Errorf("%v, %d", err, now.Size()-rotated.Size())
	}
	got := clients(t, path, path+".1")
	if last := fmt.Sprint("old:", each); got[len(got)-1] == last || !strings.Contains(strings.Join(clients(t, path), " "), last) {
		t.Error("the old process has not followed to the new file")
	}
	got = append(got, fmt.Sprint("new:", each)) // that wantAll has as many of each
	wantAll(t, got, []string{"old", "new"}, each+1)
}

func TestModeAndWhatCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	defer syscall.Umask(syscall.Umask(0))
	path := filepath.Join(dir, "access.log")
	w := mustOpen(t, newJournal().config(path))
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	// Where the file cannot be made anew, it goes on in the one that is open.
	j := newJournal()
	w.limited.Log = j.config("").Log
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	w.Reopen()
	j.await(t, "cannot be opened anew")
	w.Write(numbered("x", 0))
	mustClose(t, w)
	wantAll(t, clients(t, path+".1"), []string{"x"}, 1)

	if _, err := Open(newJournal().config(filepath.Join(dir, "nowhere", "access.log"))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that does not exist: %v", err)
	}
	if _, err := Open(newJournal().config(dir)); err == nil {
		t.Error("a folder was opened")
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(newJournal().config(pipe)); err == nil || !strings.Contains(err.Error(), "nobody reads") {
		t.Errorf("a pipe without a reader: %v", err)
	}
}
