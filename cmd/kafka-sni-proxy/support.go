package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"

	"kafka-sni-proxy/internal/api"
	"kafka-sni-proxy/internal/progress"
)

const bundleText = `What is in here, about a kafka-sni-proxy that runs:

  configuration.yaml  what is in force, with secrets as ***
  status.json, clusters.json, sessions.json (1000 at the most, the busiest first), failures.json,
  history.json        what /api/v1/ has said; openapi.yaml beside it says what each field means
  metrics.txt         /metrics
  log.txt             the last lines of the log
  goroutines.txt      where the program's goroutines are, if it runs with --admin-pprof
  versions.txt        of the program that has gathered this
  missing.txt         what could not be had, and why, if there is any

There are addresses and names of clients and brokers in it, and names of topics where the log has
them. There are no records, passwords or keys. Look at it before you send it.
`

// supportBundle writes an archive for a report of a bug.
func (a *asker) supportBundle(ctx context.Context) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	line := progress.New(a.stderr)
	defer line.Done()
	began := time.Now().UTC()
	support, err := c.Support(ctx) // if that does not answer, nothing will
	if err != nil {
		return explain(c, err)
	}
	files := []file{{"README.txt", []byte(bundleText)}, {"configuration.yaml", []byte(support.Configuration)}, {"log.txt", []byte(strings.Join(support.Log, "\n") + "\n")},
		{"versions.txt", fmt.Appendf(nil, "kafka-sni-proxy %s %s/%s\ngathered %s from %s\n", versionText(), runtime.GOOS, runtime.GOARCH, began.Format(time.RFC3339), c.Base)}}
	var missing bytes.Buffer
	for _, part := range []struct{ name, path string }{
		{"status.json", api.Prefix + "status"},
		{"clusters.json", api.Prefix + "clusters"},
		{"sessions.json", api.Prefix + "sessions?" + api.SessionQuery{Sort: "-rate", Limit: api.MaxLimit}.Values().Encode()},
		{"failures.json", api.Prefix + "failures"},
		{"history.json", api.Prefix + "history"},
		{"openapi.yaml", api.Prefix + "openapi.yaml"},
		{"metrics.txt", "/metrics"},
		{"goroutines.txt", "/debug/pprof/goroutine?debug=2"},
	} {
		line.Set(part.name)
		text, err := c.Page(ctx, part.path)
		if err != nil {
			fmt.Fprintf(&missing, "%s: %v\n", part.name, err)
			continue
		}
		files = append(files, file{part.name, text})
	}
	if missing.Len() > 0 {
		files = append(files, file{"missing.txt", missing.Bytes()})
	}
	line.Done()
	name := "kafka-sni-proxy-support-" + began.Format("20060102-150405")
	archive, err := pack(name, began, files)
	if err != nil {
		return err
	}
	return a.writeBundle(name+".tar.gz", archive)
}

func (a *asker) writeBundle(name string, archive []byte) error {
	if a.output == standardInput { // "-", which is standard output here
		_, err := a.stdout.Write(archive)
		return err
	}
	if a.output != "" {
		name = a.output
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("--output: %s is there already: choose another name", name)
	case err != nil:
		return fmt.Errorf("--output: %w", err)
	}
	_, err = f.Write(archive)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	_, err = io.WriteString(a.stdout, name+"\n")
	return err
}

// file is one of an archive.
type file struct {
	name    string
	content []byte
}

// pack makes a .tar.gz with one directory.
func pack(directory string, at time.Time, files []file) ([]byte, error) {
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	archive := tar.NewWriter(zipped)
	for _, f := range files {
		err := archive.WriteHeader(&tar.Header{Name: directory + "/" + f.name, Mode: 0o600, Size: int64(len(f.content)), ModTime: at})
		if err != nil {
			return nil, err
		}
		if _, err := archive.Write(f.content); err != nil {
			return nil, err
		}
	}
	err := errors.Join(archive.Close(), zipped.Close())
	return b.Bytes(), err
}
