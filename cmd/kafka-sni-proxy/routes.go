package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"kafka-sni-proxy/internal/route"
)

const (
	// settleRoutes is how long a change waits to be saved, so that all brokers
	// of one answer are saved together. It is also the time between two saves.
	settleRoutes = 500 * time.Millisecond
	// retryRoutes is when to save again after that was not possible.
	retryRoutes = 10 * time.Second
)

// checkRoutesFile finds out whether routes can be kept in a file, and returns
// its path without links: saving replaces the file, not a link to it.
func checkRoutesFile(path string, wrong func(error)) string {
	if path == "" {
		return ""
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		wrong(fmt.Errorf("%s is not a file: name one in a directory that this user may write to", path))
		return ""
	case err == nil:
		if path, err = filepath.EvalSymlinks(path); err != nil {
			wrong(err)
			return ""
		}
	}
	dir := filepath.Dir(path)
	probe, err := os.CreateTemp(dir, "."+filepath.Base(path)+".new-*")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		wrong(fmt.Errorf("the directory %s does not exist: make it, for this user to write to", dir))
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		wrong(fmt.Errorf("the directory %s may not be written to by this user: change its owner or mode, or name a file elsewhere", dir))
	case err != nil:
		wrong(err)
	default:
		probe.Close()
		os.Remove(probe.Name())
	}
	return path
}

// openRoutes loads what the file has and saves it again at once: a file that
// cannot be replaced, such as one that is mounted by itself, is found out now.
func openRoutes(table *route.Table, path string) error {
	if path == "" {
		return nil
	}
	if err := table.Load(path); err != nil {
		return fmt.Errorf("--routes-file: reading it: %w: let this user read it, or remove it", err)
	}
	if err := table.Save(path); err != nil {
		return fmt.Errorf("--routes-file: writing it: %w: name a file that this user may replace", err)
	}
	return nil
}

// keepRoutes saves routes when there are new ones, until stop is called, which
// saves what is left.
func keepRoutes(table *route.Table, path string, log *slog.Logger) (stop func()) {
	return inBackground(func(ctx context.Context) { saveRoutes(ctx, table, path, log) })
}

// keepRoutes has the routes of each cluster be kept that has a file for them.
func (a *app) keepRoutes(s *setup) {
	for _, part := range s.clusters {
		if part.routesFile != "" && part.stopRoutes == nil {
			part.stopRoutes = keepRoutes(part.table, part.routesFile, a.log)
		}
	}
}

// dropRoutes ends that, and saves what is left.
func (s *setup) dropRoutes() {
	for _, part := range s.clusters {
		part.dropRoutes()
	}
}

func (p *clusterPart) dropRoutes() {
	if p.stopRoutes != nil {
		p.stopRoutes()
		p.stopRoutes = nil
	}
}

// takeRoutes has the files of clusters that have changed be written no more by what they
// were before, and reads those of clusters that are new.
func (a *app) takeRoutes(before, s *setup) {
	if before == nil { // build has read them
		return
	}
	for name, part := range before.clusters {
		if s.clusters[name] != part {
			part.dropRoutes()
		}
	}
	for name, part := range s.clusters {
		if before.clusters[name] != nil { // what was known was taken over
			continue
		}
		if err := openRoutes(part.table, part.routesFile); err != nil {
			a.log.Warn("the routes file cannot be used: brokers will be learned anew, and routes are not kept", "cluster", name, "error", err)
			part.routesFile = ""
		}
	}
}

func saveRoutes(ctx context.Context, table *route.Table, path string, log *slog.Logger) {
	unsaved, failing := false, false
	for last := false; !last; {
		if !unsaved {
			select {
			case <-table.Changed():
				unsaved = true
			case <-ctx.Done():
			}
		}
		wait := settleRoutes
		if failing {
			wait = retryRoutes
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			last = true
		}
		select { // what has changed meanwhile
		case <-table.Changed():
			unsaved = true
		default:
		}
		if !unsaved {
			continue
		}
		switch err := table.Save(path); {
		case err == nil:
			log.Debug("routes saved", "file", path, "brokers", table.Known())
			unsaved, failing = false, false
		case !failing || last:
			log.Warn("routes cannot be saved; trying again while the program runs", "file", path, "error", err, "pause", retryRoutes)
			failing = true
		}
	}
}
