package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"kafka-sni-proxy/internal/harness"
	"kafka-sni-proxy/internal/harness/procfs"
)

// proxy is the running proxy. Its log goes to a file, that of all its lives to
// one.
type proxy struct {
	*harness.Process
	admin string
	// aborted is set when it was made to end, to say where everybody waits.
	aborted bool
}

// startProxy starts the proxy and returns once it is ready.
func startProxy(ctx context.Context, binary, dir, log, admin string, args []string) (*proxy, error) {
	process, err := harness.Start(ctx, harness.Command{Name: "the proxy", Args: append([]string{binary}, args...), Dir: dir, Output: log})
	if err != nil {
		return nil, err
	}
	p := &proxy{Process: process, admin: admin}
	if err := p.Await(ctx, 20*time.Second, "the proxy does not listen", func() error {
		_, err := p.get("/healthz")
		return err
	}); err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

// abort has the proxy say where it hangs, and end.
func (p *proxy) abort() {
	p.aborted = true
	p.Abort()
}

var admin = &http.Client{
	Timeout:   5 * time.Second,
	Transport: &http.Transport{DisableKeepAlives: true}, // its descriptors are counted
}

func (p *proxy) get(path string) ([]byte, error) {
	resp, err := admin.Get("http://" + p.admin + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(body))
	}
	return body, err
}

// vitals are what must be the same before and after.
type vitals struct {
	Connections, Goroutines, Descriptors int
	Resident                             int64 // bytes
}

func (v vitals) String() string {
	return fmt.Sprintf("%d connections, %d goroutines, %d descriptors, %.0f MiB resident",
		v.Connections, v.Goroutines, v.Descriptors, float64(v.Resident)/(1<<20))
}

func (p *proxy) vitals() (v vitals, err error) {
	body, err := p.get("/metrics")
	if err != nil {
		return v, err
	}
	found := map[string]bool{}
	for in := bufio.NewScanner(bytes.NewReader(body)); in.Scan(); {
		series, value, _ := strings.Cut(in.Text(), " ")
		name, _, _ := strings.Cut(series, "{")
		to, ok := map[string]*int{
			"kafka_sni_proxy_connections": &v.Connections,
			"go_goroutines":               &v.Goroutines,
			"process_open_fds":            &v.Descriptors,
		}[name]
		if !ok {
			continue
		}
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return v, fmt.Errorf("%s: %w", name, err)
		}
		*to += int(number) // of all clusters
		found[name] = true
	}
	if len(found) != 3 {
		return v, errors.New("/metrics lacks connections, goroutines or descriptors")
	}
	memory, err := procfs.ReadMemory(p.PID())
	v.Resident = memory.Resident
	return v, err
}
