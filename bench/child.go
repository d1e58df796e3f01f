package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"kafka-sni-proxy/bench/peer"
	"kafka-sni-proxy/bench/procfs"
)

// child is a process started here. It is ended by its id, and by the kernel
// should this process be gone.
type child struct {
	name  string
	cmd   *exec.Cmd
	log   string
	ended chan struct{} // closed when err is set
	err   error
	stop  func()
}

// spawn starts a process. What it says on stderr goes to a file in dir, and
// with pipes false what it says on stdout too.
func spawn(dir, name string, cmd *exec.Cmd, pipes bool) (c *child, stdin io.WriteCloser, stdout io.ReadCloser, err error) {
	c = &child{name: name, cmd: cmd, ended: make(chan struct{})}
	log, err := os.CreateTemp(dir, name+"-*.log")
	if err != nil {
		return nil, nil, nil, err
	}
	defer log.Close()
	c.log = log.Name()
	cmd.Stderr = log
	if pipes {
		// Not StdoutPipe: Wait would close it under the one who reads.
		var theirs *os.File
		if stdout, theirs, err = os.Pipe(); err != nil {
			return nil, nil, nil, err
		}
		defer theirs.Close()
		cmd.Stdout = theirs
		if stdin, err = cmd.StdinPipe(); err != nil {
			return nil, nil, nil, err
		}
	} else {
		cmd.Stdout = log
	}
	procfs.EndWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return nil, nil, nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		c.err = cmd.Wait()
		close(c.ended)
	}()
	c.stop = sync.OnceFunc(func() {
		cmd.Process.Kill()
		<-c.ended
	})
	return c, stdin, stdout, nil
}

// alive returns an error with the last lines of the log when the process has
// ended.
func (c *child) alive() error {
	select {
	case <-c.ended:
	default:
		return nil
	}
	err := c.err
	if err == nil {
		err = errors.New("exit status 0")
	}
	log, _ := os.ReadFile(c.log)
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	return fmt.Errorf("%s has ended: %w\n  %s", c.name, err, strings.Join(lines[max(0, len(lines)-5):], "\n  "))
}

// self starts this program in one of its roles.
func self(dir, role string, args ...string) (*child, io.WriteCloser, io.ReadCloser, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, nil, nil, err
	}
	cmd := exec.Command(program, append([]string{role, "-dir", dir}, args...)...)
	return spawn(dir, role, cmd, true)
}

// server starts this program in a role that says its address first.
func server(dir, role string, args ...string) (*child, string, error) {
	c, _, stdout, err := self(dir, role, args...)
	if err != nil {
		return nil, "", err
	}
	defer stdout.Close()
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		select { // that is why; it has its log
		case <-c.ended:
			err = c.alive()
		case <-time.After(time.Second):
		}
		c.stop()
		return nil, "", err
	}
	return c, strings.TrimSpace(address), nil
}

// ends are the two ends of the ways: a broker stand-in, and a load client.
type ends struct {
	broker   *child
	upstream peer.Target
	load     *child
	client   *peer.Client
}

// startEnds starts them. buffer is how much they read at once.
func startEnds(dir, address string, buffer int) (*ends, error) {
	size := fmt.Sprintf("-buffer=%d", buffer)
	broker, at, err := server(dir, "broker", "-address", address, size)
	if err != nil {
		return nil, err
	}
	load, client, err := startLoad(dir, size)
	if err != nil {
		broker.stop()
		return nil, err
	}
	return &ends{broker, peer.Target{Address: at, ServerName: brokerHost}, load, client}, nil
}

func startLoad(dir string, args ...string) (*child, *peer.Client, error) {
	load, stdin, stdout, err := self(dir, "load", args...)
	if err != nil {
		return nil, nil, err
	}
	return load, peer.NewClient(stdout, stdin), nil
}

func (e *ends) stop() {
	e.load.stop()
	e.broker.stop()
}

// prepare makes what the processes need in dir, unless it is there: the
// certificates, and a hosts file that leads to the broker.
func prepare(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, peer.CAFile)); err != nil {
		if err := peer.WriteCertificates(dir, "*."+suffix, brokerHost); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, hostsFile), []byte("127.0.0.1 "+brokerHost+"\n"), 0o644)
}

const (
	suffix     = "kafka.example"
	bootstrap  = "bootstrap." + suffix
	brokerHost = "lkc-bench.eu-central-1.aws.upstream.example"
	hostsFile  = "hosts"
)
