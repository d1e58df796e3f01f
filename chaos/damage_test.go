package main

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
)

// TestDamageLooksLikeAReset to the harness's clients, wherever in a record the bit was.
func TestDamageLooksLikeAReset(t *testing.T) {
	for _, err := range []error{
		&net.OpError{Op: "local error", Err: tls.AlertError(20)},
		&net.OpError{Op: "remote error", Err: tls.AlertError(20)},
		tls.RecordHeaderError{Msg: "received record with version 302 when expecting version 303"},
	} {
		if got := asReset("read", err); !errors.Is(got, syscall.ECONNRESET) {
			t.Errorf("%v: %v", err, got)
		}
	}
	for _, err := range []error{nil, io.EOF, net.ErrClosed} {
		if got := asReset("read", err); got != err {
			t.Errorf("%v: %v", err, got)
		}
	}
}
