package progress

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

type buffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func TestNothingIsShownBeforeTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b buffer
		l := start(&b, patience)
		l.Set("broker 1 of 3")
		time.Sleep(patience - time.Millisecond)
		synctest.Wait()
		if b.String() != "" {
			t.Errorf("%q was shown at once", b.String())
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		l.Set("broker 2 of 3")
		for _, want := range []string{"broker 1 of 3 (2s)", "broker 2 of 3 (2s)"} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%q is not in %q", want, b.String())
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if want := "broker 2 of 3 (3s)"; !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in %q: nobody sees that the program lives", want, b.String())
		}
		above{l}.Write([]byte("a result\n"))
		if want := "\r\x1b[Ka result\n\r\x1b[K… broker 2"; !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in %q: the line does not make way", want, b.String())
		}
		l.Done()
		l.Set("broker 3 of 3")
		if !strings.HasSuffix(b.String(), "\r\x1b[K") {
			t.Errorf("the line stays: %q", b.String())
		}
	})
}

func TestOnlyATerminalIsShownProgressAndColours(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if IsTerminal(f) || IsTerminal(&bytes.Buffer{}) || IsColoured(f) {
		t.Error("a file counts as a terminal")
	}
	l := New(f)
	l.Set("…") // all of which does nothing
	l.Clear()
	l.Done()
	if l != nil {
		t.Error("there is progress in a file")
	}
}
