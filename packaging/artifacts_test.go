//go:build packages

package packaging

import (
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"kafka-sni-proxy/internal/harness"
)

var builder string // what makes the artifacts, built once

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "kafka-sni-proxy-packages-")
	if err != nil {
		panic(err)
	}
	builder = filepath.Join(dir, "build")
	build := exec.Command("go", "build", "-o", builder, "./build")
	build.Stderr = os.Stderr
	code := 1
	if build.Run() == nil {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// dist builds one version for this machine, and perhaps for others.
func dist(t *testing.T, version string, more ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "dist")
	platforms := append([]string{"linux/" + runtime.GOARCH}, more...)
	run(t, builder, "--version", version, "--out", dir, "--platforms", strings.Join(platforms, ","))
	return dir
}

func artifact(dir, version, rest string) string {
	return filepath.Join(dir, "kafka-sni-proxy_"+version+"_"+rest)
}

func deb(t *testing.T, version string) string {
	t.Helper()
	return artifact(dist(t, version), version, "linux_"+runtime.GOARCH+".deb")
}

func TestArchivesUnpackAndTheSBOMListsTheModules(t *testing.T) {
	dir := dist(t, "1.0.0", "windows/amd64")
	sum := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	sum.Dir = dir
	if out, err := sum.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	to := t.TempDir()
	base := "kafka-sni-proxy_1.0.0_linux_" + runtime.GOARCH
	run(t, "tar", "-xzf", filepath.Join(dir, base+".tar.gz"), "-C", to)
	binary := filepath.Join(to, base, "kafka-sni-proxy")
	expect(t, "the program", run(t, binary, "--version"), "1.0.0")
	for _, f := range []string{"LICENSE", "kafka-sni-proxy.yaml", "prometheus/alerts.yaml", "grafana/kafka-sni-proxy.json", "systemd/kafka-sni-proxy.service",
		"completions/kafka-sni-proxy.bash", "completions/kafka-sni-proxy.zsh", "completions/kafka-sni-proxy.fish"} {
		if len(read(t, filepath.Join(to, base, f))) == 0 {
			t.Errorf("%s is empty", f)
		}
	}
	expect(t, "the .zip", run(t, "python3", "-m", "zipfile", "-l", artifact(dir, "1.0.0", "windows_amd64.zip")), "kafka-sni-proxy.exe")

	info, err := buildinfo.ReadFile(binary)
	check(t, err)
	var bom cdx.BOM
	check(t, json.Unmarshal([]byte(read(t, filepath.Join(dir, base+".cdx.json"))), &bom))
	listed := map[string]bool{}
	for _, c := range *bom.Components {
		listed[c.Name+"@"+c.Version] = true
	}
	if len(info.Deps) == 0 || len(listed) != len(info.Deps)+1 || !listed["std@"+info.GoVersion] {
		t.Errorf("the SBOM has %d components, want Go's library and the %d modules", len(listed), len(info.Deps))
	}
	for _, dep := range info.Deps {
		if !listed[dep.Path+"@"+dep.Version] {
			t.Errorf("the SBOM lacks %s %s", dep.Path, dep.Version)
		}
	}
}

func TestAnRPMInstallsIntoARootOfItsOwn(t *testing.T) {
	rpm := artifact(dist(t, "1.0.0"), "1.0.0", "linux_"+runtime.GOARCH+".rpm")
	files := run(t, "rpm", "-qpl", rpm)
	for _, f := range []string{program, etc, "/usr/lib/systemd/system/kafka-sni-proxy.service", "/usr/share/bash-completion/completions/kafka-sni-proxy"} {
		expect(t, "rpm -qpl", files, f+"\n")
	}
	scripts := run(t, "rpm", "-qp", "--scripts", rpm)
	for _, s := range []string{"useradd --system", "--signal=USR2", "disable --now"} {
		expect(t, "rpm -qp --scripts", scripts, s)
	}
	// Its scripts would need a whole system in there.
	root := t.TempDir()
	run(t, "rpm", "--root", root, "--dbpath", "/var/lib/rpm", "--nodeps", "--noscripts", "--ignorearch", "-i", rpm)
	expect(t, "the program", run(t, root+program, "--version"), "1.0.0")
	run(t, "rpm", "--root", root, "--dbpath", "/var/lib/rpm", "--nodeps", "--noscripts", "-e", "kafka-sni-proxy")
	if _, err := os.Stat(root + program); err == nil {
		t.Error("the program is there after the removal")
	}
}

