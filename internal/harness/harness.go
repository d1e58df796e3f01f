// Package harness is what the programs share that try kafka-sni-proxy from
// outside: demo, bench, chaos and interop. They start the real proxy and what
// is around it as processes of their own, wait until those are ready, stop them,
// and look at what they said.
//
// It promises that
//   - what is started here ends when its context ends or it is told to, with all
//     that it has started itself, and on Linux also when this program is gone;
//   - no process is configured by the user's own environment (see [Environment]);
//   - everything that a process prints is in a file, the end of which is part of
//     every error about it;
//   - nothing here waits without a bound.
//
// The usual way:
//
//	binary, err := harness.Build(ctx, harness.BuildOptions{Dir: dir})
//	p, err := harness.Start(ctx, harness.Command{Args: []string{binary, "--bind", …}, Dir: dir})
//	defer p.Kill()
//	err = p.Await(ctx, 10*time.Second, "the proxy does not listen", func() error { … })
//	…
//	err = p.Stop(10 * time.Second)
//
// Clusters, certificates, and the search for leaked names are in
// internal/kafkatest; what a process costs is in the package procfs below.
package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Environment is this program's environment without what would configure the
// proxy (KAFKA_SNI_PROXY_…), which takes flags from there, and without what
// changes how a Go program runs. What a user has set for a proxy of their own is
// not meant for the one under test.
func Environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return strings.HasPrefix(name, "KAFKA_SNI_PROXY_") || slices.Contains(runtimeVariables, name)
	})
}

var runtimeVariables = []string{"GODEBUG", "GOGC", "GOMEMLIMIT"}

// BuildOptions say which proxy is wanted.
type BuildOptions struct {
	// Binary is one that is built already: it is checked, and nothing is built.
	Binary string
	// Dir is where a new one is put.
	Dir string
	// Race builds it with the race detector, which needs a C compiler.
	Race bool
}

// Build returns the path of kafka-sni-proxy, built as it is released unless there
// is one already.
func Build(ctx context.Context, o BuildOptions) (string, error) {
	if o.Binary != "" {
		path, err := filepath.Abs(o.Binary)
		if err == nil {
			_, err = os.Stat(path)
		}
		return path, err
	}
	binary := filepath.Join(o.Dir, "kafka-sni-proxy")
	// By import path: it is found from any folder of the module. Without the
	// version control's stamp, which fails in a checkout owned by another user.
	args := []string{"build", "-trimpath", "-buildvcs=false", "-o", binary}
	cgo := "CGO_ENABLED=0"
	if o.Race {
		args, cgo = append(args, "-race"), "CGO_ENABLED=1"
	}
	build := exec.CommandContext(ctx, "go", append(args, "kafka-sni-proxy/cmd/kafka-sni-proxy")...)
	build.Env = append(os.Environ(), cgo)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the proxy (run this in the project's folder, or say where a built one is, with --binary): %w\n%s", err, out)
	}
	return binary, nil
}
