package main

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"kafka-sni-proxy/internal/kafkatest"
	"kafka-sni-proxy/internal/route"
)

// brokerPort is where the cluster's broker listens.
func (c *testCluster) brokerPort(t *testing.T) int {
	t.Helper()
	_, port, err := net.SplitHostPort(c.upstream)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What was learned is known after the program was killed, and after it was told
// to end right after it had learned it.
func TestRoutesOutliveTheProgram(t *testing.T) {
	c := newCluster(t)
	args := []string{"--upstream-ca-certs", "upstream_ca.pem", "--routes-file", "routes.json", "--log-level", "debug"}
	for _, signal := range []os.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		os.Remove(filepath.Join(c.dir, "routes.json"))
		p := c.launch(t, args...)
		c.teach(t, p, otherName, c.brokerPort(t))
		if signal == syscall.SIGKILL {
			p.await("routes saved")
		}
		p.signal(signal)
		p.cmd.Wait()

		p = c.launch(t, args...)
		if !strings.Contains(p.log.String(), `msg="routes restored" file=routes.json brokers=1`) {
			t.Errorf("after %v nothing was restored:\n%s", signal, p.log.String())
		}
		conn := p.connectTo("b5."+suffix, false)
		c.answers <- confirmation(otherName, c.brokerPort(t)) // what was restored, the proxy asks about first
		c.answers <- heartbeatResponse
		if _, err := conn.Write(heartbeat); err != nil {
			t.Fatal(err)
		}
		if _, err := kafkatest.ReadFrame(conn); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		p.await("connection closed.*sni=b5." + suffix + " upstream=" + otherName)
		p.signal(syscall.SIGTERM)
		p.end(0)
	}
}

// confirmation answers the proxy's own question, which is Metadata v4 with
// correlation id 0: broker 5 lives at this address.
func confirmation(host string, port int) []byte {
	broker := append([]byte{0, 0, 0, 5, 0, byte(len(host))}, host...)
	broker = append(broker, 0, 0, byte(port>>8), byte(port), 0xff, 0xff) // no rack
	return kafkatest.Frame(
		[]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, // correlation id, throttle time, one broker
		broker,
		[]byte{0xff, 0xff, 0, 0, 0, 5, 0, 0, 0, 0}) // no cluster id, controller, no topics
}

func TestDamagedRoutesFileIsSetAsideAndTheProgramStarts(t *testing.T) {
	c := newCluster(t)
	file := filepath.Join(c.dir, "routes.json")
	if err := os.WriteFile(file, []byte("{damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := c.launch(t, "--upstream-ca-certs", "upstream_ca.pem", "--routes-file", file)
	if !strings.Contains(p.log.String(), "level=WARN msg=\"the routes file cannot be used and was set aside") {
		t.Errorf("no warning:\n%s", p.log.String())
	}
	if _, err := os.Stat(file + ".bad"); err != nil {
		t.Error(err)
	}
}

// A link to the file stays one, and a disk that is full for a while costs nothing
// but a warning.
func TestSavingGoesOnAfterItWasNotPossible(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "routes.json")
	if err := os.WriteFile(filepath.Join(dir, "real.json"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "real.json"), link); err != nil {
		t.Fatal(err)
	}
	path := checkRoutesFile(link, func(err error) { t.Fatal(err) })
	table, err := route.New(route.Config{Suffix: suffix, Upstreams: []route.Address{{Host: "up", Port: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := openRoutes(table, path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", info, err)
	}

	if err := os.Rename(dir, dir+".gone"); err != nil {
		t.Fatal(err)
	}
	log := &bytes.Buffer{}
	stop := keepRoutes(table, path, slog.New(slog.NewTextHandler(log, nil)))
	table.Learn(1, []byte("x1.up"), 9092)
	stop()
	if !strings.Contains(log.String(), "routes cannot be saved") {
		t.Errorf("no warning:\n%s", log)
	}
	if err := os.Rename(dir+".gone", dir); err != nil {
		t.Fatal(err)
	}
	table.Learn(2, []byte("x2.up"), 9092)
	keepRoutes(table, path, slog.New(slog.DiscardHandler))()
	if data, err := os.ReadFile(link); err != nil || !strings.Contains(string(data), "x1.up") || !strings.Contains(string(data), "x2.up") {
		t.Errorf("saved: %s, %v", data, err)
	}
}

func TestRoutesFileThatCannotBeReplacedIsAMistake(t *testing.T) {
	dir := t.TempDir()
	table, err := route.New(route.Config{Suffix: suffix, Upstreams: []route.Address{{Host: "up", Port: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "routes.json"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "no", "routes.json"): "does not exist: make it",
		filepath.Join(dir, "routes.json"):       "is not a file",
		os.DevNull:                              "is not a file",
	} {
		var wrong []error
		checkRoutesFile(path, func(err error) { wrong = append(wrong, err) })
		if len(wrong) != 1 || !strings.Contains(wrong[0].Error(), want) {
			t.Errorf("%s: %v, want %q", path, wrong, want)
		}
	}
	if err := openRoutes(table, filepath.Join(dir, "no", "routes.json")); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "writing it") {
		t.Errorf("openRoutes: %v", err)
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(dir, 0o700) })
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	var wrong []error
	checkRoutesFile(filepath.Join(dir, "r.json"), func(err error) { wrong = append(wrong, err) })
	if len(wrong) != 1 || !strings.Contains(wrong[0].Error(), "may not be written to by this user") {
		t.Errorf("%v", wrong)
	}
}
