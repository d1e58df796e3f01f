package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestServiceManagerThatDoesNotListenIsNotWaitedFor(t *testing.T) {
	var log bytes.Buffer
	late, release := make(chan time.Time), make(chan struct{})
	sent := make(chan string, 1)
	send := func(state string) error {
		sent <- state
		<-release // its socket is full
		return nil
	}
	go func() { late <- time.Time{} }()
	notifyBy(send, late, slog.New(slog.NewTextHandler(&log, nil)), "READY=1", "STATUS=serving")
	close(release)
	if got := <-sent; got != "READY=1\nSTATUS=serving" {
		t.Errorf("told %q", got)
	}
	if !strings.Contains(log.String(), "it does not listen") {
		t.Errorf("no warning:\n%s", log.String())
	}
}
