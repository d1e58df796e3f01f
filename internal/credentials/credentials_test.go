package credentials

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"kafka-sni-proxy/internal/kafkatest"
	"kafka-sni-proxy/internal/sasl"
)

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func store(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wants looks a principal up. want is the credential, or "none", or a part of the error.
func (s *Store) wants(t *testing.T, principal, want string) {
	t.Helper()
	got, err := s.Lookup(t.Context(), principal)
	switch {
	case err == nil && got.Reveal() == want:
	case want == "none" && errors.As(err, new(*NoneError)) && got == "":
	case errors.As(err, new(*UnavailableError)) && strings.Contains(err.Error(), want) && got == "":
	default:
		t.Errorf("%q: %q, %v; want %s", principal, got.Reveal(), err, want)
	}
	if err != nil && strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), "Sesame") {
		t.Errorf("the error has a secret in it: %v", err)
	}
	if text := fmt.Sprintf("%v %+v %#v", s, s, *s); strings.Contains(text, "Sesame") {
		t.Errorf("a store prints a secret: %s", text)
	}
}

// hostile are principals that nobody has, and that must lead nowhere.
var hostile = []string{"", ".", "..", "../outside", "a/b", "..data", `a\b`, "/etc/passwd", "a\x00b", "a\nb", strings.Repeat("a", 300), "a\xffb"}

func TestFolder(t *testing.T) {
	root := t.TempDir()
	folder := filepath.Join(root, "credentials")
	put(t, filepath.Join(root, "outside"), "x:Sesame")
	put(t, filepath.Join(folder, "alice"), "key:Sesame\r\n")
	put(t, filepath.Join(folder, "empty"), "\n")
	put(t, filepath.Join(folder, "long"), strings.Repeat("x", MaxCredential+1))
	put(t, filepath.Join(folder, "a", "b"), "x:Sesame")
	if err := os.Symlink("../outside", filepath.Join(folder, "link")); err != nil {
		t.Fatal(err)
	}
	s := store(t, Options{Folder: folder})
	s.wants(t, "alice", "key:Sesame")
	s.wants(t, "bob", "none")
	s.wants(t, "empty", "is empty")
	s.wants(t, "long", "has more than 65536 bytes")
	s.wants(t, "a", "is not a file")
	s.wants(t, "link", "path escapes from parent")
	for _, principal := range hostile {
		s.wants(t, principal, "none")
	}
	// What is changed or taken away counts at once.
	put(t, filepath.Join(folder, "alice"), "key:other")
	s.wants(t, "alice", "key:other")
	if err := os.Remove(filepath.Join(folder, "alice")); err != nil {
		t.Fatal(err)
	}
	s.wants(t, "alice", "none")
	// A folder that has gone says nothing of who has a credential; not even with a default.
	withDefault := store(t, Options{Folder: folder, Default: "d:Sesame"})
	withDefault.wants(t, "carol", "d:Sesame")
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	s.wants(t, "alice", "cannot be opened")
	withDefault.wants(t, "carol", "cannot be opened")
	if _, err := New(Options{Folder: folder}); err == nil || !strings.Contains(err.Error(), "does not exist: make it") {
		t.Error(err)
	}
}

// Kubernetes mounts a secret as links by way of ..data, which it replaces.
func TestFolderAsKubernetesMountsIt(t *testing.T) {
	folder := t.TempDir()
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(folder, "..2026_01", "alice"), "a:1")
	put(t, filepath.Join(folder, "..2026_02", "alice"), "a:2")
	link("..2026_01", "..data")
	link("..data/alice", "alice")
	s := store(t, Options{Folder: folder})
	s.wants(t, "alice", "a:1")
	link("..2026_02", "..data_tmp")
	if err := os.Rename(filepath.Join(folder, "..data_tmp"), filepath.Join(folder, "..data")); err != nil {
		t.Fatal(err)
	}
	s.wants(t, "alice", "a:2")
	s.wants(t, "..2026_02", "none")
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "credentials.yaml")
	put(t, path, "# all of them\nalice: a:Sesame\n\"CN=bob,O=x\": 'b:Sesame: 2'\n")
	s := store(t, Options{File: path})
	s.wants(t, "alice", "a:Sesame")
	s.wants(t, "CN=bob,O=x", "b:Sesame: 2")
	s.wants(t, "", "none")
	// A new file counts at once; one that cannot be used does not.
	put(t, path, "alice: a:longer Sesame\n")
	s.wants(t, "alice", "a:longer Sesame")
	s.wants(t, "CN=bob,O=x", "none")
	put(t, path, "alice: [Sesame]\n")
	s.wants(t, "alice", "a:longer Sesame")
	if w := s.Warnings(); len(w) != 1 || !strings.Contains(w[0], "line 1: want PRINCIPAL: CREDENTIAL, two texts: what was read before stays in use") {
		t.Error(w)
	}
	for text, want := range map[string]string{
		"a: x:Sesame\na: y:Sesame":         "line 2: this principal has a credential already",
		"a: {b: Sesame}":                   "line 1: want PRINCIPAL: CREDENTIAL, two texts",
		"- Sesame":                         "line 1: want PRINCIPAL: CREDENTIAL on each line",
		"a: 'Sesame":                       "is not YAML",
		"a: ''":                            "line 1 is empty",
		"'': Sesame":                       "line 1: the principal is empty",
		"x: &x 1\na: *x":                   "line 2: want PRINCIPAL: CREDENTIAL, two texts",
		"<<: {a: Sesame}":                  "line 1: want PRINCIPAL: CREDENTIAL, two texts",
		"a: " + strings.Repeat("x", 70000): "line 1 has more than 65536 bytes",
	} {
		put(t, path, text)
		if _, err := New(Options{File: path}); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "Sesame") {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
	for _, empty := range []string{"", "# nobody\n", "{}"} {
		put(t, path, empty)
		store(t, Options{File: path}).wants(t, "alice", "none")
	}
}

