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
	probe := filepath.Join(t.TempDir(), "machine")
	check(t, os.Mkdir(probe, 0o700))
	if out, err := exec.CommandContext(ctx, "bash", "testdata/systemd.sh", probe, "probe").CombinedOutput(); err != nil {
		t.Skipf("this machine does not let a systemd of its own be booted (namespaces, overlay mounts, control groups): the .deb is not used: %v: %s", err, out)
	}
	work := filepath.Join(t.TempDir(), "machine")
	check(t, os.Mkdir(work, 0o700))
	p, err := harness.Start(t.Context(), harness.Command{Name: "systemd", Args: []string{"bash", "testdata/systemd.sh", work},
		Output: filepath.Join(t.TempDir(), "systemd.out")})
	check(t, err)
	t.Cleanup(func() {
		p.Kill()
		// Its control groups, from below: they can go when all their processes have.
		patience, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		check(t, harness.Await(patience, "control groups are left", func() error {
			groups, err := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/*/kafka-sni-proxy-test-%d", p.PID()))
			for _, group := range groups {
				out, failed := exec.Command("find", group, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+").CombinedOutput()
				if failed != nil {
					err = fmt.Errorf("%w: %s", failed, out)
				}
			}
			return err
		}))
	})
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
	return exec.Command("nsenter", append([]string{"--target", m.pid, "--mount", "--pid", "--cgroup", "--uts", "--ipc", "--root", "--wd"}, args...)...)
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

// What of a .deb's life an operator relies on: it serves as the unit says, an
// upgrade leaves no request without a response, a removal keeps the configuration,
// and a purge leaves nothing but the operator's keys. This machine's own dpkg and
// systemd take no part.
func TestADebServesIsUpgradedUnderLoadRemovedAndPurged(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("packages are installed by root")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	m := boot(ctx, t)
	if _, err := os.Stat(m.root + etc); err == nil {
		m.run(t, "rm", "-rf", etc) // of the copy of this machine's files
	}
	m.install(t, deb(t, "1.0.0"))
	if info, err := os.Stat(m.root + etc); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("%s: %v, %v; keys lie there, so others must not read it", etc, info, err)
	}
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
	if who := m.run(t, "sh", "-c", "stat --format %U /proc/$(systemctl show --property MainPID --value kafka-sni-proxy.service)"); who != "kafka-sni-proxy" {
		t.Errorf("the service runs as %s", who)
	}

	old := m.property(t, "MainPID")
	written := read(t, m.root+etc+"/kafka-sni-proxy.yaml")
	m.install(t, deb(t, "1.1.0"))
	if read(t, m.root+etc+"/kafka-sni-proxy.yaml") != written {
		t.Error("the upgrade changed the configuration")
	}
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
	if read(t, m.root+etc+"/kafka-sni-proxy.yaml") != written {
		t.Error("the removal changed the configuration")
	}
	m.run(t, "dpkg", "--purge", "kafka-sni-proxy")
	if _, err := os.Stat(m.root + etc + "/kafka-sni-proxy.yaml"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the configuration after the purge: %v", err)
	}
	if _, err := os.Stat(m.root + etc + "/server_key.pem"); err != nil {
		t.Error("the purge took the operator's key: ", err)
	}
}
