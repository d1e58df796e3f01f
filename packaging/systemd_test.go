//go:build packages

package packaging

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kafka-sni-proxy/internal/harness"
)

// machine is a systemd that has this machine's files, as a copy, and its network.
type machine struct {
	pid  string // of its process 1, as seen from here
	root string // its files, as seen from here
}

func boot(ctx context.Context, t *testing.T) *machine {
	t.Helper()
	work := filepath.Join(t.TempDir(), "machine")
	check(t, os.Mkdir(work, 0o700))
	p, err := harness.Start(t.Context(), harness.Command{Name: "systemd", Args: []string{"bash", "testdata/systemd.sh", work},
		Output: filepath.Join(t.TempDir(), "systemd.out")})
	check(t, err)
	t.Cleanup(p.Kill)
	m := &machine{}
	check(t, p.Await(ctx, 30*time.Second, "systemd does not boot", func() error {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", p.PID(), p.PID()))
		if err != nil {
			return err
		}
		if m.pid = strings.TrimSpace(string(children)); m.pid == "" {
			return errors.New("it has no process 1")
		}
		m.root = "/proc/" + m.pid + "/root"
		if out, err := m.command("systemctl", "is-system-running").CombinedOutput(); strings.TrimSpace(string(out)) != "running" {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}))
	return m
}

func (m *machine) command(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--target", m.pid, "--mount", "--pid", "--cgroup", "--uts", "--ipc", "--root", "--wd=/"}, args...)...)
}

func (m *machine) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := m.command(args...).CombinedOutput()
	if err != nil {
		journal, _ := m.command("systemctl", "status", "--no-pager", "kafka-sni-proxy").CombinedOutput()
		t.Fatalf("%s: %v\n%s\n%s", strings.Join(args, " "), err, out, journal)
	}
	return strings.TrimSpace(string(out))
}

func (m *machine) property(t *testing.T, name string) string {
	t.Helper()
	return m.run(t, "systemctl", "show", "--property", name, "--value", "kafka-sni-proxy.service")
}

func (m *machine) install(t *testing.T, deb string) {
	t.Helper()
	content, err := os.ReadFile(deb)
	check(t, err)
	check(t, os.WriteFile(m.root+"/run/new.deb", content, 0o644))
	m.run(t, "dpkg", "-i", "/run/new.deb")
}

// The same life as above, by systemctl and dpkg alone.
func TestSystemdRunsTheDebAndAnUpgradeHandsOver(t *testing.T) {
	alone(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	m := boot(ctx, t)
	m.install(t, deb(t, "1.0.0"))
	m.run(t, "systemd-analyze", "verify", "--man=no", "/lib/systemd/system/kafka-sni-proxy.service", "/lib/systemd/system/kafka-sni-proxy.socket")
	m.run(t, "systemctl", "is-enabled", "kafka-sni-proxy.service")
	m.run(t, "systemctl", "start", "kafka-sni-proxy.service") // which is no failure
	if state := m.property(t, "ActiveState"); state != "inactive" {
		t.Errorf("without a configuration the service is %s", state)
	}

	s := newSetup(t, m.root+etc)
	m.run(t, "chgrp", "-R", "kafka-sni-proxy", etc)
	m.run(t, "systemctl", "start", "kafka-sni-proxy.service")
	check(t, s.get("/healthz")) // started is ready
	load := s.startLoad(t)
	load.await(ctx, t, 500)
	m.run(t, "systemctl", "reload", "kafka-sni-proxy.service")

	old := m.property(t, "MainPID")
	m.install(t, deb(t, "1.1.0"))
	check(t, harness.Await(ctx, "the old process is there", func() error {
		if _, err := os.Stat(m.root + "/proc/" + old); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("process %s: %v", old, err)
		}
		return nil
	}))
	if next := m.property(t, "MainPID"); next == old || next == "0" {
		t.Errorf("the main process was %s and is %s", old, next)
	}
	if state, restarts := m.property(t, "ActiveState"), m.property(t, "NRestarts"); state != "active" || restarts != "0" {
		t.Errorf("the service is %s, and has been restarted %s times", state, restarts)
	}
	expect(t, "the running program", m.run(t, "sh", "-c", `"/proc/$(systemctl show --property MainPID --value kafka-sni-proxy.service)/exe" --version`), "1.1.0")
	load.await(ctx, t, load.consumed.Load()+500)
	load.finish(ctx, t)

	m.run(t, "dpkg", "--remove", "kafka-sni-proxy")
	if s.get("/healthz") == nil {
		t.Error("it serves after the removal")
	}
	if _, err := os.Stat(m.root + etc + "/kafka-sni-proxy.yaml"); err != nil {
		t.Error("the removal took the configuration: ", err)
	}
	m.run(t, "dpkg", "--purge", "kafka-sni-proxy")
	if _, err := os.Stat(m.root + etc + "/kafka-sni-proxy.yaml"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the configuration after the purge: %v", err)
	}
}
