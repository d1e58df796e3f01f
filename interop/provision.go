package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"kafka-sni-proxy/internal/harness"
)

// Versions are named in maven/*/pom.xml; these are for messages, and for the
// name of the client's jar.
const (
	clientVersion    = "4.4.0"
	oldClientVersion = "2.1.1"
)

const copyDependencies = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"

// software is everything the run starts that is not on the machine: jars from
// Maven Central, and what is built from this tree.
type software struct {
	root      string // of the module
	kafka     string // folder of jars: broker, tools, their client, log4j
	clients   string // folder of jars: the client under test
	oldClient string // folder of jars: a client of years ago
	classes   string // the programs of interop/java
	proxy     string // the binary
}

// provision fetches what is not cached yet and builds the rest. The jars of a
// pom file are kept under its hash, so that a changed version is fetched anew.
func provision(ctx context.Context, root, work string) (*software, error) {
	s := &software{root: root, classes: filepath.Join(work, "classes"), proxy: filepath.Join(work, "kafka-sni-proxy")}
	for name, folder := range map[string]*string{"kafka": &s.kafka, "clients": &s.clients, "old-client": &s.oldClient} {
		var err error
		if *folder, err = s.jars(ctx, work, name); err != nil {
			return nil, err
		}
	}
	sources, err := filepath.Glob(filepath.Join(root, "interop", "java", "*.java"))
	if err != nil {
		return nil, err
	}
	javac := append([]string{"javac", "-Xlint:all", "-Werror", "-d", s.classes, "-cp", filepath.Join(s.clients, "*")}, sources...)
	if _, err := harness.Run(ctx, harness.Command{Args: javac, Dir: work}); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *software) jars(ctx context.Context, work, name string) (string, error) {
	pom := filepath.Join(s.root, "interop", "maven", name, "pom.xml")
	content, err := os.ReadFile(pom)
	if err != nil {
		return "", err
	}
	return s.cached(ctx, name, content, "the jars of "+name+" from Maven Central", func(attempt int, folder string) error {
		// Without -U Maven remembers a failure and does not try again for a day.
		mvn := []string{"mvn", "-B", "-q", "-U", "-f", pom, copyDependencies, "-DincludeScope=runtime", "-DoutputDirectory=" + folder}
		_, err := harness.Run(ctx, harness.Command{Name: fmt.Sprintf("maven-%s-%d", name, attempt), Args: mvn, Dir: work})
		return err
	})
}

// cached returns a folder in the cache, under a name and the hash of what was asked for. If it
// is not there yet, fetch has to fill it.
func (s *software) cached(ctx context.Context, name string, asked []byte, what string, fetch func(attempt int, folder string) error) (string, error) {
	cache := filepath.Join(s.root, "interop", ".cache")
	hash := sha256.Sum256(asked)
	folder := filepath.Join(cache, fmt.Sprintf("%s-%x", name, hash[:4]))
	if _, err := os.Stat(folder); err == nil {
		return folder, nil
	}
	fmt.Printf("fetching %s …\n", what)
	partial := folder + ".partial"
	for attempt := 1; ; attempt++ {
		if err := errors.Join(os.RemoveAll(partial), os.MkdirAll(partial, 0o755)); err != nil {
			return "", err
		}
		err := fetch(attempt, partial)
		if err == nil {
			return folder, os.Rename(partial, folder)
		}
		if attempt == 4 || ctx.Err() != nil {
			return "", fmt.Errorf("fetching %s: %w", what, err)
		}
		// Registries have bad minutes; later attempts continue from what the tools have in
		// caches of their own.
		pause := time.Duration(attempt*attempt) * 3 * time.Second
		fmt.Printf("  attempt %d did not work, next one in %s\n", attempt, pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}
