package kafkatest

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// chunks reads one chunk per Read.
type chunks [][]byte

func (c *chunks) Read(p []byte) (int, error) {
	if len(*c) == 0 {
		return 0, io.EOF
	}
	n := copy(p, (*c)[0])
	if (*c)[0] = (*c)[0][n:]; len((*c)[0]) == 0 {
		*c = (*c)[1:]
	}
	return n, nil
}

func TestScannerFindsAWordWhereverReadsAreCut(t *testing.T) {
	const word = "upstream.test"
	stream := []byte(strings.Repeat("x", 70) + "broker-0." + word + ":9092" + strings.Repeat("y", 70))
	want := int64(bytes.Index(stream, []byte(word)))
	for i := range len(stream) {
		for j := i; j < len(stream); j++ {
			s := NewScanner("elsewhere.test", word)
			_, err := io.Copy(io.Discard, s.Reader(&chunks{stream[:i], stream[i:j], stream[j:]}, "b0"))
			var leak *Leak
			if !errors.As(err, &leak) {
				t.Fatalf("cut at %d and %d: reading ended with %v, want the leak", i, j, err)
			}
			if leak.Word != word || leak.Offset != want || leak.Stream != "b0" {
				t.Fatalf("cut at %d and %d: %v, want it at byte %d", i, j, leak, want)
			}
			if !bytes.Contains(leak.Around, []byte(word)) {
				t.Fatalf("cut at %d and %d: around the leak is %q, without the word", i, j, leak.Around)
			}
			if n := len(s.Leaks()); n != 1 {
				t.Fatalf("cut at %d and %d: found %d times", i, j, n)
			}
		}
	}
}

func TestScannerFindsAWordOneByteAtATime(t *testing.T) {
	s := NewScanner("upstream.test")
	r := s.Reader(iotest.OneByteReader(strings.NewReader("broker-0.upstream.test:9092")), "b0")
	got, err := io.ReadAll(r)
	if err == nil || s.Err() == nil {
		t.Fatal("not found")
	}
	select {
	case <-s.Found():
	default:
		t.Error("nobody who waits for a leak is told")
	}
	if string(got) != "broker-0.upstream.tes" {
		t.Errorf("the reader was given %q: the read that ends the word is to give nothing", got)
	}
	if _, again := r.Read(make([]byte, 1)); again != err {
		t.Errorf("after the leak a read gives %v, want the leak again", again)
	}
}

func TestScannerLeavesEverythingElseAlone(t *testing.T) {
	// Beginnings, endings and near misses of the word, across every chunk size.
	text := strings.Repeat("upstream.tes upstream..test pstream.test Upstream.test upstream_test ", 50)
	for size := 1; size < 40; size++ {
		s := NewScanner("upstream.test")
		var in chunks
		for rest := []byte(text); len(rest) > 0; {
			n := min(size, len(rest))
			in, rest = append(in, rest[:n]), rest[n:]
		}
		got, err := io.ReadAll(s.Reader(&in, "b0"))
		if err != nil || s.Err() != nil {
			t.Fatalf("in chunks of %d: %v, %v", size, err, s.Err())
		}
		if string(got) != text {
			t.Fatalf("in chunks of %d: the bytes changed", size)
		}
		if total, streams := s.Scanned(); total != int64(len(text)) || streams != 1 {
			t.Fatalf("in chunks of %d: %d bytes in %d streams", size, total, streams)
		}
	}
}

func TestScannerKeepsStreamsApart(t *testing.T) {
	s := NewScanner("upstream.test")
	for _, half := range []string{"upstream", ".test"} {
		if _, err := io.ReadAll(s.Reader(strings.NewReader(half), half)); err != nil {
			t.Errorf("half a word in a stream of its own: %v", err)
		}
	}
}

func TestScannerFindsWordsOfDifferentLengths(t *testing.T) {
	// The short word lies within what is kept for the sake of the long one:
	// it must not be found a second time there. The long one needs all of it.
	long := strings.Repeat("z", 2*around)
	s := NewScanner("ab", long)
	st := &stream{s: s, name: "b0"}
	for _, chunk := range []string{"..ab....", "....", "....ab", "a", "b"} {
		st.scan([]byte(chunk))
	}
	for _, z := range long + "." + long {
		st.scan([]byte(string(z)))
	}
	var at []int64
	for _, l := range s.Leaks() {
		at = append(at, l.Offset)
	}
	if !slices.Equal(at, []int64{2, 16, 18, 20, 21 + int64(len(long))}) {
		t.Errorf("found at %v, want 2, 16, 18, 20 and one more", at)
	}
}

// TestExceptionsHoldWhereverWritesAreCut writes one text in two pieces, cut at
// every place, and in single bytes.
func TestExceptionsHoldWhereverWritesAreCut(t *testing.T) {
	const leak = "broker-1." + Domain
	config := "\x14advertised.listeners\x30TLS://" + leak + ":1,SASL://" + leak + ":2"
	for _, test := range []struct {
		name, text string
		want       int
		allow      bool
	}{
		{"none", "b1.edge.test upstream test", 0, true},
		{"one", "\x00\x16" + leak + "\x00\x00", 1, false},
		{"at both ends", leak + strings.Repeat("x", 2*lookBack) + leak, 2, true},
		{"where it may not be", config, 2, false},
		{"where it may be", config, 0, true},
		{"where it may be, and elsewhere", config + strings.Repeat("x", lookBack) + leak, 1, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			count := func(pieces ...string) int {
				s := NewScanner(Domain)
				if test.allow {
					s.Except = func(before []byte) bool { return bytes.Contains(before, []byte("advertised.listeners")) }
				}
				w := s.Writer("a file")
				for _, piece := range pieces {
					io.WriteString(w, piece)
				}
				taken := s.Take()
				if again := s.Take(); len(again) > 0 {
					t.Errorf("taken twice: %v", again)
				}
				return len(taken)
			}
			for cut := range len(test.text) + 1 {
				if got := count(test.text[:cut], test.text[cut:]); got != test.want {
					t.Fatalf("cut at %d: found %d, want %d", cut, got, test.want)
				}
			}
			if got := count(strings.Split(test.text, "")...); got != test.want {
				t.Errorf("byte by byte: found %d, want %d", got, test.want)
			}
		})
	}
}
