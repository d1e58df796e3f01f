package main

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"kafka-sni-proxy/internal/kafkatest"
)

// upstreamDomain ends every name under which the brokers know each other. Only
// the proxy is told where these names live; a client must never see one.
const upstreamDomain = "upstream.test"

// newScanner looks for upstream names. allowConfigs leaves out the one place where
// Kafka itself reports the names as text: in answer to DescribeConfigs, the values
// of the two broker configurations in allowedConfigs. A name counts as part of one
// only closely after the configuration's own name.
func newScanner(allowConfigs bool) *kafkatest.Scanner {
	s := kafkatest.NewScanner(upstreamDomain)
	if allowConfigs {
		s.Except = allowedConfigs.Match
	}
	return s
}

var allowedConfigs = regexp.MustCompile(`advertised\.listeners|controller\.quorum\.voters`)

// scanFiles looks through everything a scenario's clients have printed and
// logged. Folders named "direct" hold what clients without the proxy wrote.
func scanFiles(dir string, allowConfigs bool) ([]string, error) {
	scanner := newScanner(allowConfigs)
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
		_, err = io.Copy(scanner.Writer(strings.TrimPrefix(path, dir+"/")), file)
		return err
	})
	return words(scanner.Take()), err
}

func words(leaks []*kafkatest.Leak) (found []string) {
	for _, leak := range leaks {
		found = append(found, leak.Error())
	}
	return found
}