func TestTemplateAndDefault(t *testing.T) {
	folder := t.TempDir()
	put(t, filepath.Join(folder, "alice", "kafka"), "a:Sesame\n")
	s := store(t, Options{Template: "${principal}:Sesame"})
	s.wants(t, "alice", "alice:Sesame")
	s.wants(t, "a\nb", "none")
	s = store(t, Options{Template: sasl.Secret("file:" + folder + "/${principal}/kafka")})
	s.wants(t, "alice", "a:Sesame")
	s.wants(t, "bob", "none")
	for _, principal := range hostile {
		s.wants(t, principal, "none")
	}
	s = store(t, Options{Template: sasl.Secret("file:" + folder + "/${principal}/kafka"), Default: "d:Sesame", Proxy: "p:Sesame"})
	s.wants(t, "bob", "d:Sesame")
	s.wants(t, "../x", "d:Sesame")
	if s.ForProxy() != "p:Sesame" || store(t, Options{Default: "d"}).ForProxy() != "d" {
		t.Error("the proxy has another one")
	}
	store(t, Options{Default: "d"}).wants(t, "anybody", "d")
}

// script writes a command. $1 is the principal; it notes each run in $COUNT.
func script(t *testing.T, body string) (path, count string) {
	t.Helper()
	dir := t.TempDir()
	path, count = filepath.Join(dir, "get"), filepath.Join(dir, "count")
	text := "#!/bin/sh\necho \"$1\" >> " + count + "\n" + body + "\n"
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path, count
}

func runs(t *testing.T, count string) int {
	text, err := os.ReadFile(count)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Count(string(text), "\n")
}

func TestHelper(t *testing.T) {
	path, count := script(t, `case $1 in
p/alice) printf 'a:Sesame\n';;
p/bob) exit 3;;
p/broken) echo Sesame; echo "vault: sealed
Sesame" >&2; exit 1;;
p/long) head -c 1000000 /dev/zero | tr '\0' x;;
p/silent) ;;
esac`)
	s := store(t, Options{Exec: []string{path, "p/${principal}"}, MaxAge: time.Hour})
	at := time.Now()
	s.helper.now = func() time.Time { return at }
	s.wants(t, "alice", "a:Sesame")
	s.wants(t, "bob", "none")
	s.wants(t, "broken", `exit status 1: "vault: sealed"`)
	s.wants(t, "long", "has more than 65536 bytes")
	s.wants(t, "silent", "has printed is empty")
	s.wants(t, "-rf", "none")
	s.wants(t, "a\nb", "none")
	if n := runs(t, count); n != 5 {
		t.Errorf("%d runs, want 5", n)
	}
	// Again: what it has said is kept, for so long.
	s.wants(t, "alice", "a:Sesame")
	s.wants(t, "broken", "sealed")
	if n := runs(t, count); n != 5 {
		t.Errorf("%d runs, want 5", n)
	}
	at = at.Add(failurePause)
	s.wants(t, "alice", "a:Sesame")
	s.wants(t, "broken", "sealed")
	if n := runs(t, count); n != 6 {
		t.Errorf("%d runs, want 6", n)
	}
	at = at.Add(time.Hour)
	s.wants(t, "alice", "a:Sesame")
	if n := runs(t, count); n != 7 {
		t.Errorf("%d runs, want 7", n)
	}
	if _, err := New(Options{Exec: []string{"/nowhere/get"}}); err == nil || !strings.Contains(err.Error(), "cannot be run") {
		t.Error(err)
	}
}

