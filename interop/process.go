package main

import (
	"context"

	"kafka-sni-proxy/internal/harness"
)

// process is a client program that is given orders on its standard input and
// answers them line by line.
type process struct {
	*harness.Process
	lines chan string
}

// start starts a client program.
func start(ctx context.Context, c harness.Command) (*process, error) {
	// It holds more lines than a client of ours ever prints.
	p := &process{lines: make(chan string, 1<<14)}
	c.Line = func(line string) { p.lines <- line }
	var err error
	if p.Process, err = harness.Start(ctx, c); err != nil {
		return nil, err
	}
	go func() {
		<-p.Done()
		close(p.lines)
	}()
	return p, nil
}
