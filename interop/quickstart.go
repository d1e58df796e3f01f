package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"kafka-sni-proxy/internal/harness"
)

// step is a block of commands of a page, and how it is tried.
type step struct {
	script string
	// until is what a program that goes on has to say; "" for commands that end.
	until string
}

var stepPattern = regexp.MustCompile("(?s)<!-- try(?:: background until \"([^\"]+)\")? -->\n```sh\n(.*?)```")

// steps are the blocks of a page that are marked to be tried.
func steps(page string) []step {
	var all []step
	for _, m := range stepPattern.FindAllStringSubmatch(page, -1) {
		all = append(all, step{script: m[2], until: m[1]})
	}
	return all
}

const (
	quickstartPage    = "docs/quickstart/apache-kafka.md"
	quickstartMessage = "hello through the proxy"
)

// quickstart does what a page says: it runs its commands as they are written, in a clone of
// this tree's last commit.
func quickstart(ctx context.Context, s *scenarioRun) (string, error) {
	root := s.java.software.root
	page, err := os.ReadFile(filepath.Join(root, quickstartPage))
	if err != nil {
		return "", err
	}
	all := steps(string(page))
	if marks := strings.Count(string(page), "<!-- try"); marks != len(all) || marks < 8 {
		return "", fmt.Errorf("%s: %d blocks are found behind %d marks", quickstartPage, len(all), marks)
	}
	// Sources, and what a broker prints, have names that the search for leaks would find.
	work := filepath.Join(s.dir, "direct")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return "", err
	}
	var figures []string
	last := ""
	for i, one := range all {
		// The first block is the one that makes the clone.
		dir, script := filepath.Join(work, "kafka-sni-proxy"), one.script
		if i == 0 {
			dir, script = work, strings.Replace(script, "ADDRESS", root, 1)
		}
		begin := time.Now()
		output, err := s.try(ctx, i+1, dir, script, one)
		if err != nil {
			return strings.Join(figures, "\n"), fmt.Errorf("%s, block %d: %w", quickstartPage, i+1, err)
		}
		last = output
		first, _, _ := strings.Cut(strings.TrimSpace(one.script), "\n")
		figures = append(figures, fmt.Sprintf("  %5.1fs  %.90s", time.Since(begin).Seconds(), first))
	}
	if !strings.Contains(last, quickstartMessage) {
		err = fmt.Errorf("%s: the last block does not print %q: %s", quickstartPage, quickstartMessage, last)
	}
	return fmt.Sprintf("%d blocks of commands of %s, as written\n%s", len(all), quickstartPage, strings.Join(figures, "\n")), err
}

// try runs one block. A program that goes on ends with the context.
func (s *scenarioRun) try(ctx context.Context, number int, dir, script string, one step) (string, error) {
	command := harness.Command{
		Name:   fmt.Sprintf("block-%d", number),
		Args:   []string{"bash", "-euo", "pipefail", "-c", script},
		Dir:    dir,
		Output: filepath.Join(s.dir, "direct", fmt.Sprintf("block-%d.out", number)),
	}
	if one.until == "" {
		return harness.Run(ctx, command)
	}
	p, err := harness.Start(ctx, command)
	if err != nil {
		return "", err
	}
	return "", p.Await(ctx, time.Minute, fmt.Sprintf("waiting for it to say %q", one.until), func() error {
		said := false
		err := eachLine(p.Output, func(line string) { said = said || strings.Contains(line, one.until) })
		if err == nil && !said {
			err = errors.New("it has not said so yet")
		}
		return err
	})
}