// io.Copy is what os/exec has output go through. It prefers a method ReadFrom.
func TestOnlyTheBeginningOfWhatACommandPrintsIsKept(t *testing.T) {
	b := &limitedBuffer{most: 10}
	n, err := io.Copy(b, io.LimitReader(endless{}, 1<<20))
	if err != nil || n != 1<<20 || len(b.kept) != 10 {
		t.Errorf("%d bytes taken, %d kept, %v", n, len(b.kept), err)
	}
}

// endless is a reader of anything.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// A command that hangs is killed, with what it has started.
func TestHelperThatHangs(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pid")
	path, _ := script(t, `sleep 1000 & echo $! > `+pids+`; wait`)
	s := store(t, Options{Exec: []string{path}, ExecTimeout: 300 * time.Millisecond})
	s.wants(t, "alice", "has not ended after 300ms, and was killed")
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	if state, err := os.ReadFile("/proc/" + strings.TrimSpace(string(text)) + "/stat"); err == nil && !strings.Contains(string(state), ") Z ") {
		t.Errorf("what it has started still runs: %s", state)
	}
}

func TestThoseWhoWantTheSameShareARun(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "gate")
	path, count := script(t, `cat `+gate+` > /dev/null; echo a:1`)
	mkfifo(t, gate)
	s := store(t, Options{Exec: []string{path, "${principal}"}, ExecTimeout: 30 * time.Second})
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := s.Lookup(gone, "alice"); !errors.Is(err, context.Canceled) { // its run goes on
		t.Errorf("who goes away is told %v", err)
	}
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() { s.wants(t, "alice", "a:1") })
	}
	f, err := os.OpenFile(gate, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	group.Wait()
	if n := runs(t, count); n != 1 {
		t.Errorf("%d runs, want 1", n)
	}
}

func TestFormsOfCredentials(t *testing.T) {
	if c, err := UserPassword("a:b:c"); err != nil || c.User != "a" || c.Password != "b:c" {
		t.Errorf("%v, %v", c, err)
	}
	for _, wrong := range []sasl.Secret{"Sesame", ":Sesame", "Sesame:", "a:Sesame\nb:Sesame", ""} {
		if _, err := UserPassword(wrong); err == nil || strings.Contains(err.Error(), "Sesame") {
			t.Errorf("%q: %v", wrong.Reveal(), err)
		}
	}
	if c, err := Token(" aa.bb.cc\n"); err != nil || c.Token != "aa.bb.cc" {
		t.Errorf("%v, %v", c, err)
	}
	for _, wrong := range []sasl.Secret{"", "a b", "a\nb", "ä"} {
		if _, err := Token(wrong); err == nil {
			t.Errorf("%q is taken", wrong.Reveal())
		}
	}
	shown := kafkatest.NewAuthority("authority").Client("alice")
	der, err := x509.MarshalPKCS8PrivateKey(shown.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: shown.Certificate[0]})
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if pair, err := KeyPair(sasl.Secret(string(cert) + string(key))); err != nil || pair.Leaf.Subject.CommonName != "alice" {
		t.Errorf("%v, %v", pair.Leaf, err)
	}
	for _, wrong := range []sasl.Secret{"", sasl.Secret(cert), sasl.Secret(key)} {
		if _, err := KeyPair(wrong); err == nil || strings.Contains(err.Error(), "BEGIN") {
			t.Errorf("%v", err)
		}
	}
}

func TestWarnings(t *testing.T) {
	folder := t.TempDir()
	put(t, filepath.Join(folder, "alice"), "a:1")
	s := store(t, Options{Folder: folder})
	if w := s.Warnings(); len(w) > 0 {
		t.Error(w)
	}
	if err := errors.Join(os.Chmod(folder, 0o755), os.Chmod(filepath.Join(folder, "alice"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if w := s.Warnings(); len(w) != 1 || !strings.Contains(w[0], "can read 1 of the credentials") {
		t.Error(w)
	}
	file := filepath.Join(folder, "alice")
	put(t, file, "a: b:1")
	if w := store(t, Options{File: file}).Warnings(); len(w) != 1 || !strings.Contains(w[0], "chmod o-r "+file) {
		t.Error(w)
	}
}

func FuzzFile(f *testing.F) {
	f.Add("alice: a:b\n")
	f.Add("'a': \"b\"\n? c\n: d\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseFile([]byte(text))
		for principal, credential := range all {
			if err != nil || principal == "" || credential == "" {
				t.Errorf("%q, %v", principal, err)
			}
		}
	})
}