// Two clones, in folders whose paths differ in length, and caches of their own.
func TestTwoBuildsGiveTheSameBytes(t *testing.T) {
	top := strings.TrimSpace(run(t, "git", "rev-parse", "--show-toplevel"))
	var all [2]map[string]string
	for i, folder := range []string{"one", "two/deeper/in/the/tree"} {
		clone, out := filepath.Join(t.TempDir(), folder), t.TempDir()
		run(t, "git", "clone", "--quiet", top, clone)
		build := exec.CommandContext(t.Context(), builder, "--root", clone, "--out", out, "--platforms", "linux/"+runtime.GOARCH)
		if i == 1 {
			build.Env = append(os.Environ(), "GOCACHE="+t.TempDir(), "TZ=Asia/Tokyo")
		}
		if text, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		all[i] = sums(t, out)
	}
	if len(all[0]) < 6 || len(all[0]) != len(all[1]) {
		t.Errorf("%d files and %d", len(all[0]), len(all[1]))
	}
	for file, hash := range all[0] {
		t.Logf("%s\n    %s\n    %s", file, hash, all[1][file])
		if hash != all[1][file] {
			t.Errorf("%s differs", file)
		}
	}
}

func TestAnImageServesAndItsHealthCheckTellsTheTruth(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dir, store := dist(t, "1.0.0"), t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "unshare", "--mount", "true").CombinedOutput(); err != nil {
		t.Skipf("this machine allows no mounts, which buildah needs: the image is not used: %v: %s", err, out)
	}
	buildah := func(args ...string) []string {
		return append([]string{"buildah", "--root", store + "/root", "--runroot", store + "/run", "--storage-driver", "vfs"}, args...)
	}
	run(t, buildah("build", "--isolation", "chroot", "--format", "docker", "-t", "kafka-sni-proxy", dir+"/image/"+runtime.GOARCH)...)
	config := run(t, buildah("inspect", "--type", "image", "kafka-sni-proxy")...)
	for _, want := range []string{`"65532:65532"`, `"healthcheck"`} {
		expect(t, "the image", config, want)
	}
	lines := strings.Fields(run(t, buildah("from", "--pull-never", "kafka-sni-proxy")...))
	container := lines[len(lines)-1]
	t.Cleanup(func() { exec.Command("buildah", buildah("rm", container)[1:]...).Run() })

	folder := filepath.Join(t.TempDir(), "etc")
	check(t, os.Mkdir(folder, 0o755))
	s := newSetup(t, folder)
	run(t, "chgrp", "65532", folder+"/server_key.pem")
	// Configured by the environment, so that the health check, which has no arguments, knows it.
	in := func(args ...string) []string {
		return buildah(append([]string{"run", "--isolation", "chroot", "-v", folder + ":" + etc + ":ro",
			"--env", "KAFKA_SNI_PROXY_CONFIG=" + etc + "/kafka-sni-proxy.yaml", container, "--", program}, args...)...)
	}
	p, err := harness.Start(t.Context(), harness.Command{Name: "the container", Args: in(), Dir: t.TempDir()})
	check(t, err)
	defer p.Kill()
	check(t, p.Await(ctx, 30*time.Second, "the container is not ready", func() error { return s.get("/readyz") }))
	load := s.startLoad(t)
	load.await(ctx, t, 100)
	load.finish(ctx, t)
	health := in("healthcheck")
	run(t, health...)
	p.Kill()
	out, err := exec.Command(health[0], health[1:]...).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
		t.Errorf("the health check of a proxy that is gone ends with %v, want status 1: %s", err, out)
	}
	t.Logf("the health check of a proxy that is gone: %s", out)
}
