package kafkatest

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// pair returns the two ends of a TCP connection.
func pair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	for _, c := range []net.Conn{near, far} {
		c.SetDeadline(time.Now().Add(10 * time.Second))
	}
	return near, far
}

func TestDribblePassesEverythingOnInSmallPieces(t *testing.T) {
	near, far := pair(t)
	go func() {
		Dribble(near, 3).Write([]byte("0123456789"))
		near.Close()
	}()
	slow := Dribble(far, 1)
	p := make([]byte, 10)
	var got []byte
	for {
		n, err := slow.Read(p)
		if n > 1 {
			t.Fatalf("a read gave %d bytes", n)
		}
		got = append(got, p[:n]...)
		if err != nil {
			break
		}
	}
	if string(got) != "0123456789" {
		t.Errorf("got %q", got)
	}
}

func TestCutWritesEndsAfterThatManyBytes(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(net.Conn) error
		want error
	}{
		{"closed", net.Conn.Close, nil},
		{"half-closed", HalfClose, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			near, far := pair(t)
			cut := CutWrites(near, 5, c.end)
			if n, err := cut.Write([]byte("012")); n != 3 || err != nil {
				t.Fatalf("within the limit: %d, %v", n, err)
			}
			if n, err := cut.Write([]byte("3456")); n != 2 || !errors.Is(err, ErrCut) {
				t.Fatalf("across the limit: %d, %v", n, err)
			}
			got, err := io.ReadAll(far)
			if string(got) != "01234" || err != nil {
				t.Errorf("the peer got %q, %v", got, err)
			}
		})
	}
	t.Run("reset", func(t *testing.T) {
		near, far := pair(t)
		if _, err := CutWrites(near, 0, Reset).Write([]byte("x")); !errors.Is(err, ErrCut) {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(far); err == nil {
			t.Error("the peer saw a clean end, want a reset")
		}
	})
}

func TestCutReadsEndsAfterThatManyBytes(t *testing.T) {
	near, far := pair(t)
	if _, err := far.Write([]byte("0123456789")); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(CutReads(near, 4, net.Conn.Close))
	if string(got) != "0123" || !errors.Is(err, ErrCut) {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestHalfCloseLeavesTheOtherDirectionOpen(t *testing.T) {
	near, far := pair(t)
	if err := HalfClose(Dribble(near, 1)); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(far); len(got) != 0 || err != nil {
		t.Fatalf("the peer read %q, %v", got, err)
	}
	far.Write([]byte("still here"))
	far.Close()
	if got, _ := io.ReadAll(near); string(got) != "still here" {
		t.Errorf("after the half-close came %q", got)
	}
}

func TestGateHoldsUntilReleased(t *testing.T) {
	near, far := pair(t)
	gate := NewGate(near)
	gate.Hold()
	read := make(chan string)
	go func() {
		p := make([]byte, 10)
		n, _ := gate.Read(p)
		read <- string(p[:n])
	}()
	if _, err := far.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-read:
		t.Fatalf("read %q through a held gate", got)
	default:
	}
	gate.Release()
	if got := <-read; got != "hello" {
		t.Errorf("read %q", got)
	}

	gate.Hold()
	wrote := make(chan error)
	go func() {
		_, err := gate.Write([]byte("late"))
		wrote <- err
	}()
	gate.Close()
	if err := <-wrote; err == nil {
		t.Error("a write succeeded after the gate was closed")
	}
}
