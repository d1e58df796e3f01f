package kafkatest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
)

func TestBrokerAnswersWhatTheScriptSays(t *testing.T) {
	ctx := deadline(t)
	b := StartBroker(t, "broker-0.upstream.test", Answer(func(frame []byte) []byte {
		if string(frame) == "nothing" {
			return nil
		}
		return Frame([]byte("you said "), frame)
	}))
	raw, err := b.Dial(ctx, "broker-0.upstream.test", 9092)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := handshake(ctx, raw, b.Host, b.ClientConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, say := range []string{"one", "nothing", "two"} {
		if _, err := conn.Write(Frame([]byte(say))); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"you said one", "you said two"} {
		got, err := ReadFrame(conn)
		if err != nil || string(got) != want {
			t.Fatalf("read %q, %v, want %q", got, err, want)
		}
	}
	if err := HalfClose(conn); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFrame(conn); err != io.EOF {
		t.Errorf("after the script came %v, want the end", err)
	}

	var dns *net.DNSError
	if _, err := b.Dial(ctx, "broker-1.upstream.test", 9092); !errors.As(err, &dns) {
		t.Errorf("dialing another broker: %v, want not found", err)
	}
}

func TestReadFrameBelievesNoLengthThatCannotBe(t *testing.T) {
	for _, length := range [][]byte{{0xff, 0xff, 0xff, 0xff}, {0x80, 0, 0, 0}, {0x7f, 0xff, 0xff, 0xff}} {
		if _, err := ReadFrame(bytes.NewReader(append(length, "body"...))); err == nil {
			t.Errorf("length % x was believed", length)
		}
	}
	if _, err := ReadFrame(bytes.NewReader([]byte{0, 0, 0, 5, 'x'})); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("within a frame: %v", err)
	}
}
