package main

import (
	"io"
	"slices"
	"strings"
	"sync"
)

const (
	// maxLogLines and maxLogLine bound what is kept of the log: lines, and bytes of each.
	maxLogLines = 300
	maxLogLine  = 2048
)

// logLines is where the log is written to, and keeps its last lines. Each write is a line.
type logLines struct {
	to io.Writer

	mu    sync.Mutex
	lines []string
	next  int
}

// Write implements io.Writer.
func (l *logLines) Write(p []byte) (int, error) {
	l.keep(string(p[:min(len(p), maxLogLine)]))
	return l.to.Write(p)
}

func (l *logLines) keep(line string) {
	line = strings.TrimSuffix(line, "\n")
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) < maxLogLines {
		l.lines = append(l.lines, line)
		return
	}
	l.lines[l.next] = line
	l.next = (l.next + 1) % maxLogLines
}

// last returns the last lines, the oldest first.
func (l *logLines) last() []string {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Concat(l.lines[l.next:], l.lines[:l.next])
}
