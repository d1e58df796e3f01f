package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// upstreamDomain ends every name under which the brokers know each other. Only
// the proxy is told where these names live; a client must never see one.
const upstreamDomain = "upstream.test"

// leakScanner is a Writer that looks for upstream names in what is written to
// it, wherever the writes are cut.
type leakScanner struct {
	// AllowConfigs leaves out the one place where Kafka itself reports the
	// names as text: in answer to DescribeConfigs, the values of the two broker
	// configurations in allowedConfigs. A name counts as part of one only
	// closely after the configuration's own name.
	AllowConfigs bool
	// Report is called with each leak and what was around it.
	Report func(leak string)

	recent []byte // the end of what was written before, for names cut in two
}

var allowedConfigs = regexp.MustCompile(`advertised\.listeners|controller\.quorum\.voters`)

// lookBack is how far before an upstream name the configuration's name may
// stand: further than a value is long.
const lookBack = 512

func (s *leakScanner) Write(p []byte) (int, error) {
	text := append(s.recent, p...)
	for at := max(0, len(s.recent)-len(upstreamDomain)+1); ; {
		next := bytes.Index(text[at:], []byte(upstreamDomain))
		if next < 0 {
			break
		}
		start := at + next
		at = start + len(upstreamDomain)
		before := text[max(0, start-lookBack):start]
		if s.AllowConfigs && allowedConfigs.Match(before) {
			continue
		}
		s.Report(fmt.Sprintf("%q", text[max(0, start-60):min(len(text), at+20)]))
	}
	s.recent = append(s.recent[:0], text[max(0, len(text)-lookBack):]...)
	return len(p), nil
}

// scanFiles looks through everything a scenario's clients have printed and
// logged. Folders named "direct" hold what clients without the proxy wrote.
func scanFiles(dir string, allowConfigs bool) ([]string, error) {
	var found []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if entry.Name() == "direct" {
				return filepath.SkipDir
			}
			return nil
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		scanner := leakScanner{AllowConfigs: allowConfigs, Report: func(leak string) {
			found = append(found, strings.TrimPrefix(path, dir+"/")+": "+leak)
		}}
		_, err = io.Copy(&scanner, file)
		return err
	})
	return found, err
}
